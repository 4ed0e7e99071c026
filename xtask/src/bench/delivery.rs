//! Deliveries of the template connector beside a plain loop over the same bodies, its intake beside a handler that only
//! answers, and the time from a write to its delivery.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Map, Value, json};
use test_support::process::StandIn;

use super::bare::Line;
use super::site::{self, Connector, Setup};
use super::{Floor, openmrs, progress, report, rounded};

/// Size of a body.
const BYTES: usize = 1024;
/// Requests at a time.
const CONNECTIONS: usize = 32;
/// What whoever pushes people to the template connector shows.
const TOKEN: &str = "bench-token";

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Accepted for scripts; the figures are JSON in any case.
    #[arg(long)]
    json: bool,
    /// 10,000 changes and one round, for a look or for CI.
    #[arg(long)]
    quick: bool,
    /// Parts to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["deliver", "intake", "latency", "openmrs"])]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Deliver,
    Intake,
    Latency,
    Openmrs,
}

pub async fn run(args: &Args) -> Result<()> {
    site::build()?;
    let (count, rounds) = if args.quick { (10_000, 1) } else { (100_000, 3) };
    let mut figures = Map::new();
    let mut floors = vec![];
    figures.insert("load".into(), rounded(site::load()));
    if args.only.contains(&Part::Deliver) {
        deliver(count, rounds, &mut figures, &mut floors).await?;
    }
    if args.only.contains(&Part::Intake) {
        intake(count, rounds, &mut figures, &mut floors).await?;
    }
    if args.only.contains(&Part::Latency) {
        let seconds = if args.quick { 10 } else { 60 };
        let p99 = latency(100, seconds).await?;
        figures.insert("latency_p99_ms".into(), json!(p99));
        floors.push(Floor::at_most("latency_p99_ms", p99 as f64, 1000.0));
    }
    if args.only.contains(&Part::Openmrs) {
        openmrs::measure(args.quick, &mut figures, &mut floors).await?;
    }
    report(&figures, &floors)
}

/// One round of deliveries.
#[derive(Clone, Copy)]
struct Round {
    bare: f64,
    delivered: f64,
    peak: f64,
    commits: f64,
    requests: f64,
}

async fn deliver(
    count: usize,
    rounds: usize,
    figures: &mut Map<String, Value>,
    floors: &mut Vec<Floor>,
) -> Result<()> {
    let http = reqwest::Client::new();
    let cht = site::stand_in("cht", None)?;
    let generate = json!({ "count": count, "min_bytes": BYTES, "max_bytes": BYTES, "seed": 1 });
    site::send(&http, Method::POST, &format!("{}/_standin/cht/generate", cht.url), &generate).await?;
    let bodies = bodies(&http, &cht).await?;
    ensure!(bodies.len() == count, "the stand-in gave {} documents instead of {count}", bodies.len());
    let mut all = vec![];
    for n in 1..=rounds {
        let before = bare_round(&bodies).await?;
        let mut round = deliver_round(&http, &cht, count).await?;
        let after = bare_round(&bodies).await?;
        round.bare = f64::midpoint(before, after);
        progress(&format!(
            "round {n}: bare {before:.0} and {after:.0}/s, delivered {:.0}/s = {:.2} x, peak {:.1} MiB, {} commits, load {:.1}",
            round.delivered,
            round.delivered / round.bare,
            round.peak,
            round.commits,
            site::load()
        ));
        all.push(round);
    }
    all.sort_by(|a, b| (a.delivered / a.bare).total_cmp(&(b.delivered / b.bare)));
    let round = all.get(all.len() / 2).context("no round")?;
    for (name, value) in [
        ("bare_per_s", round.bare),
        ("delivered_per_s", round.delivered),
        ("peak_rss_mib", round.peak),
        ("commits", round.commits),
        ("requests_per_change", round.requests / count as f64),
    ] {
        figures.insert(name.into(), rounded(value));
    }
    floors.push(Floor::at_least("delivered_per_s / bare_per_s", round.delivered / round.bare, 0.5));
    floors.push(Floor::at_most("peak_rss_mib", round.peak, 150.0));
    Ok(())
}

