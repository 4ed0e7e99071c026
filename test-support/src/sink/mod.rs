//! A destination that takes anything: every POST or PUT at any path is an effect, counted by its key.
//!
//! Guarantees: duplicates are taken and counted, never refused; memory per key is a hash and a count unless bodies are
//! kept; without faults a delivery takes the short way, straight from hyper, so that the sink is no bottleneck.
//!
//! The key of a delivery is its `Idempotency-Key`, else record id and version of its body (`id_pointer`, `seq_pointer`).
//! Order is watched per `X-Subject` and `X-Seq`, else per record id and version. `GET /sink/effects?key=K` tells whether
//! a key has taken effect.

mod ledger;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
pub use ledger::{Counts, Effect};
use ledger::{Delivery, Ledger};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Clock,
    fault::{Faults, Layer, json, lines},
    serve::{Answer, Handle, Server, read},
};

/// How a sink behaves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How long each delivery takes to answer, after it was applied.
    pub latency_ms: u64,
    /// More deliveries at a time than this are answered 429 and not applied.
    pub concurrent: Option<u64>,
    /// JSON pointer to the id of the record in a body.
    pub id_pointer: Option<String>,
    /// JSON pointer to its version: a number, or a text that begins with one (`3-abc`).
    pub seq_pointer: Option<String>,
    /// Keeps every delivery with its body for `/_standin/sink/effects`.
    pub keep_bodies: bool,
}

/// The sink.
pub struct Sink {
    options: Options,
    clock: Clock,
    ledger: Mutex<Ledger>,
    in_flight: AtomicU64,
    max_concurrent: AtomicU64,
    rejected: AtomicU64,
}

impl Sink {
    pub fn new(options: Options, clock: Clock) -> Arc<Self> {
        Self::with(options, clock, Ledger::default())
    }

    /// Goes on from a state file.
    pub fn load(path: &Path, options: Options, clock: Clock) -> io::Result<Arc<Self>> {
        Ok(Self::with(options, clock, Ledger::load(path)?))
    }

    fn with(options: Options, clock: Clock, ledger: Ledger) -> Arc<Self> {
        let (in_flight, max_concurrent, rejected) = <(AtomicU64, AtomicU64, AtomicU64)>::default();
        Arc::new(Self { options, clock, ledger: Mutex::new(ledger), in_flight, max_concurrent, rejected })
    }

    pub fn save(&self, path: &Path) -> io::Result<()> {
        self.ledger().save(path)
    }

