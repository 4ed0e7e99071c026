//! REST and FHIR2 over one session.
//!
//! Guarantees: one login at a time, its session kept, no further try after a refused one until [`Client::login`] is
//! asked for; the text of an answer is looked at before its status; no redirect is followed; addresses come from the
//! configuration, never from a link; no error holds a name, a phone, an identifier or a body.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cht_core_client::transport::{Transport, TransportError, collect};
use connector_core::connector::Fault;
use http::{Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::check::is_known_privilege;

/// Longest answer that is read: a page of 100 patients with narrative is about 1 MiB.
const LONGEST: usize = 32 << 20;
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// What stays as it is in a path segment or a query value.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as one segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A complete answer.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as it came.
    pub text: String,
    /// The server's clock, from the `Date` header.
    pub date: Option<String>,
    /// As the server asked for.
    pub retry_after: Option<Duration>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// The body as `T`; the error names no value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(&self.text).map_err(|e| {
            format!("the answer ({}) does not parse at line {} column {}", self.status, e.line(), e.column())
        })
    }

    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Whether the server's application wrote it, and not a proxy or its container.
    pub fn is_from_openmrs(&self) -> bool {
        let body = self.json();
        body.get("error").is_some() || body.get("resourceType").is_some_and(|t| t == "OperationOutcome")
    }

    /// The same as a fault of a read.
    pub fn fault(&self, what: &str) -> Fault {
        Fault::Retry { after: self.retry_after, reason: format!("{what} was answered {}", self.status) }
    }
}

/// Why a request has no answer that says something about its subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// No byte left: nothing happened.
    NotSent(String),
    /// It may have arrived.
    NoAnswer(String),
    /// Credentials, rights or address: nothing happened, and nothing will before somebody acts.
    Halt(String),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(reason) | Failure::NoAnswer(reason) => Fault::retry(reason),
            Failure::Halt(reason) => Fault::Halt(reason),
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        if error.nothing_sent() {
            Failure::NotSent(error.to_string())
        } else {
            Failure::NoAnswer(error.to_string())
        }
    }
}

enum Session {
    Closed,
    Open(String),
    Refused,
}

/// What a login told.
#[derive(Debug)]
pub struct Login {
    /// Privileges of the user; `None` when it may do everything.
    pub privileges: Option<Vec<String>>,
    /// The server's clock.
    pub date: Option<String>,
}

/// An OpenMRS server.
pub struct Client {
    transport: Arc<dyn Transport>,
    base: String,
    basic: SecretString,
    session: Mutex<Session>,
}

const REFUSED: &str = "OpenMRS refuses the login: wrong user or password, or locked after too many tries; correct it and \
                       let five minutes pass without a try, since each one extends the lock";

impl Client {
    /// Of the server at `url`, for this user.
    pub fn new(transport: Arc<dyn Transport>, url: &str, user: &str, password: &SecretString) -> Self {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{}", password.expose_secret()));
        Self {
            transport,
            base: url.trim_end_matches('/').to_owned(),
            basic: SecretString::from(format!("Basic {encoded}")),
            session: Mutex::new(Session::Closed),
        }
    }

    /// Address of OpenMRS, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Logs in anew, also after a refusal.
    pub async fn login(&self) -> Result<Login, Failure> {
        let mut session = self.session.lock().await;
        self.open_into(&mut session).await.map(|(_, login)| login)
    }

    async fn open_into(&self, session: &mut Session) -> Result<(String, Login), Failure> {
        *session = Session::Closed;
        let opened = self.open().await;
        match &opened {
            Ok((cookie, _)) => *session = Session::Open(cookie.clone()),
            Err(Failure::Halt(_)) => *session = Session::Refused,
            Err(_) => {}
        }
        opened
    }

    /// A session other than `stale`.
    async fn session(&self, stale: Option<&str>) -> Result<String, Failure> {
        let mut session = self.session.lock().await;
        match &*session {
            Session::Open(cookie) if stale != Some(cookie) => return Ok(cookie.clone()),
            Session::Refused => return Err(Failure::Halt(REFUSED.into())),
            Session::Open(_) | Session::Closed => {}
        }
        self.open_into(&mut session).await.map(|(cookie, _)| cookie)
    }

