//! Under which place a new contact stands.
//!
//! Guarantees that a place is used only if [`check`](super::check) found it, with its whole chain of parents, and that a
//! person for whom no rule fits is refused with a reason instead of stored without a place.

use std::collections::{BTreeMap, BTreeSet};

use cht_core_client::model::{Contact, Reference};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::fields::folded;
use crate::change::Patient;
use crate::connector::Reject;

/// Where new contacts are put: the first rule that fits, else the default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// Looked at in order.
    pub rules: Vec<PlaceRule>,
    /// Document id of the place for everybody else. Without it such a person becomes a dead letter.
    pub default: Option<String>,
    /// Place types whose `external_id` is learned for rules with a prefix.
    pub types: Vec<String>,
}

/// One rule: a canonical field of the person decides.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceRule {
    /// `address.village`, `location`, `attribute.chw` ...
    pub field: String,
    /// Value to document id of the place; upper and lower case are the same.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// The place whose `external_id` is this prefix and the value.
    #[serde(default)]
    pub external_id_prefix: Option<String>,
}

impl Placement {
    /// All places named by id.
    pub fn named(&self) -> BTreeSet<&str> {
        let by_rule = self.rules.iter().flat_map(|rule| rule.values.values());
        by_rule.chain(&self.default).map(String::as_str).collect()
    }

    /// Whether any rule asks for a place by its `external_id`.
    pub fn looks_up(&self) -> bool {
        self.rules.iter().any(|rule| rule.external_id_prefix.is_some())
    }

    /// The `parent` of a new contact: ids only, up to the root.
    pub fn parent(&self, person: &Patient, places: &Places) -> Result<Value, Reject> {
        let found = self.rules.iter().find_map(|rule| rule.find(person, places)).or(self.default.as_deref());
        let Some(id) = found else {
            let fields: Vec<&str> = self.rules.iter().map(|rule| rule.field.as_str()).collect();
            return Err(Reject::new(format!(
                "no place for a new contact: no rule fits (fields looked at: {}) and there is no default; add the value to \
                 `place.rules` or set `place.default`, then replay",
                if fields.is_empty() { "none".to_owned() } else { fields.join(", ") }
            )));
        };
        places.lineage(id).ok_or_else(|| {
            Reject::new(
                "the place chosen for a new contact was not found in the CHT by the last check; mend `place` or the CHT, \
                 run `check`, then replay",
            )
        })
    }
}

impl PlaceRule {
    fn find<'a>(&'a self, person: &Patient, places: &'a Places) -> Option<&'a str> {
        let value = person.get(&self.field)?;
        let named =
            self.values.iter().find(|(key, _)| folded(key) == folded(value)).map(|(_, id)| id.as_str());
        named.or_else(|| places.by_external_id(&format!("{}{value}", self.external_id_prefix.as_deref()?)))
    }
}

/// The places that the last check found.
#[derive(Clone, Debug, Default)]
pub struct Places {
    chains: BTreeMap<String, Vec<String>>,
    external: BTreeMap<String, String>,
}

impl Places {
    /// Learns a place from its document; false if it has no id.
    pub fn learn(&mut self, place: &Contact) -> bool {
        let Some(id) = &place.id else { return false };
        let above = place.parent.as_ref().map(Reference::ids).unwrap_or_default();
        let chain = std::iter::once(id.as_str()).chain(above).map(str::to_owned).collect();
        if let Some(external) = &place.external_id {
            self.external.insert(folded(external), id.clone());
        }
        self.chains.insert(id.clone(), chain);
        true
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.chains.len()
    }

    fn by_external_id(&self, external: &str) -> Option<&str> {
        self.external.get(&folded(external)).map(String::as_str)
    }

    fn lineage(&self, id: &str) -> Option<Value> {
        let chain = Reference::from_ids(self.chains.get(id)?.iter().cloned())?;
        serde_json::to_value(chain).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn placement() -> Placement {
        serde_json::from_value(json!({
            "rules": [
                {"field": "attribute.chw", "external_id_prefix": "openmrs:"},
                {"field": "address.village", "values": {"Kibera North": "area-1", "gone": "area-9"}},
            ],
            "default": "area-2",
        }))
        .unwrap()
    }

    fn places() -> Places {
        let mut places = Places::default();
        for doc in [
            json!({"_id": "area-1", "parent": {"_id": "centre", "parent": {"_id": "district"}}}),
            json!({"_id": "area-2", "parent": {"_id": "centre"}}),
            json!({"_id": "area-3", "external_id": "openmrs:CHW-7"}),
        ] {
            assert!(places.learn(&serde_json::from_value(doc).unwrap()));
        }
        places
    }

    fn parent(fields: &[(&str, &str)]) -> Result<Value, Reject> {
        placement().parent(&Patient::with(fields.iter().copied()), &places())
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let first = [("attribute.chw", "chw-7"), ("address.village", "kibera north")];
        assert_eq!(parent(&first).unwrap(), json!({"_id": "area-3"}));
        let second = [("attribute.chw", "unknown"), ("address.village", " kibera  NORTH ")];
        assert_eq!(
            parent(&second).unwrap(),
            json!({"_id": "area-1", "parent": {"_id": "centre", "parent": {"_id": "district"}}})
        );
        assert_eq!(parent(&[]).unwrap(), json!({"_id": "area-2", "parent": {"_id": "centre"}}));
    }

    #[test]
    fn nobody_is_stored_without_a_place() {
        let without = Placement { default: None, ..placement() };
        let reject =
            without.parent(&Patient::with([("address.village", "Marked-Village")]), &places()).unwrap_err();
        assert!(
            reject.reason.contains("address.village") && !reject.reason.contains("Marked-Village"),
            "{reject}"
        );
        assert!(parent(&[("address.village", "gone")]).unwrap_err().reason.contains("not found"));
    }
}
