//! Connections: how many, how long for a request's head, how long the head; and none left behind at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::config::HttpSettings;
use crate::runtime::Shutdown;

/// How long requests under way may take once the process stops.
const LAST: Duration = Duration::from_secs(5);
/// Pause after a connection could not be taken, which mostly means that the process has too many files open.
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// Most headers of a request.
const HEADERS: usize = 64;

/// Serves until `stopping`; requests under way then are answered.
pub async fn serve(listener: TcpListener, router: Router, settings: HttpSettings, stopping: Shutdown) {
    let places = Arc::new(Semaphore::new(settings.connections));
    let mut connections = JoinSet::new();
    loop {
        let taken = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, taken) = tokio::select! {
            taken = taken => taken,
            () = stopping.stopped() => break,
        };
        match taken {
            Ok((stream, from)) => {
                let one = connection(stream, from, router.clone(), settings.clone(), stopping.clone());
                connections.spawn(async move {
                    one.await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(AFTER_ERROR).await,
        }
        while connections.try_join_next().is_some() {}
    }
    let _ = tokio::time::timeout(LAST, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    router: Router,
    settings: HttpSettings,
    stopping: Shutdown,
) {
    // Without it small answers wait for the other side's acknowledgement; with an error they only come later.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(
                router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout.0)
        .max_buf_size(settings.head.0)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopping.stopped() => connection.as_mut().graceful_shutdown(),
    }
    // How a connection ends is the client's affair.
    let _ = connection.await;
}
