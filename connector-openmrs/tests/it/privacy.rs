//! 200 marked people go through the real binary, well and through every class of error, whose answers repeat all of
//! their names, phones and ids. No value, in any spelling that `marks` knows, then stands in what it logs, prints or
//! serves, or in a byte of its store or of a backup.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::clock::Clock;
use test_support::fault::{Faults, Plan};
use test_support::openmrs::{
    ADMIN, CONNECTOR, ClerkEdit, LOCATION, NATIONAL_ID, OPENMRS_ID, SOURCE, TELEPHONE,
};
use test_support::serve::Server;
use test_support::{cht, openmrs};

use crate::marks::{Marked, Search};

/// Half of them at each side.
const PEOPLE: usize = 200;
const HALF: usize = PEOPLE / 2;
/// How long the binary may take for anything; no part of what is tested.
const PATIENCE: Duration = Duration::from_secs(120);

static MARKED: LazyLock<Vec<Marked>> = LazyLock::new(|| (0..PEOPLE as u64).map(Marked::new).collect());

/// Which requests are answered by the echo.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hit {
    Writes,
    Reads,
    Logins,
}

/// Answers of one class in place of a server's own, each of which holds every marked value.
struct Echo {
    hit: Mutex<Option<(Hit, &'static [u16])>>,
    count: AtomicUsize,
}

impl Echo {
    fn answer(&self, statuses: &[u16], uri: &str, sent: &str) -> Response {
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        let status = StatusCode::from_u16(statuses[n % statuses.len()]).unwrap();
        // Some values, others each time, so that an answer stays as short as a real one.
        let some: Vec<String> = MARKED.iter().cycle().skip(n * 7).take(7).flat_map(Marked::values).collect();
        // A family name, which is all letters, comes first: no filter by kind of letter keeps it out.
        let (text, one) = (format!("{}, {} {uri} {sent}", some[1], some.join(" ")), &some[1]);
        let phrases = [
            format!("Privileges required: {text}"),
            format!("[User is logged in but => Privileges required: Edit Patients for {one}]"),
            format!("Identifier {text} already in use by another patient"),
            format!("Duplicate entry '{text}' for key 'uuid'"),
            format!("Data too long for {one}: {text}"),
            format!("Form not found: {text}"),
            text.clone(),
        ];
        let phrase = &phrases[n % phrases.len()];
        let json = "application/json";
        let bodies = [
            (json, json!({ "error": { "message": phrase, "code": one, "detail": text,
                "fieldErrors": { "names[0].givenName": [{ "code": one, "message": text }], one.as_str(): [], some[5].as_str(): [] },
                "globalErrors": [{ "code": text, "message": text }] } }).to_string()),
            (json, json!({ "resourceType": "OperationOutcome", "text": { "div": text },
                "issue": [{ "severity": "error", "diagnostics": phrase }] }).to_string()),
            (json, json!({ "resourceType": "Bundle", "total": text, "meta": { "lastUpdated": one }, "link": [{ "relation": "next", "url": text }],
                "entry": [{ "resource": { "resourceType": "Patient", "id": one, "name": one, "birthDate": { one.as_str(): text } } }] }).to_string()),
            (json, json!({ "error": phrase, "reason": text }).to_string()),
            (json, json!({ "code": 400, "error": phrase, "details": text }).to_string()),
            (json, json!({ "results": [{ "id": one, "seq": text, "changes": one, "doc": { "_id": one, "type": "person", "name": [one], one.as_str(): one } }],
                "last_seq": { one.as_str(): text }, "rows": [{ "id": one, "error": text, "key": [one] }], "docs": one, "uuid": one }).to_string()),
            (json, json!([{ "id": one, "error": phrase, "reason": text }, one]).to_string()),
            (json, format!("{{\"results\":[{{\"{one}\":\"{text}")),
            ("text/html", format!("<html><title>{one}</title>{text}</html>")),
            ("text/plain", phrase.clone()),
        ];
        let (kind, body) = bodies[n / 3 % bodies.len()].clone();
        let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
        let plain = some[2].trim_start_matches('+');
        for name in
            [header::LOCATION, header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::DATE, header::ETAG]
        {
            response.headers_mut().insert(name, plain.parse().unwrap());
        }
        let cookie = format!("{plain}={one}").parse().unwrap_or(header::HeaderValue::from_static("none=1"));
        response.headers_mut().insert(header::SET_COOKIE, cookie);
        response.headers_mut().insert(HeaderName::from_static("x-echo"), plain.parse().unwrap());
        response
    }
}

fn kind_of(method: &str, path: &str) -> Hit {
    let last = path.rsplit('/').next().unwrap_or_default();
    match (method, last) {
        (_, "session" | "_session") => Hit::Logins,
        ("GET" | "HEAD", _) | ("POST", "_all_docs" | "_find" | "_changes" | "_bulk_get" | "hydrate") => {
            Hit::Reads
        }
        _ => Hit::Writes,
    }
}

async fn echoing(State(echo): State<Arc<Echo>>, request: Request, next: Next) -> Response {
    let kind = kind_of(request.method().as_str(), request.uri().path());
    let hit = *echo.hit.lock().unwrap();
    match hit {
        // Some reads come through, or nothing but the first one would ever be asked for.
        Some((hit, statuses))
            if hit == kind && (kind != Hit::Reads || echo.count.load(Ordering::SeqCst) % 3 != 2) =>
        {
            let uri = request.uri().to_string();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
            echo.answer(statuses, &uri, &String::from_utf8_lossy(&body))
        }
        Some((Hit::Reads, _)) if kind == Hit::Reads => {
            echo.count.fetch_add(1, Ordering::SeqCst);
            next.run(request).await
        }
        _ => next.run(request).await,
    }
}

/// Two systems with marked people, the binary's folder, and everything that it has said.
struct Site {
    folder: TempDir,
    cht: Arc<cht::Cht>,
    openmrs: Arc<openmrs::OpenMrs>,
    servers: [Server; 2],
    faults: [Faults; 2],
    echoes: [Arc<Echo>; 2],
    said: Mutex<Vec<(String, Vec<u8>)>>,
}

/// The running binary.
struct Running {
    child: Child,
    url: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Site {
    async fn new(format: &str) -> Self {
        let clock = Clock::real();
        let (cht, openmrs) = (
            cht::Cht::new(cht::Options::default(), clock.clone()),
            openmrs::OpenMrs::new(openmrs::Options::default(), clock.clone()),
        );
        let echoes = [(); 2].map(|()| Arc::new(Echo { hit: Mutex::new(None), count: AtomicUsize::new(0) }));
        let faults = [Faults::none(), Faults::none()];
        let routers = [cht.router(), openmrs.router()];
        let mut servers = vec![];
        for ((router, echo), faults) in routers.into_iter().zip(&echoes).zip(&faults) {
            let router = router.layer(from_fn_with_state(echo.clone(), echoing));
            servers.push(Server::start(router, faults.clone(), clock.clone(), 0).await.unwrap());
        }
        let Ok(servers) = servers.try_into() else { panic!("two servers") };
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder, cht, openmrs, servers, faults, echoes, said: Mutex::default() };
        site.configure(format);
        for (n, person) in MARKED.iter().enumerate() {
            if n < HALF { site.enter(person, &person.name()) } else { site.register(person).await }
        }
        site
    }

