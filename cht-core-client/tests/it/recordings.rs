//! Every recorded exchange with a real CHT through the client: the request that it makes is the recorded one, and the
//! recorded answer becomes a typed value that holds the same data, or the right error.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cht_core_client::{ChtClient, Credentials, Error};
use serde::Deserialize;
use serde_json::{Value, json};

use super::play::{Asked, Held, Played, play};
use super::replay::{Answer, Replay, Sent, json_of};

#[derive(Deserialize)]
struct Recording {
    name: String,
    request: Asked,
    response: Answered,
}

#[derive(Deserialize)]
struct Answered {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

fn recordings() -> Vec<Recording> {
    let lines = include_str!("../recordings.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn answer_of(recording: &Recording) -> Answer {
    let body = match &recording.response.body {
        Value::String(raw) if recording.response.headers.contains_key("transfer-encoding") => unchunked(raw),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let headers = recording.response.headers.iter().filter(|(name, _)| *name != "transfer-encoding");
    Answer {
        status: recording.response.status,
        headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
        pieces: vec![Ok(Bytes::from(body))],
    }
}

/// The body inside a recorded chunked one, which may break off.
fn unchunked(mut raw: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = raw.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let (chunk, rest) = rest.split_at(size);
        body.push_str(chunk);
        raw = rest.strip_prefix("\r\n").unwrap_or_default();
    }
    body
}

fn client_for(asked: &Asked, transport: &Arc<Replay>) -> ChtClient {
    let builder = ChtClient::builder("http://cht.example").transport(transport.clone());
    match asked.login.as_str() {
        "basic" => builder.credentials(Credentials::basic("medic", "password")),
        "cookie" => builder.credentials(Credentials::session("medic", "password")),
        _ => builder,
    }
    .build()
    .unwrap()
}

fn transport_for(recording: &Recording) -> Arc<Replay> {
    let answer = answer_of(recording);
    let (status, headers, body) =
        (answer.status, answer.headers, answer.pieces.into_iter().next().unwrap().unwrap());
    let session = recording.request.login == "cookie";
    Arc::new(Replay::new(move |sent: &Sent, _| {
        if session && sent.method == "POST" && sent.path == "/_session" {
            return Ok(Answer::json(200, json!({"ok": true})).header("set-cookie", "AuthSession=abc; Path=/"));
        }
        Ok(Answer { status, headers: headers.clone(), pieces: vec![Ok(body.clone())] })
    }))
}

fn is_failure(recording: &Recording) -> bool {
    recording.response.status >= 300
        || recording.response.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/html"))
}

/// The error that an answer must become, found apart from the client's own rules.
fn expected(recording: &Recording) -> &'static str {
    let body = recording.response.body.to_string();
    match recording.response.status {
        301..=399
            if recording.response.headers.get("location").is_some_and(|to| to.contains("/medic/login")) =>
        {
            "LoginRequired"
        }
        301..=399 => "Redirected",
        401 => "LoginRequired",
        403 => "Forbidden",
        404 if body.contains("Database does not exist") => "NoSuchCall",
        404 if ["/api/v1/people", "/api/v1/places"].contains(&recording.request.path.as_str())
            && recording.request.method == "POST" =>
        {
            "Invalid"
        }
        404 => "NotFound",
        409 => "Conflict",
        400 if body.contains("[_rev] fields must not be changed") => "Conflict",
        429 => "RateLimited",
        500 if body.contains("details") => "Invalid",
        500 => "Server",
        503 => "NotReady",
        400..=499 => "Invalid",
        _ => "NotReady",
    }
}

fn name_of(error: &Error) -> String {
    let shown = format!("{error:?}");
    shown.split([' ', '(']).next().unwrap().to_owned()
}

/// Whether everything in `part` is in `whole`.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|found| is_within(value, found)))
        }
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| is_within(part, whole))
        }
        _ => part == whole,
    }
}

fn check_request(recording: &Recording, sent: &Sent) {
    let (name, asked) = (&recording.name, &recording.request);
    let path = |path: &str| percent_encoding::percent_decode_str(path).decode_utf8().unwrap().into_owned();
    assert_eq!((&sent.method, path(&sent.path)), (&asked.method, path(&asked.path)), "{name}");
    assert_eq!(sent.path.matches('/').count(), asked.path.matches('/').count(), "{name}");
    let mut query: BTreeMap<String, String> = sent.query.iter().cloned().collect();
    if !asked.query.contains_key("heartbeat") {
        query.remove("heartbeat");
    }
    let wanted: BTreeMap<String, String> =
        asked.query.keys().map(|key| (key.clone(), asked.text(key).unwrap())).collect();
    let normal = |query: BTreeMap<String, String>| -> BTreeMap<String, String> {
        let json =
            |text: String| serde_json::from_str::<Value>(&text).map_or(text, |value| value.to_string());
        query.into_iter().map(|(key, value)| (key, json(value))).collect()
    };
    assert_eq!(normal(query), normal(wanted), "{name}");
    assert_eq!(sent.headers["accept"], "application/json", "{name}");
    let content_type = sent.headers.get("content-type").map(|value| value.to_str().unwrap());
    assert_eq!(content_type, asked.content_type.as_deref().filter(|_| !asked.body.is_null()), "{name}");
    if let Value::String(text) = &asked.body {
        assert_eq!(std::str::from_utf8(&sent.body).unwrap(), text, "{name}");
    } else {
        let mut wanted = asked.body.clone();
        if let ("/api/sms", Some(lists)) = (asked.path.as_str(), wanted.as_object_mut()) {
            for list in ["messages", "updates"] {
                lists.entry(list).or_insert(json!([]));
            }
        }
        assert_eq!(json_of(&sent.body), wanted, "{name}");
    }
    let public = asked.path.ends_with("/monitoring") || asked.path == "/setup/poll";
    match asked.login.as_str() {
        "basic" if !public => {
            assert_eq!(sent.headers["authorization"], "Basic bWVkaWM6cGFzc3dvcmQ=", "{name}")
        }
        "cookie" => assert_eq!(sent.headers["cookie"], "AuthSession=abc", "{name}"),
        "token" => assert_eq!(
            sent.headers["authorization"],
            format!("Token {}", asked.token.as_ref().unwrap()).as_str(),
            "{name}"
        ),
        _ => assert!(
            !sent.headers.contains_key("authorization") && !sent.headers.contains_key("cookie"),
            "{name}"
        ),
    }
}

