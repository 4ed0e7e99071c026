//! The participants of a measurement: stand-ins, a connector with its store, and plain loops, each in its own process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
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
    pub cht: Value,
    pub partner: Value,
    pub tuning: Value,
}

/// A running connector.
pub struct Connector {
    pub process: StandIn,
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
                "begin": "everything",
                "cht": setup.cht,
                "partner": setup.partner,
                "tuning": setup.tuning,
            }],
        });
        std::fs::write(&file, serde_json::to_vec_pretty(&configuration)?)?;
        let mut command = Command::new(binary(setup.binary)?);
        command.arg("run").arg("--make-key").arg("--config").arg(&file);
        Ok(Self { process: StandIn::run(&mut command)? })
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

/// The plain loop over these requests, in its own process.
pub async fn bare(folder: &Path, requests: &[Line], connections: usize) -> Result<Done> {
    let file = folder.join("requests.jsonl");
    let mut text = String::new();
    for request in requests {
        text.push_str(&serde_json::to_string(request)?);
        text.push('\n');
    }
    tokio::fs::write(&file, text).await?;
    let mut command = tokio::process::Command::new(binary("xtask")?);
    command.args(["bench", "bare", "--connections", &connections.to_string(), "--requests"]).arg(&file);
    let output = command.stderr(std::process::Stdio::inherit()).output().await?;
    if !output.status.success() {
        bail!("the plain loop failed");
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The machine's load, for whoever reads the figures.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}
