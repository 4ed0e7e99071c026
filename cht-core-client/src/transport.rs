//! The seam below the client: one request, one try.
//!
//! A [`Transport`] sends a request once and hands back the answer as it comes. It never follows a redirect and
//! never repeats a request, so that whoever stands above it knows how often a write may have arrived. Everything
//! the client sends goes through it: a caller can put a deadline check, a recorder or an in-process server there.
//!
//! [`HttpTransport`] is the real one. Its errors name no URL: a path may hold an identifier, a query a phone number.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};

/// The body of an answer, as it arrives.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// Sends requests, each of them once.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// One request, one try: never follows a redirect, never retries.
    ///
    /// The request may carry a [`Timeout`] or an [`IdleTimeout`] as an extension.
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError>;
}

/// Request extension: the time for the whole request, from connecting to the last byte of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Duration);

/// Request extension for feeds: the longest silence, before the answer and between two pieces of it.
///
/// A request that carries it and no [`Timeout`] has no limit as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleTimeout(pub Duration);

/// What is known about a request that got no complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// No connection was made: nothing was sent.
    Connect,
    /// The deadline of the attempt passed before the first byte: nothing was sent.
    TooLate,
    /// No complete answer in time. The request may have arrived.
    Timeout,
    /// The connection broke while sending or afterwards. The request may have arrived.
    Closed,
    /// Anything else. The request may have arrived.
    Other,
}

/// A request that got no complete answer.
///
/// `Display` says what happened; the cause is in [`source`](StdError::source). Neither holds the URL.
pub struct TransportError {
    kind: TransportErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// An error of this kind, with its cause if there is one. The cause must not hold URLs or bodies.
    pub fn new(kind: TransportErrorKind, source: Option<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source }
    }

    /// What is known.
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// Whether it is certain that no byte of the request left.
    pub fn nothing_sent(&self) -> bool {
        matches!(self.kind, TransportErrorKind::Connect | TransportErrorKind::TooLate)
    }
}

impl From<TransportErrorKind> for TransportError {
    fn from(kind: TransportErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            TransportErrorKind::Connect => "could not connect; nothing was sent",
            TransportErrorKind::TooLate => "the deadline passed before sending; nothing was sent",
            TransportErrorKind::Timeout => "no complete answer in time; the request may have arrived",
            TransportErrorKind::Closed => "the connection broke; the request may have arrived",
            TransportErrorKind::Other => "the exchange failed; the request may have arrived",
        })
    }
}

impl fmt::Debug for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TransportError");
        debug.field("kind", &self.kind);
        let mut cause: Option<&(dyn StdError + 'static)> = self.source();
        let mut causes = Vec::new();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        debug.field("causes", &causes).finish()
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Reads a body to its end, up to `limit` bytes; a longer one is an error of kind `Other`.
pub async fn collect(mut body: Body, limit: usize) -> Result<Bytes, TransportError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if whole.len() + piece.len() > limit {
            return Err(TransportError::new(TransportErrorKind::Other, Some(Box::new(TooLong { limit }))));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// A body of one piece.
pub fn body_of(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    Box::pin(stream::once(async move { Ok(bytes) }))
}

#[derive(Debug, thiserror::Error)]
#[error("the body is longer than {limit} bytes")]
struct TooLong {
    limit: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("the PEM text holds no certificate")]
struct NoCertificate;

/// The transport over HTTP/1.1 and TLS.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    timeout: Duration,
}

impl HttpTransport {
    /// Settings with usable defaults: connect 10 s, request 60 s, four idle connections kept for 4 s.
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder {
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            pool: 4,
            pool_idle: Duration::from_secs(4),
            root_ca: None,
            user_agent: concat!("cht-core-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Settings of an [`HttpTransport`].
#[derive(Clone, Debug)]
pub struct HttpTransportBuilder {
    connect_timeout: Duration,
    timeout: Duration,
    pool: usize,
    pool_idle: Duration,
    root_ca: Option<Vec<u8>>,
    user_agent: String,
}

impl HttpTransportBuilder {
    /// Time to make a connection, name look-up and TLS included.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Time for a whole request that carries neither [`Timeout`] nor [`IdleTimeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Idle connections kept for each host.
    pub fn pool(mut self, connections: usize) -> Self {
        self.pool = connections;
        self
    }

    /// How long an idle connection is kept. A CHT without nginx in front closes them after 5 s: stay below.
    pub fn pool_idle(mut self, time: Duration) -> Self {
        self.pool_idle = time;
        self
    }

    /// Certificates (PEM, one or several) trusted in addition to those of the system.
    pub fn root_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_ca = Some(pem.into());
        self
    }

    /// The product named in `User-Agent`.
    pub fn user_agent(mut self, product: impl Into<String>) -> Self {
        self.user_agent = product.into();
        self
    }

    /// Builds it; fails if the certificates cannot be read or TLS cannot be set up.
    pub fn build(self) -> Result<HttpTransport, TransportError> {
        let setup = |e: reqwest::Error| {
            TransportError::new(TransportErrorKind::Other, Some(Box::new(e.without_url())))
        };
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(self.pool)
            .pool_idle_timeout(self.pool_idle)
            .tcp_nodelay(true)
            .user_agent(self.user_agent);
        if let Some(pem) = self.root_ca {
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(setup)?;
            if certificates.is_empty() {
                return Err(TransportError::new(TransportErrorKind::Other, Some(Box::new(NoCertificate))));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        Ok(HttpTransport { client: builder.build().map_err(setup)?, timeout: self.timeout })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let total = request.extensions().get::<Timeout>().map(|t| t.0);
        let idle = request.extensions().get::<IdleTimeout>().map(|t| t.0);
        let mut request = reqwest::Request::try_from(request).map_err(from_reqwest)?;
        *request.timeout_mut() = match (total, idle) {
            (None, Some(_)) => None,
            (total, _) => Some(total.unwrap_or(self.timeout)),
        };
        let answer = within(idle, self.client.execute(request)).await?.map_err(from_reqwest)?;

        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers().clone();
        }
        let pieces = Box::pin(answer.bytes_stream());
        let body = stream::unfold(Some(pieces), move |pieces| async move {
            let mut pieces = pieces?;
            match within(idle, pieces.next()).await {
                Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(pieces))),
                Ok(Some(Err(error))) => Some((Err(from_reqwest(error)), None)),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        response
            .body(Box::pin(body) as Body)
            .map_err(|e| TransportError::new(TransportErrorKind::Other, Some(Box::new(e))))
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, TransportError> {
    match limit {
        None => Ok(work.await),
        Some(limit) => {
            tokio::time::timeout(limit, work).await.map_err(|_| TransportErrorKind::Timeout.into())
        }
    }
}

fn from_reqwest(error: reqwest::Error) -> TransportError {
    let kind = if error.is_connect() {
        TransportErrorKind::Connect
    } else if error.is_timeout() {
        TransportErrorKind::Timeout
    } else if error.is_request() || error.is_body() || error.is_decode() {
        TransportErrorKind::Closed
    } else {
        TransportErrorKind::Other
    };
    TransportError::new(kind, Some(Box::new(error.without_url())))
}
