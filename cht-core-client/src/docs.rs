//! Single documents of a database, `_local` documents included.
//!
//! A `_local` document has no conflict check in the CHT: a stale or missing `_rev` overwrites. It is a place for
//! notes and no guard against two writers.

use http::{Method, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::{Call, ChtClient};
use crate::error::{Error, Reason};
use crate::model::Infodoc;

/// One database behind the CHT.
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) client: ChtClient,
    pub(crate) name: String,
}

/// A document as written.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Written {
    /// Document id.
    pub id: String,
    /// The new revision. Sentinel often makes another one within a second.
    pub rev: String,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("rev", &self.rev).finish_non_exhaustive()
    }
}

/// What to read besides the document.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// A certain revision.
    pub rev: Option<String>,
    /// The list of conflicting revisions (`_conflicts`).
    pub conflicts: bool,
    /// The list of former revisions (`_revisions`).
    pub revs: bool,
}

/// Figures of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DatabaseInfo {
    /// Name.
    pub db_name: String,
    /// Documents.
    #[serde(default)]
    pub doc_count: u64,
    /// Tombstones.
    #[serde(default)]
    pub doc_del_count: u64,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl ChtClient {
    /// The main database: contacts, reports, tasks, targets.
    pub fn medic(&self) -> Database {
        Database { client: self.clone(), name: self.database_name().to_owned() }
    }

    /// Another database, such as `medic-sentinel` (needs the role `sentinel`).
    pub fn other_database(&self, name: impl Into<String>) -> Database {
        Database { client: self.clone(), name: name.into() }
    }
}

impl ChtClient {
    /// What sentinel keeps about a document (needs the role `sentinel`).
    pub async fn infodoc(&self, doc_id: &str) -> Result<Infodoc, Error> {
        self.other_database("medic-sentinel").get(&format!("{doc_id}-info")).await
    }
}

impl Database {
    pub(crate) fn call(&self, method: Method) -> Result<Call, Error> {
        Call::new(method, "").at(&self.name)
    }

    fn document(&self, method: Method, id: &str) -> Result<Call, Error> {
        if id.starts_with('_') {
            return Err(Error::refused(Reason::DocumentId));
        }
        self.call(method)?.at(id)
    }

    fn local(&self, method: Method, name: &str) -> Result<Call, Error> {
        self.call(method)?.at("_local")?.at(name)
    }

    /// Figures of the database.
    pub async fn info(&self) -> Result<DatabaseInfo, Error> {
        self.client.json(self.call(Method::GET)?.slash()).await
    }

    /// Reads a document, into [`Value`] or a model.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, id: &str) -> Result<T, Error> {
        self.get_with(id, &GetOptions::default()).await
    }

    /// Reads a document and what else is asked for.
    pub async fn get_with<T: serde::de::DeserializeOwned>(
        &self,
        id: &str,
        options: &GetOptions,
    ) -> Result<T, Error> {
        let call = self
            .document(Method::GET, id)?
            .query_if("rev", options.rev.as_ref())
            .query_if("conflicts", options.conflicts.then_some(true))
            .query_if("revs", options.revs.then_some(true));
        self.client.json(call).await
    }

    /// The current revision of a document.
    pub async fn revision(&self, id: &str) -> Result<String, Error> {
        let headers = self.client.headers(self.document(Method::HEAD, id)?).await?;
        headers
            .get(header::ETAG)
            .and_then(|etag| etag.to_str().ok())
            .map(|etag| etag.trim_matches('"').to_owned())
            .ok_or_else(|| Error::Unreadable { path: "etag".to_owned() })
    }

    /// Writes a document under its id. With the same body and no `_rev` it is safe to repeat: the second time is a
    /// conflict, except after a deletion, which frees the id.
    pub async fn put<T: Serialize + ?Sized>(&self, id: &str, doc: &T) -> Result<Written, Error> {
        self.client.json(self.document(Method::PUT, id)?.json(doc)?).await
    }

    /// Writes a document under an id that the server chooses. A repeat makes a second document.
    ///
    /// The CHT checks `can_edit` here, as the trailing slash makes it do.
    pub async fn post<T: Serialize + ?Sized>(&self, doc: &T) -> Result<Written, Error> {
        self.client.json(self.call(Method::POST)?.slash().json(doc)?).await
    }

    /// Deletes a document. Only an empty tombstone stays, which a filter on fields never matches.
    pub async fn delete(&self, id: &str, rev: &str) -> Result<Written, Error> {
        self.client.json(self.document(Method::DELETE, id)?.query("rev", rev)).await
    }

    /// Reads a `_local` document.
    pub async fn get_local<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        self.client.json(self.local(Method::GET, name)?).await
    }

    /// Writes a `_local` document, whatever is there.
    pub async fn put_local<T: Serialize + ?Sized>(&self, name: &str, doc: &T) -> Result<Written, Error> {
        self.client.json(self.local(Method::PUT, name)?.json(doc)?).await
    }

    /// Deletes a `_local` document.
    pub async fn delete_local(&self, name: &str, rev: &str) -> Result<Written, Error> {
        self.client.json(self.local(Method::DELETE, name)?.query("rev", rev)).await
    }
}
