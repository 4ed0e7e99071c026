//! The seam. Every system, the CHT included, is a [`Connector`]: it reads its own records into canonical changes and
//! turns canonical changes into its own commands.
//!
//! A connector never sleeps, retries, stores, reads a clock or logs a body; the core does. Its HTTP goes through the
//! transport that [`Wiring`] hands out, which lets no byte of an attempt leave after the attempt's deadline.
//! What the core promises in return is in `docs/spec/connector.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::change::{Change, Flow, Patient, Record, RecordId};
use crate::config::ConfigReport;
use crate::http::endpoint::Endpoint;
use crate::transport::Wiring;

/// What the operator writes, and how a connector is made of it.
pub trait ConnectorConfig: DeserializeOwned + schemars::JsonSchema {
    /// The connector's name: configuration section, metric label, environment prefix.
    const NAME: &'static str;

    /// Makes the connector of this instance. Pure: no clock, disk, network or await. Every problem goes into `report`
    /// with its path; `None` if there was one.
    fn build(self, name: &str, wiring: &Wiring, report: &mut ConfigReport) -> Option<Arc<dyn Connector>>;
}

/// One system. All methods but [`capabilities`](Connector::capabilities) and [`check`](Connector::check) have defaults.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What this instance does, from its configuration.
    fn capabilities(&self) -> Capabilities;

    /// Reachable, authenticated, the right version, the needed metadata there? Learns what `command` needs.
    async fn check(&self) -> Vec<Finding>;

    /// The records of one feed after the cursor, oldest first.
    async fn poll(&self, _feed: &str, _after: Option<&str>, _limit: usize) -> Result<Page, Fault> {
        Err(Fault::Unsupported)
    }

    /// Where a feed stands now, for a first start that begins with what comes next. `None`: at its beginning.
    async fn now(&self, _feed: &str) -> Result<Option<String>, Fault> {
        Ok(None)
    }

    /// These records as they are now, in order; `None` where there is none.
    async fn fetch(&self, _ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        Err(Fault::Unsupported)
    }

    /// People of this system who may be the given one.
    async fn candidates(&self, _person: &Patient) -> Result<Vec<Record>, Fault> {
        Ok(vec![])
    }

    /// The changes that a record stands for. Pure.
    fn changes(&self, _record: &Record) -> Result<Vec<Change>, Reject> {
        Ok(vec![])
    }

    /// HTTP entrances. The core authenticates, limits, stores what they give, and only then answers.
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![]
    }

    /// Which destinations of this system want the change. Pure.
    fn destinations(&self, change: &Change) -> Result<Vec<Destination>, Reject> {
        let takes = self.capabilities().takes.contains(&change.body.flow());
        Ok(takes.then(Destination::default).into_iter().collect())
    }

    /// The command that carries the change out, or `None` when the system already agrees. Pure.
    fn command(&self, _change: &Change, _known: &Known<'_>) -> Result<Option<Command>, Reject> {
        Err(Reject::new("this system takes no commands"))
    }

    /// At most one write for each task; one outcome for each, in order. A status proves nothing: `Done` needs the
    /// expected id or content, in the answer or read back after it; an error after a write is settled by reading, or
    /// is `Unknown`.
    async fn deliver(&self, tasks: &[Task]) -> Vec<Outcome> {
        tasks.iter().map(|_| Outcome::Rejected(Reject::new("this system takes no commands"))).collect()
    }

    /// Whether an attempt that ended without an answer took effect.
    async fn confirm(&self, _task: &Task) -> Result<Confirmed, Fault> {
        Ok(Confirmed::Unclear)
    }
}

/// What an instance does.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Flows whose changes come out of it.
    pub gives: Vec<Flow>,
    /// Flows whose changes it takes.
    pub takes: Vec<Flow>,
    /// Places to pull from.
    pub feeds: Vec<Feed>,
    /// Most tasks in one `deliver`, at least 1.
    pub batch: usize,
    /// Most requests at a time, at least 1.
    pub concurrency: usize,
    /// Most requests a second, where there is a limit.
    pub rate: Option<u32>,
    /// How long an unanswered request may still take effect.
    pub quiet: Duration,
    /// First pause after a halt: longer than any lock-out, which every try may extend.
    pub probe: Duration,
    /// Canonical patient fields this system can hold; a name that ends in `.` is a prefix.
    pub holds: Vec<String>,
    /// Whether a person may be created there for whom no counterpart is found.
    pub creates_people: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            gives: vec![],
            takes: vec![],
            feeds: vec![],
            batch: 1,
            concurrency: 8,
            rate: None,
            quiet: Duration::from_secs(60),
            probe: Duration::from_secs(60),
            holds: vec![],
            creates_people: true,
        }
    }
}

impl Capabilities {
    /// Whether the system can hold this canonical field.
    pub fn can_hold(&self, name: &str) -> bool {
        self.holds.iter().any(|h| h == name || (h.ends_with('.') && name.starts_with(h.as_str())))
    }
}

/// A place to pull from, and how often.
///
/// A `whole` feed is a rolling pass over everything: it begins without a cursor and ends with `more: false`. What an
/// earlier pass held and this one did not is fetched: absence is a hint, the fetch decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// Its name within the system.
    pub name: String,
    /// Pause between two polls; for a whole feed, between two passes.
    pub every: Duration,
    /// Whether it is a rolling pass over everything.
    pub whole: bool,
}

/// Where a change goes within a system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// Empty, or one of several that the configuration names.
    pub name: String,
    /// Names that no two open attempts there may share besides their subject: values that the target checks for
    /// uniqueness before it inserts, folded as its look-up folds them.
    pub exclusive: Vec<String>,
}

