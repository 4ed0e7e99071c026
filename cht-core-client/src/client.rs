//! The client: builds requests, sends them through the [`Transport`], and reads answers into values or errors.
//!
//! It guarantees: `Accept: application/json` on every call, exactly `Content-Type: application/json` on every JSON
//! body, no redirect followed, no write repeated. The one thing that it sends again is a call that was refused for
//! want of a login, once, after logging in.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::auth::{Auth, Credentials};
use crate::error::{Error, Reason};
use crate::features::Features;
use crate::transport::{Body, HttpTransport, IdleTimeout, Timeout, Transport, TransportError, collect};

/// What stays as it is in a path segment or a query value; the rest is percent-encoded.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// How much of an error body is read.
const ERROR_BODY: usize = 256 * 1024;

/// A client of one CHT, logged in as one user. Cloning is cheap and shares the session.
#[derive(Clone)]
pub struct ChtClient {
    inner: Arc<Inner>,
    timeout: Option<Duration>,
}

struct Inner {
    base: String,
    transport: Arc<dyn Transport>,
    auth: Auth,
    database: String,
    max_body: usize,
    features: Features,
}

impl fmt::Debug for ChtClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChtClient")
            .field("base", &self.inner.base)
            .field("auth", &self.inner.auth)
            .field("database", &self.inner.database)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`ChtClient`].
#[derive(Clone, Debug)]
pub struct ChtClientBuilder {
    url: String,
    credentials: Option<Credentials>,
    transport: Option<Arc<dyn Transport>>,
    database: String,
    max_body: usize,
}

/// Why a client cannot be built. It never quotes the URL or the credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The URL cannot be read or is neither http nor https.
    #[error("the CHT URL must be an http or https URL")]
    Url,
    /// The URL holds a user or password.
    #[error("the CHT URL holds a user or password; give them as credentials")]
    UrlWithCredentials,
    /// The URL has a query or fragment.
    #[error("the CHT URL must end with its path")]
    UrlWithQuery,
    /// The user is empty.
    #[error("the user is empty")]
    EmptyUser,
    /// Basic authentication cannot carry a colon in the user.
    #[error("the user holds a colon, which basic authentication cannot carry; use a session")]
    ColonInUser,
    /// The credentials cannot be put into a header.
    #[error("the credentials cannot be put into a header")]
    Credentials,
    /// The database name is empty or holds other characters than lower-case letters, digits and `_-`.
    #[error("the database name may hold lower-case letters, digits, _ and - only")]
    Database,
    /// The transport cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Transport(#[source] TransportError),
}

impl ChtClientBuilder {
    /// Who to log in as; without it only public calls work.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// What sends the requests; [`HttpTransport`] with its defaults if not given.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// The main database, `medic` if not given.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = name.into();
        self
    }

    /// The longest answer that is read into memory, 64 MiB if not given.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Checks the settings and builds the client. Sends nothing.
    pub fn build(self) -> Result<ChtClient, BuildError> {
        let url = Url::parse(&self.url).map_err(|_| BuildError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(BuildError::Url);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BuildError::UrlWithCredentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BuildError::UrlWithQuery);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        if self.database.is_empty() || !self.database.bytes().all(plain) {
            return Err(BuildError::Database);
        }
        let transport = match self.transport {
            Some(transport) => transport,
            None => Arc::new(HttpTransport::builder().build().map_err(BuildError::Transport)?),
        };
        Ok(ChtClient {
            inner: Arc::new(Inner {
                base: url.as_str().trim_end_matches('/').to_owned(),
                transport,
                auth: Auth::new(self.credentials)?,
                database: self.database,
                max_body: self.max_body,
                features: Features::default(),
            }),
            timeout: None,
        })
    }
}

impl ChtClient {
    /// Settings for the CHT at this URL, such as `https://cht.example`.
    pub fn builder(url: impl Into<String>) -> ChtClientBuilder {
        ChtClientBuilder {
            url: url.into(),
            credentials: None,
            transport: None,
            database: "medic".to_owned(),
            max_body: 64 * 1024 * 1024,
        }
    }

