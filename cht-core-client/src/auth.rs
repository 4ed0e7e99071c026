//! Logging in: cookie session (preferred) or basic.
//!
//! A session logs in once, keeps its cookie, and logs in again only when the cookie is refused. Only one login runs
//! at a time; calls that wait for it share its outcome, so that a wrong password costs one try and not one per call.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::client::{BuildError, Call, ChtClient};
use crate::error::Error;

/// User and password, and how they are used.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: SecretString,
    basic: bool,
}

impl Credentials {
    /// A cookie session: one login, never rate limited. The usual choice.
    pub fn session(user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { user: user.into(), password: password.into(), basic: false }
    }

    /// Basic authentication with every call. The user may not hold a colon.
    pub fn basic(user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { user: user.into(), password: password.into(), basic: true }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.basic { "Credentials(basic)" } else { "Credentials(session)" })
    }
}

pub(crate) enum Auth {
    Anonymous,
    Basic(HeaderValue),
    Session(Session),
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>) -> Result<Self, BuildError> {
        let Some(credentials) = credentials else { return Ok(Self::Anonymous) };
        if credentials.user.is_empty() {
            return Err(BuildError::EmptyUser);
        }
        if !credentials.basic {
            return Ok(Self::Session(Session {
                credentials,
                attempts: AtomicU64::new(0),
                state: Mutex::new(State { cookie: None, failed: None }),
            }));
        }
        if credentials.user.contains(':') {
            return Err(BuildError::ColonInUser);
        }
        let pair = format!("{}:{}", credentials.user, credentials.password.expose_secret());
        let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let mut value = HeaderValue::try_from(value).map_err(|_| BuildError::Credentials)?;
        value.set_sensitive(true);
        Ok(Self::Basic(value))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous",
            Self::Basic(_) => "basic",
            Self::Session(_) => "session",
        })
    }
}

pub(crate) struct Session {
    credentials: Credentials,
    attempts: AtomicU64,
    state: Mutex<State>,
}

struct State {
    cookie: Option<Cookie>,
    failed: Option<Error>,
}

/// A session cookie and the number of the login that gave it.
#[derive(Clone)]
pub(crate) struct Cookie {
    pub(crate) value: HeaderValue,
    pub(crate) login: u64,
}

#[derive(Serialize)]
struct LoginBody<'a> {
    name: &'a str,
    password: &'a str,
}

impl Session {
    /// The cookie to use, after logging in if there is none or if `refused` is the one there is.
    pub(crate) async fn cookie(&self, client: &ChtClient, refused: Option<u64>) -> Result<Cookie, Error> {
        let before = self.attempts.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if let Some(cookie) = &state.cookie
            && refused != Some(cookie.login)
        {
            return Ok(cookie.clone());
        }
        if let Some(failed) = &state.failed
            && self.attempts.load(Ordering::Acquire) != before
        {
            return Err(failed.shared());
        }
        state.cookie = None;
        let outcome = self.log_in(client).await.map_err(Error::before_the_call);
        let login = self.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        match outcome {
            Ok(value) => {
                let cookie = Cookie { value, login };
                *state = State { cookie: Some(cookie.clone()), failed: None };
                Ok(cookie)
            }
            Err(error) => {
                state.failed = Some(error.shared());
                Err(error)
            }
        }
    }

    async fn log_in(&self, client: &ChtClient) -> Result<HeaderValue, Error> {
        let body =
            LoginBody { name: &self.credentials.user, password: self.credentials.password.expose_secret() };
        let answer = client.exchange(Call::post("/_session").public().json(&body)?).await?;
        session_cookie(&answer.headers).ok_or_else(|| Error::Unreadable { path: "set-cookie".to_owned() })
    }
}

fn session_cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let whole = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find(|value| value.starts_with("AuthSession="))?;
    let pair = whole.split(';').next()?;
    let mut value = HeaderValue::from_str(pair).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserContext {
    /// User name.
    pub name: Option<String>,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<String>,
}

impl UserContext {
    /// Whether the CHT counts this user as online, as an integration user must be.
    pub fn is_online(&self) -> bool {
        self.is_administrator() || self.roles.iter().any(|role| role == "mm-online")
    }

    /// Whether this user passes every permission check.
    pub fn is_administrator(&self) -> bool {
        self.roles.iter().any(|role| role == "admin" || role == "_admin")
    }
}

#[derive(Deserialize)]
struct SessionAnswer {
    #[serde(rename = "userCtx")]
    user_ctx: UserContext,
}

impl ChtClient {
    /// Who the client is logged in as.
    pub async fn user_context(&self) -> Result<UserContext, Error> {
        let answer: SessionAnswer = self.json(Call::get("/_session")).await?;
        Ok(answer.user_ctx)
    }
}
