//! The command, as a person or a script calls it.

use crate::people::SCHEMA;
use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_patient-matching")).current_dir(folder).args(args).output().unwrap()
}

fn good(folder: &Path, args: &[&str]) -> String {
    let out = run(folder, args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn from_a_register_to_pairs_clusters_report_and_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    std::fs::write(folder.join("s.toml"), SCHEMA).unwrap();
    good(folder, &["synth", "--records", "600", "--seed", "4", "--out", "a.csv", "--truth", "t.csv"]);
    good(
        folder,
        &[
            "dedupe",
            "a.csv",
            "--schema",
            "s.toml",
            "--no-pretrained",
            "--quiet",
            "--out",
            "p.csv",
            "--clusters",
            "c.csv",
            "--report",
            "r.html",
            "--save-model",
            "m.json",
        ],
    );
    let pairs = std::fs::read_to_string(folder.join("p.csv")).unwrap();
    let mut lines = pairs.lines();
    assert_eq!(lines.next(), Some("id_a,id_b,probability,weight,outcome"));
    let first: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(first.len(), 5);
    assert!(["match", "review"].contains(&first[4]));
    let clusters = std::fs::read_to_string(folder.join("c.csv")).unwrap();
    assert_eq!(clusters.lines().next(), Some("rec_id,cluster_id"));
    assert_eq!(clusters.lines().count(), 601);
    let report = std::fs::read_to_string(folder.join("r.html")).unwrap();
    assert!(report.contains("<svg") && !report.contains("http"), "the report leans on nothing outside");
    let reasons = good(
        folder,
        &[
            "explain", first[0], first[1], "--in", "a.csv", "--schema", "s.toml", "--model", "m.json",
            "--json", "--quiet",
        ],
    );
    let reasons: serde_json::Value = serde_json::from_str(&reasons).unwrap();
    let sum: f64 = reasons["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["bits"].as_f64().unwrap() + l["rarity_bits"].as_f64().unwrap())
        .sum();
    assert!((sum - reasons["weight"].as_f64().unwrap()).abs() < 1e-9);
    let measured = good(
        folder,
        &[
            "evaluate", "a.csv", "--truth", "t.csv", "--schema", "s.toml", "--model", "m.json", "--json",
            "--quiet",
        ],
    );
    let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
    assert!(measured["evaluation"]["f1"].as_f64().unwrap() > 0.7, "{measured}");
    let found = good(
        folder,
        &["query", "a.csv", "a.csv", "--schema", "s.toml", "--model", "m.json", "--json", "--quiet"],
    );
    assert_eq!(found.lines().count(), 600);
}

#[test]
fn mistakes_are_named_without_content() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    std::fs::write(folder.join("s.toml"), SCHEMA).unwrap();
    std::fs::write(folder.join("a.csv"), "rec_id,given_name\n1,Secretname\n").unwrap();
    let out = run(folder, &["dedupe", "a.csv", "--schema", "s.toml", "--quiet"]);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && error.contains("middle_name") && !error.contains("Secretname"),
        "{error}"
    );
    std::fs::write(folder.join("m.json"), "{\"format\": 7}").unwrap();
    let out = run(folder, &["dedupe", "a.csv", "--schema", "s.toml", "--model", "m.json", "--quiet"]);
    assert!(!out.status.success());
}
