//! What operators ask of a bridge. One enum, carried out in one place, whether it comes over HTTP or from the command
//! line with the store at hand.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::change::RecordId;
use crate::outbox::{
    Conflicts, Forget, Links, ListDead, ListHalted, ListReviews, Replay, Resolve, Totals, Verdict, hex,
};
use crate::rules::Rules;
use crate::store::{Store, StoreError};

/// One request of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Admin {
    /// How many rows stand where, and what is halted.
    Status,
    /// Dead letters after a number, with their bodies if asked for.
    DeadLetters {
        /// Numbers above this one.
        after: i64,
        /// Whether to show what they carry.
        bodies: bool,
    },
    /// Sends a dead letter again, as it is or edited.
    Replay {
        /// Its number.
        seq: i64,
        /// An edited change.
        change: Option<Value>,
    },
    /// The review queue after a number, with its evidence if asked for.
    Reviews {
        /// Numbers above this one.
        after: i64,
        /// Whether to show decided ones too.
        all: bool,
        /// Whether to show the evidence.
        bodies: bool,
    },
    /// Decides an entry of the review queue.
    Decide {
        /// The entry.
        id: i64,
        /// Whether what it proposes is accepted.
        accept: bool,
        /// Who decides.
        who: String,
    },
    /// Values that lost a conflict, after a number.
    Conflicts {
        /// Numbers above this one.
        after: i64,
    },
    /// The link of a record.
    Link {
        /// `system/kind/id`.
        record: String,
    },
    /// Erases a person everywhere but the ledger.
    Forget {
        /// `system/kind/id`.
        record: String,
    },
}

/// Most entries of one answer.
const PAGE: i64 = 1_000;

/// Carries out a request on one bridge's store.
pub async fn execute(store: &Store, admin: Admin) -> Result<Value, AdminError> {
    Ok(match admin {
        Admin::Status => {
            json!({ "rows": store.read(Totals).await?, "halted": store.read(ListHalted).await? })
        }
        Admin::DeadLetters { after, bodies } => {
            json!({ "dead_letters": store.read(ListDead { after, limit: PAGE, bodies }).await? })
        }
        Admin::Replay { seq, change } => {
            let rules = Rules::all();
            json!({ "replayed": store.run(Replay { seq, change, rules }).await? })
        }
        Admin::Reviews { after, all, bodies } => {
            let list = ListReviews { after, limit: PAGE, open: !all, bodies };
            json!({ "reviews": store.read(list).await? })
        }
        Admin::Decide { id, accept, who } => {
            let verdict = if accept { Verdict::Accept } else { Verdict::Reject };
            json!({ "decided": store.run(Resolve { id, verdict, who, rules: Rules::all() }).await? })
        }
        Admin::Conflicts { after } => {
            let found = store.read(Conflicts { after, limit: PAGE }).await?;
            let found: Vec<_> =
                found.into_iter().map(|(id, at, c)| json!({ "id": id, "at": at, "conflict": c })).collect();
            json!({ "conflicts": found })
        }
        Admin::Link { record } => {
            let ends = store.read(Links { records: vec![parse(&record)?] }).await?;
            let ends: Vec<_> = ends
                .into_iter()
                .flat_map(|e| e.0)
                .map(|e| json!({ "person": hex(&e.person), "record": e.id, "fields": e.base.keys().collect::<Vec<_>>() }))
                .collect();
            json!({ "ends": ends })
        }
        Admin::Forget { record } => {
            json!({ "erased_rows": store.run(Forget { record: parse(&record)?, rules: Rules::all() }).await? })
        }
    })
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record is not named as `system/kind/id`.
    #[error("a record is named as system/kind/id, such as cht/person/1234")]
    Record,
}

fn parse(record: &str) -> Result<RecordId, AdminError> {
    let mut parts = record.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(system), Some(kind), Some(id)) if !system.is_empty() && !kind.is_empty() && !id.is_empty() => {
            Ok(RecordId::new(system, kind, id))
        }
        _ => Err(AdminError::Record),
    }
}
