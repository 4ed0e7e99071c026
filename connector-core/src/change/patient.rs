//! A person as both sides can hold one: a flat set of named fields, so that conflicts are decided field by field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RecordId;

/// Names of the canonical fields of a person. Values are text; a field that is absent is unknown, not empty.
pub mod field {
    /// Full name in the order it is spoken, words separated by one space.
    pub const NAME: &str = "name";
    /// `male`, `female`, `other` or `unknown` (FHIR administrative gender).
    pub const SEX: &str = "sex";
    /// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, as precise as it is known.
    pub const BIRTH_DATE: &str = "birth_date";
    /// First phone number, as the source writes it.
    pub const PHONE: &str = "phone";
    /// `true`, or the date of death `YYYY-MM-DD`. Absent while alive.
    pub const DECEASED: &str = "deceased";
    /// `true` while no tasks are wanted for the person (CHT muting).
    pub const MUTED: &str = "muted";
    /// Prefix of identifiers: `identifier.` and the configured name of the identifier type.
    pub const IDENTIFIER: &str = "identifier.";
    /// Prefix of address parts: `address.` and the part's name (`village`, `district`).
    pub const ADDRESS: &str = "address.";
    /// Prefix of other attributes: `attribute.` and the attribute's configured name.
    pub const ATTRIBUTE: &str = "attribute.";
    /// The facility that the person belongs to, by its id at the source.
    pub const LOCATION: &str = "location";
}

/// A person.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Patient {
    /// Field name to value; names are those of [`field`].
    pub fields: BTreeMap<String, String>,
    /// Set when the source no longer holds the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
}

/// Why a source no longer holds a person. Never carried silently: it goes to a person's review.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gone {
    /// Deleted or voided.
    Deleted,
    /// Merged into another record of the same system.
    Merged(RecordId),
}

impl Patient {
    /// A person with these fields.
    pub fn with<K: Into<String>, V: Into<String>>(fields: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { fields: fields.into_iter().map(|(k, v)| (k.into(), v.into())).collect(), gone: None }
    }

    /// One field's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Identifiers by type name.
    pub fn identifiers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().filter_map(|(k, v)| Some((k.strip_prefix(field::IDENTIFIER)?, v.as_str())))
    }
}
