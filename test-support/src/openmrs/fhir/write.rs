//! Writes of patients by FHIR: what is in the body is added, what is absent stays, most changes of rows are lost.

use serde_json::{Value, json};

use super::{
    Fhir, deleted, failed,
    patient::{ADDRESS_ELEMENTS, EXT, TELEPHONE, resource},
    reference_id, unknown, unparsed,
};
use crate::openmrs::{
    edit::Hand,
    http::{Answer, Reply, processing},
    ids::{Id, IdSource},
    metadata::metadata,
    model::{ADDRESS_FIELDS, NAME_FIELDS, Part, Patient},
    time, validate,
};

impl Fhir<'_> {
    pub(super) fn create_patient(&mut self) -> Answer {
        let mut body = self.resource("CREATE")?;
        body["id"] = Value::Null;
        let uuid = self.state.tables.ids.next();
        let by = self.caller.user.unwrap_or_default();
        let mut draft = self.hand(by).new_patient(0, uuid.clone());
        self.apply(&mut draft, &body, by)?;
        let (tables, switches) = (&self.state.tables, &self.state.switches);
        validate::patient(&draft, None, tables, switches, self.call.now).fhir("Patient#null")?;
        self.allow(&["Add Patients", "Edit Patients"])?;
        draft.pk = self.state.tables.take_pk();
        self.state.tables.insert(draft);
        self.created("Patient", &uuid)
    }

    pub(super) fn put_patient(&mut self, id: &str) -> Answer {
        let body = self.resource("UPDATE")?;
        match body["id"].as_str() {
            None => {
                let why = "HAPI-0419: Can not update resource, resource body must contain an ID element for update (PUT) \
                           operation";
                return Err(processing(400, why));
            }
            Some(other) if other != id => {
                let why = format!(
                    "HAPI-0420: Can not update resource, resource body must contain an ID element which matches the \
                     request URL for update (PUT) operation - Resource body ID of \"{other}\" does not match URL ID of \
                     \"{id}\""
                );
                return Err(processing(400, &why));
            }
            Some(_) => {}
        }
        self.store(id, &body)?;
        self.updated("Patient", id)
    }

    /// Edits and puts back; 422 for what the validators refuse.
    fn store(&mut self, id: &str, body: &Value) -> Result<(), Reply> {
        let at = self.state.tables.find(id).ok_or_else(|| unknown("Patient", id))?;
        let by = self.allow(&["Edit Patients", "Add Patients"])?;
        let now = self.call.now;
        let mut draft = self.state.tables.draft(at, now, &self.state.switches);
        self.apply(&mut draft, body, by)?;
        let (tables, switches) = (&mut self.state.tables, &self.state.switches);
        validate::patient(&draft, Some(at), tables, switches, now).fhir(&format!("Patient#{}", draft.pk))?;
        tables.put(at, draft, by, now, switches);
        Ok(())
    }

    pub(super) fn delete_patient(&mut self, id: &str) -> Answer {
        let at = self.state.tables.find(id).ok_or_else(|| unknown("Patient", id))?;
        let by = self.allow(&["Delete Patients"])?;
        let mut draft = self.state.tables.patient(at).clone();
        self.hand(by).void(&mut draft, "Voided via FHIR API");
        self.state.tables.put(at, draft, by, self.call.now, &self.state.switches);
        Ok(deleted())
    }

    /// JSON Patch, or a merge patch if the content type is exactly that. Both go the way of a PUT.
    pub(super) fn patch_patient(&mut self, id: &str) -> Answer {
        let at = self.state.tables.find(id).ok_or_else(|| unknown("Patient", id))?;
        let mut document = resource(self.state.tables.patient(at), &self.state.switches, self.call.now)?;
        let patch: Value =
            serde_json::from_slice(&self.call.body).map_err(|error| unparsed(&error.to_string()))?;
        if self.call.header("content-type") == "application/merge-patch+json" {
            merge(&mut document, &patch);
            if patch.get("deceasedDateTime").is_some() {
                document["deceasedBoolean"] = Value::Null;
            }
        } else {
            let Some(operations) = patch.as_array() else {
                let why = "Cannot deserialize value of type \
                           `java.util.ArrayList<com.github.fge.jsonpatch.JsonPatchOperation>` from Object value (token \
                           `JsonToken.FIELD_NAME`)\n at [Source: UNKNOWN; byte offset: #UNKNOWN]";
                return Err(processing(400, why));
            };
            operations.iter().try_for_each(|operation| json_patch(&mut document, operation))?;
        }
        self.store(id, &document)?;
        let reply = self.updated("Patient", id)?;
        Ok(Reply {
            headers: reply.headers.into_iter().filter(|(name, _)| *name != "etag").collect(),
            ..reply
        })
    }

    fn apply(&mut self, draft: &mut Patient, body: &Value, by: u16) -> Result<(), Reply> {
        let switches = self.state.switches.clone();
        let hand = Hand { by, now: self.call.now, switches: &switches };
        Applied { hand, ids: &mut self.state.tables.ids }.patient(draft, body)
    }
}

