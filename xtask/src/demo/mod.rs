//! `cargo xtask demo`: the whole chain with real processes, a partner outage and a hard kill in the middle, and an
//! auditor that compares each person's fields at both servers with what was typed.

mod site;
pub mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use test_support::people::{People, Person, Sex};

use site::Site;
use verify::{Direction, Expected};

/// Longest wait for the chain to come to rest.
const PATIENCE: Duration = Duration::from_secs(420);
/// Most people in review, in hundredths.
const REVIEW: f64 = 2.0;

/// Runs the whole chain on this machine and counts.
#[derive(clap::Args, Clone, Debug)]
pub struct Demo {
    /// People, half of them entered at each side.
    #[arg(long, default_value_t = 2_000)]
    people: usize,
    /// Which people.
    #[arg(long, default_value_t = 20)]
    seed: u64,
    /// Keeps everything running at the end, until enter is pressed.
    #[arg(long)]
    keep: bool,
    /// Takes one rule out of the connector, to show that the demo can fail: `field-base`.
    #[arg(long, value_name = "RULE")]
    without: Option<String>,
}

/// The auditor, a process of its own.
#[derive(clap::Args, Clone, Debug)]
pub struct Verify {
    /// What was put in.
    #[arg(long)]
    manifest: PathBuf,
    /// The CHT.
    #[arg(long)]
    cht: String,
    /// OpenMRS.
    #[arg(long)]
    openmrs: String,
    /// The connector's status page.
    #[arg(long)]
    status: String,
}

/// Runs the demo.
pub async fn demo(args: Demo) -> Result<ExitCode> {
    build(args.without.is_some())?;
    let folder = tempfile::tempdir()?;
    let mut site = Site::start(folder.path(), args.without.as_deref()).await?;
    site.start_connector()?;
    let bar = ProgressBar::new(args.people as u64 * 2);
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos}/{len} {msg}")?);
    let people = unlike(args.seed, args.people);
    let (at_cht, at_openmrs) = people.split_at(people.len() / 2);
    bar.set_message("people are entered at both sides");
    let mut expected: Vec<Expected> = at_cht.iter().map(|p| expect(p, true, p.id.to_string())).collect();
    for part in at_cht.chunks(100) {
        site.enter(part).await?;
        arrived(&site, &bar).await?;
    }
    for (i, person) in at_openmrs.iter().enumerate() {
        let uuid = site.register(person).await?;
        expected.push(expect(person, false, uuid));
        if i % 100 == 0 {
            arrived(&site, &bar).await?;
        }
    }
    bar.set_message("OpenMRS is out of reach");
    let outage = json!({ "rules": [], "outages": [{ "from_ms": 0, "to_ms": 8_000 }] });
    site.openmrs_faults(Some(&outage)).await?;
    until(&bar, Duration::from_secs(8)).await;
    site.openmrs_faults(None).await?;
    bar.set_message("the connector is killed and started again");
    site.kill_connector()?;
    site.start_connector()?;
    bar.set_message("the rest arrives");
    at_rest(&site, &bar, args.people).await?;
    bar.set_message("a third of them is edited");
    edit(&site, &mut expected).await?;
    site.kill_connector()?;
    site.start_connector()?;
    let manifest = folder.path().join("manifest.jsonl");
    let lines: Vec<_> = expected.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    std::fs::write(&manifest, lines.join("\n"))?;
    settle(&site, &bar, &expected).await?;
    bar.finish_and_clear();
    let code = audit(&site, &manifest, args.people)?;
    if args.keep {
        say(&format!("CHT {}, OpenMRS {}; press enter to end", site.cht.url, site.openmrs.url));
        std::io::stdin().read_line(&mut String::new())?;
    }
    Ok(code)
}

/// People of whom no two of one sex were born on one day and share a part of their names: such pairs are for a person
/// to decide, not for a demo.
fn unlike(seed: u64, count: usize) -> Vec<Person> {
    let mut seen = BTreeSet::new();
    let mut unlike = |p: &Person| {
        let words: Vec<_> =
            p.name().split_whitespace().map(|w| (p.sex == Sex::Female, p.birth_date, w.to_owned())).collect();
        let new = words.iter().all(|w| !seen.contains(w));
        seen.extend(words);
        new
    };
    People::new(seed).filter(|p| unlike(p)).take(count).collect()
}

