//! What the operator writes. Every problem that can be seen without the server is reported at once, by path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use connector_core::config::{ConfigReport, Secret};
use connector_core::connector::{Connector, ConnectorConfig};
use connector_core::transport::{HttpOptions, Wiring};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::OpenMrs;
use crate::client::Client;

/// Identifier type "CHT Record Reference UUID", as KenyaEMR defines it.
pub const CHT_IDENTIFIER: &str = "c6552b22-f191-4557-a432-1f4df872d473";
/// The attribute type that the reference application uses for the phone, and fhir2 shows as `telecom`.
const PHONE: &str = "14d4f066-15f5-102d-96e4-000c29c2a5d7";
/// Parts of an OpenMRS address that a canonical part may be kept in.
pub const ADDRESS_FIELDS: [&str; 20] = [
    "cityVillage",
    "countyDistrict",
    "stateProvince",
    "country",
    "postalCode",
    "address1",
    "address2",
    "address3",
    "address4",
    "address5",
    "address6",
    "address7",
    "address8",
    "address9",
    "address10",
    "address11",
    "address12",
    "address13",
    "address14",
    "address15",
];

/// An OpenMRS server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of OpenMRS itself, without `/ws`: `https://emr.example.org/openmrs`.
    pub url: String,
    /// User that holds the privileges named in the README, and no more.
    pub user: String,
    /// Its password. A colon in it can never log in.
    pub password: Secret,
    /// The configured name of the CHT that this server is joined with.
    #[serde(default = "cht")]
    pub cht: String,
    /// Identifier type that holds the id of the CHT contact.
    #[serde(default = "cht_identifier")]
    pub cht_identifier: String,
    /// Other identifier types by the name that the flow knows them by (`identifier.<name>`).
    #[serde(default)]
    pub identifiers: BTreeMap<String, Identifier>,
    /// Location of new patients whose place is not among `locations`.
    #[serde(default)]
    pub location: Option<String>,
    /// OpenMRS location of new patients, by CHT place.
    #[serde(default)]
    pub locations: BTreeMap<String, String>,
    /// Person attribute type of the phone number.
    #[serde(default = "phone")]
    pub phone: String,
    /// Other person attribute types by the name that the flow knows them by (`attribute.<name>`).
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Where a part of an address is kept: `village: cityVillage`, known to the flow as `address.village`.
    #[serde(default)]
    pub address: BTreeMap<String, String>,
    /// Family name given to a person who has one name only, and left out again when reading. None is sent without it.
    #[serde(default)]
    pub single_name_family: Option<String>,
    /// Concept written as cause of a death that the CHT reports. Without it deaths are not written here.
    #[serde(default)]
    pub cause_of_death: Option<String>,
    /// Encounter types whose new encounters make the connector read their patient again; all when empty.
    #[serde(default)]
    pub encounter_types: Vec<String>,
    /// Whether people without a counterpart are registered here.
    #[serde(default = "yes")]
    pub create_people: bool,
    /// Pause between two full passes over all patients. Together with the length of a pass it is the longest delay of
    /// an edited name, address, phone or identifier, since OpenMRS stamps none of these.
    #[serde(default = "pass_seconds")]
    pub pass_seconds: u64,
    /// Pause between two looks for new, dead and re-registered patients.
    #[serde(default = "changes_seconds")]
    pub changes_seconds: u64,
    /// Pause between two looks for new encounters.
    #[serde(default = "encounters_seconds")]
    pub encounters_seconds: u64,
    /// How far each such look goes back behind the server's clock: longer than any transaction there.
    #[serde(default = "overlap_seconds")]
    pub overlap_seconds: u64,
    /// Most requests at a time.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// Most requests a second.
    #[serde(default)]
    pub rate: Option<u32>,
    /// Time for one request.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// How long an unanswered request may still take effect.
    #[serde(default = "quiet_seconds")]
    pub quiet_seconds: u64,
    /// Further root certificate, PEM.
    #[serde(default)]
    pub root_certificate: Option<String>,
}

/// An identifier type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// Its uuid.
    #[serde(rename = "type")]
    pub kind: String,
    /// The idgen source that gives new patients one; without it only known values are written.
    #[serde(default)]
    pub source: Option<String>,
    /// Whether the type asks for a location. Always so with a source.
    #[serde(default)]
    pub located: bool,
}

impl Identifier {
    /// Whether a location goes with the value.
    pub fn with_location(&self) -> bool {
        self.located || self.source.is_some()
    }
}

