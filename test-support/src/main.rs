//! `test-support cht|openmrs|sink|bare --port N`: a stand-in served on loopback until SIGTERM or ctrl-c, which saves its
//! state.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use axum::Router;
use clap::{Parser, ValueEnum};
use serde::de::DeserializeOwned;
use test_support::{
    cht::{self, Cht},
    clock::Clock,
    fault::{Faults, Plan},
    openmrs::{self, OpenMrs},
    serve::Server,
    sink::{Bare, Sink},
};
use tokio::signal::unix::{SignalKind, signal};

/// Serves a stand-in on loopback, prints `ready URL`, and saves its state when told to end.
#[derive(Parser)]
#[command(version)]
struct Args {
    kind: Kind,
    /// A free port when 0.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Read at the start if it exists, written at the end.
    #[arg(long)]
    state: Option<PathBuf>,
    /// A plan of faults, as JSON; see also `PUT /_standin/faults`.
    #[arg(long)]
    faults: Option<PathBuf>,
    /// Overrides the seed of the plan, and of the ids that the stand-in makes.
    #[arg(long)]
    seed: Option<u64>,
    /// How the stand-in behaves, as JSON.
    #[arg(long)]
    switches: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// The Community Health Toolkit with its CouchDB; log in as medic, password.
    Cht,
    /// OpenMRS; log in as admin, Admin123.
    Openmrs,
    /// Takes anything and counts it.
    Sink,
    /// Reads bodies and answers, to compare an intake with.
    Bare,
}

/// What is done with the state file at the end.
type Save = Box<dyn Fn(&Path) -> Result<()>>;

impl Args {
    fn faults(&self) -> Result<Faults> {
        let mut plan = match &self.faults {
            Some(file) => {
                let text = std::fs::read(file)
                    .with_context(|| format!("cannot read the plan {}", file.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("{} is not a plan", file.display()))?
            }
            None => Plan::calm(),
        };
        plan.seed = self.seed.unwrap_or(plan.seed);
        Ok(Faults::new(plan))
    }

    fn switches<S: DeserializeOwned>(&self) -> Result<Option<S>> {
        let parsed = self.switches.as_deref().map(serde_json::from_str).transpose();
        parsed.context("--switches are not those of this stand-in")
    }

    /// The state file, if there is one already.
    fn saved(&self) -> Option<&Path> {
        self.state.as_deref().filter(|file| file.exists())
    }

    fn no_port(&self) -> String {
        format!("cannot listen on port {} of loopback", self.port)
    }

    async fn serve(&self, router: Router, faults: Faults, clock: Clock) -> Result<Server> {
        Server::start(router, faults, clock, self.port).await.with_context(|| self.no_port())
    }

    async fn start(&self) -> Result<(Server, Save)> {
        let (clock, faults) = (Clock::real(), self.faults()?);
        Ok(match self.kind {
            Kind::Cht => {
                let cht = match self.saved() {
                    Some(file) => Cht::load(file, clock.clone()).with_context(|| unread(file))?,
                    None => {
                        let new = cht::Options::default();
                        let seed = self.seed.unwrap_or(new.seed);
                        Cht::new(cht::Options { seed, ..new }, clock.clone())
                    }
                };
                if let Some(switches) = self.switches()? {
                    cht.switch(|present| *present = switches);
                }
                (self.serve(cht.router(), faults, clock).await?, Box::new(move |file| Ok(cht.save(file)?)))
            }
            Kind::Openmrs => {
                let openmrs = match self.saved() {
                    Some(file) => OpenMrs::load(file, clock.clone()).with_context(|| unread(file))?,
                    None => {
                        let new = openmrs::Options::default();
                        let seed = self.seed.unwrap_or(new.seed);
                        OpenMrs::new(openmrs::Options { seed, ..new }, clock.clone())
                    }
                };
                if let Some(switches) = self.switches()? {
                    openmrs.set_switches(switches);
                }
                (self.serve(openmrs.router(), faults, clock).await?, Box::new(move |file| openmrs.save(file)))
            }
            Kind::Sink => {
                let options = self.switches()?.unwrap_or_default();
                let sink = match self.saved() {
                    Some(file) => Sink::load(file, options, clock).with_context(|| unread(file))?,
                    None => Sink::new(options, clock),
                };
                let server = sink.serve(faults, self.port).await.with_context(|| self.no_port())?;
                (server, Box::new(move |file| Ok(sink.save(file)?)))
            }
            Kind::Bare => {
                (Bare::serve(self.port).await.with_context(|| self.no_port())?, Box::new(|_| Ok(())))
            }
        })
    }
}

fn unread(file: &Path) -> String {
    format!("cannot go on from the state file {}; move it away to begin anew", file.display())
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut term = signal(SignalKind::terminate())?;
    let (server, save) = args.start().await?;
    let mut out = std::io::stdout();
    writeln!(out, "ready {}", server.url)?;
    out.flush()?;
    tokio::select! {
        _ = term.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    server.stop().await;
    if let Some(file) = &args.state {
        save(file).with_context(|| format!("cannot save the state in {}", file.display()))?;
    }
    Ok(())
}
