//! `test-support cht|openmrs|sink|bare --port N`: a stand-in served on loopback until SIGTERM or ctrl-c, which saves its
//! state.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::de::DeserializeOwned;
use test_support::{
    clock::Clock,
    fault::{Faults, Plan},
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
    /// Overrides the seed of the plan.
    #[arg(long)]
    seed: Option<u64>,
    /// Options of the stand-in, as JSON.
    #[arg(long, default_value = "{}")]
    switches: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Takes anything and counts it.
    Sink,
    /// Reads bodies and answers, to compare an intake with.
    Bare,
}

/// What is done with the state file at the end.
type Save = Box<dyn Fn(&Path) -> std::io::Result<()>>;

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

    fn options<O: DeserializeOwned>(&self) -> Result<O> {
        serde_json::from_str(&self.switches).context("--switches are not the options of this stand-in")
    }

    /// The state file, if there is one already.
    fn saved(&self) -> Option<&Path> {
        self.state.as_deref().filter(|file| file.exists())
    }

    fn no_port(&self) -> String {
        format!("cannot listen on port {} of loopback", self.port)
    }

    async fn start(&self) -> Result<(Server, Save)> {
        let (clock, faults) = (Clock::real(), self.faults()?);
        Ok(match self.kind {
            Kind::Sink => {
                let sink = match self.saved() {
                    Some(file) => Sink::load(file, self.options()?, clock).with_context(|| unread(file))?,
                    None => Sink::new(self.options()?, clock),
                };
                let server = sink.serve(faults, self.port).await.with_context(|| self.no_port())?;
                (server, Box::new(move |file| Arc::clone(&sink).save(file)))
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