    /// The same client and session, with this time for each request instead of the transport's own.
    ///
    /// Give `/api/v2/records` ample time: the CHT pushes to its own destinations inside the call, up to 10 s each.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), timeout: Some(timeout) }
    }

    pub(crate) fn database_name(&self) -> &str {
        &self.inner.database
    }

    pub(crate) fn max_body(&self) -> usize {
        self.inner.max_body
    }

    pub(crate) fn features(&self) -> &Features {
        &self.inner.features
    }

    /// Sends a call and reads its JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let answer = self.authorized(call).await?.expect_json()?;
        read_json(&answer.body)
    }

    /// Sends a call whose answer is not JSON (CSV, XML, plain text); a web page is still an error.
    pub(crate) async fn bytes(&self, call: Call) -> Result<Bytes, Error> {
        Ok(self.authorized(call).await?.expect_no_page()?.body)
    }

    /// Sends a call of which only the headers matter.
    pub(crate) async fn headers(&self, call: Call) -> Result<HeaderMap, Error> {
        Ok(self.authorized(call).await?.expect_json()?.headers)
    }

    async fn authorized(&self, call: Call) -> Result<Answer, Error> {
        let opened = self.open(call).await?;
        let (parts, body) = opened.into_parts();
        let body = collect(body, self.inner.max_body).await?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// Sends a call, logging in if need be, and returns the answer with its body still arriving.
    pub(crate) async fn open(&self, call: Call) -> Result<http::Response<Body>, Error> {
        let session = match (&call.login, &self.inner.auth) {
            (Login::Client, Auth::Session(session)) => session,
            (Login::Client, Auth::Basic(value)) => {
                return self.once(&call, Some((header::AUTHORIZATION, value.clone()))).await;
            }
            (Login::Token(value), _) => {
                return self.once(&call, Some((header::AUTHORIZATION, value.clone()))).await;
            }
            (Login::Client, Auth::Anonymous) | (Login::None, _) => return self.once(&call, None).await,
        };
        let cookie = session.cookie(self, None).await?;
        let login = cookie.login;
        match self.once(&call, Some((header::COOKIE, cookie.value))).await {
            Err(Error::LoginRequired { .. }) => {
                let cookie = session.cookie(self, Some(login)).await?;
                self.once(&call, Some((header::COOKIE, cookie.value))).await
            }
            outcome => outcome,
        }
    }

    /// Sends a call as it is and reads the whole answer.
    pub(crate) async fn exchange(&self, call: Call) -> Result<Answer, Error> {
        let (parts, body) = self.once(&call, None).await?.into_parts();
        let body = collect(body, self.inner.max_body).await?;
        Answer { status: parts.status, headers: parts.headers, body }.expect_json()
    }

    async fn once(
        &self,
        call: &Call,
        credential: Option<(header::HeaderName, HeaderValue)>,
    ) -> Result<http::Response<Body>, Error> {
        let mut request = call.request(&self.inner.base)?;
        if let Some((name, value)) = credential {
            request.headers_mut().insert(name, value);
        }
        match (call.idle, self.timeout) {
            (Some(idle), _) => drop(request.extensions_mut().insert(IdleTimeout(idle))),
            (None, Some(timeout)) => drop(request.extensions_mut().insert(Timeout(timeout))),
            (None, None) => {}
        }
        let answer = self.inner.transport.send(request).await?;
        let status = answer.status();
        tracing::debug!(route = call.route, method = %call.method, status = status.as_u16(), "CHT answered");
        if status.is_success() {
            return Ok(answer);
        }
        let (parts, body) = answer.into_parts();
        let body = collect(body, ERROR_BODY).await.unwrap_or_default();
        Err(Error::of_answer(status, &parts.headers, &body)
            .unwrap_or(Error::Server { status: status.as_u16(), code: None }))
    }
}

/// A complete successful answer.
pub(crate) struct Answer {
    status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn expect_json(self) -> Result<Self, Error> {
        match content_type(&self.headers) {
            Some(kind) if !kind.starts_with("application/json") => {
                Err(Error::page_instead_of_data(self.status, &self.body))
            }
            _ => Ok(self),
        }
    }

    fn expect_no_page(self) -> Result<Self, Error> {
        if is_page(&self.headers) {
            return Err(Error::page_instead_of_data(self.status, &self.body));
        }
        Ok(self)
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

pub(crate) fn is_page(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| kind.starts_with("text/html"))
}

/// Reads JSON; an error names the place and nothing that stands there.
pub(crate) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| Error::Unreadable { path: safe_path(error.path()) })?;
    json.end().map_err(|_| Error::Unreadable { path: ".".to_owned() })?;
    Ok(value)
}