/// OpenMRS references are uuids by name only: CIEL concepts are a number padded with letters.
fn is_reference(text: &str) -> bool {
    (36..=38).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn cht() -> String {
    "cht".into()
}
fn cht_identifier() -> String {
    CHT_IDENTIFIER.into()
}
fn phone() -> String {
    PHONE.into()
}
fn yes() -> bool {
    true
}
fn pass_seconds() -> u64 {
    900
}
fn changes_seconds() -> u64 {
    30
}
fn encounters_seconds() -> u64 {
    60
}
fn overlap_seconds() -> u64 {
    300
}
fn concurrency() -> usize {
    4
}
fn timeout_seconds() -> u64 {
    30
}
fn quiet_seconds() -> u64 {
    120
}

impl Config {
    /// The configured name of an identifier type.
    pub fn identifier_name(&self, kind: &str) -> Option<&str> {
        self.identifiers.iter().find(|(_, i)| i.kind == kind).map(|(name, _)| name.as_str())
    }

    /// Every identifier type in use, the one of the CHT id first.
    pub fn identifier_types(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.cht_identifier.as_str())
            .chain(self.identifiers.values().map(|i| i.kind.as_str()))
    }

    /// Every attribute type in use, the phone first.
    pub fn attribute_types(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.phone.as_str()).chain(self.attributes.values().map(String::as_str))
    }

    /// Everything that must be the uuid of something on the server, by path.
    fn references(&self) -> Vec<(String, &str)> {
        let mut all = vec![("cht_identifier".to_owned(), self.cht_identifier.as_str())];
        all.push(("phone".to_owned(), &self.phone));
        for (path, one) in [("location", &self.location), ("cause_of_death", &self.cause_of_death)] {
            all.extend(one.iter().map(|reference| (path.to_owned(), reference.as_str())));
        }
        for (name, identifier) in &self.identifiers {
            all.push((format!("identifiers.{name}.type"), &identifier.kind));
            all.extend(identifier.source.iter().map(|s| (format!("identifiers.{name}.source"), s.as_str())));
        }
        for (path, map) in [("locations", &self.locations), ("attributes", &self.attributes)] {
            all.extend(map.iter().map(|(name, reference)| (format!("{path}.{name}"), reference.as_str())));
        }
        let types = self.encounter_types.iter().enumerate();
        all.extend(types.map(|(i, reference)| (format!("encounter_types[{i}]"), reference.as_str())));
        all
    }

    fn problems(&self, report: &mut ConfigReport) {
        match Url::parse(&self.url) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || url.host().is_none() => {
                report.add("url", "is no http or https address");
            }
            Ok(url) if !url.username().is_empty() || url.query().is_some() || url.fragment().is_some() => {
                report.add("url", "holds more than host and path; credentials go into `user` and `password`");
            }
            Ok(_) => {}
            Err(_) => report.add("url", "does not parse; write it like https://emr.example.org/openmrs"),
        }
        if self.url.contains("/ws") {
            report.add("url", "ends before /ws: the connector adds /ws/rest/v1 and /ws/fhir2/R4 itself");
        }
        if self.user.is_empty() || self.user.contains(':') {
            report.add("user", "is empty or holds a colon; such a user cannot log in");
        }
        for (path, reference) in self.references() {
            if !is_reference(reference) {
                report.add(&path, "is no OpenMRS uuid (36 to 38 letters, digits and hyphens)");
            }
        }
        let mut kinds = BTreeSet::from([&self.cht_identifier]);
        for (name, identifier) in &self.identifiers {
            if !kinds.insert(&identifier.kind) {
                report
                    .add(&format!("identifiers.{name}.type"), "is named twice, or is the type of the CHT id");
            }
            if identifier.with_location() && self.location.is_none() {
                report.add("location", format!("is missing; identifiers.{name} needs one"));
            }
        }
        let mut kinds = BTreeSet::from([&self.phone]);
        for (name, kind) in &self.attributes {
            if !kinds.insert(kind) {
                report.add(&format!("attributes.{name}"), "is named twice, or is the phone's type");
            }
        }
        let mut fields = BTreeSet::new();
        for (part, field) in &self.address {
            if !ADDRESS_FIELDS.contains(&field.as_str()) {
                let known = ADDRESS_FIELDS.join(", ");
                report.add(
                    &format!("address.{part}"),
                    format!("is no part of an OpenMRS address; known are {known}"),
                );
            }
            if !fields.insert(field) {
                report.add(&format!("address.{part}"), "two parts are kept in one field");
            }
        }
        for (path, value) in [
            ("pass_seconds", self.pass_seconds),
            ("changes_seconds", self.changes_seconds),
            ("encounters_seconds", self.encounters_seconds),
            ("overlap_seconds", self.overlap_seconds),
            ("timeout_seconds", self.timeout_seconds),
            ("quiet_seconds", self.quiet_seconds),
        ] {
            if value == 0 {
                report.add(path, "must be at least 1");
            }
        }
        if self.concurrency == 0 {
            report.add("concurrency", "must be at least 1");
        }
        if self.quiet_seconds < self.timeout_seconds {
            report.add("quiet_seconds", "must not be shorter than timeout_seconds");
        }
    }
}

impl ConnectorConfig for Config {
    const NAME: &'static str = "openmrs";

    fn build(self, name: &str, wiring: &Wiring, report: &mut ConfigReport) -> Option<Arc<dyn Connector>> {
        let mut own = report.clone();
        self.problems(&mut own);
        if own.problems().len() > report.problems().len() {
            *report = own;
            return None;
        }
        let options = HttpOptions {
            timeout: Duration::from_secs(self.timeout_seconds),
            connections: self.concurrency,
            root_certificate: self.root_certificate.as_ref().map(|pem| pem.as_bytes().to_vec()),
            ..HttpOptions::default()
        };
        match wiring.transport(name, &options) {
            Ok(transport) => {
                let client = Client::new(transport, &self.url, &self.user, self.password.secret());
                Some(Arc::new(OpenMrs::new(name, self, client)))
            }
            Err(problem) => {
                report.add("root_certificate", problem);
                None
            }
        }
    }
}
