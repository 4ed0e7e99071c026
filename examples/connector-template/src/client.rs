//! The partner's HTTP, over the transport that the core hands out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cht_core_client::transport::{Transport, TransportError, collect};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use url::Url;

/// Largest answer that is read.
const LONGEST: usize = 64 * 1024;

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The pause that it asks for.
    pub retry_after: Option<Duration>,
    /// What it says.
    pub body: Bytes,
}

/// Speaks with the endpoint.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<dyn Transport>,
    base: String,
}

impl Client {
    /// For the endpoint at `url`.
    pub fn new(transport: Arc<dyn Transport>, url: &Url) -> Self {
        Self { transport, base: url.as_str().trim_end_matches('/').to_owned() }
    }

    /// Delivers one body.
    pub async fn post(
        &self,
        path: &str,
        key: &str,
        subject: &str,
        body: Bytes,
    ) -> Result<Answer, TransportError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .header("x-subject", subject);
        self.send(request, body).await
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Result<Answer, TransportError> {
        self.send(Request::builder().uri(format!("{}{path}", self.base)), Bytes::new()).await
    }

    async fn send(&self, request: http::request::Builder, body: Bytes) -> Result<Answer, TransportError> {
        let request = request.body(body).map_err(|_| {
            TransportError::new(cht_core_client::transport::TransportErrorKind::TooLate, None)
        })?;
        let (head, body) = self.transport.send(request).await?.into_parts();
        let seconds = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        Ok(Answer { status: head.status, retry_after, body: collect(body, LONGEST).await? })
    }
}
