//! From a change to the document that is written.
//!
//! Pure. Guarantees that the same partner record always becomes the same document id, that an update carries the revision
//! it was planned on and every field that it does not mean to change, and that nothing is planned which the CHT already
//! holds.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::{Uuid, uuid};

use super::changes::Shape;
use super::config::Create;
use super::fields::{get, set};
use super::place::{Placement, Places};
use crate::change::{Body, Change, Patient, Record, RecordId, field};
use crate::connector::{Command, Known, Reject, Repeat};

/// Namespace of the ids of contacts made here, which are UUIDv5 of `<system>|<kind>|<id>` of the partner's record. Itself
/// the UUIDv5 of `https://github.com/cht-connectors/cht-connectors/contact` in the namespace of URLs.
///
/// It never changes: a contact that was made once is found again by it.
pub const CONTACT_NAMESPACE: Uuid = uuid!("3ada1e94-ec33-546e-af44-3e1a21515ab6");

/// All writes may share a request.
const GROUP: &str = "bulk";
/// A write is proven by its own answer, so one that is not after so long needs a person.
const WITHIN: Duration = Duration::from_secs(7 * 86_400);

/// When a contact was made, in milliseconds since 1970; the CHT lets nobody change it.
const PLANNED: &str = "reported_date";

/// A document to be written.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Write {
    /// The whole document, with `_id`, and `_rev` when it replaces one.
    pub doc: Value,
    /// Paths that this write means to change; empty for a new document.
    pub wrote: Vec<String>,
}

impl Write {
    /// Document id.
    pub fn id(&self) -> &str {
        self.doc.get("_id").and_then(Value::as_str).unwrap_or_default()
    }

    /// The revision that it replaces.
    pub fn base(&self) -> Option<&str> {
        self.doc.get("_rev").and_then(Value::as_str)
    }

    /// Whether a stored document shows that this was carried out.
    ///
    /// A changed one shows what was meant to change. A new one shows the moment of its planning, whatever was edited since,
    /// or agrees altogether; with another moment and content it is the work of an older plan.
    pub fn is_in(&self, stored: &Value) -> bool {
        let agrees = |path: &str| get(stored, path) == get(&self.doc, path);
        match (self.base(), self.doc.as_object()) {
            (Some(_), _) => self.wrote.iter().all(|path| agrees(path)),
            (None, Some(doc)) => {
                agrees("external_id")
                    && (agrees(PLANNED) || doc.keys().filter(|key| *key != PLANNED).all(|key| agrees(key)))
            }
            (None, None) => false,
        }
    }
}

/// The id of the contact made for a partner's record.
pub(super) fn contact_id(source: &RecordId) -> String {
    let name = format!("{}|{}|{}", source.system, source.kind, source.id);
    Uuid::new_v5(&CONTACT_NAMESPACE, name.as_bytes()).to_string()
}

/// What planning needs besides the change.
pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub create: &'a Create,
    pub placement: &'a Placement,
    pub places: &'a Places,
}

