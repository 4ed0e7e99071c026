//! The HTTP client that the core hands out: no byte of an attempt leaves after the attempt's deadline.
//!
//! The runtime sets the deadline around [`Connector::deliver`](crate::connector::Connector::deliver) with
//! [`before`]; [`Guarded`] looks at it as the last thing before the request goes to the network and cuts the request's
//! own time limit to what is left. A connector cannot forget it, because it has no other way out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, Timeout, Transport, TransportError, TransportErrorKind};

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
    /// Most idle connections kept.
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
        Ok(Arc::new(Guarded { inner, clock: self.clock.clone() }))
    }
}

/// Lets nothing through after the deadline of the attempt it runs in.
#[derive(Debug)]
pub struct Guarded {
    inner: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Transport for Guarded {
    async fn send(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        if let Ok(deadline) = DEADLINE.try_with(|d| *d) {
            let left = deadline - self.clock.now();
            let Some(left) = u64::try_from(left).ok().filter(|l| *l > 0).map(Duration::from_millis) else {
                return Err(TransportErrorKind::TooLate.into());
            };
            let own = request.extensions().get::<Timeout>().map_or(left, |t| t.0);
            request.extensions_mut().insert(Timeout(own.min(left)));
        }
        self.inner.send(request).await
    }
}
