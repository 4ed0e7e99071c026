//! Health, metrics, status, administration, and the entrances of the connectors.
//!
//! An entrance answers 202 only after what it took is on disk; 503 with Retry-After while too much is under way; 401
//! without the right credentials. Status and administration answer this machine only.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::access::{Standing, is_bearer, is_signed, standing};
use super::endpoint::{Endpoint, Request};
use crate::cli::{Admin, execute};
use crate::clock::Clock;
use crate::outbox::Tick;
use crate::reconcile::Side;
use crate::runtime::Bridge;

/// How long the store may take to answer before it counts as down.
const STORE: Duration = Duration::from_secs(5);
/// What a sender is asked to wait while too much is under way, in seconds.
const LATER: &str = "5";
/// Largest request of the administration: an edited change.
const ADMIN_BODY: usize = 4 << 20;

/// What the server answers about. Bridges change with the configuration.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    live: RwLock<Arc<Live>>,
    metrics: PrometheusHandle,
    token: SecretString,
    clock: Arc<dyn Clock>,
    body_timeout: Duration,
    refused: AtomicBool,
}

/// The bridges that run now and the entrances of their connectors.
#[derive(Default)]
struct Live {
    bridges: Vec<Arc<Bridge>>,
    entrances: HashMap<String, Vec<Entrance>>,
}

struct Entrance {
    bridge: Arc<Bridge>,
    side: Side,
    endpoint: Endpoint,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// A server without bridges so far; `token` guards the administration, a body must be there within `body_timeout`.
    pub fn new(
        metrics: PrometheusHandle,
        token: SecretString,
        clock: Arc<dyn Clock>,
        body_timeout: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            live: RwLock::default(),
            metrics,
            token,
            clock,
            body_timeout,
            refused: AtomicBool::new(false),
        }))
    }

    /// These bridges run now.
    pub fn serve(&self, bridges: Vec<Arc<Bridge>>) {
        let mut entrances: HashMap<String, Vec<Entrance>> = HashMap::new();
        for bridge in &bridges {
            for side in [Side::Cht, Side::Partner] {
                for endpoint in bridge.system(side).connector.endpoints() {
                    let path = format!("/{}{}", bridge.name, endpoint.path);
                    entrances.entry(path).or_default().push(Entrance {
                        bridge: bridge.clone(),
                        side,
                        endpoint,
                    });
                }
            }
        }
        *self.0.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Live { bridges, entrances });
        self.refused(false);
    }

    /// Whether the last new configuration was refused, so that the one before runs on.
    pub fn refused(&self, refused: bool) {
        self.0.refused.store(refused, Ordering::Relaxed);
        metrics::gauge!("connector_configuration_refused").set(if refused { 1.0 } else { 0.0 });
    }

    fn live(&self) -> Arc<Live> {
        self.0.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All routes. Requests must carry the address that they come from as [`ConnectInfo`].
    pub fn router(self) -> Router {
        Router::new()
            .route("/health/live", get(|| async { "live" }))
            .route("/health/ready", get(ready))
            .route("/metrics", get(figures))
            .route("/status", get(status))
            .route("/admin/{bridge}", post(admin).layer(DefaultBodyLimit::max(ADMIN_BODY)))
            .fallback(entrance)
            .with_state(self)
    }
}

/// Ready while configuration, store and entrances work. A partner that is down makes it `degraded`, and no less ready.
async fn ready(State(server): State<Server>) -> Response {
    let live = server.live();
    let mut bridges = vec![];
    let (mut works, mut well) = (!live.bridges.is_empty(), !server.0.refused.load(Ordering::Relaxed));
    let configuration = if well { "up" } else { "refused" };
    for bridge in &live.bridges {
        let store = matches!(tokio::time::timeout(STORE, bridge.store().read(Tick)).await, Ok(Ok(_)));
        works &= store;
        let mut systems = BTreeMap::new();
        for system in bridge.systems() {
            let state = match (system.is_halted(), system.is_checked()) {
                (true, _) => "halted",
                (false, true) => "up",
                (false, false) => "down",
            };
            well &= state == "up";
            systems.insert(system.name.clone(), state);
        }
        let intake = if bridge.is_full() { "full" } else { "up" };
        let store = if store { "up" } else { "down" };
        bridges.push(json!({ "bridge": bridge.name, "store": store, "intake": intake, "systems": systems }));
    }
    let (code, status) = match (works, well) {
        (true, true) => (StatusCode::OK, "up"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "down"),
    };
    let body = json!({ "status": status, "configuration": configuration, "bridges": bridges });
    (code, axum::Json(body)).into_response()
}

