//! The command line of every connector binary.
//!
//! Exit codes: 0 all is well; 1 something is wrong with the site, the systems or the store; 2 the configuration or the
//! call is wrong.

mod admin;
mod dry_run;
mod logs;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

pub use admin::{Admin, AdminError, execute};

use crate::clock::{Clock, SystemClock};
use crate::config::{Loaded, Problem, Sources, load, schema};
use crate::connector::ConnectorConfig;
use crate::transport::Wiring;
use run::Prepared;

/// What is wrong, and the exit code for it.
struct Failure(u8, String);

impl Failure {
    fn from_problems(problems: Vec<Problem>) -> Self {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure(2, format!("the configuration has {} problem(s):\n{}", lines.len(), lines.join("\n")))
    }
}

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
    /// Values that lost when both sides changed a field: personal data.
    Conflicts,
    /// Who is linked with whom: personal data.
    Links {
        #[command(subcommand)]
        what: Links,
    },
    /// Reads a record again, whatever was known of it: `replay cht/person/ID`.
    Replay {
        /// The record.
        record: String,
    },
    /// Erases a person: `forget cht/person/ID`.
    Forget {
        /// A record of the person.
        record: String,
    },
    /// Reads both systems into a store in memory and counts what would be sent. Sends nothing that is not a read.
    DryRun {
        /// Most records read from each feed.
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Writes a copy of the SQLite store to a new file; it stays sealed.
    Backup {
        /// The file.
        file: PathBuf,
    },
    /// Seals the stores of all bridges with another key. The connector must not run.
    RotateKey {
        /// The new key file; made if it is not there.
        #[arg(required_unless_present = "off")]
        file: Option<PathBuf>,
        /// Without a key from now on.
        #[arg(long, conflicts_with = "file")]
        off: bool,
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
    /// Shows one, or all, with what they carry: personal data.
    Show {
        /// Its number.
        seq: Option<i64>,
    },
    /// Sends one again with another change in its place.
    Edit {
        /// Its number.
        seq: i64,
        /// A JSON file with the change, as `show` gives it.
        file: PathBuf,
    },
    /// Sends one again, or all.
    Replay {
        /// Its number.
        #[arg(required_unless_present = "all")]
        seq: Option<i64>,
        /// All of them.
        #[arg(long, conflicts_with = "seq")]
        all: bool,
    },
}

#[derive(Subcommand)]
enum Links {
    /// Lists them, in pages.
    List {
        /// Begins after this person: `next` of the page before.
        #[arg(long, default_value = "")]
        after: String,
    },
    /// The link of one record: `cht/person/ID`.
    Show {
        /// The record.
        record: String,
    },
}

#[derive(Subcommand)]
enum Review {
    /// Lists what is open.
    List,
    /// Shows one entry, or all that are open, with the evidence: personal data.
    Show {
        /// The entry.
        id: Option<i64>,
    },
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
    std::panic::set_hook(Box::new(panicked));
    let cli = Cli::parse();
    let json = cli.json;
    match perform::<C>(cli) {
        Ok(value) => {
            if value != Value::Null {
                out(&shown(&value));
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

/// Tells where, and never with what words: they may hold what the code was looking at.
fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "panicked; what was under way is taken up again");
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
        Command::DryRun { limit } => runtime.block_on(dry_run::dry_run::<C>(&prepared, limit)),
        Command::RotateKey { file, .. } => runtime.block_on(run::rotate(&prepared, &loaded, file)),
        command => {
            let admin = request(command)?;
            runtime.block_on(run::ask(&prepared, &loaded, cli.bridge.as_deref(), admin))
        }
    }
}

fn request(command: Command) -> Result<Admin, Failure> {
    if let Command::Links { what: Links::Show { record } }
    | Command::Replay { record }
    | Command::Forget { record } = &command
    {
        admin::parse(record).map_err(|error| Failure(2, error.to_string()))?;
    }
    Ok(match command {
        Command::DeadLetters { what: DeadLetters::List } => {
            Admin::DeadLetters { after: 0, bodies: false, limit: None }
        }
        Command::DeadLetters { what: DeadLetters::Show { seq } } => {
            Admin::DeadLetters { after: seq.map_or(0, |s| s - 1), bodies: true, limit: seq.map(|_| 1) }
        }
        Command::DeadLetters { what: DeadLetters::Edit { seq, file } } => {
            let text = std::fs::read(&file)?;
            let change = serde_json::from_slice(&text).map_err(|e| {
                Failure(
                    2,
                    format!("{} is no JSON at line {}, column {}", file.display(), e.line(), e.column()),
                )
            })?;
            Admin::Replay { seq, change: Some(change) }
        }
        Command::DeadLetters { what: DeadLetters::Replay { seq: Some(seq), .. } } => {
            Admin::Replay { seq, change: None }
        }
        Command::DeadLetters { what: DeadLetters::Replay { seq: None, .. } } => Admin::ReplayAll,
        Command::Review { what: Review::List } => {
            Admin::Reviews { after: 0, all: false, bodies: false, limit: None }
        }
        Command::Review { what: Review::Show { id } } => Admin::Reviews {
            after: id.map_or(0, |i| i - 1),
            all: id.is_some(),
            bodies: true,
            limit: id.map(|_| 1),
        },
        Command::Review { what: Review::Accept { id, who } } => Admin::Decide { id, accept: true, who },
        Command::Review { what: Review::Reject { id, who } } => Admin::Decide { id, accept: false, who },
        Command::Conflicts => Admin::Conflicts { after: 0 },
        Command::Links { what: Links::List { after } } => Admin::Links { after },
        Command::Links { what: Links::Show { record } } => Admin::Link { record },
        Command::Replay { record } => Admin::Fetch { record },
        Command::Backup { file } => Admin::Backup { file: std::path::absolute(file)? },
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
    if good { Ok(report) } else { Err(Failure(1, shown(&report))) }
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
        load::<C>(&self.sources, &self.wiring).map_err(Failure::from_problems)
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command line")]
fn out(text: &str) {
    println!("{text}");
}

fn shown(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Counts on stderr while something takes long, where somebody looks.
fn progress(what: &'static str) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{spinner} {msg}: {human_pos} ({per_sec})");
    let bar = indicatif::ProgressBar::new_spinner().with_message(what);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

#[expect(clippy::print_stderr, reason = "the complaints of the command line")]
fn complain(text: &str) {
    eprintln!("{text}");
}

/// The token that guards the administration, for the header.
fn bearer(token: &secrecy::SecretString) -> String {
    format!("Bearer {}", token.expose_secret())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_panic_tells_its_place_and_none_of_its_words() {
        let lines = Lines::default();
        let level = tracing::Level::TRACE;
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(lines.clone()).finish();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(panicked));
        let ended = tracing::subscriber::with_default(log, || {
            std::panic::catch_unwind(|| {
                let person = String::from("Amina Otieno +254700100001");
                assert!(person.is_empty(), "nobody like {person}");
            })
        });
        std::panic::set_hook(before);
        assert!(ended.is_err());
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(said.contains(file!()) && said.contains("panicked"), "{said}");
        assert!(!said.contains("Amina") && !said.contains("2547"), "{said}");
    }
}
