//! Tasks and targets, made by the phones.

use serde_json::{Map, Value};

use super::document::document;

document! {
    /// A task that a phone showed to its user.
    Task {
        /// Document id.
        id: String = "_id",
        /// Revision.
        rev: String = "_rev",
        /// The user, as `org.couchdb.user:NAME`.
        user: String = "user",
        /// The contact whose data made the task.
        requester: String = "requester",
        /// The contact on whose profile it is shown.
        owner: String = "owner",
        /// `Draft`, `Ready`, `Cancelled`, `Completed` or `Failed`; the last three never change.
        state: String = "state",
        /// The states so far.
        state_history: Vec<StateChange> = "stateHistory",
        /// When it was made, in epoch milliseconds.
        authored_on: i64 = "authoredOn",
        /// What the rules emitted.
        emission: Map<String, Value> = "emission",
    }
}

document! {
    /// A state and when it began.
    StateChange {
        /// State.
        state: String = "state",
        /// Since when, in epoch milliseconds.
        timestamp: i64 = "timestamp",
    }
}

impl Task {
    /// Whether the state is final.
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_deref(), Some("Cancelled" | "Completed" | "Failed"))
    }
}

document! {
    /// The targets of one user in one month.
    Target {
        /// Document id.
        id: String = "_id",
        /// Revision.
        rev: String = "_rev",
        /// The user, as `org.couchdb.user:NAME`.
        user: String = "user",
        /// The user's contact.
        owner: String = "owner",
        /// `YYYY-MM`.
        reporting_period: String = "reporting_period",
        /// When it was last computed, in epoch milliseconds.
        updated_date: i64 = "updated_date",
        /// One entry a target.
        targets: Vec<TargetValue> = "targets",
    }
}

document! {
    /// One target.
    TargetValue {
        /// Id in the configuration.
        id: String = "id",
        /// `count` or `percent`.
        kind: String = "type",
        /// `pass`, `total` and, for percent targets, `percent`.
        value: Map<String, Value> = "value",
    }
}
