//! `/api/v2/export`: monthly target figures as a DHIS2 data value set, and reports as CSV.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    auth::Access,
    http::{Fail, Reply, Req},
    lineage,
    mango::field_of,
    state::State,
    time,
};

pub(super) fn export(state: &State, req: &Req, name: &str, access: &Access, now: i64) -> Result<Reply, Fail> {
    let user = access.user()?;
    let own = match name {
        "reports" | "messages" => "can_export_messages",
        "contacts" => "can_export_contacts",
        "feedback" => "can_export_feedback",
        "user-devices" => "can_export_devices_details",
        "dhis" => "can_export_all",
        _ => return Err(Fail::api(404, format!("Invalid export type \"{name}\""))),
    };
    let allowed = user.is_online() && (user.has(state, "can_export_all") || user.has(state, own));
    if !allowed {
        return Err(if name == "dhis" { Fail::server(None) } else { Fail::forbidden() });
    }
    let options = if req.method == "POST" { req.exact_json()? } else { from_query(req) };
    let extension = if name == "dhis" { "json" } else { "csv" };
    let file = format!("attachment; filename={name}-{}.{extension}", time::format(now, "%Y%m%d%H%M"));
    let disposition = ("content-disposition", file);
    match name {
        "dhis" => match dhis(state, &options, now) {
            Ok(body) => Ok(Reply::api(&body).with(disposition.0, disposition.1)),
            Err(message) => Err(Fail::Api {
                status: 400,
                error: json!(message),
                details: None,
                headers: vec![disposition],
            }),
        },
        "reports" => Ok(Reply::new(200, "text/csv; charset=utf-8", reports(state, &options))
            .with(disposition.0, disposition.1)),
        _ => Ok(Reply::new(200, "text/csv; charset=utf-8", "").with(disposition.0, disposition.1)),
    }
}

/// `filters[date][from]=1` as `{filters: {date: {from: "1"}}}`.
fn from_query(req: &Req) -> Value {
    let mut out = json!({});
    for (key, value) in &req.query {
        let mut at = &mut out;
        for part in key.split('[').map(|part| part.trim_end_matches(']')) {
            if !at.is_object() {
                *at = json!({});
            }
            at = &mut at[part];
        }
        *at = json!(value);
    }
    out
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn dhis(state: &State, options: &Value, now: i64) -> Result<Value, String> {
    let filters = &options["filters"];
    let Some(wanted) = filters["dataSet"].as_str() else {
        return Err("filter \"dataSet\" is required".into());
    };
    let settings = state.settings.value();
    let sets = settings["dhis_data_sets"].as_array();
    let set = sets.into_iter().flatten().find(|set| set["id"] == wanted);
    if filters["date"]["from"].is_null() {
        let unknown = set.is_none().then(|| format!("dataSet \"{wanted}\" is not defined"));
        return Err(unknown.unwrap_or_else(|| "filter \"from\" is required".into()));
    }
    let set = set.ok_or_else(|| format!("dataSet \"{wanted}\" is not defined"))?;
    let from = number(&filters["date"]["from"]).unwrap_or(0);
    let readable = matches!(&options["options"]["humanReadable"], Value::Bool(true))
        || options["options"]["humanReadable"] == "true";
    let period = time::format(from, "%Y-%m");
    let fits = |dhis: &Value| dhis["dataSet"].is_null() || dhis["dataSet"] == wanted;
    let mut units = Vec::new();
    for id in state.index.contacts.values().flatten() {
        let doc = state.medic.json(id).unwrap_or_default();
        if let Some(unit) =
            doc.get("dhis").filter(|dhis| fits(dhis)).and_then(|dhis| dhis["orgUnit"].as_str())
            && filters["orgUnit"].as_str().is_none_or(|only| only == unit)
        {
            units.push((id.to_string(), unit.to_owned(), doc.get("name").cloned().unwrap_or_default()));
        }
    }
    let targets: Vec<_> = state
        .medic
        .live()
        .filter(|current| current.id.starts_with("target~"))
        .map(|current| current.json())
        .filter(|doc| doc.get("reporting_period") == Some(&json!(period)))
        .collect();
    let mut values = Vec::new();
    let items = settings["tasks"]["targets"]["items"].as_array();
    for item in items
        .into_iter()
        .flatten()
        .filter(|item| item["dhis"]["dataElement"].is_string() && fits(&item["dhis"]))
    {
        for (place, unit, name) in &units {
            let below = |doc: &&super::store::Json| {
                let owner = doc.get("owner").and_then(Value::as_str).unwrap_or_default();
                let chain = lineage::chain(state, owner);
                lineage::chain_ids(chain.as_ref()).contains(place)
            };
            let total: i64 = targets
                .iter()
                .filter(below)
                .flat_map(|doc| doc.get("targets").and_then(Value::as_array).into_iter().flatten())
                .filter(|target| target["id"] == item["id"])
                .filter_map(|target| target["value"]["total"].as_i64())
                .sum();
            let element = if readable { &item["id"] } else { &item["dhis"]["dataElement"] };
            let unit = if readable { name.clone() } else { json!(unit) };
            values.push(json!({ "dataElement": element, "orgUnit": unit, "value": total }));
        }
    }
    let shown = if readable { set["translation_key"].clone() } else { json!(wanted) };
    Ok(json!({
        "dataSet": shown, "completeDate": time::format(now, "%Y-%m-%d"), "period": time::format(from, "%Y%m"),
        "dataValues": values,
    }))
}

const COLUMNS: [&str; 9] = [
    "_id",
    "form",
    "patient_id",
    "reported_date",
    "from",
    "contact.name",
    "contact.parent.name",
    "contact.parent.parent.name",
    "contact.parent.parent.parent.name",
];

/// Reports oldest first; quotes are escaped with a backslash.
fn reports(state: &State, options: &Value) -> String {
    let selected = &options["filters"]["forms"]["selected"];
    let codes: Vec<&str> = match selected {
        Value::Array(list) => list.iter().filter_map(|one| one["code"].as_str()).collect(),
        Value::Object(map) => map.values().filter_map(|one| one["code"].as_str()).collect(),
        _ => state.index.reports.keys().map(String::as_str).filter(|form| !form.is_empty()).collect(),
    };
    let ids = codes.iter().filter_map(|form| state.index.reports.get(*form)).flatten();
    let mut docs: Vec<_> = ids.filter_map(|id| state.medic.json(id)).collect();
    docs.sort_by_cached_key(|doc| {
        (doc.get("reported_date").and_then(Value::as_i64), doc.get("_id").map(Value::to_string))
    });
    let fields: BTreeSet<String> = docs
        .iter()
        .filter_map(|doc| doc.get("fields")?.as_object())
        .flat_map(|fields| fields.keys().cloned())
        .collect();
    let mut csv =
        COLUMNS.iter().copied().chain(fields.iter().map(String::as_str)).collect::<Vec<_>>().join(",") + "\n";
    for doc in lineage::hydrate(state, docs) {
        let doc = Value::Object(doc);
        let fixed = COLUMNS.iter().map(|path| field_of(&doc, path));
        let cells = fixed.chain(fields.iter().map(|name| doc["fields"].get(name))).map(|value| match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => format!("\"{}\"", text.replace('"', "\\\"")),
            Some(Value::Object(_)) => "[object Object]".into(),
            Some(other) => other.to_string(),
        });
        csv.push_str(&cells.collect::<Vec<_>>().join(","));
        csv.push('\n');
    }
    csv
}
