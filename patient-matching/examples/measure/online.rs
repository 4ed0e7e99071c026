//! The index of a running system: adding, asking, starting.

use crate::print;
use crate::runs::status;
use anyhow::{Result, bail};
use patient_matching::{Decision, Model, Schema, Store, decide};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

const EVERY: usize = 500;

/// Adds all but every 500th person of the list, asks for those, and writes a snapshot.
pub fn fill_and_ask(list: &Path, schema: &Path, model: &Path, folder: &Path) -> Result<()> {
    let schema = Schema::from_toml(&std::fs::read_to_string(schema)?)?;
    let mut store = Store::open(folder, Model::from_json(&std::fs::read_to_string(model)?)?)?;
    if !store.index().is_empty() {
        bail!("the folder holds an index already");
    }
    let (mut asked, mut took, mut failed, mut row) = (Vec::new(), Vec::new(), None, 0);
    schema.read(File::open(list)?, |person, _| {
        row += 1;
        if row % EVERY == 0 {
            asked.push(person);
        } else {
            let begin = Instant::now();
            if let Err(error) = store.insert(0, &person) {
                failed.get_or_insert(error);
            }
            took.push(begin.elapsed());
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    shares("insert", took)?;
    let mut took = Vec::new();
    let mut outcomes = BTreeMap::new();
    for person in &asked {
        let begin = Instant::now();
        let found = store.index().query(person, None, 10);
        let decision = decide(store.index().model(), &store.index().model().thresholds, &found);
        took.push(begin.elapsed());
        *outcomes
            .entry(match decision {
                Decision::Match(_) => "match",
                Decision::Review(_) => "review",
                Decision::NoMatch => "nobody",
            })
            .or_insert(0) += 1;
    }
    shares("query and decision", took)?;
    print(&format!("{} asked: {outcomes:?}", asked.len()))?;
    memory(&format!("{} people", store.index().len()))?;
    let begin = Instant::now();
    store.snapshot()?;
    print(&format!("snapshot written in {:.2} s", begin.elapsed().as_secs_f64()))
}

/// Opens an index.
pub fn start(model: &Path, folder: &Path) -> Result<()> {
    let model = Model::from_json(&std::fs::read_to_string(model)?)?;
    let begin = Instant::now();
    let store = Store::open(folder, model)?;
    print(&format!("{} people after {:.3} s", store.index().len(), begin.elapsed().as_secs_f64()))?;
    memory("after the start")
}

fn memory(when: &str) -> Result<()> {
    let megabytes = |line| status("self", line).unwrap_or_default();
    print(&format!("{when}: {:.0} MB now, {:.0} MB at most", megabytes("VmRSS:"), megabytes("VmHWM:")))
}

fn shares(what: &str, mut took: Vec<Duration>) -> Result<()> {
    took.sort_unstable();
    let at = |share: f64| {
        let i = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
        took.get(i).copied().unwrap_or_default().as_secs_f64() * 1e6
    };
    print(&format!(
        "{what}: p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, most {:.0} us ({} times)",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
        took.len()
    ))
}
