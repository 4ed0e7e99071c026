//! The connector's processes: started, killed at a chosen moment, stopped and continued, asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use test_support::openmrs::{CONNECTOR, LOCATION, OPENMRS_ID, SOURCE};
use test_support::process::StandIn;

/// The lease of a claim; a stopped replica stays so for twice as long.
const LEASE: Duration = Duration::from_secs(2);
/// Longest wait for a process to serve.
const READY: Duration = Duration::from_secs(60);

/// When a kill comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before or just after it says that it is ready.
    StartUp,
    /// While it works.
    Pass,
    /// While a decision of a reviewer is carried out.
    Review,
    /// While a new configuration takes over.
    Reload,
}

impl Moment {
    /// For the histogram.
    pub fn name(self) -> &'static str {
        match self {
            Self::StartUp => "start-up",
            Self::Pass => "pass",
            Self::Review => "review",
            Self::Reload => "reload",
        }
    }
}

struct Replica {
    folder: PathBuf,
    child: Child,
    /// Until when it is stopped.
    stopped: Option<Instant>,
}

/// One process on SQLite, three on PostgreSQL.
pub struct Replicas {
    program: PathBuf,
    all: Vec<Replica>,
    /// Where the file with address and token of the administration is, below a replica's folder.
    admin: &'static str,
    next: usize,
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for replica in &mut self.all {
            let _may_be_gone = replica.child.kill();
            let _may_be_gone = replica.child.wait();
        }
    }
}

impl Replicas {
    /// Starts them; with the address of a PostgreSQL there are three.
    pub fn start(folder: &Path, postgres: Option<&str>, servers: [&str; 2]) -> Result<Self> {
        let program = StandIn::binary("connector-openmrs")?;
        let (count, admin) = if postgres.is_some() { (3, "admin") } else { (1, "data/admin") };
        let mut replicas = Self { program, all: vec![], admin, next: 0 };
        for n in 0..count {
            let own = folder.join(format!("replica-{n}"));
            std::fs::create_dir_all(&own)?;
            let key = folder.join("key").display().to_string();
            std::fs::write(own.join("connector.yaml"), configuration(&key, postgres, servers))?;
            let child = replicas.spawn(&own)?;
            replicas.all.push(Replica { folder: own, child, stopped: None });
            replicas.wait(n)?;
        }
        Ok(replicas)
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(folder.join("connector.yaml")).stdin(Stdio::null());
        command
    }

