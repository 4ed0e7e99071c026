//! What sentinel keeps about a document.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::document;

document! {
    /// An infodoc, `<id>-info` in `medic-sentinel`. Never write one.
    Infodoc {
        /// Document id.
        id: String = "_id",
        /// Revision.
        rev: String = "_rev",
        /// The document it is about.
        doc_id: String = "doc_id",
        /// When the document first came in: ISO text, epoch milliseconds, or `unknown`.
        initial_replication_date: Value = "initial_replication_date",
        /// When the document last came in, in the same forms.
        latest_replication_date: Value = "latest_replication_date",
        /// Transitions that changed the document. Present and empty: processed, nothing changed.
        transitions: BTreeMap<String, TransitionRun> = "transitions",
        /// One entry a successful push.
        completed_tasks: Vec<CompletedTask> = "completed_tasks",
    }
}

document! {
    /// A run of a transition. Without `last_rev` it ran inside the API.
    TransitionRun {
        /// The revision it ran on.
        last_rev: String = "last_rev",
        /// Whether it succeeded.
        ok: bool = "ok",
        /// When, as ISO text.
        run_date: String = "run_date",
    }
}

document! {
    /// A push that succeeded.
    CompletedTask {
        /// `outbound`.
        kind: String = "type",
        /// Name of the configuration.
        name: String = "name",
        /// When, in epoch milliseconds.
        timestamp: i64 = "timestamp",
        /// Hash of the payload, in the CHT's own way.
        hash: String = "hash",
    }
}

impl Infodoc {
    /// Whether sentinel or the API has processed the document.
    pub fn is_processed(&self) -> bool {
        self.transitions.is_some()
    }
}
