//! What each subcommand does.

use super::{Command, Common, Output, files};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use patient_matching::{
    Decision, Evaluation, Index, Matching, Model, Options, Purpose, Summary, Table, decide, dedupe, evaluate,
    explain, learn, link, report, synth,
};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Train { files, common, out } => {
            let (table, _) = read(&common, &files)?;
            let steps = steps(&common, 2);
            step(&steps, "learning");
            let model = learn(&table, purpose(&files), &options(&common));
            steps.finish_and_clear();
            write(&out, &model.to_json())?;
            say(&common, &serde_json::json!({"model": model.id(), "trained_on": model.trained_on}))
        }
        Command::Link { a, b, common, output } => {
            let matching = answer(&common, &[a, b])?;
            save(&matching, &output, None)?;
            finish(&matching, &common)
        }
        Command::Dedupe { a, common, output, clusters } => {
            let matching = answer(&common, &[a])?;
            save(&matching, &output, clusters.as_deref())?;
            finish(&matching, &common)
        }
        Command::Query { a, who, common, top } => query(&common, a, who, top),
        Command::Explain { a, b, files, common, hashed } => explain_pair(&common, &files, [&a, &b], hashed),
        Command::Evaluate { files, truth, common } => {
            let truth = files::truth(&truth)?;
            let matching = answer(&common, &files)?;
            let schema = files::schema(&common.schema)?;
            let mut origins = HashMap::new();
            if let (Some(_), Some(first)) = (&schema.origin, files.first()) {
                schema.read(files::open(first)?, |p, origin| {
                    origins.insert(p.id().to_owned(), origin.to_owned());
                })?;
            }
            show_evaluation(&common, &evaluate(&matching, &truth, &origins), &matching.summary())
        }
        Command::Synth { records, seed, duplicates, out, second, truth } => {
            let mut people = files::create(&out)?;
            let mut answer = files::create(&truth)?;
            let recipe = synth::Recipe { records, seed, duplicates };
            match second {
                None => synth::register(&recipe, &mut people, &mut answer),
                Some(second) => {
                    let mut others = files::create(&second)?;
                    synth::lists(&recipe, &mut people, &mut others, &mut answer).and_then(|()| others.flush())
                }
            }
            .context("cannot write what was made up")?;
            people.flush()?;
            answer.flush()?;
            Ok(())
        }
    }
}

fn options(common: &Common) -> Options {
    let mut options = Options::default();
    if let Some(threads) = common.threads {
        options.threads = threads.max(1);
    }
    options
}

fn purpose(files: &[PathBuf]) -> Purpose {
    if files.len() > 1 { Purpose::Link } else { Purpose::Dedupe }
}

