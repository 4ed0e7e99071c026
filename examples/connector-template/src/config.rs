//! What the operator writes.

use std::sync::Arc;
use std::time::Duration;

use connector_core::config::{ConfigReport, Secret};
use connector_core::connector::{Connector, ConnectorConfig};
use connector_core::transport::{HttpOptions, Wiring};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::Template;
use crate::client::Client;

/// An endpoint that takes JSON and recognises a repeated delivery by its `Idempotency-Key`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to: deliveries go to `<url>/records` and `<url>/messages`.
    pub url: String,
    /// Most requests at a time.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// Seconds that an unanswered request may still take effect.
    #[serde(default = "quiet_seconds")]
    pub quiet_seconds: u64,
    /// Seconds for a whole request.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// Whoever carries this token may push people to `POST /<bridge>/people`; nobody may without one.
    #[serde(default)]
    pub people_token: Option<Secret>,
}

fn concurrency() -> usize {
    32
}

fn quiet_seconds() -> u64 {
    60
}

fn timeout_seconds() -> u64 {
    30
}

impl ConnectorConfig for Config {
    const NAME: &'static str = "template";

    fn build(self, name: &str, wiring: &Wiring, report: &mut ConfigReport) -> Option<Arc<dyn Connector>> {
        let url = Url::parse(&self.url).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
        if url.is_none() {
            report.add("url", "is no http or https address; write for example http://127.0.0.1:8090");
        }
        if self.concurrency == 0 {
            report.add("concurrency", "must be at least 1");
        }
        let options = HttpOptions {
            timeout: Duration::from_secs(self.timeout_seconds),
            connections: self.concurrency,
            ..HttpOptions::default()
        };
        let transport = wiring.transport(name, &options).map_err(|e| report.add("url", e)).ok()?;
        let url = url.filter(|_| report.is_clean())?;
        Some(Arc::new(Template { name: name.to_owned(), client: Client::new(transport, &url), config: self }))
    }
}
