//! The first load of a large site, and a start on the store that it leaves behind.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Map, Value, json};
use test_support::process::StandIn;

use super::prefill::{self, Filling};
use super::site::{self, Connector, Setup};
use super::{Floor, progress, report, rounded};

/// Starts on the prefilled store.
const STARTS: usize = 5;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Accepted for scripts; the figures are JSON in any case.
    #[arg(long)]
    json: bool,
    /// A twentieth, for a look or for CI.
    #[arg(long)]
    quick: bool,
    /// Parts to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["load", "idle"])]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Load,
    Idle,
}

pub async fn run(args: &Args) -> Result<()> {
    site::build()?;
    let (mut figures, mut floors) = (Map::new(), vec![]);
    figures.insert("load".into(), rounded(site::load()));
    if args.only.contains(&Part::Load) {
        let (count, window) = if args.quick { (50_000, 10_000) } else { (1_000_000, 100_000) };
        load(count, window, &mut figures, &mut floors).await?;
    }
    if args.only.contains(&Part::Idle) {
        let million = if args.quick { 50_000 } else { 1_000_000 };
        let open = if args.quick { 500 } else { 10_000 };
        let filling = Filling { seen: million, ledger: million, links: million, open };
        idle(filling, &mut figures, &mut floors).await?;
    }
    report(&figures, &floors)
}

fn template(cht: &StandIn, sink: &StandIn) -> Setup<'static> {
    Setup {
        binary: "connector-template",
        begin: "everything",
        cht: site::documents_of(cht, 500),
        partner: json!({ "url": sink.url }),
        tuning: json!({}),
    }
}

async fn load(
    count: u64,
    window: u64,
    figures: &mut Map<String, Value>,
    floors: &mut Vec<Floor>,
) -> Result<()> {
    let http = reqwest::Client::new();
    let (cht, sink) = (site::stand_in("cht", None)?, site::stand_in("sink", None)?);
    let generate = json!({ "count": count, "min_bytes": 1 << 10, "max_bytes": 64 << 10, "seed": 7 });
    site::send(&http, Method::POST, &format!("{}/_standin/cht/generate", cht.url), &generate).await?;
    let folder = tempfile::tempdir()?;
    let connector = Connector::start(&template(&cht, &sink), folder.path())?;
    let began = Instant::now();
    let url = format!("{}/_standin/sink/counts", sink.url);
    let (mut last, mut ends, mut store, mut backlog) = ((0.0, 0), vec![], 0.0_f64, 0.0_f64);
    let mut moved = Instant::now();
    while last.1 < count {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let at = began.elapsed().as_secs_f64();
        let got = site::get(&http, &url).await?["distinct"].as_u64().context("no count")?;
        if got > last.1 {
            moved = Instant::now();
        }
        ensure!(moved.elapsed() < Duration::from_secs(120), "nothing moved for two minutes, at {got}");
        store = store.max(site::folder_mib(folder.path()));
        backlog = backlog.max(connector.backlog(&http).await?);
        while got >= (ends.len() as u64 + 1) * window {
            let share = ((ends.len() as u64 + 1) * window - last.1) as f64 / (got - last.1) as f64;
            ends.push(last.0 + (at - last.0) * share);
            progress(&format!(
                "{got} persons after {at:.0} s, memory {:.1} MiB, at most {:.1}; store at most {store:.0} MiB, backlog at \
                 most {backlog:.0}; load {:.1}",
                connector.memory()?.0,
                connector.memory()?.1,
                site::load()
            ));
        }
        last = (at, got);
    }
    let seconds = began.elapsed().as_secs_f64();
    let counts = site::get(&http, &url).await?;
    ensure!(counts["doubled"] == 0 && counts["distinct"] == count, "not every person arrived once: {counts}");
    let mut windows: Vec<f64> = ends.windows(2).filter_map(|w| Some(w.get(1)? - w.first()?)).collect();
    windows.sort_by(f64::total_cmp);
    let middle = windows.get(windows.len() / 2).copied().context("no window")?;
    let ratio = windows.last().copied().context("no window")? / middle;
    let (now, peak) = connector.memory()?;
    for (name, value) in [
        ("persons", count as f64),
        ("load_s", seconds),
        ("persons_per_s", count as f64 / seconds),
        ("mib_per_s", counts["bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 20) / seconds),
        ("load_peak_rss_mib", peak),
        ("load_end_rss_mib", now),
        ("load_cpu_s", connector.cpu_s()?),
        ("slowest_window", ratio),
        ("store_peak_mib", store),
        ("backlog_peak", backlog),
    ] {
        figures.insert(name.into(), rounded(value));
    }
    drop(connector);
    figures.insert("store_end_mib".into(), rounded(site::folder_mib(folder.path())));
    floors.push(Floor::at_most("load_peak_rss_mib", peak, 150.0));
    floors.push(Floor::at_most("slowest_window", ratio, 1.3));
    Ok(())
}

async fn idle(filling: Filling, figures: &mut Map<String, Value>, floors: &mut Vec<Floor>) -> Result<()> {
    let (cht, sink) = (site::stand_in("cht", None)?, site::stand_in("sink", None)?);
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    prefill::fill(folder.path(), filling).await?;
    progress(&format!(
        "a store of {:.0} MiB made in {:.0} s",
        site::folder_mib(folder.path()),
        began.elapsed().as_secs_f64()
    ));
    let http = reqwest::Client::new();
    let (mut ready, mut settled) = (vec![], 0.0_f64);
    for n in 1..=STARTS {
        let mut connector = Connector::start(&template(&cht, &sink), folder.path())?;
        ready.push(connector.ready.as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (now, peak) = connector.memory()?;
        settled = settled.max(now);
        let open = connector.backlog(&http).await?;
        ensure!(open == filling.open as f64, "{open} rows are open instead of {}", filling.open);
        progress(&format!(
            "start {n}: ready after {:.0} ms, memory {now:.1} MiB, at most {peak:.1}, load {:.1}",
            connector.ready.as_secs_f64() * 1000.0,
            site::load()
        ));
        connector.process.terminate()?;
    }
    ready.sort_by(f64::total_cmp);
    let middle = ready.get(STARTS / 2).copied().context("no start")?;
    figures.insert("ready_ms".into(), rounded(middle));
    figures.insert("ready_slowest_ms".into(), rounded(ready.last().copied().unwrap_or_default()));
    figures.insert("idle_rss_mib".into(), rounded(settled));
    floors.push(Floor::at_most("ready_ms", middle, 200.0));
    floors.push(Floor::at_most("idle_rss_mib", settled, 25.0));
    Ok(())
}