struct Applied<'a> {
    hand: Hand<'a>,
    ids: &'a mut IdSource,
}

fn list<'v>(body: &'v Value, key: &str) -> &'v [Value] {
    body[key].as_array().map_or(&[], Vec::as_slice)
}

impl Applied<'_> {
    fn patient(&mut self, draft: &mut Patient, body: &Value) -> Result<(), Reply> {
        list(body, "identifier").iter().try_for_each(|given| self.identifier(draft, given))?;
        list(body, "name").iter().for_each(|given| self.name(draft, given));
        list(body, "address").iter().for_each(|given| self.address(draft, given));
        let telephone = metadata().index("personattributetype", TELEPHONE).unwrap_or_default();
        for given in list(body, "telecom") {
            self.attribute(draft, telephone, given["value"].as_str().map(str::to_owned));
        }
        let attributes = format!("{EXT}/person-attribute");
        for given in list(body, "extension").iter().filter(|given| given["url"] == attributes) {
            let part = |suffix: &str| {
                list(given, "extension").iter().find(|one| one["url"] == format!("{attributes}-{suffix}"))
            };
            let kind = part("type")
                .and_then(|one| metadata().named("personattributetype", one["valueString"].as_str()?));
            let value = part("value").and_then(|one| {
                let text = one["valueString"].as_str().map(str::to_owned);
                let boolean = one["valueBoolean"].as_bool().map(|yes| yes.to_string());
                text.or(boolean).or_else(|| reference_id(&one["valueReference"]).map(str::to_owned))
            });
            if let Some(kind) = kind {
                self.attribute(draft, kind, value);
            }
        }
        if let Some(gender) = body["gender"].as_str() {
            let letter = match gender {
                "male" => Some("M"),
                "female" => Some("F"),
                "other" => Some("O"),
                "unknown" => Some("U"),
                _ => None,
            };
            if let Some(letter) = letter {
                draft.row.gender = Some(letter.into());
            }
        }
        if let Some(text) = body["birthDate"].as_str() {
            let read = (text.len() <= 10).then(|| time::fhir_range(text)).flatten();
            let (start, _) = read.ok_or_else(|| {
                let why = format!(
                    "HAPI-1821: [element=\"birthDate\"] Invalid attribute value \"{text}\": Invalid date/time"
                );
                unparsed(&format!("{why} format: \"{text}\""))
            })?;
            draft.row.birthdate = Some(time::local(start));
            draft.row.estimated = text.len() < 10;
        }
        match (body["deceasedBoolean"].as_bool(), body["deceasedDateTime"].as_str()) {
            (_, Some(at)) => {
                draft.row.dead = true;
                draft.row.death_date = time::fhir_range(at).map(|(start, _)| time::local(start));
            }
            (Some(dead), None) => draft.row.dead = dead,
            (None, None) => {}
        }
        Ok(())
    }

    fn attribute(&mut self, draft: &mut Patient, kind: u16, value: Option<String>) {
        let uuid = self.ids.next();
        value.into_iter().for_each(|value| self.hand.set_attribute(draft, uuid.clone(), kind, &value));
    }

    /// The type is found by its name alone, and not at all where a system is given: no system is mapped here.
    fn identifier(&mut self, draft: &mut Patient, given: &Value) -> Result<(), Reply> {
        let name = given["type"]["text"].as_str().unwrap_or_default();
        let kind =
            if given["system"].is_null() { metadata().named("patientidentifiertype", name) } else { None };
        let (Some(kind), Some(value)) = (kind, given["value"].as_str()) else { return Ok(()) };
        let id = given["id"].as_str().map(Id::from);
        let known = draft.identifiers.iter().find(|row| Some(&row.uuid) == id.as_ref());
        if known.is_some_and(|row| *row.value != *value) {
            let why = "javax.persistence.PersistenceException: org.hibernate.exception.ConstraintViolationException: could \
                       not execute statement";
            return Err(failed(why));
        }
        if known.is_some() || draft.live_identifiers().any(|row| row.kind == kind && *row.value == *value) {
            return Ok(());
        }
        let at = list(given, "extension")
            .iter()
            .find(|one| one["url"] == format!("{EXT}/patient/identifier#location"));
        let location = at.and_then(|one| reference_id(&one["valueReference"]));
        let location = location.and_then(|uuid| metadata().index("location", uuid));
        let first = !draft.live_identifiers().any(|row| row.preferred);
        let uuid = id.unwrap_or_else(|| self.ids.next());
        self.hand.add_identifier(draft, uuid, kind, value, location);
        if given["use"] == "official" && first {
            draft.identifiers.iter_mut().next_back().into_iter().for_each(|row| row.preferred = true);
        }
        Ok(())
    }

    /// A name with the id of one is edited in place, an equal one is left alone, another one is added.
    fn name(&mut self, draft: &mut Patient, given: &Value) {
        let id = given["id"].as_str().map(Id::from);
        let mut wanted = self.hand.part(id.clone().unwrap_or_else(|| self.ids.next()), false);
        let rewrite = self.hand.switches.rewrite;
        let names: Vec<&str> = list(given, "given").iter().filter_map(Value::as_str).collect();
        let middle = names.get(1..).filter(|rest| !rest.is_empty()).map(|rest| rest.join(" "));
        let fields = [
            ("givenName", names.first().map(|name| (*name).to_owned())),
            ("middleName", middle),
            ("familyName", given["family"].as_str().map(str::to_owned)),
        ];
        for (field, value) in fields {
            wanted.set(&NAME_FIELDS, field, value.map(|value| rewrite.name(&value)).as_deref());
        }
        if let Some(known) = draft.names.iter_mut().find(|part| Some(&part.uuid) == id.as_ref()) {
            if known.fields != wanted.fields {
                known.fields = wanted.fields;
                known.audit.change(self.hand.by, self.hand.now);
            }
        } else if !draft.live_names().any(|part| part.fields == wanted.fields) {
            draft.names.push(wanted);
        }
    }

    /// An address with the id of one changes nothing; without, it is added even if it is equal.
    fn address(&mut self, draft: &mut Patient, given: &Value) {
        let id = given["id"].as_str().map(Id::from);
        if draft.addresses.iter().any(|part| Some(&part.uuid) == id.as_ref()) {
            return;
        }
        let mut part: Part = self.hand.part(id.unwrap_or_else(|| self.ids.next()), given["use"] == "home");
        let rewrite = self.hand.switches.rewrite;
        for (element, field) in ADDRESS_ELEMENTS {
            part.set(
                &ADDRESS_FIELDS,
                field,
                given[element].as_str().map(|value| rewrite.text(value)).as_deref(),
            );
        }
        let lines = list(given, "extension").iter().flat_map(|one| list(one, "extension"));
        for line in lines {
            let field = line["url"].as_str().and_then(|url| url.split('#').next_back()).unwrap_or_default();
            part.set(&ADDRESS_FIELDS, field, line["valueString"].as_str());
        }
        draft.addresses.push(part);
    }
}

