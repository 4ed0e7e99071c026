//! One request on its way through the faults to the stand-in's own handler.
//!
//! Guarantees: over TCP a write that was let through is carried to its end even if the client goes away.

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use tower::ServiceExt;

use super::{Action, Faults, Verdict, control, journal, mix};
use crate::clock::Clock;

/// How a request ends that gets no answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    Refused,
    Closed,
    Reset,
    Silent,
}

/// How often the handler of a late request is polled before it is left to the runtime.
const POLLS: usize = 64;

pub(crate) struct Layer {
    pub router: Router,
    pub faults: Faults,
    pub clock: Clock,
}

/// How a request came in.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// From a client on the other side of a socket.
    Tcp,
    /// From a caller in this process, who waits so long.
    InProcess(Duration),
}

impl Layer {
    pub async fn serve(&self, request: Request<Bytes>, way: Way) -> Result<Response<Body>, Fate> {
        if request.uri().path().starts_with("/_standin/") {
            return match control::answer(self, &request) {
                Some(answer) => Ok(answer),
                None => Ok(apply(self.router.clone(), request).await),
            };
        }
        self.clock.run_due();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let verdict = self.faults.decide(&method, &uri, self.clock.now_ms());
        let mut open = self.open(&request, &verdict);
        let action = match verdict {
            Verdict::Outage => return Err(Fate::Refused),
            Verdict::RefuseWrite => {
                return Ok(
                    open.answer(plain(StatusCode::FORBIDDEN, "the plan of this stand-in forbids writes\n"))
                );
            }
            Verdict::Do(action) => action,
        };
        let none = Duration::ZERO;
        let answer = match action {
            Action::Pass | Action::OneOf { .. } => self.apply(request, none, way, &mut open).await,
            Action::Delay { ms } => {
                let delay = Duration::from_millis(ms);
                if matches!(way, Way::InProcess(patience) if delay >= patience) {
                    return Err(self.apply_later(request, open.n, delay));
                }
                self.apply(request, delay, way, &mut open).await
            }
            Action::DropBefore => return Err(Fate::Closed),
            Action::DropAfter => {
                self.apply(request, none, way, &mut open).await;
                return Err(Fate::Closed);
            }
            Action::ApplyLater { ms } => {
                return Err(self.apply_later(request, open.n, Duration::from_millis(ms)));
            }
            Action::Status { code, headers, body, applied } => {
                if applied {
                    self.apply(request, none, way, &mut open).await;
                }
                canned(code, &headers, body)
            }
            Action::FakeSuccess { code, body } => {
                let json = [(header::CONTENT_TYPE.to_string(), "application/json".to_owned())].into();
                canned(code, &json, body)
            }
            Action::Reset => return Err(Fate::Reset),
            Action::HalfOpen => return Err(Fate::Silent),
        };
        Ok(open.answer(answer))
    }

    fn open(&self, request: &Request<Bytes>, verdict: &Verdict) -> Open<'_> {
        let (method, uri) = (request.method(), request.uri());
        let action = match verdict {
            Verdict::Outage => "outage",
            Verdict::RefuseWrite => "read_only",
            Verdict::Do(action) => action.name(),
        };
        let write = !self.faults.is_read(method, uri.path());
        let credentials = request.headers().contains_key(header::AUTHORIZATION)
            || ["/login", "/_session"]
                .iter()
                .any(|login| method == Method::POST && uri.path().ends_with(login));
        let body = (write && self.faults.keeps_bodies()).then_some(request.body().as_ref());
        let arrival = journal::Arrival { method, uri, action, write, now_ms: self.clock.now_ms(), body };
        let n = self.faults.0.journal.open(&arrival);
        let end = journal::End { status: None, applied: false, write, credentials, now_ms: 0 };
        Open { layer: self, n, end }
    }

    async fn apply(
        &self,
        request: Request<Bytes>,
        delay: Duration,
        way: Way,
        open: &mut Open<'_>,
    ) -> Response<Body> {
        let (router, delay) =
            (self.router.clone(), if self.clock.is_manual() { Duration::ZERO } else { delay });
        let applying = async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            apply(router, request).await
        };
        match way {
            Way::InProcess(_) => {
                self.let_others_in(open.n, 0).await;
                open.end.applied = true;
                let answer = applying.await;
                self.let_others_in(open.n, 1).await;
                answer
            }
            Way::Tcp => {
                open.end.applied = true;
                // A write has a task of its own, since the connection's ends with the client.
                if open.end.write { carried(applying).await } else { applying.await }
            }
        }
    }

    /// Requests in one process would otherwise never overlap; how they do is the seed's choice.
    async fn let_others_in(&self, n: u64, side: u64) {
        for _ in 0..mix(self.faults.seed(), side, n) % 3 {
            tokio::task::yield_now().await;
        }
    }

    fn apply_later(&self, request: Request<Bytes>, n: u64, delay: Duration) -> Fate {
        let (router, faults, clock) = (self.router.clone(), self.faults.clone(), self.clock.clone());
        self.clock.after(delay, move || {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            to_the_end(async move {
                let answer = apply(router, request).await;
                faults.0.journal.applied_late(n, &method, &uri, answer.status().as_u16(), clock.now_ms());
            });
        });
        Fate::Silent
    }
}

async fn apply(router: Router, request: Request<Bytes>) -> Response<Body> {
    let Ok(answer) = router.oneshot(request.map(Body::from)).await;
    answer
}

async fn carried(applying: impl Future<Output = Response<Body>> + Send + 'static) -> Response<Body> {
    let failed = |_| plain(StatusCode::INTERNAL_SERVER_ERROR, "the stand-in's handler panicked\n");
    tokio::spawn(applying).await.unwrap_or_else(failed)
}

/// Runs a handler here and now, so that a job has had its effect when it returns; one that waits for something is left to
/// the runtime.
fn to_the_end(applying: impl Future<Output = ()> + Send + 'static) {
    let mut applying = Box::pin(applying);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS {
        if let Poll::Ready(()) = applying.as_mut().poll(&mut context) {
            return;
        }
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(applying);
    }
}

/// Closes the journal's entry when the request is through, or when its client goes away.
struct Open<'a> {
    layer: &'a Layer,
    n: u64,
    end: journal::End,
}

impl Open<'_> {
    fn answer(&mut self, answer: Response<Body>) -> Response<Body> {
        self.end.status = Some(answer.status().as_u16());
        answer
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.end.now_ms = self.layer.clock.now_ms();
        self.layer.faults.0.journal.close(self.n, &self.end);
    }
}

pub(super) fn plain(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::new(text.into());
    *answer.status_mut() = status;
    answer
}

fn canned(code: u16, headers: &std::collections::BTreeMap<String, String>, body: String) -> Response<Body> {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = plain(status, body);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) =
            (header::HeaderName::try_from(name), header::HeaderValue::try_from(value))
        {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