impl Planner<'_> {
    /// The command for a change, or `None` when the CHT agrees already.
    pub fn command(&self, change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
        let Body::Patient(person) = &change.body else {
            return Err(Reject::new(format!(
                "a change of flow {} cannot be written into the CHT; route it elsewhere",
                change.body.flow().as_str()
            )));
        };
        let write = match known.current {
            Some(current) => self.update(person, current, known.now)?,
            None if known.links.contains_key(&change.source) => {
                return Err(Reject::new(
                    "the linked contact is not in the CHT any more; unlink the pair or restore the contact, then replay",
                ));
            }
            None if person.gone.is_some() => None,
            None => Some(self.contact(person, &change.source, known.now)?),
        };
        write.map(command).transpose()
    }

    fn update(&self, person: &Patient, current: &Record, now: i64) -> Result<Option<Write>, Reject> {
        if person.gone.is_some() {
            return Err(Reject::new(
                "the partner no longer holds this person; a contact is never deleted from here: mute, merge or delete it in \
                 the CHT by hand",
            ));
        }
        if current.deleted {
            return Err(Reject::new(
                "the linked contact was deleted in the CHT, and a write would bring it back; unlink the pair or restore the \
                 contact, then replay",
            ));
        }
        let Some(rev) = &current.version else {
            return Err(Reject::new("the linked contact was read without its revision; replay"));
        };
        let mut doc = current.body.clone();
        let wrote: Vec<String> = person
            .fields
            .iter()
            .filter_map(|(name, value)| self.shape.fields.write(&mut doc, name, value, now))
            .collect();
        if wrote.is_empty() {
            return Ok(None);
        }
        set(&mut doc, "_id", current.id.id.as_str().into());
        set(&mut doc, "_rev", rev.as_str().into());
        Ok(Some(Write { doc, wrote }))
    }

    fn contact(&self, person: &Patient, source: &RecordId, now: i64) -> Result<Write, Reject> {
        if !self.create.people {
            return Err(Reject::new(
                "no counterpart in the CHT, and `create.people` is off; link the person by hand or switch it on, then replay",
            ));
        }
        if person.get(field::NAME).is_none_or(|name| name.trim().is_empty()) {
            return Err(Reject::new(
                "a contact needs a name and the partner's record has none; add it there",
            ));
        }
        let parent = self.placement.parent(person, self.places)?;
        let mut doc = Value::Object(self.create.set.clone());
        for (name, value) in &person.fields {
            self.shape.fields.write(&mut doc, name, value, now);
        }
        let type_id = self.create.type_id.as_str();
        let own = match type_id {
            "person" => json!({ "type": "person" }),
            _ => json!({ "type": "contact", "contact_type": type_id }),
        };
        let own = own.as_object().cloned().unwrap_or_default().into_iter().chain(Map::from_iter([
            ("_id".to_owned(), contact_id(source).into()),
            ("external_id".to_owned(), self.shape.external_id(source).into()),
            (PLANNED.to_owned(), now.into()),
            ("parent".to_owned(), parent),
        ]));
        for (name, value) in own {
            set(&mut doc, &name, value);
        }
        Ok(Write { doc, wrote: vec![] })
    }
}

