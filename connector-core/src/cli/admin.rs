//! What operators ask of a bridge. One enum, carried out in one place, whether it comes over HTTP or from the command
//! line with the store at hand.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::change::{Change, RecordId};
use crate::outbox::{
    Conflicts, FetchAgain, Forget, Key, Links, ListDead, ListFeeds, ListHalted, ListLinks, ListReviews,
    ListUnreadable, Replay, Resolve, Totals, Verdict, hex,
};
use crate::rules::Rules;
use crate::store::{Store, StoreError};

/// One request of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Admin {
    /// How many rows stand where, what is halted, and how far the feeds are.
    Status,
    /// Dead letters after a number, with their bodies if asked for.
    DeadLetters {
        /// Numbers above this one.
        after: i64,
        /// Whether to show what they carry.
        bodies: bool,
        /// Most entries.
        #[serde(default)]
        limit: Option<i64>,
    },
    /// Sends a dead letter again, as it is or edited.
    Replay {
        /// Its number.
        seq: i64,
        /// An edited change.
        change: Option<Value>,
    },
    /// Sends all dead letters again, as they are.
    ReplayAll,
    /// The review queue after a number, with its evidence if asked for.
    Reviews {
        /// Numbers above this one.
        after: i64,
        /// Whether to show decided ones too.
        all: bool,
        /// Whether to show the evidence.
        bodies: bool,
        /// Most entries.
        #[serde(default)]
        limit: Option<i64>,
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
    /// Links, in pages.
    Links {
        /// Person keys above this one, in hexadecimal; empty to begin.
        after: String,
    },
    /// Reads a record again, whatever was known of it.
    Fetch {
        /// `system/kind/id`.
        record: String,
    },
    /// Writes a copy of the store to a new file.
    Backup {
        /// The file.
        file: PathBuf,
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
            let (rows, halted) = (store.read(Totals).await?, store.read(ListHalted).await?);
            json!({ "rows": rows, "halted": halted, "feeds": store.read(ListFeeds).await? })
        }
        Admin::DeadLetters { after, bodies, limit } => {
            let limit = limit.unwrap_or(PAGE);
            let mut out = json!({ "dead_letters": store.read(ListDead { after, limit, bodies }).await? });
            if let (true, Some(out)) = (bodies, out.as_object_mut()) {
                out.insert("unreadable".to_owned(), json!(store.read(ListUnreadable { limit: PAGE }).await?));
            }
            out
        }
        Admin::Replay { seq, change } => {
            // What cannot be read back would stand in the queue for ever.
            if change.as_ref().is_some_and(|change| Change::deserialize(change).is_err()) {
                return Err(AdminError::Change);
            }
            let rules = Rules::all();
            json!({ "replayed": store.run(Replay { seq, change, rules }).await? })
        }
        Admin::ReplayAll => {
            let (mut after, mut count) = (0, 0);
            loop {
                let dead = store.read(ListDead { after, limit: PAGE, bodies: false }).await?;
                let Some(last) = dead.last() else { break };
                after = last.seq;
                for letter in dead {
                    let replay = Replay { seq: letter.seq, change: None, rules: Rules::all() };
                    count += u64::from(store.run(replay).await?);
                }
            }
            json!({ "replayed": count })
        }
        Admin::Reviews { after, all, bodies, limit } => {
            let limit = limit.unwrap_or(PAGE);
            let list = ListReviews { after, limit, open: !all, bodies };
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
        Admin::Links { after } => {
            let (links, next) = store.read(ListLinks { after: key(&after), limit: PAGE }).await?;
            json!({ "links": links, "next": next.map(|k| hex(&k)) })
        }
        Admin::Fetch { record } => {
            store.run(FetchAgain { record: parse(&record)? }).await?;
            json!({ "asked": true })
        }
        Admin::Backup { file } => {
            store.backup(&file).await?;
            json!({ "file": file })
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
    /// The edited change is none.
    #[error("the file holds no change; begin with the `change` that `dead-letters show` gives")]
    Change,
    /// The record is not named as `system/kind/id`.
    #[error("a record is named as system/kind/id, such as cht/person/1234")]
    Record,
}

/// A record out of `system/kind/id`.
pub(super) fn parse(record: &str) -> Result<RecordId, AdminError> {
    let mut parts = record.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(system), Some(kind), Some(id)) if !system.is_empty() && !kind.is_empty() && !id.is_empty() => {
            Ok(RecordId::new(system, kind, id))
        }
        _ => Err(AdminError::Record),
    }
}

/// A key out of hexadecimal; what is none is before all keys.
fn key(text: &str) -> Key {
    u128::from_str_radix(text, 16).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::store::{Place, StoreOptions};

    #[tokio::test]
    async fn an_edited_change_of_another_form_is_refused_without_a_word_of_it() {
        let options = StoreOptions { place: Place::Memory, key: None };
        let store = Store::open(&options, Arc::new(ManualClock::new(1))).await.unwrap();
        for change in
            [json!("Amina"), json!({ "body": "Amina" }), json!({ "source": { "system": ["Amina"] } })]
        {
            let said = execute(&store, Admin::Replay { seq: 1, change: Some(change) }).await.unwrap_err();
            assert!(matches!(said, AdminError::Change) && !said.to_string().contains("Amina"), "{said}");
        }
    }
}
