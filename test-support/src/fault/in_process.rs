//! A stand-in called without a socket, for simulations.
//!
//! Guarantees: under a manual clock no call waits for time: what would, ends at once as [`Broken::TimedOut`].

use std::{fmt, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;

use super::{Fate, Faults, Layer, Way};
use crate::clock::Clock;

/// How long a call waits if it is not told.
const PATIENCE: Duration = Duration::from_secs(30);
/// A longer body is cut here.
const LONGEST: usize = 64 << 20;
/// How often a silent body is asked again, under a manual clock, before it counts as ended.
const ASKS: usize = 32;

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// No connection: the request was not sent.
    Refused,
    /// The connection ended before the answer.
    Reset,
    /// Nobody answered in time.
    TimedOut,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection ended before the answer",
            Self::TimedOut => "no answer in time",
        })
    }
}

impl std::error::Error for Broken {}

/// A handle to a stand-in in this process; clones share it.
#[derive(Clone)]
pub struct InProcess(Arc<Layer>);

impl InProcess {
    pub fn new(router: Router, faults: Faults, clock: Clock) -> Self {
        faults.start(&clock);
        Self(Arc::new(Layer { router, faults, clock }))
    }

    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Sends one request and waits 30 s for its answer.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Broken> {
        self.call_within(PATIENCE, request).await
    }

    /// Sends one request. An answer that is delayed by `patience` or more comes too late; the request is applied then all
    /// the same. Under a manual clock an answer that streams without end is what it has sent so far.
    pub async fn call_within(
        &self,
        patience: Duration,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Broken> {
        match self.0.serve(request, Way::InProcess(patience)).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok(Response::from_parts(head, self.read(body).await.ok_or(Broken::Reset)?))
            }
            Err(Fate::Refused) => Err(Broken::Refused),
            Err(Fate::Closed | Fate::Reset) => Err(Broken::Reset),
            Err(Fate::Silent) => {
                if !self.0.clock.is_manual() {
                    tokio::time::sleep(patience).await;
                }
                Err(Broken::TimedOut)
            }
        }
    }

    /// `None` when the body breaks off with an error.
    async fn read(&self, mut body: Body) -> Option<Bytes> {
        let mut whole = BytesMut::new();
        let mut silent = 0;
        while whole.len() < LONGEST {
            let frame = if self.0.clock.is_manual() {
                match body.frame().now_or_never() {
                    Some(frame) => frame,
                    None if silent < ASKS => {
                        silent += 1;
                        tokio::task::yield_now().await;
                        continue;
                    }
                    None => break,
                }
            } else {
                body.frame().await
            };
            match frame {
                Some(Ok(frame)) => whole.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(_)) => return None,
                None => break,
            }
        }
        Some(whole.freeze())
    }
}
