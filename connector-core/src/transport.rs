//! The HTTP client that the core hands out: no byte of an attempt leaves after the attempt's deadline.
//!
//! The runtime sets the deadline around [`Connector::deliver`](crate::connector::Connector::deliver) with
//! [`before`]; [`Guarded`] looks at it as the last thing before the request goes to the network and cuts the request's
//! own time limit to what is left. A connector cannot forget it, because it has no other way out.
//!
//! For the same reason the limit of requests at a time is kept here, for look-ups and feeds as well as for writes. A feed
//! that the server holds open until something changes takes no place.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, IdleTimeout, Timeout, Transport, TransportError, TransportErrorKind};
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use crate::clock::Clock;

tokio::task_local! {
    static DEADLINE: i64;
}

/// Runs `work` so that no request that it makes leaves after `deadline` (milliseconds of the core's clock).
pub async fn before<F: Future>(deadline: i64, work: F) -> F::Output {
    DEADLINE.scope(deadline, work).await
}

/// What a connector asks of its connections.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Time to make a connection.
    pub connect_timeout: Duration,
    /// Time for a whole request.
    pub timeout: Duration,
    /// Most requests at a time.
    pub connections: usize,
    /// PEM of a further root certificate, for a server with its own authority.
    pub root_certificate: Option<Vec<u8>>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            connections: 32,
            root_certificate: None,
        }
    }
}

/// Makes the transport below the guard; a simulation puts an in-process server there.
pub type MakeTransport = dyn Fn(&str, &HttpOptions) -> Result<Arc<dyn Transport>, String> + Send + Sync;

/// What the core hands to a connector when it is built.
#[derive(Clone)]
pub struct Wiring {
    clock: Arc<dyn Clock>,
    make: Arc<MakeTransport>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

impl Wiring {
    /// With this clock and this way to make transports.
    pub fn new(clock: Arc<dyn Clock>, make: Arc<MakeTransport>) -> Self {
        Self { clock, make }
    }

    /// The transport of the system configured under `name`, guarded by the deadline.
    pub fn transport(&self, name: &str, options: &HttpOptions) -> Result<Arc<dyn Transport>, String> {
        let inner = (self.make)(name, options)?;
        let places = Arc::new(Semaphore::new(options.connections.max(1)));
        Ok(Arc::new(Guarded { inner, clock: self.clock.clone(), places }))
    }
}

/// Lets nothing through after the deadline of the attempt it runs in, and no more at a time than was asked for.
#[derive(Debug)]
pub struct Guarded {
    inner: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
}

#[async_trait]
impl Transport for Guarded {
    async fn send(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let place = match request.extensions().get::<IdleTimeout>() {
            Some(_) => None,
            // The places are never closed.
            None => self.places.clone().acquire_owned().await.ok(),
        };
        if let Ok(deadline) = DEADLINE.try_with(|d| *d) {
            let left = deadline - self.clock.now();
            let Some(left) = u64::try_from(left).ok().filter(|l| *l > 0).map(Duration::from_millis) else {
                return Err(TransportErrorKind::TooLate.into());
            };
            let own = request.extensions().get::<Timeout>().map_or(left, |t| t.0);
            request.extensions_mut().insert(Timeout(own.min(left)));
        }
        let answer = self.inner.send(request).await?;
        // The place is free again when the body has been read or dropped.
        Ok(answer.map(|body| -> Body {
            Box::pin(body.map(move |piece| {
                let _held = &place;
                piece
            }))
        }))
    }
}

#[cfg(test)]
mod tests {
    use cht_core_client::transport::{body_of, collect};

    use super::*;
    use crate::clock::SystemClock;

    #[derive(Debug)]
    struct Empty;

    #[async_trait]
    impl Transport for Empty {
        async fn send(&self, _request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
            Ok(http::Response::new(body_of("whole")))
        }
    }

    fn one_at_a_time() -> Arc<dyn Transport> {
        let make: Arc<MakeTransport> = Arc::new(|_, _| Ok(Arc::new(Empty)));
        let wiring = Wiring::new(Arc::new(SystemClock::new()), make);
        wiring.transport("any", &HttpOptions { connections: 1, ..HttpOptions::default() }).unwrap()
    }

    #[tokio::test]
    async fn a_place_is_taken_until_the_answer_is_read() {
        let transport = one_at_a_time();
        let first = transport.send(http::Request::default()).await.unwrap();
        let mut second = Box::pin(transport.send(http::Request::default()));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(collect(first.into_body(), 10).await.unwrap(), "whole");
        drop(second.await.unwrap());
        transport.send(http::Request::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_feed_that_is_held_open_takes_no_place() {
        let transport = one_at_a_time();
        let mut held = http::Request::default();
        held.extensions_mut().insert(IdleTimeout(Duration::from_secs(1)));
        let _held = transport.send(held).await.unwrap();
        transport.send(http::Request::default()).await.unwrap();
    }
}
