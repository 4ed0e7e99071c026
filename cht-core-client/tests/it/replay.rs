//! A transport that answers in this process and keeps what it was sent.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, IdleTimeout, Timeout, Transport, TransportError};
use cht_core_client::{ChtClient, Credentials};
use futures_util::stream;
use serde_json::Value;

/// What a request looked like.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub timeout: Option<Timeout>,
    pub idle: Option<IdleTimeout>,
}

type Answering = dyn Fn(&Sent, usize) -> Result<Answer, TransportError> + Send + Sync;

/// An answer: status, headers, and the body in pieces, of which one may be an error.
#[derive(Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub pieces: Vec<Result<Bytes, TransportError>>,
}

impl Answer {
    pub fn json(status: u16, body: impl ToString) -> Self {
        Self::of(status, "application/json; charset=utf-8", body.to_string())
    }

    pub fn of(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            pieces: vec![Ok(body.into())],
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

pub struct Replay {
    answering: Box<Answering>,
    sent: Mutex<Vec<Sent>>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replay")
    }
}

impl Replay {
    /// Answers each request with what the function makes of it and of its number.
    pub fn new(
        answering: impl Fn(&Sent, usize) -> Result<Answer, TransportError> + Send + Sync + 'static,
    ) -> Self {
        Self { answering: Box::new(answering), sent: Mutex::new(Vec::new()) }
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl Transport for Replay {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let (parts, body) = request.into_parts();
        let url = url::Url::parse(&parts.uri.to_string()).unwrap();
        let sent = Sent {
            method: parts.method.to_string(),
            path: url.path().to_owned(),
            query: url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            headers: parts.headers,
            body,
            timeout: parts.extensions.get().copied(),
            idle: parts.extensions.get().copied(),
        };
        tokio::task::yield_now().await;
        let number = {
            let mut all = self.sent.lock().unwrap();
            all.push(sent.clone());
            all.len() - 1
        };
        let answer = (self.answering)(&sent, number)?;
        let mut response = http::Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        Ok(response.body(Box::pin(stream::iter(answer.pieces)) as Body).unwrap())
    }
}

/// A client without a login over this transport.
pub fn anonymous(transport: &Arc<Replay>) -> ChtClient {
    ChtClient::builder("http://cht.example").transport(transport.clone()).build().unwrap()
}

/// A client with a session over this transport.
pub fn with_session(transport: &Arc<Replay>) -> ChtClient {
    ChtClient::builder("http://cht.example")
        .transport(transport.clone())
        .credentials(Credentials::session("interop", "pass"))
        .build()
        .unwrap()
}

pub fn json_of(body: &[u8]) -> Value {
    if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() }
}
