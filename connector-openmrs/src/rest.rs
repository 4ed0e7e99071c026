//! The REST reading of a patient: with the uuids of its rows, which an edit needs, and readable where FHIR2 is not.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;
use crate::normal::{Name, Person, Row, day, sex_of_letter, text};

/// A patient as REST gives it in the representation of [`representation`].
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RestPatient {
    /// Its uuid.
    pub uuid: String,
    /// Whether it is void: then it has no identifiers, names, addresses and attributes.
    pub voided: bool,
    /// Active ones.
    pub identifiers: Vec<RestIdentifier>,
    /// The rest.
    pub person: RestPerson,
}

/// An identifier row.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RestIdentifier {
    /// Of the row.
    pub uuid: String,
    /// The value.
    pub identifier: String,
    /// Whether it is the one shown.
    pub preferred: bool,
    /// Its type.
    pub identifier_type: Reference,
    /// Where it was given.
    pub location: Option<Reference>,
}

/// A uuid.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// It.
    pub uuid: String,
}

/// The person of a patient.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RestPerson {
    /// Any letter.
    pub gender: Option<String>,
    /// In whole years, by the server's calendar.
    pub age: Option<i64>,
    /// Midnight in the server's zone: the date part counts.
    pub birthdate: Option<String>,
    /// Whether month and day are a guess.
    pub birthdate_estimated: Option<bool>,
    /// Whether the person died.
    pub dead: Option<bool>,
    /// When.
    pub death_date: Option<String>,
    /// Active ones.
    pub names: Vec<RestName>,
    /// Active ones: uuid, preferred and the configured fields.
    pub addresses: Vec<BTreeMap<String, Value>>,
    /// Active ones.
    pub attributes: Vec<RestAttribute>,
}

/// A name row.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RestName {
    /// Of the row.
    pub uuid: String,
    /// Whether it is the one in use.
    pub preferred: Option<bool>,
    /// First name.
    pub given_name: Option<String>,
    /// Middle name.
    pub middle_name: Option<String>,
    /// Family name.
    pub family_name: Option<String>,
}

/// An attribute row.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RestAttribute {
    /// Of the row.
    pub uuid: String,
    /// Text, or what the format of the type makes of it.
    pub value: Value,
    /// Its type.
    pub attribute_type: Reference,
}

impl RestAttribute {
    /// The value as text: a location or concept by its uuid.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Value::String(value) => text(value),
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(value) => Some(value.to_string()),
            Value::Object(object) => text(object.get("uuid")?.as_str()?),
            Value::Null | Value::Array(_) => None,
        }
    }
}

/// The representation of a patient that holds what the normal form and an edit need.
pub fn representation(config: &Config) -> String {
    let parts: String = config.address.values().map(|field| format!(",{field}")).collect();
    format!(
        "custom:(uuid,voided,identifiers:(uuid,identifier,preferred,identifierType:(uuid),location:(uuid)),person:(gender,\
         age,birthdate,birthdateEstimated,dead,deathDate,names:(uuid,preferred,givenName,middleName,familyName),\
         addresses:(uuid,preferred{parts}),attributes:(uuid,value,attributeType:(uuid))))"
    )
}

impl RestPerson {
    /// The name row in use: the preferred one, else the first by uuid.
    pub fn name(&self) -> Option<&RestName> {
        self.names.iter().min_by_key(|n| (n.preferred != Some(true), n.uuid.as_str()))
    }

    /// The address row in use: the preferred one, else the first by uuid.
    pub fn address(&self) -> Option<&BTreeMap<String, Value>> {
        let text = |a: &BTreeMap<String, Value>| {
            a.get("uuid").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        self.addresses.iter().min_by_key(|a| (a.get("preferred") != Some(&Value::Bool(true)), text(a)))
    }

    /// The whole stored birth date.
    pub fn birth_day(&self) -> Option<String> {
        self.birthdate.as_deref().and_then(day)
    }

    fn birth_date(&self) -> Option<String> {
        let day = self.birth_day()?;
        let shown = match (self.birthdate_estimated, self.age) {
            (Some(true), Some(age)) if age < 5 => 7,
            (Some(true), _) => 4,
            _ => 10,
        };
        day.get(..shown).map(str::to_owned)
    }

    fn deceased(&self) -> Option<String> {
        (self.dead == Some(true))
            .then(|| self.death_date.as_deref().and_then(day).unwrap_or_else(|| "true".into()))
    }
}

impl Person {
    /// From the REST reading.
    pub fn of_rest(patient: &RestPatient, config: &Config) -> Self {
        let person = &patient.person;
        let mut all = Self {
            name: person.name().and_then(|n| {
                Name::of(n.given_name.as_deref(), n.middle_name.as_deref(), n.family_name.as_deref())
            }),
            sex: person.gender.as_deref().and_then(sex_of_letter).map(str::to_owned),
            birth_date: person.birth_date(),
            deceased: person.deceased(),
            ..Self::default()
        };
        let address = person.address();
        for field in config.address.values() {
            let value = address.and_then(|a| a.get(field)).and_then(Value::as_str).and_then(text);
            all.address.extend(value.map(|value| (field.clone(), value)));
        }
        for attribute in &person.attributes {
            let kind = &attribute.attribute_type.uuid;
            if config.attribute_types().any(|t| t == kind) {
                all.attributes.entry(kind.clone()).or_default().extend(attribute.text());
            }
        }
        let rows = patient.identifiers.iter().map(|i| Row {
            kind: &i.identifier_type.uuid,
            value: &i.identifier,
            preferred: i.preferred,
            location: i.location.as_ref().map(|l| l.uuid.as_str()),
        });
        all.identify(rows.collect(), config);
        all
    }
}
