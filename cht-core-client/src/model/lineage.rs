//! The chain of parents of a contact, and the reduction of a document to what is stored.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::document;

/// How many parents are followed at most; the CHT has the same guard.
pub const MAX_DEPTH: usize = 50;

document! {
    /// A parent or contact inside a document: stored as ids only, filled in by calls that hydrate.
    Lineage {
        /// Document id.
        id: String = "_id",
        /// The next one up.
        parent: Box<Reference> = "parent",
    }
}

/// A parent or contact: usually an object with the chain of ids, sometimes a bare id.
///
/// A place made with an existing contact holds a bare id in its first revision; top-level places may hold `""`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reference {
    /// A bare id.
    Id(String),
    /// The object.
    Document(Lineage),
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({} ids)", self.ids().len())
    }
}

impl Reference {
    /// A chain from the ids, nearest first; `None` if there are none.
    pub fn from_ids<I, S>(ids: I) -> Option<Self>
    where
        I: IntoIterator<Item = S>,
        I::IntoIter: DoubleEndedIterator,
        S: Into<String>,
    {
        ids.into_iter().rev().fold(None, |parent, id| {
            let parent = parent.map(Box::new);
            Some(Self::Document(Lineage { id: Some(id.into()), parent, rest: Map::new() }))
        })
    }

    /// The id it names.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Id(id) => Some(id.as_str()),
            Self::Document(document) => document.id.as_deref(),
        }
        .filter(|id| !id.is_empty())
    }

    /// The next one up.
    pub fn parent(&self) -> Option<&Reference> {
        match self {
            Self::Id(_) => None,
            Self::Document(document) => document.parent.as_deref(),
        }
    }

    /// The ids of the chain, nearest first, at most [`MAX_DEPTH`].
    pub fn ids(&self) -> Vec<&str> {
        std::iter::successors(Some(self), |reference| reference.parent())
            .take(MAX_DEPTH)
            .map_while(Reference::id)
            .collect()
    }

    /// The same chain with ids only, as it is stored.
    pub fn minified(&self) -> Option<Self> {
        Self::from_ids(self.ids())
    }
}

/// Reduces a hydrated document to what is stored: parents and contacts to chains of ids, linked documents to ids,
/// and in a report no `patient` and `place`.
pub fn minify(doc: &mut Map<String, Value>) {
    for key in ["parent", "contact"] {
        let chain = doc.get(key).filter(|value| value.is_object()).map(chain_of);
        if let Some(chain) = chain {
            doc.insert(key.to_owned(), chain);
        }
    }
    if doc.get("type").and_then(Value::as_str) == Some("data_record") {
        doc.remove("patient");
        doc.remove("place");
    }
    if let Some(Value::Object(links)) = doc.get_mut("linked_docs") {
        for link in links.values_mut() {
            if let Some(id) = link.get("_id").cloned() {
                *link = id;
            }
        }
    }
}

fn chain_of(value: &Value) -> Value {
    let ids: Vec<&Value> = std::iter::successors(Some(value), |value| value.get("parent"))
        .take(MAX_DEPTH)
        .map_while(|value| value.get("_id"))
        .collect();
    ids.into_iter().rev().fold(Value::Null, |parent, id| {
        let mut link = Map::new();
        link.insert("_id".to_owned(), id.clone());
        if !parent.is_null() {
            link.insert("parent".to_owned(), parent);
        }
        Value::Object(link)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hydrated_documents_are_cut_down_to_ids() {
        let mut doc = json!({
            "_id": "r", "type": "data_record", "form": "visit",
            "contact": {"_id": "c", "name": "C", "parent": {"_id": "p", "name": "P", "contact": {"_id": "q"}}},
            "patient": {"_id": "x"}, "place": {"_id": "y"},
            "linked_docs": {"a": {"_id": "z", "name": "Z"}, "b": "w"},
            "fields": {"contact": {"_id": "kept", "name": "kept"}},
        });
        minify(doc.as_object_mut().unwrap());
        assert_eq!(
            doc,
            json!({
                "_id": "r", "type": "data_record", "form": "visit",
                "contact": {"_id": "c", "parent": {"_id": "p"}},
                "linked_docs": {"a": "z", "b": "w"},
                "fields": {"contact": {"_id": "kept", "name": "kept"}},
            })
        );
    }

    #[test]
    fn both_shapes_of_a_contact_and_an_empty_parent_are_read() {
        let read = |value| serde_json::from_value::<Reference>(value).unwrap();
        assert_eq!(read(json!("a")).ids(), ["a"]);
        assert_eq!(read(json!("")).ids(), [""; 0]);
        assert_eq!(read(json!({"_id": "a", "parent": {"_id": "b", "parent": ""}})).ids(), ["a", "b"]);
        let chain = Reference::from_ids(["a", "b"]).unwrap();
        assert_eq!(serde_json::to_value(&chain).unwrap(), json!({"_id": "a", "parent": {"_id": "b"}}));
    }
}
