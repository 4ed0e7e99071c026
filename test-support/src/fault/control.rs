//! The paths by which a test or a person looks at a stand-in and sets its faults.
//!
//! `GET /_standin/log[?from=N]` (JSON lines), `DELETE /_standin/log`, `GET /_standin/requests`,
//! `GET|PUT|DELETE /_standin/faults`.

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde::Serialize;

use super::{Layer, Plan, layer::plain};

/// `None` for a path of the stand-in itself.
pub(super) fn answer(layer: &Layer, request: &Request<Bytes>) -> Option<Response<Body>> {
    let faults = &layer.faults;
    Some(match (request.method(), request.uri().path()) {
        (&Method::GET, "/_standin/log") => {
            let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
            let from = query.filter(|(k, _)| k == "from").find_map(|(_, v)| v.parse().ok()).unwrap_or(0);
            lines(faults.log(from))
        }
        (&Method::DELETE, "/_standin/log") => {
            faults.reset_log();
            plain(StatusCode::NO_CONTENT, "")
        }
        (&Method::GET, "/_standin/requests") => json(&faults.requests()),
        (&Method::GET, "/_standin/faults") => json(&faults.plan()),
        (&Method::PUT, "/_standin/faults") => match serde_json::from_slice::<Plan>(request.body()) {
            Ok(plan) => {
                faults.set(plan);
                faults.start(&layer.clock);
                plain(StatusCode::NO_CONTENT, "")
            }
            Err(error) => plain(StatusCode::BAD_REQUEST, format!("not a plan: {error}\n")),
        },
        (&Method::DELETE, "/_standin/faults") => {
            faults.clear();
            plain(StatusCode::NO_CONTENT, "")
        }
        _ => return None,
    })
}

pub(crate) fn json(value: &impl Serialize) -> Response<Body> {
    let mut answer = plain(StatusCode::OK, serde_json::to_vec(value).unwrap_or_default());
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

pub(crate) fn lines<T: Serialize>(values: impl IntoIterator<Item = T>) -> Response<Body> {
    let mut text = Vec::new();
    for value in values {
        if serde_json::to_writer(&mut text, &value).is_ok() {
            text.push(b'\n');
        }
    }
    let mut answer = plain(StatusCode::OK, text);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-ndjson"));
    answer
}
