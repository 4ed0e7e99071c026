//! Patients and persons: create, edit, void. The parts of them are in `parts`.

use axum::http::Method;
use serde_json::{Map, Value};

use super::{Rest, metadata_id, reference, things::Thing};
use crate::openmrs::{
    auth::Caller,
    edit::Hand,
    http::{Answer, Reply, conversion, failure, no_such_object, not_supported, statement_refused},
    ids::{Id, IdSource},
    metadata::metadata,
    model::{ADDRESS_FIELDS, NAME_FIELDS, Part, Patient},
    time, validate,
};

const ON_PATIENT: &str = "on class org.openmrs.Patient";
pub(super) const ON_IDENTIFIER: &str = "on class org.openmrs.PatientIdentifier";

/// Turns the JSON of a request into rows of a draft.
pub(super) struct Converter<'a> {
    pub hand: Hand<'a>,
    pub ids: &'a mut IdSource,
    pub caller: &'a Caller,
    /// The class that messages name: a person that is a patient is an `org.openmrs.Patient`.
    pub class: &'static str,
}

impl Rest<'_> {
    /// `/patient`, `/patient/{uuid}` and its identifiers.
    pub(super) fn patient(&mut self, path: &[&str]) -> Answer {
        match (self.call.method.as_str(), path) {
            ("POST", []) => self.create_patient(),
            ("GET", [uuid]) => {
                self.allow(&["Get Patients"])?;
                let at = self.find_patient(uuid)?;
                self.show(200, &Thing::Patient(self.state.tables.patient(at)))
            }
            ("POST", [uuid]) => {
                let body = self.body()?;
                let person = match body
                    .iter()
                    .find(|(key, _)| !["person", "voided", "uuid"].contains(&key.as_str()))
                {
                    Some((key, _)) => return Err(not_allowed(key)),
                    None => body.get("person").and_then(Value::as_object).cloned().unwrap_or_default(),
                };
                let unvoid = body.get("voided") == Some(&Value::Bool(false));
                self.edit_person(uuid, &person, unvoid, &["Edit Patients"])
            }
            ("DELETE", [uuid]) => {
                let purge = self.call.param("purge") == Some("true");
                let by = self.allow(if purge { &["Purge Patients"] } else { &["Delete Patients"] })?;
                let at = self.find_patient(uuid)?;
                let mut draft = self.state.tables.patient(at).clone();
                let reason = self.call.param("reason").unwrap_or_default();
                self.hand(by).void(&mut draft, reason);
                self.state.tables.put(at, draft, by, self.call.now, &self.state.switches);
                self.state.tables.void_encounters(at, by, self.call.now, reason);
                Ok(Reply::no_content())
            }
            (_, [uuid, "identifier", rest @ ..]) => {
                let at = self.find_patient(uuid)?;
                self.identifiers(at, rest)
            }
            _ => Err(not_supported()),
        }
    }

    /// `/person/{uuid}` and its names, addresses and attributes. Every person here is a patient.
    pub(super) fn person(&mut self, path: &[&str]) -> Answer {
        match (self.call.method.as_str(), path) {
            ("GET", [uuid]) => {
                self.allow(&["Get People"])?;
                let at = self.find_patient(uuid)?;
                self.show(200, &Thing::Person(self.state.tables.patient(at)))
            }
            ("POST", [uuid]) => {
                let body = self.body()?;
                self.edit_person(uuid, &body, false, &["Edit People", "Edit Patients"])
            }
            (_, [uuid, what @ ("name" | "address" | "attribute"), rest @ ..]) => {
                self.allow(if self.is(&Method::GET) { &["Get People"] } else { &["Edit People"] })?;
                let at = self.find_patient(uuid)?;
                match *what {
                    "attribute" => self.attributes(at, rest),
                    what => self.name_parts(at, what == "name", rest),
                }
            }
            _ => Err(not_supported()),
        }
    }

    fn create_patient(&mut self) -> Answer {
        let body = self.body()?;
        let Some(person) = body.get("person").and_then(Value::as_object) else {
            let raw = "The person property is missing";
            let class = "org.openmrs.module.webservices.rest.web.response.ConversionException";
            let code =
                "org.openmrs.module.webservices.rest.web.v1_0.resource.openmrs1_8.PatientResource1_8:260";
            return Err(failure(400, class, raw, code));
        };
        let Some(identifiers) = body.get("identifiers").and_then(Value::as_array) else {
            return Err(conversion("Some required properties are missing: identifiers", &[], 643));
        };
        let uuid = self.chosen(person);
        // Bodies are converted for anybody; who is asking is looked at by the save.
        let by = self.caller.user.unwrap_or(crate::openmrs::metadata::ADMIN);
        let switches = self.state.switches.clone();
        let hand = Hand { by, now: self.call.now, switches: &switches };
        let mut draft = hand.new_patient(0, uuid);
        let mut converter = Converter {
            hand,
            ids: &mut self.state.tables.ids,
            caller: self.caller,
            class: "org.openmrs.Person",
        };
        converter.person(&mut draft, person)?;
        converter.new_identifiers(&mut draft, identifiers)?;
        self.allow(&["Add Patients", "Edit Patients"])?;
        let tables = &mut self.state.tables;
        if let Some(at) = tables.find(&draft.uuid.to_string()) {
            let pk = tables.patient(at).pk;
            let raw = format!(
                "A different object with the same identifier value was already associated with the session : \
                 [org.openmrs.Patient#{pk}]"
            );
            let code = "org.hibernate.engine.internal.StatefulPersistenceContext:700";
            return Err(failure(500, "org.hibernate.NonUniqueObjectException", &raw, code));
        }
        validate::patient(&draft, None, tables, &switches, self.call.now).rest()?;
        if let Some(missing) = validate::missing_required(&draft) {
            let raw = format!("Patient is missing the following required identifier(s): {missing}");
            let class = "org.openmrs.api.MissingRequiredIdentifierException";
            return Err(failure(500, class, &raw, "org.openmrs.api.impl.PatientServiceImpl:317"));
        }
        draft.pk = tables.take_pk();
        check_lengths(&draft)?;
        let at = tables.insert(draft);
        self.show(201, &Thing::Patient(self.state.tables.patient(at)))
    }

    fn edit_person(
        &mut self,
        uuid: &str,
        body: &Map<String, Value>,
        unvoid: bool,
        privileges: &[&str],
    ) -> Answer {
        let by = self.allow(privileges)?;
        let at = self.find_patient(uuid)?;
        let switches = self.state.switches.clone();
        let hand = Hand { by, now: self.call.now, switches: &switches };
        let tables = &mut self.state.tables;
        let mut draft = tables.draft(at, self.call.now, &switches);
        if unvoid {
            draft.audit.voided = None;
        }
        let mut converter =
            Converter { hand, ids: &mut tables.ids, caller: self.caller, class: "org.openmrs.Patient" };
        converter.person(&mut draft, body)?;
        validate::patient(&draft, Some(at), tables, &switches, self.call.now).rest()?;
        check_lengths(&draft)?;
        tables.put(at, draft, by, self.call.now, &switches);
        self.show(200, &Thing::Patient(self.state.tables.patient(at)))
    }
}

