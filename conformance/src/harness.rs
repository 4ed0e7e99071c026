//! What a connector offers to be checked.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use connector_core::change::{Change, Flow, RecordId};
use connector_core::config::ConfigReport;
use connector_core::connector::{Connector, ConnectorConfig};
use connector_core::transport::Wiring;
use serde_json::Value;
use test_support::clock::Clock;
use test_support::fault::Action;

/// A connector and the stand-in it is checked against.
pub trait Harness: Send + Sync {
    /// The text of `example.yaml`: one section under the connector's name.
    fn example(&self) -> &str;

    /// Reads a section; [`configured`] does it for a [`ConnectorConfig`].
    fn parse(&self, section: Value) -> Result<Configured, String>;

    /// Changes the example's section for the checks: short times, no minutes of waiting.
    fn adjust(&self, _section: &mut Value) {}

    /// A fresh stand-in under this clock.
    fn stand_in(&self, clock: &Clock) -> Box<dyn StandIn>;

    /// A change of `flow` about `subject`, whose effect carries `mark`.
    fn change(&self, flow: Flow, source: RecordId, subject: RecordId, mark: u32) -> Change;

    /// The connector as it is checked: itself.
    fn wrap(&self, connector: Arc<dyn Connector>) -> Arc<dyn Connector> {
        connector
    }
}

/// A server in this process.
pub trait StandIn: Send + Sync {
    /// Its routes.
    fn router(&self) -> Router;

    /// Method and path glob of the requests that write.
    fn writes(&self) -> (&'static str, &'static str);

    /// How it refuses a body for what it holds.
    fn refusal(&self) -> Action {
        Action::status(400, false)
    }

    /// The mark of every effect that it was made to have, in order.
    fn effects(&self) -> Vec<u32>;
}

type Build = dyn FnOnce(&Wiring, &mut ConfigReport) -> Option<Arc<dyn Connector>> + Send;

/// A configuration that was read.
pub struct Configured {
    /// Its `Debug` text.
    pub debug: String,
    /// Makes the connector.
    pub build: Box<Build>,
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.debug)
    }
}

/// Reads a section as this type; the error begins with the path.
pub fn configured<C: ConnectorConfig + fmt::Debug + Send + 'static>(
    section: Value,
) -> Result<Configured, String> {
    let config: C =
        serde_path_to_error::deserialize(section).map_err(|e| format!("{}: {}", e.path(), e.inner()))?;
    Ok(Configured {
        debug: format!("{config:?}"),
        build: Box::new(|wiring, report| config.build("partner", wiring, report)),
    })
}
