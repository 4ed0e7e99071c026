//! Contacts, persons and places by the calls of 4.9 to 5.2 and later.
//!
//! `POST` chooses the id itself, so a lost answer cannot be told from a failure: to create something once, write it
//! under an id of your own with [`Database::bulk_docs`](crate::docs::Database::bulk_docs) or
//! [`People::create`](super::people::People::create). `POST` stores `type: "contact"` with `contact_type`, where
//! the older calls store the type itself.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{ListPage, Paging};
use crate::client::{Call, ChtClient};
use crate::error::Error;
use crate::model::{Contact, ContactSummary};

/// What to search contact ids by: a type, a text, or both.
#[derive(Clone, Default)]
pub struct ContactSearch {
    /// Contact type.
    pub contact_type: Option<String>,
    /// A prefix of at least three characters without blanks, or `key:value` for an exact match on a top-level field.
    /// The index lags behind writes.
    pub freetext: Option<String>,
}

impl fmt::Debug for ContactSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactSearch").field("contact_type", &self.contact_type).finish_non_exhaustive()
    }
}

/// Contacts of any type.
#[derive(Clone, Debug)]
pub struct Contacts(ChtClient);

/// Contacts of one sort: persons or places.
#[derive(Clone, Debug)]
pub struct ContactsOfSort {
    client: ChtClient,
    route: &'static str,
}

impl ChtClient {
    /// Contacts of any type.
    pub fn contacts(&self) -> Contacts {
        Contacts(self.clone())
    }

    /// Persons.
    pub fn persons(&self) -> ContactsOfSort {
        ContactsOfSort { client: self.clone(), route: "/api/v1/person" }
    }

    /// Places.
    pub fn places(&self) -> ContactsOfSort {
        ContactsOfSort { client: self.clone(), route: "/api/v1/place" }
    }
}

impl Contacts {
    /// Reads a contact (4.18). Not found also if the id is something else.
    pub async fn get(&self, id: &str) -> Result<Contact, Error> {
        self.0.json(Call::get("/api/v1/contact").at(id)?).await
    }

    /// Reads a contact with its parents filled in (4.18).
    pub async fn get_with_lineage(&self, id: &str) -> Result<Contact, Error> {
        self.0.json(Call::get("/api/v1/contact").at(id)?.query("with_lineage", true)).await
    }

    /// Ids of contacts (4.18).
    pub async fn ids(&self, search: &ContactSearch, paging: &Paging) -> Result<ListPage<String>, Error> {
        let call = Call::get("/api/v1/contact/uuid")
            .query_if("type", search.contact_type.as_ref())
            .query_if("freetext", search.freetext.as_ref());
        self.0.json(paging.apply(call)).await
    }

    /// Contacts of a type ([`ListContacts`](crate::features::Feature::ListContacts)).
    pub async fn list_by_type(
        &self,
        contact_type: &str,
        paging: &Paging,
    ) -> Result<ListPage<Contact>, Error> {
        self.0.json(paging.apply(Call::get("/api/v1/contact").query("type", contact_type))).await
    }

    /// Contacts by ids ([`ListContacts`](crate::features::Feature::ListContacts)); every version has
    /// [`Database::all_docs`](crate::docs::Database::all_docs).
    pub async fn list_by_ids(&self, ids: &[&str], paging: &Paging) -> Result<ListPage<Contact>, Error> {
        self.0.json(paging.apply(Call::get("/api/v1/contact").query("ids", ids.join(",")))).await
    }

    /// Summaries ([`ContactSummaries`](crate::features::Feature::ContactSummaries)); unknown ids are left out.
    pub async fn summaries(&self, ids: &[&str]) -> Result<Vec<ContactSummary>, Error> {
        self.0.json(Call::post("/api/v1/contact/summary").json(&json!({ "ids": ids }))?).await
    }

    /// Contacts with this phone number, with their parents filled in: none, one or several, persons and places, also
    /// muted and dead ones. The number is sent in a body, not in a URL that servers log.
    pub async fn by_phone(&self, phone: &str) -> Result<Vec<Contact>, Error> {
        #[derive(serde::Deserialize)]
        struct Found {
            docs: Vec<Contact>,
        }
        match self.0.json(Call::post("/api/v1/contacts-by-phone").json(&json!({ "phone": phone }))?).await {
            Ok(Found { docs }) => Ok(docs),
            Err(Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl ContactsOfSort {
    /// Reads one (4.9 persons, 4.10 places).
    pub async fn get(&self, id: &str) -> Result<Contact, Error> {
        self.client.json(Call::get(self.route).at(id)?).await
    }

    /// Reads one with its parents filled in.
    pub async fn get_with_lineage(&self, id: &str) -> Result<Contact, Error> {
        self.client.json(Call::get(self.route).at(id)?.query("with_lineage", true)).await
    }

    /// Lists those of a type, in both ways of storing it (4.11 persons, 4.12 places).
    pub async fn list(&self, contact_type: &str, paging: &Paging) -> Result<ListPage<Contact>, Error> {
        self.client.json(paging.apply(Call::get(self.route).query("type", contact_type))).await
    }

    /// Creates one (5.2): `type` is the type's id and `parent` an id. The server chooses the id; a repeat makes a
    /// second one.
    pub async fn create<T: Serialize + ?Sized>(&self, contact: &T) -> Result<Contact, Error> {
        self.client.json(Call::post(self.route).json(contact)?).await
    }

    /// Replaces one (5.2). Fields that are left out are removed, and without its shortcode it gets a new one; `_rev`,
    /// `type`, `reported_date` and parents must be the stored ones. The answer repeats what was sent: read again for
    /// what is stored.
    pub async fn replace<T: Serialize + ?Sized>(&self, id: &str, contact: &T) -> Result<Value, Error> {
        self.client.json(Call::put(self.route).at(id)?.json(contact)?).await
    }
}