fn check_answer(recording: &Recording, result: Result<Held, Error>) {
    let name = &recording.name;
    let body = &recording.response.body;
    match result {
        Ok(Held::All(value)) => assert_eq!(&value, body, "{name}"),
        Ok(Held::Part(value)) => assert!(is_within(&value, body), "{name}: {value} is not in {body}"),
        Ok(Held::Nothing) => assert!(recording.response.status < 300, "{name}"),
        Err(error) => {
            assert!(is_failure(recording), "{name}: {error:?}");
            assert_eq!(name_of(&error), expected(recording), "{name}: {error}");
            check_privacy(recording, &error);
        }
    }
}

/// No value of the request or of the answer that could be somebody's may be in the error.
fn check_privacy(recording: &Recording, error: &Error) {
    fn leaves<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => found.push(text),
            Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| leaves(field, found)),
            _ => {}
        }
    }
    let mut values = Vec::new();
    leaves(&recording.request.body, &mut values);
    recording.request.query.values().for_each(|value| leaves(value, &mut values));
    values.extend(recording.request.path.split('/').skip(3));
    let shown = format!("{error} {error:?}");
    for value in values.into_iter().filter(|value| value.len() > 3) {
        if value.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) {
            assert!(!shown.contains(value), "{}: {shown}", recording.name);
        }
    }
}

#[tokio::test]
async fn every_recorded_exchange_goes_through_the_client() {
    let mut counts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for recording in recordings() {
        let transport = transport_for(&recording);
        let client = client_for(&recording.request, &transport);
        let played = play(&client, &recording.request).await.unwrap_or(Played::NotSent);
        let class = match played {
            Played::Made(result) => {
                check_request(&recording, transport.sent().last().unwrap());
                if recording.name == "changes-longpoll-heartbeat-raw" {
                    assert!(matches!(result, Err(Error::Transport(_))), "an unfinished feed is an error");
                } else {
                    check_answer(&recording, result);
                }
                "made"
            }
            Played::MadeByPost(result) => {
                let sent = transport.sent().pop().unwrap();
                assert_eq!((sent.method.as_str(), &sent.path), ("POST", &recording.request.path));
                match result {
                    Ok(Held::Part(found)) if recording.response.status == 404 => {
                        assert_eq!(found, json!({ "docs": [] }), "{}", recording.name);
                    }
                    _ if recording.response.status == 404 => panic!("no match is no error"),
                    result => check_answer(&recording, result),
                }
                "made by POST"
            }
            Played::Refused(error) => {
                check_privacy(&recording, &error);
                "refused before sending"
            }
            Played::NotSent | Played::NoCall if recording.response.status >= 300 => {
                let outcome = client.medic().get::<Value>("any").await;
                let error = outcome.expect_err(&recording.name);
                if expected(&recording) == "Invalid" && recording.response.status == 404 {
                    assert!(matches!(error, Error::NotFound { .. }));
                } else {
                    assert_eq!(name_of(&error), expected(&recording), "{}: {error}", recording.name);
                }
                check_privacy(&recording, &error);
                "answer only"
            }
            Played::NotSent => "never sent by the client",
            Played::NoCall => "no such call in the client",
        };
        counts.entry(class).or_default().push(recording.name);
    }
    let sizes: BTreeMap<&str, usize> = counts.iter().map(|(class, names)| (*class, names.len())).collect();
    let wanted = BTreeMap::from([
        ("made", 372),
        ("made by POST", 10),
        ("answer only", 40),
        ("never sent by the client", 7),
        ("no such call in the client", 13),
        ("refused before sending", 1),
    ]);
    assert_eq!(sizes, wanted, "{counts:?}");
}

#[tokio::test]
async fn a_page_while_the_server_starts_is_never_a_success() {
    for recording in recordings() {
        if recording.name.contains("without-json-accept") && recording.response.status == 200 {
            let transport = transport_for(&recording);
            let client = client_for(&recording.request, &transport);
            let person = json!({"name": "x"}).as_object().unwrap().clone();
            let error = client.people().create(&person).await.unwrap_err();
            assert!(
                matches!(error, Error::NotReady { status: 200, certain: true }),
                "{}: {error:?}",
                recording.name
            );
            assert!(!error.may_have_applied());
        }
    }
}
