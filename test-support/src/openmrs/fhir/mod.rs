//! The FHIR2 module (R4): which provider serves a request, and reads of one resource.

mod clinical;
mod filter;
mod group;
mod patient;
mod search;
mod show;
mod task;
mod write;
mod xml;

use serde_json::{Value, json};

use super::{
    State,
    auth::Caller,
    edit::Hand,
    http::{Answer, Call, Reply, html, processing, unserved},
    ids::Id,
    metadata::metadata,
    model::{Audit, UserIx},
    time,
};
pub(super) use search::Search;
use show::{Item, Style};
pub(super) use task::kept as kept_of_task;

/// One FHIR request at work.
pub(super) struct Fhir<'a> {
    pub state: &'a mut State,
    pub call: &'a Call,
    pub caller: &'a Caller,
    /// Base of links: origin and path up to `R4`.
    pub base: String,
}

const KNOWN: &str = "Condition, Group, Immunization, MedicationRequest, Task, MedicationDispense, Patient, DiagnosticReport, \
                     ServiceRequest, RelatedPerson, Practitioner, AllergyIntolerance, EpisodeOfCare, Observation, \
                     Medication, Encounter, ValueSet, Person, OperationDefinition, Location";

/// Answers a request below `/openmrs/ws/fhir2/R4`.
pub(super) fn answer(state: &mut State, call: &Call, caller: &Caller, path: &str) -> Answer {
    let origin = state.switches.links_origin.clone().unwrap_or_else(|| call.fhir_origin());
    let base = format!("{origin}/openmrs/ws/fhir2/R4");
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if segments == ["metadata"] {
        return Ok(capability(&origin, &base));
    }
    if caller.user.is_none() {
        return Err(html(401, "Not authenticated"));
    }
    let mut fhir = Fhir { state, call, caller, base };
    let resource = segments.first().copied().unwrap_or_default();
    if !resource.is_empty() && !KNOWN.split(", ").any(|known| known == resource) {
        let known =
            format!("HAPI-0302: Unknown resource type '{resource}' - Server knows how to handle: [{KNOWN}]");
        return Err(processing(404, &known));
    }
    match (call.method.as_str(), segments.as_slice()) {
        ("GET", []) if call.param("_getpages").is_some() => fhir.page(),
        (_, []) => {
            let why = "HAPI-0287: This is the base URL of FHIR server. Unable to handle this request, as it does not contain \
                       a resource type or operation name.";
            Err(processing(400, why))
        }
        ("GET", [resource]) => fhir.search(resource, call.query.clone()),
        ("POST", [resource, "_search"]) => {
            let form = String::from_utf8_lossy(&call.body);
            let query = call.query.iter().cloned().chain(super::http::pairs(&form)).collect();
            fhir.search(resource, query)
        }
        ("GET", ["Patient", id, "$everything"]) => fhir.everything(id),
        ("GET", [resource, id]) => fhir.read(resource, id),
        ("POST", ["Patient"]) => fhir.create_patient(),
        ("PUT", ["Patient", id]) => fhir.put_patient(id),
        ("PATCH", ["Patient", id]) => fhir.patch_patient(id),
        ("DELETE", ["Patient", id]) => fhir.delete_patient(id),
        ("POST", ["Encounter"]) => fhir.create_encounter(),
        ("PUT", ["Encounter", id]) => fhir.put_encounter(id),
        ("POST", ["Observation"]) => fhir.create_observation(),
        ("PUT", ["Observation", id]) => fhir.put_observation(id),
        ("POST", ["Task"]) => fhir.create_task(),
        ("PUT", ["Task", id]) => fhir.put_task(id),
        ("POST", ["Group"]) => fhir.create_group(),
        ("POST", ["Condition"]) => fhir.create_condition(),
        _ => Err(unserved(&format!("{} operation[{}]", call.method, segments.join("/")), &[])),
    }
}

/// The statement needs no login.
fn capability(origin: &str, base: &str) -> Reply {
    let text = include_str!("capability.json").replace("{origin}", origin);
    let statement: Value = serde_json::from_str(&text).unwrap_or_default();
    let id = statement["id"].as_str().unwrap_or_default().to_owned();
    Reply::fhir(200, &statement).with("content-location", format!("{base}/CapabilityStatement/{id}"))
}

/// Who may read a kind of resource; nothing is asked for a task.
fn privilege(resource: &str) -> Option<&'static str> {
    Some(match resource {
        "Patient" | "Person" => "Get Patients",
        "Encounter" => "Get Encounters",
        "Observation" => "Get Observations",
        "Practitioner" => "Get Providers",
        "Location" => "Get Locations",
        "RelatedPerson" => "Get Relationships",
        "Group" => "Get Patient Cohorts",
        _ => return None,
    })
}