fn steps(common: &Common, count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    if common.quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn step(bar: &ProgressBar, what: &'static str) {
    bar.set_message(what);
    bar.inc(1);
}

fn read(common: &Common, paths: &[PathBuf]) -> Result<(Table, Option<Model>)> {
    let bar = steps(common, 2);
    step(&bar, "reading");
    let schema = files::schema(&common.schema)?;
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let table = files::table(&schema, &paths)?;
    let model = common.model.as_deref().map(|m| files::model(m, &schema)).transpose()?;
    bar.finish_and_clear();
    Ok((table, model))
}

fn answer(common: &Common, paths: &[PathBuf]) -> Result<Matching> {
    let (table, model) = read(common, paths)?;
    let bar = steps(common, 2);
    step(&bar, if model.is_some() { "comparing" } else { "learning and comparing" });
    let matching = match purpose(paths) {
        Purpose::Link => link(&table, model, &options(common)),
        Purpose::Dedupe => dedupe(&table, model, &options(common)),
    };
    bar.finish_and_clear();
    for dropped in &matching.blocking.dropped {
        writeln!(std::io::stderr(), "warning: {dropped}")?;
    }
    Ok(matching)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn save(matching: &Matching, output: &Output, clusters: Option<&Path>) -> Result<()> {
    if let Some(path) = &output.out {
        files::pairs(matching, path)?;
    }
    if let Some(path) = clusters {
        files::clusters(matching, path)?;
    }
    if let Some(path) = &output.save_model {
        write(path, &matching.model.to_json())?;
    }
    if let Some(path) = &output.report {
        write(path, &report::html(matching))?;
    }
    Ok(())
}

fn say(common: &Common, value: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{value}")?;
    } else if let Some(map) = value.as_object() {
        for (key, value) in map {
            writeln!(out, "{key}: {value}")?;
        }
    }
    Ok(())
}

fn finish(matching: &Matching, common: &Common) -> Result<()> {
    say(
        common,
        &serde_json::json!({
            "model": matching.model.id(),
            "summary": matching.summary(),
            "thresholds": matching.model.thresholds,
            "blocking": matching.blocking,
        }),
    )
}

fn query(common: &Common, a: PathBuf, who: PathBuf, top: usize) -> Result<()> {
    let schema = files::schema(&common.schema)?;
    let (table, model) = read(common, &[a.clone(), who.clone()])?;
    let model = model.unwrap_or_else(|| learn(&table, Purpose::Link, &options(common)));
    drop(table);
    let mut index = Index::new(model);
    schema.read(files::open(&a)?, |person, _| {
        index.insert(0, &person);
    })?;
    let mut out = std::io::stdout().lock();
    let mut failed = None;
    schema.read(files::open(&who)?, |person, _| {
        let candidates = index.query(&person, Some(0), top);
        let decision = decide(index.model(), &index.model().thresholds, &candidates);
        let (outcome, verdicts) = match decision {
            Decision::Match(v) => ("match", vec![v]),
            Decision::Review(v) => ("review", v),
            Decision::NoMatch => ("no_match", Vec::new()),
        };
        let line = if common.json {
            serde_json::json!({"id": person.id(), "outcome": outcome, "candidates": verdicts}).to_string()
        } else {
            let shown: Vec<String> = verdicts
                .iter()
                .map(|v| format!("{} ({:.3}, {:+.1} bits)", v.id, v.probability, v.weight))
                .collect();
            format!("{}: {outcome} {}", person.id(), shown.join(", "))
        };
        if let Err(error) = writeln!(out, "{line}") {
            failed.get_or_insert(error);
        }
    })?;
    failed.map_or(Ok(()), |e| Err(e.into()))
}

fn explain_pair(common: &Common, paths: &[PathBuf], ids: [&str; 2], hashed: bool) -> Result<()> {
    let matching = answer(common, paths)?;
    let table = &matching.table;
    let find = |id: &str, source: u8| {
        (0..table.len() as u32)
            .find(|r| table.id(*r) == id && table.source(*r) == source)
            .with_context(|| format!("no record has the id {id} in list {}", source + 1))
    };
    let [x, y] = ids;
    let (a, b) = (find(x, 0)?, find(y, u8::from(paths.len() > 1))?);
    if a == b {
        bail!("{x} is one record; name two");
    }
    let known = matching.pairs.iter().find(|p| [(a, b), (b, a)].contains(&(p.a, p.b)));
    let plain = explain(&matching.model, table, a, b, 0.0);
    let mut explanation = match known {
        Some(pair) => {
            let mut e = explain(&matching.model, table, a, b, pair.weight - plain.weight);
            e.outcome = pair.outcome;
            e
        }
        None => plain,
    };
    if hashed {
        explanation = explanation.hashed();
    }
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{}", serde_json::to_string(&explanation)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{} (probability {:.4}, {:+.2} bits)",
        explanation.outcome.word(),
        explanation.probability,
        explanation.weight
    )?;
    writeln!(out, "{}", explanation.reason)?;
    for l in &explanation.lines {
        let [p, q] = &l.values;
        writeln!(out, "{:+8.2} {:20} {:60} {p} | {q}", l.bits + l.rarity_bits, l.field, l.level)?;
    }
    for flag in &explanation.flags {
        writeln!(out, "note: {flag:?}")?;
    }
    Ok(())
}

fn show_evaluation(common: &Common, e: &Evaluation, summary: &Summary) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(
            out,
            "{}",
            serde_json::json!({"evaluation": e, "summary": summary, "worst_group": e.worst()})
        )?;
        return Ok(());
    }
    writeln!(out, "F1 {:.4}  precision {:.4}  recall {:.4}", e.f1, e.precision, e.recall)?;
    writeln!(out, "recall at precision 0.99: {:.4}", e.recall_at_precision_99)?;
    writeln!(out, "stated precision {:.4} ({:+.4})", e.stated_precision, e.stated_precision - e.precision)?;
    writeln!(
        out,
        "completeness {:.4}, candidates a record {:.1}",
        e.completeness, summary.candidates_per_record
    )?;
    writeln!(out, "records in review {:.4} ({} pairs)", summary.records_in_review, summary.review)?;
    for g in &e.groups {
        writeln!(out, "recall {:.4} of {:6} pairs: {} {}", g.recall, g.true_pairs, g.by, g.group)?;
    }
    if let Some(g) = e.worst() {
        writeln!(out, "worst group: {} {} ({:.4})", g.by, g.group, g.recall)?;
    }
    Ok(())
}
