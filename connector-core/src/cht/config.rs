//! What an operator writes about a CHT.
//!
//! Building finds every problem at once, by path, and asks nobody: no clock, disk or network.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use cht_core_client::{BuildError, ChtClient, Credentials};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Cht;
use super::changes::Shape;
use super::fields::{DEFAULTS, FieldMap};
use super::pace::Pace;
use super::place::Placement;
use crate::change::field;
use crate::config::{ConfigReport, Secret};
use crate::connector::{Connector, ConnectorConfig};
use crate::transport::{HttpOptions, Wiring};

/// One CHT. Five lines are enough: `url`, `user`, `password`, `place.default` and, where people other than patients are
/// stored as persons too, `only`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChtConfig {
    /// Where it is, as its users see it: `https://cht.example`.
    pub url: String,
    /// An online user of its own, with the permission `can_edit`.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The main database.
    #[serde(default = "medic")]
    pub database: String,
    /// Contact types that are people.
    #[serde(default = "person")]
    pub person_types: Vec<String>,
    /// Only people whose document has one of these values at this path are patients: `role: [patient]`.
    #[serde(default)]
    pub only: BTreeMap<String, Vec<String>>,
    /// Canonical field to document path, beside the usual ones: `identifier.national: national_id`. An empty path takes a
    /// usual one out.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Canonical fields that are read and never written here.
    #[serde(default)]
    pub read_only: Vec<String>,
    /// How a contact carries the id of its counterpart.
    #[serde(default)]
    pub external_id: ExternalId,
    /// Contacts made here.
    #[serde(default)]
    pub create: Create,
    /// Under which place a new contact stands.
    #[serde(default)]
    pub place: Placement,
    /// Types of documents that go out whole: `data_record`, `clinic`, `person`.
    #[serde(default)]
    pub documents: Vec<String>,
    /// How people are looked for who may be the same.
    #[serde(default)]
    pub search: Search,
    /// How the changes feed is read.
    #[serde(default)]
    pub feed: FeedOptions,
    /// How fast is written.
    #[serde(default)]
    pub writes: Writes,
    /// Connections and times.
    #[serde(default)]
    pub http: Http,
}

/// How a contact carries the id of its counterpart at a partner.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExternalId {
    /// The partner system whose ids stand in `external_id` as they are. Ids of any other are `<system>:<id>`.
    pub plain: Option<String>,
}

/// Contacts made here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Create {
    /// Whether people may be made at all for whom no counterpart is found.
    pub people: bool,
    /// Their contact type; one of `person_types`.
    #[serde(rename = "type")]
    pub type_id: String,
    /// Further fields of a new contact, as they are: `role: patient`.
    pub set: Map<String, Value>,
}

impl Default for Create {
    fn default() -> Self {
        Self { people: true, type_id: "person".to_owned(), set: Map::new() }
    }
}

/// How people are looked for who may be the same.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// By phone number, over the CHT's own look-up.
    pub phone: bool,
    /// By name and year of birth, and by identifiers without an index. CouchDB reads its whole database for it, once for
    /// each new person: for small databases only.
    pub scan: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self { phone: true, scan: false }
    }
}

/// How the changes feed is read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FeedOptions {
    /// Most changes in one answer.
    pub page: usize,
    /// Pause between two polls that found nothing more.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String")]
    pub every: Duration,
    /// How long the CHT holds a poll open until something changes; nothing is `0s`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String")]
    pub longpoll: Duration,
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self { page: 500, every: Duration::from_secs(1), longpoll: Duration::ZERO }
    }
}

/// How fast is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Writes {
    /// Most documents in one request. Fewer are sent while the CHT is slow.
    pub batch: usize,
    /// A request that takes longer halves the next ones.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String")]
    pub slow: Duration,
    /// Nothing is written while more changes than this wait for sentinel; 0 is no limit.
    pub backlog: u64,
    /// How long is waited then before asking again.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String")]
    pub pause: Duration,
    /// How long a request without an answer may still take effect.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String")]
    pub quiet: Duration,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            batch: 100,
            slow: Duration::from_secs(2),
            backlog: 20_000,
            pause: Duration::from_secs(30),
            quiet: Duration::from_secs(60),
        }
    }
}

/// Connections and times.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Time for a whole request.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// The longest answer that is read into memory, in bytes. A longer page of changes is asked for in smaller ones.
    pub longest: usize,
    /// Further root certificate, PEM.
    pub root_certificate: Option<String>,
    /// Most requests at a time.
    pub concurrency: usize,
    /// Most requests a second; 0 is no limit.
    pub rate: u32,
    /// First pause after a halt.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String")]
    pub probe: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            longest: 64 << 20,
            root_certificate: None,
            concurrency: 4,
            rate: 0,
            probe: Duration::from_secs(60),
        }
    }
}

fn medic() -> String {
    "medic".to_owned()
}

fn person() -> Vec<String> {
    vec!["person".to_owned()]
}

