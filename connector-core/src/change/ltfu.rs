//! Lost to follow-up: entries of a list, and the outcome of looking for somebody.

use serde::{Deserialize, Serialize};

use super::RecordId;

/// An entry, its withdrawal, or an outcome.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostToFollowUp {
    /// Somebody missed an appointment.
    Entry {
        /// Who.
        patient: RecordId,
        /// The day that was missed, `YYYY-MM-DD`.
        missed: String,
    },
    /// The entry is no longer on the list.
    Withdrawn {
        /// Who.
        patient: RecordId,
    },
    /// What the community health worker found.
    Outcome {
        /// Who.
        patient: RecordId,
        /// `found`, `refused`, `moved`, `died`, `wrong-number`.
        outcome: String,
    },
}
