//! Interactive messaging.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RecordId;

/// A message out, or an answer in.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// A conversation flow is started with somebody.
    Start {
        /// With whom.
        to: RecordId,
        /// Number, as the source writes it.
        phone: String,
        /// The flow's name in configuration.
        flow: String,
    },
    /// A text.
    Text {
        /// To whom.
        to: RecordId,
        /// Number, as the source writes it.
        phone: String,
        /// The words.
        text: String,
    },
    /// What somebody answered.
    Answer {
        /// The record that asked.
        about: RecordId,
        /// Answers by question.
        answers: Value,
    },
}