fn command(write: Write) -> Result<Command, Reject> {
    let body =
        serde_json::to_value(write).map_err(|_| Reject::new("the document cannot be written as JSON"))?;
    Ok(Command::new(body, Repeat::Safe).grouped(GROUP).within(WITHIN))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::change::Gone;
    use crate::cht::fields::FieldMap;

    struct World {
        shape: Shape,
        create: Create,
        placement: Placement,
        places: Places,
    }

    impl World {
        fn new() -> Self {
            let mut places = Places::default();
            let area = json!({"_id": "area", "parent": {"_id": "centre"}});
            places.learn(&serde_json::from_value(area).unwrap());
            Self {
                shape: Shape {
                    system: "cht".into(),
                    person_types: vec!["person".into()],
                    only: BTreeMap::new(),
                    documents: vec![],
                    plain: None,
                    fields: FieldMap::new(
                        &BTreeMap::from([("identifier.national".into(), "ids.national".into())]),
                        &[],
                    ),
                },
                create: Create::default(),
                placement: Placement { default: Some("area".into()), ..Placement::default() },
                places,
            }
        }

        fn plan(
            &self,
            person: Patient,
            current: Option<&Record>,
            linked: bool,
        ) -> Result<Option<Write>, Reject> {
            let source = RecordId::person("openmrs", "u-1");
            let mut links = BTreeMap::new();
            if linked {
                links.insert(source.clone(), RecordId::person("cht", "c-1"));
            }
            let planner = Planner {
                shape: &self.shape,
                create: &self.create,
                placement: &self.placement,
                places: &self.places,
            };
            let change = Change::state(source, Body::Patient(person));
            let known = Known { now: 5_000, links: &links, current, destination: "", key: "k" };
            let command = planner.command(&change, &known)?;
            if let Some(command) = &command {
                assert_eq!((command.repeat, command.group.as_deref()), (Repeat::Safe, Some("bulk")));
            }
            Ok(command.map(|c| c.parse().unwrap()))
        }
    }

    fn current() -> Record {
        Record {
            id: RecordId::person("cht", "c-1"),
            version: Some("3-c".into()),
            deleted: false,
            body: json!({"_id": "c-1", "type": "person", "name": "Asha Test", "phone": "+254700000001", "patient_id": "01234",
                "custom": {"kept": [1, 2]}, "_attachments": {"a": {"stub": true}}, "parent": {"_id": "x"}}),
        }
    }

    #[test]
    fn a_new_contact_is_complete_and_always_the_same_document() {
        let world = World::new();
        let person = Patient::with([
            ("name", "Asha Test"),
            ("sex", "female"),
            ("identifier.national", "N-1"),
            ("location", "L"),
        ]);
        let write = world.plan(person.clone(), None, false).unwrap().unwrap();
        assert_eq!(
            write.doc,
            json!({"_id": "2f567abb-02e9-5daf-ac42-6ea126a21da0", "type": "person", "name": "Asha Test", "sex": "female",
                "ids": {"national": "N-1"}, "external_id": "openmrs:u-1", "reported_date": 5_000,
                "parent": {"_id": "area", "parent": {"_id": "centre"}}})
        );
        let mut custom = world;
        custom.create =
            serde_json::from_value(json!({"type": "patient", "set": {"role": "patient"}})).unwrap();
        let doc = custom.plan(person, None, false).unwrap().unwrap().doc;
        assert_eq!(
            (&doc["type"], &doc["contact_type"], &doc["role"]),
            (&json!("contact"), &json!("patient"), &json!("patient"))
        );
    }

    #[test]
    fn an_update_writes_what_moved_and_keeps_the_rest() {
        let current = current();
        let person =
            Patient::with([("name", "Asha Testova"), ("phone", "+254700000001"), ("location", "elsewhere")]);
        let write = World::new().plan(person, Some(&current), true).unwrap().unwrap();
        let mut expected = current.body.clone();
        expected["name"] = json!("Asha Testova");
        expected["_rev"] = json!("3-c");
        assert_eq!((write.doc, write.wrote), (expected, vec!["name".to_owned()]));
    }

    #[test]
    fn what_the_cht_holds_already_is_no_command() {
        let person = Patient::with([("name", "Asha  Test"), ("phone", "+254700000001")]);
        let same = Patient::with([("name", "Asha Test"), ("phone", "+254700000001")]);
        assert!(World::new().plan(same, Some(&current()), true).unwrap().is_none());
        assert!(
            World::new()
                .plan(Patient { gone: Some(Gone::Deleted), ..person }, None, false)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn what_needs_a_person_is_refused_with_a_reason() {
        let world = World::new();
        let person = || Patient::with([("name", "Marked Name")]);
        let gone = Patient { gone: Some(Gone::Deleted), ..person() };
        let deleted = Record { deleted: true, ..current() };
        let mut off = World::new();
        off.create.people = false;
        for (reason, result) in [
            ("no longer holds", world.plan(gone, Some(&current()), true)),
            ("was deleted in the CHT", world.plan(person(), Some(&deleted), true)),
            ("not in the CHT any more", world.plan(person(), None, true)),
            ("needs a name", world.plan(Patient::with([("sex", "female")]), None, false)),
            ("create.people", off.plan(person(), None, false)),
        ] {
            let Err(reject) = result else { panic!("{reason}") };
            assert!(reject.reason.contains(reason) && !reject.reason.contains("Marked"), "{reject}");
        }
    }

    #[test]
    fn a_write_is_recognised_in_what_is_stored() {
        let create = Write {
            doc: json!({"_id": "a", "name": "A", "external_id": "o:1", "reported_date": 5}),
            wrote: vec![],
        };
        for (stored, shown) in [
            (json!({"_id": "a", "name": "edited since", "external_id": "o:1", "reported_date": 5}), true),
            (
                json!({"_id": "a", "name": "A", "external_id": "o:1", "reported_date": 4, "patient_id": "1"}),
                true,
            ),
            (
                json!({"_id": "a", "name": "of an older plan", "external_id": "o:1", "reported_date": 4}),
                false,
            ),
            (json!({"_id": "a", "name": "A", "reported_date": 5}), false),
        ] {
            assert_eq!(create.is_in(&stored), shown, "{stored}");
        }
        let update = Write {
            doc: json!({"_id": "a", "_rev": "1-a", "name": "B", "other": 1}),
            wrote: vec!["name".into(), "muted".into()],
        };
        assert!(update.is_in(&json!({"_id": "a", "name": "B", "other": 2})));
        assert!(!update.is_in(&json!({"_id": "a", "name": "B", "muted": "x"})));
    }
}
