//! Looking in and switching over HTTP, below `/_standin/openmrs/`.
//!
//! `GET patients` (JSON lines), `GET counts`, `GET|PUT switches`, `POST edit {uuid, set}` (answers the patient as it stood before), `POST generate {count, seed}`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::{
    ClerkEdit, OpenMrs,
    http::{Call, Reply},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    uuid: String,
    set: ClerkEdit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Generate {
    count: u32,
    #[serde(default)]
    seed: u64,
}

/// Answers one request; a wish that cannot be read is a 400 with the reason.
pub fn answer(server: &Arc<OpenMrs>, call: &Call, path: &str) -> Reply {
    let body = call.body.as_ref();
    let refuse = |why: String| Reply::rest(400, &json!({"error": why}));
    let done = Reply::rest(200, &json!({"ok": true}));
    match (call.method.as_str(), path) {
        ("GET", "patients") => {
            let mut reply = Reply::empty(200).with("content-type", "application/x-ndjson");
            for patient in server.patients() {
                reply.body.extend(serde_json::to_vec(&patient).unwrap_or_default());
                reply.body.push(b'\n');
            }
            reply
        }
        ("GET", "counts") => Reply::rest(200, &json!(server.counts())),
        ("GET", "switches") => Reply::rest(200, &json!(server.switches())),
        ("PUT", "switches") => match serde_json::from_slice(body) {
            Ok(switches) => {
                server.set_switches(switches);
                done
            }
            Err(error) => refuse(error.to_string()),
        },
        ("POST", "edit") => match serde_json::from_slice::<Edit>(body) {
            Ok(edit) => match server.edit(&edit.uuid, &edit.set) {
                Ok(before) => Reply::rest(200, &json!({"ok": true, "before": before})),
                Err(why) => refuse(why),
            },
            Err(error) => refuse(error.to_string()),
        },
        ("POST", "generate") => match serde_json::from_slice::<Generate>(body) {
            Ok(wish) => {
                server.generate(wish.count, wish.seed);
                done
            }
            Err(error) => refuse(error.to_string()),
        },
        _ => Reply::rest(404, &json!({"error": "no such page of the stand-in"})),
    }
}
