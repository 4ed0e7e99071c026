//! The rows of the database: a patient with its parts, and what hangs on it.

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::ids::Id;

/// Index of a user in the metadata.
pub type UserIx = u16;

/// Who made, changed and voided a row, and when (milliseconds, whole seconds).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    pub creator: UserIx,
    pub created: i64,
    pub changed: Option<(UserIx, i64)>,
    pub voided: Option<Box<Voided>>,
}

/// The void of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voided {
    pub by: UserIx,
    pub at: i64,
    pub reason: Box<str>,
}

impl Audit {
    /// A row made now.
    pub fn new(creator: UserIx, now: i64) -> Self {
        Self { creator, created: super::time::whole_second(now), changed: None, voided: None }
    }

    /// The last change, or the creation.
    pub fn stamp(&self) -> i64 {
        self.changed.map_or(self.created, |(_, at)| at)
    }

    /// Marks a change.
    pub fn change(&mut self, by: UserIx, now: i64) {
        self.changed = Some((by, super::time::whole_second(now)));
    }

    /// Voids the row unless it is voided.
    pub fn void(&mut self, by: UserIx, now: i64, reason: &str) {
        let at = super::time::whole_second(now);
        self.voided.get_or_insert_with(|| Box::new(Voided { by, at, reason: reason.into() }));
    }

    /// Whether the row is voided.
    pub fn is_voided(&self) -> bool {
        self.voided.is_some()
    }
}

/// The fields of a name; a [`Part`] keeps those that are set.
pub const NAME_FIELDS: [&str; 8] = [
    "prefix",
    "givenName",
    "middleName",
    "familyNamePrefix",
    "familyName",
    "familyName2",
    "familyNameSuffix",
    "degree",
];

/// The fields of an address.
pub const ADDRESS_FIELDS: [&str; 24] = [
    "address1",
    "address2",
    "cityVillage",
    "stateProvince",
    "country",
    "postalCode",
    "countyDistrict",
    "address3",
    "address4",
    "address5",
    "address6",
    "startDate",
    "endDate",
    "latitude",
    "longitude",
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

/// A name or an address: a row of text fields, most of them unset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub uuid: Id,
    pub preferred: bool,
    pub fields: Vec<(u8, Box<str>)>,
    pub audit: Audit,
}

impl Part {
    /// The value of a field of the given table of names.
    pub fn get(&self, table: &[&str], field: &str) -> Option<&str> {
        let at = table.iter().position(|name| *name == field)? as u8;
        self.fields.iter().find(|(index, _)| *index == at).map(|(_, value)| &**value)
    }

    /// Sets or clears a field; one that the table does not know is left out.
    pub fn set(&mut self, table: &[&str], field: &str, value: Option<&str>) {
        let Some(at) = table.iter().position(|name| *name == field) else { return };
        self.fields.retain(|(index, _)| usize::from(*index) != at);
        if let Some(value) = value {
            self.fields.push((at as u8, value.into()));
            self.fields.sort_unstable_by_key(|(index, _)| *index);
        }
    }

    /// A field of a name.
    pub fn name(&self, field: &str) -> Option<&str> {
        self.get(&NAME_FIELDS, field)
    }

    /// A field of an address.
    pub fn address(&self, field: &str) -> Option<&str> {
        self.get(&ADDRESS_FIELDS, field)
    }

    /// The parts of a name in the order in which they are read.
    pub fn full_name(&self) -> String {
        let parts: Vec<&str> =
            self.fields.iter().map(|(_, value)| &**value).filter(|v| !v.is_empty()).collect();
        parts.join(" ")
    }
}

/// A person attribute; the type is an index into the metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    pub uuid: Id,
    pub kind: u16,
    pub value: Box<str>,
    pub audit: Audit,
    /// Exact time of the insert, which the uniqueness window looks at.
    pub inserted: i64,
}

/// A patient identifier; type and location are indexes into the metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identifier {
    pub uuid: Id,
    pub value: Box<str>,
    pub kind: u16,
    pub location: Option<u16>,
    pub preferred: bool,
    pub audit: Audit,
    /// Exact time of the insert, which the uniqueness window looks at.
    pub inserted: i64,
}

/// The columns of the person table, written as one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PersonRow {
    pub gender: Option<Box<str>>,
    pub birthdate: Option<DateTime>,
    pub estimated: bool,
    pub dead: bool,
    pub death_date: Option<DateTime>,
    pub cause: Option<Id>,
    pub cause_text: Option<Box<str>>,
}

