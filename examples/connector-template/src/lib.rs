//! A connector to copy. It delivers whole documents and texts to any HTTP endpoint that recognises a repeated delivery.
//!
//! `cargo xtask new-connector NAME` makes a crate of this shape; `README.md` says what to change where.

mod changes;
mod client;
mod command;
mod config;
mod deliver;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connector_core::change::{Change, Flow, Record};
use connector_core::config::Secret;
use connector_core::connector::{
    Capabilities, Command, Confirmed, Connector, Fault, Finding, Known, Outcome, Reject, Task, one_by_one,
};
use connector_core::http::endpoint::{Access, Endpoint};
use http::StatusCode;

pub use config::Config;

/// One endpoint.
#[derive(Debug)]
pub struct Template {
    name: String,
    client: client::Client,
    config: Config,
}

#[async_trait]
impl Connector for Template {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            gives: self.config.people_token.iter().map(|_| Flow::Patients).collect(),
            takes: vec![Flow::Documents, Flow::Messaging],
            concurrency: self.config.concurrency,
            quiet: Duration::from_secs(self.config.quiet_seconds),
            ..Capabilities::default()
        }
    }

    async fn check(&self) -> Vec<Finding> {
        match self.client.get("/sink/effects?key=check").await {
            Ok(client::Answer { status: StatusCode::OK, .. }) => {
                vec![Finding::ok("reachable", format!("{} answers", self.name))]
            }
            Ok(client::Answer { status, .. }) => {
                vec![Finding::bad("reachable", format!("answer {status}: is the address right?"))]
            }
            Err(error) => vec![Finding::bad("reachable", error.to_string())],
        }
    }

    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        changes::changes(record)
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let name = self.name.clone();
        let people = |token: &Secret| Endpoint {
            method: "POST",
            path: "/people".to_owned(),
            access: Access::Token(token.secret().clone()),
            limit: changes::LONGEST,
            accept: Arc::new(move |request| changes::pushed(&name, request)),
        };
        self.config.people_token.as_ref().map(people).into_iter().collect()
    }

    fn command(&self, change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
        command::command(change, known)
    }

    async fn deliver(&self, tasks: &[Task]) -> Vec<Outcome> {
        one_by_one(tasks, |task| deliver::deliver(&self.client, task)).await
    }

    async fn confirm(&self, task: &Task) -> Result<Confirmed, Fault> {
        deliver::confirm(&self.client, task).await
    }
}
