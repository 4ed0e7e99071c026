//! The binary as an operator meets it: keys, reload, administration while it runs and after, and a dry run that writes
//! nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::clock::Clock;
use test_support::fault::Faults;
use test_support::openmrs::{CONNECTOR, LOCATION, OPENMRS_ID, SOURCE};
use test_support::process::StandIn;
use test_support::serve::Server;
use test_support::{cht, openmrs};

const READS: [&str; 6] = ["_all_docs", "_find", "_changes", "_bulk_get", "_session", "hydrate"];

struct Site {
    folder: TempDir,
    cht: Server,
    openmrs: Server,
    patients: Arc<openmrs::OpenMrs>,
    writes: Arc<Mutex<Vec<String>>>,
}

/// Notes everything that is not a read.
fn watched(router: axum::Router, writes: &Arc<Mutex<Vec<String>>>) -> axum::Router {
    let writes = writes.clone();
    router.layer(from_fn(move |request: Request, next: Next| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let last = path.rsplit('/').next().unwrap_or_default();
        let reads = matches!(method.as_str(), "GET" | "HEAD") || method == "POST" && READS.contains(&last);
        if !reads {
            writes.lock().unwrap().push(format!("{method} {path}"));
        }
        next.run(request)
    }))
}

impl Site {
    async fn new() -> Self {
        let writes = Arc::default();
        let clock = Clock::real();
        let cht = cht::Cht::new(cht::Options::default(), clock.clone());
        let patients = openmrs::OpenMrs::new(openmrs::Options::default(), clock.clone());
        let cht = watched(cht.router(), &writes);
        let cht = Server::start(cht, Faults::none(), clock.clone(), 0).await.unwrap();
        let openmrs = watched(patients.router(), &writes);
        let openmrs = Server::start(openmrs, Faults::none(), clock, 0).await.unwrap();
        Self { folder: tempfile::tempdir().unwrap(), cht, openmrs, patients, writes }.configured()
    }

    fn configured(self) -> Self {
        self.configure("retention", json!({}));
        self
    }

    /// Writes the configuration with one more setting.
    fn configure(&self, key: &str, value: Value) {
        let mut text = json!({
            "store": { "sqlite": "./data" },
            "encryption": { "key_file": "./data/key" },
            "http": { "listen": "127.0.0.1:0" },
            "log": { "level": "warn" },
            "bridges": [{
                "name": "main",
                "begin": "everything",
                "cht": { "url": self.cht.url, "user": "medic", "password": "${SITE_PASSWORD}", "create": { "people": false } },
                "partner": {
                    "url": format!("{}/openmrs", self.openmrs.url), "user": CONNECTOR.0, "password": CONNECTOR.1,
                    "location": LOCATION, "single_name_family": "-",
                    "identifiers": { "openmrs": { "type": OPENMRS_ID, "source": SOURCE } },
                },
            }],
        });
        text[key] = value;
        std::fs::write(self.path("connector.yaml"), text.to_string()).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_connector-openmrs"));
        command.args(args).arg("--config").arg(self.folder.path().join("connector.yaml"));
        command.env("SITE_PASSWORD", "password");
        command
    }

