//! Encounters, visits, observations, locations and practitioners as FHIR shows them, and writes of the first three.

use serde_json::{Value, json};

use super::{
    Fhir, failed, meta,
    patient::{EXT, location_reference, patient_reference},
    reference_id, stamped, unknown,
};
use crate::openmrs::{
    http::{Answer, Reply, processing},
    ids::Id,
    metadata::{User, metadata, text},
    model::{Audit, Encounter, Obs, ObsValue, UserIx, Visit},
    rest::values,
    rest::{check_time, out_of_range},
    tables::Tables,
    time,
    validate::Errors,
};

/// When the one provider was made.
pub const PROVIDER_STAMP: i64 = 1_795_518_617_000;

const TYPES: &str = "http://fhir.openmrs.org/code-system";

fn visit_like(uuid: &Id, audit: &Audit, tag: (&str, &str), kind: (&str, &str, &Id)) -> Value {
    let mut meta = meta(audit);
    meta["tag"] = json!([{"system": format!("{EXT}/encounter-tag"), "code": tag.0, "display": tag.1}]);
    let name = values::name_of(kind.1, kind.2);
    json!({
        "resourceType": "Encounter",
        "id": uuid,
        "meta": meta,
        "status": "unknown",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "type": [{"coding": [{"system": format!("{TYPES}/{}", kind.0), "code": kind.2, "display": name}]}],
    })
}

/// An encounter; it has a start and no end.
pub fn encounter(row: &Encounter, tables: &Tables) -> Value {
    let kind = ("encounter-type", "encountertype", &row.kind);
    let mut shown = visit_like(&row.uuid, &row.audit, ("encounter", "Encounter"), kind);
    shown["subject"] = patient_reference(tables.patient(row.patient));
    shown["period"] = json!({"start": time::fhir_datetime(row.at)});
    let participants: Vec<Value> = row
        .providers
        .iter()
        .map(|(_, provider, _)| {
            let found = metadata().row("provider", &provider.to_string());
            let part = |key: &str| found.map(|row| row[key].clone()).unwrap_or_default();
            json!({"individual": {
                "reference": format!("Practitioner/{provider}"),
                "type": "Practitioner",
                "identifier": {"value": part("identifier")},
                "display": found.map(|row| row["person"]["display"].clone()),
            }})
        })
        .collect();
    if !participants.is_empty() {
        shown["participant"] = participants.into();
    }
    located(&mut shown, row.location.as_ref());
    if let Some(visit) = &row.visit {
        shown["partOf"] = json!({"reference": format!("Encounter/{visit}"), "type": "Encounter"});
    }
    shown
}

/// A visit, which FHIR calls an encounter too.
pub fn visit(row: &Visit, tables: &Tables) -> Value {
    let mut shown =
        visit_like(&row.uuid, &row.audit, ("visit", "Visit"), ("visit-type", "visittype", &row.kind));
    shown["subject"] = patient_reference(tables.patient(row.patient));
    shown["period"] = json!({"start": time::fhir_datetime(row.start)});
    if let Some(stop) = row.stop {
        shown["period"]["end"] = time::fhir_datetime(stop).into();
    }
    located(&mut shown, row.location.as_ref());
    shown
}

fn located(shown: &mut Value, location: Option<&Id>) {
    if let Some(location) = location {
        shown["location"] = json!([{"location": location_reference(&location.to_string())}]);
    }
}

/// A concept, by its uuid and name.
pub fn concept(id: &Id) -> Value {
    let name = values::name_of("concept", id);
    json!({"coding": [{"code": id, "display": name}], "text": name})
}

