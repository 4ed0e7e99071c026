//! Many documents in one call. A conflict or a refused document is a row, not an error.
//!
//! Keep a call at 100 documents or a few MiB. It is not a transaction: each row has its own outcome. If the whole
//! call fails with an error that [may have applied](crate::Error::may_have_applied), send the same documents with
//! the same ids again: what was written then comes back as a conflict, to be read and compared.

use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::docs::{Database, Written};
use crate::error::{Error, Reason};

/// What became of one document.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowOutcome {
    /// Written.
    Written(Written),
    /// Changed meanwhile, or the id is taken.
    Conflict {
        /// Document id.
        id: String,
    },
    /// Refused for this document only.
    Refused {
        /// Document id.
        id: String,
        /// Why.
        reason: Reason,
    },
}

impl RowOutcome {
    /// The document's id.
    pub fn id(&self) -> &str {
        match self {
            Self::Written(written) => &written.id,
            Self::Conflict { id } | Self::Refused { id, .. } => id,
        }
    }
}

impl std::fmt::Debug for RowOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Written(written) => written.fmt(f),
            Self::Conflict { .. } => f.write_str("Conflict"),
            Self::Refused { reason, .. } => write!(f, "Refused({reason})"),
        }
    }
}

#[derive(Deserialize)]
struct Row {
    id: String,
    rev: Option<String>,
    error: Option<String>,
    reason: Option<String>,
}

/// Reads the outcomes of a bulk call.
pub(crate) fn read_rows(rows: impl IntoIterator<Item = Value>) -> Result<Vec<RowOutcome>, Error> {
    let read = |(index, row): (usize, Value)| {
        Row::deserialize(row)
            .ok()
            .and_then(Row::outcome)
            .ok_or_else(|| Error::Unreadable { path: format!("[{index}]") })
    };
    rows.into_iter().enumerate().map(read).collect()
}

impl Row {
    fn outcome(self) -> Option<RowOutcome> {
        Some(match (self.rev, self.error.as_deref()) {
            (_, Some("conflict")) => RowOutcome::Conflict { id: self.id },
            (_, Some(code)) => {
                let reason = Reason::of_message(self.reason.as_deref().unwrap_or_default());
                RowOutcome::Refused { id: self.id, reason: reason.or(|| Reason::of_code(code)) }
            }
            (Some(rev), None) => RowOutcome::Written(Written { id: self.id, rev }),
            (None, None) => return None,
        })
    }
}

/// One row of `_all_docs`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum DocRow<T> {
    /// The document is there; `doc` only if documents were asked for.
    Found {
        /// Document id.
        id: String,
        /// Revision.
        rev: String,
        /// The document.
        doc: Option<T>,
    },
    /// The document is deleted.
    Deleted {
        /// Document id.
        id: String,
        /// Revision of the tombstone.
        rev: String,
    },
    /// There never was such a document.
    Missing {
        /// The id that was asked for.
        id: String,
    },
}

impl<T> std::fmt::Debug for DocRow<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Found { .. } => "Found",
            Self::Deleted { .. } => "Deleted",
            Self::Missing { .. } => "Missing",
        })
    }
}

