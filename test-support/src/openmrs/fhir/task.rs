//! Tasks: only some elements are kept, references are not checked.

use serde_json::{Map, Value, json};

use super::{Fhir, clinical::concept, meta, unknown};
use crate::openmrs::{
    http::Answer,
    ids::Id,
    metadata::metadata,
    model::{Audit, Task},
    time,
};

/// Elements that are kept as they are, references with their type.
const KEPT: [&str; 11] = [
    "status",
    "intent",
    "basedOn",
    "partOf",
    "encounter",
    "for",
    "owner",
    "focus",
    "location",
    "executionPeriod",
    "note",
];
/// The values of inputs and outputs that are kept; others are dropped without a word.
const VALUES: [&str; 4] = ["valueReference", "valueString", "valueDecimal", "valueDateTime"];

/// The resource without its narrative.
pub fn resource(task: &Task) -> Value {
    let mut shown = task.kept.clone();
    shown["resourceType"] = "Task".into();
    shown["id"] = task.uuid.to_string().into();
    shown["meta"] = meta(&task.audit);
    shown["identifier"] =
        json!([{"system": "http://fhir.openmrs.org/ext/task/identifier", "value": task.uuid}]);
    shown["authoredOn"] = time::fhir_datetime(task.audit.created).into();
    shown["lastModified"] = time::fhir_datetime(task.audit.stamp()).into();
    shown
}

/// What the server keeps of a task.
pub fn kept(body: &Value) -> Value {
    let mut task = Map::new();
    for key in KEPT {
        if let Some(value) = body.get(key) {
            task.insert(key.to_owned(), with_types(value));
        }
    }
    if let Some(code) = concept_of(&body["code"]) {
        task.insert("code".to_owned(), code);
    }
    for key in ["input", "output"] {
        let given = body[key].as_array().into_iter().flatten();
        let list: Vec<Value> = given
            .filter_map(|one| {
                let (name, value) = VALUES.into_iter().find_map(|name| Some((name, one.get(name)?)))?;
                Some(json!({"type": concept_of(&one["type"]), name: with_types(value)}))
            })
            .collect();
        if !list.is_empty() {
            task.insert(key.to_owned(), list.into());
        }
    }
    Value::Object(task)
}

fn concept_of(given: &Value) -> Option<Value> {
    let code = given["coding"][0]["code"].as_str()?;
    metadata().row("concept", code).map(|_| concept(&Id::from(code)))
}

/// References say of what type they are.
fn with_types(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(with_types).collect(),
        Value::Object(object) => {
            let mut object = object.clone();
            let kind = object.get("reference").and_then(Value::as_str).and_then(|text| text.split_once('/'));
            if let Some(kind) = kind.map(|(kind, _)| kind.to_owned()) {
                object.insert("type".to_owned(), kind.into());
            }
            Value::Object(object)
        }
        other => other.clone(),
    }
}

impl Fhir<'_> {
    pub(super) fn create_task(&mut self) -> Answer {
        let body = self.resource("CREATE")?;
        let by = self.caller.user.unwrap_or_default();
        let uuid = self.state.tables.ids.next();
        let audit = Audit::new(by, self.call.now);
        self.state.tables.tasks.push(Task { uuid: uuid.clone(), kept: kept(&body), audit });
        self.created("Task", &uuid)
    }

    /// No task is made by a PUT.
    pub(super) fn put_task(&mut self, id: &str) -> Answer {
        let body = self.resource("UPDATE")?;
        let (by, now, wanted) = (self.caller.user.unwrap_or_default(), self.call.now, Id::from(id));
        let task = self.state.tables.tasks.iter_mut().find(|row| row.uuid == wanted);
        let task = task.ok_or_else(|| unknown("Task", id))?;
        task.kept = kept(&body);
        task.audit.change(by, now);
        self.updated("Task", id)
    }
}