    async fn open(&self) -> Result<(String, Login), Failure> {
        let request = self.request(Method::GET, &format!("{}/ws/rest/v1/session", self.base), None)?;
        let (mut head, body) = request.into_parts();
        let mut basic = http::HeaderValue::from_str(self.basic.expose_secret())
            .map_err(|_| Failure::Halt("user or password cannot be sent in a header".into()))?;
        basic.set_sensitive(true);
        head.headers.insert(header::AUTHORIZATION, basic);
        let response = self.transport.send(http::Request::from_parts(head, body)).await?;
        let cookie = response.headers().get_all(header::SET_COOKIE).iter().find_map(|value| {
            let pair = value.to_str().ok()?.split(';').next()?.trim();
            pair.starts_with("JSESSIONID=").then(|| pair.to_owned())
        });
        let answer = read(response).await?;
        redirected(&answer)?;
        if answer.status == 400 {
            return Err(Failure::Halt(
                "OpenMRS does not understand the login; look at `user` and `password`".into(),
            ));
        }
        if answer.status != 200 {
            return Err(Failure::NoAnswer(format!("the login was answered {}", answer.status)));
        }
        let body = answer.json();
        match body.get("authenticated").and_then(Value::as_bool) {
            Some(true) => {}
            Some(false) => return Err(Failure::Halt(REFUSED.into())),
            None => {
                return Err(Failure::Halt(
                    "no OpenMRS answers at `url`: the session has another form".into(),
                ));
            }
        }
        let cookie = cookie.ok_or_else(|| {
            Failure::Halt("the login sets no JSESSIONID cookie; a proxy in between must pass it".into())
        })?;
        Ok((cookie, Login { privileges: privileges(&body), date: answer.date }))
    }

    /// Reads from REST; `path` is below `/ws/rest/v1/`.
    pub async fn rest(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.send(Method::GET, &self.address("/ws/rest/v1/", path, query), None).await
    }

    /// Writes by REST, at most once.
    pub async fn write(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.send(method, &self.address("/ws/rest/v1/", path, &[]), body).await
    }

    /// Reads from FHIR2, always without narrative; `path` is below `/ws/fhir2/R4`, empty for a page link.
    pub async fn fhir(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Failure> {
        let query: Vec<_> = query.iter().copied().chain([("_summary", "data")]).collect();
        let root = if path.is_empty() { "/ws/fhir2/R4" } else { "/ws/fhir2/R4/" };
        self.send(Method::GET, &self.address(root, path, &query), None).await
    }

    fn address(&self, root: &str, path: &str, query: &[(&str, &str)]) -> String {
        let mut address = format!("{}{root}{path}", self.base);
        for (i, (key, value)) in query.iter().enumerate() {
            address.push(if i == 0 { '?' } else { '&' });
            address.push_str(key);
            address.push('=');
            address.extend(utf8_percent_encode(value, PLAIN));
        }
        address
    }

    fn request(
        &self,
        method: Method,
        address: &str,
        body: Option<Bytes>,
    ) -> Result<http::Request<Bytes>, Failure> {
        let mut request =
            http::Request::builder().method(method).uri(address).header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(body.unwrap_or_default()).map_err(|_| Failure::Halt("`url` makes no address".into()))
    }

    /// A request that was refused for its session did nothing, so it is sent once more with a new one.
    async fn send(&self, method: Method, address: &str, body: Option<Bytes>) -> Result<Answer, Failure> {
        let mut stale = None;
        loop {
            let cookie = self.session(stale.as_deref()).await.map_err(|failure| match failure {
                Failure::NoAnswer(reason) => Failure::NotSent(reason),
                other => other,
            })?;
            let mut request = self.request(method.clone(), address, body.clone())?;
            let value = http::HeaderValue::from_str(&cookie)
                .map_err(|_| Failure::Halt("the session cookie cannot be sent back".into()))?;
            request.headers_mut().insert(header::COOKIE, value);
            let answer = read(self.transport.send(request).await?).await?;
            redirected(&answer)?;
            match denied(&answer) {
                None => return Ok(answer),
                Some(Denied::Session) if stale.is_none() => stale = Some(cookie),
                Some(Denied::Session) => {
                    return Err(Failure::Halt(match missing(&answer.text) {
                        Some(names) => format!("the user lacks a privilege: {names}"),
                        None => {
                            format!("OpenMRS refuses the request right after the login ({})", answer.status)
                        }
                    }));
                }
                Some(Denied::Privilege) => {
                    let names =
                        missing(&answer.text).unwrap_or_else(|| "OpenMRS does not say which".to_owned());
                    return Err(Failure::Halt(format!("the user lacks a privilege: {names}")));
                }
            }
        }
    }
}

async fn read(response: http::Response<cht_core_client::transport::Body>) -> Result<Answer, Failure> {
    let (head, body) = response.into_parts();
    let text = |name| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let date = text(header::DATE);
    let retry_after = text(header::RETRY_AFTER).and_then(|s| s.trim().parse().ok());
    let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
    let body = collect(body, LONGEST).await?;
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status: head.status.as_u16(), text, date, retry_after })
}

