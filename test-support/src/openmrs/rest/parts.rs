//! The rows of a patient as resources of their own: identifiers, names, addresses, attributes.

use axum::http::Method;
use serde_json::Value;

use super::{
    Rest,
    people::{Converter, attribute_text, attribute_type, check_lengths, identifier_rows, place_of},
    things::Thing,
};
use crate::openmrs::{
    edit::Hand,
    http::{Answer, Reply, conversion, not_supported},
    metadata::metadata,
    model::{Patient, UserIx},
    validate,
};

impl Rest<'_> {
    fn put(&mut self, at: u32, draft: Patient, by: UserIx) {
        self.state.tables.put(at, draft, by, self.call.now, &self.state.switches);
    }

    fn reason(&self) -> String {
        self.call.param("reason").unwrap_or_default().to_owned()
    }

    pub(super) fn identifiers(&mut self, at: u32, path: &[&str]) -> Answer {
        let by = self.allow(match self.call.method {
            Method::GET => &["Get Patient Identifiers"],
            Method::DELETE => &["Delete Patient Identifiers"],
            _ => &["Add Patient Identifiers", "Edit Patient Identifiers"],
        })?;
        let mut draft = self.state.tables.patient(at).clone();
        match (self.call.method.as_str(), path) {
            ("GET", []) => {
                let patient = self.state.tables.patient(at);
                let rows: Vec<_> =
                    patient.live_identifiers().map(|row| Thing::Identifier(patient, row)).collect();
                self.list(&rows)
            }
            ("GET", [uuid]) => {
                let patient = self.state.tables.patient(at);
                let place = place_of(&patient.identifiers, uuid, |row| &row.uuid)?;
                self.show(200, &Thing::Identifier(patient, &patient.identifiers[place]))
            }
            ("DELETE", [uuid]) => {
                let place = place_of(&draft.identifiers, uuid, |row| &row.uuid)?;
                let row = &mut draft.identifiers[place];
                row.audit.void(by, self.call.now, &self.reason());
                row.preferred = false;
                self.put(at, draft, by);
                Ok(Reply::no_content())
            }
            ("POST", []) => {
                let body = self.body()?;
                let given = Value::Object(body.clone());
                let (kind, location) =
                    identifier_rows(&given).map_err(|[what, why]| conversion(what, &[why], 751))?;
                let value = given["identifier"].as_str().unwrap_or_default().to_owned();
                let window = self.state.switches.uniqueness_window_ms;
                let held = draft.live_identifiers().any(|row| {
                    row.kind == kind && *row.value == value && self.call.now - row.inserted >= window
                });
                if held {
                    let mut errors = validate::Errors::default();
                    let problem = format!("Identifier {value} already in use by another patient");
                    errors.global(&problem, &problem);
                    errors.rest()?;
                }
                let uuid = self.chosen(&body);
                self.hand(by).add_identifier(&mut draft, uuid, kind, &value, location);
                let place = draft.identifiers.len() - 1;
                self.store_identifier(at, draft, place, given["preferred"] == true, by, 201)
            }
            ("POST", [uuid]) => {
                let body = self.body()?;
                let place = place_of(&draft.identifiers, uuid, |row| &row.uuid)?;
                let rewrite = self.state.switches.rewrite;
                let row = &mut draft.identifiers[place];
                if let Some(value) = body.get("identifier").and_then(Value::as_str) {
                    row.value = rewrite.identifier(value).into();
                }
                if let Some(location) = body.get("location").and_then(super::reference) {
                    row.location = metadata().index("location", location);
                }
                row.audit.change(by, self.call.now);
                let preferred = body.get("preferred") == Some(&Value::Bool(true));
                self.store_identifier(at, draft, place, preferred, by, 200)
            }
            _ => Err(not_supported()),
        }
    }

    fn store_identifier(
        &mut self,
        at: u32,
        mut draft: Patient,
        place: usize,
        preferred: bool,
        by: UserIx,
        status: u16,
    ) -> Answer {
        if preferred {
            for (other, row) in draft.identifiers.iter_mut().enumerate() {
                row.preferred = other == place;
            }
        }
        let tables = &self.state.tables;
        let mut alone = draft.clone();
        alone.identifiers = vec![draft.identifiers[place].clone()];
        alone.identifiers[0].preferred = true;
        validate::patient(&alone, Some(at), tables, &self.state.switches, self.call.now).rest()?;
        self.put(at, draft, by);
        let patient = self.state.tables.patient(at);
        self.show(status, &Thing::Identifier(patient, &patient.identifiers[place]))
    }

    pub(super) fn name_parts(&mut self, at: u32, names: bool, path: &[&str]) -> Answer {
        let by = self.allow(&["Get People"])?;
        let thing = if names { Thing::Name } else { Thing::Address };
        let of = |patient: &'_ Patient| if names { patient.names.clone() } else { patient.addresses.clone() };
        let mut draft = self.state.tables.patient(at).clone();
        let place = match path {
            [] => None,
            [uuid] => Some(place_of(&of(&draft), uuid, |row| &row.uuid)?),
            _ => return Err(not_supported()),
        };
        match (self.call.method.as_str(), place) {
            ("GET", None) => {
                let patient = self.state.tables.patient(at);
                let rows: Vec<_> = if names {
                    patient.live_names().map(|row| thing(patient, row)).collect()
                } else {
                    patient.live_addresses().map(|row| thing(patient, row)).collect()
                };
                return self.list(&rows);
            }
            ("GET", Some(_)) => return self.show_part(at, names, place, 200),
            ("DELETE", Some(place)) => {
                let reason = self.reason();
                let parts = if names { &mut draft.names } else { &mut draft.addresses };
                parts[place].audit.void(by, self.call.now, &reason);
                parts[place].preferred = false;
                self.put(at, draft, by);
                return Ok(Reply::no_content());
            }
            ("POST", _) => {}
            _ => return Err(not_supported()),
        }
        let body = self.body()?;
        let uuid = self.chosen(&body);
        let switches = self.state.switches.clone();
        let hand = Hand { by, now: self.call.now, switches: &switches };
        let converter = Converter {
            hand,
            ids: &mut self.state.tables.ids,
            caller: self.caller,
            class: "org.openmrs.Person",
        };
        let parts = if names { &mut draft.names } else { &mut draft.addresses };
        let place_now = place.unwrap_or_else(|| {
            parts.push(hand.part(uuid, false));
            parts.len() - 1
        });
        if converter.fields(&mut parts[place_now], names, &body)? && place.is_some() {
            parts[place_now].audit.change(by, self.call.now);
        }
        let wanted = parts[place_now].uuid.clone();
        if body.get("preferred") == Some(&Value::Bool(true)) {
            hand.prefer(parts, &wanted);
        }
        validate::patient(&draft, Some(at), &self.state.tables, &switches, self.call.now).rest()?;
        self.put(at, draft, by);
        self.show_part(at, names, Some(place_now), if place.is_some() { 200 } else { 201 })
    }

    fn show_part(&self, at: u32, names: bool, place: Option<usize>, status: u16) -> Answer {
        let patient = self.state.tables.patient(at);
        let place = place.unwrap_or_default();
        let thing = if names {
            Thing::Name(patient, &patient.names[place])
        } else {
            Thing::Address(patient, &patient.addresses[place])
        };
        self.show(status, &thing)
    }

    pub(super) fn attributes(&mut self, at: u32, path: &[&str]) -> Answer {
        let by = self.allow(&["Get People"])?;
        let mut draft = self.state.tables.patient(at).clone();
        let place = match path {
            [] => None,
            [uuid] => Some(place_of(&draft.attributes, uuid, |row| &row.uuid)?),
            _ => return Err(not_supported()),
        };
        let (place, status) = match (self.call.method.as_str(), place) {
            ("GET", None) => {
                let patient = self.state.tables.patient(at);
                let rows: Vec<_> =
                    patient.live_attributes().map(|row| Thing::Attribute(patient, row)).collect();
                return self.list(&rows);
            }
            ("GET", Some(place)) => (place, 200),
            ("DELETE", Some(place)) => {
                draft.attributes[place].audit.void(by, self.call.now, &self.reason());
                self.put(at, draft, by);
                return Ok(Reply::no_content());
            }
            ("POST", Some(place)) => {
                let value = attribute_text(self.body()?.get("value")).unwrap_or_default();
                let value = self.state.switches.rewrite.text(&value);
                let row = &mut draft.attributes[place];
                if *row.value != value {
                    row.value = value.into();
                    row.audit.change(by, self.call.now);
                }
                check_lengths(&draft)?;
                self.put(at, draft, by);
                (place, 200)
            }
            ("POST", None) => {
                let body = self.body()?;
                let Some(kind) = attribute_type(body.get("attributeType")) else {
                    let null = "Cannot invoke \"org.openmrs.PersonAttributeType.getUuid()\" because \"type\" is null";
                    return Err(conversion(
                        "attributeType on class org.openmrs.PersonAttribute",
                        &[null],
                        751,
                    ));
                };
                let value = attribute_text(body.get("value")).unwrap_or_default();
                let uuid = self.chosen(&body);
                self.hand(by).set_attribute(&mut draft, uuid, kind, &value);
                check_lengths(&draft)?;
                let place =
                    draft.attributes.iter().rposition(|row| row.kind == kind && !row.audit.is_voided());
                self.put(at, draft, by);
                (place.unwrap_or_default(), 201)
            }
            _ => return Err(not_supported()),
        };
        let patient = self.state.tables.patient(at);
        self.show(status, &Thing::Attribute(patient, &patient.attributes[place]))
    }
}