/// A patient and its person; they share uuid, stamps and void.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patient {
    pub pk: u32,
    pub uuid: Id,
    pub row: PersonRow,
    pub names: Vec<Part>,
    pub addresses: Vec<Part>,
    pub attributes: Vec<Attribute>,
    pub identifiers: Vec<Identifier>,
    pub audit: Audit,
    /// The row before its last update and the exact time of that.
    pub before: Option<Box<(i64, PersonRow)>>,
}

impl Patient {
    /// Gives back the room that was kept for more parts: most patients have one of each for ever.
    pub fn shrink(&mut self) {
        for part in self.names.iter_mut().chain(&mut self.addresses) {
            part.fields.shrink_to_fit();
        }
        self.names.shrink_to_fit();
        self.addresses.shrink_to_fit();
        self.attributes.shrink_to_fit();
        self.identifiers.shrink_to_fit();
    }

    /// Names, addresses, attributes and identifiers that are not voided.
    pub fn live_names(&self) -> impl Iterator<Item = &Part> {
        preferred_first(&self.names)
    }

    /// Addresses that are not voided.
    pub fn live_addresses(&self) -> impl Iterator<Item = &Part> {
        preferred_first(&self.addresses)
    }

    /// Attributes that are not voided.
    pub fn live_attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(|row| !row.audit.is_voided())
    }

    /// Identifiers that are not voided, the preferred one first.
    pub fn live_identifiers(&self) -> impl Iterator<Item = &Identifier> {
        let of = |preferred| move |row: &&Identifier| !row.audit.is_voided() && row.preferred == preferred;
        self.identifiers.iter().filter(of(true)).chain(self.identifiers.iter().filter(of(false)))
    }

    /// The name that the server shows; of a voided patient a voided one.
    pub fn shown_name(&self) -> Option<&Part> {
        self.live_names().next().or_else(|| voided_one(&self.names))
    }

    /// The address that the server shows.
    pub fn shown_address(&self) -> Option<&Part> {
        self.live_addresses().next().or_else(|| voided_one(&self.addresses))
    }

    /// The name as one text, empty when there is none.
    pub fn name_text(&self) -> String {
        self.shown_name().map(Part::full_name).unwrap_or_default()
    }
}

fn preferred_first(parts: &[Part]) -> impl Iterator<Item = &Part> {
    let of = |preferred| move |row: &&Part| !row.audit.is_voided() && row.preferred == preferred;
    parts.iter().filter(of(true)).chain(parts.iter().filter(of(false)))
}

fn voided_one(parts: &[Part]) -> Option<&Part> {
    parts.iter().find(|part| part.preferred).or(parts.first())
}

/// An encounter. Type, location, role and provider are uuids of metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encounter {
    pub uuid: Id,
    pub patient: u32,
    pub kind: Id,
    pub at: i64,
    pub location: Option<Id>,
    pub visit: Option<Id>,
    /// Uuid of the row, provider, role.
    pub providers: Vec<(Id, Id, Id)>,
    pub audit: Audit,
}

/// A visit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Visit {
    pub uuid: Id,
    pub patient: u32,
    pub kind: Id,
    pub start: i64,
    pub stop: Option<i64>,
    pub location: Option<Id>,
    pub audit: Audit,
}

/// The value of an observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ObsValue {
    /// The obs of a set: its members hold the values.
    Group,
    Number(f64),
    Text(String),
    Coded(Id),
    Boolean(bool),
    Time(i64),
}

/// An observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Obs {
    pub uuid: Id,
    pub concept: Id,
    pub patient: u32,
    pub encounter: Option<Id>,
    pub at: i64,
    pub location: Option<Id>,
    pub value: ObsValue,
    pub parent: Option<Id>,
    pub amended: bool,
    /// Uuid of the reference range that the server shows.
    pub range: Id,
    pub audit: Audit,
}

/// A relationship between two persons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relationship {
    pub uuid: Id,
    pub a: u32,
    pub b: u32,
    pub kind: Id,
    pub start: Option<i64>,
    pub audit: Audit,
}

/// A cohort, which FHIR shows as a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    pub uuid: Id,
    pub name: String,
    pub description: Option<String>,
    /// Uuid of the membership, position of the patient, start.
    pub members: Vec<(Id, u32, i64)>,
    pub audit: Audit,
}

/// A FHIR task: the elements that the server keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub uuid: Id,
    pub kept: serde_json::Value,
    pub audit: Audit,
}
