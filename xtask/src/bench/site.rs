//! The participants of a measurement: stand-ins, a connector with its store, and plain loops, each in its own process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use connector_core::clock::SystemClock;
use connector_core::store::{Place, Store, StoreError, StoreKey, StoreOptions, Transaction, Tx};
use serde_json::{Value, json};
use test_support::process::StandIn;

use super::bare::{Done, Line};
use super::progress;

/// Builds everything that takes part, in release.
pub fn build() -> Result<()> {
    if std::env::var_os("BENCH_BUILT").is_some() {
        return Ok(());
    }
    progress("building the release binaries");
    let packages = ["connector-template", "connector-openmrs", "test-support", "xtask"];
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release"]).args(packages.iter().flat_map(|p| ["-p", p]));
    let target = release_folder()?;
    if let Some(target) = target.parent() {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let built = cargo.status().context("cargo cannot be run")?;
    if !built.success() {
        bail!("the release build failed");
    }
    Ok(())
}

/// The folder of release binaries of the target folder that this program runs from.
fn release_folder() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).context("this program is not in a target folder")?;
    Ok(target.join("release"))
}

pub fn binary(name: &str) -> Result<PathBuf> {
    Ok(release_folder()?.join(name))
}

/// A stand-in of this kind; `switches` says how it behaves.
pub fn stand_in(kind: &str, switches: Option<&Value>) -> Result<StandIn> {
    let mut args = vec![kind.to_owned()];
    if let Some(switches) = switches {
        args.extend(["--switches".to_owned(), switches.to_string()]);
    }
    StandIn::spawn(&binary("test-support")?, args).with_context(|| format!("the stand-in {kind}"))
}

/// Which connector, between which servers, with what besides.
pub struct Setup<'a> {
    pub binary: &'a str,
    /// `now` or `everything`.
    pub begin: &'a str,
    pub cht: Value,
    pub partner: Value,
    pub tuning: Value,
}

/// A running connector.
pub struct Connector {
    pub process: StandIn,
    /// From its start to its line `ready`.
    pub ready: Duration,
}

impl Connector {
    /// Starts it on the store in `folder`, with a key made for it.
    pub fn start(setup: &Setup<'_>, folder: &Path) -> Result<Self> {
        let file = folder.join("connector.yaml");
        let configuration = json!({
            "store": { "sqlite": "store" },
            "encryption": { "key_file": "store.key" },
            "http": { "listen": "127.0.0.1:0" },
            "log": { "level": "warn" },
            "bridges": [{
                "name": "bench",
                "begin": setup.begin,
                "cht": setup.cht,
                "partner": setup.partner,
                "tuning": setup.tuning,
            }],
        });
        std::fs::write(&file, serde_json::to_vec_pretty(&configuration)?)?;
        let mut command = Command::new(binary(setup.binary)?);
        command.arg("run").arg("--make-key").arg("--config").arg(&file);
        let began = Instant::now();
        let process = StandIn::run(&mut command)?;
        Ok(Self { process, ready: began.elapsed() })
    }

    /// Memory now and at its highest, in MiB.
    pub fn memory(&self) -> Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id()))?;
        let of = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
        };
        Ok((of("VmRSS:").context("no VmRSS")?, of("VmHWM:").context("no VmHWM")?))
    }

    /// Processor time that it has used, user and system, in seconds.
    pub fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.child.id()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        Ok(fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0)
    }

    /// Rows under way, as it counts them itself.
    pub async fn backlog(&self, http: &reqwest::Client) -> Result<f64> {
        self.metric(http, "connector_backlog").await
    }

    /// The sum of a metric over its labels.
    pub async fn metric(&self, http: &reqwest::Client, name: &str) -> Result<f64> {
        let text = http
            .get(format!("{}/metrics", self.process.url))
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        Ok(values.sum())
    }
}

/// How a template connector finds a CHT whose persons go out whole.
pub fn documents_of(cht: &StandIn, page: usize) -> Value {
    json!({
        "url": cht.url, "user": "medic", "password": "password", "documents": ["person"],
        "feed": { "page": page, "every": "50ms", "longpoll": "10s" },
        "create": { "people": false },
    })
}

/// A JSON answer of a stand-in.
pub async fn get(http: &reqwest::Client, url: &str) -> Result<Value> {
    Ok(http.get(url).send().await?.error_for_status()?.json().await?)
}

/// A JSON question to a stand-in.
pub async fn send(http: &reqwest::Client, method: reqwest::Method, url: &str, body: &Value) -> Result<()> {
    http.request(method, url).json(body).send().await?.error_for_status()?;
    Ok(())
}

/// Waits until `done` says so; fails when nothing moved for `patience`.
pub async fn wait_until<F, O>(what: &str, patience: Duration, every: Duration, mut done: F) -> Result<()>
where
    F: FnMut() -> O,
    O: Future<Output = Result<(bool, u64)>>,
{
    let mut moved = (Instant::now(), 0);
    loop {
        let (over, at) = done().await?;
        if over {
            return Ok(());
        }
        if at != moved.1 {
            moved = (Instant::now(), at);
        }
        if moved.0.elapsed() > patience {
            bail!("{what}: nothing moved for {patience:?}, at {at}");
        }
        tokio::time::sleep(every).await;
    }
}

/// The plain loop over these requests, in its own process; every answer must be a success.
pub async fn bare(folder: &Path, requests: &[Line], connections: usize) -> Result<Done> {
    plain_loop(folder, requests, connections, &[]).await
}

/// The same, whatever the answers.
pub async fn bare_any(folder: &Path, requests: &[Line], connections: usize) -> Result<Done> {
    plain_loop(folder, requests, connections, &["--any-answer"]).await
}

async fn plain_loop(folder: &Path, requests: &[Line], connections: usize, more: &[&str]) -> Result<Done> {
    let file = folder.join("requests.jsonl");
    let mut text = String::new();
    for request in requests {
        text.push_str(&serde_json::to_string(request)?);
        text.push('\n');
    }
    tokio::fs::write(&file, text).await?;
    let mut command = tokio::process::Command::new(binary("xtask")?);
    command.args(["bench", "bare", "--connections", &connections.to_string(), "--requests"]).arg(&file);
    let output = command.args(more).stderr(std::process::Stdio::inherit()).output().await?;
    if !output.status.success() {
        bail!("the plain loop failed");
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Opens the store of a connector that has ended.
pub async fn store(folder: &Path) -> Result<Store> {
    let key = StoreKey::from_file(&folder.join("store.key"))?;
    let place = Place::Sqlite { path: folder.join("store/bench.sqlite") };
    let options = StoreOptions { place, key: Some(key) };
    Ok(Store::open(&options, Arc::new(SystemClock::new())).await?)
}

/// How many rows the outbox has ever had.
pub async fn rows_ever(folder: &Path) -> Result<i64> {
    let store = store(folder).await?;
    let rows = store.read(RowsEver).await?;
    store.close().await;
    Ok(rows)
}

struct RowsEver;

#[async_trait]
impl Transaction for RowsEver {
    type Out = i64;
    const NAME: &'static str = "bench-rows";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<i64, StoreError> {
        let row = tx.row("SELECT n FROM counter WHERE name = 'seq'", &[]).await?;
        row.map_or(Ok(0), |row| row.int(0))
    }
}

/// What the files of a folder and those below it hold.
pub fn folder_mib(folder: &Path) -> f64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_mib(&entry.path()),
        Ok(meta) => meta.len() as f64 / f64::from(1 << 20),
        Err(_) => 0.0,
    };
    entries.map(size).sum()
}

/// The machine's load, for whoever reads the figures.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}
