//! What a stand-in does to its requests, as data: written in code, read from a file or sent over HTTP.
//!
//! Guarantees: the same plan and the same sequence of requests give the same faults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Requests that change nothing although their method may say otherwise: CouchDB queries, look-ups and logins.
const READS: [&str; 15] = [
    "*/_find",
    "*/_explain",
    "*/_all_docs",
    "*/_changes",
    "*/_bulk_get",
    "*/_revs_diff",
    "*/_search",
    "*/queries",
    "*/_view/*",
    "*/hydrate",
    "*/contacts-by-phone",
    "*/export/*",
    "*/login",
    "*/_session",
    "*/session",
];

/// The faults of one stand-in. The first rule that fires decides; the rules after it do not see the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Drives every probability and every choice of [`Action::OneOf`].
    pub seed: u64,
    pub rules: Vec<Rule>,
    /// Times at which nothing is served, in milliseconds after the plan was set.
    pub outages: Vec<Outage>,
    /// Requests that are no reads are answered 403, not applied, and counted as `writes_refused`.
    pub read_only: bool,
    /// Globs of paths that are reads whatever the method.
    pub reads: Vec<String>,
    /// The log keeps the bodies of requests that are no reads.
    pub bodies: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let reads = READS.map(str::to_owned).to_vec();
        Self { seed: 0, rules: Vec::new(), outages: Vec::new(), read_only: false, reads, bodies: false }
    }
}

impl Plan {
    /// No faults.
    pub fn calm() -> Self {
        Self::default()
    }

    /// One rule that fires at every request it matches.
    pub fn always(action: Action) -> Self {
        Self::default().with(Rule::new(action))
    }

    /// Every kind of mishap, at random, on this share (0 to 1) of the requests that match `method` and `path`.
    pub fn mishaps(seed: u64, share: f64, method: Option<&str>, path: Option<&str>, late_ms: u64) -> Self {
        let of = vec![
            Action::DropBefore,
            Action::DropAfter,
            Action::ApplyLater { ms: late_ms },
            Action::status(503, false),
            Action::too_many(Some(1)),
            Action::status(500, true),
            Action::FakeSuccess { code: 200, body: "{}".to_owned() },
            Action::Reset,
            Action::HalfOpen,
        ];
        let rule = Rule {
            method: method.map(str::to_owned),
            path: path.map(str::to_owned),
            probability: share,
            ..Rule::new(Action::OneOf { of })
        };
        Self { seed, ..Self::default() }.with(rule)
    }

    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    pub(super) fn is_read(&self, method: &http::Method, path: &str) -> bool {
        matches!(*method, http::Method::GET | http::Method::HEAD | http::Method::OPTIONS)
            || self.reads.iter().any(|glob| glob_matches(glob, path))
    }
}

/// Which requests an action befalls.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Any method when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A glob over the path in which `*` stands for any characters, `/` included; a glob with a `?` is compared with path
    /// and query. Any path when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only the nth matching request, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// The chance (0 to 1) of each matching request.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How many matching requests in a row it befalls once it fires.
    #[serde(default = "once")]
    pub burst: u64,
    pub action: Action,
}

fn certain() -> f64 {
    1.0
}

fn once() -> u64 {
    1
}

impl Rule {
    /// A rule for every request.
    pub fn new(action: Action) -> Self {
        Self { method: None, path: None, nth: None, probability: certain(), burst: once(), action }
    }

    /// A rule for requests of this method and path glob.
    pub fn on(method: &str, path: &str, action: Action) -> Self {
        Self { method: Some(method.to_owned()), path: Some(path.to_owned()), ..Self::new(action) }
    }

    #[must_use]
    pub fn nth(self, nth: u64) -> Self {
        Self { nth: Some(nth), ..self }
    }

    #[must_use]
    pub fn burst(self, burst: u64) -> Self {
        Self { burst, ..self }
    }

    pub(super) fn matches(&self, method: &http::Method, uri: &http::Uri) -> bool {
        self.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(method.as_str()))
            && self.path.as_deref().is_none_or(|glob| {
                let whole = uri.path_and_query().map_or("/", |p| p.as_str());
                glob_matches(glob, if glob.contains('?') { whole } else { uri.path() })
            })
    }
}

