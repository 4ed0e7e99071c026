//! Encounters with their observations, single observations, visits.

use serde_json::{Map, Value};

use super::{
    Rest, metadata_id,
    people::bad_date,
    reference,
    represent::{Rep, render},
    system::duplicate,
    things::Thing,
};
use crate::openmrs::{
    auth::null_pointer,
    http::{Answer, Reply, conversion, no_such_object, not_supported, statement_refused},
    ids::Id,
    metadata::{metadata, text},
    model::{Audit, Encounter, Obs, ObsValue, UserIx, Visit},
    time,
    validate::Errors,
};

const ON_ENCOUNTER: &str = "on class org.openmrs.Encounter";

/// What an observation takes from its encounter.
struct Around {
    patient: u32,
    encounter: Option<Id>,
    at: i64,
    location: Option<Id>,
    by: UserIx,
}

impl Rest<'_> {
    pub(super) fn encounter(&mut self, path: &[&str]) -> Answer {
        match (self.call.method.as_str(), path) {
            ("GET", []) => self.list_encounters(),
            ("GET", [uuid]) => {
                self.allow(&["Get Encounters"])?;
                let encounter = self.state.tables.encounter(uuid).ok_or_else(no_such_object)?;
                self.show(200, &Thing::Encounter(encounter))
            }
            ("POST", []) => self.create_encounter(),
            ("POST", [uuid]) => self.edit_encounter(uuid),
            ("DELETE", [uuid]) => {
                let by = self.allow(&["Delete Encounters"])?;
                let reason = self.call.param("reason").unwrap_or_default().to_owned();
                let now = self.call.now;
                let id = self.state.tables.encounter(uuid).ok_or_else(no_such_object)?.uuid.clone();
                self.state.tables.void_encounter(&id, by, now, &reason);
                Ok(Reply::no_content())
            }
            _ => Err(not_supported()),
        }
    }

    /// Oldest first unless `order=desc`; a date as `todate` is its midnight.
    fn list_encounters(&mut self) -> Answer {
        self.allow(&["Get Encounters"])?;
        let patient = self.find_patient(self.call.param("patient").ok_or_else(not_supported)?)?;
        let bound = |name: &str| self.call.param(name).and_then(time::parse_rest).map(time::instant);
        let (from, to) = (bound("fromdate"), bound("todate"));
        let kind = self.call.param("encounterType").map(Id::from);
        let mut found: Vec<&Encounter> = self
            .state
            .tables
            .encounters_of(patient)
            .filter(|row| from.is_none_or(|from| row.at >= from) && to.is_none_or(|to| row.at <= to))
            .filter(|row| kind.as_ref().is_none_or(|kind| row.kind == *kind))
            .collect();
        found.sort_by_key(|row| row.at);
        if self.call.param("order") == Some("desc") {
            found.reverse();
        }
        self.list(&found.into_iter().map(Thing::Encounter).collect::<Vec<_>>())
    }

    fn create_encounter(&mut self) -> Answer {
        let body = self.body()?;
        if !self.caller.may("Get Patients") {
            let what = format!("patient {ON_ENCOUNTER}");
            return Err(conversion(&what, &["Privileges required: Get Patients"], 751));
        }
        let now = self.call.now;
        let at = self.time_of(&body, "encounterDatetime", "org.openmrs.Encounter")?.unwrap_or(now);
        let patient = body.get("patient").and_then(reference).and_then(|uuid| self.state.tables.find(uuid));
        let kind = metadata_id("encountertype", body.get("encounterType"));
        let location = metadata_id("location", body.get("location"));
        let visit =
            body.get("visit").and_then(reference).and_then(|uuid| self.state.tables.visit(uuid)).cloned();
        let uuid = self.chosen(&body);
        let by = self.caller.user.unwrap_or_default();
        let around = Around {
            patient: patient.unwrap_or_default(),
            encounter: Some(uuid.clone()),
            at,
            location: location.clone(),
            by,
        };
        let obs = self.convert_obs(&body, &around)?;
        self.allow(&["Edit Encounters", "Add Encounters"])?;
        let mut errors = Errors::default();
        if patient.is_none() {
            errors.field("patient", "Encounter.error.patient.required", "Patient is Required", false);
        }
        if kind.is_none() {
            errors.field(
                "encounterType",
                "Encounter.error.encounterType.required",
                "Encounter type is Required",
                false,
            );
        }
        check_time(&mut errors, at, now, visit.as_ref());
        errors.rest()?;
        out_of_range(&obs).rest()?;
        let providers = self.providers(&body)?;
        if self.state.tables.encounter(&uuid.to_string()).is_some() {
            return Err(duplicate(&uuid));
        }
        let audit = Audit::new(by, now);
        let (visit, kind) = (visit.map(|visit| visit.uuid), kind.unwrap_or_else(|| uuid.clone()));
        let encounter = Encounter {
            uuid: uuid.clone(),
            patient: around.patient,
            kind,
            at,
            location,
            visit,
            providers,
            audit,
        };
        self.state.tables.insert_encounter(encounter);
        obs.into_iter().for_each(|obs| self.state.tables.insert_obs(obs));
        let encounter = self.state.tables.encounter(&uuid.to_string()).ok_or_else(no_such_object)?;
        self.show(201, &Thing::Encounter(encounter))
    }

    fn providers(&mut self, body: &Map<String, Value>) -> Result<Vec<(Id, Id, Id)>, Reply> {
        let given = body.get("encounterProviders").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut providers = Vec::new();
        for row in given {
            let Some(provider) = metadata_id("provider", row.get("provider")) else {
                return Err(statement_refused(
                    "Column 'provider_id' cannot be null",
                    "ConstraintViolationException",
                ));
            };
            let unknown = text(&metadata().table("encounterrole")[0], "uuid").into();
            let role = metadata_id("encounterrole", row.get("encounterRole")).unwrap_or(unknown);
            providers.push((self.state.tables.ids.next(), provider, role));
        }
        Ok(providers)
    }

    /// New observations are added; the answer shows only them.
    fn edit_encounter(&mut self, uuid: &str) -> Answer {
        let body = self.body()?;
        let by = self.allow(&["Edit Encounters"])?;
        let encounter = self.state.tables.encounter(uuid).ok_or_else(no_such_object)?.clone();
        let edits_fields = body.keys().any(|key| key != "obs");
        if edits_fields && self.state.tables.obs_of(&encounter.uuid).any(|obs| obs.location.is_none()) {
            let raw = "Cannot invoke \"org.openmrs.Location.equals(Object)\" because the return value of \
                       \"org.openmrs.Obs.getLocation()\" is null";
            return null_pointer(raw, "org.openmrs.api.impl.EncounterServiceImpl:148");
        }
        let mut edited = encounter.clone();
        if let Some(at) = self.time_of(&body, "encounterDatetime", "org.openmrs.Encounter")? {
            edited.at = at;
        }
        if body.contains_key("location") {
            edited.location = metadata_id("location", body.get("location"));
        }
        if let Some(kind) = metadata_id("encountertype", body.get("encounterType")) {
            edited.kind = kind;
        }
        let mut errors = Errors::default();
        let visit = edited.visit.as_ref().and_then(|id| self.state.tables.visit(&id.to_string()));
        check_time(&mut errors, edited.at, self.call.now, visit);
        errors.rest()?;
        let around = Around {
            patient: edited.patient,
            encounter: Some(edited.uuid.clone()),
            at: edited.at,
            location: edited.location.clone(),
            by,
        };
        let added = self.convert_obs(&body, &around)?;
        out_of_range(&added).rest()?;
        if edited != encounter {
            edited.audit.change(by, self.call.now);
        }
        let top: Vec<Id> =
            added.iter().filter(|obs| obs.parent.is_none()).map(|obs| obs.uuid.clone()).collect();
        added.into_iter().for_each(|obs| self.state.tables.insert_obs(obs));
        self.state.tables.encounter_mut(uuid).into_iter().for_each(|row| *row = edited.clone());
        let shown = self.state.tables.encounter(uuid).ok_or_else(no_such_object)?;
        let rep = Rep::asked(self.call.param("v"))?;
        let mut answer = render(&Thing::Encounter(shown), &rep, self.view())?;
        if !top.is_empty()
            && let Some(list) = answer.get_mut("obs").and_then(Value::as_array_mut)
        {
            list.retain(|obs| obs["uuid"].as_str().is_some_and(|uuid| top.contains(&uuid.into())));
        }
        Ok(Reply::rest(200, &answer))
    }

    fn convert_obs(&mut self, body: &Map<String, Value>, around: &Around) -> Result<Vec<Obs>, Reply> {
        let mut rows = Vec::new();
        for given in body.get("obs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice) {
            let what = format!("obs {ON_ENCOUNTER}");
            self.one_obs(given, around, None, &mut rows)
                .map_err(|why| conversion(&what, &["value on class org.openmrs.Obs", &why], 751))?;
        }
        Ok(rows)
    }

    fn one_obs(
        &mut self,
        given: &Value,
        around: &Around,
        parent: Option<Id>,
        rows: &mut Vec<Obs>,
    ) -> Result<(), String> {
        let concept =
            given.get("concept").and_then(reference).and_then(|uuid| metadata().row("concept", uuid));
        let Some(concept) = concept else {
            return Err("Cannot invoke \"org.openmrs.Concept.getDatatype()\" because the return value of \
                        \"org.openmrs.Obs.getConcept()\" is null"
                .to_owned());
        };
        let members = given.get("groupMembers").and_then(Value::as_array);
        let value = match members {
            Some(_) => ObsValue::Group,
            None => obs_value(concept, given.get("value").unwrap_or(&Value::Null))?,
        };
        let uuid = match given.get("uuid").and_then(Value::as_str) {
            Some(uuid) => uuid.into(),
            None => self.state.tables.ids.next(),
        };
        let range = self.state.tables.ids.next();
        rows.push(Obs {
            uuid: uuid.clone(),
            concept: text(concept, "uuid").into(),
            patient: around.patient,
            encounter: around.encounter.clone(),
            at: around.at,
            location: around.location.clone(),
            value,
            parent,
            amended: false,
            range,
            audit: Audit::new(around.by, self.call.now),
        });
        for member in members.map_or(&[][..], Vec::as_slice) {
            self.one_obs(member, around, Some(uuid.clone()), rows)?;
        }
        Ok(())
    }

    pub(super) fn obs(&mut self, path: &[&str]) -> Answer {
        match (self.call.method.as_str(), path) {
            ("GET", [uuid]) => {
                self.allow(&["Get Observations"])?;
                let obs = self.state.tables.find_obs(uuid).ok_or_else(no_such_object)?;
                self.show(200, &Thing::Obs(obs))
            }
            ("GET", []) => {
                self.allow(&["Get Observations"])?;
                let patient = self.find_patient(self.call.param("patient").ok_or_else(not_supported)?)?;
                let concept = self.call.param("concept").map(Id::from);
                let rows = self.state.tables.obs.iter().filter(|obs| {
                    obs.patient == patient
                        && !obs.audit.is_voided()
                        && concept.as_ref().is_none_or(|concept| obs.concept == *concept)
                });
                self.list(&rows.map(Thing::Obs).collect::<Vec<_>>())
            }
            ("POST", []) => self.create_obs(),
            ("POST", [uuid]) => self.amend_obs(uuid),
            ("DELETE", [uuid]) => {
                let by = self.allow(&["Delete Observations"])?;
                let (now, reason) = (self.call.now, self.call.param("reason").unwrap_or_default());
                let obs = self.state.tables.obs_mut(&Id::from(*uuid)).ok_or_else(no_such_object)?;
                obs.audit.void(by, now, reason);
                Ok(Reply::no_content())
            }
            _ => Err(not_supported()),
        }
    }

    /// A single observation does not take the location of its encounter.
    fn create_obs(&mut self) -> Answer {
        let body = self.body()?;
        let by = self.allow(&["Add Observations", "Edit Observations"])?;
        let patient = self.find_patient(body.get("person").and_then(reference).unwrap_or_default())?;
        let encounter =
            body.get("encounter").and_then(reference).and_then(|uuid| self.state.tables.encounter(uuid));
        let around = Around {
            patient,
            encounter: encounter.map(|row| row.uuid.clone()),
            at: self.time_of(&body, "obsDatetime", "org.openmrs.Obs")?.unwrap_or(self.call.now),
            location: metadata_id("location", body.get("location")),
            by,
        };
        let mut rows = Vec::new();
        self.one_obs(&Value::Object(body), &around, None, &mut rows)
            .map_err(|why| conversion("value on class org.openmrs.Obs", &[&why], 751))?;
        out_of_range(&rows).rest()?;
        let uuid = rows[0].uuid.clone();
        if self.state.tables.find_obs(&uuid.to_string()).is_some() {
            return Err(duplicate(&uuid));
        }
        rows.into_iter().for_each(|obs| self.state.tables.insert_obs(obs));
        let obs = self.state.tables.find_obs(&uuid.to_string()).ok_or_else(no_such_object)?;
        self.show(201, &Thing::Obs(obs))
    }

    /// The old row is voided, the answer has another uuid.
    fn amend_obs(&mut self, uuid: &str) -> Answer {
        let body = self.body()?;
        let by = self.allow(&["Edit Observations"])?;
        let old = self.state.tables.find_obs(uuid).ok_or_else(no_such_object)?.clone();
        let concept = metadata().row("concept", &old.concept.to_string()).ok_or_else(no_such_object)?;
        let mut amended = Obs {
            uuid: self.state.tables.ids.next(),
            range: self.state.tables.ids.next(),
            amended: true,
            audit: Audit::new(by, self.call.now),
            ..old.clone()
        };
        if let Some(value) = body.get("value") {
            amended.value = obs_value(concept, value)
                .map_err(|why| conversion("value on class org.openmrs.Obs", &[&why], 751))?;
        }
        out_of_range(std::slice::from_ref(&amended)).rest()?;
        let now = self.call.now;
        self.state.tables.obs_mut(&old.uuid).into_iter().for_each(|obs| obs.audit.void(by, now, "Amended"));
        let new = amended.uuid.to_string();
        self.state.tables.insert_obs(amended);
        self.show(200, &Thing::Obs(self.state.tables.find_obs(&new).ok_or_else(no_such_object)?))
    }

    pub(super) fn visit(&mut self, path: &[&str]) -> Answer {
        match (self.call.method.as_str(), path) {
            ("GET", [uuid]) => {
                self.allow(&["Get Visits"])?;
                self.show(200, &Thing::Visit(self.state.tables.visit(uuid).ok_or_else(no_such_object)?))
            }
            ("GET", []) => {
                self.allow(&["Get Visits"])?;
                let patient = self.find_patient(self.call.param("patient").ok_or_else(not_supported)?)?;
                let of = self.state.tables.visits.iter();
                let rows = of.filter(|visit| visit.patient == patient && !visit.audit.is_voided());
                self.list(&rows.map(Thing::Visit).collect::<Vec<_>>())
            }
            ("POST", []) => {
                let body = self.body()?;
                let by = self.allow(&["Add Visits", "Edit Visits"])?;
                let patient =
                    self.find_patient(body.get("patient").and_then(reference).unwrap_or_default())?;
                let kind = metadata_id("visittype", body.get("visitType")).ok_or_else(no_such_object)?;
                let start =
                    self.time_of(&body, "startDatetime", "org.openmrs.Visit")?.unwrap_or(self.call.now);
                let stop = self.time_of(&body, "stopDatetime", "org.openmrs.Visit")?;
                let location = metadata_id("location", body.get("location"));
                let uuid = self.chosen(&body);
                let shown = uuid.to_string();
                if self.state.tables.visit(&shown).is_some() {
                    return Err(duplicate(&uuid));
                }
                let audit = Audit::new(by, self.call.now);
                self.state.tables.visits.push(Visit { uuid, patient, kind, start, stop, location, audit });
                self.show(201, &Thing::Visit(self.state.tables.visit(&shown).ok_or_else(no_such_object)?))
            }
            _ => Err(not_supported()),
        }
    }

    fn time_of(&self, body: &Map<String, Value>, property: &str, class: &str) -> Result<Option<i64>, Reply> {
        let Some(text) = body.get(property).and_then(Value::as_str) else { return Ok(None) };
        let read = time::parse_rest(text).map(time::instant);
        read.map(Some).ok_or_else(|| bad_date(&format!("{property} on class {class}"), text))
    }
}

