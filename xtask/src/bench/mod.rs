//! Speed, growth and backlog of the connectors, measured against stand-ins on loopback.
//!
//! Every participant is a release build in a process of its own. Progress goes to stderr; the figures are one JSON line,
//! the last on stdout. A figure below its floor makes the exit code 1.

mod backlog;
mod bare;
mod delivery;
mod growth;
mod log;
mod openmrs;
mod people;
mod prefill;
mod site;

use std::io::Write;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::{Map, Value};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Throughput, intake and latency of deliveries, beside plain loops that do the same requests.
    Delivery(delivery::Args),
    /// The first load of a large site, and a start on the store of one.
    Growth(growth::Args),
    /// A backlog of patients with several changes each, through an outage of the partner.
    Backlog(backlog::Args),
    /// The plain loop that the others are compared with.
    #[command(hide = true)]
    Bare(bare::Args),
}

/// Measures.
pub fn run(what: Bench) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match what {
            Bench::Delivery(args) => delivery::run(&args).await,
            Bench::Growth(args) => growth::run(&args).await,
            Bench::Backlog(args) => backlog::run(&args).await,
            Bench::Bare(args) => bare::run(&args).await,
        }
    })
}

/// A figure and the bound it has to keep.
pub(crate) struct Floor {
    name: &'static str,
    value: f64,
    bound: f64,
    at_least: bool,
}

impl Floor {
    fn at_least(name: &'static str, value: f64, bound: f64) -> Self {
        Self { name, value, bound, at_least: true }
    }

    fn at_most(name: &'static str, value: f64, bound: f64) -> Self {
        Self { name, value, bound, at_least: false }
    }

    fn holds(&self) -> bool {
        if self.at_least { self.value >= self.bound } else { self.value <= self.bound }
    }
}

/// Prints the figures and fails if a floor does not hold.
fn report(figures: &Map<String, Value>, floors: &[Floor]) -> Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string(figures)?)?;
    let missed: Vec<String> = floors
        .iter()
        .filter(|floor| !floor.holds())
        .map(|f| {
            let must = if f.at_least { "at least" } else { "at most" };
            format!("{} is {:.3}, must be {must} {}", f.name, f.value, f.bound)
        })
        .collect();
    if !missed.is_empty() {
        bail!("{}", missed.join("; "));
    }
    Ok(())
}

/// Tells how far a measurement is, on stderr.
pub(crate) fn progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn rounded(value: f64) -> Value {
    let value = (value * 1000.0).round() / 1000.0;
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}
