//! Change -> Command. Pure: what is to stand in OpenMRS, in its own terms, and what stood there when it was planned.
//!
//! Guarantees: a command names only what differs; the same CHT contact has the same patient uuid for ever; whatever
//! OpenMRS would refuse for its form is refused here with a reason that names the field and no value.

use std::collections::BTreeMap;

use connector_core::change::{Body, Change, Patient, field};
use connector_core::connector::{Command, Known, Reject, Repeat};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::changes;
use crate::config::Config;
use crate::normal::{Name, Person, fold, letter_of_sex};

/// Namespace of patient uuids: the patient of a CHT contact is `UUIDv5(NAMESPACE, contact id)`. Never change it: it is
/// what makes a repeated create one patient.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x5f0c_6a7e_2d2b_4b5e_9f6a_7c1f_0e3d_8a94);

/// Longest part of a name and longest attribute value that OpenMRS holds.
const LONGEST: usize = 50;
/// Longest part of an address.
const LONGEST_ADDRESS: usize = 255;

/// The uuid of the patient that is made for a CHT contact.
pub fn patient_uuid(contact: &str) -> String {
    Uuid::new_v5(&NAMESPACE, contact.as_bytes()).to_string()
}

/// A write. Sending it again changes nothing: own uuid, absolute values, read before and after.
#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Write {
    /// A new patient.
    Create {
        /// Of the patient.
        uuid: String,
        /// Of the CHT contact.
        contact: String,
        /// What the patient is to hold.
        wanted: Wanted,
    },
    /// An edit.
    Update {
        /// Of the patient.
        uuid: String,
        /// What is to be different.
        wanted: Wanted,
        /// The patient as the edit was planned on.
        before: Box<Person>,
    },
}

/// What is to stand in OpenMRS. What is absent is left alone.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// The name in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// `M`, `F`, `O` or `U`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    /// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<String>,
    /// Death, or its taking back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
    /// By OpenMRS field; an empty value takes the part away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub address: BTreeMap<String, String>,
    /// By attribute type; an empty value takes the attribute away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// By identifier type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub identifiers: BTreeMap<String, String>,
    /// Location of the identifiers that need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// Whether the person lives.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Death {
    /// Died.
    Dead {
        /// When, if known.
        day: Option<String>,
        /// Concept of the cause, which OpenMRS asks for.
        cause: String,
    },
    /// Lives after all.
    Alive,
}

/// The command that carries the change out, or `None` when OpenMRS already agrees.
pub fn command(change: &Change, known: &Known<'_>, config: &Config) -> Result<Option<Command>, Reject> {
    let Body::Patient(patient) = &change.body else {
        return Err(Reject::new("the OpenMRS connector carries patients only"));
    };
    if patient.gone.is_some() {
        return Err(Reject::new(
            "the person is gone at the source; a person decides what becomes of the OpenMRS patient",
        ));
    }
    let mut wanted = wanted(patient, config)?;
    let contact = &change.source.id;
    let write = match known.current {
        None => {
            if wanted.name.is_none() {
                return Err(Reject::new("the person has no name; OpenMRS asks for one"));
            }
            wanted.gender.get_or_insert_with(|| "U".into());
            Write::Create { uuid: patient_uuid(contact), contact: contact.clone(), wanted }
        }
        Some(current) if current.deleted => {
            return Err(Reject::new(
                "the OpenMRS patient is voided; a person decides what becomes of the contact",
            ));
        }
        Some(current) => {
            let before = changes::person(current)?;
            let ids = before.identifiers.get(&config.cht_identifier);
            if ids.is_some_and(|ids| ids.iter().any(|id| id != contact)) {
                return Err(Reject::new(
                    "the OpenMRS patient carries the id of another CHT contact; see which of the two it is",
                ));
            }
            wanted.identifiers.insert(config.cht_identifier.clone(), contact.clone());
            wanted.location = None;
            let wanted = wanted.beyond(&before, config, Same::Exact);
            if wanted == Wanted::default() {
                return Ok(None);
            }
            Write::Update { uuid: current.id.id.clone(), wanted, before: Box::new(before) }
        }
    };
    let body = serde_json::to_value(&write).map_err(|_| Reject::new("the command cannot be stored"))?;
    Ok(Some(Command::new(body, Repeat::Safe)))
}

fn short(name: &str, value: &str, longest: usize) -> Result<(), Reject> {
    if value.chars().count() > longest {
        return Err(Reject::new(format!(
            "`{name}` is longer than the {longest} characters that OpenMRS holds"
        )));
    }
    Ok(())
}