/// One thing that [`Connector::check`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Whether all is well.
    pub ok: bool,
    /// What was looked at: `login`, `identifier type`, `clock`.
    pub what: String,
    /// What was found and, if not well, what to do. Holds no personal data.
    pub text: String,
}

impl Finding {
    /// All is well.
    pub fn ok(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { ok: true, what: what.into(), text: text.into() }
    }

    /// Something to mend.
    pub fn bad(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { ok: false, what: what.into(), text: text.into() }
    }
}

/// What a poll gave.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Records, each in the normal form that `fetch` gives too.
    pub records: Vec<Record>,
    /// To be fetched: an encounter says that its patient may have changed.
    pub refresh: Vec<RecordId>,
    /// Where the next poll begins.
    pub next: String,
    /// Whether there is more right now; a whole feed's pass ends with `false`.
    pub more: bool,
    /// Rows that could not be read: each becomes a dead letter with its reason.
    pub unreadable: Vec<Unreadable>,
}

/// A row of a feed that could not be read as a record.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its name, as far as it could be made out.
    pub id: RecordId,
    /// What is wrong, by path; holds no values.
    pub reason: String,
}

/// Why reading failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Try again, not before the given time.
    #[error("{reason}")]
    Retry {
        /// As the system asked for.
        after: Option<Duration>,
        /// What happened; holds no personal data.
        reason: String,
    },
    /// Credentials, rights or mapping, or an outage that looks so: nothing goes there but a rare `check`.
    #[error("{0}")]
    Halt(String),
    /// The system does not offer this.
    #[error("not offered by this system")]
    Unsupported,
}

impl Fault {
    /// Try again with the usual pause.
    pub fn retry(reason: impl Into<String>) -> Self {
        Fault::Retry { after: None, reason: reason.into() }
    }
}

/// Why something will never be done as it is. Becomes a dead letter's reason; holds no personal data.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("{reason}")]
pub struct Reject {
    /// What is wrong, where, and what to do.
    pub reason: String,
}

impl Reject {
    /// With this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What the core knows when a change reaches the head of its lane.
#[derive(Debug)]
pub struct Known<'a> {
    /// Milliseconds since 1970.
    pub now: i64,
    /// Counterparts at this system of the change's subject, source and needs.
    pub links: &'a BTreeMap<RecordId, RecordId>,
    /// The counterpart of the change's source as it is now, where there is one.
    pub current: Option<&'a Record>,
    /// Which of the system's destinations this is.
    pub destination: &'a str,
    /// Same for the same effect, for ever.
    pub key: &'a str,
}

/// A write in the system's own terms, stored before it is sent.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// What `deliver` needs.
    pub body: Value,
    /// What may be done after an attempt without an answer.
    pub repeat: Repeat,
    /// Tasks with equal group may share a request; `None` goes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Proof must be there so long after the first sending; then a person is told and the lane goes on.
    pub within: Duration,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("repeat", &self.repeat)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Command {
    /// A command that waits a day for its proof and shares no request.
    pub fn new(body: Value, repeat: Repeat) -> Self {
        Self { body, repeat, group: None, within: Duration::from_secs(86_400) }
    }

    /// Waits so long for its proof.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// May share a request with commands of the same group.
    pub fn grouped(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// The body as the connector's own type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        serde_path_to_error::deserialize(&self.body)
            .map_err(|e| Reject::new(format!("stored command does not parse at {}; replay it", e.path())))
    }
}

/// What may be done after an attempt that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    /// Sending again changes nothing.
    Safe,
    /// Ask [`Connector::confirm`] first.
    Confirm,
    /// A person decides.
    Ask,
}

/// A command whose turn it is.
#[derive(Clone)]
pub struct Task {
    /// Same for the same effect, for ever.
    pub key: String,
    /// What to do.
    pub command: Command,
    /// Notes of the steps done, by step.
    pub notes: BTreeMap<String, Value>,
    /// 1 for the first.
    pub attempt: u32,
    /// When it was first sent, in milliseconds since 1970.
    pub first_sent: i64,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("attempt", &self.attempt)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Carried out, with proof.
    Done(Receipt),
    /// One write of several carried out: keep the note under this name, call again.
    Step(String, Value),
    /// Nothing was written, or the proof of the last step is still to come; call again.
    Retry {
        /// As the system asked for.
        after: Option<Duration>,
        /// In a smaller batch, because another of it may have spoilt it.
        split: bool,
        /// What happened; holds no personal data.
        reason: String,
    },
    /// Sent, no answer, or one that tells nothing.
    Unknown,
    /// The target is not as expected, before or after the write: plan again from its present state.
    Conflict,
    /// Never will be: dead letter.
    Rejected(Reject),
    /// Credentials, rights or mapping, or an outage that looks so: nothing was written.
    Halt(String),
}

impl Outcome {
    /// Nothing was written; call again after the usual pause.
    pub fn retry(reason: impl Into<String>) -> Self {
        Outcome::Retry { after: None, split: false, reason: reason.into() }
    }
}

/// Proof of a write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// The counterpart written, when the change was about one.
    pub id: Option<RecordId>,
    /// It as the target now holds it, read after the write.
    pub record: Option<Record>,
}

/// What asking after an attempt gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Confirmed {
    /// It took effect.
    Applied(Receipt),
    /// This step did; the next may follow.
    Step(String, Value),
    /// It did not.
    Absent,
    /// Nobody can tell.
    Unclear,
}

/// For systems that take one write at a time.
pub async fn one_by_one<'a, F, O>(tasks: &'a [Task], mut send: F) -> Vec<Outcome>
where
    F: FnMut(&'a Task) -> O,
    O: Future<Output = Outcome>,
{
    let mut out = Vec::with_capacity(tasks.len());
    for task in tasks {
        out.push(send(task).await);
    }
    out
}
