//! What a CHT does to its clients that single recordings cannot show: windows of time, revisions made behind one's back,
//! connections that stay open, a restart.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::Request;
use serde_json::{Value, json};
use test_support::{
    cht::{Calls, Cht, Generate, Options, Sentinel},
    clock::Clock,
    fault::Faults,
    serve::Server,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

const START: i64 = 1_795_513_200_000;

struct Answer {
    status: u16,
    cookie: Option<String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

/// A CHT on a clock moved by hand.
struct Site {
    cht: Arc<Cht>,
    clock: Clock,
}

impl Site {
    fn new() -> Self {
        let clock = Clock::manual(START);
        let options = Options::default().user("interop", "Dummy.pass-123", &["interop", "mm-online"]);
        Self { cht: Cht::new(options, clock.clone()), clock }
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    async fn send(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request = Request::builder().method(method).uri(uri).header("accept", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.cht.router().oneshot(request.body(body).unwrap()).await.unwrap();
        let cookie = response.headers().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, cookie, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn call(&self, method: &str, uri: &str, body: Value) -> Answer {
        self.send(method, uri, &[("authorization", &admin()), ("content-type", "application/json")], &body)
            .await
    }

    async fn anonymous(&self, uri: &str) -> u16 {
        self.send("GET", uri, &[], &Value::Null).await.status
    }

    async fn basic(&self, uri: &str) -> u16 {
        self.send("GET", uri, &[("authorization", &admin())], &Value::Null).await.status
    }
}

fn admin() -> String {
    format!("Basic {}", STANDARD.encode("medic:password"))
}

fn person(name: &str) -> Value {
    json!({ "name": name, "type": "person" })
}

#[tokio::test]
async fn ten_failures_lock_out_basic_logins_until_ten_seconds_after_the_first() {
    let site = Site::new();
    for _ in 0..9 {
        assert_eq!(site.anonymous("/api/v1/settings").await, 401);
    }
    assert_eq!(site.basic("/api/v1/settings").await, 200, "nine are not enough");
    site.pass(6_000);
    assert_eq!(site.anonymous("/api/v1/settings").await, 401);
    for _ in 0..30 {
        assert_eq!(site.basic("/api/info").await, 429, "on public paths and with the right password too");
        assert_eq!(site.anonymous("/api/info").await, 200, "without credentials nothing is refused");
    }
    let login = json!({ "name": "medic", "password": "password" });
    let session = site.send("POST", "/_session", &[("content-type", "application/json")], &login).await;
    assert_eq!(session.status, 200, "a cookie can always be had");
    let cookie = session.cookie.unwrap();
    let answer = site.send("GET", "/medic/settings", &[("cookie", &cookie)], &Value::Null).await;
    assert_eq!(answer.status, 200, "and is never refused");
    site.pass(3_999);
    assert_eq!(site.basic("/api/info").await, 429);
    site.pass(1);
    assert_eq!(site.basic("/api/info").await, 200, "429 answers did not lengthen the window");
}

#[tokio::test]
async fn a_cookie_outlives_its_logout_and_ends_after_a_year() {
    let site = Site::new();
    let login = json!({ "name": "interop", "password": "Dummy.pass-123" });
    let json_type = [("content-type", "application/json")];
    let cookie = site.send("POST", "/_session", &json_type, &login).await.cookie.unwrap();
    let with = [("cookie", cookie.as_str())];
    assert_eq!(site.send("DELETE", "/_session", &with, &Value::Null).await.status, 200);
    assert_eq!(site.send("GET", "/_session", &with, &Value::Null).await.status, 200);
    site.pass(364 * 24 * 3_600_000);
    assert_eq!(site.send("GET", "/_session", &with, &Value::Null).await.status, 200);
    site.pass(24 * 3_600_000);
    assert_eq!(site.send("GET", "/_session", &with, &Value::Null).await.status, 401);
}

#[tokio::test]
async fn sentinel_makes_a_second_revision_a_tenth_of_a_second_after_a_create() {
    let site = Site::new();
    let made = site.call("POST", "/api/v1/people", person("Ada")).await.json();
    let uri = format!("/medic/{}", made["id"].as_str().unwrap());
    site.pass(99);
    let first = site.call("GET", &uri, Value::Null).await.json();
    assert_eq!((&first["_rev"], first.get("patient_id")), (&made["rev"], None));
    site.pass(1);
    let second = site.call("GET", &uri, Value::Null).await.json();
    assert!(second["_rev"].as_str().unwrap().starts_with("2-") && second["patient_id"].is_string());
    let stale = json!({ "_rev": made["rev"], "type": "person", "name": "Ada L" });
    assert_eq!(site.call("PUT", &uri, stale).await.status, 409);
    let changes = site.call("GET", "/medic/_changes", Value::Null).await.json();
    let rows = changes["results"].as_array().unwrap();
    assert_eq!(
        rows.iter().filter(|row| row["id"] == made["id"]).count(),
        1,
        "the feed shows the last change only"
    );
}

#[tokio::test]
async fn a_slow_sentinel_handles_ten_changes_a_second_and_monitoring_tells_its_backlog() {
    let site = Site::new();
    site.cht.switch(|switches| switches.sentinel = Sentinel::Slow);
    let docs: Vec<Value> =
        (0..40).map(|n| json!({ "_id": format!("p{n}"), "type": "person", "name": "N" })).collect();
    site.call("POST", "/medic/_bulk_docs", json!({ "docs": docs })).await;
    let backlog = async || {
        let figures = site.call("GET", "/api/v2/monitoring", Value::Null).await.json();
        figures["sentinel"]["backlog"].as_u64().unwrap()
    };
    assert_eq!(backlog().await, 40);
    site.pass(1_000);
    assert_eq!(backlog().await, 40, "each handled person is a new change");
    site.pass(60_000);
    assert_eq!(backlog().await, 0);
    site.cht.switch(|switches| switches.sentinel = Sentinel::Off);
    site.call("POST", "/api/v1/people", person("Late")).await;
    site.pass(600_000);
    assert_eq!(backlog().await, 1);
}

#[tokio::test]
async fn one_wrong_transition_stops_all_of_sentinel_until_it_is_repaired() {
    let site = Site::new();
    site.call("PUT", "/api/v1/settings", json!({ "transitions": { "muting": true } })).await;
    site.call("POST", "/api/v1/people", person("Ada")).await;
    site.pass(600_000);
    let backlog = async || {
        let figures = site.call("GET", "/api/v2/monitoring", Value::Null).await.json();
        figures["sentinel"]["backlog"].as_u64().unwrap()
    };
    assert_eq!(backlog().await, 2, "the settings and the person");
    site.call("PUT", "/api/v1/settings", json!({ "transitions": { "muting": false } })).await;
    site.pass(1_000);
    assert_eq!(backlog().await, 0);
    assert!(site.cht.docs().iter().any(|doc| doc["patient_id"].is_string()));
}

#[tokio::test]
async fn while_it_starts_a_write_is_lost_with_a_200() {
    let site = Site::new();
    site.cht.switch(|switches| switches.starting = true);
    let headers = [
        ("authorization", admin()),
        ("content-type", "application/json".to_owned()),
        ("accept", "*/*".into()),
    ];
    let request = headers
        .iter()
        .fold(Request::builder().method("POST").uri("/api/v1/people"), |request, (name, value)| {
            request.header(*name, value)
        });
    let request = request.body(Body::from(person("Lost").to_string())).unwrap();
    let response = site.cht.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert_eq!(site.call("POST", "/api/v1/people", person("Refused")).await.status, 503);
    site.cht.switch(|switches| switches.starting = false);
    assert_eq!(site.cht.counts().by_type.get("person"), None);
}

#[tokio::test]
async fn two_texts_for_one_place_resume_alike() {
    let site = Site::new();
    site.call("POST", "/api/v1/people", person("Ada")).await;
    let place =
        async || site.call("GET", "/medic/_changes?since=now", Value::Null).await.json()["last_seq"].clone();
    let (one, two) = (place().await, place().await);
    assert_ne!(one, two);
    site.call("PUT", "/medic/x", json!({ "type": "lab" })).await;
    for text in [one, two] {
        let page =
            site.call("GET", &format!("/medic/_changes?since={}", text.as_str().unwrap()), Value::Null).await;
        let ids: Vec<Value> =
            page.json()["results"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
        assert_eq!(ids, ["x"]);
    }
}

#[tokio::test]
async fn duplicates_are_accepted_and_counted() {
    let site = Site::new();
    let twin = json!({ "name": "Twin", "date_of_birth": "1990-01-01", "external_id": "omrs-1" });
    for _ in 0..3 {
        assert_eq!(site.call("POST", "/api/v1/people", twin.clone()).await.status, 200);
    }
    let counts = site.call("GET", "/_standin/cht/counts", Value::Null).await.json();
    assert_eq!((&counts["same_external_id"], &counts["same_name_and_birth"]), (&json!(2), &json!(2)));
    assert_eq!(site.cht.counts().by_type["person"], 3);
}

#[tokio::test]
async fn an_edit_in_the_app_merges_fields_and_a_deletion_leaves_nothing() {
    let site = Site::new();
    site.cht.edit("p1", json!({ "type": "person", "name": "Ada", "phone": "+254700000001" }));
    let edited = json!({ "_id": "p1", "name": "Ada L", "phone": null });
    assert_eq!(site.call("POST", "/_standin/cht/edit", edited).await.status, 200);
    let doc = site.cht.doc("p1").unwrap();
    assert_eq!((&doc["name"], doc.get("phone"), &doc["type"]), (&json!("Ada L"), None, &json!("person")));
    assert!(site.cht.delete("p1"));
    let page = site
        .call("GET", "/medic/_changes?include_docs=true&descending=true&limit=1", Value::Null)
        .await
        .json();
    assert_eq!(page["results"][0]["doc"].as_object().unwrap().len(), 3, "{page}");
}

#[tokio::test]
async fn a_restart_with_its_state_goes_on_where_it_stopped() {
    let site = Site::new();
    let made = site.call("POST", "/api/v1/people", person("Ada")).await.json();
    let id = made["id"].as_str().unwrap();
    let place = site.call("GET", "/medic/_changes?since=now", Value::Null).await.json()["last_seq"].clone();
    let login = json!({ "name": "medic", "password": "password" });
    let cookie =
        site.send("POST", "/_session", &[("content-type", "application/json")], &login).await.cookie.unwrap();
    site.cht.generate(Generate { count: 10, min_bytes: 300, max_bytes: 600, seed: 3 });
    let file = tempfile::NamedTempFile::new().unwrap();
    site.cht.save(file.path()).unwrap();

    let clock = Clock::manual(START + 1_000);
    let again = Site { cht: Cht::load(file.path(), clock.clone()).unwrap(), clock };
    assert!(again.cht.doc(id).unwrap()["patient_id"].is_string(), "sentinel catches up");
    let since = format!("/medic/_changes?since={}", place.as_str().unwrap());
    let page = again.send("GET", &since, &[("cookie", &cookie)], &Value::Null).await;
    assert_eq!(
        page.json()["results"].as_array().unwrap().len(),
        11,
        "ten made persons and the second revision"
    );
    assert_eq!(again.cht.counts().docs, site.cht.counts().docs);
    assert_ne!(again.call("POST", "/api/v1/people", person("Bo")).await.json()["id"], made["id"]);
}

#[tokio::test]
async fn persons_made_in_bulk_page_through_the_feed_once_each() {
    let site = Site::new();
    let spec = json!({ "count": 2_500, "min_bytes": 300, "max_bytes": 2_000, "seed": 9 });
    site.call("POST", "/_standin/cht/generate", spec).await;
    let (mut seen, mut since) = (std::collections::BTreeSet::new(), "0".to_owned());
    loop {
        let uri = format!("/medic/_changes?include_docs=true&limit=1000&since={since}");
        let page = site.call("GET", &uri, Value::Null).await.json();
        for row in page["results"].as_array().unwrap().iter().filter(|row| row["doc"]["type"] == "person") {
            assert!(seen.insert(row["id"].as_str().unwrap().to_owned()));
        }
        since = page["last_seq"].as_str().unwrap().to_owned();
        if page["pending"] == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 2_500);
    let id = seen.first().unwrap();
    let doc = site.call("GET", &format!("/medic/{id}"), Value::Null).await.json();
    let edited = json!({ "_rev": doc["_rev"], "type": "person", "name": "Edited" });
    assert_eq!(site.call("PUT", &format!("/medic/{id}"), edited).await.status, 201);
    let page = site.call("GET", &format!("/medic/_changes?since={since}"), Value::Null).await.json();
    assert_eq!((page["results"].as_array().unwrap().len(), &page["results"][0]["id"]), (1, &json!(id)));
    let all = site.call("GET", "/medic/_all_docs?limit=3000", Value::Null).await.json();
    let listed =
        all["rows"].as_array().unwrap().iter().filter(|row| seen.contains(row["id"].as_str().unwrap()));
    assert_eq!(listed.count(), 2_500);
}

#[tokio::test]
async fn a_write_without_a_json_type_gets_no_answer_and_leaves_an_empty_document() {
    let clock = Clock::real();
    let cht = Cht::new(Options::default(), clock.clone());
    let server = Server::start(cht.router(), Faults::none(), clock, 0).await.unwrap();
    let mut stream = connect(&server, "PUT", "/medic/empty", "", r#"{"type":"lab"}"#).await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(!answer.ends_with("0\r\n\r\n"), "the answer is never complete: {answer:?}");
    assert_eq!(cht.doc("empty").unwrap().as_object().unwrap().len(), 2);
}

async fn connect(
    server: &Server,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> tokio::net::TcpStream {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (login, length) = (admin(), body.len());
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\naccept: application/json\r\nauthorization: {login}\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until what came contains `wanted`.
async fn read_until(stream: &mut tokio::net::TcpStream, text: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(length > 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
}

#[tokio::test]
async fn a_longpoll_opens_its_json_beats_and_wakes_up_at_a_change() {
    let clock = Clock::real();
    let cht = Cht::new(Options::default(), clock.clone());
    let server = Server::start(cht.router(), Faults::none(), clock, 0).await.unwrap();
    let path = "/medic/_changes?feed=longpoll&since=now&heartbeat=20&include_docs=true";
    let mut stream = connect(&server, "GET", path, "", "").await;
    let mut text = String::new();
    read_until(&mut stream, &mut text, "{\"results\":[\n").await;
    read_until(&mut stream, &mut text, "\r\n1\r\n\n\r\n1\r\n\n").await;
    cht.edit("p1", json!({ "type": "person", "name": "Ada" }));
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.contains("\"id\":\"p1\"") && text.contains("\"last_seq\"") && text.ends_with("0\r\n\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn sentinel_wakes_a_continuous_feed_on_its_own() {
    let clock = Clock::real();
    let cht = Cht::new(Options::default(), clock.clone());
    let server = Server::start(cht.router(), Faults::none(), clock, 0).await.unwrap();
    let path = "/medic/_changes?feed=continuous&since=now&heartbeat=1000&include_docs=true";
    let mut stream = connect(&server, "GET", path, "", "").await;
    let mut text = String::new();
    read_until(&mut stream, &mut text, "\r\n\r\n").await;
    cht.edit("p1", json!({ "type": "person", "name": "Ada" }));
    read_until(&mut stream, &mut text, "\"rev\":\"2-").await;
    assert!(text.contains("\"rev\":\"1-") && text.contains("patient_id"), "{text}");
}

#[tokio::test]
async fn a_longpoll_without_news_ends_with_the_same_place() {
    let clock = Clock::real();
    let cht = Cht::new(Options::default(), clock.clone());
    let server = Server::start(cht.router(), Faults::none(), clock, 0).await.unwrap();
    let mut stream =
        connect(&server, "GET", "/medic/_changes?feed=longpoll&since=now&timeout=30", "", "").await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("\"pending\":0}"), "{text}");
    assert!(!text.contains("\"seq\""), "{text}");
}

#[tokio::test]
async fn an_older_release_does_not_know_the_newer_calls() {
    let site = Site::new();
    let made = site.call("POST", "/api/v1/people", person("Ada")).await.json();
    let one = format!("/api/v1/person/{}", made["id"].as_str().unwrap());
    let statuses = async || {
        let version =
            site.call("GET", "/api/v2/monitoring", Value::Null).await.json()["version"]["app"].clone();
        let one = site.call("GET", &one, Value::Null).await.status;
        let page = site.call("GET", "/api/v1/contact?type=person", Value::Null).await.status;
        (version, one, page)
    };
    assert_eq!(statuses().await, (json!("5.2.0"), 200, 200));
    site.cht.switch(|switches| switches.calls = Calls::V52);
    assert_eq!(statuses().await, (json!("5.2.0"), 200, 404));
    site.cht.switch(|switches| switches.calls = Calls::V42);
    assert_eq!(statuses().await, (json!("4.2.0"), 404, 404));
    assert_eq!(site.call("POST", "/api/v1/people", person("Bo")).await.status, 200);
}

#[tokio::test]
async fn on_a_manual_clock_no_feed_waits() {
    let site = Site::new();
    for feed in ["longpoll", "continuous", "eventsource"] {
        let answer = site.call("GET", &format!("/medic/_changes?feed={feed}&since=now"), Value::Null).await;
        assert_eq!(answer.status, 200, "{feed}");
    }
}
