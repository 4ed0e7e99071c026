//! Configuration: everything that is wrong at once, by path, without a secret; sources over each other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use connector_core::clock::ManualClock;
use connector_core::config::{ConfigReport, Loaded, Secret, Sources, load, reference_markdown};
use connector_core::connector::{Capabilities, Connector, ConnectorConfig, Finding};
use connector_core::transport::Wiring;
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::Deserialize;

const CANARY: &str = "hush-4711";

/// A partner with one secret and one rule of its own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fake {
    /// What it logs in with.
    token: Secret,
    /// At most 9.
    #[serde(default)]
    weight: u32,
    /// A list.
    #[serde(default)]
    kinds: Vec<String>,
}

#[derive(Debug)]
struct Silent(String);

#[async_trait]
impl Connector for Silent {
    fn capabilities(&self) -> Capabilities {
        Capabilities { holds: vec![self.0.clone()], ..Capabilities::default() }
    }

    async fn check(&self) -> Vec<Finding> {
        vec![]
    }
}

impl ConnectorConfig for Fake {
    const NAME: &'static str = "fake";

    fn build(self, _: &str, _: &Wiring, report: &mut ConfigReport) -> Option<Arc<dyn Connector>> {
        if self.weight > 9 {
            report.add("weight", "is too much");
            return None;
        }
        Some(Arc::new(Silent(format!("{}/{}", self.token.secret().expose_secret(), self.kinds.join(",")))))
    }
}

const GOOD: &str = "
store: memory
encryption: off
bridges:
  - name: main
    cht: { url: 'http://127.0.0.1:1', user: u, password: pw, place: { default: area } }
    partner: { token: t }
";

fn sources(folder: &Path, text: &str) -> Sources {
    let file = folder.join("connector.yaml");
    std::fs::write(&file, text).unwrap();
    Sources { file, ..Sources::default() }
}

fn go(sources: &Sources) -> Result<Loaded, Vec<String>> {
    let wiring = Wiring::new(
        Arc::new(ManualClock::new(0)),
        Arc::new(|_, _| {
            Ok(Arc::new(cht_core_client::transport::HttpTransport::builder().build().unwrap()) as _)
        }),
    );
    load::<Fake>(sources, &wiring).map_err(|all| all.iter().map(ToString::to_string).collect())
}

fn problems(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    go(&sources(dir.path(), text)).unwrap_err()
}

fn token(loaded: &Loaded) -> String {
    loaded.bridges[0].partner.1.capabilities().holds[0].clone()
}

#[test]
fn a_good_configuration_loads_with_its_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = go(&sources(dir.path(), GOOD)).unwrap();
    assert_eq!((loaded.threads, loaded.http.listen.as_str()), (2, "127.0.0.1:8080"));
    assert_eq!((loaded.bridges[0].cht.0.as_str(), loaded.bridges[0].partner.0.as_str()), ("cht", "fake"));
}

#[test]
fn everything_wrong_is_told_at_once_and_by_path() {
    let found = problems(
        "
store: { sqlite: ./data, postgress: x }
encryption: { key: x }
http: { listen: 7, head_timeout: 5 parsecs, head: 16 }
log: { level: loud }
retention: { attempts: 30 }
threads: 0
colour: blue
bridges:
  - name: main
    begin: yesterday
    cht: { user: u, pasword: p, password: 12345, feed: { page: many } }
    partner: { token: t, weight: 10 }
  - cht: { url: 'http://127.0.0.1:1', user: '', password: p }
    partner: { weight: -1, kinds: one }
    tuning: { workers: 0 }
",
    );
    let paths = [
        "encryption.key: is not known here",
        "http.listen: expected a text",
        "http.head_timeout: `5 parsecs`",
        "http.head: expected a size",
        "log.level: expected",
        "retention.attempts: expected a time",
        "threads: 0 is out of range; it must be at least 1",
        "colour: is not known here; known are",
        "bridges[0].begin: expected",
        "bridges[0].cht.pasword: is not known here",
        "bridges[0].cht.password: expected a text in quotes",
        "bridges[0].cht.url: is missing",
        "bridges[0].cht.feed.page: expected a whole number",
        "bridges[0].partner.weight: is too much",
        "bridges[1].name: is missing",
        "bridges[1].cht.user: ",
        "bridges[1].partner.token: is missing",
        "bridges[1].partner.weight: -1 is out of range",
        "bridges[1].partner.kinds: expected a list",
        "bridges[1].tuning.workers: 0 is out of range",
    ];
    for path in paths {
        assert!(found.iter().any(|p| p.starts_with(path)), "{path} is not among\n{}", found.join("\n"));
    }
    assert!(found.iter().any(|p| p.starts_with("store")), "{}", found.join("\n"));
    assert!(!found.join("\n").contains("12345"));
}

