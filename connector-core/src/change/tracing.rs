//! Contact tracing around an index case.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RecordId;

/// A contact, or a visit to one.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContactTracing {
    /// Somebody is to be traced, or was listed.
    Contact {
        /// The case that the contact belongs to.
        index_case: RecordId,
        /// The contact.
        contact: RecordId,
    },
    /// A visit to a contact.
    Visit {
        /// The contact.
        contact: RecordId,
        /// Findings by name.
        findings: Value,
    },
}
