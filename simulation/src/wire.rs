//! The network of a simulation: requests go to a stand-in in the same process, through its fault layer.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, Transport, TransportError, TransportErrorKind, body_of};
use test_support::fault::{Broken, InProcess};

use crate::points::Points;

/// One stand-in as one engine reaches it.
pub struct Wire {
    to: InProcess,
    points: Arc<Points>,
    believes: bool,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// To this stand-in; the engine may end after each call.
    pub fn new(to: InProcess, points: Arc<Points>, believes: bool) -> Self {
        Self { to, points, believes }
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        // Before the call the deadline has just been checked: a stop between that check and the socket is the one that
        // nothing excludes. An end there is an end after the transaction or call before.
        let writes = !request.method().is_safe();
        // What has left goes its way, whatever becomes of the engine.
        let to = self.to.clone();
        let answer = tokio::spawn(async move { to.call(request).await }).await;
        let answer = answer.unwrap_or(Err(Broken::Reset));
        self.points.pass(writes).await;
        match answer {
            // As a connector that takes a success status for proof would read it.
            Ok(response) if self.believes && writes && response.status().is_success() => {
                Ok(response.map(|_| body_of("{\"ok\":true}")))
            }
            Ok(response) => Ok(response.map(body_of)),
            Err(Broken::Refused) => Err(TransportErrorKind::Connect.into()),
            Err(Broken::Reset) => Err(TransportErrorKind::Closed.into()),
            Err(Broken::TimedOut) => Err(TransportErrorKind::Timeout.into()),
        }
    }
}