/// What the server says of the time of an encounter.
pub fn check_time(errors: &mut Errors, at: i64, now: i64, visit: Option<&Visit>) {
    if at > now {
        let message = "The encounter datetime should be before the current date.";
        errors.field("encounterDatetime", "Encounter.datetimeShouldBeBeforeCurrent", message, false);
    }
    if visit.is_some_and(|visit| at < visit.start || visit.stop.is_some_and(|stop| at > stop)) {
        let message = "The encounter datetime should be between the visit start and stop dates.";
        errors.field("encounterDatetime", "Encounter.datetimeShouldBeInVisitDatesRange", message, false);
    }
}

/// What the server says of numbers outside the range of their concept.
pub fn out_of_range(rows: &[Obs]) -> Errors {
    let mut errors = Errors::default();
    for obs in rows {
        let ObsValue::Number(number) = obs.value else { continue };
        let concept = metadata().row("concept", &obs.concept.to_string());
        let bound = |key: &str| concept.and_then(|row| row[key].as_f64());
        let code = if bound("hiAbsolute").is_some_and(|bound| number > bound) {
            "error.value.outOfRange.high"
        } else if bound("lowAbsolute").is_some_and(|bound| number < bound) {
            "error.value.outOfRange.low"
        } else {
            continue;
        };
        errors.field("valueNumeric", code, code, false);
    }
    errors
}