/// Canonical fields in OpenMRS's terms.
fn wanted(patient: &Patient, config: &Config) -> Result<Wanted, Reject> {
    let mut wanted = Wanted::default();
    for (name, value) in &patient.fields {
        let value = value.trim();
        let required = || Reject::new(format!("`{name}` was taken away; OpenMRS asks for one"));
        match name.as_str() {
            field::NAME | field::SEX | field::BIRTH_DATE if value.is_empty() => return Err(required()),
            field::NAME => {
                let parts = Name::split(value, config.single_name_family.as_deref());
                for part in [&parts.given, &parts.middle, &parts.family] {
                    short("name (one of its parts)", part, LONGEST)?;
                }
                wanted.name = Some(parts);
            }
            field::SEX => {
                let letter = letter_of_sex(value).ok_or_else(|| Reject::new("`sex` is no FHIR gender"))?;
                wanted.gender = Some(letter.to_owned());
            }
            field::BIRTH_DATE => {
                first_day(value).ok_or_else(|| Reject::new("`birth_date` is no date"))?;
                wanted.birth_date = Some(value.to_owned());
            }
            field::DECEASED => wanted.death = Some(death(value, config)?),
            field::LOCATION => wanted.location = config.locations.get(value).cloned(),
            field::PHONE => {
                short(name, value, LONGEST)?;
                wanted.attributes.insert(config.phone.clone(), value.to_owned());
            }
            other => {
                if let Some(kind) =
                    other.strip_prefix(field::ATTRIBUTE).and_then(|n| config.attributes.get(n))
                {
                    short(name, value, LONGEST)?;
                    wanted.attributes.insert(kind.clone(), value.to_owned());
                } else if let Some(at) =
                    other.strip_prefix(field::ADDRESS).and_then(|n| config.address.get(n))
                {
                    short(name, value, LONGEST_ADDRESS)?;
                    wanted.address.insert(at.clone(), value.to_owned());
                } else if let Some(i) =
                    other.strip_prefix(field::IDENTIFIER).and_then(|n| config.identifiers.get(n))
                {
                    if value.is_empty() {
                        return Err(Reject::new(format!(
                            "`{name}` was taken away; void it in OpenMRS if it was wrong"
                        )));
                    }
                    short(name, value, LONGEST)?;
                    wanted.identifiers.insert(i.kind.clone(), value.to_owned());
                }
            }
        }
    }
    Ok(wanted)
}

fn death(value: &str, config: &Config) -> Result<Death, Reject> {
    if value.is_empty() {
        return Ok(Death::Alive);
    }
    let cause = config.cause_of_death.clone().ok_or_else(|| {
        Reject::new(
            "the person died; OpenMRS asks for a cause: set `cause_of_death` to a concept, or enter it there",
        )
    })?;
    let day = if value == "true" {
        None
    } else {
        Some(first_day(value).filter(|day| day == value).ok_or_else(|| Reject::new("`deceased` is no day"))?)
    };
    Ok(Death::Dead { day, cause })
}

/// The day that stands for a date of any precision in OpenMRS.
pub fn first_day(date: &str) -> Option<String> {
    let day = match date.len() {
        4 => format!("{date}-01-01"),
        7 => format!("{date}-01"),
        _ => date.to_owned(),
    };
    day.parse::<jiff::civil::Date>().ok().map(|d| d.to_string())
}

/// How two texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// Letter for letter.
    Exact,
    /// Without regard to case and spaces: what OpenMRS may have normalised.
    Folded,
}

impl Same {
    fn text(self, a: &str, b: &str) -> bool {
        match self {
            Same::Exact => a == b,
            Same::Folded => fold(a) == fold(b),
        }
    }
}

impl Wanted {
    /// What of it does not stand in `person` yet. A birth date that OpenMRS knows better agrees.
    pub fn beyond(mut self, person: &Person, config: &Config, same: Same) -> Self {
        let stand_in = config.single_name_family.as_deref();
        let full = |name: &Name| name.full(stand_in);
        self.name
            .take_if(|name| person.name.as_ref().is_some_and(|known| same.text(&full(known), &full(name))));
        self.gender.take_if(|gender| person.sex.as_deref().and_then(letter_of_sex) == Some(gender));
        self.birth_date
            .take_if(|date| person.birth_date.as_ref().is_some_and(|known| known.starts_with(date.as_str())));
        self.death.take_if(|death| match (death, &person.deceased) {
            (Death::Alive, known) => known.is_none(),
            (Death::Dead { day: Some(day), .. }, Some(known)) => day == known,
            (Death::Dead { day: None, .. }, Some(_)) => true,
            (Death::Dead { .. }, None) => false,
        });
        self.address.retain(|at, value| !same.text(person.address.get(at).map_or("", String::as_str), value));
        self.attributes.retain(|kind, value| match person.attributes.get(kind) {
            None => !value.is_empty(),
            Some(known) => !known.iter().any(|known| same.text(known, value)),
        });
        self.identifiers.retain(|kind, value| match same {
            Same::Exact => person.identifiers.get(kind).is_none_or(|known| !known.contains(value)),
            Same::Folded => !person.is_identified_by(kind, value),
        });
        self
    }
}
