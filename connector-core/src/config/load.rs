//! From the sources to built connectors, or to all that is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::overlay::{env_steps, put};
use super::walk::Walk;
use super::{Bridge, ConfigReport, Configuration, Encryption, Problem, StorePlace, schema};
use crate::cht::ChtConfig;
use crate::connector::{Connector, ConnectorConfig};
use crate::reconcile::Policies;
use crate::runtime::Begin;
use crate::transport::Wiring;

use super::{HttpSettings, Keep, Log, Names, Tuning};

/// Where a configuration comes from; later ones win.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file.
    pub file: PathBuf,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Flags: a path like `bridges.0.cht.url`, and the text to put there.
    pub set: Vec<(String, String)>,
}

/// The environment may hold secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

/// A configuration without a problem.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where what is under way is kept; relative paths begin at the file's folder.
    pub store: StorePlace,
    /// The key; `None` if the configuration says nothing about it.
    pub encryption: Option<Encryption>,
    /// The process's own HTTP.
    pub http: HttpSettings,
    /// What is logged.
    pub log: Log,
    /// How long things are kept.
    pub retention: Keep,
    /// Threads that do the work.
    pub threads: usize,
    /// The bridges.
    pub bridges: Vec<Built>,
}

/// What a running process does not change: only a restart does.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixed {
    store: StorePlace,
    encryption: Option<Encryption>,
    http: HttpSettings,
    log: Log,
    threads: usize,
}

impl Loaded {
    /// What a running process does not change.
    pub fn fixed(&self) -> Fixed {
        Fixed {
            store: self.store.clone(),
            encryption: self.encryption.clone(),
            http: self.http.clone(),
            log: self.log.clone(),
            threads: self.threads,
        }
    }
}

/// One bridge with its connectors.
#[derive(Clone)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// Where a first start begins.
    pub begin: Begin,
    /// Who wins.
    pub policies: Policies,
    /// How the work is cut.
    pub tuning: Tuning,
    /// The CHT's configured name and what speaks with it.
    pub cht: (String, Arc<dyn Connector>),
    /// The partner's.
    pub partner: (String, Arc<dyn Connector>),
    /// The whole of its configuration, secrets included: for a keyed digest, nothing else.
    pub(crate) text: String,
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Loads a configuration for the partner `C`: all problems, or none and everything built.
pub fn load<C: ConnectorConfig>(sources: &Sources, wiring: &Wiring) -> Result<Loaded, Vec<Problem>> {
    let mut report = ConfigReport::default();
    let loaded = read(sources, &mut report).and_then(|tree| build::<C>(sources, tree, wiring, &mut report));
    loaded.filter(|_| report.is_clean()).ok_or_else(|| report.problems().to_vec())
}

fn read(sources: &Sources, report: &mut ConfigReport) -> Option<Value> {
    let shown = sources.file.display().to_string();
    let text = match std::fs::read_to_string(&sources.file) {
        Ok(text) => text,
        Err(error) => {
            report.add("", format!("{shown} cannot be read ({}); name the file with --config", error.kind()));
            return None;
        }
    };
    let options = serde_saphyr::options! { strict_booleans: true };
    let mut tree = match serde_saphyr::from_str_with_options::<Value>(&text, options) {
        Ok(tree) => tree,
        Err(error) => {
            // The error's own text may quote the line, which may hold a secret.
            let place = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
            report.add(
                "",
                format!(
                    "{shown} is no YAML{}; look at indentation, colons and quotes there",
                    place.unwrap_or_default()
                ),
            );
            return None;
        }
    };
    for (name, value) in &sources.env {
        if let Some(steps) = env_steps(name) {
            put(&mut tree, &steps, value, name, report);
        }
    }
    for (path, value) in &sources.set {
        let steps: Vec<_> = path.split('.').collect();
        put(&mut tree, &steps, value, "--set", report);
    }
    Some(tree)
}