async fn figures(State(server): State<Server>) -> String {
    for bridge in &server.live().bridges {
        let name = || bridge.name.clone();
        metrics::counter!("connector_store_commits_total", "bridge" => name())
            .absolute(bridge.store().commits());
        #[expect(clippy::cast_precision_loss, reason = "a gauge of rows needs no more than 52 bits")]
        metrics::gauge!("connector_backlog", "bridge" => name()).set(bridge.backlog() as f64);
    }
    server.0.metrics.run_upkeep();
    server.0.metrics.render()
}

async fn status(State(server): State<Server>, ConnectInfo(from): ConnectInfo<SocketAddr>) -> Response {
    if !from.ip().is_loopback() {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut out = BTreeMap::new();
    for bridge in &server.live().bridges {
        let entry = match execute(bridge.store(), Admin::Status).await {
            Ok(entry) => entry,
            Err(error) => json!({ "error": error.to_string() }),
        };
        out.insert(bridge.name.clone(), entry);
    }
    axum::Json(out).into_response()
}

async fn admin(
    State(server): State<Server>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !from.ip().is_loopback() || !is_bearer(&headers, server.0.token.expose_secret()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some(bridge) = server.live().bridges.iter().find(|b| b.name == name).cloned() else {
        return refuse(StatusCode::NOT_FOUND, "there is no bridge of this name");
    };
    let Ok(request) = serde_json::from_slice::<Admin>(&body) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "this is no request of the administration; use the command line of the same release",
        );
    };
    match execute(bridge.store(), request).await {
        Ok(value) => axum::Json(value).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn refuse(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({ "error": text }))).into_response()
}

fn later(text: &str) -> Response {
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(LATER));
    response
}

fn unauthorized(scheme: &'static str) -> Response {
    let mut response = refuse(StatusCode::UNAUTHORIZED, "the credentials are missing or wrong");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(scheme));
    response
}

/// `/<bridge><path>` of a connector's endpoint.
async fn entrance(
    State(server): State<Server>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: HttpRequest,
) -> Response {
    let (head, body) = request.into_parts();
    let live = server.live();
    let Some(here) = live.entrances.get(head.uri.path()) else {
        return refuse(StatusCode::NOT_FOUND, "nothing is offered here");
    };
    let Some(Entrance { bridge, side, endpoint }) = here.iter().find(|e| e.endpoint.method == head.method)
    else {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "this is offered with another method");
    };
    let standing = standing(&endpoint.access, &head.headers, from);
    if let Standing::No(scheme) = standing {
        return unauthorized(scheme);
    }
    if bridge.is_full() {
        return later("too much is under way");
    }
    let body = match tokio::time::timeout(server.0.body_timeout, whole(body, endpoint.limit)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => return refused,
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    if standing == Standing::Signed
        && !is_signed(&endpoint.access, &head.headers, &body, server.0.clock.now() / 1_000)
    {
        return unauthorized("Signature");
    }
    let headers =
        head.headers.iter().filter_map(|(k, v)| Some((k.to_string(), v.to_str().ok()?.to_owned()))).collect();
    let deliveries = match (endpoint.accept)(&Request { path: endpoint.path.clone(), headers, body }) {
        Ok(deliveries) => deliveries,
        Err(reject) => return refuse(StatusCode::BAD_REQUEST, &reject.reason),
    };
    let accepted = deliveries.len();
    match bridge.push(*side, deliveries).await {
        Ok(_) => (StatusCode::ACCEPTED, axum::Json(json!({ "accepted": accepted }))).into_response(),
        Err(error) => {
            tracing::error!(bridge = bridge.name, error = %error, "an entrance could not store what it took");
            later("it could not be stored; send it again")
        }
    }
}

async fn whole(body: Body, limit: usize) -> Result<Bytes, Response> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than this entrance takes"))
        }
        Err(_) => Err(refuse(StatusCode::BAD_REQUEST, "the body broke off")),
    }
}