/// An observation, versioned by its creation.
pub fn observation(row: &Obs, tables: &Tables) -> Value {
    let mut shown = json!({
        "resourceType": "Observation",
        "id": row.uuid,
        "meta": stamped(row.audit.created),
        "status": if row.amended { "amended" } else { "final" },
        "code": concept(&row.concept),
        "subject": patient_reference(tables.patient(row.patient)),
        "effectiveDateTime": time::fhir_datetime(row.at),
        "issued": time::fhir_instant(row.audit.created),
    });
    if let Some(encounter) = &row.encounter {
        shown["encounter"] = json!({"reference": format!("Encounter/{encounter}"), "type": "Encounter"});
    }
    match &row.value {
        ObsValue::Group => {
            shown["valueString"] = values::obs_text(row, tables).into();
            let members = tables.members(row).into_iter();
            let reference =
                |id: &Id| json!({"reference": format!("Observation/{id}"), "type": "Observation"});
            shown["hasMember"] = members.map(|member| reference(&member.uuid)).collect();
        }
        ObsValue::Number(number) => {
            let found = metadata().row("concept", &row.concept.to_string());
            let part = |key: &str| found.map(|row| row[key].clone()).unwrap_or_default();
            shown["valueQuantity"] = json!({"value": number, "unit": part("units")});
            if part("units") == "kg" {
                shown["valueQuantity"]["system"] = "http://unitsofmeasure.org".into();
                shown["valueQuantity"]["code"] = "kg".into();
            }
            let coding = json!({"system": format!("{EXT}/obs/reference-range"), "code": "absolute"});
            shown["referenceRange"] = json!([{
                "low": {"value": part("lowAbsolute")},
                "high": {"value": part("hiAbsolute")},
                "type": {"coding": [coding]},
            }]);
        }
        ObsValue::Text(text) => shown["valueString"] = text.as_str().into(),
        ObsValue::Coded(answer) => shown["valueCodeableConcept"] = concept(answer),
        ObsValue::Boolean(yes) => shown["valueBoolean"] = (*yes).into(),
        ObsValue::Time(at) => shown["valueDateTime"] = time::fhir_datetime(*at).into(),
    }
    shown
}

/// A location; a negative latitude is dropped, the longitude alone stays.
pub fn location(row: &Value) -> Value {
    let mut shown = json!({
        "resourceType": "Location",
        "id": row["uuid"],
        "meta": stamped(row["stamp"].as_i64().unwrap_or_default()),
        "status": "active",
        "name": row["name"],
    });
    if let Some(description) = row["description"].as_str() {
        shown["description"] = description.into();
    }
    for (element, field) in [("city", "cityVillage"), ("state", "stateProvince"), ("country", "country")] {
        if let Some(value) = row[field].as_str().filter(|value| !value.is_empty()) {
            shown["address"][element] = value.into();
        }
    }
    for key in ["latitude", "longitude"] {
        let degrees = text(row, key).parse::<f64>().ok().filter(|degrees| *degrees >= 0.0);
        if let Some(degrees) = degrees {
            shown["position"][key] = degrees.into();
        }
    }
    shown
}

fn practitioner(id: &str, stamp: i64, identifier: (&str, &str), user: &User) -> Value {
    json!({
        "resourceType": "Practitioner",
        "id": id,
        "meta": stamped(stamp),
        "identifier": [{"system": format!("{EXT}/{}/identifier", identifier.0), "value": identifier.1}],
        "name": [{
            "id": user.name_uuid,
            "text": format!("{} {}", user.given, user.family),
            "family": user.family,
            "given": [user.given],
        }],
        "gender": user.gender,
    })
}

/// A provider; its person is that of a user.
pub fn provider(row: &Value) -> Value {
    let id = text(row, "uuid");
    let person = metadata().users.iter().find(|user| user.provider.as_deref() == Some(id));
    let user = person.unwrap_or(&metadata().users[0]);
    let mut shown = practitioner(id, PROVIDER_STAMP, ("provider", text(row, "identifier")), user);
    shown["active"] = true.into();
    shown
}

/// A user, which every search of practitioners appends.
pub fn user(user: &User) -> Value {
    practitioner(&user.uuid, user.stamp, ("user", &user.system_id), user)
}

fn concept_id(given: &Value) -> Option<Id> {
    let codings = given["coding"].as_array()?;
    let codes = codings
        .iter()
        .filter(|coding| coding["system"].is_null())
        .filter_map(|coding| coding["code"].as_str());
    codes.filter(|code| metadata().row("concept", code).is_some()).map(Id::from).next()
}