fn merge(document: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = json!({});
    }
    for (key, change) in changes {
        match document.as_object_mut() {
            Some(object) if change.is_null() => {
                object.remove(key);
            }
            _ => merge(&mut document[key.as_str()], change),
        }
    }
}

fn json_patch(document: &mut Value, operation: &Value) -> Result<(), Reply> {
    let refused = |why: &str| processing(400, why);
    let path = operation["path"].as_str().unwrap_or_default();
    let value = operation["value"].clone();
    let kind = operation["op"].as_str().unwrap_or_default();
    if kind == "add" {
        let (parent, key) =
            path.rsplit_once('/').ok_or_else(|| refused("no such path in target JSON document"))?;
        let parent =
            document.pointer_mut(parent).ok_or_else(|| refused("parent of node to add does not exist"))?;
        match parent {
            Value::Array(items) if key == "-" => items.push(value),
            Value::Array(items) => {
                let at = key.parse::<usize>().ok().filter(|at| *at <= items.len());
                items.insert(at.ok_or_else(|| refused("no such index in target array"))?, value);
            }
            Value::Object(object) => {
                object.insert(key.to_owned(), value);
            }
            _ => return Err(refused("parent of node to add is not a container")),
        }
        return Ok(());
    }
    let target = document.pointer_mut(path).ok_or_else(|| refused("no such path in target JSON document"))?;
    match kind {
        "test" if *target == value => Ok(()),
        "test" => Err(refused("value differs from expectations")),
        "replace" => {
            *target = value;
            Ok(())
        }
        "remove" => {
            *target = Value::Null;
            Ok(())
        }
        other => Err(refused(&format!("unsupported operation: {other}"))),
    }
}
