//! Resources that FHIR can show, and the ways to cut them: `_summary`, `_elements`.

use serde_json::{Map, Value, json};

use super::{Fhir, clinical, group, patient, task};
use crate::openmrs::{
    http::{Reply, narrative, processing},
    metadata::User,
    model::{Audit, Cohort, Encounter, Obs, Patient, Relationship, Task, Visit},
};

/// One resource.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    Patient(&'a Patient),
    Encounter(&'a Encounter),
    Visit(&'a Visit),
    Obs(&'a Obs),
    Task(&'a Task),
    Group(&'a Cohort),
    Related(&'a Relationship),
    Location(&'a Value),
    Provider(&'a Value),
    User(&'a User),
}

impl<'a> Item<'a> {
    fn audit(&self) -> Option<&'a Audit> {
        Some(match self {
            Self::Patient(row) => &row.audit,
            Self::Encounter(row) => &row.audit,
            Self::Visit(row) => &row.audit,
            Self::Obs(row) => &row.audit,
            Self::Task(row) => &row.audit,
            Self::Group(row) => &row.audit,
            Self::Related(row) => &row.audit,
            Self::Location(_) | Self::Provider(_) | Self::User(_) => return None,
        })
    }

    /// Whether a read of it is 410.
    pub fn is_voided(&self) -> bool {
        self.audit().is_some_and(Audit::is_voided)
    }

    /// The stamp, by which it is versioned; a related person has none, an observation that of its creation.
    pub fn stamp(&self) -> Option<i64> {
        match self {
            Self::Related(_) => None,
            Self::Obs(obs) => Some(obs.audit.created),
            Self::Location(row) => row["stamp"].as_i64(),
            Self::Provider(_) => Some(clinical::PROVIDER_STAMP),
            Self::User(user) => Some(user.stamp),
            _ => self.audit().map(Audit::stamp),
        }
    }
}

/// How much of a resource is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Style {
    /// `_summary=data`: no narrative.
    pub data: bool,
    /// `_summary=count`.
    pub count_only: bool,
    /// `_elements`.
    pub elements: Vec<String>,
}

impl Style {
    /// The style that a query asks for.
    pub fn of(query: &[(String, String)]) -> Result<Self, Reply> {
        let mut style = Self::default();
        for (key, value) in query {
            match (key.as_str(), value.as_str()) {
                ("_summary", "data") => style.data = true,
                ("_summary", "count") => style.count_only = true,
                ("_summary", "false" | "true" | "text") => {}
                ("_summary", other) => {
                    return Err(processing(400, &format!("Unknown _summary parameter value: {other}")));
                }
                ("_elements", list) => style.elements.extend(list.split(',').map(str::to_owned)),
                _ => {}
            }
        }
        Ok(style)
    }

    fn cuts(&self) -> bool {
        self.data || !self.elements.is_empty()
    }
}

/// The tag of a resource that is not shown whole.
pub fn subsetted() -> Value {
    json!({
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
        "code": "SUBSETTED",
        "display": "Resource encoded in summary mode",
    })
}

impl Fhir<'_> {
    /// A resource as JSON; an unreadable row is an error, however little of it is asked for.
    pub(super) fn show(&self, item: &Item<'_>, style: &Style) -> Result<Value, Reply> {
        let tables = &self.state.tables;
        let mut shown = match item {
            Item::Patient(row) => patient::resource(row, &self.state.switches, self.call.now)?,
            Item::Encounter(row) => clinical::encounter(row, tables),
            Item::Visit(row) => clinical::visit(row, tables),
            Item::Obs(row) => clinical::observation(row, tables),
            Item::Task(row) => task::resource(row),
            Item::Group(row) => group::resource(row, tables),
            Item::Related(row) => group::related_person(row, tables, self.call.now),
            Item::Location(row) => clinical::location(row),
            Item::Provider(row) => clinical::provider(row),
            Item::User(user) => clinical::user(user),
        };
        let Some(object) = shown.as_object_mut() else { return Ok(shown) };
        if !style.data && !matches!(item, Item::Group(_)) {
            let id = object.get("id").and_then(Value::as_str).unwrap_or_default();
            object.insert("text".to_owned(), narrative(id));
        }
        if style.cuts() {
            if !style.elements.is_empty() {
                let keep = |key: &String| {
                    ["resourceType", "id", "meta"].contains(&key.as_str()) || style.elements.contains(key)
                };
                let cut: Map<String, Value> =
                    std::mem::take(object).into_iter().filter(|(key, _)| keep(key)).collect();
                *object = cut;
            }
            let tags = &mut object.entry("meta").or_insert_with(|| json!({}))["tag"];
            match tags.as_array_mut() {
                Some(tags) => tags.push(subsetted()),
                None => *tags = json!([subsetted()]),
            }
        }
        Ok(shown)
    }
}
