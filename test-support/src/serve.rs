//! A stand-in on a loopback port, with faults that are real on the socket.
//!
//! Guarantees: a drop closes the connection without a byte of an answer, a reset sends RST, a silent request stays open
//! until its client leaves; after `stop` or `abort` the port is free again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    fault::{Fate, Faults, Layer, Way},
};

/// The longest request body.
const LONGEST: usize = 64 << 20;
/// How long `stop` waits for requests in progress.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, Fate>> + Send + 'a>>;

/// Whatever answers the requests of a server.
pub(crate) trait Handle: Send + Sync + 'static {
    fn handle(&self, request: Request<Incoming>) -> Answer<'_>;
}

impl Handle for Layer {
    fn handle(&self, request: Request<Incoming>) -> Answer<'_> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            match read(body).await {
                Ok(body) => self.serve(Request::from_parts(head, body), Way::Tcp).await,
                Err(refusal) => refusal,
            }
        })
    }
}

/// The whole body, or what to do with the request instead.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, Result<Response<Body>, Fate>> {
    match Limited::new(body, LONGEST).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let mut answer = Response::new(Body::from("the body is longer than a stand-in takes\n"));
            *answer.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            Err(Ok(answer))
        }
        Err(_) => Err(Err(Fate::Closed)),
    }
}

/// A running server; dropping it aborts it.
pub struct Server {
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub url: String,
    accepting: JoinHandle<()>,
    stopping: CancellationToken,
    ticker: Option<AbortHandle>,
}

impl Server {
    /// Serves on this port of loopback; 0 takes a free one. Under a manual clock delays are none and late requests are
    /// applied when somebody runs the clock's jobs.
    pub async fn start(router: Router, faults: Faults, clock: Clock, port: u16) -> io::Result<Self> {
        faults.start(&clock);
        let layer = Layer { router, faults, clock: clock.clone() };
        Self::start_with(Arc::new(layer), &clock, port).await
    }

    pub(crate) async fn start_with(handler: Arc<dyn Handle>, clock: &Clock, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stopping = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, handler, stopping.clone()));
        let ticker = (!clock.is_manual()).then(|| clock.spawn_ticker());
        Ok(Self { url, accepting, stopping, ticker })
    }

    /// Takes no more connections, ends idle ones, and gives requests in progress two seconds.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        if tokio::time::timeout(GRACE, &mut self.accepting).await.is_err() {
            self.accepting.abort();
            let _cancelled = (&mut self.accepting).await;
        }
    }

    /// Ends everything at once, as a kill would: requests in progress get no answer.
    pub async fn abort(mut self) {
        self.accepting.abort();
        let _cancelled = (&mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
    }
}

/// Connections live in the set: they end with this task.
async fn accept(listener: TcpListener, handler: Arc<dyn Handle>, stopping: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(stream, handler.clone(), stopping.clone()));
            },
            Some(_) = connections.join_next() => {}
            () = stopping.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, handler: Arc<dyn Handle>, stopping: CancellationToken) {
    let _latency_only = stream.set_nodelay(true);
    let reset = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let (handler, reset) = (&handler, &reset);
        async move {
            match handler.handle(request).await {
                Ok(answer) => Ok(answer),
                Err(Fate::Silent) => std::future::pending().await,
                Err(Fate::Closed) => Err(NoAnswer),
                Err(Fate::Reset | Fate::Refused) => {
                    reset.store(true, Ordering::SeqCst);
                    Err(NoAnswer)
                }
            }
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopping.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let stream = connection.into_parts().io.into_inner();
    if ended.is_err() && reset.load(Ordering::SeqCst) {
        let _gone_anyway = stream.set_zero_linger();
    }
}

/// Makes hyper end the connection without an answer.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer is meant to be given")
    }
}

impl std::error::Error for NoAnswer {}
