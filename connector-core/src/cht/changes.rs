//! From a document to a record in its one normal form, and from a record to the changes that it stands for.
//!
//! Pure. Guarantees that every way of reading a document gives the same body: the document without `_rev`, and of a
//! deleted one nothing but its id, since a plain DELETE leaves nothing else. `_attachments` stays (as stubs): a write
//! without it would take the attachments away.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fields::{FieldMap, get};
use crate::change::{Body, Change, Gone, PERSON, Patient, Record, RecordId};
use crate::connector::{Reject, Unreadable};

/// Kind of records that are places.
pub(super) const PLACE: &str = "place";
/// Kind of records that are reports.
pub(super) const REPORT: &str = "report";
/// The type of a report's document.
const DATA_RECORD: &str = "data_record";
/// Contact types that need no `contact_type`.
const HARD_CODED: [&str; 4] = ["district_hospital", "health_center", "clinic", "person"];

/// How one site stores people.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The name of this instance.
    pub system: String,
    /// Contact types that are people.
    pub person_types: Vec<String>,
    /// Path to the values of which a patient has one.
    pub only: BTreeMap<String, Vec<String>>,
    /// Types of documents that go out whole.
    pub documents: Vec<String>,
    /// The system whose ids stand in `external_id` as they are.
    pub plain: Option<String>,
    /// Where fields are.
    pub fields: FieldMap,
}

/// The type that counts: `contact_type` of a configured contact, else `type`.
pub(super) fn type_of(doc: &Value) -> Option<&str> {
    let text = |name: &str| doc.get(name).and_then(Value::as_str);
    match text("type")? {
        "contact" => text("contact_type"),
        other => Some(other),
    }
}

impl Shape {
    /// What the feed asks for, besides deletions.
    pub fn selector(&self) -> Value {
        let mut types: Vec<&str> = vec!["contact"];
        for name in self.person_types.iter().chain(&self.documents) {
            if !types.contains(&name.as_str()) {
                types.push(name);
            }
        }
        json!({ "type": { "$in": types } })
    }

    /// The kind of a document, if it is one that anybody may want.
    pub fn kind(&self, doc: &Value) -> Option<String> {
        let type_id = type_of(doc)?;
        if self.person_types.iter().any(|t| t == type_id) {
            return Some(PERSON.to_owned());
        }
        self.documents.iter().any(|t| t == type_id).then(|| {
            let contact =
                HARD_CODED.contains(&type_id) || doc.get("type").and_then(Value::as_str) == Some("contact");
            match type_id {
                DATA_RECORD => REPORT,
                _ if contact => PLACE,
                other => other,
            }
            .to_owned()
        })
    }

    /// Kinds that a tombstone without a type may have been.
    fn kinds(&self) -> Vec<String> {
        let mut kinds = vec![PERSON.to_owned()];
        for type_id in &self.documents {
            let kind = match type_id.as_str() {
                DATA_RECORD => REPORT,
                other if self.person_types.iter().any(|t| t == other) => PERSON,
                other if HARD_CODED.contains(&other) => PLACE,
                other => other,
            };
            if !kinds.iter().any(|k| k == kind) {
                kinds.push(kind.to_owned());
            }
        }
        kinds
    }

    /// The record of a document that was read.
    pub fn record(&self, mut doc: Value) -> Result<Option<Record>, Unreadable> {
        let Some(kind) = self.kind(&doc) else { return Ok(None) };
        let unreadable = |id: &str, reason: &str| Unreadable {
            id: RecordId::new(&self.system, &kind, id),
            reason: reason.to_owned(),
        };
        let Some(map) = doc.as_object_mut() else { return Ok(None) };
        let rev = map.remove("_rev");
        let id = match map.get("_id") {
            Some(Value::String(id)) => id.clone(),
            _ => return Err(unreadable("", "document without a text at _id")),
        };
        let Some(Value::String(rev)) = rev else {
            return Err(unreadable(&id, "document without a text at _rev"));
        };
        if map.get("_deleted") == Some(&Value::Bool(true)) {
            return Ok(Some(self.gone(&kind, &id, rev)));
        }
        Ok(Some(Record {
            id: RecordId::new(&self.system, kind, id),
            version: Some(rev),
            deleted: false,
            body: doc,
        }))
    }

    /// The records of a deleted document: one if what is left of it tells its type, else one for each kind it may have
    /// been.
    pub fn deleted(&self, id: &str, rev: &str, left: Option<&Value>) -> Vec<Record> {
        if id.starts_with('_') {
            return vec![];
        }
        let kinds = match left.filter(|doc| doc.get("type").is_some()) {
            Some(doc) => self.kind(doc).into_iter().collect(),
            None => self.kinds(),
        };
        kinds.iter().map(|kind| self.gone(kind, id, rev.to_owned())).collect()
    }

