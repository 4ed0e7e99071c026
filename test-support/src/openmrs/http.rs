//! A request as the stand-in sees it and an answer as it gives it, with the three shapes of an error.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// A request, read whole.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Exact time of its arrival.
    pub now: i64,
}

impl Call {
    /// Reads the target of a request.
    pub fn new(method: Method, target: &http::Uri, headers: HeaderMap, body: Bytes, now: i64) -> Self {
        let path = percent_decode_str(target.path()).decode_utf8_lossy().into_owned();
        Self { method, path, query: pairs(target.query().unwrap_or_default()), headers, body, now }
    }

    /// A header as text, empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The first value of a query parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.header("cookie")
            .split(';')
            .filter_map(|part| part.trim().split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Scheme, host and port by which the server was asked.
    pub fn origin(&self) -> String {
        format!("http://{}", self.host())
    }

    fn host(&self) -> &str {
        let host = self.header("host");
        if host.is_empty() { "localhost:8080" } else { host }
    }

    /// The origin of FHIR links: the forwarded one, which keeps the inner port when none is forwarded.
    pub fn fhir_origin(&self) -> String {
        let forwarded = self.header("x-forwarded-host");
        if forwarded.is_empty() {
            return self.origin();
        }
        let scheme = self.header("x-forwarded-proto");
        let scheme = if scheme.is_empty() { "http" } else { scheme };
        let port = match self.header("x-forwarded-port") {
            "" => self.host().split_once(':').map_or("8080", |(_, port)| port),
            port => port,
        };
        format!("{scheme}://{forwarded}:{port}")
    }

    /// Whether the request may change something.
    pub fn is_write(&self) -> bool {
        let post_search = self.path.ends_with("/_search");
        !(self.method == Method::GET || self.method == Method::HEAD || post_search)
    }
}

/// The pairs of a query or a form.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// The answer, or the one that cuts the work short.
pub type Answer = Result<Reply, Reply>;

const REST_JSON: &str = "application/json;charset=UTF-8";
const FHIR_JSON: &str = "application/fhir+json;charset=UTF-8";

impl Reply {
    /// No body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn json(status: u16, kind: &str, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", kind.to_owned())],
            body: serde_json::to_vec(body).unwrap_or_default(),
        }
    }

    /// A REST body.
    pub fn rest(status: u16, body: &Value) -> Self {
        Self::json(status, REST_JSON, body)
    }

    /// A FHIR body.
    pub fn fhir(status: u16, body: &Value) -> Self {
        Self::json(status, FHIR_JSON, body)
    }

    /// What a REST DELETE answers.
    pub fn no_content() -> Self {
        Self::empty(204).with("content-type", "text/plain;charset=ISO-8859-1")
    }

    /// One more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// As an HTTP response.
    pub fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().append(HeaderName::from_static(name), value);
            }
        }
        if response.status() != StatusCode::NOT_MODIFIED && response.status() != StatusCode::NO_CONTENT {
            response
                .headers_mut()
                .entry(header::CACHE_CONTROL)
                .or_insert(HeaderValue::from_static("no-store"));
        }
        response
    }
}

/// The error page of the container.
pub fn html(status: u16, message: &str) -> Reply {
    let (title, description) = match status {
        400 => (
            "Bad Request",
            "The server cannot or will not process the request due to something that is perceived to be a client error \
             (e.g., malformed request syntax, invalid request message framing, or deceptive request routing).",
        ),
        401 => (
            "Unauthorized",
            "The request has not been applied to the target resource because it lacks valid authentication credentials \
             for that resource.",
        ),
        _ => (
            "Not Found",
            "The origin server did not find a current representation for the target resource or is not willing to \
             disclose that one exists.",
        ),
    };
    let heading = format!("HTTP Status {status} – {title}");
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><title>{heading}</title><style>(cut)</style></head><body><h1>{heading}</h1>\
         <hr class=\"line\" /><p><b>Type</b> Status Report</p><p><b>Message</b> {message}</p>\
         <p><b>Description</b> {description}</p><hr class=\"line\" /><h3>Apache Tomcat/9.0.98</h3></body></html>"
    );
    let mut reply = Reply::empty(status).with("content-type", "text/html;charset=utf-8");
    reply.body = page.into_bytes();
    reply
}

