//! Requests as the stand-in sees them and answers in the shapes that the CHT gives: JSON only for those who ask for it,
//! bare text, redirects to the login page, CouchDB's own errors.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::HeaderName};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// The largest body that the CHT reads.
pub(super) const MAX_BODY: usize = 32 * 1024 * 1024;
pub(super) const JSON: &str = "application/json";
const API_JSON: &str = "application/json; charset=utf-8";

pub(super) struct Req {
    pub method: Method,
    /// The path as it was sent, without the query, double slashes collapsed.
    pub raw_path: String,
    pub path: Vec<String>,
    pub trailing_slash: bool,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Req {
    pub fn new(method: Method, uri: &http::Uri, headers: HeaderMap, body: Bytes) -> Self {
        let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Self {
            method,
            raw_path: format!("/{}", parts.join("/")),
            path: parts.iter().map(|part| decode(part)).collect(),
            trailing_slash: uri.path().ends_with('/'),
            query: url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect(),
            headers,
            body,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn flag(&self, name: &str) -> bool {
        self.param(name) == Some("true")
    }

    /// A parameter that holds JSON, as CouchDB's `key` and `startkey`.
    pub fn json_param(&self, name: &str) -> Result<Option<Value>, Fail> {
        let Some(text) = self.param(name) else { return Ok(None) };
        serde_json::from_str(text)
            .map(Some)
            .map_err(|_| Fail::couch(400, "bad_request", "invalid UTF-8 JSON"))
    }

    /// Errors are JSON only for those who rank it above text.
    pub fn wants_json(&self) -> bool {
        let accept = self.header("accept").unwrap_or_default();
        match (accept.find("application/json"), accept.find("text/")) {
            (Some(json), Some(text)) => json < text,
            (json, _) => json.is_some(),
        }
    }

    pub fn content_type(&self) -> &str {
        self.header("content-type").unwrap_or_default()
    }

    /// Whether the media type is JSON, parameters allowed.
    pub fn is_json(&self) -> bool {
        self.content_type().split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON)
    }

    pub fn is_form(&self) -> bool {
        self.content_type().starts_with("application/x-www-form-urlencoded")
    }

    pub fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// The body as JSON; broken JSON is a 500 without details at every call of the api.
    pub fn json(&self) -> Result<Value, Fail> {
        serde_json::from_slice(&self.body).map_err(|_| Fail::server(None))
    }

    /// The body of a call that compares the content type letter by letter.
    pub fn exact_json(&self) -> Result<Value, Fail> {
        if self.content_type() != JSON {
            return Err(Fail::api(400, "Content-Type must be application/json"));
        }
        self.json()
    }
}

pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    /// An answer of the api itself.
    pub fn api(body: &Value) -> Self {
        Self::api_with(200, body)
    }

    pub fn api_with(status: u16, body: &Value) -> Self {
        Self::new(status, API_JSON, body.to_string())
    }

    pub fn api_text(status: u16, body: String) -> Self {
        Self::new(status, API_JSON, body)
    }

    /// An answer of CouchDB that the api passes through; it ends the connection.
    pub fn couch(status: u16, body: impl Into<Bytes>) -> Self {
        Self::proxied(status, JSON, body).with("www-authenticate", "Cookie")
    }

    /// The same as CouchDB gives it for feeds.
    pub fn proxied(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::new(status, content_type, body).with("connection", "close")
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().append(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// A refusal, shaped only when it is known what the client accepts.
pub(super) enum Fail {
    Api {
        status: u16,
        error: Value,
        details: Option<Value>,
        headers: Vec<(&'static str, String)>,
    },
    /// `{error, reason}`; `proxied` when CouchDB said so itself and nothing re-serialised it.
    Couch {
        status: u16,
        error: String,
        reason: String,
        proxied: bool,
    },
    /// Nobody is logged in; `always` the shape of the paths that CouchDB guards itself.
    NotLoggedIn(Guard),
    /// A refusal in a shape of its own.
    Reply(Reply),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Guard {
    Api,
    /// Text, whatever is accepted.
    Settings,
    /// JSON with a challenge.
    Couch,
}

impl Fail {
    pub fn api(status: u16, error: impl Into<Value>) -> Self {
        Self::Api { status, error: error.into(), details: None, headers: Vec::new() }
    }

    pub fn server(details: Option<Value>) -> Self {
        Self::Api { status: 500, error: json!("Server error"), details, headers: Vec::new() }
    }

    pub fn forbidden() -> Self {
        Self::api(403, "Insufficient privileges")
    }

    pub fn offline() -> Self {
        let details = Some(json!("Offline users are not allowed access to this endpoint"));
        Self::Api { status: 403, error: json!("forbidden"), details, headers: Vec::new() }
    }

    /// An error of CouchDB as CouchDB sends it.
    pub fn couch(status: u16, error: &str, reason: impl Into<String>) -> Self {
        Self::Couch { status, error: error.to_owned(), reason: reason.into(), proxied: true }
    }

    /// The same in an answer of the api.
    pub fn reason(status: u16, error: &str, reason: impl Into<String>) -> Self {
        Self::Couch { status, error: error.to_owned(), reason: reason.into(), proxied: false }
    }

    pub fn no_database() -> Self {
        Self::couch(404, "not_found", "Database does not exist.")
    }

    pub fn reply(self, req: &Req) -> Reply {
        match self {
            Self::Couch { status, error, reason, proxied } => {
                let body = json!({ "error": error, "reason": reason });
                if proxied { Reply::couch(status, body.to_string()) } else { Reply::api_with(status, &body) }
            }
            Self::Api { status, error, details, headers } => {
                let mut reply = if req.wants_json() {
                    let mut body = json!({ "code": status, "error": error });
                    if let Some(details) = details {
                        body["details"] = details;
                    }
                    Reply::api_with(status, &body)
                } else {
                    let message = error.get("message").unwrap_or(&error);
                    Reply::new(status, "text/plain", message.as_str().unwrap_or_default().to_owned())
                };
                reply.headers.extend(headers);
                reply
            }
            Self::NotLoggedIn(guard) => not_logged_in(guard, req),
            Self::Reply(reply) => reply,
        }
    }
}

fn not_logged_in(guard: Guard, req: &Req) -> Reply {
    const REALM: &str = "Basic realm=\"Medic Web Services\"";
    let json = || Reply::api_with(401, &json!({ "code": 401, "error": "unauthorized" }));
    let text = || Reply::new(401, "text/plain", "not logged in").with("www-authenticate", REALM);
    let reply = match guard {
        Guard::Settings => text(),
        Guard::Couch => json().with("www-authenticate", REALM),
        Guard::Api if req.wants_json() => json(),
        Guard::Api if req.header("user-agent").is_some() => {
            let asked: String = url::form_urlencoded::byte_serialize(req.raw_path.as_bytes()).collect();
            let to = format!("/medic/login?redirect={asked}");
            Reply::new(302, "text/plain; charset=utf-8", format!("Found. Redirecting to {to}"))
                .with("location", to)
                .with("set-cookie", "login=force; Path=/; SameSite=Lax")
        }
        Guard::Api => text(),
    };
    reply.with("logout-authorization", "CHT-Core API")
}

/// The page that every request gets while the api starts, unless it asks for JSON.
pub(super) const STARTING_PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n  <meta charset=\"UTF-8\">\n  \
    <title>Community Health Toolkit is starting</title>\n</head>\n<body>Starting</body>\n</html>\n";
