//! The recordings of a real CHT are sent to the stand-in again, each into a small world prepared for it, and status,
//! headers that mean something and body are compared; ids, revisions and times of the recording day are matched, not
//! copied.

mod compare;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde::Deserialize;
use serde_json::Value;

use self::{compare::Match, world::World};

const RECORDINGS: &str = include_str!("../fixtures/cht/recordings.jsonl");
const SETUPS: &str = include_str!("../fixtures/cht/setups.json");

/// At least so many recordings are compared, and so large a share of them agrees.
const LEAST_IN_SCOPE: usize = 438;
const LEAST_PERCENT: usize = 100;

/// One recorded exchange.
#[derive(Clone, Deserialize)]
struct Recording {
    file: String,
    request: Option<Request>,
    response: Option<Response>,
    direction: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Request {
    method: String,
    path: String,
    #[serde(default)]
    query: BTreeMap<String, Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Value,
}

#[derive(Clone, Deserialize)]
struct Response {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Value,
}

impl Recording {
    fn name(&self) -> &str {
        self.file.trim_end_matches(".json")
    }
}

/// What a recording needs before it, written by hand from its note.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Setup {
    /// Documents that replace or join those of the world.
    docs: Vec<Value>,
    /// Documents of the world that are not there yet.
    without: Vec<String>,
    /// What is sent before, so that what it made is there.
    steps: Vec<Step>,
    /// The place in the feed that `since` means: after so many of the steps.
    since: Option<usize>,
    /// The documents are as they were before sentinel saw them.
    sentinel_off: bool,
    switches: Option<Value>,
    settings: Option<Value>,
    /// Failed logins just before.
    failures: usize,
    /// Who the recorded cookie belongs to.
    cookie_of: Option<String>,
    /// The administrator has no roles but that of the server.
    bare_admin: bool,
}

/// A recording by its name, or a call made up for the set-up.
#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    Recording(String),
    Call(Call),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    /// Method and path.
    call: String,
    #[serde(default)]
    body: Value,
    form: Option<String>,
    /// The user; the administrator if there is none.
    r#as: Option<String>,
    /// The recorded id of what the call makes.
    made: Option<String>,
}

/// Why a recording is not compared.
fn excluded(recording: &Recording) -> Option<&'static str> {
    let (Some(request), Some(_)) = (&recording.request, &recording.response) else {
        return Some("a measurement or a document, not an exchange");
    };
    if recording.direction.is_some() {
        return Some("sent by the CHT to another system (the stand-in pushes nothing)");
    }
    match recording.name() {
        "lifecycle-4-person-infodoc" | "infodoc-after-delete" => {
            Some("an infodoc with traces of outbound pushes")
        }
        "changes-longpoll-heartbeat-raw" | "changes-eventsource-raw" => {
            Some("time passes on the open connection (tested over TCP)")
        }
        "export-messages" => Some("CSV export of messages"),
        _ if request.path.is_empty() => Some("no path"),
        _ => None,
    }
}

#[tokio::test]
async fn recordings_of_a_real_cht_agree() {
    let recordings: Vec<Recording> =
        RECORDINGS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let by_name: BTreeMap<&str, &Recording> = recordings.iter().map(|one| (one.name(), one)).collect();
    let setups: BTreeMap<String, Setup> = serde_json::from_str(SETUPS).unwrap();
    let unknown: Vec<&String> = setups.keys().filter(|name| !by_name.contains_key(name.as_str())).collect();
    assert!(unknown.is_empty(), "set-ups without a recording: {unknown:?}");

    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut agreed, mut in_scope) = (0, 0);
    let mut differing = String::new();
    let mut used = BTreeSet::new();
    for recording in &recordings {
        if let Some(class) = excluded(recording) {
            *classes.entry(class).or_default() += 1;
            continue;
        }
        in_scope += 1;
        let setup = setups.get(recording.name());
        used.extend(setup.map(|_| recording.name()));
        match replay(recording, setup.unwrap_or(&Setup::default()), &by_name).await {
            Ok(()) => agreed += 1,
            Err(difference) => _ = writeln!(differing, "  {}: {difference}", recording.name()),
        }
    }
    let percent = agreed * 100 / in_scope;
    println!("recordings {}", recordings.len());
    println!("in scope   {in_scope}");
    println!("agreed     {agreed} ({percent} %)");
    for (class, count) in &classes {
        println!("excluded   {count:>3}  {class}");
    }
    println!("set-ups written by hand {}", used.len());
    print!("{differing}");
    assert!(in_scope >= LEAST_IN_SCOPE, "{in_scope} in scope");
    assert!(percent >= LEAST_PERCENT, "{percent} % agree:\n{differing}");
}

/// Prepares a world, sends the recording into it and compares.
async fn replay(
    recording: &Recording,
    setup: &Setup,
    by_name: &BTreeMap<&str, &Recording>,
) -> Result<(), String> {
    let mut world = World::new(setup).await;
    let mut places = vec![world.seq_text().await];
    for step in &setup.steps {
        match step {
            Step::Recording(name) => {
                let earlier = by_name.get(name.as_str()).ok_or_else(|| format!("no recording {name}"))?;
                let (request, response) =
                    (earlier.request.as_ref().unwrap(), earlier.response.as_ref().unwrap());
                let answer = world.send(request, None).await;
                let agreed = world.matched.answer(response, &answer);
                agreed.map_err(|difference| format!("before it, {name}: {difference}"))?;
            }
            Step::Call(call) => world.make(call).await?,
        }
        world.pass(500);
        places.push(world.seq_text().await);
    }
    world.prepare(setup).await;
    let (request, response) = (recording.request.as_ref().unwrap(), recording.response.as_ref().unwrap());
    let since = match setup.since {
        Some(at) => places.get(at),
        None => places.last(),
    };
    let answer = world.send(request, since.map(String::as_str)).await;
    world.matched.answer(response, &answer)
}

/// The comparison sees a difference where there is one.
#[test]
fn a_wrong_answer_is_noticed() {
    let recorded: Response = serde_json::from_value(serde_json::json!({
        "status": 200, "headers": { "content-type": "application/json" },
        "body": { "id": "bb8197d5de8407d37790d781ae00110c", "rev": "2-ddafa39868b502e392f2cf2c6d26c100", "n": 5 }
    }))
    .unwrap();
    let answer = |status: u16, content_type: &str, body: &str| compare::Answer {
        status,
        headers: vec![("content-type".into(), content_type.into())],
        body: body.as_bytes().to_vec(),
    };
    let good =
        r#"{"id":"00000000000000000000000000000001","rev":"2-00000000000000000000000000000001","n":5}"#;
    let json = "application/json";
    assert_eq!(Match::default().answer(&recorded, &answer(200, json, good)), Ok(()));
    for (status, content_type, body) in [
        (201, json, good.to_owned()),
        (200, "text/plain", good.to_owned()),
        (200, json, good.replace("\"n\":5", "\"n\":6")),
        (200, json, good.replace("\"2-0", "\"3-0")),
        (200, json, good.replace(",\"n\":5", "")),
        (200, json, good.replace("\"n\":5", "\"n\":5,\"more\":1")),
    ] {
        assert!(Match::default().answer(&recorded, &answer(status, content_type, &body)).is_err(), "{body}");
    }
    let mut matched = Match::default();
    assert_eq!(matched.answer(&recorded, &answer(200, json, good)), Ok(()));
    let other = good.replace("0001\",\"rev\"", "0002\",\"rev\"");
    assert!(matched.answer(&recorded, &answer(200, json, &other)).is_err(), "one id cannot become two");
}
