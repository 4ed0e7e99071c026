//! Health, figures and release. These calls go out without credentials where the CHT needs none, since a call
//! without credentials is never rate limited.

use serde_json::{Map, Value};

use crate::client::{Call, ChtClient};
use crate::error::Error;
use crate::model::{DeployInfo, Impact, Monitoring, Readiness, Version};

impl ChtClient {
    /// Figures of the running CHT, without credentials. It succeeds even with CouchDB unreachable.
    pub async fn monitoring(&self) -> Result<Monitoring, Error> {
        self.json(Call::get("/api/v2/monitoring").public()).await
    }

    /// The figures of servers before 3.12, without credentials.
    pub async fn monitoring_v1(&self) -> Result<Monitoring, Error> {
        self.json(Call::get("/api/v1/monitoring").public()).await
    }

    /// The CHT release. A development version names the release before it.
    pub async fn release(&self) -> Result<Version, Error> {
        let monitoring = match self.monitoring().await {
            Err(Error::NoSuchCall) => self.monitoring_v1().await?,
            outcome => outcome?,
        };
        monitoring.release().ok_or_else(|| Error::Unreadable { path: "version.app".to_owned() })
    }

    /// Whether the CHT is ready, without credentials; [`Error::NotReady`] while it starts.
    pub async fn readiness(&self) -> Result<Readiness, Error> {
        self.json(Call::get("/setup/poll").public()).await
    }

    /// How far the start is, without credentials.
    pub async fn startup_progress(&self) -> Result<Map<String, Value>, Error> {
        self.json(Call::get("/api/v1/startup-progress").public()).await
    }

    /// What is deployed; any user.
    pub async fn deploy_info(&self) -> Result<DeployInfo, Error> {
        self.json(Call::get("/api/deploy-info")).await
    }

    /// How much is in use (5.0).
    pub async fn impact(&self) -> Result<Impact, Error> {
        self.json(Call::get("/api/v1/impact")).await
    }
}
