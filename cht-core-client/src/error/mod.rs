//! What went wrong, in terms a caller can act on.
//!
//! No error text holds a body, a name, a phone number, an identifier, a URL or a credential: a server's message is
//! read into a [`Reason`], and what is not recognised is dropped.

mod reason;

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

pub use reason::Reason;

use crate::transport::{TransportError, TransportErrorKind};

/// How long the CHT refuses basic logins after ten failed ones, counted from the first failure.
pub const RATE_LIMIT_WINDOW: Duration = Duration::from_secs(10);
/// Longest wait that an answer may ask for: a number beyond it is a mistake, or no time at all.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server is starting, or something in front of it answers instead (503, or success with a page).
    #[error("the CHT is not ready (status {status}); try again later")]
    NotReady {
        /// Status of the answer.
        status: u16,
        /// Whether it is certain that the CHT itself said so, and so ignored the request.
        certain: bool,
    },
    /// No valid login, or the password is wrong. Trying again in a loop locks the address out.
    #[error("the CHT wants a login (status {status}); check user and password")]
    LoginRequired {
        /// Status of the answer: 401, or 302 to the login page.
        status: u16,
    },
    /// The user may not do this.
    #[error("the user may not do this: {reason}")]
    Forbidden {
        /// What is missing, if the server said it in known words.
        reason: Reason,
    },
    /// There is no such document.
    #[error("not found{}", if *.deleted { " (deleted)" } else { "" })]
    NotFound {
        /// Whether it was there and is deleted.
        deleted: bool,
    },
    /// This version of the CHT does not have this call, or the database does not exist.
    #[error("this CHT has no such call or database")]
    NoSuchCall,
    /// The document changed meanwhile, or its id is taken (409, and 400 for a stale `_rev`): read it again.
    #[error("the document was changed meanwhile or is there already (status {status}); read it again")]
    Conflict {
        /// Status of the answer.
        status: u16,
    },
    /// The request is wrong and stays wrong.
    #[error("the request was refused{}: {reason}", .status.map(|s| format!(" (status {s})")).unwrap_or_default())]
    Invalid {
        /// Status of the answer; none if it was found before sending.
        status: Option<u16>,
        /// Why.
        reason: Reason,
    },
    /// Too many failed logins. Cookie sessions are never limited.
    #[error("too many failed logins; wait {} s", .wait.as_secs())]
    RateLimited {
        /// After this time the window is over for certain.
        wait: Duration,
    },
    /// The server sends elsewhere: the base URL is probably wrong (`http` for `https`, or a missing path).
    #[error("the server redirects (status {status}); check the base URL")]
    Redirected {
        /// Status of the answer.
        status: u16,
    },
    /// The server failed. On some calls the CHT answers client mistakes and missing rights like this too.
    #[error("the server failed (status {status}{})", .code.map(|c| format!(", {c}")).unwrap_or_default())]
    Server {
        /// Status of the answer.
        status: u16,
        /// The error code of CouchDB, if it is a known one.
        code: Option<&'static str>,
    },
    /// No complete answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The answer is not what it should be, at this place.
    #[error("the answer cannot be read at `{path}`")]
    Unreadable {
        /// Path of the field.
        path: String,
    },
}

impl Error {
    /// Whether a write may have taken effect in spite of the error. Reads have no effect.
    ///
    /// `false` is a promise: the request did not arrive, was ignored or was refused. The two calls that write
    /// several documents in turn (places with a new contact or parent) can have written the first ones.
    pub fn may_have_applied(&self) -> bool {
        match self {
            Self::NotReady { certain, .. } => !certain,
            Self::Server { .. } | Self::Unreadable { .. } => true,
            Self::Transport(error) => !error.nothing_sent(),
            Self::LoginRequired { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::NoSuchCall
            | Self::Conflict { .. }
            | Self::Invalid { .. }
            | Self::RateLimited { .. }
            | Self::Redirected { .. } => false,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything. Try [`Server`](Self::Server) a
    /// few times only: some calls answer mistakes and missing rights with 500.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NotReady { .. } | Self::RateLimited { .. } | Self::Server { .. } | Self::Transport(_)
        )
    }

    /// The error for a request that is wrong before it is sent.
    pub(crate) fn refused(reason: Reason) -> Self {
        Self::Invalid { status: None, reason }
    }

    /// The error that an answer stands for; `None` if it is a success.
    pub(crate) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        if status.is_success() {
            return None;
        }
        let said = Said::read(body);
        let code = status.as_u16();
        Some(match code {
            300..=399 => {
                let place = headers.get(header::LOCATION).map(|v| v.as_bytes()).unwrap_or_default();
                if contains(place, b"/medic/login") {
                    Self::LoginRequired { status: code }
                } else {
                    Self::Redirected { status: code }
                }
            }
            401 => Self::LoginRequired { status: code },
            403 => Self::Forbidden { reason: said.reason },
            404 if said.reason == Reason::NoSuchDatabase => Self::NoSuchCall,
            404 => Self::NotFound { deleted: said.reason == Reason::Deleted },
            409 => Self::Conflict { status: code },
            400 if said.reason.is_stale_revision() => Self::Conflict { status: code },
            429 => Self::RateLimited { wait: retry_after(headers).unwrap_or(RATE_LIMIT_WINDOW) },
            503 => Self::NotReady { status: code, certain: said.reason == Reason::Starting },
            500 if said.details && said.reason != Reason::Unknown => {
                Self::Invalid { status: Some(code), reason: said.reason }
            }
            408 | 500..=599 => Self::Server {
                status: code,
                code: match said.reason {
                    Reason::Code(known) => Some(known),
                    _ => None,
                },
            },
            413 => Self::Invalid { status: Some(code), reason: Reason::TooLarge },
            _ => Self::Invalid { status: Some(code), reason: said.reason },
        })
    }