    /// Everything the sink does, without the short way: for [`crate::fault::InProcess`].
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/sink/effects", get(of_key))
            .route(
                "/_standin/sink/counts",
                get(|State(sink): State<Arc<Self>>| async move { json(&sink.counts()) }),
            )
            .route(
                "/_standin/sink/effects",
                get(|State(sink): State<Arc<Self>>| async move { lines(sink.effects()) }),
            )
            .fallback(|State(sink): State<Arc<Self>>, request: Request<Body>| async move {
                let (head, body) = request.into_parts();
                match axum::body::to_bytes(body, usize::MAX).await {
                    Ok(body) => sink.deliver(&head, &body).await,
                    Err(_) => status(StatusCode::BAD_REQUEST),
                }
            })
            .with_state(self.clone())
    }

    /// Serves on a loopback port.
    pub async fn serve(self: &Arc<Self>, faults: Faults, port: u16) -> io::Result<Server> {
        let clock = self.clock.clone();
        faults.start(&clock);
        let layer = Layer { router: self.router(), faults, clock: clock.clone() };
        Server::start_with(Arc::new(Short { sink: self.clone(), layer }), &clock, port).await
    }

    pub fn counts(&self) -> Counts {
        Counts {
            max_concurrent: self.max_concurrent.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            ..self.ledger().counts()
        }
    }

    /// Every delivery in order when bodies are kept, else every key with its count.
    pub fn effects(&self) -> Vec<Effect> {
        self.ledger().effects()
    }

    /// How often this key took effect.
    pub fn times(&self, key: &str) -> u64 {
        self.ledger().times(key.as_bytes())
    }

    async fn deliver(&self, head: &Parts, body: &Bytes) -> Response<Body> {
        let open = Open::new(self);
        if !matches!(head.method, Method::POST | Method::PUT) {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        if self.options.concurrent.is_some_and(|most| open.concurrent > most) {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return status(StatusCode::TOO_MANY_REQUESTS);
        }
        self.note(&head.headers, body);
        if self.options.latency_ms > 0 && !self.clock.is_manual() {
            tokio::time::sleep(Duration::from_millis(self.options.latency_ms)).await;
        }
        taken()
    }

    fn note(&self, headers: &HeaderMap, body: &Bytes) {
        let header = |name: &str| headers.get(name).map(|v| v.as_bytes().to_vec());
        let pointed = self.pointed(body);
        let (id, seq) = (pointed.0.map(String::into_bytes), pointed.1);
        let key = header("idempotency-key").or_else(|| {
            let mut key = id.clone()?;
            key.push(0);
            key.extend_from_slice(seq.as_deref().unwrap_or_default().as_bytes());
            Some(key)
        });
        let seq =
            headers.get("x-seq").and_then(|v| v.to_str().ok()).or(seq.as_deref()).and_then(leading_number);
        let delivery = Delivery { key, subject: header("x-subject").or(id), seq, at_ms: self.clock.now_ms() };
        self.ledger().note(&delivery, body, self.options.keep_bodies);
    }

    /// Record id and version in the body, where pointers are configured.
    fn pointed(&self, body: &Bytes) -> (Option<String>, Option<String>) {
        let Options { id_pointer, seq_pointer, .. } = &self.options;
        if id_pointer.is_none() && seq_pointer.is_none() {
            return (None, None);
        }
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return (None, None) };
        let text = |pointer: &Option<String>| match body.pointer(pointer.as_deref()?)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Null => None,
            other => Some(other.to_string()),
        };
        (text(id_pointer), text(seq_pointer))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[derive(Deserialize)]
struct OfKey {
    key: String,
}

#[derive(Serialize)]
struct KeyState {
    applied: bool,
    count: u64,
}

async fn of_key(State(sink): State<Arc<Sink>>, Query(OfKey { key }): Query<OfKey>) -> Response<Body> {
    let count = sink.times(&key);
    json(&KeyState { applied: count > 0, count })
}

/// A delivery in progress.
struct Open<'a> {
    sink: &'a Sink,
    concurrent: u64,
}

impl<'a> Open<'a> {
    fn new(sink: &'a Sink) -> Self {
        let concurrent = sink.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        sink.max_concurrent.fetch_max(concurrent, Ordering::Relaxed);
        Self { sink, concurrent }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.sink.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Deliveries without faults go past the layer and the router.
struct Short {
    sink: Arc<Sink>,
    layer: Layer,
}

impl Handle for Short {
    fn handle(&self, request: Request<Incoming>) -> Answer<'_> {
        let delivery = matches!(*request.method(), Method::POST | Method::PUT)
            && !request.uri().path().starts_with("/_standin/")
            && self.layer.faults.is_calm();
        if !delivery {
            return self.layer.handle(request);
        }
        Box::pin(async move {
            let (head, body) = request.into_parts();
            match read(body).await {
                Ok(body) => Ok(self.sink.deliver(&head, &body).await),
                Err(refusal) => refusal,
            }
        })
    }
}

/// Reads a body and answers: the least that a server can do, to compare an intake with.
pub struct Bare;

impl Bare {
    /// Serves on a loopback port.
    pub async fn serve(port: u16) -> io::Result<Server> {
        Server::start_with(Arc::new(Self), &Clock::real(), port).await
    }
}

impl Handle for Bare {
    fn handle(&self, request: Request<Incoming>) -> Answer<'_> {
        Box::pin(
            async move { read(request.into_body()).await.map_or_else(|refusal| refusal, |_| Ok(taken())) },
        )
    }
}

fn taken() -> Response<Body> {
    let mut answer = Response::new(Body::from(Bytes::from_static(b"{\"ok\":true}")));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}
