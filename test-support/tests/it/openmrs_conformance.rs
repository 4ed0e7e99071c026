//! The recordings of a real OpenMRS, sent to the stand-in in their order as one history: every status agrees, and the
//! bodies do after masking what a server makes anew (uuids, stamps, narratives, error classes).

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use axum::{Router, body::Body};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Request, Response};
use serde_json::{Map, Value};
use test_support::{
    clock::Clock,
    openmrs::{ADMIN, COLON, CONNECTOR, LOCK, NO_PRIVILEGE, OpenMrs, READER},
};
use tower::ServiceExt;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openmrs");
/// The real server itself did not repeat these bodies: pages of the container, times in queries, the list of modules, the
/// inner port, today's date, the narrative inside XML.
const NOT_REPEATED: [&str; 19] = [
    "session-bad-basic-400",
    "idgen-export-form-404",
    "patient-get-stale-cookie-401",
    "fhir-unauthenticated-401",
    "fhir-wrong-password-401",
    "fhir-page-2-no-login-401",
    "fhir-search-lastupdated-misses-edits",
    "fhir-search-lastupdated-finds-gender",
    "fhir-lastupdated-ge",
    "fhir-lastupdated-gt",
    "fhir-lastupdated-lt",
    "fhir-lastupdated-le",
    "fhir-lastupdated-eq",
    "fhir-encounters-lastupdated",
    "modules",
    "fhir-page-2-forwarded",
    "patient-create-age",
    "fhir-metadata",
    "fhir-read-xml",
];
/// These bodies differ: the words of the JSON parser, and the narrative inside XML.
const DIFFERENT: [&str; 2] = ["patient-create-broken-json-400", "fhir-read-xml"];
/// Properties that are there and are not compared; so are narratives and the class and line of an error.
const MASKED: [&str; 3] = ["resourceVersion", "stackTrace", "lastLoginTimestamp"];
/// Stamps: compared by their form.
const STAMPS: [&str; 11] = [
    "lastUpdated",
    "versionId",
    "dateCreated",
    "dateChanged",
    "dateVoided",
    "date",
    "issued",
    "authoredOn",
    "lastModified",
    "startDate",
    "conn",
];

#[derive(serde::Deserialize)]
struct Recording {
    name: String,
    seq: u32,
    request: Asked,
    response: Answered,
}

#[derive(serde::Deserialize)]
struct Asked {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Map<String, Value>,
    body: Value,
}

#[derive(serde::Deserialize)]
struct Answered {
    status: u16,
    headers: Map<String, Value>,
    body: Value,
}

