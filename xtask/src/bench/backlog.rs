//! A backlog through an outage: people with five changes each, some refused by OpenMRS, some with an identifier that
//! somebody else is just being created with.
//!
//! Everything is counted in the log of the stand-in: how many requests at a time, how many during the outage, what was
//! written for whom, in which order.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use connector_openmrs::patient_uuid;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::log::{Log, Request};
use super::people::{self, Kind, change_of};
use super::site::{self, Connector};
use super::{Floor, progress, report, rounded};

/// Requests at a time that the configuration allows.
const ALLOWED: usize = 16;
/// How long OpenMRS takes for each: so long that it, not this machine, is what the backlog waits for.
const TAKES_MS: u64 = 50;
/// Changes of each person.
const CHANGES: usize = 5;
/// Rows taken by four workers: while answers from before the outage still come in, each may be tried once.
const TAKEN: usize = 4 * 64;
/// First pause of a system that is left alone; each is twice the last.
const PAUSE_S: f64 = 5.0;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Accepted for scripts; the figures are JSON in any case.
    #[arg(long)]
    json: bool,
    /// 1,000 patients, for a look or for CI.
    #[arg(long)]
    quick: bool,
}

/// What the log has told so far.
#[derive(Default)]
struct Seen {
    /// Changes written, by patient, in the order of arrival, with the time between which each was open.
    written: HashMap<String, Vec<(usize, i64, i64)>>,
    requests: usize,
    in_outage: usize,
    refused: usize,
    /// Start and end of each request after the outage.
    spans: Vec<(i64, i64)>,
    outage_end: Option<i64>,
}

impl Seen {
    fn take(&mut self, request: &Request) {
        self.requests += 1;
        if request.action == "outage" {
            self.in_outage += 1;
            self.outage_end = Some(request.ended());
            self.spans.clear();
            return;
        }
        if self.outage_end.is_some() {
            self.spans.push((request.start_ms, request.ended()));
        }
        self.refused += usize::from(request.creates() && !request.is_success());
        if let Some((patient, change)) = written(request).filter(|_| request.is_success()) {
            self.written.entry(patient).or_default().push((change, request.start_ms, request.ended()));
        }
    }

    fn finished(&self) -> usize {
        self.written.values().filter(|w| w.last().is_some_and(|(change, ..)| *change == CHANGES)).count()
    }

    /// Patients for whom a write came that was not newer than the one before, or before that one was answered.
    fn out_of_order(&self) -> usize {
        let wrong = |writes: &&Vec<(usize, i64, i64)>| {
            writes.windows(2).any(|w| matches!(w, [(a, _, end), (b, start, _)] if a >= b || end > start))
        };
        self.written.values().filter(wrong).count()
    }

    /// Mean number of requests under way from the end of the outage until `share` of them had come.
    fn concurrency(&self, share: f64) -> Option<(f64, f64)> {
        let spans = self.spans.get(..(self.spans.len() as f64 * share) as usize)?;
        let (first, last) = (spans.first()?.0, spans.last()?.0);
        let busy: i64 = spans.iter().map(|(start, end)| (*end).min(last) - start).sum();
        Some((busy as f64 / (last - first) as f64, (last - first) as f64 / 1000.0))
    }
}

/// The patient and the change that a write is about.
fn written(request: &Request) -> Option<(String, usize)> {
    let body: Value = serde_json::from_str(request.body.as_deref()?).ok()?;
    if request.creates() {
        let phone =
            body["person"]["attributes"].as_array()?.iter().find_map(|a| change_of(a["value"].as_str()?))?;
        return Some((body["person"]["uuid"].as_str()?.to_owned(), phone));
    }
    let mut path = request.path.split("/person/").nth(1)?.split('/');
    let patient = path.next()?.to_owned();
    (path.next()? == "attribute").then_some(())?;
    Some((patient, change_of(body["value"].as_str()?)?))
}