    fn spawn(&self, folder: &Path) -> Result<Child> {
        let mut command = self.command(folder);
        Ok(command.args(["run", "--make-key"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    fn replica(&self, n: usize) -> Result<&Replica> {
        self.all.get(n).context("there is such a replica")
    }

    /// Until a replica has its store and listens; the file that says where is made before the store is open.
    fn wait(&mut self, n: usize) -> Result<()> {
        let end = Instant::now() + READY;
        let admin = self.replica(n)?.folder.join(self.admin);
        while !admin.exists() {
            let replica = self.all.get_mut(n).context("there is such a replica")?;
            if let Some(status) = replica.child.try_wait()? {
                bail!("the connector ended by itself: {status}");
            }
            ensure!(Instant::now() < end, "the connector was not ready after {READY:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills one replica at this moment, starts it again, and gives the states in which rows stood after the kill.
    pub async fn kill(&mut self, moment: Moment, draw: u64) -> Result<BTreeSet<String>> {
        self.stop_and_continue()?;
        let victim = self.running();
        match moment {
            Moment::StartUp => {
                self.end(victim)?;
                self.begin(victim)?;
                pause(draw % 150).await;
            }
            Moment::Pass => pause(200 + draw % 800).await,
            Moment::Review => {
                pause(200 + draw % 300).await;
                let list = json!({ "do": "reviews", "after": 0, "all": false, "bodies": false });
                let open = self.ask_one(victim, &list).await.unwrap_or_default();
                if let Some(id) = open["reviews"][0]["id"].as_i64() {
                    let decide = json!({ "do": "decide", "id": id, "accept": true, "who": "crash" });
                    let asked = self.ask_one(victim, &decide);
                    let _killed_or_done = tokio::time::timeout(Duration::from_millis(draw % 12), asked).await;
                }
            }
            Moment::Reload => {
                pause(100 + draw % 300).await;
                let file = self.replica(victim)?.folder.join("connector.yaml");
                let text = std::fs::read_to_string(&file)?;
                std::fs::write(&file, format!("# new\n{text}"))?;
                signal(&self.replica(victim)?.child, "HUP")?;
                pause(draw % 100).await;
            }
        }
        self.end(victim)?;
        let states = self.states(victim)?;
        self.begin(victim)?;
        Ok(states)
    }

    /// The next replica that is not stopped.
    fn running(&mut self) -> usize {
        loop {
            self.next = (self.next + 1) % self.all.len();
            if self.all.get(self.next).is_some_and(|replica| replica.stopped.is_none()) {
                return self.next;
            }
        }
    }

    /// Of several replicas one is always stopped, each for twice the lease.
    fn stop_and_continue(&mut self) -> Result<()> {
        if self.all.len() < 2 {
            return Ok(());
        }
        let now = Instant::now();
        for replica in &mut self.all {
            if replica.stopped.is_some_and(|until| until <= now) {
                signal(&replica.child, "CONT")?;
                replica.stopped = None;
            }
        }
        if self.all.iter().all(|replica| replica.stopped.is_none()) {
            let n = self.running();
            if let Some(replica) = self.all.get_mut(n) {
                signal(&replica.child, "STOP")?;
                replica.stopped = Some(now + 2 * LEASE);
            }
        }
        Ok(())
    }

    fn end(&mut self, n: usize) -> Result<()> {
        let replica = self.all.get_mut(n).context("there is such a replica")?;
        replica.child.kill()?;
        replica.child.wait()?;
        let _never_made_when_killed_early = std::fs::remove_file(replica.folder.join(self.admin));
        Ok(())
    }

    fn begin(&mut self, n: usize) -> Result<()> {
        let child = self.spawn(&self.replica(n)?.folder)?;
        if let Some(replica) = self.all.get_mut(n) {
            replica.child = child;
        }
        Ok(())
    }

    /// The states in which rows stand, read from the store without the process.
    fn states(&self, n: usize) -> Result<BTreeSet<String>> {
        let output = self.command(&self.replica(n)?.folder).args(["--json", "status"]).output()?;
        ensure!(
            output.status.success(),
            "status of a killed connector: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        let status: Value = serde_json::from_slice(&output.stdout)?;
        let rows = status["rows"].as_array().into_iter().flatten();
        Ok(rows.filter_map(|row| row["state"].as_str().map(str::to_owned)).collect())
    }

    /// Continues whoever is stopped and waits until all serve.
    pub async fn all_well(&mut self) -> Result<()> {
        for replica in &mut self.all {
            if replica.stopped.take().is_some() {
                signal(&replica.child, "CONT")?;
            }
        }
        for n in 0..self.all.len() {
            self.wait(n)?;
        }
        let end = Instant::now() + READY;
        while self.ask(&json!({ "do": "status" })).await.is_err() {
            ensure!(Instant::now() < end, "the connector did not answer after {READY:?}");
            pause(100).await;
        }
        Ok(())
    }

    /// Asks the administration of the first replica.
    pub async fn ask(&self, what: &Value) -> Result<Value> {
        self.ask_one(0, what).await
    }

    async fn ask_one(&self, n: usize, what: &Value) -> Result<Value> {
        let text = std::fs::read_to_string(self.replica(n)?.folder.join(self.admin))?;
        let (address, token) = text.split_once('\n').context("the file `admin` is damaged")?;
        let request = reqwest::Client::new().post(format!("http://{address}/admin/crash"));
        let request = request.header("authorization", token).json(what).timeout(Duration::from_secs(10));
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "the administration answered {}", answer.status());
        Ok(answer.json().await?)
    }
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn signal(child: &Child, name: &str) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status()?;
    ensure!(status.success(), "SIG{name} could not be sent");
    Ok(())
}

fn configuration(key: &str, postgres: Option<&str>, [cht, openmrs]: [&str; 2]) -> String {
    let store = match postgres {
        Some(url) => json!({ "postgres": { "url": url, "pool": 4 } }),
        None => json!({ "sqlite": "data" }),
    };
    json!({
        "store": store,
        "encryption": { "key_file": key },
        "http": { "listen": "127.0.0.1:0" },
        "log": { "level": "error" },
        "bridges": [{
            "name": "crash",
            "begin": "everything",
            "tuning": { "lease": "2s" },
            "cht": {
                "url": cht, "user": "medic", "password": "password", "place": { "default": "area" },
                "fields": { "address.village": "village" }, "writes": { "quiet": "2s" },
                "http": { "timeout": "1s", "probe": "2s" },
            },
            "partner": {
                "url": format!("{openmrs}/openmrs"), "user": CONNECTOR.0, "password": CONNECTOR.1,
                "location": LOCATION, "single_name_family": "-",
                "identifiers": { "openmrs": { "type": OPENMRS_ID, "source": SOURCE } },
                "address": { "village": "cityVillage" }, "pass_seconds": 2, "changes_seconds": 1,
                "concurrency": 4, "timeout_seconds": 1, "quiet_seconds": 2,
            },
        }],
    })
    .to_string()
}