impl Fhir<'_> {
    /// Status, end and identifiers are not kept; the system of the type says whether it is an encounter or a visit.
    pub(super) fn create_encounter(&mut self) -> Answer {
        let body = self.resource("CREATE")?;
        let by = self.allow(&["Add Encounters", "Edit Encounters"])?;
        let codings = body["type"].as_array().into_iter().flatten();
        let codings: Vec<&Value> =
            codings.flat_map(|kind| kind["coding"].as_array().into_iter().flatten()).collect();
        let of = |kind: &str| codings.iter().find(|coding| coding["system"] == format!("{TYPES}/{kind}"));
        let (encounter_kind, visit_kind) = (of("encounter-type"), of("visit-type"));
        let patient = reference_id(&body["subject"]).and_then(|id| self.state.tables.find(id));
        let moment = |key: &str| {
            let text = body["period"][key].as_str()?;
            time::fhir_range(text).map(|(start, _)| start)
        };
        let now = self.call.now;
        let start = moment("start").unwrap_or(now);
        let location = reference_id(&body["location"][0]["location"]);
        let location = location.filter(|id| metadata().row("location", id).is_some()).map(Id::from);
        let uuid = self.state.tables.ids.next();
        let audit = Audit::new(by, now);
        let mut errors = Errors::default();
        if patient.is_none() {
            errors.field("patient", "Encounter.error.patient.required", "Patient is Required", false);
        }
        let patient = patient.unwrap_or_default();
        match (encounter_kind, visit_kind) {
            (Some(coding), None) => {
                let visit = reference_id(&body["partOf"]).and_then(|id| self.state.tables.visit(id));
                check_time(&mut errors, start, now, visit);
                errors.fhir("Encounter#null")?;
                let visit = visit.map(|visit| visit.uuid.clone());
                let kind = text(coding, "code").into();
                let providers = self.participants(&body);
                let row = Encounter {
                    uuid: uuid.clone(),
                    patient,
                    kind,
                    at: start,
                    location,
                    visit,
                    providers,
                    audit,
                };
                self.state.tables.insert_encounter(row);
            }
            (None, Some(coding)) => {
                errors.fhir("Visit#null")?;
                let (kind, stop) = (text(coding, "code").into(), moment("end"));
                self.state.tables.visits.push(Visit {
                    uuid: uuid.clone(),
                    patient,
                    kind,
                    start,
                    stop,
                    location,
                    audit,
                });
            }
            _ => return Err(processing(400, "Invalid type of request")),
        }
        self.created("Encounter", &uuid)
    }

    fn participants(&mut self, body: &Value) -> Vec<(Id, Id, Id)> {
        let given = body["participant"].as_array().into_iter().flatten();
        let providers = given.filter_map(|one| reference_id(&one["individual"]));
        let known = providers.filter(|id| metadata().row("provider", id).is_some()).map(Id::from);
        let role = text(&metadata().table("encounterrole")[0], "uuid");
        let ids = &mut self.state.tables.ids;
        known.map(|provider| (ids.next(), provider, role.into())).collect()
    }

    /// Each PUT adds the providers once more, and without a location clears it.
    pub(super) fn put_encounter(&mut self, id: &str) -> Answer {
        let body = self.resource("UPDATE")?;
        let by = self.allow(&["Edit Encounters"])?;
        let added = self.participants(&body);
        let now = self.call.now;
        let row = self.state.tables.encounter_mut(id).ok_or_else(|| unknown("Encounter", id))?;
        let location = reference_id(&body["location"][0]["location"]).map(Id::from);
        if row.location != location {
            row.location = location;
            row.audit.change(by, now);
        }
        row.providers.extend(added);
        self.updated("Encounter", id)
    }

    fn obs_of_body(&mut self, body: &Value, by: UserIx) -> Result<Obs, Reply> {
        let mut errors = Errors::default();
        let concept = concept_id(&body["code"]);
        let patient = reference_id(&body["subject"]).and_then(|id| self.state.tables.find(id));
        if patient.is_none() {
            errors.field("person", "error.null", "Cannot be empty or null", false);
        }
        if concept.is_none() {
            errors.field("concept", "error.null", "Cannot be empty or null", false);
        }
        errors.fhir("obs id is null")?;
        let number = body["valueQuantity"]["value"].as_f64().or(body["valueInteger"].as_f64());
        let moment = |key: &str| body[key].as_str().and_then(time::fhir_range).map(|(start, _)| start);
        let value = number
            .map(ObsValue::Number)
            .or_else(|| body["valueString"].as_str().map(|text| ObsValue::Text(text.to_owned())))
            .or_else(|| body["valueBoolean"].as_bool().map(ObsValue::Boolean))
            .or_else(|| concept_id(&body["valueCodeableConcept"]).map(ObsValue::Coded))
            .or_else(|| moment("valueDateTime").map(ObsValue::Time))
            .unwrap_or(ObsValue::Group);
        let encounter = reference_id(&body["encounter"]).and_then(|id| self.state.tables.encounter(id));
        let (encounter, location) =
            (encounter.map(|row| row.uuid.clone()), encounter.and_then(|row| row.location.clone()));
        let ids = &mut self.state.tables.ids;
        Ok(Obs {
            uuid: ids.next(),
            concept: concept.unwrap_or_else(|| "".into()),
            patient: patient.unwrap_or_default(),
            encounter,
            at: moment("effectiveDateTime").unwrap_or(self.call.now),
            location,
            value,
            parent: None,
            amended: false,
            range: ids.next(),
            audit: Audit::new(by, self.call.now),
        })
    }

    /// The unit of a quantity is not looked at.
    pub(super) fn create_observation(&mut self) -> Answer {
        let body = self.resource("CREATE")?;
        let by = self.allow(&["Add Observations", "Edit Observations"])?;
        let obs = self.obs_of_body(&body, by)?;
        out_of_range(std::slice::from_ref(&obs)).fhir("obs id is null")?;
        let uuid = obs.uuid.clone();
        self.state.tables.insert_obs(obs);
        self.created("Observation", &uuid)
    }

    /// The old row is voided, the answer has another id; just after the update it lacks unit and range.
    pub(super) fn put_observation(&mut self, id: &str) -> Answer {
        let body = self.resource("UPDATE")?;
        let by = self.allow(&["Edit Observations"])?;
        let old = self.state.tables.find_obs(id).ok_or_else(|| unknown("Observation", id))?.uuid.clone();
        let mut obs = self.obs_of_body(&body, by)?;
        obs.amended = true;
        out_of_range(std::slice::from_ref(&obs)).fhir("obs id is null")?;
        let (uuid, now) = (obs.uuid.to_string(), self.call.now);
        self.state
            .tables
            .obs_mut(&old)
            .into_iter()
            .for_each(|row| row.audit.void(by, now, "Updated via the FHIR2 API"));
        self.state.tables.insert_obs(obs);
        let reply = self.updated("Observation", &uuid)?;
        let mut shown: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if let Some(object) = shown.as_object_mut() {
            object.remove("referenceRange");
        }
        if let Some(quantity) = shown["valueQuantity"].as_object_mut() {
            quantity.retain(|key, _| key == "value");
        }
        if shown["valueQuantity"].is_null() {
            shown.as_object_mut().map(|object| object.remove("valueQuantity"));
        }
        Ok(Reply { body: serde_json::to_vec(&shown).unwrap_or_default(), ..reply })
    }

    /// A clinical status without its system is a 500; conditions are not kept here.
    pub(super) fn create_condition(&mut self) -> Answer {
        let body = self.resource("CREATE")?;
        if body["clinicalStatus"]["coding"][0]["system"].is_null() {
            let why = "java.lang.NullPointerException: Cannot invoke \"String.equals(Object)\" because the return value of \
                       \"org.hl7.fhir.r4.model.Coding.getSystem()\" is null";
            return Err(failed(why));
        }
        Err(crate::openmrs::http::unserved("POST operation[Condition]", &[]))
    }
}
