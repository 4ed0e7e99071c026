//! `cargo xtask crash`: the real connector, killed at random moments while people type at both sides and both servers
//! misbehave. Ends well only if nothing is lost or doubled.

mod cluster;
mod people;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use test_support::process::StandIn;
use tokio::signal::unix::{SignalKind, signal};

use cluster::Cluster;
use people::People;
use replicas::{Moment, Replicas};

/// Longest wait for what is under way after the last kill.
const PATIENCE: Duration = Duration::from_secs(180);

/// Kills the connector at random moments, and counts what is lost or doubled.
#[derive(clap::Args, Clone, Debug)]
pub struct Crash {
    /// How many kills, over all stores.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// On which store.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// Which moments and mishaps.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// One process on its embedded store.
    Sqlite,
    /// Three replicas on a private PostgreSQL; one is killed, one is stopped for twice its lease.
    Postgres,
    /// One after the other.
    All,
}

#[derive(Default)]
struct Tally {
    kills: usize,
    open: usize,
    lost: usize,
    doubled: usize,
    /// Kills at which rows stood in a state.
    states: BTreeMap<String, usize>,
    moments: BTreeMap<&'static str, usize>,
}

/// Runs it.
pub async fn crash(args: Crash) -> Result<ExitCode> {
    ensure!(args.kills > 0, "--kills must be at least 1");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "test-support", "--package", "connector-openmrs"]);
    ensure!(build.status()?.success(), "the build failed");
    let half = args.kills / 2;
    let parts = match args.store {
        Kind::Sqlite => vec![(Kind::Sqlite, args.kills)],
        Kind::Postgres => vec![(Kind::Postgres, args.kills)],
        Kind::All => vec![(Kind::Sqlite, args.kills - half), (Kind::Postgres, half)],
    };
    let mut tally = Tally::default();
    let mut told = signal(SignalKind::terminate())?;
    for (kind, kills) in parts {
        // Whatever ends a part drops what it started: servers, replicas, the private PostgreSQL.
        tokio::select! {
            ended = part(kind, kills, args.seed, &mut tally) => ended?,
            _ = told.recv() => bail!("told to stop"),
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    }
    say("kills at which rows stood in a state:");
    for (state, n) in &tally.states {
        say(&format!("  {state:<10}{n:>6}"));
    }
    say("kills by moment:");
    for (moment, n) in &tally.moments {
        say(&format!("  {moment:<10}{n:>6}"));
    }
    let Tally { kills, open, lost, doubled, .. } = tally;
    say(&format!("{kills} kills, {open} with an attempt open, {lost} lost, {doubled} doubled"));
    let good = lost + doubled == 0 && open * 10 >= kills * 3;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn part(kind: Kind, kills: usize, seed: u64, tally: &mut Tally) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = if kind == Kind::Postgres { Some(Cluster::start(folder.path())?) } else { None };
    let standin = StandIn::binary("test-support")?;
    let cht = StandIn::spawn(&standin, ["cht", "--port", "0"])?;
    let openmrs = StandIn::spawn(&standin, ["openmrs", "--port", "0"])?;
    let mut people = People::new(&cht.url, &openmrs.url).await?;
    people.faults(&mishaps(seed, "*/_bulk_docs", 150), &mishaps(seed + 1, "*/ws/rest/*", 150)).await?;
    let url = cluster.as_ref().map(|c| c.url.as_str());
    let mut replicas = Replicas::start(folder.path(), url, [&cht.url, &openmrs.url])?;
    let bar = ProgressBar::new(kills as u64);
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos}/{len} {msg}")?);
    let mut dice = Dice(seed);
    for _ in 0..kills {
        for at_cht in [true, false] {
            people.enter(at_cht).await?;
            people.edit(at_cht, dice.next()).await?;
            people.edit(!at_cht, dice.next()).await?;
        }
        let moment = match dice.next() % 10 {
            0 => Moment::StartUp,
            1 => Moment::Reload,
            2 => Moment::Review,
            _ => Moment::Pass,
        };
        if moment == Moment::Review {
            people.void(dice.next()).await?;
        }
        let states = replicas.kill(moment, dice.next()).await?;
        tally.kills += 1;
        tally.open += usize::from(states.contains("sent") || states.contains("unknown"));
        *tally.moments.entry(moment.name()).or_default() += 1;
        for state in states {
            *tally.states.entry(state).or_default() += 1;
        }
        bar.inc(1);
    }
    people.faults(&json!({}), &json!({})).await?;
    replicas.all_well().await?;
    bar.set_message("what is under way arrives");
    let end = Instant::now() + PATIENCE;
    let counted = loop {
        let counted = people.compare(&conflicts(&replicas).await?).await?;
        if counted.lost.is_empty() && counted.doubled.is_empty() || Instant::now() > end {
            break counted;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        bar.tick();
    };
    bar.finish_and_clear();
    for text in counted.lost.iter().chain(&counted.doubled).take(20) {
        say(text);
    }
    let rows = replicas.ask(&json!({ "do": "status" })).await?;
    say(&format!("{kind:?}: {kills} kills, {} people; rows left: {}", people.count(), rows["rows"]));
    let reviews = json!({ "do": "reviews", "all": false, "bodies": false, "limit": 500 });
    let letters = json!({ "do": "dead-letters", "bodies": false, "limit": 500 });
    for (ask, list, why) in [(reviews, "reviews", "kind"), (letters, "dead_letters", "reason")] {
        for (why, n) in reasons(&replicas, ask, list, why).await? {
            say(&format!("  {list}: {n} {why}"));
        }
    }
    tally.lost += counted.lost.len();
    tally.doubled += counted.doubled.len();
    Ok(())
}

