//! Health, metrics, status, administration, and the entrances of the connectors.
//!
//! An entrance answers 202 only after what it took is on disk; 503 with Retry-After while too much is under way; 401
//! without the right credentials, compared in constant time. Status and administration answer this machine only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;

use super::endpoint::{Access, Endpoint, Request};
use crate::cli::{Admin, execute};
use crate::outbox::Tick;
use crate::reconcile::Side;
use crate::runtime::Bridge;

/// What the server answers about. Bridges change with the configuration.
#[derive(Clone)]
pub struct Server {
    bridges: Arc<std::sync::RwLock<Vec<Arc<Bridge>>>>,
    metrics: PrometheusHandle,
    token: SecretString,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// A server without bridges so far; `token` guards the administration.
    pub fn new(metrics: PrometheusHandle, token: SecretString) -> Self {
        Self { bridges: Arc::default(), metrics, token }
    }

    /// These bridges run now.
    pub fn serve(&self, bridges: Vec<Arc<Bridge>>) {
        *self.bridges.write().unwrap_or_else(std::sync::PoisonError::into_inner) = bridges;
    }

    fn bridges(&self) -> Vec<Arc<Bridge>> {
        self.bridges.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// All routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/health/live", get(|| async { "live" }))
            .route("/health/ready", get(ready))
            .route("/metrics", get(|State(s): State<Self>| async move { s.metrics.render() }))
            .route("/status", get(status))
            .route("/admin/{bridge}", post(admin))
            .fallback(entrance)
            .with_state(self)
    }
}

async fn ready(State(server): State<Server>) -> Response {
    let bridges = server.bridges();
    let mut body = vec![];
    let mut works = !bridges.is_empty();
    for bridge in &bridges {
        let store = bridge.store().read(Tick).await.is_ok();
        works &= store;
        for system in bridge.systems() {
            let state = if system.is_checked() && !system.is_halted() { "up" } else { "degraded" };
            body.push(json!({ "bridge": bridge.name, "system": system.name, "state": state }));
        }
        body.push(json!({ "bridge": bridge.name, "store": if store { "up" } else { "down" } }));
    }
    let status = if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "ready": works, "parts": body }))).into_response()
}

async fn status(State(server): State<Server>, ConnectInfo(from): ConnectInfo<SocketAddr>) -> Response {
    if !from.ip().is_loopback() {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut out = BTreeMap::new();
    for bridge in server.bridges() {
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
    axum::extract::Path(name): axum::extract::Path<String>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Response {
    let given = bearer(&headers).unwrap_or_default();
    if !from.ip().is_loopback() || !equal(given.as_bytes(), server.token.expose_secret().as_bytes()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some(bridge) = server.bridges().into_iter().find(|b| b.name == name) else {
        return answer(StatusCode::NOT_FOUND, "there is no bridge of this name");
    };
    let Ok(request) = serde_json::from_slice::<Admin>(&body) else {
        return answer(StatusCode::BAD_REQUEST, "this is no request of the administration");
    };
    match execute(bridge.store(), request).await {
        Ok(value) => axum::Json(value).into_response(),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn answer(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({ "error": text }))).into_response()
}

/// `/<bridge><path>` of a connector's endpoint.
async fn entrance(
    State(server): State<Server>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: HttpRequest,
) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let found = server.bridges().into_iter().find_map(|bridge| {
        let rest = path.strip_prefix('/')?.strip_prefix(bridge.name.as_str())?.to_owned();
        [Side::Partner, Side::Cht].into_iter().find_map(|side| {
            let endpoints = bridge.system(side).connector.endpoints();
            let endpoint =
                endpoints.into_iter().find(|e| e.path == rest && e.method == head.method.as_str())?;
            Some((bridge.clone(), side, endpoint, rest.clone()))
        })
    });
    let Some((bridge, side, endpoint, rest)) = found else {
        return answer(StatusCode::NOT_FOUND, "nothing is offered here");
    };
    let Ok(body) = to_bytes(body, endpoint.limit).await else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than this entrance takes");
    };
    if !allowed(&endpoint, &head.headers, &body, from) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    if bridge.is_full() {
        let wait = [(header::RETRY_AFTER, "5")];
        return (StatusCode::SERVICE_UNAVAILABLE, wait, Body::from("too much is under way")).into_response();
    }
    let headers =
        head.headers.iter().filter_map(|(k, v)| Some((k.to_string(), v.to_str().ok()?.to_owned()))).collect();
    let deliveries = match (endpoint.accept)(&Request { path: rest, headers, body }) {
        Ok(deliveries) => deliveries,
        Err(reject) => return answer(StatusCode::BAD_REQUEST, &reject.reason),
    };
    let count = deliveries.len();
    match bridge.push(side, deliveries).await {
        Ok(_) => (StatusCode::ACCEPTED, axum::Json(json!({ "accepted": count }))).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "an entrance could not store what it took");
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")]).into_response()
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?.to_owned())
}

fn allowed(endpoint: &Endpoint, headers: &HeaderMap, body: &[u8], from: SocketAddr) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match &endpoint.access {
        Access::Loopback => from.ip().is_loopback(),
        Access::Token(token) => {
            equal(bearer(headers).unwrap_or_default().as_bytes(), token.expose_secret().as_bytes())
        }
        Access::Basic { user, password } => {
            let expected = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
            let given = text("authorization").strip_prefix("Basic ").unwrap_or_default();
            equal(given.as_bytes(), expected.as_bytes())
        }
        Access::Hmac { secret, tolerance } => {
            let at: i64 = text("x-timestamp").parse().unwrap_or(0);
            let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0));
            let fresh = (now - at).unsigned_abs() <= tolerance.as_secs();
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else {
                return false;
            };
            mac.update(format!("{at}.").as_bytes());
            mac.update(body);
            let expected = crate::outbox::hex(&mac.finalize().into_bytes());
            fresh && equal(text("x-signature").as_bytes(), expected.as_bytes())
        }
    }
}

/// Compares in a time that does not tell where two texts differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && !b.is_empty() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

/// What `/status` and the command line show of a value, for people.
pub fn shown(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
