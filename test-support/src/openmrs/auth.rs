//! Logins: Basic on each call, sessions by cookie, lock-out after too many wrong passwords.

use std::collections::{HashMap, VecDeque};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    http::{Answer, Call, Reply, failure, html, processing},
    ids::IdSource,
    metadata::metadata,
    model::UserIx,
};

/// Wrong passwords that are allowed before the lock.
const ALLOWED_FAILURES: u32 = 7;
/// How long the lock holds after the last try.
const LOCK_MS: i64 = 5 * 60_000;
/// Sessions kept; the oldest goes first.
const SESSIONS: usize = 10_000;

/// Logins and sessions; a restart forgets them.
#[derive(Clone)]
pub struct Auth {
    ids: IdSource,
    sessions: HashMap<String, Option<UserIx>>,
    order: VecDeque<String>,
    failures: HashMap<UserIx, Failures>,
}

#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    locked_at: Option<i64>,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user: Option<UserIx>,
    /// The session, and whether it is new, so that the answer sets the cookie.
    pub session: String,
    pub is_new: bool,
}

impl Auth {
    /// No session, no failures.
    pub fn new(seed: u64) -> Self {
        Self {
            ids: IdSource::new(seed ^ 0x5E55_1035),
            sessions: HashMap::new(),
            order: VecDeque::new(),
            failures: HashMap::new(),
        }
    }

    /// Finds out who is asking. A live session wins over credentials sent beside it; REST refuses a session that it does
    /// not know even with the right credentials, FHIR logs in anew.
    pub fn identify(&mut self, call: &Call, rest: bool) -> Result<Caller, Reply> {
        let known = call
            .cookie("JSESSIONID")
            .map(|session| (session.to_owned(), self.sessions.get(session).copied()));
        match known {
            Some((session, Some(Some(user)))) => {
                return Ok(Caller { user: Some(user), session, is_new: false });
            }
            Some((_, None)) if rest => return Err(html(401, "Session timed out")),
            _ => {}
        }
        let user = match call.header("authorization").strip_prefix("Basic ") {
            Some(encoded) => self.login(encoded.trim(), call.now)?,
            None => None,
        };
        let (session, is_new) = match known {
            Some((session, Some(_))) => (session, false),
            _ => (self.ids.next().to_string().replace('-', "").to_uppercase(), true),
        };
        if is_new {
            self.order.push_back(session.clone());
            if self.order.len() > SESSIONS
                && let Some(oldest) = self.order.pop_front()
            {
                self.sessions.remove(&oldest);
            }
        }
        self.sessions.insert(session.clone(), user);
        Ok(Caller { user, session, is_new })
    }

    /// Ends a session.
    pub fn logout(&mut self, session: &str) {
        self.sessions.remove(session);
    }

    /// The second part of `user:password` is the password, so one with a colon never fits.
    fn login(&mut self, encoded: &str, now: i64) -> Result<Option<UserIx>, Reply> {
        let refused = || html(400, "Invalid credentials provided");
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| refused())?;
        let text = String::from_utf8(bytes).map_err(|_| refused())?;
        let mut parts = text.split(':');
        let (Some(username), Some(password)) = (parts.next(), parts.next()) else { return Err(refused()) };
        let Some(user) = metadata().user_named(username) else { return Ok(None) };
        let right = metadata().users[usize::from(user)].password.as_deref() == Some(password);
        let failures = self.failures.entry(user).or_default();
        if let Some(locked_at) = failures.locked_at {
            if now - locked_at <= LOCK_MS {
                failures.locked_at = Some(now);
                return Ok(None);
            }
            *failures = Failures::default();
        }
        if right {
            *failures = Failures::default();
            return Ok(Some(user));
        }
        failures.count += 1;
        if failures.count > ALLOWED_FAILURES {
            failures.locked_at = Some(now);
        }
        Ok(None)
    }
}

impl Caller {
    /// The user, if it has one of the privileges; REST says which it asks for.
    pub fn rest(&self, privileges: &[&str], origin: &str) -> Result<UserIx, Reply> {
        let required = format!("Privileges required: {}", privileges.join(","));
        let (class, code) =
            ("org.openmrs.api.APIAuthenticationException", "org.openmrs.aop.AuthorizationAdvice:120");
        let refuse = |status, who: &str| {
            super::http::thrown(status, class, &required, &format!("{who} [{required}]"), code)
        };
        match self.user {
            None => Err(refuse(401, "User is not logged in")
                .with("www-authenticate", format!("Basic realm=\"OpenMRS at {origin}/openmrs/ws/rest/\""))),
            Some(user) if privileges.iter().any(|p| metadata().may(user, p)) => Ok(user),
            Some(_) => Err(refuse(403, "User is logged in but doesn't have the relevant privilege")),
        }
    }

    /// Whether the user may do something; nobody may do nothing.
    pub fn may(&self, privilege: &str) -> bool {
        self.user.is_some_and(|user| metadata().may(user, privilege))
    }

    /// Any user at all; REST.
    pub fn rest_any(&self, origin: &str) -> Result<UserIx, Reply> {
        match self.user {
            Some(user) => Ok(user),
            None => self.rest(&["Get Global Properties"], origin),
        }
    }

    /// The user, if it has one of the privileges; in FHIR a missing one is a 500.
    pub fn fhir(&self, privileges: &[&str], checked: bool) -> Result<UserIx, Reply> {
        let Some(user) = self.user else { return Err(html(401, "Not authenticated")) };
        if !checked || privileges.iter().any(|p| metadata().may(user, p)) {
            return Ok(user);
        }
        let required = privileges.join(",");
        Err(processing(
            500,
            &format!(
                "HAPI-0389: Failed to call access method: org.openmrs.api.APIAuthenticationException: Privileges required: \
                 {required}"
            ),
        ))
    }
}

/// 500: a method of the server that failed.
pub fn null_pointer(raw: &str, code: &str) -> Answer {
    Err(failure(500, "java.lang.NullPointerException", raw, code))
}