fn obs_value(concept: &Value, value: &Value) -> Result<ObsValue, String> {
    let display = text(concept, "display");
    let written = value.as_str();
    if value.is_null() {
        return Err("The value for an observation cannot be null".to_owned());
    }
    if written == Some("") {
        return Err(format!("Cannot set value to a empty string for concept: {display}"));
    }
    Ok(match text(&concept["datatype"], "name") {
        "Numeric" => {
            let text = written.unwrap_or_default();
            let number = text.strip_suffix(text_of(&concept["units"])).unwrap_or(text).trim();
            let number = value.as_f64().or_else(|| number.parse().ok());
            ObsValue::Number(
                number.ok_or_else(|| format!("{text} has invalid units => For input string: \"{text}\""))?,
            )
        }
        "Coded" => {
            let uuid = reference(value).unwrap_or_default();
            ObsValue::Coded(
                text(metadata().row("concept", uuid).ok_or("No answer concept has that uuid")?, "uuid")
                    .into(),
            )
        }
        "Boolean" => ObsValue::Boolean(match value.as_bool() {
            Some(yes) => yes,
            None => matches!(written.unwrap_or_default(), "true" | "yes" | "on" | "1"),
        }),
        "Datetime" | "Date" => {
            let at = time::parse_rest(written.unwrap_or_default()).ok_or("The date cannot be read")?;
            ObsValue::Time(time::instant(at))
        }
        _ => ObsValue::Text(written.map_or_else(|| value.to_string(), str::to_owned)),
    })
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