/// What happens to one request. "Applied" means that the stand-in's own handler saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    Pass,
    /// Applied and answered that much later, applied even if the client has gone away by then.
    Delay {
        ms: u64,
    },
    /// The connection is closed, nothing applied.
    DropBefore,
    /// Applied, then the connection is closed without an answer.
    DropAfter,
    /// Never answered; applied that much later.
    ApplyLater {
        ms: u64,
    },
    /// Answered with this status whatever became of the request.
    Status {
        code: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
        #[serde(default)]
        applied: bool,
    },
    /// A success, with nothing applied.
    FakeSuccess {
        #[serde(default = "ok")]
        code: u16,
        #[serde(default)]
        body: String,
    },
    /// The connection is reset (TCP RST), nothing applied.
    Reset,
    /// Never answered, nothing applied, the connection left open.
    HalfOpen,
    /// One of these, drawn by the seed.
    OneOf {
        of: Vec<Action>,
    },
}

fn ok() -> u16 {
    200
}

impl Action {
    /// A bare status.
    pub fn status(code: u16, applied: bool) -> Self {
        Self::Status { code, headers: BTreeMap::new(), body: String::new(), applied }
    }

    /// 429, with `Retry-After` in seconds or without.
    pub fn too_many(retry_after: Option<u64>) -> Self {
        let headers = retry_after.map(|s| ("retry-after".to_owned(), s.to_string())).into_iter().collect();
        Self::Status { code: 429, headers, body: String::new(), applied: false }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Delay { .. } => "delay",
            Self::DropBefore => "drop_before",
            Self::DropAfter => "drop_after",
            Self::ApplyLater { .. } => "apply_later",
            Self::Status { applied: false, .. } => "status",
            Self::Status { applied: true, .. } => "status_applied",
            Self::FakeSuccess { .. } => "fake_success",
            Self::Reset => "reset",
            Self::HalfOpen => "half_open",
            Self::OneOf { .. } => "one_of",
        }
    }
}

/// Served again from `to_ms` on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    pub from_ms: i64,
    pub to_ms: i64,
}

/// Whether `*` (any characters) in a glob can be filled so that it is the text.
fn glob_matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("/medic/*", "/medic/abc/def", true),
            ("/medic/*", "/medic", false),
            ("/medic", "/medic", true),
            ("/medic", "/medic/", false),
            ("*/_find", "/medic/_find", true),
            ("*/_find", "/medic/_find/x", false),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*bc*c", "/abc", false),
            ("*", "", true),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_plan_is_readable_json() {
        let text = r#"{"seed":7,"rules":[{"method":"POST","path":"*/patient","nth":2,"action":{"kind":"apply_later","ms":9000}},
            {"action":{"kind":"status","code":429,"headers":{"retry-after":"3"}}}],"read_only":true}"#;
        let plan: Plan = serde_json::from_str(text).unwrap();
        assert_eq!(plan.rules[0].action, Action::ApplyLater { ms: 9000 });
        assert_eq!(plan.rules[1].action, Action::too_many(Some(3)));
        assert!(plan.read_only && !plan.reads.is_empty());
        assert!(serde_json::from_str::<Plan>(r#"{"rule":[]}"#).is_err(), "a misspelt key is no silent calm");
    }

    #[test]
    fn reads_are_told_from_writes() {
        let plan = Plan::default();
        for (method, path, read) in [
            ("GET", "/medic/x", true),
            ("POST", "/medic/_find", true),
            ("POST", "/api/v1/hydrate", true),
            ("POST", "/medic/login", true),
            ("DELETE", "/openmrs/ws/rest/v1/session", true),
            ("POST", "/medic/_bulk_docs", false),
            ("PUT", "/medic/x", false),
            ("POST", "/openmrs/ws/rest/v1/idgen/identifiersource/x/identifier", false),
        ] {
            assert_eq!(plan.is_read(&method.parse().unwrap(), path), read, "{method} {path}");
        }
    }
}
