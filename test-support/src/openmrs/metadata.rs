//! The metadata of the recorded server: users, roles, types, locations, concepts. Read once from an embedded file.

use std::{collections::HashMap, sync::LazyLock};

use serde::Deserialize;
use serde_json::Value;

use super::model::UserIx;

/// All metadata; rows that are only shown are kept as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub allowed_locales: Vec<String>,
    pub users: Vec<User>,
    pub roles: Vec<Role>,
    pub privileges: HashMap<String, String>,
    #[serde(flatten)]
    tables: HashMap<String, Vec<Value>>,
}

/// A user of the server.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub uuid: String,
    pub username: String,
    pub system_id: String,
    pub password: Option<String>,
    pub role: Option<String>,
    pub given: String,
    pub family: String,
    pub name_uuid: String,
    pub gender: String,
    pub stamp: i64,
    pub person: Option<String>,
    pub provider: Option<String>,
}

/// A role with its privileges by name.
#[derive(Deserialize)]
pub struct Role {
    pub uuid: String,
    pub name: String,
    pub privileges: Vec<String>,
}

/// The role that may do everything.
pub const SYSTEM_DEVELOPER: &str = "System Developer";

/// The user `admin`, who made what nobody else is named for.
pub const ADMIN: UserIx = 0;

static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    serde_json::from_str(include_str!("metadata.json")).expect("the embedded metadata is valid")
});

/// The metadata of the recorded server.
pub fn metadata() -> &'static Metadata {
    &METADATA
}

impl Metadata {
    /// A table of metadata by the name of its REST resource.
    pub fn table(&self, name: &str) -> &[Value] {
        self.tables.get(name).map_or(&[], Vec::as_slice)
    }

    /// A row by uuid.
    pub fn row(&self, table: &str, uuid: &str) -> Option<&Value> {
        self.table(table).iter().find(|row| row["uuid"] == uuid)
    }

    /// Where a row is in its table.
    pub fn index(&self, table: &str, uuid: &str) -> Option<u16> {
        self.table(table).iter().position(|row| row["uuid"] == uuid).and_then(|at| u16::try_from(at).ok())
    }

    /// A row by its place.
    pub fn at(&self, table: &str, index: u16) -> &Value {
        &self.table(table)[usize::from(index)]
    }

    /// Where a row of that name is in its table.
    pub fn named(&self, table: &str, name: &str) -> Option<u16> {
        self.table(table).iter().position(|row| row["name"] == name).and_then(|at| u16::try_from(at).ok())
    }

    /// A user by name.
    pub fn user_named(&self, username: &str) -> Option<UserIx> {
        self.users.iter().position(|user| user.username == username).and_then(|at| u16::try_from(at).ok())
    }

    /// Whether a user may do something.
    pub fn may(&self, user: UserIx, privilege: &str) -> bool {
        let Some(role) = &self.users[usize::from(user)].role else { return false };
        role == SYSTEM_DEVELOPER
            || self.roles.iter().any(|r| r.uuid == *role && r.privileges.iter().any(|p| p == privilege))
    }
}

/// The text at a key of a row, empty when it is not one.
pub fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}