fn build<C: ConnectorConfig>(
    sources: &Sources,
    mut tree: Value,
    wiring: &Wiring,
    report: &mut ConfigReport,
) -> Option<Loaded> {
    let folder = sources.file.parent().unwrap_or(Path::new(""));
    let root = schema::<C>();
    let variable = |name: &str| sources.env.get(name).cloned();
    Walk { root: &root, folder, variable: &variable, report }.run(&mut tree);
    if !report.is_clean() {
        // What is well formed is looked at all the same, so that no problem shows only after another is mended.
        let bridges = tree.get("bridges").and_then(Value::as_array).cloned().unwrap_or_default();
        for (index, bridge) in bridges.iter().enumerate() {
            let path = format!("bridges[{index}]");
            probe::<ChtConfig>(bridge, &format!("{path}.cht"), "cht", wiring, report);
            probe::<C>(bridge, &format!("{path}.partner"), "partner", wiring, report);
        }
        return None;
    }
    let texts: Vec<_> =
        tree.get("bridges").and_then(Value::as_array).into_iter().flatten().map(Value::to_string).collect();
    let configuration: Configuration<C> = parse(tree, "", report)?;
    let mut bridges = vec![];
    let mut names = std::collections::BTreeSet::new();
    for (index, (bridge, text)) in configuration.bridges.into_iter().zip(texts).enumerate() {
        let path = format!("bridges[{index}]");
        if !is_name(&bridge.name) {
            report.add(
                &format!("{path}.name"),
                "is not lower-case letters, digits and underscores (at most 40)",
            );
        }
        if !names.insert(bridge.name.clone()) {
            report.add(&format!("{path}.name"), "is the name of another bridge too");
        }
        if bridge.tuning.lease.0.as_millis() < 1_000 {
            report.add(&format!("{path}.tuning.lease"), "is too short; it must be at least 1s");
        }
        bridges.extend(connect::<C>(bridge, text, &path, wiring, report));
    }
    if configuration.http.listen.parse::<std::net::SocketAddr>().is_err() {
        report.add("http.listen", "is no address with a port, such as 127.0.0.1:8080");
    }
    if configuration.http.head.0 < 8 << 10 {
        report.add("http.head", "is too small; it must be at least 8KiB");
    }
    if let Some(otlp) = &configuration.log.otlp {
        if !otlp.url.starts_with("http://") && !otlp.url.starts_with("https://") {
            report.add("log.otlp.url", "is no address such as http://localhost:4318/v1/traces");
        }
        if !(0.0..=1.0).contains(&otlp.share) {
            report.add("log.otlp.share", "is no share; it must be between 0 and 1");
        }
    }
    let store = match configuration.store {
        StorePlace::Sqlite(path) => StorePlace::Sqlite(folder.join(path)),
        other => other,
    };
    let encryption = configuration.encryption.map(|e| match e {
        Encryption::KeyFile(path) => Encryption::KeyFile(folder.join(path)),
        Encryption::Off => Encryption::Off,
    });
    let (http, log, retention) = (configuration.http, configuration.log, configuration.retention);
    Some(Loaded { store, encryption, http, log, retention, threads: configuration.threads, bridges })
}

fn connect<C: ConnectorConfig>(
    bridge: Bridge<C>,
    text: String,
    path: &str,
    wiring: &Wiring,
    report: &mut ConfigReport,
) -> Option<Built> {
    let Names { cht, partner } = bridge.names;
    let names =
        [cht.unwrap_or_else(|| ChtConfig::NAME.to_owned()), partner.unwrap_or_else(|| C::NAME.to_owned())];
    let [cht_name, partner_name] = names;
    for (key, name) in [("cht", &cht_name), ("partner", &partner_name)] {
        if !is_name(&name.replace('-', "_")) {
            report.add(
                &format!("{path}.names.{key}"),
                "is not lower-case letters, digits, hyphens and underscores",
            );
        }
    }
    if cht_name == partner_name {
        report.add(&format!("{path}.names"), "both systems have the same name");
    }
    let mut own = ConfigReport::new(format!("{path}.cht"));
    let cht = bridge.cht.build(&cht_name, wiring, &mut own);
    report.merge(own);
    let mut own = ConfigReport::new(format!("{path}.partner"));
    let partner = bridge.partner.build(&partner_name, wiring, &mut own);
    report.merge(own);
    Some(Built {
        name: bridge.name,
        begin: bridge.begin.into(),
        policies: bridge.conflicts,
        tuning: bridge.tuning,
        cht: (cht_name, cht?),
        partner: (partner_name, partner?),
        text,
    })
}

fn probe<T: ConnectorConfig>(
    bridge: &Value,
    path: &str,
    key: &str,
    wiring: &Wiring,
    report: &mut ConfigReport,
) {
    let broken = report.problems().iter().any(|p| p.path.starts_with(path));
    let Some(value) = bridge.get(key).filter(|_| !broken) else { return };
    if let Some(config) = parse::<T>(value.clone(), path, report) {
        let mut own = ConfigReport::new(path);
        config.build(T::NAME, wiring, &mut own);
        report.merge(own);
    }
}

fn parse<T: DeserializeOwned>(value: Value, path: &str, report: &mut ConfigReport) -> Option<T> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| {
            let at = error.path().to_string();
            let at = [path, at.as_str()]
                .into_iter()
                .filter(|p| !p.is_empty() && *p != ".")
                .collect::<Vec<_>>()
                .join(".");
            // The error's own text may quote a value.
            report.add(&at, "is not as the schema describes it; see the configuration reference");
        })
        .ok()
}

fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
