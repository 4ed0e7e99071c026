//! Messages in and out: the SMS gateway's poll, and the callback that RapidPro calls.

use serde_json::{Value, json};

use super::{
    auth::Access,
    http::{Fail, Reply, Req},
    records,
    state::State,
    time,
};

/// How many messages one poll hands out.
const AT_ONCE: usize = 25;

pub(super) fn options(state: &State, access: &Access) -> Result<Reply, Fail> {
    access.user()?.need_all(state, &["can_access_gateway_api"])?;
    Ok(Reply::api(&json!({ "medic-gateway": true })))
}

pub(super) fn poll(state: &mut State, req: &Req, access: &Access, now: i64) -> Result<Reply, Fail> {
    let body = req.exact_json()?;
    access.user()?.need_all(state, &["can_access_gateway_api"])?;
    for message in body["messages"].as_array().into_iter().flatten() {
        receive(state, message, now);
    }
    update(state, &body["updates"], now);
    let service = &state.settings.value()["sms"]["outgoing_service"];
    let ours = service.is_null() || service == "medic-gateway";
    let messages = if ours { hand_out(state, now) } else { Vec::new() };
    Ok(Reply::api(&json!({ "messages": messages })))
}

/// Stores a message once; says whether it was new and complete.
fn receive(state: &mut State, message: &Value, now: i64) -> bool {
    let text = |name: &str| message[name].as_str().filter(|text| !text.is_empty());
    let (Some(id), Some(from), Some(content)) = (text("id"), text("from"), text("content")) else {
        return false;
    };
    if state.index.messages.contains(id) {
        return false;
    }
    let sent = message["sms_sent"].as_i64().map(|sent| sent.to_string());
    let doc = records::message_doc(state, content, from, sent.as_deref(), Some(id), now);
    records::save(state, doc, now);
    true
}

/// Everything that waits, oldest report first; what was handed out before comes again until a status is told.
fn hand_out(state: &mut State, now: i64) -> Vec<Value> {
    let mut docs: Vec<_> = state.index.outgoing.iter().filter_map(|id| state.medic.json(id)).collect();
    docs.sort_by_cached_key(|doc| {
        let id = doc.get("_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        (doc.get("reported_date").and_then(Value::as_i64), id)
    });
    let mut messages = Vec::new();
    for mut doc in docs {
        let mut changed = false;
        for task in doc.get_mut("tasks").and_then(Value::as_array_mut).into_iter().flatten() {
            if !matches!(task["state"].as_str(), Some("pending" | "forwarded-to-gateway"))
                || messages.len() == AT_ONCE
            {
                continue;
            }
            for message in task["messages"].as_array().into_iter().flatten() {
                let content =
                    json!({ "content": message["message"], "to": message["to"], "id": message["uuid"] });
                messages.push(content);
            }
            if task["state"] == "pending" {
                enter(task, "forwarded-to-gateway", now);
                changed = true;
            }
        }
        if changed {
            let _ = state.put(doc, now);
        }
    }
    messages
}

fn enter(task: &mut Value, name: &str, now: i64) {
    task["state"] = json!(name);
    if let Some(history) = task["state_history"].as_array_mut() {
        history.push(json!({ "state": name, "timestamp": time::iso(now) }));
    }
}

/// Takes over what the gateway says of messages: one write for each report, however many steps it tells of.
fn update(state: &mut State, updates: &Value, now: i64) {
    let told: Vec<(&str, &str)> = updates
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|update| Some((update["id"].as_str()?, state_of(update["status"].as_str()?)?)))
        .collect();
    if told.is_empty() {
        return;
    }
    let ids: Vec<_> = state.index.reports.values().flatten().cloned().collect();
    for id in ids {
        let Some(mut doc) = state.medic.json(&id) else { continue };
        let mut changed = false;
        for task in doc.get_mut("tasks").and_then(Value::as_array_mut).into_iter().flatten() {
            for (message, name) in &told {
                if task["messages"].as_array().into_iter().flatten().any(|one| one["uuid"] == *message) {
                    enter(task, name, now);
                    changed = true;
                }
            }
        }
        if changed {
            let _ = state.put(doc, now);
        }
    }
}

fn state_of(status: &str) -> Option<&'static str> {
    Some(match status {
        "UNSENT" => "received-by-gateway",
        "PENDING" => "forwarded-by-gateway",
        "SENT" => "sent",
        "DELIVERED" => "delivered",
        "FAILED" => "failed",
        _ => return None,
    })
}

pub(super) fn rapidpro(state: &mut State, req: &Req, now: i64) -> Result<Reply, Fail> {
    let token = req.header("authorization").and_then(|value| value.strip_prefix("Token "));
    let token = token.ok_or_else(|| Fail::api(403, "Missing authorization token"))?;
    let key = state.credentials.get("rapidpro:incoming");
    let key = key.ok_or_else(|| Fail::api(403, "No incoming key configured"))?;
    if key != token {
        return Err(Fail::api(403, "Incorrect token"));
    }
    let body = if req.is_json() { req.json()? } else { Value::Null };
    if receive(state, &body, now) {
        Ok(Reply::api(&json!({ "saved": 1 })))
    } else {
        Err(Fail::api(400, "Message was not saved"))
    }
}
