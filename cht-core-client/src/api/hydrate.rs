//! Documents with their contacts, patients, places and parents filled in.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::client::{Call, ChtClient};
use crate::error::Error;

/// The id that was asked for and the document, if there is one.
pub type Hydrated = (String, Option<Map<String, Value>>);

#[derive(Deserialize)]
struct Row {
    id: String,
    doc: Option<Map<String, Value>>,
    error: Option<String>,
}

impl Row {
    fn read((index, row): (usize, Self)) -> Result<Hydrated, Error> {
        match (row.doc, row.error.as_deref()) {
            (Some(doc), None) => Ok((row.id, Some(doc))),
            (None, Some("not_found")) => Ok((row.id, None)),
            _ => Err(Error::Unreadable { path: format!("[{index}]") }),
        }
    }
}

impl ChtClient {
    /// Reads documents filled in, in the order of the ids.
    ///
    /// A contact's parents are filled in only as far as the document itself stores their ids, or another document of
    /// the same call does: the same document can come back fuller or emptier.
    pub async fn hydrate(&self, ids: &[&str]) -> Result<Vec<Hydrated>, Error> {
        let rows: Vec<Row> =
            self.json(Call::post("/api/v1/hydrate").json(&json!({ "doc_ids": ids }))?).await?;
        rows.into_iter().enumerate().map(Row::read).collect()
    }
}