fn recordings() -> Vec<Recording> {
    let text = std::fs::read_to_string(format!("{FIXTURES}/recordings.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Uuids of the recordings that the server made, and ours for them.
#[derive(Clone, Default)]
struct Uuids {
    ours: HashMap<String, String>,
    taken: HashSet<String>,
    /// Those that client or state chose: they are never another one.
    fixed: HashSet<String>,
    /// Versions of the recordings, and ours for them.
    versions: HashMap<String, String>,
}

/// Text in pieces: uuids and what is between them.
fn pieces(text: &str) -> Vec<(bool, &str)> {
    let is_uuid = |part: &str| part.len() == 36 && uuid::Uuid::try_parse(part).is_ok();
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        match text.get(at..at + 36) {
            Some(part) if is_uuid(part) => {
                found.push((false, &text[start..at]));
                found.push((true, part));
                at += 36;
                start = at;
            }
            _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    found.push((false, &text[start..]));
    found
}

impl Uuids {
    /// A recorded text as it is said to our server.
    fn translate(&self, text: &str) -> String {
        let ours = |(is_uuid, part)| match is_uuid {
            true => self.ours.get(part).map_or(part, String::as_str),
            false => part,
        };
        pieces(text).into_iter().map(ours).collect()
    }

    fn text_agrees(&mut self, recorded: &str, ours: &str) -> bool {
        let (a, b) = (pieces(recorded), pieces(ours));
        a.len() == b.len()
            && a.into_iter().zip(b).all(|((is_uuid, recorded), (_, ours))| {
                if !is_uuid || self.fixed.contains(recorded) {
                    return recorded == ours;
                }
                match self.ours.get(recorded) {
                    Some(known) => known == ours,
                    None if recorded == ours => true,
                    None => {
                        self.ours.insert(recorded.to_owned(), ours.to_owned());
                        self.taken.insert(ours.to_owned())
                    }
                }
            })
    }

    /// Whether two bodies agree; arrays as sets. Uuids are learnt on the way.
    fn agree(&mut self, recorded: &Value, ours: &Value, path: &str) -> Result<(), String> {
        let differ = || Err(format!("{path}: {} / {}", cut(recorded), cut(ours)));
        match (recorded, ours) {
            (Value::Object(a), Value::Object(b)) => {
                let keys = |object: &Map<String, Value>| object.keys().cloned().collect::<HashSet<_>>();
                let (missing, more): (Vec<_>, Vec<_>) = (
                    keys(a).difference(&keys(b)).cloned().collect(),
                    keys(b).difference(&keys(a)).cloned().collect(),
                );
                if !missing.is_empty() || !more.is_empty() {
                    return Err(format!("{path}: missing {missing:?}, more {more:?}"));
                }
                for (key, value) in a {
                    let at = format!("{path}.{key}");
                    let in_error = key == "code" && (path.ends_with(".error") || value.is_null());
                    let narrative = key == "text" && value.is_object() && b[key].is_object();
                    if narrative || in_error || MASKED.contains(&key.as_str()) {
                        continue;
                    }
                    if key == "detail" {
                        let first = |value: &Value| {
                            value.as_str().and_then(|text| text.split("\n\tat ").next()).map(str::to_owned)
                        };
                        if first(value) != first(&b[key]) {
                            return Err(format!("{at}: {} / {}", cut(value), cut(&b[key])));
                        }
                        continue;
                    }
                    if STAMPS.contains(&key.as_str()) {
                        if form(value) != form(&b[key]) {
                            return Err(format!("{at}: {} / {}", cut(value), cut(&b[key])));
                        }
                        if let ("versionId", Some(theirs), Some(ours)) =
                            (key.as_str(), value.as_str(), b[key].as_str())
                        {
                            self.versions.insert(theirs.to_owned(), ours.to_owned());
                        }
                        continue;
                    }
                    self.agree(value, &b[key], &at)?;
                }
                Ok(())
            }
            (Value::Array(a), Value::Array(b)) => {
                if a.len() != b.len() {
                    return Err(format!("{path}: {} items, not {}", b.len(), a.len()));
                }
                let mut free: Vec<&Value> = b.iter().collect();
                for (place, item) in a.iter().enumerate() {
                    let mut why = String::new();
                    let found = free.iter().position(|candidate| {
                        let mut tried = self.clone();
                        match tried.agree(item, candidate, &format!("{path}[{place}]")) {
                            Ok(()) => {
                                *self = tried;
                                true
                            }
                            Err(reason) => {
                                why = reason;
                                false
                            }
                        }
                    });
                    match found {
                        Some(at) => free.remove(at),
                        None => return Err(why),
                    };
                }
                Ok(())
            }
            (Value::String(a), Value::String(b)) => {
                let (a, b) = (without_connection(a), without_connection(b));
                if self.text_agrees(&a, &b) { Ok(()) } else { differ() }
            }
            (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => Ok(()),
            (a, b) if a == b => Ok(()),
            _ => differ(),
        }
    }
}

fn without_connection(text: &str) -> String {
    match (text.find("(conn="), text.find(')')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &text[..from], &text[to + 1..]),
        _ => text.to_owned(),
    }
}

fn form(value: &Value) -> String {
    value.to_string().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

fn cut(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

fn credentials(placeholder: &str) -> String {
    let (user, password) = match placeholder.trim_start_matches("Basic <").trim_end_matches('>') {
        "connector" => CONNECTOR,
        "reader" => READER,
        "nopriv" => NO_PRIVILEGE,
        "lock" => LOCK,
        "colon" => COLON,
        "admin" => ADMIN,
        "None" => return "Basic %not-base64%".to_owned(),
        other => other.split_once(':').unwrap(),
    };
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

struct Replay {
    router: Router,
    clock: Clock,
    uuids: Uuids,
}

impl Replay {
    fn new() -> Self {
        let clock = Clock::manual(1_795_520_874_000);
        let server = OpenMrs::load(Path::new(&format!("{FIXTURES}/state.json")), clock.clone()).unwrap();
        let mut uuids = Uuids::default();
        let mut fix = |text: &str| {
            uuids
                .fixed
                .extend(pieces(text).into_iter().filter(|(is, _)| *is).map(|(_, part)| part.to_owned()))
        };
        fix(&std::fs::read_to_string(format!("{FIXTURES}/state.json")).unwrap());
        fix("00000000-0000-4000-8000-000000000000");
        for recording in recordings() {
            if recording.request.method == "POST" && recording.request.path.contains("/rest/") {
                fix(&recording.request.body.to_string());
            }
        }
        Self { router: server.router(), clock, uuids }
    }

    async fn send(&self, asked: &Asked, swap: &[(&str, &str)]) -> Response<Vec<u8>> {
        let swapped = |text: &str| {
            swap.iter().fold(self.uuids.translate(text), |text, (from, to)| text.replace(from, to))
        };
        let mut target = swapped(&asked.path).replace(' ', "%20");
        if !asked.query.is_empty() {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            asked.query.iter().for_each(|(key, value)| {
                query.append_pair(key, &swapped(value));
            });
            target = format!("{target}?{}", query.finish());
        }
        let mut request = Request::builder()
            .method(asked.method.as_str())
            .uri(target)
            .header("host", "openmrs.example.org");
        for (name, value) in &asked.headers {
            let mut value = swapped(value.as_str().unwrap());
            if name == "If-None-Match" {
                let version = value.trim_start_matches("W/\"").trim_end_matches('"').to_owned();
                value = self.uuids.versions.get(&version).map_or(value, |ours| format!("W/\"{ours}\""));
            }
            request = request.header(name, if name == "Authorization" { credentials(&value) } else { value });
        }
        let body = match &asked.body {
            Value::Null => String::new(),
            Value::String(text) => swapped(text),
            other => swapped(&other.to_string()),
        };
        let response = self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec())
    }

    fn like(method: &str, path: &str, query: &[(&str, &str)], login: &str) -> Asked {
        Asked {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            headers: [("Authorization".to_owned(), login.into())].into_iter().collect(),
            body: Value::Null,
        }
    }

    /// What a recording needs and no recording shows; answers texts to swap in its request.
    async fn prepare(&self, recording: &Recording) -> Vec<(&'static str, String)> {
        match recording.name.as_str() {
            "fhir-page-expired-410" => {
                let search = Self::like(
                    "GET",
                    "/openmrs/ws/fhir2/R4/Patient",
                    &[("_summary", "count")],
                    "Basic <connector>",
                );
                for _ in 0..101 {
                    assert_eq!(self.send(&search, &[]).await.status(), 200);
                }
                Vec::new()
            }
            "lockout-failure-8" => {
                for _ in 0..6 {
                    self.send(
                        &Self::like("GET", "/openmrs/ws/rest/v1/session", &[], "Basic <cht.lock:bad>"),
                        &[],
                    )
                    .await;
                }
                Vec::new()
            }
            // The tag is made from the content, host included, so it is read first.
            "patient-get-304" => {
                let path = recording.request.path.as_str();
                let read =
                    self.send(&Self::like("GET", path, &[("v", "full")], "Basic <connector>"), &[]).await;
                let tag = read.headers()["etag"].to_str().unwrap().to_owned();
                vec![("\"05e97127226a866d27076316dfc2bfe41\"", tag)]
            }
            _ => Vec::new(),
        }
    }
}

/// The latest time that an answer shows is when it was given.
fn time_of(answered: &Answered) -> Option<i64> {
    let text = format!("{}{}", answered.body, Value::Object(answered.headers.clone()));
    let stamps = text.match_indices("2026-11-24T14:").filter_map(|(at, _)| {
        let stamp = text.get(at..at + 23)?;
        let civil: jiff::civil::DateTime = stamp.parse().ok()?;
        Some(jiff::tz::Offset::constant(3).to_timestamp(civil).ok()?.as_millisecond())
    });
    stamps.filter(|at| (1_795_520_874_000..1_795_521_100_000).contains(at)).max()
}

#[tokio::test]
async fn the_recorded_history_is_repeated() {
    let mut replay = Replay::new();
    let (mut statuses, mut bodies, mut kinds, mut comparable) = (0, 0, 0, 0);
    let (mut wrong, mut different) = (Vec::new(), Vec::new());
    let recordings = recordings();
    let all = recordings.len();
    for (place, recording) in recordings.iter().enumerate() {
        // An answer without a time is given when the next one with a time is.
        let due = recordings[place..].iter().find_map(|later| time_of(&later.response));
        let behind = due.unwrap_or_default() - replay.clock.now_ms();
        replay.clock.advance(Duration::from_millis(behind.max(0) as u64));
        let swap = replay.prepare(recording).await;
        let swap: Vec<(&str, &str)> = swap.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let answer = replay.send(&recording.request, &swap).await;
        let label = format!("{} {}", recording.seq, recording.name);
        if answer.status() == recording.response.status {
            statuses += 1;
        } else {
            let body = String::from_utf8_lossy(answer.body()).chars().take(300).collect::<String>();
            wrong.push(format!(
                "{label}: status {} not {}: {body}",
                answer.status(),
                recording.response.status
            ));
        }
        let kind = |text: &str| text.to_lowercase().replace(' ', "");
        let recorded = recording.response.headers.get("content-type").and_then(Value::as_str).map(kind);
        let ours = answer.headers().get("content-type").map(|value| kind(value.to_str().unwrap()));
        kinds += usize::from(recorded == ours);
        let ours = match serde_json::from_slice(answer.body()) {
            Ok(json) => json,
            Err(_) if answer.body().is_empty() => Value::Null,
            Err(_) => String::from_utf8_lossy(answer.body()).into_owned().into(),
        };
        let mut tried = replay.uuids.clone();
        let verdict = tried.agree(&recording.response.body, &ours, "");
        let repeated = !NOT_REPEATED.contains(&recording.name.as_str());
        comparable += usize::from(repeated);
        match verdict {
            Ok(()) => {
                replay.uuids = tried;
                bodies += usize::from(repeated);
            }
            Err(why) => {
                // What could be learnt before the difference is needed by later requests.
                replay.uuids = tried;
                wrong.push(format!("{label}: {why}"));
                different.push(recording.name.as_str());
            }
        }
    }
    println!(
        "{statuses} of {all} statuses, {bodies} of {comparable} bodies, {kinds} of {all} content types agree"
    );
    wrong.iter().for_each(|line| println!("  {line}"));
    assert_eq!((all, comparable), (265, 246));
    assert_eq!((statuses, kinds), (265, 265), "every status and content type agrees");
    assert!(bodies * 100 >= comparable * 95, "{bodies} of {comparable} bodies agree");
    assert_eq!(different, DIFFERENT, "also of those that the real server did not repeat");
}
