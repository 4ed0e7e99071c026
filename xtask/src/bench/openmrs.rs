//! The OpenMRS connector beside plain loops: creates at an OpenMRS as slow as a real one, and a full pass of its reader
//! over patients that have not changed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Map, Value, json};
use test_support::openmrs::CONNECTOR;
use test_support::process::StandIn;

use super::bare::Line;
use super::log::{Log, Request};
use super::people::{self, Kind};
use super::site::{self, Connector};
use super::{Floor, progress, rounded};

/// Requests at a time.
const CONNECTIONS: usize = 4;
/// Patients of one page.
const PAGE: usize = 100;
const DAY: Duration = Duration::from_secs(86_400);

pub async fn measure(quick: bool, figures: &mut Map<String, Value>, floors: &mut Vec<Floor>) -> Result<()> {
    creates(if quick { 150 } else { 1_000 }, figures, floors).await?;
    pass(if quick { 5_000 } else { 100_000 }, figures, floors).await
}

/// As slow as the real one was seen to be; a look-up there takes as long as another read.
fn slow() -> Value {
    json!({ "pace": { "creates_per_s": 24.0, "edits_per_s": 26.0, "reads_per_s": 180.0, "pages_per_s": 180.0 } })
}

async fn creates(count: usize, figures: &mut Map<String, Value>, floors: &mut Vec<Floor>) -> Result<()> {
    let http = reqwest::Client::new();
    let (cht, openmrs) = (people::cht(&http).await?, site::stand_in("openmrs", Some(&slow()))?);
    let faults = format!("{}/_standin/faults", openmrs.url);
    site::send(&http, Method::PUT, &faults, &json!({ "bodies": true })).await?;
    let documents: Vec<_> = (0..count).map(|n| people::document(n, Kind::Usual, 1)).collect();
    people::enter(&http, &cht, &documents).await?;
    let folder = tempfile::tempdir()?;
    let connector = Connector::start(&people::openmrs(&cht, &openmrs, CONNECTIONS, DAY), folder.path())?;
    let (mut log, requests) = (Log::new(&http, &openmrs.url), tokio::sync::Mutex::new(vec![]));
    let log = tokio::sync::Mutex::new(&mut log);
    site::wait_until("creates", Duration::from_secs(60), Duration::from_millis(500), || async {
        let mut requests = requests.lock().await;
        requests.extend(log.lock().await.read().await?);
        let made = requests.iter().filter(|r: &&Request| r.creates() && r.is_success()).count();
        Ok((made >= count && connector.backlog(&http).await? == 0.0, made as u64))
    })
    .await?;
    drop(connector);
    let mut requests = requests.into_inner();
    // What comes before the first look-up is the start of a connector: its check and its reader's first look.
    let first =
        requests.iter().position(|r| r.path.contains("identifier=")).context("nobody was looked up")?;
    requests.drain(..first);
    requests.retain(|r| !r.is_login());
    let per_s = rate(&requests, count)?;

    let fresh = site::stand_in("openmrs", Some(&slow()))?;
    let cookie = login(&http, &fresh).await?;
    let lines: Vec<_> = requests.iter().map(|r| line(&fresh, &cookie, r)).collect();
    site::bare_any(folder.path(), &lines, CONNECTIONS).await?;
    let replayed = Log::new(&http, &fresh.url).read().await?;
    let replayed: Vec<_> = replayed.into_iter().filter(|r| !r.is_login()).collect();
    let bare = rate(&replayed, count)?;
    progress(&format!(
        "creates: {per_s:.1}/s, bare {bare:.1}/s, {:.2} x; {:.1} requests a create, load {:.1}",
        per_s / bare,
        requests.len() as f64 / count as f64,
        site::load()
    ));
    for (name, value) in [
        ("openmrs_creates_per_s", per_s),
        ("openmrs_bare_creates_per_s", bare),
        ("openmrs_requests_per_create", requests.len() as f64 / count as f64),
    ] {
        figures.insert(name.into(), rounded(value));
    }
    floors.push(Floor::at_least("openmrs_creates_per_s / openmrs_bare_creates_per_s", per_s / bare, 0.9));
    Ok(())
}

/// Creates a second, from the first request to the end of the last create.
fn rate(requests: &[Request], count: usize) -> Result<f64> {
    let made: Vec<_> = requests.iter().filter(|r| r.creates() && r.is_success()).collect();
    ensure!(made.len() == count, "{} patients were made instead of {count}", made.len());
    let first = requests.iter().map(|r| r.start_ms).min().context("no request")?;
    let last = made.iter().map(|r| r.ended()).max().context("no create")?;
    Ok(count as f64 * 1000.0 / (last - first) as f64)
}

