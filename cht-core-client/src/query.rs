//! Views and Mango queries.
//!
//! The CHT has no useful Mango index: [`Database::find`] on fields reads the whole database. Views change between
//! releases; prefer the API calls where there is one.

use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::docs::Database;
use crate::error::Error;

/// A Mango query.
#[derive(Clone, Default, Serialize)]
pub struct FindQuery {
    /// Selector.
    pub selector: Value,
    /// Fields to return; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// How many at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Order; needs an index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sort: Vec<Value>,
    /// Where the last page ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<String>,
}

impl std::fmt::Debug for FindQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FindQuery")
            .field("fields", &self.fields)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// A page of a Mango query.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
#[non_exhaustive]
pub struct FindPage<T> {
    /// The documents.
    pub docs: Vec<T>,
    /// Where to go on; `nil` after an empty page.
    pub bookmark: Option<String>,
    /// What the server complains of, usually a missing index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl<T> FindPage<T> {
    /// Where to go on, if there may be more.
    pub fn next(&self) -> Option<&str> {
        let bookmark = self.bookmark.as_deref()?;
        (bookmark != "nil" && !self.docs.is_empty()).then_some(bookmark)
    }
}

impl<T> std::fmt::Debug for FindPage<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FindPage({} documents)", self.docs.len())
    }
}

/// What to ask of a view.
#[derive(Clone, Default)]
pub struct ViewQuery {
    /// One key.
    pub key: Option<Value>,
    /// Several keys.
    pub keys: Option<Vec<Value>>,
    /// First key of a range.
    pub start_key: Option<Value>,
    /// Last key of a range.
    pub end_key: Option<Value>,
    /// How many rows at most.
    pub limit: Option<usize>,
    /// Whether to return the documents.
    pub include_docs: bool,
    /// Whether to apply the view's reduce function; the server's default is yes if it has one.
    pub reduce: Option<bool>,
    /// Whether to reduce by key.
    pub group: bool,
}

impl std::fmt::Debug for ViewQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ViewQuery")
            .field("limit", &self.limit)
            .field("include_docs", &self.include_docs)
            .finish_non_exhaustive()
    }
}

/// One row of a view.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
#[non_exhaustive]
pub struct ViewRow<T> {
    /// Document id; none if reduced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Key.
    #[serde(default)]
    pub key: Value,
    /// Value.
    #[serde(default)]
    pub value: Value,
    /// The document, if asked for and there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<T>,
}

impl<T> std::fmt::Debug for ViewRow<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ViewRow")
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct ViewAnswer<T> {
    rows: Vec<ViewRow<T>>,
}

impl Database {
    /// Runs a Mango query.
    pub async fn find<T: DeserializeOwned>(&self, query: &FindQuery) -> Result<FindPage<T>, Error> {
        self.client.json(self.call(Method::POST)?.at("_find")?.json(query)?).await
    }

    /// Asks a view, such as `contacts_by_reference` of `medic-client`.
    pub async fn view<T: DeserializeOwned>(
        &self,
        design: &str,
        view: &str,
        query: &ViewQuery,
    ) -> Result<Vec<ViewRow<T>>, Error> {
        let method = if query.keys.is_some() { Method::POST } else { Method::GET };
        let mut call = self
            .call(method)?
            .at("_design")?
            .at(design)?
            .at("_view")?
            .at(view)?
            .query_if("key", query.key.as_ref())
            .query_if("startkey", query.start_key.as_ref())
            .query_if("endkey", query.end_key.as_ref())
            .query_if("limit", query.limit)
            .query_if("include_docs", query.include_docs.then_some(true))
            .query_if("reduce", query.reduce)
            .query_if("group", query.group.then_some(true));
        if let Some(keys) = &query.keys {
            call = call.json(&json!({ "keys": keys }))?;
        }
        let answer: ViewAnswer<T> = self.client.json(call).await?;
        Ok(answer.rows)
    }

    /// The ids of the contacts with this shortcode (`patient_id` or `place_id`); normally one.
    pub async fn ids_by_shortcode(&self, shortcode: &str) -> Result<Vec<String>, Error> {
        let query = ViewQuery { key: Some(json!(["shortcode", shortcode])), ..ViewQuery::default() };
        let rows = self.view::<Map<String, Value>>("medic-client", "contacts_by_reference", &query).await?;
        Ok(rows.into_iter().filter_map(|row| row.id).collect())
    }
}