const RESPONSE: &str = "org.openmrs.module.webservices.rest.web.response";
const RESOURCE: &str = "org.openmrs.module.webservices.rest.web.resource.impl";

/// A REST error with its trace: exception class, its text, what the message says instead if not the text, code.
pub fn thrown(status: u16, class: &str, raw: &str, message: &str, code: &str) -> Reply {
    let frame = code.split(':').next().unwrap_or_default();
    Reply::rest(
        status,
        &json!({"error": {
            "message": message,
            "code": code,
            "detail": format!("{class}: {raw}\n\tat {frame}.call(Unknown Source)"),
            "rawMessage": raw,
            "translatedMessage": raw,
        }}),
    )
}

/// The same where the message is the text in brackets.
pub fn failure(status: u16, class: &str, raw: &str, code: &str) -> Reply {
    thrown(status, class, raw, &format!("[{raw}]"), code)
}

/// 400: a body that cannot be converted; `why` are the links of the chain after the first.
pub fn conversion(what: &str, why: &[&str], line: u32) -> Reply {
    let chain = [&[what], why].concat().join(" => ");
    let (class, code) =
        (format!("{RESPONSE}.ConversionException"), format!("{RESOURCE}.BaseDelegatingResource:{line}"));
    thrown(400, &class, what, &format!("[{chain}]"), &code)
}

/// 404 or 400 of REST, which carry no text.
fn textless(status: u16, message: &str, class: &str, line: u32) -> Reply {
    Reply::rest(
        status,
        &json!({"error": {
            "message": format!("{message} [null]"),
            "code": format!("{RESOURCE}.DelegatingCrudResource:{line}"),
            "detail": format!("{RESPONSE}.{class}\n\tat {RESOURCE}.DelegatingCrudResource.call(Unknown Source)"),
            "rawMessage": null,
            "translatedMessage": "",
        }}),
    )
}

/// 404: nothing has that uuid.
pub fn no_such_object() -> Reply {
    textless(404, "Object with given uuid doesn't exist", "ObjectNotFoundException", 53)
}

/// 400: the resource cannot do that.
pub fn not_supported() -> Reply {
    textless(
        400,
        "The Resource Does not Support the Requested Operation",
        "ResourceDoesNotSupportOperationException",
        237,
    )
}

/// 500: a statement that the database refused.
pub fn statement_refused(why: &str, class: &str) -> Reply {
    let class = format!("org.hibernate.exception.{class}");
    let message = format!("[could not execute statement => (conn=42) {why}]");
    let code = "org.hibernate.exception.internal.SQLExceptionTypeDelegate:59";
    thrown(500, &class, "could not execute statement", &message, code)
}

/// A FHIR error.
pub fn outcome(status: u16, code: &str, diagnostics: &str) -> Reply {
    Reply::fhir(
        status,
        &json!({
            "resourceType": "OperationOutcome",
            "text": narrative(diagnostics),
            "issue": [{"severity": "error", "code": code, "diagnostics": diagnostics}],
        }),
    )
}

/// The usual FHIR error.
pub fn processing(status: u16, diagnostics: &str) -> Reply {
    outcome(status, "processing", diagnostics)
}

/// 400: FHIR does not serve that.
pub fn unserved(operation: &str, parameters: &[&str]) -> Reply {
    let diagnostics = format!(
        "Invalid request: The FHIR endpoint on this server does not know how to handle {operation} with parameters [[{}]]",
        parameters.join(", ")
    );
    outcome(400, "not-supported", &diagnostics)
}

/// The generated text of a resource.
pub fn narrative(content: &str) -> Value {
    let escaped = content.replace('&', "&amp;").replace('<', "&lt;");
    json!({"status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{escaped}</div>")})
}
