//! Which call of the client makes a recorded request.

use std::collections::BTreeMap;
use std::time::Duration;

use cht_core_client::api::Paging;
use cht_core_client::api::contacts::ContactSearch;
use cht_core_client::api::export::CsvExport;
use cht_core_client::api::records::{Record, SmsRecord};
use cht_core_client::api::settings::Merge;
use cht_core_client::api::sms::{Callback, IncomingSms, SmsStatus, SmsUpdate};
use cht_core_client::api::users::UserFilter;
use cht_core_client::bulk::{DocRow, RowOutcome};
use cht_core_client::changes::{Changes, Event, Page, Seq};
use cht_core_client::docs::{Database, GetOptions};
use cht_core_client::model::{Contact, Infodoc, NewUser, Report};
use cht_core_client::query::{FindQuery, ViewQuery};
use cht_core_client::transport::collect;
use cht_core_client::{ChtClient, Error, Reason};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, Value>,
    pub body: Value,
    pub content_type: Option<String>,
    pub login: String,
    pub token: Option<String>,
}

/// How much of the recorded answer the typed value holds.
pub enum Held {
    All(Value),
    Part(Value),
    Nothing,
}

pub enum Played {
    /// The client made this call.
    Made(Result<Held, Error>),
    /// The client asks the same by POST, so that the value stays out of the URL.
    MadeByPost(Result<Held, Error>),
    /// The client has no such call.
    NoCall,
    /// The client cannot send such a request.
    NotSent,
    /// The client refuses it before sending.
    Refused(Error),
}

fn all<T: Serialize>(result: Result<T, Error>) -> Played {
    Played::Made(result.map(|value| Held::All(serde_json::to_value(value).unwrap())))
}

fn part<T: Serialize>(result: Result<T, Error>) -> Played {
    Played::Made(result.map(|value| Held::Part(serde_json::to_value(value).unwrap())))
}

fn nothing<T>(result: Result<T, Error>) -> Played {
    Played::Made(result.map(|_| Held::Nothing))
}