pub async fn run(args: &Args) -> Result<()> {
    site::build()?;
    let count = if args.quick { 1_000 } else { 20_000 };
    let http = reqwest::Client::new();
    let (cht, openmrs) = (people::cht(&http).await?, site::stand_in("openmrs", None)?);
    let faults = format!("{}/_standin/faults", openmrs.url);
    let plan = |outages: Value| {
        let slow = json!({ "action": { "kind": "delay", "ms": TAKES_MS } });
        json!({ "bodies": true, "rules": [slow], "outages": outages })
    };
    site::send(&http, Method::PUT, &faults, &plan(json!([]))).await?;

    // The second of two with one identifier waits for the first, then is for a person to decide.
    let share = count / 100;
    let kind = |n: usize| match n {
        n if n < share => Kind::Refused,
        n if n >= count - share => Kind::Twin(n - count / 2),
        _ => Kind::Usual,
    };
    let all = |change: usize| (0..count).map(|n| people::document(n, kind(n), change)).collect::<Vec<_>>();
    let due = count - 2 * share;
    people::enter(&http, &cht, &all(1)).await?;
    let folder = tempfile::tempdir()?;
    let setup = people::openmrs(&cht, &openmrs, ALLOWED, Duration::from_secs(86_400));
    let connector = Connector::start(&setup, folder.path())?;
    let began = Instant::now();
    let (mut log, mut seen) = (Log::new(&http, &openmrs.url), Seen::default());
    while seen.written.len() < count / 10 {
        follow(&mut log, &mut seen, began).await?;
    }

    let outage = Instant::now();
    site::send(&http, Method::PUT, &faults, &plan(json!([{ "from_ms": 0, "to_ms": 86_400_000 }]))).await?;
    progress(&format!("{} made; OpenMRS is gone, and everybody changes three times", seen.written.len()));
    for change in 2..CHANGES {
        people::edit(&http, &cht, all(change)).await?;
        follow(&mut log, &mut seen, began).await?;
    }
    let rest = Duration::from_secs(if args.quick { 20 } else { 60 }).saturating_sub(outage.elapsed());
    tokio::time::sleep(rest).await;
    follow(&mut log, &mut seen, began).await?;
    site::send(&http, Method::PUT, &faults, &plan(json!([]))).await?;
    let outage_s = outage.elapsed().as_secs_f64();
    progress(&format!(
        "OpenMRS is back after {outage_s:.0} s, {} requests; backlog {:.0}; everybody changes once more",
        seen.in_outage,
        connector.backlog(&http).await?
    ));
    people::edit(&http, &cht, all(CHANGES)).await?;
    let drain = Instant::now();
    while seen.finished() < due {
        follow(&mut log, &mut seen, began).await?;
    }
    let drain_s = drain.elapsed().as_secs_f64();
    // Nothing may come after that, for anybody.
    let twins: HashSet<String> = (0..count)
        .flat_map(|n| match kind(n) {
            Kind::Twin(other) => vec![n, other],
            _ => vec![],
        })
        .map(|n| patient_uuid(&people::id(n)))
        .collect();
    settle(&http, &connector, &mut log, &mut seen, began).await?;

    let requests = site::get(&http, &format!("{}/_standin/requests", openmrs.url)).await?;
    let most = requests["max_concurrent"].as_f64().unwrap_or_default();
    let (mean, drained_s) = seen.concurrency(0.95).unwrap_or_default();
    let reached = mean / ALLOWED as f64;
    let allowed_in_outage = (TAKEN + ALLOWED) as f64 + outage_s / PAUSE_S;
    let writes: usize = seen.written.values().map(Vec::len).sum();
    let made_twins = seen.written.keys().filter(|p| twins.contains(*p)).count();
    progress(&format!(
        "drained in {drain_s:.0} s; at most {most:.0} requests at a time, {mean:.1} in the mean over {drained_s:.0} s; \
         {} requests, {writes} writes, {} refused, {} out of order; load {:.1}",
        seen.requests,
        seen.refused,
        seen.out_of_order(),
        site::load()
    ));
    let status = site::get(&http, &format!("{}/status", connector.process.url)).await?;
    progress(&status["bench"]["rows"].to_string());
    let rows = |state: &str| -> u64 {
        let all = status["bench"]["rows"].as_array().into_iter().flatten();
        all.filter(|r| r["state"] == state).filter_map(|r| r["rows"].as_u64()).sum()
    };
    ensure!(rows("review") == share as u64, "{} are in review, not {share}", rows("review"));
    ensure!(rows("dead") >= share as u64, "{} are dead letters, not {share}", rows("dead"));
    let (mut figures, mut floors) = (Map::new(), vec![]);
    for (name, value) in [
        ("patients", count as f64),
        ("changes", (count * CHANGES) as f64),
        ("outage_s", outage_s),
        ("outage_requests", seen.in_outage as f64),
        ("drain_s", drain_s),
        ("allowed_concurrency", ALLOWED as f64),
        ("max_concurrency", most),
        ("reached_concurrency", reached),
        ("requests", seen.requests as f64),
        ("writes", writes as f64),
        ("refused", seen.refused as f64),
        ("out_of_order", seen.out_of_order() as f64),
        ("peak_rss_mib", connector.memory()?.1),
        ("load", site::load()),
    ] {
        figures.insert(name.into(), rounded(value));
    }
    floors.push(Floor::at_most("max_concurrency", most, ALLOWED as f64));
    floors.push(Floor::at_least("reached_concurrency", reached, 0.8));
    floors.push(Floor::at_most("outage_requests", seen.in_outage as f64, allowed_in_outage));
    floors.push(Floor::at_most("refused", seen.refused as f64, (share * CHANGES) as f64));
    floors.push(Floor::at_most("out_of_order", seen.out_of_order() as f64, 0.0));
    ensure!(seen.written.len() == due, "{} patients were made, not {due}", seen.written.len());
    ensure!(made_twins == share, "{made_twins} of the {share} pairs with one identifier were made");
    report(&figures, &floors)
}

async fn follow(log: &mut Log<'_>, seen: &mut Seen, began: Instant) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = seen.requests;
    for request in log.read().await? {
        if !request.is_login() {
            seen.take(&request);
        }
    }
    if before / 20_000 != seen.requests / 20_000 {
        progress(&format!(
            "{:.0} s: {} requests, {} patients made, {} as they are to be",
            began.elapsed().as_secs_f64(),
            seen.requests,
            seen.written.len(),
            seen.finished()
        ));
    }
    ensure!(began.elapsed() < Duration::from_secs(3_600), "not done within an hour");
    Ok(())
}

/// Waits until nothing more comes for three seconds.
async fn settle(
    http: &reqwest::Client,
    connector: &Connector,
    log: &mut Log<'_>,
    seen: &mut Seen,
    began: Instant,
) -> Result<()> {
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(3) {
        let before = seen.requests;
        follow(log, seen, began).await?;
        if seen.requests > before {
            quiet = Instant::now();
        }
    }
    progress(&format!("backlog {:.0}", connector.backlog(http).await?));
    Ok(())
}