/// How many entries of a list name which reason.
async fn reasons(replicas: &Replicas, ask: Value, list: &str, why: &str) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for entry in entries(replicas, ask, list).await? {
        *counts.entry(entry[why].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(counts)
}

async fn conflicts(replicas: &Replicas) -> Result<BTreeSet<String>> {
    let entries = entries(replicas, json!({ "do": "conflicts" }), "conflicts").await?;
    Ok(entries.iter().filter_map(|entry| entry["conflict"]["lost"].as_str().map(str::to_owned)).collect())
}

/// All entries of a list of the administration.
async fn entries(replicas: &Replicas, mut ask: Value, list: &str) -> Result<Vec<Value>> {
    let mut all = vec![];
    ask["after"] = json!(0);
    loop {
        let page = replicas.ask(&ask).await?;
        let entries = page[list].as_array().cloned().unwrap_or_default();
        let Some(last) = entries.last() else { return Ok(all) };
        ask["after"] = json!(last["id"].as_i64().or(last["seq"].as_i64()).context("an entry has no number")?);
        all.extend(entries);
    }
}

/// Every kind of mishap on a tenth of the writes; the others are as slow as a real server's, so that attempts are open.
fn mishaps(seed: u64, path: &str, slow_ms: u64) -> Value {
    let of = json!([
        { "kind": "drop_before" }, { "kind": "drop_after" }, { "kind": "reset" }, { "kind": "half_open" },
        { "kind": "apply_later", "ms": 1_500 }, { "kind": "status", "code": 503 },
        { "kind": "status", "code": 500, "applied": true },
        { "kind": "status", "code": 429, "headers": { "retry-after": "1" } },
    ]);
    json!({ "seed": seed, "rules": [
        { "path": "*?*clerk=1*", "action": { "kind": "pass" } },
        { "method": "POST", "path": path, "probability": 0.1, "action": { "kind": "one_of", "of": of } },
        { "method": "POST", "path": path, "action": { "kind": "delay", "ms": slow_ms } },
    ]})
}

/// Draws that follow from the seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[expect(clippy::print_stdout, reason = "the result of the run")]
fn say(text: &str) {
    println!("{text}");
}
