//! `cargo xtask demo`: the whole chain with real processes, partner outages and hard kills in the middle, edits during one
//! of them, and an auditor that compares each person's fields at both servers with what was typed.

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
use verify::{Connector, Direction, Expected};

/// The bridge's name in the configuration.
const BRIDGE: &str = "demo";
/// Fewer people than this prove nothing.
const ENOUGH: usize = 2_000;
/// How long OpenMRS is out of reach each time.
const OUTAGE: Duration = Duration::from_secs(8);
/// Longest wait for the chain to come to rest.
const PATIENCE: Duration = Duration::from_secs(420);
/// So long without any change means that nothing is under way any more: several full passes.
const STILL: Duration = Duration::from_secs(60);
/// States of rows that are under way.
const OPEN: [&str; 4] = ["queued", "sent", "planned", "unknown"];
/// Most people in review, in hundredths.
const REVIEW: f64 = 2.0;

/// Runs the whole chain on this machine and counts.
#[derive(clap::Args, Clone, Debug)]
pub struct Demo {
    /// People, half of them entered at each side. Fewer than 2,000 make the exit code 1, whatever comes of it.
    #[arg(long, default_value_t = ENOUGH)]
    people: usize,
    /// Takes the people of this file instead of made-up ones: `examples/demo/people.csv` for a short look.
    #[arg(long, conflicts_with_all = ["people", "seed"])]
    file: Option<PathBuf>,
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
    /// Where the connector keeps its address and token.
    #[arg(long)]
    admin: PathBuf,
}

