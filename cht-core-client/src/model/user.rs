//! Users.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::document::document;

document! {
    /// A user as the users calls list it.
    User {
        /// Document id, `org.couchdb.user:NAME`.
        id: String = "id",
        /// Revision.
        rev: String = "rev",
        /// User name.
        username: String = "username",
        /// Full name.
        fullname: String = "fullname",
        /// Roles (from version 2 of the call).
        roles: Vec<String> = "roles",
        /// The first role (version 1 of the call).
        first_role: String = "type",
        /// The user's places, whole documents.
        place: Vec<Value> = "place",
        /// The user's contact, a whole document.
        contact: Map<String, Value> = "contact",
        /// Phone number.
        phone: String = "phone",
    }
}

/// A user to be created, or the changes to one.
///
/// An integration user must be online: give a role that `settings.roles` holds, or `mm-online` besides it.
#[derive(Clone, Default)]
pub struct NewUser {
    /// User name (`a-z0-9_-`); left out in a change.
    pub username: Option<String>,
    /// Password, at least 8 characters and not a weak one.
    pub password: Option<SecretString>,
    /// Roles; `None` leaves them as they are in a change.
    pub roles: Option<Vec<String>>,
    /// Whether the user must change the password at the first login. The CHT's own default is yes.
    pub password_change_required: Option<bool>,
    /// Everything else, such as `place`, `contact`, `fullname`.
    pub rest: Map<String, Value>,
}

impl NewUser {
    /// A user for a program: no password change demanded.
    pub fn for_program(username: impl Into<String>, password: SecretString, roles: Vec<String>) -> Self {
        Self {
            username: Some(username.into()),
            password: Some(password),
            roles: Some(roles),
            password_change_required: Some(false),
            rest: Map::new(),
        }
    }
}

impl fmt::Debug for NewUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUser").field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl Serialize for NewUser {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(username) = &self.username {
            map.serialize_entry("username", username)?;
        }
        if let Some(password) = &self.password {
            map.serialize_entry("password", password.expose_secret())?;
        }
        if let Some(roles) = &self.roles {
            map.serialize_entry("roles", roles)?;
        }
        if let Some(required) = self.password_change_required {
            map.serialize_entry("password_change_required", &required)?;
        }
        let own = ["username", "password", "roles", "password_change_required"];
        for (key, value) in self.rest.iter().filter(|(key, _)| !own.contains(&key.as_str())) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The documents that a users call wrote.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct UserWritten {
    /// The login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Map<String, Value>>,
    /// The settings.
    #[serde(default, rename = "user-settings", skip_serializing_if = "Option::is_none")]
    pub user_settings: Option<Map<String, Value>>,
    /// The contact, if the call made or linked one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Map<String, Value>>,
    /// Anything else, such as `token_login`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl fmt::Debug for UserWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserWritten")
    }
}