/// What a connector sends for each document of the CHT: id and body.
async fn bodies(http: &reqwest::Client, cht: &StandIn) -> Result<Vec<(String, String)>> {
    let mut out = vec![];
    let mut since = "0".to_owned();
    loop {
        let url = format!("{}/medic/_changes?include_docs=true&limit=1000&since={since}", cht.url);
        let answer = http.get(url).basic_auth("medic", Some("password")).send().await?.error_for_status()?;
        let page: Value = answer.json().await?;
        let rows = page["results"].as_array().context("no results")?;
        for row in rows {
            let mut doc = row["doc"].clone();
            if doc["type"] == "person"
                && let Some(map) = doc.as_object_mut()
            {
                map.remove("_rev");
                out.push((map["_id"].as_str().unwrap_or_default().to_owned(), doc.to_string()));
            }
        }
        since = page["last_seq"].as_str().map_or_else(|| page["last_seq"].to_string(), str::to_owned);
        if rows.is_empty() || page["pending"] == 0 {
            return Ok(out);
        }
    }
}

async fn bare_round(bodies: &[(String, String)]) -> Result<f64> {
    let sink = site::stand_in("sink", None)?;
    let folder = tempfile::tempdir()?;
    Ok(site::bare(folder.path(), &posts(&sink.url, "/records", bodies), CONNECTIONS).await?.per_s())
}

fn posts(url: &str, path: &str, bodies: &[(String, String)]) -> Vec<Line> {
    let line = |(id, body): &(String, String)| Line {
        method: "POST".into(),
        url: format!("{url}{path}"),
        headers: vec![
            ("content-type".into(), "application/json".into()),
            ("idempotency-key".into(), format!("partner//documents/cht/person/{id}#1")),
            ("x-subject".into(), id.clone()),
            ("authorization".into(), format!("Bearer {TOKEN}")),
        ],
        body: body.clone(),
    };
    bodies.iter().map(line).collect()
}

async fn deliver_round(http: &reqwest::Client, cht: &StandIn, count: usize) -> Result<Round> {
    let sink = site::stand_in("sink", None)?;
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    let connector = template(cht, &sink, folder.path())?;
    received(http, &sink, count as u64).await?;
    let delivered = count as f64 / began.elapsed().as_secs_f64();
    let counts = site::get(http, &format!("{}/_standin/sink/counts", sink.url)).await?;
    ensure!(counts["doubled"] == 0, "deliveries were doubled");
    Ok(Round {
        bare: 0.0,
        delivered,
        peak: connector.memory()?.1,
        commits: connector.metric(http, "connector_store_commits_total").await?,
        requests: counts["received"].as_f64().unwrap_or(0.0),
    })
}

fn template(cht: &StandIn, sink: &StandIn, folder: &Path) -> Result<Connector> {
    let setup = Setup {
        binary: "connector-template",
        begin: "everything",
        cht: site::documents_of(cht, 500),
        partner: json!({ "url": sink.url, "concurrency": CONNECTIONS, "people_token": TOKEN }),
        tuning: json!({}),
    };
    Connector::start(&setup, folder)
}

async fn received(http: &reqwest::Client, sink: &StandIn, count: u64) -> Result<()> {
    let url = format!("{}/_standin/sink/counts", sink.url);
    site::wait_until("deliveries", Duration::from_secs(60), Duration::from_millis(20), || async {
        let got = site::get(http, &url).await?["distinct"].as_u64().unwrap_or(0);
        Ok((got >= count, got))
    })
    .await
}