    /// A deleted record.
    pub fn gone(&self, kind: &str, id: &str, rev: String) -> Record {
        Record {
            id: RecordId::new(&self.system, kind, id),
            version: Some(rev),
            deleted: true,
            body: json!({ "_id": id }),
        }
    }

    /// The changes that a record stands for.
    pub fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        if !record.body.is_object() {
            return Err(Reject::new("the stored document is not an object; replay it"));
        }
        let mut changes = vec![];
        if record.id.is_person() && (record.deleted || self.is_patient(&record.body)) {
            let patient = match record.deleted {
                true => Patient { gone: Some(Gone::Deleted), ..Patient::default() },
                false => Patient { fields: self.fields.read(&record.body), gone: None },
            };
            let mut change = Change::state(record.id.clone(), Body::Patient(patient));
            change.same_as = self.same_as(&record.body);
            changes.push(change);
        }
        if self.goes_out_whole(record) {
            let body = match record.deleted {
                true => json!({ "_id": record.id.id, "_deleted": true }),
                false => record.body.clone(),
            };
            changes.push(Change::state(record.id.clone(), Body::Document(body)));
        }
        Ok(changes)
    }

    fn is_patient(&self, doc: &Value) -> bool {
        self.only.iter().all(|(path, values)| {
            get(doc, path).and_then(Value::as_str).is_some_and(|value| values.iter().any(|v| v == value))
        })
    }

    fn goes_out_whole(&self, record: &Record) -> bool {
        match record.deleted {
            true => {
                !self.documents.is_empty() && self.kinds_of_documents().any(|kind| kind == record.id.kind)
            }
            false => type_of(&record.body).is_some_and(|t| self.documents.iter().any(|d| d == t)),
        }
    }

    fn kinds_of_documents(&self) -> impl Iterator<Item = String> + '_ {
        let persons = self.documents.iter().any(|d| self.person_types.contains(d));
        self.kinds().into_iter().filter(move |kind| kind != PERSON || persons)
    }

    /// The counterpart that the document names.
    fn same_as(&self, doc: &Value) -> Option<RecordId> {
        let value = doc.get("external_id")?.as_str()?.trim();
        let (system, id) = match &self.plain {
            Some(plain) => (
                plain.as_str(),
                value.strip_prefix(plain.as_str()).and_then(|v| v.strip_prefix(':')).unwrap_or(value),
            ),
            None => value.split_once(':')?,
        };
        (!system.is_empty() && !id.is_empty()).then(|| RecordId::person(system, id))
    }

    /// What a contact made for this record carries as `external_id`.
    pub fn external_id(&self, source: &RecordId) -> String {
        match self.plain.as_deref() == Some(source.system.as_str()) {
            true => source.id.clone(),
            false => format!("{}:{}", source.system, source.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::change::Flow;

    pub(in crate::cht) fn shape() -> Shape {
        Shape {
            system: "cht".into(),
            person_types: vec!["person".into(), "patient".into()],
            only: BTreeMap::new(),
            documents: vec![],
            plain: None,
            fields: FieldMap::new(&BTreeMap::new(), &[]),
        }
    }

    fn read(shape: &Shape, doc: Value) -> Record {
        shape.record(doc).unwrap().unwrap()
    }

    fn patient(change: &Change) -> &Patient {
        let Body::Patient(patient) = &change.body else { panic!("no patient") };
        patient
    }

    #[test]
    fn people_of_both_shapes_are_people() {
        for doc in [
            json!({"_id": "a", "_rev": "1-a", "type": "person", "name": "A"}),
            json!({"_id": "a", "_rev": "1-a", "type": "contact", "contact_type": "person", "name": "A"}),
            json!({"_id": "a", "_rev": "1-a", "type": "contact", "contact_type": "patient", "name": "A"}),
        ] {
            let record = read(&shape(), doc);
            assert_eq!((record.id.kind.as_str(), record.version.as_deref()), ("person", Some("1-a")));
            assert!(record.body.get("_rev").is_none());
            let changes = shape().changes(&record).unwrap();
            assert_eq!(patient(&changes[0]).get("name"), Some("A"));
        }
    }

    #[test]
    fn what_nobody_wants_is_skipped() {
        for doc in [
            json!({"_id": "a-info", "_rev": "1-a", "type": "info"}),
            json!({"_id": "task~1", "_rev": "1-a", "type": "task"}),
            json!({"_id": "target~1", "_rev": "1-a", "type": "target"}),
            json!({"_id": "org.couchdb.user:a", "_rev": "1-a", "type": "user-settings"}),
            json!({"_id": "a", "_rev": "1-a", "type": "clinic"}),
            json!({"_id": "a", "_rev": "1-a", "type": "data_record"}),
            json!({"_id": "a", "_rev": "1-a"}),
            json!({"_id": "a", "_rev": "1-a", "type": 7}),
        ] {
            assert_eq!(shape().record(doc.clone()).unwrap(), None, "{doc}");
        }
    }

    #[test]
    fn a_tombstone_with_and_without_its_fields_is_the_same_record() {
        let left =
            json!({"_id": "a", "_rev": "2-b", "_deleted": true, "type": "person", "name": "Marked Name"});
        let plain = json!({"_id": "a", "_rev": "2-b", "_deleted": true});
        let both = [shape().deleted("a", "2-b", Some(&left)), shape().deleted("a", "2-b", Some(&plain))];
        assert_eq!(both[0], both[1]);
        assert_eq!(both[0], vec![read(&shape(), left)]);
        let changes = shape().changes(&both[0][0]).unwrap();
        assert_eq!(patient(&changes[0]).gone, Some(Gone::Deleted));
        let clinic = json!({"_id": "a", "_rev": "2-b", "_deleted": true, "type": "clinic"});
        assert!(shape().deleted("a", "2-b", Some(&clinic)).is_empty());
        assert!(shape().deleted("_design/x", "2-b", None).is_empty());
    }

    #[test]
    fn the_counterpart_is_named_by_external_id() {
        let named = |plain: Option<&str>, external: Value| {
            let shape = Shape { plain: plain.map(str::to_owned), ..shape() };
            let doc = json!({"_id": "a", "_rev": "1-a", "type": "person", "external_id": external});
            shape.changes(&read(&shape, doc)).unwrap().remove(0).same_as
        };
        let openmrs = Some(RecordId::person("openmrs", "1:2"));
        assert_eq!(named(None, json!("openmrs:1:2")), openmrs);
        assert_eq!(named(Some("openmrs"), json!("1:2")), openmrs);
        assert_eq!(named(Some("openmrs"), json!("openmrs:1:2")), openmrs);
        for nothing in [json!("12"), json!(""), json!(":12"), json!("openmrs:"), json!(12), json!(null)] {
            assert_eq!(named(None, nothing), None);
        }
        let shape = shape();
        let source = RecordId::person("openmrs", "1:2");
        assert_eq!(named(None, json!(shape.external_id(&source))), Some(source));
    }

    #[test]
    fn whole_documents_go_out_beside_the_person() {
        let shape = Shape { documents: vec!["person".into(), "data_record".into()], ..shape() };
        let flows = |record: &Record| -> Vec<Flow> {
            shape.changes(record).unwrap().iter().map(|c| c.body.flow()).collect()
        };
        let person = read(&shape, json!({"_id": "a", "_rev": "1-a", "type": "person"}));
        assert_eq!(flows(&person), [Flow::Patients, Flow::Documents]);
        let report = read(&shape, json!({"_id": "r", "_rev": "1-a", "type": "data_record"}));
        assert_eq!((report.id.kind.as_str(), flows(&report)), (REPORT, vec![Flow::Documents]));
        let gone = shape.deleted("r", "2-b", None);
        assert_eq!(gone.iter().map(|r| r.id.kind.as_str()).collect::<Vec<_>>(), ["person", "report"]);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "person|contact|true|[0-9]{4}-[0-9]{2}(-[0-9]{2})?|\\PC{0,6}".prop_map(Value::from),
        ];
        let key = "_id|_rev|_deleted|type|contact_type|name|sex|phone|parent|muted|external_id|date_of_(birth|death)|[a-z]{1,3}";
        leaf.prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_document_is_read_or_refused_and_its_fields_can_be_written_back(
            mut doc in json_value(),
            person in any::<bool>(),
        ) {
            let shape = shape();
            if let (Value::Object(map), true) = (&mut doc, person) {
                map.extend([("_id", "a"), ("_rev", "1-a"), ("type", "person")].map(|(k, v)| (k.to_owned(), v.into())));
            }
            if let Ok(Some(record)) = shape.record(doc) {
                for change in shape.changes(&record).unwrap() {
                    let mut copy = json!({});
                    for (name, value) in &patient(&change).fields {
                        shape.fields.write(&mut copy, name, value, 0);
                        let back = shape.fields.read_one(&copy, name);
                        prop_assert_eq!(back.as_ref(), shape.fields.writable_path(name).map(|_| value));
                    }
                }
            }
        }
    }

    #[test]
    fn only_patients_are_patients() {
        let shape = Shape { only: BTreeMap::from([("role".into(), vec!["patient".into()])]), ..shape() };
        let of = |role: &str| {
            let doc = json!({"_id": "a", "_rev": "1-a", "type": "person", "role": role});
            shape.changes(&read(&shape, doc)).unwrap().len()
        };
        assert_eq!((of("patient"), of("chw")), (1, 0));
    }
}