#[test]
fn names_of_bridges_and_systems_are_checked_together() {
    let twice = format!("{GOOD}{}", GOOD.split_once("bridges:").unwrap().1);
    assert!(problems(&twice).iter().any(|p| p.starts_with("bridges[1].name: is the name of another")));
    let bad = GOOD.replace("name: main", "name: Main Street");
    assert!(problems(&bad)[0].starts_with("bridges[0].name: "));
    let same = GOOD.replace("    partner:", "    names: { partner: cht }\n    partner:");
    assert!(problems(&same)[0].starts_with("bridges[0].names: both systems have the same name"));
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = sources(dir.path(), GOOD);
    let set = [
        ("CHT_CONNECTOR__THREADS", "3"),
        ("CHT_CONNECTOR__HTTP__HEAD_TIMEOUT", "7s"),
        ("CHT_CONNECTOR__BRIDGES__0__PARTNER__TOKEN", "12345"),
        ("CHT_CONNECTOR__BRIDGES__0__PARTNER__KINDS", "[a, b]"),
        ("CHT_CONNECTOR__BRIDGES__0__NAME", "north"),
    ];
    sources.env = set.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    sources.set = vec![("bridges.0.name".into(), "south".into())];
    let loaded = go(&sources).unwrap();
    assert_eq!(loaded.threads, 3);
    assert_eq!(loaded.http.head_timeout.0.as_secs(), 7);
    assert_eq!(token(&loaded), "12345/a,b");
    assert_eq!(loaded.bridges[0].name, "south");

    sources.env =
        BTreeMap::from([("CHT_CONNECTOR__BRIDGES__0__PARTNER__WEIGHT".to_owned(), CANARY.to_owned())]);
    let found = go(&sources).unwrap_err().join("\n");
    assert!(found.starts_with("bridges[0].partner.weight: ") && !found.contains(CANARY), "{found}");
}

#[test]
fn references_are_followed_in_secrets_only_and_must_lead_somewhere() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "from the file\n").unwrap();
    let loaded =
        go(&sources(dir.path(), &GOOD.replace("token: t", "token: file:token, kinds: ['${HOME}']"))).unwrap();
    assert_eq!(token(&loaded), "from the file/${HOME}");
    let found = problems(&GOOD.replace("token: t", "token: '${NOT_SET}'"));
    assert_eq!(found, ["bridges[0].partner.token: environment variable NOT_SET is not set"]);
}

#[test]
fn no_problem_shows_a_secret_wherever_the_mistake_is() {
    let here = |from: &str, to: &str| problems(&GOOD.replace(from, to));
    let all = [
        here("token: t", &format!("tokenn: {CANARY}")),
        here("token: t", &format!("token: [{CANARY}]")),
        here("token: t", &format!("token: {{ is: {CANARY} }}")),
        here("token: t", &format!("token: t, weight: {CANARY}")),
        here("password: pw", &format!("password: '${{{CANARY}'")),
        here("password: pw", &format!("password: {CANARY}: x")),
        here("http://127.0.0.1:1", &format!("ftp://u:{CANARY}@127.0.0.1:1")),
        here("http://127.0.0.1:1", &format!("http://u:{CANARY}@127.0.0.1:1")),
        here("store: memory", &format!("store: {{ postgres: {{ url: {CANARY}, pool: 0 }} }}")),
        here("store: memory", &format!("store: \"{CANARY}")),
        here("encryption: off", &format!("encryption: {CANARY}")),
    ];
    for found in all {
        assert!(!found.is_empty());
        assert!(!format!("{found:?}").contains(CANARY), "{found:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let loaded =
        go(&sources(dir.path(), &GOOD.replace("password: pw", &format!("password: {CANARY}")))).unwrap();
    assert!(!format!("{loaded:?}").contains(CANARY));
}

#[test]
fn the_reference_names_every_setting_with_its_default() {
    let text = reference_markdown::<Fake>();
    for row in [
        "| `threads` | a whole number | `2` |",
        "| `http.listen` | a text | `127.0.0.1:8080` |",
        "`bridges[].partner.token`",
        "`bridges[].cht.writes.batch`",
        "`retention.bodies`",
        "`90d`",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
}