fn build(broken: bool) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--package", "test-support", "--package", "connector-openmrs"]);
    if broken {
        command.args(["--features", "connector-core/mutation"]);
    }
    ensure!(command.status()?.success(), "the build failed");
    Ok(())
}

fn expect(person: &Person, at_cht: bool, id: String) -> Expected {
    let doc = site::contact(person);
    let fields = [
        ("name", "name"),
        ("sex", "sex"),
        ("birth_date", "date_of_birth"),
        ("phone", "phone"),
        ("village", "village"),
    ]
    .into_iter()
    .filter_map(|(field, key)| Some((field.to_owned(), vec![doc[key].as_str()?.to_owned()])));
    Expected { at_cht, id, fields: fields.collect::<BTreeMap<_, _>>() }
}

async fn arrived(site: &Site, bar: &ProgressBar) -> Result<(usize, usize)> {
    let (contacts, patients) = site.counts().await?;
    bar.set_position((contacts + patients) as u64);
    Ok((contacts, patients))
}

async fn until(bar: &ProgressBar, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(250)).await;
        bar.tick();
    }
}

/// Everybody stands at both sides.
async fn at_rest(site: &Site, bar: &ProgressBar, people: usize) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let (contacts, patients) = arrived(site, bar).await?;
        if contacts >= people
            && patients >= people
            && rows(&site.status().await?, &["queued", "sent", "planned", "unknown"]) == 0
        {
            return Ok(());
        }
        if Instant::now() > end {
            bar.println("not everybody arrived in time; the auditor says who is missing");
            return Ok(());
        }
        until(bar, Duration::from_secs(1)).await;
    }
}

/// Rows of the connector in these states.
fn rows(status: &Value, states: &[&str]) -> u64 {
    let all = status
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, bridge)| bridge["rows"].as_array())
        .flatten();
    all.filter(|r| states.iter().any(|s| r["state"] == *s)).filter_map(|r| r["rows"].as_u64()).sum()
}

/// A third is edited: at one side, at the other, at both, some twice.
async fn edit(site: &Site, expected: &mut [Expected]) -> Result<()> {
    let client = reqwest::Client::new();
    let contacts = verify::contacts(&client, &site.cht.url).await?;
    let patients = verify::patients(&client, &site.openmrs.url).await?;
    let mut pairs: BTreeMap<String, (String, String)> = BTreeMap::new();
    for contact in &contacts {
        if let (Some(id), Some(external)) = (contact["_id"].as_str(), contact["external_id"].as_str()) {
            let uuid = external.strip_prefix("openmrs:").unwrap_or(external);
            pairs.insert(uuid.to_owned(), (id.to_owned(), uuid.to_owned()));
        }
    }
    for patient in &patients {
        for id in patient["identifiers"].as_array().into_iter().flatten() {
            if let (Some(contact), Some(uuid)) = (id["value"].as_str(), patient["uuid"].as_str()) {
                pairs.entry(contact.to_owned()).or_insert_with(|| (contact.to_owned(), uuid.to_owned()));
            }
        }
    }
    for (n, person) in expected.iter_mut().enumerate().filter(|(n, _)| n % 3 == 0) {
        let Some((contact, uuid)) = pairs.get(&person.id) else { continue };
        let phone = |k: usize| format!("+2547{:08}", n * 10 + k);
        let mut typed = |field: &str, values: Vec<String>| person.fields.insert(field.to_owned(), values);
        match n / 3 % 5 {
            0 => {
                site.edit_contact(&json!({ "_id": contact, "phone": phone(1) })).await?;
                typed("phone", vec![phone(1)]);
            }
            1 => {
                site.edit_patient(uuid, &json!({ "address": { "cityVillage": format!("Ward {n}") } }))
                    .await?;
                typed("village", vec![format!("Ward {n}")]);
            }
            2 => {
                site.edit_contact(&json!({ "_id": contact, "phone": phone(2) })).await?;
                site.edit_patient(uuid, &json!({ "address": { "cityVillage": format!("Ward {n}") } }))
                    .await?;
                typed("phone", vec![phone(2)]);
                typed("village", vec![format!("Ward {n}")]);
            }
            3 => {
                site.edit_contact(&json!({ "_id": contact, "phone": phone(3) })).await?;
                site.edit_contact(&json!({ "_id": contact, "phone": phone(4) })).await?;
                typed("phone", vec![phone(4)]);
            }
            // The same field at both sides: one of the two stands at both, the other is in the conflict log.
            _ => {
                site.edit_contact(&json!({ "_id": contact, "phone": phone(5) })).await?;
                site.edit_patient(uuid, &json!({ "phone": phone(6) })).await?;
                typed("phone", vec![phone(5), phone(6)]);
            }
        }
    }
    Ok(())
}

