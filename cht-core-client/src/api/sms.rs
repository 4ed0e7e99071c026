//! Text messages: the gateway call and the RapidPro callback.

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::{Call, ChtClient};
use crate::error::{Error, Reason};

/// A message that a phone sent.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct IncomingSms {
    /// Id at the gateway; a repeat with the same id is not stored again.
    pub id: String,
    /// Phone number of the sender. A `tel:` prefix is kept, and then the CHT does not know the sender.
    pub from: String,
    /// Text.
    pub content: String,
}

impl IncomingSms {
    /// The CHT drops messages without an id, sender or text, without a word.
    fn is_complete(&self) -> bool {
        ![&self.id, &self.from, &self.content].iter().any(|text| text.trim().is_empty())
    }
}

/// What became of a message that was handed out.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct SmsUpdate {
    /// The message's id.
    pub id: String,
    /// Its state.
    pub status: SmsStatus,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// States that a gateway reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SmsStatus {
    /// The gateway has it.
    Unsent,
    /// The gateway is sending it.
    Pending,
    /// Sent.
    Sent,
    /// Delivered.
    Delivered,
    /// Failed.
    Failed,
}

/// A message to be sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutgoingSms {
    /// Id: the same message comes again with every call until a status is reported. Drop ids already sent.
    pub id: String,
    /// Phone number, or a word such as `reporting_unit` if the CHT found none.
    pub to: String,
    /// Text.
    pub content: String,
}

macro_rules! shown_without_content {
    ($($name:ident),*) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )* };
}
shown_without_content!(IncomingSms, SmsUpdate, OutgoingSms);

/// What the CHT made of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// Stored.
    Saved,
    /// Not stored. A complete message is refused only if one with its id is there: after an unknown outcome this
    /// means that the first try arrived.
    NotSaved,
}

/// Text messages.
#[derive(Clone, Debug)]
pub struct Sms(ChtClient);

impl ChtClient {
    /// Text messages.
    pub fn sms(&self) -> Sms {
        Sms(self.clone())
    }
}

impl Sms {
    /// Whether the gateway call may be used (needs `can_access_gateway_api`).
    pub async fn check_gateway(&self) -> Result<(), Error> {
        self.0.json::<Map<String, Value>>(Call::get("/api/sms")).await.map(drop)
    }

    /// Hands in messages and states, and takes at most 25 messages to be sent.
    pub async fn exchange(
        &self,
        messages: &[IncomingSms],
        updates: &[SmsUpdate],
    ) -> Result<Vec<OutgoingSms>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            messages: Vec<OutgoingSms>,
        }
        if !messages.iter().all(IncomingSms::is_complete) {
            return Err(Error::refused(Reason::NotSaved));
        }
        let body = json!({ "messages": messages, "updates": updates });
        let answer: Answer = self.0.json(Call::post("/api/sms").json(&body)?).await?;
        Ok(answer.messages)
    }

    /// Hands in a message as RapidPro does (4.2), with the token of the credential `rapidpro:incoming`. An incomplete
    /// message is refused here.
    pub async fn rapidpro_incoming(
        &self,
        token: &SecretString,
        message: &IncomingSms,
    ) -> Result<Callback, Error> {
        self.rapidpro(Call::post("/api/v2/sms/rapidpro/incoming-messages"), token, message).await
    }

    /// The same for 3.11 to 4.1, under the misspelt path of that time.
    pub async fn rapidpro_incoming_v1(
        &self,
        token: &SecretString,
        message: &IncomingSms,
    ) -> Result<Callback, Error> {
        self.rapidpro(Call::post("/api/v1/sms/radpidpro/incoming-messages"), token, message).await
    }

    async fn rapidpro(
        &self,
        call: Call,
        token: &SecretString,
        message: &IncomingSms,
    ) -> Result<Callback, Error> {
        if !message.is_complete() {
            return Err(Error::refused(Reason::NotSaved));
        }
        match self.0.json::<Value>(call.token(token)?.json(message)?).await {
            Ok(answer) => Ok(match answer.get("saved").and_then(Value::as_u64) {
                Some(saved) if saved > 0 => Callback::Saved,
                _ => Callback::NotSaved,
            }),
            Err(Error::Invalid { reason: Reason::NotSaved, .. }) => Ok(Callback::NotSaved),
            Err(error) => Err(error),
        }
    }
}
