//! A counting router and a client that sees what happens on the socket.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{Router, extract::State, routing::any};
use bytes::Bytes;
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How often the counter router was asked.
#[derive(Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Answers every path with the count so far.
    pub fn router(&self) -> Router {
        let count = |State(counter): State<Self>| async move {
            (counter.0.fetch_add(1, Ordering::SeqCst) + 1).to_string()
        };
        Router::new().fallback(any(count)).with_state(self.clone())
    }
}

pub fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::builder().method(method).uri(path).body(body.into()).unwrap()
}

/// What a client sees of one request on a connection of its own.
#[derive(Debug)]
pub struct Seen {
    pub head: String,
    pub body: String,
    pub ended: Result<(), io::ErrorKind>,
}

impl Seen {
    pub fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1).and_then(|s| s.parse().ok())
    }
}

pub async fn open(url: &str, method: &str, path: &str, body: &str) -> TcpStream {
    open_with(url, method, path, "", body).await
}

async fn open_with(url: &str, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Sends one request and reads until the server ends the connection.
pub async fn send(url: &str, method: &str, path: &str, body: &str) -> Seen {
    send_with(url, method, path, "", body).await
}

/// The same with header lines, each with its line end.
pub async fn send_with(url: &str, method: &str, path: &str, headers: &str, body: &str) -> Seen {
    let mut stream = open_with(url, method, path, headers, body).await;
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await.map(drop).map_err(|e| e.kind());
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Seen { head: head.to_owned(), body: body.to_owned(), ended }
}
