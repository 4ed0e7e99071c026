//! Canonical values that cross between systems.
//!
//! Pure data: nothing here knows a protocol, a store or a clock. A partner's own shapes stay in its connector; what
//! crosses is a [`Change`] with a [`Body`]. Stored changes carry [`FORMAT`], and the two newest formats are read.

mod event;
mod ltfu;
mod message;
mod patient;
mod referral;
mod tracing;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use event::Event;
pub use ltfu::LostToFollowUp;
pub use message::Message;
pub use patient::{Gone, Patient, field};
pub use referral::Referral;
pub use tracing::ContactTracing;

/// Number of the stored form of changes and commands; a store holding a newer one is refused.
pub const FORMAT: u32 = 1;

/// What a change is about, one for each use case and one for whole documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// People created, edited, muted, died, merged, deleted.
    Patients,
    /// Referral requests, and what became of them.
    Referrals,
    /// Entries of lost-to-follow-up lists, and outcomes of looking for them.
    LostToFollowUp,
    /// Contacts of an index case, and visits to them.
    ContactTracing,
    /// Texts and conversation flows, and answers to them.
    Messaging,
    /// Encounters, observations and aggregate totals.
    Events,
    /// Whole documents, for routes written in configuration.
    Documents,
}

impl Flow {
    /// The name used in configuration, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Flow::Patients => "patients",
            Flow::Referrals => "referrals",
            Flow::LostToFollowUp => "lost-to-follow-up",
            Flow::ContactTracing => "contact-tracing",
            Flow::Messaging => "messaging",
            Flow::Events => "events",
            Flow::Documents => "documents",
        }
    }
}

/// A record's name: which configured system (an instance, not a product), which kind, which id there.
///
/// Ids can hold personal data (a site may use a national number as a document id), so `Debug` shows none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// The configured instance.
    pub system: String,
    /// Kind of record in that system: `person`, `report`, `encounter`.
    pub kind: String,
    /// The id in that system.
    pub id: String,
}

/// The kind of every record that stands for a person, in every system.
pub const PERSON: &str = "person";

impl RecordId {
    /// A record's name.
    pub fn new(system: impl Into<String>, kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { system: system.into(), kind: kind.into(), id: id.into() }
    }

    /// The name of a person's record.
    pub fn person(system: impl Into<String>, id: impl Into<String>) -> Self {
        Self::new(system, PERSON, id)
    }

    /// Whether the record stands for a person.
    pub fn is_person(&self) -> bool {
        self.kind == PERSON
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/***", self.system, self.kind)
    }
}

/// A record as its system holds it, unparsed but in one normal form: all ways of reading it give the same body.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: RecordId,
    /// The system's own version mark, where it has one (CouchDB `_rev`). Never used to tell newer from older.
    pub version: Option<String>,
    /// Whether the record is gone in its system.
    pub deleted: bool,
    /// What it holds.
    pub body: Value,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("id", &self.id).field("deleted", &self.deleted).finish_non_exhaustive()
    }
}

/// One canonical change read out of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The record it came from.
    pub source: RecordId,
    /// What it is about: changes of one subject reach one destination in order.
    pub subject: RecordId,
    /// What "exactly once" means for it.
    pub effect: Effect,
    /// The record it says it is a copy of: it carries that id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<RecordId>,
    /// Records whose counterpart must exist at the destination first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<RecordId>,
    /// What changed.
    pub body: Body,
}

impl Change {
    /// The record's newest state, about the record itself.
    pub fn state(source: RecordId, body: Body) -> Self {
        Self { subject: source.clone(), source, effect: Effect::State, same_as: None, needs: vec![], body }
    }

    /// An effect that happens once for the record, about `subject`, which must exist at the destination first.
    pub fn once(source: RecordId, effect: impl Into<String>, subject: RecordId, body: Body) -> Self {
        Self {
            source,
            effect: Effect::Once(effect.into()),
            same_as: None,
            needs: vec![subject.clone()],
            subject,
            body,
        }
    }
}

/// What "exactly once" means for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// The destination is brought to this state; only the newest counts.
    State,
    /// Happens once for the record, whatever later revisions say; the text tells several effects of one record apart.
    Once(String),
}

/// What a change carries.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A person.
    Patient(Patient),
    /// A referral.
    Referral(Referral),
    /// Somebody lost to follow-up.
    LostToFollowUp(LostToFollowUp),
    /// Contact tracing.
    ContactTracing(ContactTracing),
    /// A message.
    Message(Message),
    /// A care event.
    Event(Event),
    /// A source document as it is.
    Document(Value),
}

impl Body {
    /// The flow it belongs to.
    pub fn flow(&self) -> Flow {
        match self {
            Body::Patient(_) => Flow::Patients,
            Body::Referral(_) => Flow::Referrals,
            Body::LostToFollowUp(_) => Flow::LostToFollowUp,
            Body::ContactTracing(_) => Flow::ContactTracing,
            Body::Message(_) => Flow::Messaging,
            Body::Event(_) => Flow::Events,
            Body::Document(_) => Flow::Documents,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({})", self.flow().as_str())
    }
}
