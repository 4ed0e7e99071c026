//! Care events: encounters with observations, and aggregate totals.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RecordId;

/// A care event.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Somebody was seen.
    Encounter {
        /// Who.
        patient: RecordId,
        /// When, RFC 3339.
        at: String,
        /// Observations by configured name.
        observations: Value,
    },
    /// Absolute totals of one unit and period.
    Total {
        /// The organisation unit, by its id at the source.
        unit: String,
        /// The period in the source's notation.
        period: String,
        /// Totals by configured name.
        values: Value,
    },
}
