//! The calls of the CHT, one handle for each area, each borrowing nothing but a cheap clone of the client.

pub mod contacts;
pub mod credentials;
pub mod export;
pub mod forms;
pub mod hydrate;
pub mod monitoring;
pub mod people;
pub mod records;
pub mod reports;
pub mod settings;
pub mod sms;
pub mod targets;
pub mod users;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::client::Call;

/// A page of a list.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ListPage<T> {
    /// The items. Ids that do not exist are left out.
    pub data: Vec<T>,
    /// Where to go on; `None` after the last page. Pages are no snapshot: what is added meanwhile shifts them.
    pub cursor: Option<String>,
}

impl<T> fmt::Debug for ListPage<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ListPage({} items, more: {})", self.data.len(), self.cursor.is_some())
    }
}

/// Which page of a list to ask for.
#[derive(Clone, Debug, Default)]
pub struct Paging {
    /// The cursor of the page before.
    pub cursor: Option<String>,
    /// How many items at most; the server's default is 100 documents or 10,000 ids.
    pub limit: Option<usize>,
}

impl Paging {
    /// The first page, of this size.
    pub fn first(limit: usize) -> Self {
        Self { cursor: None, limit: Some(limit) }
    }

    /// The page after that one, of the same size; `None` if that was the last.
    pub fn after<T>(&self, page: &ListPage<T>) -> Option<Self> {
        page.cursor.as_ref().map(|cursor| Self { cursor: Some(cursor.clone()), limit: self.limit })
    }

    fn apply(&self, call: Call) -> Call {
        call.query_if("cursor", self.cursor.as_ref()).query_if("limit", self.limit)
    }
}
