//! Persons and places by the calls that every version has.
//!
//! They take an `_id` of your own, so that a repeat is a conflict and no second person. They store the type itself
//! (`type: "person"`), check neither phone nor date of birth, and accept a person without a place.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::{Call, ChtClient};
use crate::error::{Error, Reason};

/// Persons and places by the older calls.
#[derive(Clone, Debug)]
pub struct People(ChtClient);

/// What was created.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Created {
    /// Document id.
    pub id: String,
    /// Revision; stale as soon as sentinel adds the shortcode.
    pub rev: String,
    /// The id of the place's contact, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<ContactId>,
}

impl std::fmt::Debug for Created {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Created").field("rev", &self.rev).finish_non_exhaustive()
    }
}

/// The contact of a new place.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContactId {
    /// Document id.
    pub id: String,
}

impl ChtClient {
    /// Persons and places by the calls that every version has.
    pub fn people(&self) -> People {
        People(self.clone())
    }
}

impl People {
    /// Creates a person: `name`, and usually `place` (an id, or a place to be created) and an `_id` of your own.
    ///
    /// A body with `_rev` or `_deleted` is refused here: the CHT would replace or delete without a word.
    pub async fn create(&self, person: &Map<String, Value>) -> Result<Created, Error> {
        let forbidden: Vec<&'static str> =
            ["_rev", "_deleted"].into_iter().filter(|key| person.contains_key(*key)).collect();
        if !forbidden.is_empty() {
            return Err(Error::refused(Reason::FieldsNotAllowed(forbidden)));
        }
        self.replace(person).await
    }

    /// Writes a person as it is: with the current `_rev` it replaces the document, with `_deleted` it deletes it.
    pub async fn replace(&self, person: &Map<String, Value>) -> Result<Created, Error> {
        self.0.json(Call::post("/api/v1/people").json(person)?).await.map_err(parent_not_found)
    }

    /// Creates a place: `name`, `type`, and `parent` and `contact` as ids or as documents to be created.
    ///
    /// With a new parent or contact it makes several writes; an error can leave the first ones behind.
    pub async fn create_place(&self, place: &Map<String, Value>) -> Result<Created, Error> {
        self.0.json(Call::post("/api/v1/places").json(place)?).await.map_err(parent_not_found)
    }

    /// Changes `name`, `parent`, `contact` or `place_id` of a place. The chains of parents stored below it stay.
    pub async fn update_place(&self, id: &str, changes: &Map<String, Value>) -> Result<Created, Error> {
        self.0.json(Call::post("/api/v1/places").at(id)?.json(changes)?).await
    }
}

/// On these calls "not found" speaks of the parent or contact named in the body.
fn parent_not_found(error: Error) -> Error {
    match error {
        Error::NotFound { .. } => Error::Invalid { status: Some(404), reason: Reason::ParentNotFound },
        other => other,
    }
}