fn strings(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

fn page_value(page: Page) -> Value {
    let rows: Vec<Value> = page
        .rows
        .into_iter()
        .map(|row| {
            let row = row.unwrap();
            let revs: Vec<Value> = row.revs.iter().map(|rev| json!({ "rev": rev })).collect();
            let mut value = json!({"seq": row.seq, "id": row.id, "changes": revs});
            if row.deleted {
                value["deleted"] = true.into();
            }
            if let Some(doc) = row.doc {
                value["doc"] = doc.into();
            }
            value
        })
        .collect();
    let mut value = json!({"results": rows, "last_seq": page.last_seq});
    if let Some(pending) = page.pending {
        value["pending"] = pending.into();
    }
    value
}

fn rows_value(rows: Vec<RowOutcome>) -> Value {
    let row = |row: &RowOutcome| match row {
        RowOutcome::Written(written) => json!({"id": written.id, "rev": written.rev}),
        RowOutcome::Conflict { id } => json!({"id": id, "error": "conflict"}),
        RowOutcome::Refused { id, .. } => json!({"id": id, "error": "forbidden"}),
        _ => Value::Null,
    };
    rows.iter().map(row).collect()
}

fn doc_rows(rows: Vec<DocRow<Value>>) -> Value {
    let row = |row: DocRow<Value>| match row {
        DocRow::Found { id, rev, doc: Some(doc) } => json!({"id": id, "value": {"rev": rev}, "doc": doc}),
        DocRow::Found { id, rev, doc: None } => json!({"id": id, "value": {"rev": rev}}),
        DocRow::Deleted { id, rev } => json!({"id": id, "value": {"rev": rev, "deleted": true}}),
        DocRow::Missing { id } => json!({"key": id, "error": "not_found"}),
        _ => Value::Null,
    };
    json!({"rows": rows.into_iter().map(row).collect::<Vec<_>>()})
}

impl Asked {
    pub fn text(&self, name: &str) -> Option<String> {
        self.query.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.text(name)?.parse().ok()
    }

    fn paging(&self) -> Paging {
        Paging { cursor: self.text("cursor"), limit: self.number("limit") }
    }

    fn object(&self) -> Map<String, Value> {
        self.body.as_object().cloned().unwrap_or_default()
    }

    fn texts_in_body(&self, key: &str) -> Option<Vec<&str>> {
        strings(self.body.get(key)?)
    }

    fn changes(&self, database: Database) -> Option<Changes> {
        let millis = |name: &str| self.text(name).map(|ms| Duration::from_millis(ms.parse().unwrap()));
        let mut changes = database.changes();
        if let Some(since) = self.text("since") {
            changes = changes.since(Seq::kept(since));
        }
        if let Some(limit) = self.number("limit") {
            changes = changes.limit(limit);
        }
        if self.query.contains_key("include_docs") {
            changes = changes.include_docs();
        }
        if self.query.contains_key("descending") {
            changes = changes.descending();
        }
        if self.query.contains_key("style") {
            changes = changes.all_leaves();
        }
        if let Some(heartbeat) = millis("heartbeat") {
            changes = changes.heartbeat(heartbeat);
        }
        if let Some(timeout) = millis("timeout") {
            changes = changes.timeout(timeout);
        }
        Some(match self.text("filter").as_deref() {
            None => changes,
            Some("_doc_ids") => changes.doc_ids(self.texts_in_body("doc_ids")?),
            Some(_) => match self.body.pointer("/selector/$or/0") {
                Some(inner) => changes.selector(inner.clone()),
                None => changes.selector_without_deletions(self.body.get("selector")?.clone()),
            },
        })
    }

    fn user(&self) -> NewUser {
        let mut rest = self.object();
        let text = |value: Value| value.as_str().unwrap().to_owned();
        NewUser {
            username: rest.remove("username").map(text),
            password: rest.remove("password").map(|value| text(value).into()),
            roles: rest.remove("roles").map(|roles| serde_json::from_value(roles).unwrap()),
            password_change_required: rest
                .remove("password_change_required")
                .and_then(|value| value.as_bool()),
            rest,
        }
    }

    /// The record, if it is one that the builder can make.
    fn record(&self) -> Option<Record> {
        let mut fields = self.object();
        let meta = fields.remove("_meta")?;
        let meta = meta.as_object()?;
        if meta.keys().any(|key| !["form", "from", "reported_date", "locale"].contains(&key.as_str())) {
            return None;
        }
        let mut record = Record::new(meta.get("form")?.as_str()?, fields);
        if let Some(from) = meta.get("from") {
            record = record.from(from.as_str()?);
        }
        if let Some(date) = meta.get("reported_date") {
            record = record.reported_date(date.as_i64()?);
        }
        if let Some(locale) = meta.get("locale") {
            record = record.locale(locale.as_str()?);
        }
        Some(record)
    }

    fn form_field(&self, name: &str) -> Option<String> {
        let body = self.body.as_str()?;
        url::form_urlencoded::parse(body.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

pub async fn play(client: &ChtClient, asked: &Asked) -> Option<Played> {
    let decoded: Vec<String> = asked
        .path
        .trim_start_matches('/')
        .split('/')
        .map(|segment| percent_encoding::percent_decode_str(segment).decode_utf8().unwrap().into_owned())
        .collect();
    let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let body = &asked.body;
    let lineage = asked.query.contains_key("with_lineage");
    let paging = asked.paging();
    let sort = |sort: &str| if sort == "person" { client.persons() } else { client.places() };
    let json_body = asked.content_type.as_deref() == Some("application/json") && !body.is_string();
    let plain_body = asked.content_type.as_deref() == Some("text/plain");
    let form_body = asked.content_type.as_deref() == Some("application/x-www-form-urlencoded");
    if asked.method != "GET" && !body.is_null() {
        let credential = segments.contains(&"credentials");
        let record = segments.last() == Some(&"records") && form_body;
        let sendable = json_body || record || (plain_body && credential);
        if !sendable {
            return Some(Played::NotSent);
        }
    }

    Some(match (asked.method.as_str(), segments.as_slice()) {
        ("GET", ["api", "v2", "monitoring"]) => all(client.monitoring().await),
        ("GET", ["api", "v1", "monitoring"]) => all(client.monitoring_v1().await),
        ("GET", ["setup", "poll"]) => all(client.readiness().await),
        ("GET", ["api", "deploy-info"]) => all(client.deploy_info().await),
        ("GET", ["api", "v1", "impact"]) => all(client.impact().await),
        ("GET", ["_session"]) => {
            Played::Made(client.user_context().await.map(|user| Held::Part(json!({ "userCtx": user }))))
        }
        ("GET", ["api", "v1", "settings"]) => all(client.settings().await),
        ("PUT", ["api", "v1", "settings"]) => {
            let merge = if asked.query.contains_key("replace") { Merge::ReplaceKeys } else { Merge::Extend };
            let updated = client.update_settings(body, merge).await;
            Played::Made(updated.map(|updated| Held::Part(json!({ "updated": updated }))))
        }
        ("PUT", ["api", "v1", "credentials", key]) => {
            if !plain_body {
                return Some(Played::NotSent);
            }
            nothing(client.set_credential(key, &body.as_str()?.to_owned().into()).await)
        }
        ("GET", ["api", "v1", "contact", "uuid"]) => {
            let search = ContactSearch { contact_type: asked.text("type"), freetext: asked.text("freetext") };
            all(client.contacts().ids(&search, &paging).await)
        }
        ("GET", ["api", "v1", "contact"]) => match (asked.text("ids"), asked.text("type")) {
            (Some(ids), _) => {
                all(client.contacts().list_by_ids(&ids.split(',').collect::<Vec<_>>(), &paging).await)
            }
            (None, Some(of_type)) => all(client.contacts().list_by_type(&of_type, &paging).await),
            (None, None) => Played::NotSent,
        },
        ("POST", ["api", "v1", "contact", "summary"]) => {
            all(client.contacts().summaries(&asked.texts_in_body("ids")?).await)
        }
        ("GET", ["api", "v1", "contact", id]) if lineage => all(client.contacts().get_with_lineage(id).await),
        ("GET", ["api", "v1", "contact", id]) => all(client.contacts().get(id).await),
        ("GET", ["api", "v1", "contacts-by-phone"]) => {
            let found = client.contacts().by_phone(&asked.text("phone").unwrap_or_default()).await;
            Played::MadeByPost(found.map(|docs| Held::Part(json!({ "docs": docs }))))
        }
        ("POST", ["api", "v1", "contacts-by-phone"]) => {
            let found = client.contacts().by_phone(body.get("phone")?.as_str()?).await;
            Played::Made(found.map(|docs| Held::Part(json!({ "docs": docs }))))
        }
        ("GET", ["api", "v1", kind @ ("person" | "place")]) => match asked.text("type") {
            Some(of_type) => all(sort(kind).list(&of_type, &paging).await),
            None => Played::NotSent,
        },
        ("GET", ["api", "v1", kind @ ("person" | "place"), id]) if lineage => {
            all(sort(kind).get_with_lineage(id).await)
        }
        ("GET", ["api", "v1", kind @ ("person" | "place"), id]) => all(sort(kind).get(id).await),
        ("POST", ["api", "v1", kind @ ("person" | "place")]) => all(sort(kind).create(body).await),
        ("PUT", ["api", "v1", kind @ ("person" | "place"), id]) => all(sort(kind).replace(id, body).await),
        ("POST", ["api", "v1", "people"]) => {
            let person = asked.object();
            if person.contains_key("_rev") {
                if let Err(error) = client.people().create(&person).await {
                    assert!(matches!(error, Error::Invalid { status: None, .. }));
                }
                part(client.people().replace(&person).await)
            } else {
                part(client.people().create(&person).await)
            }
        }
        ("POST", ["api", "v1", "places"]) => part(client.people().create_place(&asked.object()).await),
        ("POST", ["api", "v1", "places", id]) => {
            part(client.people().update_place(id, &asked.object()).await)
        }
        ("GET", ["api", "v1", "report", "uuid"]) => match (asked.text("freetext"), asked.text("form")) {
            (Some(text), _) => all(client.reports().ids_by_freetext(&text, &paging).await),
            (None, Some(form)) => all(client.reports().ids_by_form(&[form.as_str()], &paging).await),
            (None, None) => Played::NotSent,
        },
        ("GET", ["api", "v1", "report"]) => match asked.text("ids") {
            Some(ids) => {
                all(client.reports().list_by_ids(&ids.split(',').collect::<Vec<_>>(), &paging).await)
            }
            None => Played::NotSent,
        },
        ("GET", ["api", "v1", "report", id]) if lineage => all(client.reports().get_with_lineage(id).await),
        ("GET", ["api", "v1", "report", id]) => all(client.reports().get(id).await),
        ("POST", ["api", "v1", "report"]) => all(client.reports().create(body).await),
        ("PUT", ["api", "v1", "report", id]) => all(client.reports().replace(id, body).await),
        ("POST", ["api", version, "records"]) => {
            let records = client.records();
            let id = if form_body {
                let (Some(message), Some(from)) = (asked.form_field("message"), asked.form_field("from"))
                else {
                    return Some(Played::NotSent);
                };
                let sent_timestamp = asked.form_field("sent_timestamp").map(|ms| ms.parse().unwrap());
                records.send_sms(&SmsRecord { message, from, sent_timestamp, ..SmsRecord::default() }).await
            } else if *version == "v1" {
                records.send_body_v1(body, None).await
            } else if let Some(record) = asked.record() {
                records.send(&record).await
            } else {
                records.send_body(body).await
            };
            Played::Made(id.map(|id| Held::Part(json!({ "id": id }))))
        }
        ("GET" | "POST", ["api", "v1", "hydrate"]) => {
            let ids: Value = match asked.text("doc_ids") {
                Some(text) => serde_json::from_str(&text).unwrap_or_default(),
                None => body.get("doc_ids")?.clone(),
            };
            let Some(ids) = strings(&ids) else { return Some(Played::NotSent) };
            let held = client.hydrate(&ids).await.map(|rows| {
                let row = |(id, doc): (String, Option<Map<String, Value>>)| match doc {
                    Some(doc) => json!({"id": id, "doc": doc}),
                    None => json!({"id": id, "error": "not_found"}),
                };
                Held::All(rows.into_iter().map(row).collect())
            });
            if asked.method == "GET" { Played::MadeByPost(held) } else { Played::Made(held) }
        }
        ("GET", ["api", "sms"]) => nothing(client.sms().check_gateway().await),
        ("POST", ["api", "sms"]) => {
            let list = |key: &str| body.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
            let messages: Vec<IncomingSms> = list("messages")
                .iter()
                .map(|m| IncomingSms {
                    id: text(m, "id"),
                    from: text(m, "from"),
                    content: text(m, "content"),
                })
                .collect();
            let status = |update: &Value| match update["status"].as_str() {
                Some("SENT") => SmsStatus::Sent,
                Some("DELIVERED") => SmsStatus::Delivered,
                other => panic!("{other:?}"),
            };
            let updates: Vec<SmsUpdate> = list("updates")
                .iter()
                .map(|u| SmsUpdate { id: text(u, "id"), status: status(u), reason: None })
                .collect();
            let outgoing = client.sms().exchange(&messages, &updates).await;
            Played::Made(outgoing.map(|messages| Held::All(json!({ "messages": messages }))))
        }
        ("POST", ["api", version, "sms", _, "incoming-messages"]) => {
            let Some(token) = asked.token.clone() else { return Some(Played::NotSent) };
            let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
            let message = IncomingSms { id: text("id"), from: text("from"), content: text("content") };
            let sms = client.sms();
            let outcome = if *version == "v1" {
                sms.rapidpro_incoming_v1(&token.into(), &message).await
            } else {
                sms.rapidpro_incoming(&token.into(), &message).await
            };
            match outcome {
                Ok(Callback::Saved) => Played::Made(Ok(Held::All(json!({ "saved": 1 })))),
                Ok(Callback::NotSaved) => {
                    Played::Made(Err(Error::Invalid { status: Some(400), reason: Reason::NotSaved }))
                }
                Err(error @ Error::Invalid { status: None, .. }) => Played::Refused(error),
                Err(error) => Played::Made(Err(error)),
            }
        }
        ("GET", ["api", "v2", "export", "dhis"]) if !asked.query.contains_key("options[humanReadable]") => {
            let from = asked.text("filters[date][from]").and_then(|from| from.parse().ok());
            let (Some(data_set), Some(from)) = (asked.text("filters[dataSet]"), from) else {
                return Some(Played::NotSent);
            };
            all(client.export_dhis(&data_set, from, asked.text("filters[orgUnit]").as_deref()).await)
        }
        ("GET", ["api", "v2", "export", what @ ("reports" | "messages")]) => {
            let what = if *what == "reports" { CsvExport::Reports } else { CsvExport::Messages };
            let filters: Vec<(&str, String)> =
                asked.query.keys().map(|key| (key.as_str(), asked.text(key).unwrap())).collect();
            let filters: Vec<(&str, &str)> =
                filters.iter().map(|(key, value)| (*key, value.as_str())).collect();
            match client.export_csv(what, &filters).await {
                Ok(csv) => {
                    let csv = collect(csv, 1 << 20).await.unwrap();
                    Played::Made(Ok(Held::All(std::str::from_utf8(&csv).unwrap().into())))
                }
                Err(error) => Played::Made(Err(error)),
            }
        }
        ("POST", ["api", "v1", "bulk-delete"]) => {
            let Some(docs) = body.get("docs").and_then(Value::as_array) else { return Some(Played::NotSent) };
            let ids: Option<Vec<&str>> = docs.iter().map(|doc| doc.get("_id")?.as_str()).collect();
            let Some(ids) = ids else { return Some(Played::NotSent) };
            let rows = client.bulk_delete(&ids).await;
            Played::Made(rows.map(|rows| {
                if rows.is_empty() { Held::Nothing } else { Held::Part(json!([rows_value(rows)])) }
            }))
        }
        ("GET", ["api", "v1", "forms"]) => all(client.form_files().await),
        ("GET", ["api", "v1", "forms", file]) => {
            let xml = client.form_xml(file.strip_suffix(".xml")?).await;
            Played::Made(xml.map(|xml| Held::All(std::str::from_utf8(&xml).unwrap().into())))
        }
        ("GET", ["api", "v2", "users"]) => all(client.users().list(&UserFilter::default()).await),
        ("GET", ["api", "v1", "users"]) => all(client.users().list_v1().await),
        ("GET", ["api", "v2", "users", name]) => all(client.users().get(name).await),
        ("POST", ["api", "v1", "users"]) => all(client.users().create_v1(&asked.user()).await),
        ("POST", ["api", "v2", "users"]) => all(client.users().create_v2(&asked.user()).await),
        ("POST", ["api", "v3", "users"]) => all(client.users().create(&asked.user()).await),
        ("POST", ["api", "v1", "users", name]) => all(client.users().update(name, &asked.user()).await),
        ("DELETE", ["api", "v1", "users", name]) => nothing(client.users().delete(name).await),
        ("GET", ["api", "v1", "users-info"]) => {
            all(client.users().replication_size(&asked.text("role")?, &asked.text("facility_id")?).await)
        }
        ("POST", ["_session"] | ["medic", "login"]) | (_, ["api", ..] | ["_all_dbs"]) => Played::NoCall,
        (method, [database, path @ ..]) => {
            let database = match *database {
                "medic" => client.medic(),
                other => client.other_database(other),
            };
            match (method, path) {
                ("GET" | "POST", ["_changes"]) => {
                    let changes = asked.changes(database)?;
                    match asked.text("feed").as_deref() {
                        None => Played::Made(changes.page().await.map(|page| Held::All(page_value(page)))),
                        Some("longpoll") => {
                            Played::Made(changes.wait().await.map(|page| Held::All(page_value(page))))
                        }
                        Some("continuous") => {
                            let events: Vec<_> = changes.follow().await.unwrap().collect().await;
                            assert!(
                                matches!(events.as_slice(), [Ok(Event::Row(Ok(row))), Ok(Event::End { pending: Some(0), .. })] if row.id == "changes-lab-1"),
                                "{events:?}"
                            );
                            Played::Made(Ok(Held::Nothing))
                        }
                        Some(_) => Played::NoCall,
                    }
                }
                ("POST", ["_all_docs"]) => {
                    let docs = asked.query.contains_key("include_docs");
                    let rows = database.all_docs::<Value>(&asked.texts_in_body("keys")?, docs).await;
                    Played::Made(rows.map(|rows| Held::Part(doc_rows(rows))))
                }
                ("GET", ["_all_docs"]) if !asked.query.contains_key("keys") => {
                    let end =
                        |name| asked.text(name).map(|key| serde_json::from_str::<String>(&key).unwrap());
                    let (first, last) = (end("startkey"), end("endkey"));
                    let range = database.all_docs_range(
                        first.as_deref(),
                        last.as_deref(),
                        asked.number("limit"),
                        false,
                    );
                    Played::Made(range.await.map(|rows| Held::Part(doc_rows(rows))))
                }
                ("POST", ["_bulk_docs"]) => {
                    let Some(docs) = body.get("docs").and_then(Value::as_array) else {
                        return Some(Played::NotSent);
                    };
                    if body.get("new_edits").is_some() {
                        nothing(database.bulk_docs_as_is(docs).await)
                    } else {
                        Played::Made(database.bulk_docs(docs).await.map(|rows| Held::Part(rows_value(rows))))
                    }
                }
                ("POST", ["_bulk_get"]) => {
                    let Some(docs) = body.get("docs").and_then(Value::as_array) else {
                        return Some(Played::NotSent);
                    };
                    let ids: Vec<&str> = docs.iter().map(|doc| doc["id"].as_str().unwrap()).collect();
                    let rows = database.bulk_get(&ids).await;
                    Played::Made(rows.map(|rows| {
                        assert!(rows[0].1.is_some() && rows[1].1.is_none());
                        Held::Nothing
                    }))
                }
                ("POST", ["_find"]) => {
                    let Some(selector) = body.get("selector") else { return Some(Played::NotSent) };
                    let list =
                        |key: &str| body.get(key).cloned().map(|list| serde_json::from_value(list).unwrap());
                    let query = FindQuery {
                        selector: selector.clone(),
                        fields: list("fields").unwrap_or_default(),
                        limit: body.get("limit").and_then(Value::as_u64).map(|limit| limit as usize),
                        sort: body.get("sort").and_then(Value::as_array).cloned().unwrap_or_default(),
                        bookmark: body.get("bookmark").and_then(Value::as_str).map(str::to_owned),
                    };
                    all(database.find::<Value>(&query).await)
                }
                ("GET", ["_design", design, "_view", view]) => {
                    let query = ViewQuery {
                        key: asked.text("key").map(|key| serde_json::from_str(&key).unwrap()),
                        limit: asked.number("limit"),
                        ..ViewQuery::default()
                    };
                    let rows = database.view::<Value>(design, view, &query).await;
                    Played::Made(rows.map(|rows| Held::Part(json!({ "rows": rows }))))
                }
                ("GET", [""]) => all(database.info().await),
                ("POST", [""]) => part(database.post(body).await),
                ("GET", ["_local", name]) => all(database.get_local::<Value>(name).await),
                ("PUT", ["_local", name]) => part(database.put_local(name, body).await),
                ("DELETE", ["_local", name]) => part(database.delete_local(name, &asked.text("rev")?).await),
                ("HEAD", [id]) => nothing(database.revision(id).await),
                ("PUT", [id]) => part(database.put(id, body).await),
                ("DELETE", [id]) => match asked.text("rev") {
                    Some(rev) => part(database.delete(id, &rev).await),
                    None => Played::NotSent,
                },
                ("GET", [id]) if !id.starts_with('_') => {
                    let options = GetOptions {
                        rev: asked.text("rev"),
                        conflicts: asked.query.contains_key("conflicts"),
                        revs: asked.query.contains_key("revs"),
                    };
                    match database.get_with::<Value>(id, &options).await {
                        Ok(doc) if id.ends_with("-info") => {
                            all(serde_json::from_value::<Infodoc>(doc).map_err(|_| unreachable!()))
                        }
                        Ok(doc) if doc["type"] == "data_record" => {
                            all(serde_json::from_value::<Report>(doc).map_err(|_| unreachable!()))
                        }
                        outcome => all(outcome.map(|doc| serde_json::from_value::<Contact>(doc).unwrap())),
                    }
                }
                _ => Played::NoCall,
            }
        }
        _ => Played::NoCall,
    })
}
