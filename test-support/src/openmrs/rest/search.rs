//! Search of patients by the one fuzzy way that REST has, and the paging of every list.

use serde_json::{Value, json};

use super::{
    Rest,
    represent::{Rep, render},
    things::Thing,
};
use crate::openmrs::{
    http::{Answer, Reply, failure, not_supported},
    model::Patient,
};

/// Parameters that say how to answer and not what to look for.
const SHAPE: [&str; 6] = ["v", "limit", "startIndex", "totalCount", "includeAll", "includeDead"];
const DEFAULT_LIMIT: usize = 50;
const LARGEST_LIMIT: i64 = 100;

impl Rest<'_> {
    /// `q` and `identifier` alike find parts of identifiers of every type and starts of names, in any case of letters.
    pub(super) fn search_patients(&mut self, resource: &str) -> Answer {
        self.allow(if resource == "person" { &["Get People"] } else { &["Get Patients"] })?;
        let asked: Vec<&str> =
            self.call.query.iter().map(|(key, _)| key.as_str()).filter(|key| !SHAPE.contains(key)).collect();
        if asked.is_empty() {
            return Err(not_supported());
        }
        let sought =
            self.call.param("q").or(self.call.param("identifier")).unwrap_or_default().trim().to_lowercase();
        let with_dead = self.call.param("includeDead") == Some("true");
        let tables = &self.state.tables;
        let found: Vec<Thing<'_>> = if sought.chars().count() < 2 {
            Vec::new()
        } else {
            tables
                .live()
                .iter()
                .map(|at| tables.patient(*at))
                .filter(|patient| (with_dead || !patient.row.dead) && matches(patient, &sought))
                .map(if resource == "person" { Thing::Person } else { Thing::Patient })
                .collect()
        };
        self.list(&found)
    }

    /// A page of a list that is at hand as a whole.
    pub(super) fn list(&self, found: &[Thing<'_>]) -> Answer {
        let limit = match self.call.param("limit").and_then(|text| text.parse::<i64>().ok()) {
            None => DEFAULT_LIMIT,
            Some(limit) if limit > LARGEST_LIMIT => {
                let raw = format!("Administrator has set absolute limit at {LARGEST_LIMIT}");
                return Err(context_failure(&raw, 141));
            }
            Some(limit) if limit <= 0 => {
                let raw = "If you specify a number of results to return, it must be >0 and not null";
                return Err(context_failure(raw, 139));
            }
            Some(limit) => limit as usize,
        };
        let start = self.call.param("startIndex").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        if start > found.len() {
            let raw = format!("fromIndex({start}) > toIndex({})", found.len());
            return Err(failure(
                500,
                "java.lang.IllegalArgumentException",
                &raw,
                "java.util.AbstractList:509",
            ));
        }
        let rep = match self.call.param("v") {
            None => Rep::Ref,
            asked => Rep::asked(asked)?,
        };
        let page = found.iter().skip(start).take(limit);
        let results: Vec<Value> =
            page.map(|thing| render(thing, &rep, self.view())).collect::<Result<_, _>>()?;
        let mut body = json!({"results": results});
        let mut links = Vec::new();
        if start + limit < found.len() {
            links.push(self.page_link("next", Some(start + limit)));
        }
        if start > 0 {
            links.push(self.page_link("prev", (start > limit).then(|| start - limit)));
        }
        if !links.is_empty() {
            body["links"] = links.into();
        }
        if self.call.param("totalCount") == Some("true") {
            body["totalCount"] = found.len().into();
        }
        Ok(Reply::rest(200, &body))
    }

    fn page_link(&self, rel: &str, start: Option<usize>) -> Value {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.call.query.iter().filter(|(key, _)| key != "startIndex"));
        let start = start.map(|start| format!("startIndex={start}")).unwrap_or_default();
        let uri = format!("{}{}?{}&{start}", self.origin, self.call.path, query.finish());
        json!({"rel": rel, "uri": uri, "resourceAlias": null})
    }
}

fn context_failure(raw: &str, line: u32) -> Reply {
    let code = format!("org.openmrs.module.webservices.rest.web.RequestContext:{line}");
    failure(500, "org.openmrs.api.APIException", raw, &code)
}

fn matches(patient: &Patient, sought: &str) -> bool {
    let in_identifier = patient.live_identifiers().any(|row| row.value.to_lowercase().contains(sought));
    in_identifier
        || patient.live_names().any(|name| {
            let parts: Vec<String> = name.fields.iter().map(|(_, value)| value.to_lowercase()).collect();
            sought.split_whitespace().all(|token| parts.iter().any(|part| part.starts_with(token)))
        })
}
