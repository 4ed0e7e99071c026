//! `cargo xtask gen-docs`: `docs/configuration.md` and the support table of the README, made from the code.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use cht_core_client::transport::HttpTransport;
use connector_core::change::Flow;
use connector_core::clock::SystemClock;
use connector_core::config::{ConfigReport, reference_markdown};
use connector_core::connector::{Capabilities, ConnectorConfig};
use connector_core::transport::Wiring;
use serde_json::Value;

const BEGIN: &str = "<!-- support table: made by `cargo xtask gen-docs`; do not edit by hand -->\n";
const END: &str = "<!-- end of support table -->";

/// One connector of this repository.
struct Entry {
    folder: &'static str,
    capabilities: Capabilities,
    reference: String,
}

/// Writes both, or with `check` fails if one is not up to date.
pub fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let entries = [entry::<connector_openmrs::Config>(root, "connector-openmrs")?];
    let configuration = configuration(&entries);
    let readme = fs::read_to_string(root.join("README.md")).context("README.md cannot be read")?;
    let readme = with_table(&readme, &table(&entries))?;
    for (path, text) in [("docs/configuration.md", configuration), ("README.md", readme)] {
        let file = root.join(path);
        if check {
            let there = fs::read_to_string(&file).unwrap_or_default();
            ensure!(there == text, "{path} is not up to date; run `cargo xtask gen-docs`");
        } else {
            fs::write(&file, text).with_context(|| format!("{path} cannot be written"))?;
        }
    }
    Ok(())
}

/// Builds the connector of a folder's `example.yaml`, over no network.
fn entry<C: ConnectorConfig>(root: &Path, folder: &'static str) -> anyhow::Result<Entry> {
    let path = root.join(folder).join("example.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut example: Value =
        serde_saphyr::from_str(&text).with_context(|| format!("{folder}/example.yaml"))?;
    let section = example
        .get_mut(C::NAME)
        .with_context(|| format!("{folder}/example.yaml has no section {}", C::NAME))?
        .take();
    let config: C = serde_json::from_value(section).with_context(|| format!("{folder}/example.yaml"))?;
    let wiring = Wiring::new(
        Arc::new(SystemClock::new()),
        Arc::new(|_, _| match HttpTransport::builder().build() {
            Ok(transport) => Ok(Arc::new(transport) as _),
            Err(error) => Err(error.to_string()),
        }),
    );
    let mut report = ConfigReport::new(folder);
    let connector = config
        .build(C::NAME, &wiring, &mut report)
        .ok_or_else(|| anyhow!("{folder}: {:?}", report.problems()))?;
    Ok(Entry { folder, capabilities: connector.capabilities(), reference: reference_markdown::<C>() })
}

fn configuration(entries: &[Entry]) -> String {
    let mut out = String::from(
        "# Configuration\n\nMade by `cargo xtask gen-docs` from the code; do not edit by hand. The environment \
         (`CHT_CONNECTOR__BRIDGES__0__CHT__URL`) wins over the file, flags (`--set PATH=VALUE`) over both.\n",
    );
    for entry in entries {
        let _ = write!(out, "\n## {}\n\n{}", entry.folder, entry.reference);
    }
    out
}

fn table(entries: &[Entry]) -> String {
    let mut out = String::from(
        "| connector | example | flows out of it | flows into it |\n| --- | --- | --- | --- |\n",
    );
    for entry in entries {
        let folder = entry.folder;
        let _ = writeln!(
            out,
            "| [{folder}]({folder}) | [example.yaml]({folder}/example.yaml) | {} | {} |",
            names(&entry.capabilities.gives),
            names(&entry.capabilities.takes),
        );
    }
    out
}

fn names(flows: &[Flow]) -> String {
    flows.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ")
}

fn with_table(readme: &str, table: &str) -> anyhow::Result<String> {
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.context("README.md has lost the marks of its support table")?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let readme = format!("a\n{BEGIN}old\n{END}\nb\n");
        assert_eq!(with_table(&readme, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}\nb\n"));
        assert!(with_table("no marks", "new").is_err());
    }
}