    async fn output(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    async fn json(&self, args: &[&str]) -> Value {
        let output = self.output(args).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn run(&self) -> StandIn {
        let mut command = self.command(&["run", "--make-key"]);
        tokio::task::spawn_blocking(move || StandIn::run(&mut command)).await.unwrap().unwrap()
    }

    async fn person(&self, id: &str) {
        let doc = json!({
            "type": "person", "name": "Amina Otieno", "sex": "female", "date_of_birth": "1990-01-02", "reported_date": 1,
        });
        let put = reqwest::Client::new()
            .put(format!("{}/medic/{id}", self.cht.url))
            .basic_auth("medic", Some("password"));
        assert!(put.json(&doc).send().await.unwrap().status().is_success());
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

async fn ready(url: &str) -> Value {
    let answer = reqwest::get(format!("{url}/health/ready")).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    answer.json().await.unwrap()
}

/// Waits until the process says this about its configuration; how long that may take is no part of the test.
async fn configuration_is(url: &str, wanted: &str) {
    let begun = Instant::now();
    while ready(url).await["configuration"] != wanted {
        assert!(begun.elapsed() < Duration::from_secs(60), "never {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_what_would_be_sent_and_sends_only_reads() {
    let site = Site::new().await;
    for id in ["p1", "p2", "p3"] {
        site.person(id).await;
    }
    site.writes.lock().unwrap().clear();
    let before = site.patients.counts().patients;
    let report = site.json(&["dry-run"]).await;
    let systems = report["bridges"][0]["systems"].as_array().unwrap();
    let openmrs = systems.iter().find(|s| s["system"] == "openmrs").unwrap();
    assert_eq!(openmrs["would_be_sent"], 3, "{report}");
    assert_eq!(*site.writes.lock().unwrap(), Vec::<String>::new());
    assert_eq!(site.patients.counts().patients, before);
    assert!(!site.path("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nothing_runs_and_a_made_one_is_for_its_owner_only() {
    let site = Site::new().await;
    let output = site.output(&["run"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--make-key"));

    let mut running = site.run().await;
    assert_eq!(mode(&site.path("data/key")), 0o600);
    assert_eq!(mode(&site.path("data/admin")), 0o600);

    let over_http = site.json(&["links", "list"]).await;
    let backup = site.path("copy.sqlite");
    site.json(&["backup", backup.to_str().unwrap()]).await;
    assert!(backup.exists());
    assert!(running.terminate().unwrap().success());
    assert_eq!(site.json(&["links", "list"]).await, over_http);

    let other = site.path("data/key2");
    site.json(&["rotate-key", other.to_str().unwrap()]).await;
    let refused = site.output(&["status"]).await;
    assert_eq!(refused.status.code(), Some(1));
    std::fs::rename(&other, site.path("data/key")).unwrap();
    site.json(&["status"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_new_configuration_is_refused_and_the_last_good_one_runs_on() {
    let site = Site::new().await;
    let mut running = site.run().await;
    configuration_is(&running.url, "up").await;
    site.configure("nonsense", json!(1));
    configuration_is(&running.url, "refused").await;
    assert_eq!(ready(&running.url).await["bridges"][0]["bridge"], "main");
    site.configure("retention", json!({ "attempts": "1d" }));
    configuration_is(&running.url, "up").await;
    assert!(running.terminate().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_reach_a_collector_and_name_nobody() {
    let spans: Arc<Mutex<Vec<u8>>> = Arc::default();
    let taken = spans.clone();
    let collector = axum::Router::new().route(
        "/v1/traces",
        axum::routing::post(async move |body: axum::body::Bytes| {
            taken.lock().unwrap().extend_from_slice(&body)
        }),
    );
    let collector = Server::start(collector, Faults::none(), Clock::real(), 0).await.unwrap();
    let site = Site::new().await;
    site.configure(
        "log",
        json!({ "level": "warn", "otlp": { "url": format!("{}/v1/traces", collector.url) } }),
    );
    site.person("p1").await;
    let mut running = site.run().await;
    let begun = Instant::now();
    while site.patients.counts().patients == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the person never arrives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::task::spawn_blocking(move || running.terminate().unwrap()).await.unwrap();
    let spans = String::from_utf8_lossy(&spans.lock().unwrap()).into_owned();
    for name in ["poll", "carry_out", "send", "openmrs"] {
        assert!(spans.contains(name), "no span says {name}");
    }
    for mark in ["Amina", "Otieno", "1990-01-02", "p1"] {
        assert!(!spans.contains(mark), "a span says {mark}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_a_bad_call_from_a_bad_site() {
    let site = Site::new().await;
    assert_eq!(site.output(&["check", "--offline"]).await.status.code(), Some(0));
    assert_eq!(site.output(&["check"]).await.status.code(), Some(0));
    assert_eq!(site.output(&["forget", "nobody"]).await.status.code(), Some(2));
    site.configure("nonsense", json!(1));
    assert_eq!(site.output(&["check", "--offline"]).await.status.code(), Some(2));
    let site = site.configured();
    let output = site.output(&["check", "--set", "bridges.0.cht.user=nobody"]).await;
    assert_eq!(output.status.code(), Some(1));
    let schema = site.json(&["schema"]).await;
    assert!(schema["properties"]["bridges"].is_object());
    assert_eq!(site.json(&["version"]).await["connector"], "openmrs");
}