/// Waits until the auditor would be content, or for long enough.
async fn settle(site: &Site, bar: &ProgressBar, expected: &[Expected]) -> Result<()> {
    bar.set_message("the edits arrive");
    bar.set_length(expected.len() as u64);
    let end = Instant::now() + PATIENCE / 2;
    loop {
        let found = verify::compare(expected, &site.cht.url, &site.openmrs.url).await?;
        bar.set_position((found.to_cht.delivered + found.to_openmrs.delivered) as u64);
        let open = rows(&site.status().await?, &["queued", "sent", "planned", "unknown"]);
        if open == 0 && found.to_cht.lost + found.to_openmrs.lost == 0 || Instant::now() > end {
            return Ok(());
        }
        until(bar, Duration::from_secs(1)).await;
    }
}

fn audit(site: &Site, manifest: &Path, people: usize) -> Result<ExitCode> {
    let status = site.connector.as_ref().map(|c| format!("{}/status", c.url)).unwrap_or_default();
    let auditor = Command::new(std::env::current_exe()?)
        .args([
            "demo-verify",
            "--cht",
            &site.cht.url,
            "--openmrs",
            &site.openmrs.url,
            "--status",
            &status,
            "--manifest",
        ])
        .arg(manifest)
        .stdin(Stdio::null())
        .status()
        .context("the auditor does not start")?;
    Ok(if auditor.success() && people >= 2_000 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts what went where. The last two lines of stdout are the result.
pub async fn verify(args: Verify) -> Result<ExitCode> {
    let people = verify::manifest(&args.manifest)?;
    let found = verify::compare(&people, &args.cht, &args.openmrs).await?;
    let status: Value = reqwest::get(&args.status).await?.json().await?;
    let (review, dead) = (rows(&status, &["review"]), rows(&status, &["dead", "unreadable"]));
    say(&format!("{:<18}{:>8}{:>11}{:>7}{:>9}", "direction", "people", "delivered", "lost", "doubled"));
    for (name, d) in [("CHT -> OpenMRS", found.to_openmrs), ("OpenMRS -> CHT", found.to_cht)] {
        say(&format!("{name:<18}{:>8}{:>11}{:>7}{:>9}", d.people, d.delivered, d.lost, d.doubled));
    }
    say(&format!("dead letters: {dead}; in review: {review}; fields that differ: {:?}", found.fields));
    let share = review as f64 * 100.0 / people.len().max(1) as f64;
    let line = |name: &str, d: Direction| {
        format!(
            "{name}: delivered {} of {}, {} lost, {} doubled ({review} in review)",
            d.delivered, d.people, d.lost, d.doubled
        )
    };
    say(&line("CHT -> OpenMRS", found.to_openmrs));
    say(&line("OpenMRS -> CHT", found.to_cht));
    let good = [found.to_openmrs, found.to_cht].iter().all(|d| d.delivered == d.people && d.doubled == 0);
    Ok(if good && dead == 0 && share <= REVIEW { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "the result of the demo")]
fn say(text: &str) {
    println!("{text}");
}
