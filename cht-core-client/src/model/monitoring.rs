//! Figures about a running CHT, and its version.

use std::fmt;

use serde_json::Value;

use super::document::document;

document! {
    /// `GET /api/v2/monitoring`. Unknown numbers are `-1`, unknown texts empty.
    Monitoring {
        /// Versions; `app` is the release.
        version: ServerVersions = "version",
        /// The databases.
        couchdb: Databases = "couchdb",
        /// Work waiting in sentinel.
        sentinel: Backlog = "sentinel",
        /// Pushes waiting.
        outbound_push: Backlog = "outbound_push",
        /// Documents in conflict.
        conflict: Count = "conflict",
        /// Users connected lately.
        connected_users: Count = "connected_users",
    }
}

document! {
    /// Versions of the parts.
    ServerVersions {
        /// The CHT release.
        app: String = "app",
        /// Node.js.
        node: String = "node",
        /// CouchDB; empty if it cannot be reached.
        couchdb: String = "couchdb",
    }
}

document! {
    /// The databases.
    Databases {
        /// The main database.
        medic: DatabaseFigures = "medic",
        /// Sentinel's database.
        sentinel: DatabaseFigures = "sentinel",
    }
}

document! {
    /// Figures of one database.
    DatabaseFigures {
        /// Name; empty if it cannot be reached.
        name: String = "name",
        /// Number of the last change.
        update_sequence: i64 = "update_sequence",
        /// Documents.
        doc_count: i64 = "doc_count",
        /// Tombstones.
        doc_del_count: i64 = "doc_del_count",
    }
}

document! {
    /// A queue.
    Backlog {
        /// How many wait; `-1` if unknown.
        backlog: i64 = "backlog",
    }
}

document! {
    /// A number.
    Count {
        /// How many; `-1` if unknown.
        count: i64 = "count",
    }
}

impl Monitoring {
    /// Changes that sentinel has not processed yet, if known. Writers slow down when it grows.
    pub fn sentinel_backlog(&self) -> Option<u64> {
        known(self.sentinel.as_ref())
    }

    /// Documents whose push waits, if known.
    pub fn outbound_backlog(&self) -> Option<u64> {
        known(self.outbound_push.as_ref())
    }

    /// The CHT release.
    pub fn release(&self) -> Option<Version> {
        Version::parse(self.version.as_ref()?.app.as_deref()?)
    }

    /// Whether the CHT reaches its CouchDB; with it unreachable this call still succeeds.
    pub fn couchdb_reachable(&self) -> bool {
        self.version.as_ref().and_then(|v| v.couchdb.as_deref()).is_some_and(|v| !v.is_empty())
    }
}

fn known(queue: Option<&Backlog>) -> Option<u64> {
    u64::try_from(queue?.backlog?).ok()
}

document! {
    /// `GET /setup/poll`.
    Readiness {
        /// Whether the CHT is ready.
        ready: bool = "ready",
        /// What it says about it.
        detail: String = "detail",
    }
}

document! {
    /// `GET /api/deploy-info`.
    DeployInfo {
        /// The CHT release.
        version: String = "version",
        /// When it was built.
        time: Value = "time",
    }
}

document! {
    /// `GET /api/v1/impact` (5.0 and later).
    Impact {
        /// Users.
        users: Count = "users",
        /// Contacts; `by_type` in `rest`.
        contacts: Count = "contacts",
        /// Reports; `by_form` in `rest`.
        reports: Count = "reports",
    }
}

/// A CHT release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl Version {
    /// Reads `5.2.0`, also with something behind it; a development version may have more than it says.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut parts = text.get(..end)?.split('.').map(|part| part.parse().ok());
        Some(Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next().flatten().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_ordered() {
        let version = |text| Version::parse(text).unwrap();
        assert_eq!(version("5.2.0").to_string(), "5.2.0");
        assert_eq!(version("4.18.1-beta.3"), Version { major: 4, minor: 18, patch: 1 });
        assert_eq!(version("5.2.0.undefined"), Version { major: 5, minor: 2, patch: 0 });
        assert!(version("4.9.0") < version("4.18.0"));
        assert_eq!(Version::parse(""), None);
        assert_eq!(Version::parse("master"), None);
        assert_eq!(Version::parse("99999999999.1"), None);
    }
}