fn redirected(answer: &Answer) -> Result<(), Failure> {
    if (300..400).contains(&answer.status) && answer.status != 304 {
        return Err(Failure::Halt("OpenMRS redirects; write the address it redirects to as `url`".into()));
    }
    Ok(())
}

enum Denied {
    /// Not logged in, or not to be told from a missing privilege.
    Session,
    /// Logged in, a privilege is missing.
    Privilege,
}

/// The text says more than the status: a missing login or privilege comes as 400, 401, 403 and 500.
fn denied(answer: &Answer) -> Option<Denied> {
    if answer.status < 400 {
        return None;
    }
    if answer.text.contains("User is logged in but") {
        return Some(Denied::Privilege);
    }
    let unsaid = matches!(answer.status, 401 | 403);
    (unsaid || answer.text.contains("Privileges required")).then_some(Denied::Session)
}

/// Whether an answer is about the session or the rights of the user, and not about its subject.
#[cfg(test)]
pub fn is_denied(answer: &Answer) -> bool {
    denied(answer).is_some()
}

/// Names of the privileges that an answer asks for. Only known ones are repeated: whatever else stands there may be
/// anybody's name.
fn missing(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("Privileges required: ")?;
    let known: Vec<&str> = rest
        .split(|c: char| !c.is_ascii_alphabetic() && c != ' ')
        .map(str::trim)
        .take_while(|name| is_known_privilege(name))
        .collect();
    Some(if known.is_empty() { "one that the connector does not know".to_owned() } else { known.join(", ") })
}

fn privileges(session: &Value) -> Option<Vec<String>> {
    let names = |key: &str| -> Vec<String> {
        let list = session.pointer(&format!("/user/{key}")).and_then(Value::as_array);
        let name = |item: &Value| Some(item.get("name").or(item.get("display"))?.as_str()?.to_owned());
        list.into_iter().flatten().filter_map(name).collect()
    };
    if names("roles").iter().any(|r| r == "System Developer") { None } else { Some(names("privileges")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, text: &str) -> Answer {
        Answer { status, text: text.into(), date: None, retry_after: None }
    }

    #[test]
    fn a_denied_request_is_known_by_its_text_whatever_the_status() {
        for status in [400, 401, 403, 500] {
            assert!(denied(&answer(status, "[x => Privileges required: Get Locations]")).is_some());
        }
        assert!(denied(&answer(200, "Privileges required: nothing, this is a note")).is_none());
        assert!(denied(&answer(500, "Data too long")).is_none());
    }

    #[test]
    fn only_names_of_privileges_are_taken_from_a_text() {
        let text = "{\"message\":\"[Privileges required: Add Patients,Edit Patients]\",\"detail\":\"Amina\"}";
        assert_eq!(missing(text).as_deref(), Some("Add Patients, Edit Patients"));
        for text in [
            "Privileges required: Amina Otieno",
            "Privileges required: Edit Patients for Amina",
            "Privileges required: ",
        ] {
            assert_eq!(missing(text).as_deref(), Some("one that the connector does not know"));
        }
        assert_eq!(missing("Privileges required: Get Locations, Amina").as_deref(), Some("Get Locations"));
    }
}
