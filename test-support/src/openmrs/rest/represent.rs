//! Representations of REST: `ref`, `default`, `full` and `custom:(...)`, all of them lists of properties.
//!
//! Each kind of thing says its class, version, address and the lists of its named representations; one function renders
//! all of them, so a custom representation can ask for whatever a full one shows.

use serde_json::{Map, Value, json};

use super::things::{Node, Thing};
use crate::openmrs::{
    http::{Reply, conversion},
    metadata::metadata,
    model::Audit,
    tables::Tables,
    time,
};

/// What a renderer needs beside the thing.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub tables: &'a Tables,
    pub origin: &'a str,
    pub now: i64,
}

/// A representation that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Rep {
    Ref,
    Default,
    Full,
    Custom(Vec<(String, Option<Rep>)>),
}

impl Rep {
    /// The `v` parameter of a request.
    pub fn asked(v: Option<&str>) -> Result<Self, Reply> {
        match v {
            None | Some("" | "default") => Ok(Self::Default),
            Some("ref") => Ok(Self::Ref),
            Some("full") => Ok(Self::Full),
            Some(other) => match other.strip_prefix("custom:") {
                Some(list) => Ok(Self::custom(list)),
                None => Err(conversion(&format!("Unknown representation: {other}"), &[], 705)),
            },
        }
    }

    /// A list in parentheses, or without them.
    pub fn custom(list: &str) -> Self {
        let mut rest = list.strip_prefix('(').unwrap_or(list);
        Self::Custom(properties(&mut rest, 0))
    }
}

/// Lists inside lists are read to this depth.
const DEEPEST: u32 = 32;

fn properties(rest: &mut &str, depth: u32) -> Vec<(String, Option<Rep>)> {
    let mut found = Vec::new();
    if depth > DEEPEST {
        *rest = "";
        return found;
    }
    loop {
        let end = rest.find([',', ':', ')', '(']).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        *rest = tail;
        let mut rep = None;
        if let Some(tail) = rest.strip_prefix(":(") {
            *rest = tail;
            rep = Some(Rep::Custom(properties(rest, depth + 1)));
        } else if let Some(tail) = rest.strip_prefix(':') {
            let end = tail.find([',', ')']).unwrap_or(tail.len());
            let (word, tail) = tail.split_at(end);
            *rest = tail;
            rep = Some(match word {
                "ref" => Rep::Ref,
                "full" => Rep::Full,
                _ => Rep::Default,
            });
        }
        if !name.trim().is_empty() {
            found.push((name.trim().to_owned(), rep));
        }
        match rest.chars().next() {
            Some(',') => *rest = &rest[1..],
            Some(')') => {
                *rest = &rest[1..];
                return found;
            }
            _ => return found,
        }
    }
}

/// Renders one thing.
pub fn render(thing: &Thing<'_>, rep: &Rep, view: View<'_>) -> Result<Value, Reply> {
    let kind = thing.kind();
    let address = format!("{}/openmrs/ws/rest/v1/{}", view.origin, thing.address());
    let link = |rel: &str| {
        let query = match rel {
            "full" => "?v=full",
            _ => "",
        };
        json!({"rel": rel, "uri": format!("{address}{query}"), "resourceAlias": kind.alias})
    };
    let listed;
    let (list, mut links) = match rep {
        Rep::Ref => {
            let mut object = Map::new();
            object.insert("uuid".to_owned(), property(thing, "uuid", None, view)?);
            object.insert("display".to_owned(), property(thing, "display", None, view)?);
            if thing.is_voided() {
                object.insert("voided".to_owned(), true.into());
            }
            object.insert("links".to_owned(), json!([link("self")]));
            return Ok(Value::Object(object));
        }
        Rep::Default => {
            listed = Rep::custom(kind.default);
            let full = kind.has_full.then(|| link("full"));
            (&listed, [Some(link("self")), thing.extra_link(view), full].into_iter().flatten().collect())
        }
        Rep::Full => {
            listed = Rep::custom(if kind.full.is_empty() { kind.default } else { kind.full });
            (&listed, vec![link("self")])
        }
        Rep::Custom(_) => (rep, Vec::new()),
    };
    let Rep::Custom(list) = list else { return Ok(Value::Null) };
    let mut object = Map::new();
    for (name, sub) in list {
        if name == "links" {
            links = vec![link("self")];
            continue;
        }
        object.insert(name.clone(), property(thing, name, sub.as_ref(), view)?);
    }
    if !links.is_empty() {
        object.insert("links".to_owned(), Value::Array(links));
    }
    object.insert("resourceVersion".to_owned(), kind.version.into());
    Ok(Value::Object(object))
}

fn property(thing: &Thing<'_>, name: &str, sub: Option<&Rep>, view: View<'_>) -> Result<Value, Reply> {
    let rep = sub.unwrap_or(&Rep::Default);
    match thing.property(name, view) {
        Some(Node::Value(value)) => Ok(value),
        Some(Node::Thing(inner)) => render(&inner, rep, view),
        Some(Node::Things(inner)) => inner.iter().map(|one| render(one, rep, view)).collect(),
        Some(Node::Audit(audit)) => Ok(audit_info(audit, sub, view)),
        None => {
            let class = thing.kind().class;
            let why = format!("Unknown property '{name}' on class 'class {class}'");
            Err(conversion(&format!("{name} on class {class}"), &[&why], 705))
        }
    }
}

fn audit_info(audit: &Audit, sub: Option<&Rep>, view: View<'_>) -> Value {
    let user = |ix: u16| {
        let user = &metadata().users[usize::from(ix)];
        json!({"uuid": user.uuid, "display": user.username, "links": [{
            "rel": "self",
            "uri": format!("{}/openmrs/ws/rest/v1/user/{}", view.origin, user.uuid),
            "resourceAlias": "user",
        }]})
    };
    let mut info = json!({
        "creator": user(audit.creator),
        "dateCreated": time::rest(audit.created),
        "changedBy": audit.changed.map(|(by, _)| user(by)),
        "dateChanged": audit.changed.map(|(_, at)| time::rest(at)),
    });
    if let Some(voided) = &audit.voided {
        info["voidedBy"] = user(voided.by);
        info["dateVoided"] = time::rest(voided.at).into();
        info["voidReason"] = (&*voided.reason).into();
    }
    match sub {
        Some(Rep::Custom(list)) => {
            list.iter().map(|(name, _)| (name.clone(), info[name.as_str()].clone())).collect()
        }
        _ => info,
    }
}
