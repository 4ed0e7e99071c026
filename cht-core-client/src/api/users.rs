//! Users of the CHT.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Call, ChtClient};
use crate::error::Error;
use crate::model::{NewUser, User, UserWritten};

/// Which users to list.
#[derive(Clone, Default)]
pub struct UserFilter {
    /// Those of this place.
    pub facility_id: Option<String>,
    /// Those of this contact.
    pub contact_id: Option<String>,
}

impl std::fmt::Debug for UserFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserFilter")
    }
}

/// How many documents an offline user of a place would replicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReplicationSize {
    /// Documents.
    pub total_docs: u64,
    /// Documents without the tasks that are not replicated.
    pub warn_docs: u64,
    /// Whether that is too many.
    pub warn: bool,
    /// The limit.
    pub limit: u64,
}

/// Users of the CHT.
#[derive(Clone, Debug)]
pub struct Users(ChtClient);

impl ChtClient {
    /// Users of the CHT.
    pub fn users(&self) -> Users {
        Users(self.clone())
    }
}

impl Users {
    /// Lists users with all roles (4.1; filters 4.7).
    pub async fn list(&self, filter: &UserFilter) -> Result<Vec<User>, Error> {
        let call = Call::get("/api/v2/users")
            .query_if("facility_id", filter.facility_id.as_ref())
            .query_if("contact_id", filter.contact_id.as_ref());
        self.0.json(call).await
    }

    /// Lists users with their first role, by the call that every version has.
    pub async fn list_v1(&self) -> Result<Vec<User>, Error> {
        self.0.json(Call::get("/api/v1/users")).await
    }

    /// Reads a user (4.7).
    pub async fn get(&self, username: &str) -> Result<User, Error> {
        self.0.json(Call::get("/api/v2/users").at(username)?).await
    }

    /// Creates a user (4.9). Place and contact, if any, must exist.
    pub async fn create(&self, user: &NewUser) -> Result<UserWritten, Error> {
        self.0.json(Call::post("/api/v3/users").json(user)?).await
    }

    /// Creates a user by the second version of the call (3.16), which also makes places and contacts.
    pub async fn create_v2(&self, user: &NewUser) -> Result<UserWritten, Error> {
        self.0.json(Call::post("/api/v2/users").json(user)?).await
    }

    /// Creates a user by the call that every version has, which also makes places and contacts.
    pub async fn create_v1(&self, user: &NewUser) -> Result<UserWritten, Error> {
        self.0.json(Call::post("/api/v1/users").json(user)?).await
    }

    /// Changes a user.
    pub async fn update(&self, username: &str, changes: &NewUser) -> Result<UserWritten, Error> {
        self.0.json(Call::post("/api/v1/users").at(username)?.json(changes)?).await
    }

    /// Deletes a user.
    pub async fn delete(&self, username: &str) -> Result<(), Error> {
        self.0.json::<Value>(Call::delete("/api/v1/users").at(username)?).await.map(drop)
    }

    /// How many documents a user with this role at this place would replicate.
    pub async fn replication_size(&self, role: &str, facility_id: &str) -> Result<ReplicationSize, Error> {
        let call = Call::get("/api/v1/users-info").query("role", role).query("facility_id", facility_id);
        self.0.json(call).await
    }
}