/// 400: a property that this request may not carry.
fn not_allowed(key: &str) -> Reply {
    conversion(&format!("Some properties are not allowed to be set: {key}"), &[], 631)
}

/// 500 where the database has no room for an attribute.
pub(super) fn check_lengths(draft: &Patient) -> Result<(), Reply> {
    let too_long =
        |row: &&crate::openmrs::model::Attribute| row.value.chars().count() > validate::LONGEST_ATTRIBUTE;
    match draft.live_attributes().find(too_long) {
        Some(_) => Err(statement_refused("Data too long for column 'value' at row 1", "SQLGrammarException")),
        None => Ok(()),
    }
}

impl Converter<'_> {
    /// The properties of a person, in any order.
    pub(super) fn person(&mut self, draft: &mut Patient, body: &Map<String, Value>) -> Result<(), Reply> {
        let class = self.class;
        let on = |property: &str| format!("{property} on class {class}");
        for (property, value) in body {
            let text = value.as_str();
            match property.as_str() {
                "uuid" => {}
                "gender" => draft.row.gender = text.map(Into::into),
                "birthdate" => draft.row.birthdate = self.date(property, value)?,
                "birthdateEstimated" => draft.row.estimated = value.as_bool().unwrap_or(false),
                "age" => {
                    let now = time::local(self.hand.now);
                    let years = value.as_i64().and_then(|years| i16::try_from(years).ok()).unwrap_or(0);
                    draft.row.birthdate = now
                        .with()
                        .year(now.year().saturating_sub(years))
                        .month(1)
                        .day(1)
                        .subsec_nanosecond(0)
                        .build()
                        .ok();
                    draft.row.estimated = true;
                }
                "dead" => draft.row.dead = value.as_bool().unwrap_or(false),
                "deathDate" => draft.row.death_date = self.date(property, value)?,
                "causeOfDeath" if value.is_null() => draft.row.cause = None,
                "causeOfDeath" => {
                    draft.row.cause = metadata_id("concept", Some(value));
                    if draft.row.cause.is_none() {
                        let why =
                            "Cannot invoke \"org.openmrs.Concept.getUuid()\" because \"concept\" is null";
                        return Err(conversion(&on(property), &[why], 751));
                    }
                }
                "causeOfDeathNonCoded" => draft.row.cause_text = text.map(Into::into),
                "names" => self.parts(draft, true, value)?,
                "addresses" => self.parts(draft, false, value)?,
                "attributes" => self.attributes(draft, value)?,
                "voided" | "birthtime" | "deathdateEstimated" | "preferredName" | "preferredAddress" => {}
                _ => return Err(conversion(&on(property), &[NO_PROPERTY], 751)),
            }
        }
        Ok(())
    }

    fn date(&self, property: &str, value: &Value) -> Result<Option<jiff::civil::DateTime>, Reply> {
        if value.is_null() {
            return Ok(None);
        }
        let text = value.as_str().unwrap_or_default();
        let refused = || bad_date(&format!("{property} on class {}", self.class), text);
        time::parse_rest(text).map(Some).ok_or_else(refused)
    }

    /// Names or addresses: matched by uuid, else added; the first given one becomes the preferred one.
    fn parts(&mut self, draft: &mut Patient, names: bool, value: &Value) -> Result<(), Reply> {
        let mut first = None;
        for given in value.as_array().map_or(&[][..], Vec::as_slice) {
            let given = given.as_object().cloned().unwrap_or_default();
            let wanted = given.get("uuid").and_then(Value::as_str).map(Id::from);
            let parts = if names { &mut draft.names } else { &mut draft.addresses };
            let known = wanted.as_ref().and_then(|id| parts.iter().position(|part| part.uuid == *id));
            let place = known.unwrap_or_else(|| {
                let uuid = wanted.unwrap_or_else(|| self.ids.next());
                parts.push(self.hand.part(uuid, false));
                parts.len() - 1
            });
            let part = &mut parts[place];
            if self.fields(part, names, &given)? && known.is_some() {
                part.audit.change(self.hand.by, self.hand.now);
            }
            let marked = given.get("preferred") == Some(&Value::Bool(true));
            if first.is_none() || marked {
                first = Some(part.uuid.clone());
            }
        }
        if let Some(first) = first {
            self.hand.prefer(if names { &mut draft.names } else { &mut draft.addresses }, &first);
        }
        Ok(())
    }

    /// The fields of one name or address; whether anything changed.
    pub(super) fn fields(
        &self,
        part: &mut Part,
        names: bool,
        given: &Map<String, Value>,
    ) -> Result<bool, Reply> {
        let before = part.fields.clone();
        let table: &[&str] = if names { &NAME_FIELDS } else { &ADDRESS_FIELDS };
        let rewrite = self.hand.switches.rewrite;
        for (field, value) in given {
            if table.contains(&field.as_str()) {
                let stored = value.as_str().map(|v| if names { rewrite.name(v) } else { rewrite.text(v) });
                part.set(table, field, stored.as_deref());
            } else if !["uuid", "preferred", "voided", "display"].contains(&field.as_str()) {
                let class = if names { "org.openmrs.PersonName" } else { "org.openmrs.PersonAddress" };
                return Err(conversion(&format!("{field} on class {class}"), &[NO_PROPERTY], 751));
            }
        }
        Ok(part.fields != before)
    }

    fn attributes(&mut self, draft: &mut Patient, value: &Value) -> Result<(), Reply> {
        let what = format!("attributes on class {}", self.class);
        for given in value.as_array().map_or(&[][..], Vec::as_slice) {
            self.may_convert(&what, "value on class org.openmrs.PersonAttribute", "Get Locations")?;
            let kind = attribute_type(given.get("attributeType")).ok_or_else(|| {
                let null =
                    "Cannot invoke \"org.openmrs.PersonAttributeType.getUuid()\" because \"type\" is null";
                conversion(&what, &["attributeType on class org.openmrs.PersonAttribute", null], 751)
            })?;
            match attribute_text(given.get("value")) {
                Some(text) => {
                    let uuid =
                        given.get("uuid").and_then(Value::as_str).map_or_else(|| self.ids.next(), Id::from);
                    self.hand.set_attribute(draft, uuid, kind, &text);
                }
                None => self.hand.clear_attribute(draft, kind, "Removed"),
            }
        }
        Ok(())
    }

    fn new_identifiers(&mut self, draft: &mut Patient, given: &[Value]) -> Result<(), Reply> {
        let what = format!("identifiers {ON_PATIENT}");
        for row in given {
            self.may_convert(&what, &format!("identifierType {ON_IDENTIFIER}"), "Get Identifier Types")?;
            let (kind, location) = identifier_rows(row).map_err(|why| conversion(&what, &why, 751))?;
            let uuid = row.get("uuid").and_then(Value::as_str).map_or_else(|| self.ids.next(), Id::from);
            let value = row.get("identifier").and_then(Value::as_str).unwrap_or_default();
            self.hand.add_identifier(draft, uuid, kind, value, location);
            if row.get("preferred") == Some(&Value::Bool(true))
                && let Some(added) = draft.identifiers.last_mut()
            {
                added.preferred = true;
            }
        }
        match draft.identifiers.iter().filter(|row| row.preferred).count() {
            0 => draft.identifiers.iter_mut().take(1).for_each(|row| row.preferred = true),
            1 => {}
            _ => return Err(conversion(&what, &["Only one preferred identifier allowed"], 751)),
        }
        Ok(())
    }

    /// A missing privilege shows while the body is converted, as a 400.
    fn may_convert(&self, what: &str, inner: &str, privilege: &str) -> Result<(), Reply> {
        if self.caller.may(privilege) {
            return Ok(());
        }
        Err(conversion(what, &[inner, &format!("Privileges required: {privilege}")], 751))
    }
}