    /// Everything is logged that can be.
    fn configure(&self, format: &str) {
        let text = json!({
            "store": { "sqlite": "./data" },
            "encryption": { "key_file": "./key" },
            "http": { "listen": "127.0.0.1:0" },
            "log": { "level": "debug", "format": format },
            "bridges": [{
                "name": "main",
                "begin": "everything",
                "conflicts": { "default": "newest", "fields": { "address.village": "review" } },
                "cht": {
                    "url": self.servers[0].url, "user": "medic", "password": "password", "place": { "default": "area" },
                    "fields": { "address.village": "village", "identifier.national": "national_id" },
                    "search": { "scan": true }, "writes": { "quiet": "1s" }, "http": { "timeout": "1s", "probe": "1s" },
                },
                "partner": {
                    "url": format!("{}/openmrs", self.servers[1].url), "user": CONNECTOR.0, "password": CONNECTOR.1,
                    "location": LOCATION, "address": { "village": "cityVillage" },
                    "identifiers": { "openmrs": { "type": OPENMRS_ID, "source": SOURCE }, "national": { "type": NATIONAL_ID } },
                    "pass_seconds": 1, "changes_seconds": 1, "timeout_seconds": 1, "quiet_seconds": 1,
                },
            }],
        });
        std::fs::write(self.path("connector.yaml"), text.to_string()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn enter(&self, person: &Marked, name: &str) {
        let doc = json!({
            "type": "person", "name": name, "sex": "female", "date_of_birth": "1990-01-02", "phone": person.phone,
            "national_id": person.national, "village": person.village, "parent": { "_id": "area" }, "reported_date": 1,
        });
        self.cht.edit("area", json!({ "type": "clinic", "name": "Area" }));
        self.cht.edit(&person.id, doc);
    }

    async fn register(&self, person: &Marked) {
        let post = async |path: &str, body: Value| -> Value {
            let request =
                reqwest::Client::new().post(format!("{}/openmrs/ws/rest/v1/{path}", self.servers[1].url));
            let answer = request.basic_auth(ADMIN.0, Some(ADMIN.1)).json(&body).send().await.unwrap();
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
            answer.json().await.unwrap()
        };
        let number = post(&format!("idgen/identifiersource/{SOURCE}/identifier"), json!({})).await;
        let identifiers = json!([
            { "identifier": number["identifier"], "identifierType": OPENMRS_ID, "location": LOCATION, "preferred": true },
            { "identifier": person.national, "identifierType": NATIONAL_ID },
        ]);
        let body = json!({
            "person": {
                "uuid": person.id, "names": [{ "givenName": person.given, "familyName": person.family }],
                "gender": "F", "birthdate": "1991-02-03", "addresses": [{ "cityVillage": person.village }],
                "attributes": [{ "attributeType": TELEPHONE, "value": person.phone }],
            },
            "identifiers": identifiers,
        });
        post("patient", body).await;
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_connector-openmrs"));
        command.args(args).arg("--config").arg(self.path("connector.yaml"));
        // Neither makes it say more than it would.
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").stdin(Stdio::null());
        command
    }

    /// What the command line says, which is searched at the end.
    async fn cli(&self, args: &[&str]) -> Value {
        let mut command = self.command(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        self.say(format!("{args:?}"), [output.stdout, output.stderr].concat());
        value
    }

    fn say(&self, what: String, bytes: Vec<u8>) {
        self.said.lock().unwrap().push((what, bytes));
    }

    /// Starts the binary; both of its streams go to files.
    async fn run(&self) -> Running {
        let n = std::fs::read_dir(self.folder.path()).unwrap().count();
        let [out, err] = ["stdout", "stderr"].map(|name| self.path(&format!("{n}.{name}")));
        let mut command = self.command(&["run", "--make-key"]);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(err).unwrap());
        let mut running = Running { child: command.spawn().unwrap(), url: String::new() };
        self.until("ready", async || {
            let text = std::fs::read_to_string(&out).unwrap();
            if let Some(line) = text.lines().find_map(|l| l.strip_prefix("ready ")) {
                running.url = line.to_owned();
            }
            !running.url.is_empty()
        })
        .await;
        running
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !holds().await {
            assert!(begun.elapsed() < PATIENCE, "never: {what}; the log ends with {}", self.last_lines());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn last_lines(&self) -> String {
        let logs = files(self.folder.path()).into_iter().filter(|(name, _)| name.ends_with(".stderr"));
        let text: String = logs.map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()).collect();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Every page that a running process serves to who asks nicely, and to who does not.
    async fn pages(&self, url: &str) {
        let one = &MARKED[3];
        let client = reqwest::Client::new();
        for path in ["/metrics", "/health/live", "/health/ready", "/status"] {
            let answer = client.get(format!("{url}{path}")).send().await.unwrap();
            self.say(path.to_owned(), answer.bytes().await.unwrap().to_vec());
        }
        let admin = std::fs::read_to_string(self.path("data/admin")).unwrap();
        let token = admin.lines().nth(1).unwrap().to_owned();
        let wishes = [
            (format!("/main/{}?phone={}", one.id, one.phone), String::new()),
            (format!("/admin/{}", one.id), token.clone()),
            ("/admin/main".to_owned(), format!("Bearer {}", one.phone)),
            ("/admin/main".to_owned(), token),
        ];
        for (path, token) in wishes {
            let body = json!({ "do": one.given, one.name(): one.id }).to_string();
            let request = client.post(format!("{url}{path}")).header("authorization", token).body(body);
            let answer = request.send().await.unwrap();
            assert!(!answer.status().is_success());
            self.say(path, answer.bytes().await.unwrap().to_vec());
        }
    }

    /// Rows by state, over both systems.
    async fn rows(&self, url: &str) -> BTreeMap<String, i64> {
        let status: Value = reqwest::get(format!("{url}/status")).await.unwrap().json().await.unwrap();
        let mut rows = BTreeMap::new();
        for row in status["main"]["rows"].as_array().unwrap() {
            *rows.entry(row["state"].as_str().unwrap().to_owned()).or_default() +=
                row["rows"].as_i64().unwrap();
        }
        rows
    }

    /// What the command line shows without being asked for bodies.
    async fn lists(&self) {
        let one = &MARKED[5];
        let [bad, odd] = ["bad.json", "odd.json"].map(|name| self.path(name));
        std::fs::write(&odd, json!({ "source": one.name(), "body": { one.phone.as_str(): 1 } }).to_string())
            .unwrap();
        std::fs::write(&bad, format!("{{\"body\": \"{}\", {}", one.name(), one.phone)).unwrap();
        for args in [
            &["status"][..],
            &["dead-letters", "list"],
            &["review", "list"],
            &["check"],
            &["check", "--json"],
            &["dry-run"],
            &["dead-letters", "edit", "1", bad.to_str().unwrap()],
            &["dead-letters", "edit", "1", odd.to_str().unwrap()],
            &["replay", &one.id],
            &["forget", &one.name()],
            &["replay", &format!("cht/person/{}", one.id)],
            &["status", "--set", &format!("bridges.0.cht.place.default.{}={}", one.given, one.id)],
        ] {
            self.cli(args).await;
        }
        std::fs::remove_file(bad).unwrap();
        std::fs::remove_file(odd).unwrap();
    }

    /// Nothing of what was said or stored holds a mark. The numbers that OpenMRS gave are marks too.
    fn assert_clean(&self, what: &str) {
        let mut marks: Vec<String> = MARKED.iter().flat_map(Marked::values).collect();
        for patient in self.openmrs.patients() {
            marks.push(patient.uuid);
        }
        for doc in self.cht.docs().iter().filter(|d| d["type"] == "person") {
            marks.push(doc["_id"].as_str().unwrap().to_owned());
        }
        let search = Search::new(marks);
        let mut said = std::mem::take(&mut *self.said.lock().unwrap());
        said.extend(files(self.folder.path()));
        let log: usize = said.iter().filter(|(n, _)| n.ends_with(".stderr")).map(|(_, b)| b.len()).sum();
        assert!(log > 100, "{what}: something was logged");
        for (place, bytes) in said {
            if let Some(found) = search.find(&bytes) {
                // One line, since whoever reads it looks for it in the code.
                panic!("{what}: {place} holds {found}");
            }
        }
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn success_conflicts_dead_letters_and_reviews_show_nobody() {
    let site = Site::new("text").await;
    for person in &MARKED[..3] {
        // No OpenMRS holds so long a name: a dead letter.
        site.enter(person, &format!("{}{} {}", person.given, "z".repeat(60), person.family));
    }
    // Somebody who may be the same, and values that no person has.
    site.cht.edit("twin", json!({ "type": "person", "name": MARKED[HALF].name(), "sex": "female", "date_of_birth": "1991-02-03" }));
    site.cht.edit(
        "odd",
        json!({ "type": "person", "name": [MARKED[4].name()], "phone": { MARKED[4].phone.as_str(): 1 } }),
    );
    let mut running = site.run().await;
    let url = running.url.clone();
    site.until("all others stand at both sides", async || {
        let contacts = site.cht.docs().iter().filter(|d| d["external_id"].is_string()).count();
        site.openmrs.patients().len() >= PEOPLE - 3 && contacts >= HALF - 1
    })
    .await;
    // Who is edited at both sides at once, and how each of them is known at the other.
    let patients = site.openmrs.patients();
    for person in &MARKED[10..30] {
        let patient = patients.iter().find(|p| p.family_name.as_ref() == Some(&person.family)).unwrap();
        site.cht.edit(&person.id, json!({ "phone": person.other_phone, "village": person.other_village }));
        let address = BTreeMap::from([("cityVillage".to_owned(), format!("{}a", person.village))]);
        let edit = ClerkEdit { phone: Some(format!("{}9", person.phone)), address, ..ClerkEdit::default() };
        site.openmrs.edit(&patient.uuid, &edit).unwrap();
    }
    for (n, person) in MARKED[HALF + 1..HALF + 11].iter().enumerate() {
        let edit = ClerkEdit { voided: Some(true), ..ClerkEdit::default() };
        if n % 2 == 0 {
            site.openmrs.edit(&person.id, &edit).unwrap();
        } else {
            site.cht.delete(&MARKED[40 + n].id);
            site.cht.edit(&MARKED[60 + n].id, json!({ "date_of_death": 1_767_323_045_000_i64 }));
            site.cht.edit(&MARKED[80 + n].id, json!({ "muted": "2026-01-01T00:00:00.000Z" }));
        }
    }
    let mut switches = site.openmrs.switches();
    switches.unreadable = MARKED[HALF + 20..HALF + 23].iter().map(|p| p.id.clone()).collect();
    site.openmrs.set_switches(switches);
    site.until("dead letters, reviews, conflicts and rows that cannot be read", async || {
        let rows = site.rows(&url).await;
        let at_least = |state: &str, n: i64| rows.get(state).is_some_and(|rows| *rows >= n);
        let mut command = site.command(&["conflicts"]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let conflicts: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        at_least("dead", 3)
            && at_least("review", 20)
            && at_least("unreadable", 1)
            && conflicts["conflicts"].as_array().is_some_and(|c| c.len() >= 20)
    })
    .await;
    site.pages(&url).await;
    site.lists().await;
    let backup = site.path("copy.sqlite");
    site.cli(&["backup", backup.to_str().unwrap()]).await;
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let names: Vec<_> = files(site.folder.path()).into_iter().map(|(name, _)| name).collect();
    for part in ["main.sqlite", "main.sqlite-wal", "copy.sqlite"] {
        assert!(names.iter().any(|name| name.ends_with(part)), "{part} is searched too: {names:?}");
    }
    site.lists().await;
    site.assert_clean("after a kill");
    // What was searched is where it would stand: once the store is opened up, it does.
    site.cli(&["rotate-key", "--off"]).await;
    let marks = Search::new(MARKED.iter().flat_map(Marked::values));
    let store = std::fs::read(site.path("data/main.sqlite")).unwrap();
    assert!(marks.find(&store).is_some(), "an open store holds marks");
}

/// The binary at work while the requests of one kind are answered with one class of errors.
async fn under(name: &str, hit: Hit, statuses: &'static [u16], format: &str) {
    let site = Site::new(format).await;
    if hit == Hit::Reads {
        // Reads must have led somewhere before they fail.
        let mut running = site.run().await;
        site.until("some arrive", async || site.openmrs.patients().len() > HALF + 10).await;
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }
    for echo in &site.echoes {
        *echo.hit.lock().unwrap() = Some((hit, statuses));
    }
    let mut running = site.run().await;
    let url = running.url.clone();
    let halts = statuses.iter().any(|s| matches!(s, 302 | 401 | 403));
    site.until("enough requests were hit", async || {
        let ready: Value = reqwest::get(format!("{url}/health/ready")).await.unwrap().json().await.unwrap();
        let systems = &ready["bridges"][0]["systems"];
        let stopped = ["cht", "openmrs"].iter().any(|s| systems[s] != "up");
        let counts = site.echoes.each_ref().map(|echo| echo.count.load(Ordering::SeqCst));
        let enough = if hit == Hit::Logins || halts { 4 } else { 60 };
        counts.iter().all(|count| *count > 0) && (stopped || counts.iter().sum::<usize>() >= enough)
    })
    .await;
    site.pages(&url).await;
    site.lists().await;
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    site.cli(&["status"]).await;
    site.cli(&["dead-letters", "list"]).await;
    site.assert_clean(name);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_writes_show_nobody() {
    under("refused writes", Hit::Writes, &[400, 404, 409, 413, 415, 422], "json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_writes_show_nobody() {
    under("failing writes", Hit::Writes, &[500, 429, 502, 503, 504], "text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_without_a_right_show_nobody() {
    for statuses in [&[401][..], &[403], &[302]] {
        under("writes without a right", Hit::Writes, statuses, "text").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_are_answered_with_something_else_show_nobody() {
    under("odd answers to writes", Hit::Writes, &[200, 201, 204], "json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_reads_show_nobody() {
    under("failing reads", Hit::Reads, &[500, 400, 429, 503, 404, 410], "text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_are_answered_with_something_else_show_nobody() {
    under("odd answers to reads", Hit::Reads, &[200], "json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_fail_show_nobody() {
    for statuses in [&[401, 400][..], &[200, 302, 500, 429]] {
        under("logins", Hit::Logins, statuses, "text").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_show_nobody() {
    let site = Site::new("json").await;
    let running = site.run().await;
    for (n, faults) in site.faults.iter().enumerate() {
        faults.set(Plan::mishaps(n as u64, 0.2, None, None, 1_500));
    }
    let kinds = [
        "drop_before",
        "drop_after",
        "apply_later",
        "status",
        "status_applied",
        "fake_success",
        "reset",
        "half_open",
    ];
    site.until("every mishap befell both systems", async || {
        site.faults.iter().all(|f| kinds.iter().all(|kind| f.requests().by_action.contains_key(kind)))
    })
    .await;
    site.pages(&running.url).await;
    site.lists().await;
    drop(running);
    site.assert_clean("broken connections");
}
