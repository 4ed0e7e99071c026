//! Contacts: persons and places.

use serde_json::{Map, Value};

use super::document::document;
use super::lineage::Reference;

document! {
    /// A person or place.
    Contact {
        /// Document id.
        id: String = "_id",
        /// Revision.
        rev: String = "_rev",
        /// `contact` for configured types, else the type itself; compare [`Contact::type_id`].
        doc_type: String = "type",
        /// The configured type, if `doc_type` is `contact`.
        contact_type: String = "contact_type",
        /// Name.
        name: String = "name",
        /// The parents, up to the root.
        parent: Reference = "parent",
        /// The primary contact of a place.
        contact: Reference = "contact",
        /// Shortcode of a person, given by sentinel in a second revision.
        patient_id: String = "patient_id",
        /// Shortcode of a place, given by sentinel in a second revision.
        place_id: String = "place_id",
        /// Phone number; E.164 if the CHT is to find it.
        phone: String = "phone",
        /// Date of birth: `YYYY-MM-DD`, or a date and time if `registration` made it.
        date_of_birth: String = "date_of_birth",
        /// `male` or `female` by convention.
        sex: String = "sex",
        /// Role by convention, such as `patient`.
        role: String = "role",
        /// Creation time in epoch milliseconds. It may not change.
        reported_date: i64 = "reported_date",
        /// Id in another system; searchable if top level.
        external_id: String = "external_id",
        /// The report that made this contact through `registration`.
        source_id: String = "source_id",
        /// Whether the document is a tombstone.
        deleted: bool = "_deleted",
    }
}

impl Contact {
    /// The contact type, whichever way it is stored.
    pub fn type_id(&self) -> Option<&str> {
        match self.doc_type.as_deref() {
            Some("contact") => self.contact_type.as_deref(),
            other => other,
        }
    }

    /// Whether the contact is muted.
    pub fn is_muted(&self) -> bool {
        is_set(&self.rest, "muted")
    }

    /// Whether a death is recorded.
    pub fn is_dead(&self) -> bool {
        is_set(&self.rest, "date_of_death")
    }

    /// How another document refers to this contact: its id with the whole chain of its parents. Reports need the
    /// whole chain, as the CHT fills in parents only as far as their ids are there.
    pub fn reference(&self) -> Option<Reference> {
        let parents = self.parent.as_ref().map(Reference::ids).unwrap_or_default();
        Reference::from_ids(std::iter::once(self.id.as_deref()?).chain(parents).collect::<Vec<_>>())
    }

    /// The shortcode, of a person or of a place.
    pub fn shortcode(&self) -> Option<&str> {
        self.patient_id.as_deref().or(self.place_id.as_deref())
    }
}

fn is_set(rest: &Map<String, Value>, key: &str) -> bool {
    match rest.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

document! {
    /// What `POST /api/v1/contact/summary` tells of a contact.
    ContactSummary {
        /// Document id.
        id: String = "_id",
        /// Revision.
        rev: String = "_rev",
        /// Name.
        name: String = "name",
        /// Phone number.
        phone: String = "phone",
        /// `contact` or the type.
        doc_type: String = "type",
        /// The configured type.
        contact_type: String = "contact_type",
        /// Ids of the parents, nearest first.
        lineage: Vec<String> = "lineage",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Contact {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_person_is_a_person_whichever_call_made_it() {
        assert_eq!(read(json!({"type": "person"})).type_id(), Some("person"));
        assert_eq!(read(json!({"type": "contact", "contact_type": "person"})).type_id(), Some("person"));
        assert_eq!(read(json!({"type": "contact"})).type_id(), None);
    }

    #[test]
    fn a_contact_is_referred_to_with_all_its_parents() {
        let hydrated = read(
            json!({"_id": "a", "name": "A", "parent": {"_id": "b", "name": "B", "parent": {"_id": "c"}}}),
        );
        let chain = json!({"_id": "a", "parent": {"_id": "b", "parent": {"_id": "c"}}});
        assert_eq!(serde_json::to_value(hydrated.reference()).unwrap(), chain);
        assert_eq!(read(json!({"name": "A"})).reference(), None);
    }

    #[test]
    fn muted_and_dead_are_seen_in_every_form() {
        assert!(read(json!({"muted": "2026-01-01T00:00:00Z"})).is_muted());
        assert!(read(json!({"muted": true})).is_muted());
        for off in [json!({}), json!({"muted": null}), json!({"muted": false}), json!({"muted": ""})] {
            assert!(!read(off).is_muted());
        }
        assert!(read(json!({"date_of_death": 1767225600000_i64})).is_dead());
        assert!(read(json!({"date_of_death": "2026-01-01"})).is_dead());
    }

    #[test]
    fn odd_but_real_values_do_not_fail() {
        let odd = json!({"_id": "a", "name": 5, "parent": "", "contact": "bare", "reported_date": "2020-01-01",
            "patient_id": 63562, "phone": null, "date_of_birth": 0});
        let contact = read(odd.clone());
        assert_eq!(contact.contact.as_ref().and_then(Reference::id), Some("bare"));
        assert_eq!(serde_json::to_value(&contact).unwrap(), odd);
    }
}