#[derive(Deserialize)]
struct AllDocs<T> {
    rows: Vec<AllDocsRow<T>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct AllDocsRow<T> {
    key: String,
    id: Option<String>,
    value: Option<RowValue>,
    doc: Option<T>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct RowValue {
    rev: String,
    #[serde(default)]
    deleted: bool,
}

impl<T> AllDocs<T> {
    /// Only "not found" means that a document is missing; any other failure of a row does not.
    fn rows(self) -> Result<Vec<DocRow<T>>, Error> {
        let read = |(index, row): (usize, AllDocsRow<T>)| match (row.id, row.value, row.error.as_deref()) {
            (Some(id), Some(value), None) if value.deleted => Ok(DocRow::Deleted { id, rev: value.rev }),
            (Some(id), Some(value), None) => Ok(DocRow::Found { id, rev: value.rev, doc: row.doc }),
            (_, None, Some("not_found")) => Ok(DocRow::Missing { id: row.key }),
            _ => Err(Error::Unreadable { path: format!("rows.[{index}]") }),
        };
        self.rows.into_iter().enumerate().map(read).collect()
    }
}

/// One answer of `_bulk_get`: a document, or `None` if it is not there.
pub type BulkGetRow = (String, Option<Map<String, Value>>);

#[derive(Deserialize)]
struct BulkGet {
    results: Vec<BulkGetResult>,
}

#[derive(Deserialize)]
struct BulkGetResult {
    id: String,
    docs: Vec<BulkGetDoc>,
}

#[derive(Deserialize)]
struct BulkGetDoc {
    ok: Option<Map<String, Value>>,
    error: Option<BulkGetError>,
}

#[derive(Deserialize)]
struct BulkGetError {
    error: String,
}

impl BulkGetResult {
    fn row(self) -> Result<BulkGetRow, Error> {
        let missing = |doc: &BulkGetDoc| doc.error.as_ref().is_some_and(|error| error.error == "not_found");
        let all_missing = self.docs.iter().all(missing);
        match self.docs.into_iter().find_map(|doc| doc.ok) {
            None if !all_missing => Err(Error::Unreadable { path: "results.docs".to_owned() }),
            doc => Ok((self.id, doc)),
        }
    }
}

impl Database {
    /// Writes documents, one outcome each, in order. Documents without `_id` get one from the server.
    ///
    /// A document with `_deleted: true` and its other fields leaves a tombstone that keeps them.
    pub async fn bulk_docs<T: Serialize>(&self, docs: &[T]) -> Result<Vec<RowOutcome>, Error> {
        let call = self.call(Method::POST)?.at("_bulk_docs")?.json(&json!({ "docs": docs }))?;
        let rows: Vec<Value> = self.client.json(call).await?;
        if rows.len() != docs.len() {
            return Err(Error::Unreadable { path: ".".to_owned() });
        }
        read_rows(rows)
    }

    /// Writes revisions as they are (`new_edits: false`), as replication does. The server does not say what it took.
    pub async fn bulk_docs_as_is<T: Serialize>(&self, docs: &[T]) -> Result<(), Error> {
        let body = json!({ "docs": docs, "new_edits": false });
        let call = self.call(Method::POST)?.at("_bulk_docs")?.json(&body)?;
        self.client.json::<Vec<Value>>(call).await.map(drop)
    }

    /// Reads documents, or their revisions, by id: one row each, in order.
    pub async fn all_docs<T: DeserializeOwned>(
        &self,
        ids: &[&str],
        include_docs: bool,
    ) -> Result<Vec<DocRow<T>>, Error> {
        let call = self
            .call(Method::POST)?
            .at("_all_docs")?
            .query_if("include_docs", include_docs.then_some(true))
            .json(&json!({ "keys": ids }))?;
        let answer: AllDocs<T> = self.client.json(call).await?;
        answer.rows()
    }

    /// Reads a range of ids, both ends included; from the beginning or to the end if one is not given.
    pub async fn all_docs_range<T: DeserializeOwned>(
        &self,
        first: Option<&str>,
        last: Option<&str>,
        limit: Option<usize>,
        include_docs: bool,
    ) -> Result<Vec<DocRow<T>>, Error> {
        let call = self
            .call(Method::GET)?
            .at("_all_docs")?
            .query_if("startkey", first.map(Value::from))
            .query_if("endkey", last.map(Value::from))
            .query_if("limit", limit)
            .query_if("include_docs", include_docs.then_some(true));
        let answer: AllDocs<T> = self.client.json(call).await?;
        answer.rows()
    }

    /// Reads documents by id through `_bulk_get`.
    pub async fn bulk_get(&self, ids: &[&str]) -> Result<Vec<BulkGetRow>, Error> {
        let docs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        let call = self.call(Method::POST)?.at("_bulk_get")?.json(&json!({ "docs": docs }))?;
        let answer: BulkGet = self.client.json(call).await?;
        answer.results.into_iter().map(BulkGetResult::row).collect()
    }
}
