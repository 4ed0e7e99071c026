//! The command line of every connector binary.
//!
//! Exit codes: 0 all is well; 1 something is wrong with the site, the systems or the store; 2 the configuration or the
//! call is wrong.

mod admin;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

pub use admin::{Admin, AdminError, execute};

use crate::clock::{Clock, SystemClock};
use crate::config::{Loaded, Sources, load, schema};
use crate::connector::ConnectorConfig;
use crate::transport::Wiring;
use run::Prepared;

/// What is wrong, and the exit code for it.
struct Failure(u8, String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(1, error.to_string())
    }
}

#[derive(Parser)]
#[command(about = "Joins a CHT with one kind of partner system", disable_version_flag = true)]
struct Cli {
    /// The configuration file.
    #[arg(long, global = true, env = "CHT_CONNECTOR_CONFIG", default_value = "connector.yaml")]
    config: PathBuf,
    /// One value of the configuration: `bridges.0.cht.url=https://cht.example`.
    #[arg(long, global = true, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// The bridge, where there are several.
    #[arg(long, global = true)]
    bridge: Option<String>,
    /// Prints JSON only.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs all bridges until it is told to stop.
    Run {
        /// Makes the key file of the configuration first, if it is not there.
        #[arg(long)]
        make_key: bool,
    },
    /// Looks at the configuration and, unless told not to, at both systems.
    Check {
        /// Asks no system.
        #[arg(long)]
        offline: bool,
    },
    /// How much is under way, and what is halted.
    Status,
    /// Dead letters: what could not be done.
    DeadLetters {
        #[command(subcommand)]
        what: DeadLetters,
    },
    /// What a person has to decide.
    Review {
        #[command(subcommand)]
        what: Review,
    },
    /// Values that lost when both sides changed a field.
    Conflicts,
    /// Who is linked with whom: `links cht/person/ID`.
    Links {
        /// A record.
        record: String,
    },
    /// Erases a person: `forget cht/person/ID`.
    Forget {
        /// A record of the person.
        record: String,
    },
    /// Prints the JSON Schema of the configuration.
    Schema,
    /// Prints name and version.
    Version,
}

#[derive(Subcommand)]
enum DeadLetters {
    /// Lists them.
    List,
    /// Shows them with what they carry: personal data.
    Show,
    /// Sends one again.
    Replay {
        /// Its number.
        seq: i64,
        /// A file with an edited change.
        #[arg(long)]
        edited: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Review {
    /// Lists what is open.
    List,
    /// Shows what is open with its evidence: personal data.
    Show,
    /// Accepts what an entry proposes.
    Accept {
        /// The entry.
        id: i64,
        /// Who decides.
        #[arg(long)]
        who: String,
    },
    /// Rejects what an entry proposes.
    Reject {
        /// The entry.
        id: i64,
        /// Who decides.
        #[arg(long)]
        who: String,
    },
}

/// The whole program of a connector: `fn main() -> ExitCode { connector_core::main::<Config>() }`.
pub fn main<C: ConnectorConfig>() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked; what was under way is taken up again");
    }));
    let cli = Cli::parse();
    let json = cli.json;
    match perform::<C>(cli) {
        Ok(value) => {
            if value != Value::Null {
                out(&crate::http::server::shown(&value));
            }
            ExitCode::SUCCESS
        }
        Err(Failure(code, text)) => {
            if json {
                out(&json!({ "error": text }).to_string());
            } else {
                complain(&text);
            }
            ExitCode::from(code)
        }
    }
}

fn perform<C: ConnectorConfig>(cli: Cli) -> Result<Value, Failure> {
    match &cli.command {
        Command::Schema => return Ok(schema::<C>()),
        Command::Version => return Ok(json!({ "connector": C::NAME, "version": env!("CARGO_PKG_VERSION") })),
        _ => {}
    }
    let prepared = Prepared::new(&cli)?;
    let loaded = prepared.load::<C>()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(loaded.threads).enable_all().build()?;
    match cli.command {
        Command::Run { make_key } => runtime.block_on(run::run::<C>(prepared, loaded, make_key)),
        Command::Check { offline } => runtime.block_on(check(loaded, offline)),
        command => {
            let admin = request(command)?;
            runtime.block_on(run::ask(&prepared, &loaded, cli.bridge.as_deref(), admin))
        }
    }
}

fn request(command: Command) -> Result<Admin, Failure> {
    Ok(match command {
        Command::DeadLetters { what: DeadLetters::List } => Admin::DeadLetters { after: 0, bodies: false },
        Command::DeadLetters { what: DeadLetters::Show } => Admin::DeadLetters { after: 0, bodies: true },
        Command::DeadLetters { what: DeadLetters::Replay { seq, edited } } => {
            let change = edited.map(std::fs::read).transpose()?;
            let change = change.map(|c| serde_json::from_slice(&c)).transpose()?;
            Admin::Replay { seq, change }
        }
        Command::Review { what: Review::List } => Admin::Reviews { after: 0, all: false, bodies: false },
        Command::Review { what: Review::Show } => Admin::Reviews { after: 0, all: false, bodies: true },
        Command::Review { what: Review::Accept { id, who } } => Admin::Decide { id, accept: true, who },
        Command::Review { what: Review::Reject { id, who } } => Admin::Decide { id, accept: false, who },
        Command::Conflicts => Admin::Conflicts { after: 0 },
        Command::Links { record } => Admin::Link { record },
        Command::Forget { record } => Admin::Forget { record },
        _ => Admin::Status,
    })
}

async fn check(loaded: Loaded, offline: bool) -> Result<Value, Failure> {
    let mut out = vec![];
    let mut good = true;
    for bridge in loaded.bridges.iter().filter(|_| !offline) {
        for (name, connector) in [&bridge.cht, &bridge.partner] {
            let findings = connector.check().await;
            good &= findings.iter().all(|f| f.ok);
            out.push(json!({ "bridge": bridge.name, "system": name, "findings": findings }));
        }
    }
    let report = json!({ "configuration": "good", "systems": out });
    if good { Ok(report) } else { Err(Failure(1, crate::http::server::shown(&report))) }
}

/// All sources of the configuration, and what connectors are built with.
impl Prepared {
    fn new(cli: &Cli) -> Result<Self, Failure> {
        let mut set = vec![];
        for pair in &cli.set {
            let Some((path, value)) = pair.split_once('=') else {
                return Err(Failure(2, "--set takes PATH=VALUE".into()));
            };
            set.push((path.to_owned(), value.to_owned()));
        }
        let sources = Sources { file: cli.config.clone(), env: std::env::vars().collect(), set };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let wiring = Wiring::new(clock.clone(), Arc::new(|_, options| run::transport(options)));
        Ok(Self { sources, clock, wiring })
    }

    fn load<C: ConnectorConfig>(&self) -> Result<Loaded, Failure> {
        load::<C>(&self.sources, &self.wiring).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Failure(2, format!("the configuration has {} problem(s):\n{}", lines.len(), lines.join("\n")))
        })
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command line")]
fn out(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the complaints of the command line")]
fn complain(text: &str) {
    eprintln!("{text}");
}

/// The token that guards the administration, for the header.
fn bearer(token: &secrecy::SecretString) -> String {
    format!("Bearer {}", token.expose_secret())
}
