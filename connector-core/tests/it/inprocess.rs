//! A transport that calls a stand-in in this process: what the simulation puts below the deadline check.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{
    Body, IdleTimeout, Timeout, Transport, TransportError, TransportErrorKind, body_of,
};
use connector_core::clock::Clock;
use connector_core::transport::Wiring;
use test_support::fault::{Broken, InProcess};

/// How long a request waits that carries no limit of its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls one stand-in.
#[derive(Clone)]
pub struct InProcessTransport(pub InProcess);

impl fmt::Debug for InProcessTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessTransport")
    }
}

#[async_trait]
impl Transport for InProcessTransport {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let limits = request.extensions();
        let whole = limits.get::<Timeout>().map(|limit| limit.0);
        let patience = whole.or(limits.get::<IdleTimeout>().map(|limit| limit.0)).unwrap_or(PATIENCE);
        match self.0.call_within(patience, request).await {
            Ok(answer) => Ok(answer.map(body_of)),
            Err(broken) => Err(match broken {
                Broken::Refused => TransportErrorKind::Connect,
                Broken::Reset => TransportErrorKind::Closed,
                Broken::TimedOut => TransportErrorKind::Timeout,
            }
            .into()),
        }
    }
}

/// Wiring that gives each configured system its stand-in.
pub fn wiring(clock: Arc<dyn Clock>, systems: impl IntoIterator<Item = (&'static str, InProcess)>) -> Wiring {
    let systems: BTreeMap<&str, InProcess> = systems.into_iter().collect();
    Wiring::new(
        clock,
        Arc::new(move |name, _| {
            let standin = systems.get(name).ok_or_else(|| format!("no stand-in for `{name}`"))?;
            Ok(Arc::new(InProcessTransport(standin.clone())) as Arc<dyn Transport>)
        }),
    )
}
