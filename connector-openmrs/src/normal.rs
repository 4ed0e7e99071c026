//! The normal form of a patient: what the FHIR2 and the REST reading of one patient have in common, and nothing else.
//!
//! Guarantees: both readings give an equal [`Person`]; a row of the database that is replaced by an equal one changes
//! nothing; only configured address parts, attribute types and identifier types are in it. One unknown or odd value
//! makes its field absent, never the patient unreadable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// What the server calls its types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Types {
    /// Uuid of a person attribute type by its name: FHIR2 gives the name only.
    pub attributes: BTreeMap<String, String>,
    /// Name of an identifier type by its uuid: FHIR2 looks up by the name only.
    pub identifiers: BTreeMap<String, String>,
}

/// A patient.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Person {
    /// The name in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// FHIR administrative gender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sex: Option<String>,
    /// A day; where it is estimated, a month under five years of age, then a year.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<String>,
    /// `true`, or the day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deceased: Option<String>,
    /// Parts of the address in use by OpenMRS field.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub address: BTreeMap<String, String>,
    /// Active values by attribute type, sorted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Vec<String>>,
    /// Active values by identifier type, sorted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub identifiers: BTreeMap<String, Vec<String>>,
    /// Location of the preferred identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// A name in OpenMRS's parts.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Name {
    /// First name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub given: String,
    /// What stands between.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub middle: String,
    /// Last name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub family: String,
}

impl Name {
    pub(crate) fn of(given: Option<&str>, middle: Option<&str>, family: Option<&str>) -> Option<Self> {
        let part = |text: Option<&str>| words(text.unwrap_or_default());
        let name = Self { given: part(given), middle: part(middle), family: part(family) };
        (name != Self::default()).then_some(name)
    }

    /// The full name in the order it is spoken, without the family name that stands for none.
    pub fn full(&self, stand_in: Option<&str>) -> String {
        let family = Some(self.family.as_str()).filter(|f| stand_in != Some(f));
        let parts = [self.given.as_str(), self.middle.as_str(), family.unwrap_or_default()];
        parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// First word given name, last word family name, what stands between the middle name. A single word is the given
    /// name, and the stand-in the family name if there is one.
    pub fn split(full: &str, stand_in: Option<&str>) -> Self {
        let all: Vec<&str> = full.split_whitespace().collect();
        match all.as_slice() {
            [] => Self::default(),
            [only] => Self {
                given: (*only).to_owned(),
                middle: String::new(),
                family: stand_in.unwrap_or_default().to_owned(),
            },
            [given, middle @ .., family] => {
                Self { given: (*given).to_owned(), middle: middle.join(" "), family: (*family).to_owned() }
            }
        }
    }
}

/// One space between words and none around them.
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value as look-ups compare it.
pub fn fold(text: &str) -> String {
    words(text).to_lowercase()
}

/// A value without outer and doubled spaces, if anything is left.
pub(crate) fn text(value: &str) -> Option<String> {
    Some(words(value)).filter(|t| !t.is_empty())
}

/// The day that a date or time begins with.
pub(crate) fn day(value: &str) -> Option<String> {
    let day = value.get(..10)?;
    day.parse::<jiff::civil::Date>().ok().map(|d| d.to_string())
}

fn sort(values: &mut BTreeMap<String, Vec<String>>) {
    values.values_mut().for_each(|v| v.sort());
}

impl Person {
    /// Takes the identifier rows over: the values by type, and the location of the preferred one.
    pub(crate) fn identify(&mut self, mut rows: Vec<Row<'_>>, config: &Config) {
        rows.retain(|row| config.identifier_types().any(|t| t == row.kind));
        rows.sort_by_key(|row| (!row.preferred, row.kind, row.value));
        self.location = rows.iter().find_map(|row| row.location).map(str::to_owned);
        for row in rows {
            self.identifiers.entry(row.kind.to_owned()).or_default().extend(text(row.value));
        }
        self.identifiers.retain(|_, values| !values.is_empty());
        self.attributes.retain(|_, values| !values.is_empty());
        sort(&mut self.identifiers);
        sort(&mut self.attributes);
    }

    /// Whether an identifier of the type has the value, as look-ups compare it.
    pub fn is_identified_by(&self, kind: &str, value: &str) -> bool {
        self.identifiers.get(kind).is_some_and(|values| values.iter().any(|v| fold(v) == fold(value)))
    }
}

/// An identifier row of either reading.
pub(crate) struct Row<'a> {
    pub kind: &'a str,
    pub value: &'a str,
    pub preferred: bool,
    pub location: Option<&'a str>,
}

/// The FHIR word for a letter; none for a letter that FHIR2 shows as `?`.
pub(crate) fn sex_of_letter(letter: &str) -> Option<&'static str> {
    Some(match letter {
        "M" => "male",
        "F" => "female",
        "O" => "other",
        "U" => "unknown",
        _ => return None,
    })
}

/// The letter for a FHIR word.
pub fn letter_of_sex(sex: &str) -> Option<&'static str> {
    Some(match sex {
        "male" => "M",
        "female" => "F",
        "other" => "O",
        "unknown" => "U",
        _ => return None,
    })
}