/// Runs the demo.
pub async fn demo(args: Demo) -> Result<ExitCode> {
    let people = match &args.file {
        Some(file) => listed(file)?,
        None => unlike(args.seed, args.people),
    };
    build(args.without.is_some())?;
    let folder = tempfile::tempdir()?;
    let mut site = Site::start(folder.path(), args.without.as_deref()).await?;
    site.start_connector()?;
    let bar = ProgressBar::new(people.len() as u64 * 2);
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos}/{len} {msg}")?);
    let (at_cht, at_openmrs) = people.split_at(half(&people));
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
    site.outage(OUTAGE).await?;
    until(&bar, OUTAGE).await;
    bar.set_message("the connector is killed and started again");
    site.kill_connector()?;
    site.start_connector()?;
    bar.set_message("the rest arrives");
    at_rest(&site, &bar, people.len()).await?;
    let pairs = pairs(&site).await?;
    bar.set_message("OpenMRS is out of reach, and people edit at both sides");
    site.outage(OUTAGE).await?;
    edit(&site, &pairs, &mut expected, Moment::Outage).await?;
    until(&bar, OUTAGE).await;
    bar.set_message("the connector is killed, and people edit at both sides");
    site.kill_connector()?;
    edit(&site, &pairs, &mut expected, Moment::Killed).await?;
    site.start_connector()?;
    bar.set_message("people edit while all is well, and the connector is killed once more");
    edit(&site, &pairs, &mut expected, Moment::Well).await?;
    site.kill_connector()?;
    site.start_connector()?;
    let manifest = folder.path().join("manifest.jsonl");
    let lines: Vec<_> = expected.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    std::fs::write(&manifest, lines.join("\n"))?;
    settle(&site, &bar, &expected).await?;
    bar.finish_and_clear();
    let good = audit(&site, &manifest)?;
    if args.keep {
        bar.println(format!("CHT {}, OpenMRS {}; press enter to end", site.cht.url, site.openmrs.url));
        std::io::stdin().read_line(&mut String::new())?;
    }
    if people.len() < ENOUGH {
        bar.println(format!("{} people are too few to prove anything; {ENOUGH} are asked for", people.len()));
    }
    Ok(if good && people.len() >= ENOUGH { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Half of them, no household parted: who shares a phone with somebody at the other side is for a person to decide.
fn half(people: &[Person]) -> usize {
    let middle = people.len() / 2;
    let next =
        people.windows(2).skip(middle).position(|pair| matches!(pair, [a, b] if a.household != b.household));
    next.map_or(people.len(), |beyond| middle + beyond + 1)
}

/// The people of a file.
fn listed(file: &Path) -> Result<Vec<Person>> {
    let mut rows =
        csv::Reader::from_path(file).with_context(|| format!("{} cannot be read", file.display()))?;
    rows.deserialize().map(|row| row.context("a person of the file cannot be read")).collect()
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

/// Everybody stands at both sides, or is in review.
async fn at_rest(site: &Site, bar: &ProgressBar, people: usize) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let (contacts, patients) = arrived(site, bar).await?;
        let status = Connector::of(&site.admin())?.status().await?;
        let review = |target: &str| rows(&status, Some(target), &["review"]) as usize;
        if contacts + review("cht") >= people
            && patients + review("openmrs") >= people
            && rows(&status, None, &OPEN) == 0
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

/// Rows of the connector in these states, for one system or both.
fn rows(status: &Value, target: Option<&str>, states: &[&str]) -> u64 {
    let bridges = status.as_object().into_iter().flatten();
    let all = bridges.filter_map(|(_, bridge)| bridge["rows"].as_array()).flatten();
    all.filter(|r| target.is_none_or(|t| r["target"] == t) && states.iter().any(|s| r["state"] == *s))
        .filter_map(|r| r["rows"].as_u64())
        .sum()
}

/// Who is whom: contact and patient of everybody, under the id given where somebody was entered.
async fn pairs(site: &Site) -> Result<BTreeMap<String, (String, String)>> {
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
    Ok(pairs)
}

/// When somebody is edited.
#[derive(Clone, Copy, PartialEq)]
enum Moment {
    Outage,
    Killed,
    Well,
}

impl Moment {
    /// A third of the people is edited, and of these a third at each moment.
    fn of(n: usize) -> Option<Self> {
        [Self::Outage, Self::Killed, Self::Well].into_iter().nth(n / 15 % 3).filter(|_| n.is_multiple_of(3))
    }
}

/// Those whose moment it is are edited: at one side, at the other, at both, some twice.
async fn edit(
    site: &Site,
    pairs: &BTreeMap<String, (String, String)>,
    expected: &mut [Expected],
    moment: Moment,
) -> Result<()> {
    for (n, person) in expected.iter_mut().enumerate().filter(|(n, _)| Moment::of(*n) == Some(moment)) {
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
            // The same field at both sides, while nothing can come from one to the other: the loser is in the conflict log.
            _ if moment != Moment::Well => {
                site.edit_contact(&json!({ "_id": contact, "phone": phone(5) })).await?;
                site.edit_patient(uuid, &json!({ "phone": phone(6) })).await?;
                typed("phone", vec![phone(5), phone(6)]);
            }
            _ => {
                site.edit_patient(uuid, &json!({ "phone": phone(7) })).await?;
                site.edit_patient(uuid, &json!({ "phone": phone(8) })).await?;
                typed("phone", vec![phone(8)]);
            }
        }
    }
    Ok(())
}

/// Waits until the auditor would be content, until nothing moves any more, or for long enough.
async fn settle(site: &Site, bar: &ProgressBar, expected: &[Expected]) -> Result<()> {
    bar.set_message("the edits arrive");
    bar.set_length(expected.len() as u64);
    let connector = Connector::of(&site.admin())?;
    let end = Instant::now() + PATIENCE / 2;
    let (mut moved, mut last) = (Instant::now(), None);
    loop {
        let found =
            verify::compare(expected, &site.cht.url, &site.openmrs.url, &connector.losers().await?).await?;
        bar.set_position((found.to_cht.delivered + found.to_openmrs.delivered) as u64);
        let open = rows(&connector.status().await?, None, &OPEN);
        let now = (open, found.to_cht.delivered, found.to_openmrs.delivered);
        if last != Some(now) {
            (moved, last) = (Instant::now(), Some(now));
        }
        let content = open == 0 && found.to_cht.lost + found.to_openmrs.lost == 0;
        if content || moved.elapsed() > STILL || Instant::now() > end {
            return Ok(());
        }
        until(bar, Duration::from_secs(1)).await;
    }
}

fn audit(site: &Site, manifest: &Path) -> Result<bool> {
    let auditor = Command::new(std::env::current_exe()?)
        .args(["demo-verify", "--cht", &site.cht.url, "--openmrs", &site.openmrs.url])
        .arg("--admin")
        .arg(site.admin())
        .arg("--manifest")
        .arg(manifest)
        .stdin(Stdio::null())
        .status()
        .context("the auditor does not start")?;
    Ok(auditor.success())
}

/// Counts what went where. The last two lines of stdout are the result.
pub async fn verify(args: Verify) -> Result<ExitCode> {
    let people = verify::manifest(&args.manifest)?;
    let connector = Connector::of(&args.admin)?;
    let found = verify::compare(&people, &args.cht, &args.openmrs, &connector.losers().await?).await?;
    let status = connector.status().await?;
    let directions =
        [("CHT -> OpenMRS", "openmrs", found.to_openmrs), ("OpenMRS -> CHT", "cht", found.to_cht)];
    let review = |target: &str| rows(&status, Some(target), &["review"]);
    let dead = rows(&status, None, &["dead", "unreadable"]);
    say(&format!(
        "{:<18}{:>8}{:>11}{:>7}{:>9}{:>11}",
        "direction", "people", "delivered", "lost", "doubled", "in review"
    ));
    for (name, target, d) in directions {
        let review = review(target);
        say(&format!(
            "{name:<18}{:>8}{:>11}{:>7}{:>9}{review:>11}",
            d.people, d.delivered, d.lost, d.doubled
        ));
    }
    say(&format!(
        "dead letters: {dead}; values that lost a conflict and are in its log: {}; fields that differ: {:?}",
        found.kept, found.fields
    ));
    for (name, target, d) in directions {
        let Direction { people, delivered, lost, doubled } = d;
        let review = review(target);
        say(&format!(
            "{name}: delivered {delivered} of {people}, {lost} lost, {doubled} doubled ({review} in review)"
        ));
    }
    let share = rows(&status, None, &["review"]) as f64 * 100.0 / people.len().max(1) as f64;
    let good = directions.iter().all(|(.., d)| d.delivered == d.people && d.doubled == 0);
    Ok(if good && dead == 0 && share <= REVIEW { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "the result of the demo")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_set_is_made_as_the_large_one() {
        let file = crate::root().join("examples/demo/people.csv");
        let people = listed(&file).unwrap();
        assert!(people == unlike(50, 50), "made anew by the seed, the people of {} differ", file.display());
    }
}
