//! Canonical fields of a person and where a CHT document holds them.
//!
//! Guarantees that what [`FieldMap::write`] stored is read back by [`FieldMap::read`] as the same value, and that a value
//! which cannot be understood is absent (unknown) instead of wrong.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, civil::Date, tz::Offset};
use serde_json::{Map, Value};

use crate::change::field;

/// Where canonical fields stand in a document unless the configuration says otherwise.
pub(super) const DEFAULTS: [(&str, &str); 7] = [
    (field::NAME, "name"),
    (field::SEX, "sex"),
    (field::BIRTH_DATE, "date_of_birth"),
    (field::PHONE, "phone"),
    (field::DECEASED, "date_of_death"),
    (field::MUTED, "muted"),
    (field::LOCATION, "parent._id"),
];

/// First parts of paths that only the CHT itself writes: its own keys, the shortcodes, the place in the tree.
const CHT_OWN: [&str; 10] = [
    "_id",
    "_rev",
    "_attachments",
    "type",
    "contact_type",
    "parent",
    "patient_id",
    "place_id",
    "reported_date",
    "external_id",
];

/// Canonical field to document path.
#[derive(Clone, Debug)]
pub(super) struct FieldMap {
    paths: BTreeMap<String, String>,
    read_only: BTreeSet<String>,
}

impl FieldMap {
    /// The defaults, changed by `extra`; an empty path takes a field out.
    pub fn new(extra: &BTreeMap<String, String>, read_only: &[String]) -> Self {
        let mut paths: BTreeMap<String, String> =
            DEFAULTS.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
        paths.extend(extra.clone());
        paths.retain(|_, path| !path.is_empty());
        let read_only = paths
            .iter()
            .filter(|(name, path)| read_only.contains(name) || Self::is_own(path))
            .map(|(name, _)| name.clone())
            .collect();
        Self { paths, read_only }
    }

    /// Whether only the CHT, or the connector itself, writes there.
    pub fn is_own(path: &str) -> bool {
        CHT_OWN.contains(&path.split('.').next().unwrap_or_default())
    }

    /// The fields that a partner may write.
    pub fn writable(&self) -> Vec<String> {
        self.paths.keys().filter(|name| !self.read_only.contains(*name)).cloned().collect()
    }

    /// The document path of a field.
    pub fn path(&self, name: &str) -> Option<&str> {
        self.paths.get(name).map(String::as_str)
    }

    /// The document path of a field that a partner may write.
    pub fn writable_path(&self, name: &str) -> Option<&str> {
        self.path(name).filter(|_| !self.read_only.contains(name))
    }

    /// All fields that the document holds.
    pub fn read(&self, doc: &Value) -> BTreeMap<String, String> {
        self.paths.keys().filter_map(|name| Some((name.clone(), self.read_one(doc, name)?))).collect()
    }

    /// One field; `None` where there is nothing that can be understood.
    pub fn read_one(&self, doc: &Value, name: &str) -> Option<String> {
        let value = get(doc, self.path(name)?)?;
        let text = match value {
            Value::String(text) => words(text),
            Value::Number(number) => number.to_string(),
            Value::Bool(true) => "true".to_owned(),
            Value::Bool(false) if matches!(name, field::DECEASED | field::MUTED) => return None,
            Value::Bool(false) => "false".to_owned(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        if text.is_empty() {
            return None;
        }
        match name {
            field::SEX => sex(&text),
            field::BIRTH_DATE => partial_date(&text),
            field::DECEASED => Some(day_of(value, &text).unwrap_or_else(|| "true".to_owned())),
            field::MUTED => Some("true".to_owned()),
            _ => Some(text),
        }
    }

    /// Writes a canonical value where the document holds it; an empty one takes it away. Gives the path if the document
    /// changed.
    pub fn write(&self, doc: &mut Value, name: &str, value: &str, now: i64) -> Option<String> {
        let path = self.writable_path(name)?;
        let value = value.trim();
        if self.read_one(doc, name).as_deref().unwrap_or_default() == value {
            return None;
        }
        if value.is_empty() {
            remove(doc, path);
            return Some(path.to_owned());
        }
        let stored = match (name, value) {
            (field::DECEASED, "true") => Value::Bool(true),
            (field::MUTED, "true") => Timestamp::from_millisecond(now).ok()?.to_string().into(),
            _ => value.into(),
        };
        set(doc, path, stored);
        Some(path.to_owned())
    }
}

/// The value at a dotted path.
pub(super) fn get<'a>(doc: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(doc, |at, part| at.get(part))
}

/// Sets the value at a dotted path, making objects on the way; what stands in the way is replaced.
pub(super) fn set(doc: &mut Value, path: &str, value: Value) {
    let mut at = doc;
    for part in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        at = map.entry(part).or_insert(Value::Null);
    }
    *at = value;
}

fn remove(doc: &mut Value, path: &str) {
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    let at = match parents {
        None => Some(doc),
        Some(parents) => parents.split('.').try_fold(doc, |at, part| at.get_mut(part)),
    };
    if let Some(Value::Object(map)) = at {
        map.remove(last);
    }
}