/// What is said of a property that a class does not have.
const NO_PROPERTY: &str = "Cannot invoke \"java.beans.PropertyDescriptor.getWriteMethod()\" because the return value of \
                           \"org.apache.commons.beanutils.PropertyUtils.getPropertyDescriptor(Object, String)\" is null";

/// 400: a date that cannot be read; Joda says from which place on.
pub(super) fn bad_date(what: &str, text: &str) -> Reply {
    let read = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (iso, fraction) = (text.get(4..5) == Some("-"), text.contains('.'));
    let malformed = if iso && fraction { text.find('T').unwrap_or(read) } else { read };
    let at = text.get(malformed..).filter(|rest| malformed > 0 && !rest.is_empty());
    let at = at.map(|rest| format!(" is malformed at \"{rest}\"")).unwrap_or_default();
    let format = "Error converting date - correct format (ISO8601 Long): yyyy-MM-dd'T'HH:mm:ss.SSSZ";
    conversion(what, &[format, &format!("Invalid format: \"{text}\"{at}")], 751)
}

/// The attribute type that a request names.
pub(super) fn attribute_type(value: Option<&Value>) -> Option<u16> {
    metadata().index("personattributetype", reference(value?)?)
}

/// The value of an attribute as it is stored: texts and uuids as they are, everything else as its JSON.
pub(super) fn attribute_text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => object.get("uuid").and_then(Value::as_str).map(str::to_owned),
        other => Some(other.to_string()),
    }
}

/// Type and location of an identifier in a request, or the links of the error after the first.
pub(super) fn identifier_rows(row: &Value) -> Result<(u16, Option<u16>), [&'static str; 2]> {
    let named = |table: &str, property: &str| {
        row.get(property).and_then(reference).map(|u| metadata().index(table, u))
    };
    let Some(Some(kind)) = named("patientidentifiertype", "identifierType") else {
        return Err([
            "identifierType on class org.openmrs.PatientIdentifier",
            "Cannot invoke \"org.openmrs.PatientIdentifierType.getUuid()\" because \"identifierType\" is null",
        ]);
    };
    match named("location", "location") {
        Some(None) => Err([
            "location on class org.openmrs.PatientIdentifier",
            "Cannot invoke \"org.openmrs.Location.getUuid()\" because \"location\" is null",
        ]),
        location => Ok((kind, location.flatten())),
    }
}

/// 404 where a part of a patient is not there.
pub(super) fn place_of<T>(rows: &[T], uuid: &str, id: impl Fn(&T) -> &Id) -> Result<usize, Reply> {
    let wanted = Id::from(uuid);
    rows.iter().position(|row| *id(row) == wanted).ok_or_else(no_such_object)
}
