//! What a connector offers over HTTP. An endpoint cannot be written without saying who may use it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;

use crate::change::Record;
use crate::connector::Reject;

/// Reads one request's bytes into records; pure.
pub type Accept = dyn Fn(&Request) -> Result<Vec<Delivery>, Reject> + Send + Sync;

/// An entrance. The core checks access and size, stores the bytes' records, and only then answers 202.
#[derive(Clone)]
pub struct Endpoint {
    /// HTTP method in capitals.
    pub method: &'static str,
    /// Path below the bridge's own: `/lists/ltfu`.
    pub path: String,
    /// Who may use it.
    pub access: Access,
    /// Largest body in bytes.
    pub limit: usize,
    /// Reads the request.
    pub accept: Arc<Accept>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// One record that was pushed, and how its delivery is recognised when it comes again.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Delivery identity: key header, run and purpose, list and row. Never the body.
    pub identity: String,
    /// What was delivered.
    pub record: Record,
}

/// Who may use an endpoint.
#[derive(Clone, Debug)]
pub enum Access {
    /// `Authorization: Bearer …`.
    Token(SecretString),
    /// `Authorization: Basic …`.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: SecretString,
    },
    /// HMAC-SHA-256 over `timestamp.body` in `X-Signature`, the time in `X-Timestamp`.
    Hmac {
        /// Shared secret.
        secret: SecretString,
        /// Oldest acceptable timestamp.
        tolerance: Duration,
    },
    /// Connections from this machine only.
    Loopback,
}

/// A request as it came.
#[derive(Clone)]
pub struct Request {
    /// Path without the bridge's own part.
    pub path: String,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The raw bytes.
    pub body: Bytes,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("path", &self.path).finish_non_exhaustive()
    }
}