    /// The error for a success that is a page instead of data.
    pub(crate) fn page_instead_of_data(status: StatusCode, body: &[u8]) -> Self {
        Self::NotReady {
            status: status.as_u16(),
            certain: contains(body, b"Community Health Toolkit is starting"),
        }
    }

    /// The error of a call whose login failed: the call itself was not sent, or was refused.
    pub(crate) fn before_the_call(self) -> Self {
        match self {
            Self::Transport(error) if !error.nothing_sent() => {
                Self::Transport(TransportError::new(TransportErrorKind::Connect, Some(Box::new(error))))
            }
            Self::Server { status, .. } | Self::NotReady { status, .. } => {
                Self::NotReady { status, certain: true }
            }
            Self::Unreadable { .. } => Self::NotReady { status: 200, certain: true },
            other => other,
        }
    }

    /// The same error for another call that waited for the same login.
    pub(crate) fn shared(&self) -> Self {
        match self {
            Self::NotReady { status, certain } => Self::NotReady { status: *status, certain: *certain },
            Self::LoginRequired { status } => Self::LoginRequired { status: *status },
            Self::Forbidden { reason } => Self::Forbidden { reason: reason.clone() },
            Self::NotFound { deleted } => Self::NotFound { deleted: *deleted },
            Self::NoSuchCall => Self::NoSuchCall,
            Self::Conflict { status } => Self::Conflict { status: *status },
            Self::Invalid { status, reason } => Self::Invalid { status: *status, reason: reason.clone() },
            Self::RateLimited { wait } => Self::RateLimited { wait: *wait },
            Self::Redirected { status } => Self::Redirected { status: *status },
            Self::Server { status, code } => Self::Server { status: *status, code: *code },
            Self::Transport(error) => Self::Transport(error.kind().into()),
            Self::Unreadable { path } => Self::Unreadable { path: path.clone() },
        }
    }
}

/// What an error body says, in any of its shapes.
struct Said {
    reason: Reason,
    details: bool,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            let text = std::str::from_utf8(body).unwrap_or_default();
            return Self { reason: Reason::of_message(text), details: false };
        };
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let details = text("details");
        let reason = if let Some(key) = value.pointer("/error/translationKey").and_then(Value::as_str) {
            Reason::of_translation_key(key)
        } else if let Some(details) = details {
            Reason::of_message(details)
        } else if let Some(reason) = text("reason") {
            Reason::of_message(reason).or(|| Reason::of_code(text("error").unwrap_or_default()))
        } else {
            Reason::of_message(value.as_str().or(text("error")).unwrap_or_default())
        };
        Self { reason, details: details.is_some() }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> Error {
        Error::of_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes()).unwrap()
    }

    #[test]
    fn a_stale_revision_is_a_conflict_whatever_the_status() {
        let stale = r#"{"code":400,"error":"The [_rev] fields must not be changed."}"#;
        assert!(matches!(error(400, stale), Error::Conflict { status: 400 }));
        let moved = r#"{"code":400,"error":"The [reported_date] fields must not be changed."}"#;
        assert!(
            matches!(error(400, moved), Error::Invalid { reason: Reason::FieldsChanged(f), .. } if f == ["reported_date"])
        );
    }

    #[test]
    fn only_what_cannot_have_been_written_says_so() {
        for (applied, error) in [
            (false, error(503, r#"{"error":"Service unavailable"}"#)),
            (true, error(503, "<html>no server is available</html>")),
            (true, error(500, r#"{"code":500,"error":"Server error"}"#)),
            (false, error(500, r#"{"code":500,"error":"Server error","details":"Form not found: X"}"#)),
            (true, error(504, "")),
            (false, error(401, "")),
            (false, error(409, "")),
            (true, Error::Unreadable { path: "id".into() }),
            (false, TransportError::from(TransportErrorKind::Connect).into()),
            (false, TransportError::from(TransportErrorKind::TooLate).into()),
            (true, TransportError::from(TransportErrorKind::Timeout).into()),
            (true, TransportError::from(TransportErrorKind::Closed).into()),
        ] {
            assert_eq!(error.may_have_applied(), applied, "{error}");
        }
    }

    #[test]
    fn a_redirect_to_the_login_page_is_a_missing_login_and_no_other_is() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "/medic/login?redirect=%2Fx".parse().unwrap());
        let error = Error::of_answer(StatusCode::FOUND, &headers, b"").unwrap();
        assert!(matches!(error, Error::LoginRequired { status: 302 }));
        headers.insert(header::LOCATION, "https://other/".parse().unwrap());
        let error = Error::of_answer(StatusCode::FOUND, &headers, b"").unwrap();
        assert!(matches!(error, Error::Redirected { status: 302 }));
    }

    #[test]
    fn the_window_of_the_rate_limit_is_known() {
        assert!(
            matches!(error(429, "Too Many Requests"), Error::RateLimited { wait } if wait == RATE_LIMIT_WINDOW)
        );
        let asked = |seconds: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, seconds.parse().unwrap())]);
            match Error::of_answer(StatusCode::TOO_MANY_REQUESTS, &headers, b"") {
                Some(Error::RateLimited { wait }) => wait.as_secs(),
                _ => 0,
            }
        };
        assert_eq!(["7", "254799000007", "soon"].map(asked), [7, 3_600, 10]);
    }
}