async fn login(http: &reqwest::Client, openmrs: &StandIn) -> Result<String> {
    let url = format!("{}/openmrs/ws/rest/v1/session", openmrs.url);
    let answer = http.get(url).basic_auth(CONNECTOR.0, Some(CONNECTOR.1)).send().await?.error_for_status()?;
    let cookie = answer.headers().get("set-cookie").context("no session")?.to_str()?;
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

fn line(openmrs: &StandIn, cookie: &str, request: &Request) -> Line {
    let mut headers = vec![("accept".into(), "application/json".into()), ("cookie".into(), cookie.into())];
    if request.method != "GET" {
        headers.push(("content-type".into(), "application/json".into()));
    }
    Line {
        method: request.method.clone(),
        url: format!("{}{}", openmrs.url, request.path),
        headers,
        body: request.body.clone().unwrap_or_default(),
    }
}

async fn pass(count: usize, figures: &mut Map<String, Value>, floors: &mut Vec<Floor>) -> Result<()> {
    let http = reqwest::Client::new();
    let (cht, openmrs) = (people::cht(&http).await?, site::stand_in("openmrs", None)?);
    let generate = json!({ "count": count, "seed": 11 });
    site::send(&http, Method::POST, &format!("{}/_standin/openmrs/generate", openmrs.url), &generate).await?;
    let folder = tempfile::tempdir()?;
    let mut setup = people::openmrs(&cht, &openmrs, CONNECTIONS, Duration::from_secs(1));
    setup.begin = "now";
    // Nobody was registered so lately that the feed of new patients would take them for one.
    setup.partner["overlap_seconds"] = json!(1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut connector = Connector::start(&setup, folder.path())?;
    // The first pass takes note of everybody, the second meets them unchanged, and a third ends it.
    let (mut log, mut requests): (_, Vec<Request>) = (Log::new(&http, &openmrs.url), vec![]);
    let mut starts = vec![];
    let mut waited = std::time::Instant::now();
    while starts.len() < 3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let read = log.read().await?;
        if !read.is_empty() {
            waited = std::time::Instant::now();
        }
        ensure!(waited.elapsed() < Duration::from_secs(60), "the reader stands still");
        requests.extend(read);
        starts = (0..requests.len()).filter(|at| requests.get(*at).is_some_and(begins)).collect();
    }
    let (memory, peak) = connector.memory()?;
    connector.process.terminate()?;
    let second = starts.get(1).copied().zip(starts.get(2).copied()).context("no second pass")?;
    let pages: Vec<Request> = requests.drain(second.0..second.1).collect();
    requests.extend(log.read().await?);
    let writes = pages.iter().chain(&requests).filter(|r| r.method != "GET").count();
    let seconds = |pages: &[Request]| -> Result<f64> {
        let first = pages.first().context("no page")?.start_ms;
        Ok((pages.iter().map(Request::ended).max().context("no page")? - first) as f64 / 1000.0)
    };
    let took = seconds(&pages)?;
    let rows = site::rows_ever(folder.path()).await?;

    let cookie = login(&http, &openmrs).await?;
    let lines: Vec<_> = pages.iter().map(|r| line(&openmrs, &cookie, r)).collect();
    let mut bare = 0.0;
    for _ in 0..2 {
        bare += site::bare(folder.path(), &lines, 1).await?.seconds / 2.0;
    }
    let wanted = count.div_ceil(PAGE) as f64;
    let a_page = pages.len() as f64 / wanted;
    progress(&format!(
        "a pass over {count}: {took:.2} s, bare {bare:.2} s, {:.2} x; {} requests, memory {memory:.1} MiB, at most \
         {peak:.1}, load {:.1}",
        bare / took,
        pages.len(),
        site::load()
    ));
    for (name, value) in [
        ("openmrs_pass_s", took),
        ("openmrs_bare_pass_s", bare),
        ("openmrs_requests_per_page", a_page),
        ("openmrs_pass_rows", rows as f64),
        ("openmrs_pass_writes", writes as f64),
        ("openmrs_pass_peak_rss_mib", peak),
    ] {
        figures.insert(name.into(), rounded(value));
    }
    floors.push(Floor::at_least("openmrs_bare_pass_s / openmrs_pass_s", bare / took, 0.8));
    floors.push(Floor::at_most("openmrs_requests_per_page", a_page, 1.02));
    floors.push(Floor::at_most("openmrs_pass_rows", rows as f64, 0.0));
    floors.push(Floor::at_most("openmrs_pass_writes", writes as f64, 0.0));
    Ok(())
}

/// Whether the request is the first of a pass.
fn begins(request: &Request) -> bool {
    let path = &request.path;
    path.contains("/R4/Patient?")
        && path.contains("_sort=_lastUpdated")
        && !path.contains("_lastUpdated=ge")
        && !path.contains("_count=0")
}
