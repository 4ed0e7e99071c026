//! Canonical changes into commands of the partner.

use connector_core::change::{Body, Change, Message};
use connector_core::connector::{Command, Known, Reject, Repeat};
use serde_json::json;

/// What the change asks for: a whole document is brought to its newest state, which may be sent again; a message has
/// an effect each time, so that whoever is not sure asks first.
pub fn command(change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
    match &change.body {
        Body::Document(document) => Ok(Some(Command::new(
            json!({ "path": "/records", "subject": change.subject.id, "key": known.key, "body": document }),
            Repeat::Safe,
        ))),
        Body::Message(Message::Text { to, phone, text }) => Ok(Some(Command::new(
            json!({
                "path": "/messages", "subject": change.subject.id, "key": known.key,
                "body": { "to": to.id, "phone": phone, "text": text },
            }),
            Repeat::Confirm,
        ))),
        _ => Err(Reject::new(
            "this endpoint takes whole documents and texts; take the flow out of the configuration",
        )),
    }
}