impl Fhir<'_> {
    fn hand(&self, by: UserIx) -> Hand<'_> {
        Hand { by, now: self.call.now, switches: &self.state.switches }
    }

    /// The user, if it has one of the privileges.
    fn allow(&self, privileges: &[&str]) -> Result<UserIx, Reply> {
        self.caller.fhir(privileges, !self.state.switches.fhir_checks_no_privilege)
    }

    fn may_read(&self, resource: &str) -> Result<(), Reply> {
        privilege(resource).map_or(Ok(()), |needed| self.allow(&[needed]).map(|_| ()))
    }

    fn find(&self, resource: &str, id: &str) -> Option<Item<'_>> {
        let (tables, wanted) = (&self.state.tables, Id::from(id));
        match resource {
            "Patient" => tables.find(id).map(|at| Item::Patient(tables.patient(at))),
            "Encounter" => match tables.encounter(id) {
                Some(row) => Some(Item::Encounter(row)),
                None => tables.visit(id).map(Item::Visit),
            },
            "Observation" => tables.find_obs(id).map(Item::Obs),
            "Task" => tables.tasks.iter().find(|row| row.uuid == wanted).map(Item::Task),
            "Group" => tables.cohorts.iter().find(|row| row.uuid == wanted).map(Item::Group),
            "RelatedPerson" => tables.relationships.iter().find(|row| row.uuid == wanted).map(Item::Related),
            "Location" => metadata().row("location", id).map(Item::Location),
            "Practitioner" => match metadata().row("provider", id) {
                Some(row) => Some(Item::Provider(row)),
                None => metadata().users.iter().find(|user| user.uuid == id).map(Item::User),
            },
            _ => None,
        }
    }

    fn read(&mut self, resource: &str, id: &str) -> Answer {
        self.may_read(resource)?;
        let item = self.find(resource, id).ok_or_else(|| unknown(resource, id))?;
        if item.is_voided() {
            return Err(gone(resource, id));
        }
        let style = Style::of(&self.call.query)?;
        let shown = self.show(&item, &style)?;
        if let Some(stamp) = item.stamp()
            && self.call.header("if-none-match") == etag(stamp)
        {
            return Ok(Reply::empty(304));
        }
        if self.call.header("accept").contains("xml") {
            return Ok(self.located(xml::reply(&shown), resource, id, item.stamp()));
        }
        Ok(self.located(Reply::fhir(200, &shown), resource, id, item.stamp()))
    }

    /// The headers of an answer that is one resource.
    fn located(&self, reply: Reply, resource: &str, id: &str, stamp: Option<i64>) -> Reply {
        let reply = reply.with("content-location", format!("{}/{resource}/{id}", self.base));
        match stamp {
            Some(stamp) => reply.with("etag", etag(stamp)).with("last-modified", time::http_date(stamp)),
            None => reply,
        }
    }

    /// A new resource, as the answer to its POST.
    fn created(&self, resource: &str, id: &Id) -> Answer {
        let id = id.to_string();
        let item = self.find(resource, &id).ok_or_else(|| unknown(resource, &id))?;
        let reply = Reply::fhir(201, &self.show(&item, &Style::default())?);
        let location = format!("{}/{resource}/{id}", self.base);
        Ok(self.located(reply, resource, &id, item.stamp()).with("location", location))
    }

    /// An edited resource, as the answer to its PUT.
    fn updated(&self, resource: &str, id: &str) -> Answer {
        let item = self.find(resource, id).ok_or_else(|| unknown(resource, id))?;
        let reply = Reply::fhir(200, &self.show(&item, &Style::default())?);
        Ok(self.located(reply, resource, id, item.stamp()))
    }

    /// The resource in the body of a write.
    fn resource(&self, operation: &str) -> Result<Value, Reply> {
        let kind = self.call.header("content-type");
        if kind.is_empty() {
            let why = "HAPI-0448: No Content-Type header was provided in the request. This is required for";
            return Err(processing(400, &format!("{why} \"{operation}\" operation")));
        }
        if !kind.contains("json") {
            let why = format!(
                "HAPI-0449: Incorrect Content-Type header value of \"{kind}\" was provided in the request. A FHIR \
                 Content-Type is required for \"{operation}\" operation"
            );
            return Err(processing(400, &why));
        }
        let body: Value = serde_json::from_slice(&self.call.body).map_err(|error| {
            let place = if error.is_eof() { self.call.body.len() + 1 } else { error.column() };
            let why = format!(
                "HAPI-1861: Failed to parse JSON encoded FHIR content: Unexpected end-of-input within/between Object \
                 entries\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {}, \
                 column: {place}]",
                error.line()
            );
            unparsed(&why)
        })?;
        if !body.is_object() {
            let why = "HAPI-1861: Failed to parse JSON encoded FHIR content: Content does not appear to be FHIR JSON, first \
                       non-whitespace character was not '{'";
            return Err(unparsed(why));
        }
        Ok(body)
    }
}

fn etag(stamp: i64) -> String {
    format!("W/\"{stamp}\"")
}

fn meta(audit: &Audit) -> Value {
    stamped(audit.stamp())
}

fn stamped(stamp: i64) -> Value {
    json!({"versionId": stamp.to_string(), "lastUpdated": time::fhir_instant(stamp)})
}

fn unknown(resource: &str, id: &str) -> Reply {
    processing(404, &format!("Resource of type {resource} with ID {id} is not known"))
}

fn gone(resource: &str, id: &str) -> Reply {
    processing(410, &format!("Resource of type {resource} with ID {id} is gone/deleted"))
}

fn unparsed(why: &str) -> Reply {
    processing(400, &format!("HAPI-0450: Failed to parse request body as JSON resource. Error was: {why}"))
}

/// 500: what a method of the server threw.
fn failed(why: &str) -> Reply {
    processing(500, &format!("HAPI-0389: Failed to call access method: {why}"))
}

/// The answer to a DELETE.
fn deleted() -> Reply {
    let coding = json!({
        "system": "http://terminology.hl7.org/CodeSystem/operation-outcome",
        "code": "MSG_DELETED",
        "display": "This resource has been deleted",
    });
    let body = json!({
        "resourceType": "OperationOutcome",
        "text": super::http::narrative("This resource has been deleted"),
        "issue": [{
            "severity": "information",
            "code": "informational",
            "details": {"coding": [coding], "text": "This resource has been deleted"},
        }],
    });
    Reply::fhir(200, &body)
}

/// The id in a reference, whatever its type.
fn reference_id(value: &Value) -> Option<&str> {
    value["reference"].as_str().map(|text| text.rsplit('/').next().unwrap_or(text))
}