/// Keys that answers of the CHT and CouchDB have by nature.
const KEYS: [&str; 30] = [
    "_id",
    "_rev",
    "changes",
    "completeDate",
    "content",
    "cursor",
    "data",
    "dataElement",
    "dataSet",
    "dataValues",
    "deleted",
    "doc",
    "docs",
    "error",
    "id",
    "key",
    "last_seq",
    "messages",
    "name",
    "ok",
    "orgUnit",
    "pending",
    "period",
    "results",
    "rev",
    "roles",
    "rows",
    "seq",
    "userCtx",
    "value",
];

/// A path without keys that could be somebody's data.
fn safe_path(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let parts: Vec<String> = path
        .iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("[{index}]"),
            Segment::Map { key } if KEYS.contains(&key.as_str()) => key.clone(),
            _ => "?".to_owned(),
        })
        .collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join(".") }
}

/// One request to be sent.
pub(crate) struct Call {
    /// The fixed part of the path, safe to log; empty for documents of a database.
    route: &'static str,
    method: Method,
    path: String,
    query: Vec<(Cow<'static, str>, String)>,
    body: Option<(&'static str, Bytes)>,
    login: Login,
    idle: Option<Duration>,
}

enum Login {
    Client,
    None,
    Token(HeaderValue),
}

impl Call {
    pub(crate) fn new(method: Method, route: &'static str) -> Self {
        let path = route.to_owned();
        Self { route, method, path, query: Vec::new(), body: None, login: Login::Client, idle: None }
    }

    pub(crate) fn get(route: &'static str) -> Self {
        Self::new(Method::GET, route)
    }

    pub(crate) fn post(route: &'static str) -> Self {
        Self::new(Method::POST, route)
    }

    pub(crate) fn put(route: &'static str) -> Self {
        Self::new(Method::PUT, route)
    }

    pub(crate) fn delete(route: &'static str) -> Self {
        Self::new(Method::DELETE, route)
    }

    /// Adds one path segment: an id, which must not change the meaning of the path.
    pub(crate) fn at(mut self, segment: &str) -> Result<Self, Error> {
        if matches!(segment, "" | "." | "..") {
            return Err(Error::refused(Reason::DocumentId));
        }
        self.path.push('/');
        self.path.extend(utf8_percent_encode(segment, PLAIN));
        Ok(self)
    }

    /// Ends the path with a slash, which some calls on a whole database want.
    pub(crate) fn slash(mut self) -> Self {
        self.path.push('/');
        self
    }

    pub(crate) fn query(mut self, name: impl Into<Cow<'static, str>>, value: impl ToString) -> Self {
        self.query.push((name.into(), value.to_string()));
        self
    }

    pub(crate) fn query_if(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(crate) fn json<T: Serialize + ?Sized>(self, body: &T) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(|_| Error::refused(Reason::Request))?;
        Ok(self.body("application/json", body))
    }

    pub(crate) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = Some((content_type, body.into()));
        self
    }

    /// Sends no credentials: public calls are then never rate limited.
    pub(crate) fn public(mut self) -> Self {
        self.login = Login::None;
        self
    }

    /// Authenticates with a token instead of the client's user.
    pub(crate) fn token(mut self, token: &SecretString) -> Result<Self, Error> {
        let mut value = HeaderValue::try_from(format!("Token {}", token.expose_secret()))
            .map_err(|_| Error::refused(Reason::Token))?;
        value.set_sensitive(true);
        self.login = Login::Token(value);
        Ok(self)
    }

    /// For feeds: no limit as a whole, but on silence.
    pub(crate) fn idle(mut self, longest_silence: Duration) -> Self {
        self.idle = Some(longest_silence);
        self
    }

    fn request(&self, base: &str) -> Result<Request<Bytes>, Error> {
        let mut uri = format!("{base}{}", self.path);
        for (i, (name, value)) in self.query.iter().enumerate() {
            uri.push(if i == 0 { '?' } else { '&' });
            uri.extend(utf8_percent_encode(name, PLAIN));
            uri.push('=');
            uri.extend(utf8_percent_encode(value, PLAIN));
        }
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .header(header::ACCEPT, HeaderValue::from_static("application/json"));
        if self.idle.is_some() {
            // A proxy that compresses would hold heartbeats back.
            request = request.header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let body = match &self.body {
            Some((content_type, body)) => {
                request = request.header(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                body.clone()
            }
            None => Bytes::new(),
        };
        request.body(body).map_err(|_| Error::refused(Reason::Request))
    }
}
