//! The rows of a feed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::client::read_json;
use crate::error::Error;

/// A place in the feed. Opaque: two texts can name the same place, and no order can be read from them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Seq(String);

impl Seq {
    /// Before the first change.
    pub fn start() -> Self {
        Self("0".to_owned())
    }

    /// After the newest change at the time of asking.
    pub fn now() -> Self {
        Self("now".to_owned())
    }

    /// A place that was kept, as [`as_str`](Self::as_str) gave it.
    pub fn kept(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text to keep.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            other @ (Value::Number(_) | Value::Array(_)) => Ok(Self(other.to_string())),
            _ => Err(serde::de::Error::custom("no place in a feed")),
        }
    }
}

/// A change of a document.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// Its place in the feed.
    pub seq: Seq,
    /// Document id.
    pub id: String,
    /// Revisions, the winning one first.
    pub revs: Vec<String>,
    /// Whether the document is deleted.
    pub deleted: bool,
    /// The document in its newest revision, if asked for.
    pub doc: Option<Map<String, Value>>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("rev", &self.rev())
            .field("deleted", &self.deleted)
            .field("doc", &self.doc.is_some())
            .finish_non_exhaustive()
    }
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DocKind {
    /// A person or place.
    Contact,
    /// A report or message.
    Report,
    /// A task.
    Task,
    /// A month's targets.
    Target,
    /// A form, a user's settings, a design document, a tombstone document of older releases, or anything else.
    Other,
}

impl Change {
    /// Reads one row of a feed.
    pub fn read(row: &[u8]) -> Result<Self, RowError> {
        let row: Row = read_json(row).map_err(|error| RowError::of(row, error))?;
        let revs = row.changes.into_iter().map(|leaf| leaf.rev).collect();
        Ok(Self { seq: row.seq, id: row.id, revs, deleted: row.deleted, doc: row.doc })
    }

    /// The winning revision.
    pub fn rev(&self) -> Option<&str> {
        self.revs.first().map(String::as_str)
    }

    /// What the document is, as far as the row shows it: after a `DELETE` there is nothing but the id.
    pub fn kind(&self) -> Option<DocKind> {
        if self.id.starts_with("_design/") || self.id.ends_with("____tombstone") {
            return Some(DocKind::Other);
        }
        let kind = self.doc.as_ref()?.get("type");
        match kind.and_then(Value::as_str) {
            Some("contact" | "person" | "clinic" | "health_center" | "district_hospital") => {
                Some(DocKind::Contact)
            }
            Some("data_record") => Some(DocKind::Report),
            Some("task") => Some(DocKind::Task),
            Some("target") => Some(DocKind::Target),
            None if self.deleted => None,
            _ => Some(DocKind::Other),
        }
    }
}

/// A row that cannot be read. What could be saved of it tells which document to read by other means.
#[derive(Clone, PartialEq, thiserror::Error)]
#[error("a row of the feed cannot be read at `{path}`")]
#[non_exhaustive]
pub struct RowError {
    /// Where it cannot be read.
    pub path: String,
    /// Its place in the feed.
    pub seq: Option<Seq>,
    /// Document id.
    pub id: Option<String>,
}

impl RowError {
    fn of(row: &[u8], error: Error) -> Self {
        let path = match error {
            Error::Unreadable { path } => path,
            _ => ".".to_owned(),
        };
        let saved: Value = serde_json::from_str(&String::from_utf8_lossy(row)).unwrap_or_default();
        let seq = saved.get("seq").and_then(|seq| Seq::deserialize(seq).ok());
        Self { path, seq, id: saved.get("id").and_then(Value::as_str).map(str::to_owned) }
    }
}

impl fmt::Debug for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowError")
            .field("path", &self.path)
            .field("id", &self.id.is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Row {
    seq: Seq,
    id: String,
    #[serde(default)]
    changes: Vec<Leaf>,
    #[serde(default)]
    deleted: bool,
    doc: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Leaf {
    rev: String,
}

/// The end of a page or of a continuous feed.
#[derive(Deserialize)]
pub(crate) struct End {
    pub(crate) last_seq: Seq,
    pub(crate) pending: Option<u64>,
}

/// A line of a continuous feed.
pub(crate) enum Line {
    Row(Result<Change, RowError>),
    End(End),
    ServerError,
}

pub(crate) fn read_end(frame: &[u8]) -> Option<End> {
    serde_json::from_slice(frame).ok()
}

pub(crate) fn read_line(line: &[u8]) -> Line {
    let row = Change::read(line);
    if row.is_err() {
        if let Some(end) = read_end(line) {
            return Line::End(end);
        }
        let value: Value = serde_json::from_slice(line).unwrap_or_default();
        if value.get("error").is_some() && value.get("id").is_none() {
            return Line::ServerError;
        }
    }
    Line::Row(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Change, RowError> {
        Change::read(text)
    }

    #[test]
    fn a_bad_row_still_says_which_document_it_is() {
        let error = read(br#"{"seq":"7-x","id":"a","changes":"none"}"#).unwrap_err();
        assert_eq!((error.path.as_str(), error.id.as_deref()), ("changes", Some("a")));
        assert_eq!(error.seq, Some(Seq::kept("7-x")));
        let error =
            read(b"{\"seq\":\"7-x\",\"id\":\"a\",\"changes\":[],\"doc\":{\"n\":\"\xff\"}}").unwrap_err();
        assert_eq!(error.id.as_deref(), Some("a"));
        assert_eq!(read(b"{").unwrap_err().id, None);
    }

    #[test]
    fn old_places_are_read_too() {
        let change = read(br#"{"seq":7,"id":"a","changes":[{"rev":"1-a"}]}"#).unwrap();
        assert_eq!((change.seq.as_str(), change.rev()), ("7", Some("1-a")));
    }

    #[test]
    fn documents_are_told_apart_and_a_bare_deletion_is_unknown() {
        let kind = |doc: Value| {
            let row = serde_json::json!({"seq": "1", "id": "a", "deleted": doc.get("_deleted").is_some(), "doc": doc});
            read(row.to_string().as_bytes()).unwrap().kind()
        };
        assert_eq!(kind(serde_json::json!({"type": "contact"})), Some(DocKind::Contact));
        assert_eq!(kind(serde_json::json!({"type": "person", "_deleted": true})), Some(DocKind::Contact));
        assert_eq!(kind(serde_json::json!({"_deleted": true})), None);
        assert_eq!(kind(serde_json::json!({"type": "form"})), Some(DocKind::Other));
        assert_eq!(kind(serde_json::json!({})), Some(DocKind::Other));
        let design = read(br#"{"seq":"1","id":"_design/medic"}"#).unwrap();
        assert_eq!(design.kind(), Some(DocKind::Other));
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = read_line(&line);
            let _ = read_line(text.as_bytes());
        }
    }
}