/// Acceptance alone: the CHT is gone once the connector is ready, so that everything taken stays in the store.
async fn intake(
    count: usize,
    rounds: usize,
    figures: &mut Map<String, Value>,
    floors: &mut Vec<Floor>,
) -> Result<()> {
    let text = "x".repeat(BYTES - 70);
    let body = |n: usize| {
        let id = format!("{n:08}-0000-4000-8000-000000000000");
        let body = json!({ "id": id, "fields": { "name": text } }).to_string();
        (id, body)
    };
    let bodies: Vec<_> = (0..count).map(body).collect();
    let mut all = vec![];
    for n in 1..=rounds {
        let plain = || async {
            let (bare, folder) = (site::stand_in("bare", None)?, tempfile::tempdir()?);
            anyhow::Ok(
                site::bare(folder.path(), &posts(&bare.url, "/records", &bodies), CONNECTIONS).await?.per_s(),
            )
        };
        let before = plain().await?;
        let taken = {
            let (cht, sink) = (site::stand_in("cht", None)?, site::stand_in("sink", None)?);
            let folder = tempfile::tempdir()?;
            let connector = template(&cht, &sink, folder.path())?;
            drop(cht);
            let requests = posts(&connector.process.url, "/bench/people", &bodies);
            site::bare(folder.path(), &requests, CONNECTIONS).await?.per_s()
        };
        let after = plain().await?;
        let bare = f64::midpoint(before, after);
        progress(&format!(
            "round {n}: intake {taken:.0}/s, bare {before:.0} and {after:.0}/s, {:.2} x",
            taken / bare
        ));
        all.push((taken / bare, taken, bare));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, taken, bare) = all.get(all.len() / 2).context("no round")?;
    figures.insert("intake_bare_per_s".into(), rounded(*bare));
    figures.insert("intake_per_s".into(), rounded(*taken));
    floors.push(Floor::at_least("intake_per_s / intake_bare_per_s", *ratio, 0.7));
    Ok(())
}

/// The 99th percentile, in milliseconds, from the write of a document to its first delivery.
async fn latency(per_s: u64, seconds: u64) -> Result<i64> {
    let http = reqwest::Client::new();
    let cht = site::stand_in("cht", None)?;
    let sink = site::stand_in("sink", Some(&json!({ "keep_bodies": true })))?;
    let folder = tempfile::tempdir()?;
    let connector = template(&cht, &sink, folder.path())?;
    let (start, mut written) = (Instant::now(), vec![]);
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..per_s * seconds {
        let due = start + Duration::from_millis(n * 1000 / per_s);
        tokio::time::sleep_until(due.into()).await;
        let (http, url) = (http.clone(), format!("{}/medic/late-{n}", cht.url));
        writes.spawn(async move {
            let body =
                json!({ "type": "person", "name": format!("Late {n}"), "text": "x".repeat(BYTES - 120) });
            let at = now_ms();
            http.put(url)
                .basic_auth("medic", Some("password"))
                .json(&body)
                .send()
                .await?
                .error_for_status()?;
            anyhow::Ok((format!("late-{n}"), at))
        });
    }
    while let Some(write) = writes.join_next().await {
        written.push(write??);
    }
    // The sentinel makes second revisions, so that the number of deliveries tells nothing.
    let first = tokio::sync::Mutex::new(HashMap::new());
    site::wait_until("deliveries", Duration::from_secs(60), Duration::from_millis(500), || async {
        let mut first = first.lock().await;
        *first = first_deliveries(&http, &sink).await?;
        let arrived = written.iter().filter(|(id, _)| first.contains_key(id)).count();
        Ok((arrived == written.len(), arrived as u64))
    })
    .await?;
    let first = first.into_inner();
    let mut times = vec![];
    for (id, at) in &written {
        times.push(first.get(id).with_context(|| format!("{id} never arrived"))? - at);
    }
    times.sort_unstable();
    let of = |share: usize| {
        times.get((times.len() * share / 100).min(times.len() - 1)).copied().unwrap_or_default()
    };
    progress(&format!(
        "latency p50 {} ms, p99 {} ms, longest {} ms, load {:.1}",
        of(50),
        of(99),
        of(100),
        site::load()
    ));
    drop(connector);
    Ok(of(99))
}

/// When each document first arrived.
async fn first_deliveries(http: &reqwest::Client, sink: &StandIn) -> Result<HashMap<String, i64>> {
    let text = http.get(format!("{}/_standin/sink/effects", sink.url)).send().await?.text().await?;
    let mut first: HashMap<String, i64> = HashMap::new();
    for line in text.lines() {
        let effect: Value = serde_json::from_str(line)?;
        let (Some(subject), Some(at)) = (effect["subject"].as_str(), effect["at_ms"].as_i64()) else {
            continue;
        };
        first.entry(subject.to_owned()).and_modify(|f| *f = at.min(*f)).or_insert(at);
    }
    Ok(first)
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
