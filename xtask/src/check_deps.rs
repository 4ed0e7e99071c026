//! `cargo xtask check-deps`: the direction of dependencies between our own crates.
//!
//! A partner crate depends on `connector-core`, that on `cht-core-client` and `patient-matching`, which know nothing of
//! each other. `test-support` depends on none of ours, so that a stand-in shares no type, mapping or hash with what it
//! tests; nothing that ships depends on it outside its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// Crates that exist for tests and tasks: nothing that ships depends on them, and all but `test-support` may depend on
/// everything.
const NOT_SHIPPED: [&str; 5] = ["test-support", "simulation", "conformance", "fuzz-inputs", "xtask"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev` or `build`; absent for a normal one.
    kind: Option<String>,
    path: Option<String>,
}

/// Checks the workspace in the present folder.
pub fn run() -> anyhow::Result<()> {
    let out = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("cargo metadata could not be started")?;
    ensure!(out.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&out.stderr));
    let metadata: Metadata =
        serde_json::from_slice(&out.stdout).context("cargo metadata gave unexpected JSON")?;
    let wrong = wrong(&metadata);
    if !wrong.is_empty() {
        bail!("dependencies against the rule:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn wrong(metadata: &Metadata) -> Vec<String> {
    let members = metadata.packages.iter().filter(|p| metadata.workspace_members.contains(&p.id));
    let mut ours: BTreeMap<&str, Vec<&Dependency>> = BTreeMap::new();
    for package in members {
        let own = package.dependencies.iter().filter(|d| d.path.is_some()).collect();
        ours.insert(&package.name, own);
    }
    let mut out = vec![];
    for (name, dependencies) in &ours {
        for d in dependencies {
            let tests_only = d.kind.as_deref() == Some("dev");
            if !may(name, &d.name, tests_only) {
                let kind = d.kind.as_deref().unwrap_or("normal");
                out.push(format!("{name} -> {} ({kind})", d.name));
            }
        }
    }
    out
}

fn may(from: &str, to: &str, tests_only: bool) -> bool {
    match from {
        "cht-core-client" | "patient-matching" | "test-support" => false,
        "connector-core" => {
            matches!(to, "cht-core-client" | "patient-matching") || tests_only && to == "test-support"
        }
        _ if NOT_SHIPPED.contains(&from) => to != from,
        // A connector.
        _ => {
            matches!(to, "connector-core" | "cht-core-client" | "patient-matching")
                || tests_only && NOT_SHIPPED.contains(&to)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction() {
        for (from, to, tests_only, allowed) in [
            ("connector-openmrs", "connector-core", false, true),
            ("connector-openmrs", "cht-core-client", false, true),
            ("connector-openmrs", "test-support", true, true),
            ("connector-openmrs", "test-support", false, false),
            ("connector-openmrs", "connector-dhis2", false, false),
            ("connector-demo", "conformance", true, true),
            ("connector-demo", "conformance", false, false),
            ("connector-core", "cht-core-client", false, true),
            ("connector-core", "connector-openmrs", false, false),
            ("connector-core", "test-support", false, false),
            ("connector-core", "conformance", true, false),
            ("cht-core-client", "patient-matching", false, false),
            ("cht-core-client", "connector-core", true, false),
            ("patient-matching", "cht-core-client", false, false),
            ("test-support", "connector-core", true, false),
            ("simulation", "connector-openmrs", false, true),
        ] {
            assert_eq!(may(from, to, tests_only), allowed, "{from} -> {to}, tests only: {tests_only}");
        }
    }

    #[test]
    fn a_wrong_one_is_named() {
        let metadata = serde_json::json!({
            "workspace_members": ["a", "b"],
            "packages": [
                { "id": "a", "name": "test-support", "dependencies": [
                    { "name": "connector-core", "kind": null, "path": "core" }, { "name": "serde", "kind": null } ] },
                { "id": "b", "name": "connector-core", "dependencies": [] },
            ],
        });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        assert_eq!(wrong(&metadata), ["test-support -> connector-core (normal)"]);
    }
}
