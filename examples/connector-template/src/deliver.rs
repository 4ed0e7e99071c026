//! One write for each task, and what became of it.

use bytes::Bytes;
use connector_core::connector::{Confirmed, Fault, Outcome, Receipt, Reject, Task};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Answer, Client};

#[derive(Deserialize)]
struct Write {
    path: String,
    subject: String,
    key: String,
    body: Value,
}

/// Sends the task once. Only an answer that says so itself proves the write: `{"ok":true}`.
pub async fn deliver(client: &Client, task: &Task) -> Outcome {
    let write: Write = match task.command.parse() {
        Ok(write) => write,
        Err(reject) => return Outcome::Rejected(reject),
    };
    let body = Bytes::from(write.body.to_string());
    match client.post(&write.path, &write.key, &write.subject, body).await {
        Ok(answer) => answered(&answer),
        Err(error) if error.nothing_sent() => Outcome::retry("no connection"),
        Err(_) => Outcome::Unknown,
    }
}

fn answered(answer: &Answer) -> Outcome {
    let status = answer.status;
    let said_so = || {
        serde_json::from_slice::<Value>(&answer.body).is_ok_and(|v| v.get("ok") == Some(&Value::Bool(true)))
    };
    match status.as_u16() {
        200..=299 if said_so() => Outcome::Done(Receipt::default()),
        401 | 403 => Outcome::Halt("the endpoint refuses the login".into()),
        429 | 503 => {
            Outcome::Retry { after: answer.retry_after, split: false, reason: format!("answer {status}") }
        }
        400..=499 => Outcome::Rejected(Reject::new(format!("the endpoint refuses the body with {status}"))),
        _ => Outcome::Unknown,
    }
}

/// Whether the endpoint has seen the key.
pub async fn confirm(client: &Client, task: &Task) -> Result<Confirmed, Fault> {
    let write: Write = task.command.parse().map_err(|r| Fault::retry(r.reason))?;
    let key: String = url::form_urlencoded::byte_serialize(write.key.as_bytes()).collect();
    match client.get(&format!("/sink/effects?key={key}")).await {
        Ok(Answer { status: StatusCode::OK, body, .. }) => {
            let applied =
                serde_json::from_slice::<Value>(&body).ok().and_then(|v| v.get("applied")?.as_bool());
            Ok(match applied {
                Some(true) => Confirmed::Applied(Receipt::default()),
                Some(false) => Confirmed::Absent,
                None => Confirmed::Unclear,
            })
        }
        Ok(Answer { status, .. }) => Err(Fault::retry(format!("answer {status}"))),
        Err(error) => Err(Fault::retry(error.to_string())),
    }
}