impl ChtConfig {
    fn problems(&self, report: &mut ConfigReport) {
        if self.person_types.is_empty() {
            report.add("person_types", "is empty; name the contact types that are people, such as `person`");
        } else if !self.person_types.contains(&self.create.type_id) {
            report.add("create.type", "is none of `person_types`; add it there or choose another");
        }
        if self.external_id.plain.as_deref().is_some_and(|system| system.is_empty() || system.contains(':')) {
            report.add(
                "external_id.plain",
                "is not the name of a system; give one as in `partner`, without a colon",
            );
        }
        for (name, path) in &self.fields {
            if !is_canonical(name) {
                let usual = DEFAULTS.map(|(name, _)| name).join(", ");
                report.add(
                    &format!("fields.{name}"),
                    format!("is not a field of a person; use {usual}, or identifier., address., attribute. and a name"),
                );
            }
            if path.split('.').any(str::is_empty) && !path.is_empty() {
                report.add(&format!("fields.{name}"), "is not a path; write it as `a.b`");
            }
        }
        for name in self.read_only.iter().filter(|name| !is_canonical(name)) {
            report.add("read_only", format!("`{name}` is not a field of a person"));
        }
        for (path, values) in &self.only {
            let set = self.create.set.get(path).and_then(Value::as_str);
            let stays = set.is_some_and(|set| values.iter().any(|value| value == set));
            if self.create.people && !stays {
                let text = "a contact made here would be no patient by `only`; set one of its values here";
                report.add(&format!("create.set.{path}"), text);
            }
        }
        for key in self.create.set.keys().filter(|key| FieldMap::is_own(key)) {
            report.add(&format!("create.set.{key}"), "is set by the connector itself; take it out");
        }
        for (index, rule) in self.place.rules.iter().enumerate() {
            let at = format!("place.rules[{index}]");
            if rule.values.is_empty() && rule.external_id_prefix.is_none() {
                report.add(&at, "finds nothing; give `values` or `external_id_prefix`");
            }
            if !is_canonical(&rule.field) {
                report.add(&format!("{at}.field"), "is not a field of a person, such as `address.village`");
            }
        }
        if self.place.looks_up() && self.place.types.is_empty() {
            report
                .add("place.types", "is empty; name the place types that `external_id_prefix` looks through");
        }
        if !(1..=1000).contains(&self.writes.batch) {
            report.add("writes.batch", "must be 1 to 1000; 100 suits most servers");
        }
        for (path, value) in [("http.concurrency", self.http.concurrency), ("feed.page", self.feed.page)] {
            if value == 0 {
                report.add(path, "must be at least 1");
            }
        }
        if self.http.timeout.is_zero() {
            report.add("http.timeout", "must be longer than 0s");
        }
        if self.feed.longpoll >= self.http.timeout {
            report.add("feed.longpoll", "must be shorter than http.timeout");
        }
    }
}

fn is_canonical(name: &str) -> bool {
    DEFAULTS.iter().any(|(usual, _)| *usual == name)
        || [field::IDENTIFIER, field::ADDRESS, field::ATTRIBUTE]
            .iter()
            .any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()))
}

impl ConnectorConfig for ChtConfig {
    const NAME: &'static str = "cht";

    fn build(self, name: &str, wiring: &Wiring, report: &mut ConfigReport) -> Option<Arc<dyn Connector>> {
        let mut found = ConfigReport::default();
        self.problems(&mut found);
        let options = HttpOptions {
            timeout: self.http.timeout,
            connections: self.http.concurrency,
            root_certificate: self.http.root_certificate.clone().map(String::into_bytes),
            ..HttpOptions::default()
        };
        let client = wiring.transport(name, &options).map_err(|text| ("http", text)).and_then(|transport| {
            ChtClient::builder(&self.url)
                .credentials(Credentials::session(&self.user, self.password.secret().clone()))
                .database(&self.database)
                .max_body(self.http.longest)
                .transport(transport)
                .build()
                .map_err(|error| (path_of(&error), error.to_string()))
        });
        let client = match client {
            Ok(client) => Some(client),
            Err((path, text)) => {
                found.add(path, text);
                None
            }
        };
        for problem in found.problems() {
            report.add(&problem.path, problem.text.clone());
        }
        let client = client.filter(|_| found.is_clean())?;
        let fields = FieldMap::new(&self.fields, &self.read_only);
        Some(Arc::new(Cht {
            client,
            shape: Shape {
                system: name.to_owned(),
                person_types: self.person_types,
                only: self.only,
                documents: self.documents,
                plain: self.external_id.plain,
                fields,
            },
            pace: Pace::new(&self.writes),
            encrypted: !self.url.starts_with("http:"),
            create: self.create,
            placement: self.place,
            search: self.search,
            page: AtomicUsize::new(self.feed.page),
            feed: self.feed,
            writes: self.writes,
            http: self.http,
            places: RwLock::default(),
        }))
    }
}

fn path_of(error: &BuildError) -> &'static str {
    match error {
        BuildError::EmptyUser | BuildError::ColonInUser => "user",
        BuildError::Credentials => "password",
        BuildError::Database => "database",
        BuildError::Transport(_) => "http",
        _ => "url",
    }
}
