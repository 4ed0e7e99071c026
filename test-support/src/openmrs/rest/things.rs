//! What REST can show: the address and the properties of each thing.

use serde_json::{Value, json};

use super::{
    kinds::{self, CONCEPT_NAME, Kind, PROVIDER_PERSON, Table, known},
    represent::View,
    values,
};
use crate::openmrs::{
    metadata::{metadata, text},
    model::{
        ADDRESS_FIELDS, Attribute, Audit, Cohort, Encounter, Identifier, NAME_FIELDS, Obs, ObsValue, Part,
        Patient, Relationship, Visit,
    },
    time,
};

/// A thing to show, with what its address needs.
#[derive(Clone, Copy)]
pub enum Thing<'a> {
    Patient(&'a Patient),
    Person(&'a Patient),
    Name(&'a Patient, &'a Part),
    Address(&'a Patient, &'a Part),
    Attribute(&'a Patient, &'a Attribute),
    Identifier(&'a Patient, &'a Identifier),
    /// A row of metadata, by its table.
    Row(&'static Table, &'a Value),
    Encounter(&'a Encounter),
    Provider(&'a Encounter, usize),
    Obs(&'a Obs),
    Range(&'a Obs),
    Visit(&'a Visit),
    Relationship(&'a Relationship),
    Cohort(&'a Cohort),
    Membership(&'a Cohort, usize),
}

/// What a property is.
pub enum Node<'a> {
    Value(Value),
    Thing(Thing<'a>),
    Things(Vec<Thing<'a>>),
    Audit(&'a Audit),
}

/// A row of metadata by uuid, as a thing or nothing.
pub fn row(name: &'static str, uuid: &str) -> Node<'static> {
    match metadata().row(name, uuid) {
        Some(found) => Node::Thing(Thing::Row(known(name), found)),
        None => Node::Value(Value::Null),
    }
}

impl<'a> Thing<'a> {
    /// What is common to its kind.
    pub fn kind(&self) -> &'static Kind {
        match self {
            Self::Patient(_) => &kinds::PATIENT,
            Self::Person(_) => &kinds::PERSON,
            Self::Name(..) => &kinds::NAME,
            Self::Address(..) => &kinds::ADDRESS,
            Self::Attribute(..) => &kinds::ATTRIBUTE,
            Self::Identifier(..) => &kinds::IDENTIFIER,
            Self::Row(table, _) => &table.kind,
            Self::Encounter(_) => &kinds::ENCOUNTER,
            Self::Provider(..) => &kinds::ENCOUNTER_PROVIDER,
            Self::Obs(_) => &kinds::OBS,
            Self::Range(_) => &kinds::RANGE,
            Self::Visit(_) => &kinds::VISIT,
            Self::Relationship(_) => &kinds::RELATIONSHIP,
            Self::Cohort(_) => &kinds::COHORT,
            Self::Membership(..) => &kinds::MEMBERSHIP,
        }
    }

    /// Its address below `/ws/rest/v1/`.
    pub fn address(&self) -> String {
        match self {
            Self::Patient(p) => format!("patient/{}", p.uuid),
            Self::Person(p) => format!("person/{}", p.uuid),
            Self::Name(p, row) => format!("person/{}/name/{}", p.uuid, row.uuid),
            Self::Address(p, row) => format!("person/{}/address/{}", p.uuid, row.uuid),
            Self::Attribute(p, row) => format!("person/{}/attribute/{}", p.uuid, row.uuid),
            Self::Identifier(p, row) => format!("patient/{}/identifier/{}", p.uuid, row.uuid),
            Self::Row(table, row) if table.name == "name" => {
                format!("concept/{}/name/{}", text(row, "uuid"), text(row, "nameUuid"))
            }
            Self::Row(table, row) => format!("{}/{}", table.path, text(row, "uuid")),
            Self::Encounter(row) => format!("encounter/{}", row.uuid),
            Self::Provider(row, at) => {
                format!("encounter/{}/encounterprovider/{}", row.uuid, row.providers[*at].0)
            }
            Self::Obs(row) => format!("obs/{}", row.uuid),
            Self::Range(row) => format!("obs/{}/referencerange/{}", row.uuid, row.range),
            Self::Visit(row) => format!("visit/{}", row.uuid),
            Self::Relationship(row) => format!("relationship/{}", row.uuid),
            Self::Cohort(row) => format!("cohort/{}", row.uuid),
            Self::Membership(row, at) => format!("cohort/{}/membership/{}", row.uuid, row.members[*at].0),
        }
    }

    fn audit(&self) -> Option<&'a Audit> {
        Some(match self {
            Self::Patient(p) | Self::Person(p) => &p.audit,
            Self::Name(_, row) | Self::Address(_, row) => &row.audit,
            Self::Attribute(_, row) => &row.audit,
            Self::Identifier(_, row) => &row.audit,
            Self::Encounter(row) | Self::Provider(row, _) => &row.audit,
            Self::Obs(row) | Self::Range(row) => &row.audit,
            Self::Visit(row) => &row.audit,
            Self::Relationship(row) => &row.audit,
            Self::Cohort(row) | Self::Membership(row, _) => &row.audit,
            Self::Row(..) => return None,
        })
    }

    /// Whether it is voided.
    pub fn is_voided(&self) -> bool {
        self.audit().is_some_and(Audit::is_voided)
    }

    /// A link that only this kind has.
    pub fn extra_link(&self, view: View<'_>) -> Option<Value> {
        let Self::Membership(cohort, at) = self else { return None };
        let patient = &view.tables.patient(cohort.members[*at].1).uuid;
        let uri = format!("{}/openmrs/ws/rest/v1/patient/{patient}", view.origin);
        Some(json!({"rel": "patient", "uri": uri, "resourceAlias": "membership"}))
    }

    /// A property by its REST name; `None` when there is no such property.
    pub fn property(&self, name: &str, view: View<'a>) -> Option<Node<'a>> {
        match (name, self.audit()) {
            ("auditInfo", Some(audit)) => return Some(Node::Audit(audit)),
            ("voided", Some(audit)) => return Some(Node::Value(audit.is_voided().into())),
            _ => {}
        }
        let value = |value: Value| Some(Node::Value(value));
        let patient = |at: u32| view.tables.patient(at);
        let optional = |table: &'static str, id: &Option<crate::openmrs::ids::Id>| match id {
            Some(id) => Some(row(table, &id.to_string())),
            None => Some(Node::Value(Value::Null)),
        };
        match *self {
            Self::Patient(p) => match name {
                "uuid" => value(p.uuid.to_string().into()),
                "display" => value(values::patient_display(p).into()),
                "patientId" => value(p.pk.into()),
                "identifiers" => {
                    Some(Node::Things(p.live_identifiers().map(|row| Thing::Identifier(p, row)).collect()))
                }
                "person" => Some(Node::Thing(Thing::Person(p))),
                _ => None,
            },
            Self::Person(p) => values::person_property(p, name, view),
            Self::Name(_, part) => match name {
                "uuid" => value(part.uuid.to_string().into()),
                "display" => value(part.full_name().into()),
                "preferred" => value(part.preferred.into()),
                _ if NAME_FIELDS.contains(&name) => value(part.name(name).map_or(Value::Null, Value::from)),
                _ => None,
            },
            Self::Address(_, part) => match name {
                "uuid" => value(part.uuid.to_string().into()),
                "display" => value(part.address("address1").map_or(Value::Null, Value::from)),
                "preferred" => value(part.preferred.into()),
                _ if ADDRESS_FIELDS.contains(&name) => {
                    value(part.address(name).map_or(Value::Null, Value::from))
                }
                _ => None,
            },
            Self::Attribute(_, attribute) => {
                let kind = metadata().at("personattributetype", attribute.kind);
                match name {
                    "uuid" => value(attribute.uuid.to_string().into()),
                    "display" => value(values::attribute_display(attribute).into()),
                    "value" => value(values::attribute_value(attribute, view.origin)),
                    "attributeType" => Some(Node::Thing(Thing::Row(known("personattributetype"), kind))),
                    _ => None,
                }
            }
            Self::Identifier(_, identifier) => {
                let kind = metadata().at("patientidentifiertype", identifier.kind);
                match name {
                    "uuid" => value(identifier.uuid.to_string().into()),
                    "display" => value(format!("{} = {}", text(kind, "name"), identifier.value).into()),
                    "identifier" => value((&*identifier.value).into()),
                    "identifierType" => Some(Node::Thing(Thing::Row(known("patientidentifiertype"), kind))),
                    "location" => match identifier.location {
                        Some(at) => {
                            Some(Node::Thing(Thing::Row(known("location"), metadata().at("location", at))))
                        }
                        None => value(Value::Null),
                    },
                    "preferred" => value(identifier.preferred.into()),
                    _ => None,
                }
            }
            Self::Row(table, found) => values::row_property(table, found, name, view.origin),
            Self::Encounter(encounter) => match name {
                "uuid" => value(encounter.uuid.to_string().into()),
                "display" => value(values::encounter_display(encounter).into()),
                "encounterDatetime" => value(time::rest(encounter.at).into()),
                "patient" => Some(Node::Thing(Thing::Patient(patient(encounter.patient)))),
                "location" => optional("location", &encounter.location),
                "encounterType" => Some(row("encountertype", &encounter.kind.to_string())),
                "obs" => {
                    let top = view.tables.obs_of(&encounter.uuid).filter(|obs| obs.parent.is_none());
                    Some(Node::Things(top.map(Thing::Obs).collect()))
                }
                "visit" => match encounter.visit.as_ref().and_then(|id| view.tables.visit(&id.to_string())) {
                    Some(visit) => Some(Node::Thing(Thing::Visit(visit))),
                    None => value(Value::Null),
                },
                "encounterProviders" => Some(Node::Things(
                    (0..encounter.providers.len()).map(|at| Thing::Provider(encounter, at)).collect(),
                )),
                "form" => value(Value::Null),
                "orders" | "diagnoses" => value(json!([])),
                _ => None,
            },
            Self::Provider(encounter, at) => {
                let (uuid, provider, role) = &encounter.providers[at];
                match name {
                    "uuid" => value(uuid.to_string().into()),
                    "display" => value(values::encounter_provider_display(provider, role).into()),
                    "provider" => Some(row("provider", &provider.to_string())),
                    "encounterRole" => Some(row("encounterrole", &role.to_string())),
                    _ => None,
                }
            }
            Self::Obs(obs) => self.obs_property(obs, name, view),
            Self::Range(obs) => {
                let concept = metadata().row("concept", &obs.concept.to_string());
                match name {
                    "uuid" => value(obs.range.to_string().into()),
                    "display" => value("".into()),
                    "hiAbsolute" | "lowAbsolute" => value(concept.map_or(Value::Null, |c| c[name].clone())),
                    "hiNormal" | "hiCritical" | "lowNormal" | "lowCritical" => value(Value::Null),
                    _ => None,
                }
            }
            Self::Visit(visit) => match name {
                "uuid" => value(visit.uuid.to_string().into()),
                "display" => value(values::visit_display(visit).into()),
                "patient" => Some(Node::Thing(Thing::Patient(patient(visit.patient)))),
                "visitType" => Some(row("visittype", &visit.kind.to_string())),
                "location" => optional("location", &visit.location),
                "startDatetime" => value(time::rest(visit.start).into()),
                "stopDatetime" => value(visit.stop.map(time::rest).into()),
                "encounters" => {
                    let of = view.tables.encounters_of(visit.patient);
                    let inside = of.filter(|encounter| encounter.visit.as_ref() == Some(&visit.uuid));
                    Some(Node::Things(inside.map(Thing::Encounter).collect()))
                }
                "indication" => value(Value::Null),
                "attributes" => value(json!([])),
                _ => None,
            },
            Self::Relationship(relationship) => match name {
                "uuid" => value(relationship.uuid.to_string().into()),
                "display" => {
                    let given = |at: u32| {
                        let shown = patient(at).shown_name();
                        shown.and_then(|name| name.name("givenName")).unwrap_or_default().to_owned()
                    };
                    let kind = metadata().row("relationshiptype", &relationship.kind.to_string());
                    let is = kind.map(|kind| text(kind, "aIsToB")).unwrap_or_default();
                    value(
                        format!("{} is the {is} of {}", given(relationship.a), given(relationship.b)).into(),
                    )
                }
                "personA" => Some(Node::Thing(Thing::Person(patient(relationship.a)))),
                "personB" => Some(Node::Thing(Thing::Person(patient(relationship.b)))),
                "relationshipType" => Some(row("relationshiptype", &relationship.kind.to_string())),
                "startDate" => value(relationship.start.map(time::rest).into()),
                "endDate" => value(Value::Null),
                _ => None,
            },
            Self::Cohort(cohort) => match name {
                "uuid" => value(cohort.uuid.to_string().into()),
                "display" | "name" => value(cohort.name.as_str().into()),
                "description" => value(cohort.description.clone().into()),
                "size" => value(cohort.members.len().into()),
                "memberIds" => value(cohort.members.iter().map(|(_, at, _)| patient(*at).pk).collect()),
                _ => None,
            },
            Self::Membership(cohort, at) => {
                let (uuid, member, start) = &cohort.members[at];
                match name {
                    "uuid" => value(uuid.to_string().into()),
                    "display" => value("Patient in cohort (see link with rel=patient)".into()),
                    "startDate" => value(time::rest(*start).into()),
                    "endDate" => value(Value::Null),
                    "patientUuid" => value(patient(*member).uuid.to_string().into()),
                    _ => None,
                }
            }
        }
    }

    fn obs_property(&self, obs: &'a Obs, name: &str, view: View<'a>) -> Option<Node<'a>> {
        let value = |value: Value| Some(Node::Value(value));
        match name {
            "uuid" => value(obs.uuid.to_string().into()),
            "display" => value(values::obs_display(obs, view.tables).into()),
            "concept" => Some(row("concept", &obs.concept.to_string())),
            "person" => Some(Node::Thing(Thing::Patient(view.tables.patient(obs.patient)))),
            "obsDatetime" => value(time::rest(obs.at).into()),
            "location" => match &obs.location {
                Some(id) => Some(row("location", &id.to_string())),
                None => value(Value::Null),
            },
            "encounter" => match obs.encounter.as_ref().and_then(|id| view.tables.encounter(&id.to_string()))
            {
                Some(encounter) => Some(Node::Thing(Thing::Encounter(encounter))),
                None => value(Value::Null),
            },
            "obsGroup" => match obs.parent.as_ref().and_then(|id| view.tables.find_obs(&id.to_string())) {
                Some(parent) => Some(Node::Thing(Thing::Obs(parent))),
                None => value(Value::Null),
            },
            "groupMembers" if obs.value != ObsValue::Group => value(Value::Null),
            "groupMembers" => {
                Some(Node::Things(view.tables.members(obs).into_iter().map(Thing::Obs).collect()))
            }
            "value" => match &obs.value {
                ObsValue::Group => value(Value::Null),
                ObsValue::Number(number) => value((*number).into()),
                ObsValue::Text(text) => value(text.as_str().into()),
                ObsValue::Time(at) => value(time::rest(*at).into()),
                ObsValue::Coded(concept) => Some(row("concept", &concept.to_string())),
                ObsValue::Boolean(yes) => Some(row("concept", values::boolean_concept(*yes))),
            },
            "status" => value(if obs.amended { "AMENDED" } else { "FINAL" }.into()),
            "referenceRange" => match &obs.value {
                ObsValue::Number(_) => Some(Node::Thing(Thing::Range(obs))),
                _ => value(Value::Null),
            },
            "accessionNumber" | "valueCodedName" | "comment" | "order" | "valueModifier"
            | "formFieldPath" | "formFieldNamespace" | "interpretation" => value(Value::Null),
            _ => None,
        }
    }

    /// The name of a concept, as a thing of its own.
    pub fn concept_name(concept: &'a Value) -> Self {
        Self::Row(&CONCEPT_NAME, concept)
    }

    /// The person of a provider.
    pub fn provider_person(person: &'a Value) -> Self {
        Self::Row(&PROVIDER_PERSON, person)
    }
}
