//! What the operator writes around the two systems. Every default is here; the reference is made from this file.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Period, Secret, Size};
use crate::cht::ChtConfig;
use crate::reconcile::Policies;
use crate::runtime::{Begin, BridgeOptions, Retention};

/// The configuration of a connector process.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration<C> {
    /// Where what is under way is kept.
    pub store: StorePlace,
    /// The key that values at rest are sealed with. Without one nothing runs, unless this says `off`.
    pub encryption: Option<Encryption>,
    /// The process's own HTTP: health, metrics, entrances, administration.
    #[serde(default)]
    pub http: HttpSettings,
    /// What is logged, to stderr.
    #[serde(default)]
    pub log: Log,
    /// How long things are kept.
    #[serde(default)]
    pub retention: Keep,
    /// Threads that do the work.
    #[serde(default = "threads")]
    #[schemars(range(min = 1, max = 64))]
    pub threads: usize,
    /// Pairs of one CHT and one partner.
    #[schemars(length(min = 1))]
    pub bridges: Vec<Bridge<C>>,
}

fn threads() -> usize {
    2
}

/// Where what is under way is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StorePlace {
    /// Nowhere: gone with the process. For trials.
    Memory,
    /// A folder, in which each bridge has a file `<bridge>.sqlite`. For one process.
    Sqlite(PathBuf),
    /// A PostgreSQL database, in which each bridge has a schema `cht_<bridge>`. Replicas share it.
    Postgres(PostgresPlace),
}

/// A PostgreSQL database.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresPlace {
    /// `postgres://user:password@host/database`.
    pub url: Secret,
    /// Most connections for each bridge.
    #[serde(default = "pool")]
    #[schemars(range(min = 1))]
    pub pool: usize,
}

impl PartialEq for PostgresPlace {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret;
        self.url.secret().expose_secret() == other.url.secret().expose_secret() && self.pool == other.pool
    }
}

impl Eq for PostgresPlace {}

fn pool() -> usize {
    8
}

/// The key that values at rest are sealed with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Nothing is sealed.
    Off,
    /// A file with 64 hexadecimal digits, made by `run --make-key`.
    KeyFile(PathBuf),
}

/// The process's own HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Address and port; port 0 takes any that is free.
    pub listen: String,
    /// Most connections at a time.
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// Longest head of a request; at least 8KiB.
    pub head: Size,
    /// Time for the head of a request, and longest time that a connection stands idle.
    pub head_timeout: Period,
    /// Time for the body of a request.
    pub body_timeout: Period,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            connections: 1_024,
            head: Size(16 << 10),
            head_timeout: Period(Duration::from_secs(30)),
            body_timeout: Period(Duration::from_secs(30)),
        }
    }
}

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// One JSON object a line, or text.
    pub format: LogFormat,
    /// The least important level that is logged.
    pub level: Level,
    /// Where traces go; none are made without it.
    pub otlp: Option<Otlp>,
}

/// A collector of OpenTelemetry traces.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// Its address for spans in protobuf over HTTP, with the path: `http://localhost:4318/v1/traces`.
    #[schemars(url)]
    pub url: String,
    /// Share of the traces that are sent, 0 to 1.
    #[serde(default = "all")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
}

fn all() -> f64 {
    1.0
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text.
    #[default]
    Text,
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Something went wrong and is dealt with.
    Warn,
    /// What an operator wants to see.
    #[default]
    Info,
    /// What a developer wants to see.
    Debug,
}

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Attempts, and identities by which a repeated delivery is recognised.
    pub attempts: Period,
    /// Dead letters, evidence of decided reviews, values that lost a conflict.
    pub bodies: Period,
    /// Changes that wait for the counterpart of another record; then they are dead letters.
    pub waiting: Period,
}

impl Default for Keep {
    fn default() -> Self {
        let usual = Retention::default();
        Self {
            attempts: Period(usual.attempts),
            bodies: Period(usual.bodies),
            waiting: Period(usual.waiting),
        }
    }
}

impl From<Keep> for Retention {
    fn from(keep: Keep) -> Self {
        Self { attempts: keep.attempts.0, bodies: keep.bodies.0, waiting: keep.waiting.0 }
    }
}

/// A pair of one CHT and one partner.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bridge<C> {
    /// Its name: lower-case letters, digits and underscores. Stands in paths, logs and metrics.
    pub name: String,
    /// Where a first start begins.
    #[serde(default)]
    pub begin: Start,
    /// Who wins when both ends changed a field.
    #[serde(default)]
    pub conflicts: Policies,
    /// What the systems are called in records, logs and metrics.
    #[serde(default)]
    pub names: Names,
    /// The CHT.
    pub cht: ChtConfig,
    /// The partner.
    pub partner: C,
    /// How the work is cut. The defaults suit nearly everybody.
    #[serde(default)]
    pub tuning: Tuning,
}

/// Where a first start begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With what changes from now on.
    #[default]
    Now,
    /// With everything that is there.
    Everything,
}

impl From<Start> for Begin {
    fn from(start: Start) -> Self {
        match start {
            Start::Now => Begin::Now,
            Start::Everything => Begin::Everything,
        }
    }
}

/// What the systems are called. Never changed once records are known by them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    /// The CHT; `cht` unless given.
    pub cht: Option<String>,
    /// The partner; the kind of system unless given.
    pub partner: Option<String>,
}

/// How the work is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// How long a claim on a row holds; every request of it ends before.
    pub lease: Period,
    /// Pause of a row that must wait for another.
    pub aside: Period,
    /// Most records of one poll.
    #[schemars(range(min = 1, max = 10_000))]
    pub page: usize,
    /// Most rows that a worker takes at a time.
    #[schemars(range(min = 1, max = 10_000))]
    pub take: usize,
    /// Workers for each system.
    #[schemars(range(min = 1, max = 256))]
    pub workers: usize,
    /// Rows under way above which entrances answer 503. Polling pauses at a tenth of them.
    #[schemars(range(min = 1))]
    pub high_water: i64,
}

impl Default for Tuning {
    fn default() -> Self {
        let usual = BridgeOptions::default();
        Self {
            lease: Period(usual.lease),
            aside: Period(usual.aside),
            page: usual.page,
            take: usual.take,
            workers: usual.workers,
            high_water: usual.high_water,
        }
    }
}