/// Trimmed, one space between words.
pub(super) fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// For comparing what people typed: words in lower case.
pub(super) fn folded(text: &str) -> String {
    words(text).to_lowercase()
}

fn sex(text: &str) -> Option<String> {
    let known = match text.to_lowercase().as_str() {
        "male" | "m" => "male",
        "female" | "f" => "female",
        "other" | "intersex" => "other",
        "unknown" => "unknown",
        _ => return None,
    };
    Some(known.to_owned())
}

/// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`; of a date with a time, the date.
fn partial_date(text: &str) -> Option<String> {
    let date = match text.split_once('T') {
        Some((date, _)) => date,
        None => text.split(' ').next()?,
    };
    let whole = match date.len() {
        4 => format!("{date}-01-01"),
        7 => format!("{date}-01"),
        10 => date.to_owned(),
        _ => return None,
    };
    whole.parse::<Date>().is_ok().then(|| date.to_owned())
}

/// The day of a date of death: a date, a date with a time, or milliseconds since 1970 as `death_reporting` stores them.
fn day_of(value: &Value, text: &str) -> Option<String> {
    match value.as_i64().or_else(|| (text.len() >= 12).then(|| text.parse().ok()).flatten()) {
        Some(ms) => Some(Offset::UTC.to_datetime(Timestamp::from_millisecond(ms).ok()?).date().to_string()),
        None => partial_date(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(extra: &[(&str, &str)]) -> FieldMap {
        FieldMap::new(&extra.iter().map(|(n, p)| ((*n).to_owned(), (*p).to_owned())).collect(), &[])
    }

    #[test]
    fn a_person_as_the_cht_stores_one() {
        let doc = json!({"_id": "p", "type": "person", "name": " Asha   Test ", "sex": "Female", "phone": "+254700000001",
            "date_of_birth": "1994-03-02T00:00:00.000Z", "parent": {"_id": "h", "parent": {"_id": "f"}},
            "date_of_death": 1_767_323_045_000_i64, "muted": "2026-01-01T00:00:00.000Z", "patient_id": "01234"});
        let fields =
            map(&[("identifier.cht", "patient_id"), ("attribute.ward", "parent.parent._id")]).read(&doc);
        let expected = [
            ("name", "Asha Test"),
            ("sex", "female"),
            ("phone", "+254700000001"),
            ("birth_date", "1994-03-02"),
            ("location", "h"),
            ("deceased", "2026-01-02"),
            ("muted", "true"),
            ("identifier.cht", "01234"),
            ("attribute.ward", "f"),
        ];
        assert_eq!(fields, expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
    }

    #[test]
    fn what_cannot_be_understood_is_absent() {
        for doc in [
            json!({"sex": "x", "date_of_birth": "1994-02-30", "name": "  ", "muted": false, "date_of_death": false}),
            json!({"sex": 1, "date_of_birth": "2 March 1994", "name": null, "muted": "", "date_of_death": ""}),
            json!({"sex": {}, "date_of_birth": [1994], "name": ["a"], "muted": null, "date_of_death": null}),
            json!(null),
        ] {
            assert_eq!(map(&[]).read(&doc), BTreeMap::new());
        }
        assert_eq!(map(&[]).read_one(&json!({"date_of_death": "soon"}), "deceased").as_deref(), Some("true"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let map = map(&[("identifier.national", "identifiers.national"), ("identifier.cht", "patient_id")]);
        let mut doc = json!({"_id": "p", "other": 1, "identifiers": {"old": "x"}});
        let values = [
            ("name", "Asha Test"),
            ("birth_date", "1994"),
            ("deceased", "true"),
            ("muted", "true"),
            ("identifier.national", "N-1"),
        ];
        for (name, value) in values {
            assert!(map.write(&mut doc, name, value, 1_000).is_some(), "{name}");
            assert_eq!(map.read_one(&doc, name).as_deref(), Some(value));
            assert!(map.write(&mut doc, name, value, 2_000).is_none(), "{name} agrees already");
        }
        assert_eq!(doc["muted"], "1970-01-01T00:00:01Z");
        assert_eq!(doc["identifiers"], json!({"old": "x", "national": "N-1"}));
        for (name, _) in values {
            assert!(map.write(&mut doc, name, "", 3_000).is_some());
        }
        assert_eq!(doc, json!({"_id": "p", "other": 1, "identifiers": {"old": "x"}}));
    }

    #[test]
    fn what_the_cht_owns_is_not_written() {
        let map = map(&[("identifier.cht", "patient_id"), ("address.village", "village")]);
        let mut doc = json!({"patient_id": "1", "parent": {"_id": "h"}});
        assert!(map.write(&mut doc, "identifier.cht", "2", 0).is_none());
        assert!(map.write(&mut doc, "location", "x", 0).is_none());
        assert_eq!(doc, json!({"patient_id": "1", "parent": {"_id": "h"}}));
        assert!(!map.writable().iter().any(|name| name == "location" || name == "identifier.cht"));
        assert!(map.writable().contains(&"address.village".to_owned()));
    }
}
