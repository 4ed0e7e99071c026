//! Records: data for a JSON form, or the text of an SMS.
//!
//! Not idempotent: a repeat makes a second report. The transitions run inside the call and so do the CHT's own
//! pushes, up to 10 s each: allow for it with [`ChtClient::with_timeout`]. A record that breaks the rules of its
//! form is stored all the same, with errors: read it back with [`Records::stored`] and ask
//! [`Report::is_rejected`](crate::model::Report::is_rejected).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::client::{Call, ChtClient};
use crate::error::Error;
use crate::model::Report;

/// Data for a JSON form.
///
/// Only fields that the form defines are kept, in lower case; an unreadable date becomes nothing without an error.
/// [`Settings::record_problems`](crate::model::Settings::record_problems) finds that beforehand.
#[derive(Clone, PartialEq)]
pub struct Record {
    form: String,
    from: Option<String>,
    reported_date: Option<i64>,
    locale: Option<String>,
    fields: Map<String, Value>,
}

impl Record {
    /// A record for this form, with these fields.
    pub fn new(form: impl Into<String>, fields: Map<String, Value>) -> Self {
        Self { form: form.into(), from: None, reported_date: None, locale: None, fields }
    }

    /// The phone number of the sender.
    #[must_use]
    pub fn from(mut self, phone: impl Into<String>) -> Self {
        self.from = Some(phone.into());
        self
    }

    /// The time of the report in epoch milliseconds; now if not given.
    #[must_use]
    pub fn reported_date(mut self, millis: i64) -> Self {
        self.reported_date = Some(millis);
        self
    }

    /// The language of messages that answer it.
    #[must_use]
    pub fn locale(mut self, locale: impl Into<String>) -> Self {
        self.locale = Some(locale.into());
        self
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("form", &self.form)
            .field("fields", &self.fields.len())
            .finish_non_exhaustive()
    }
}

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut meta = Map::new();
        meta.insert("form".to_owned(), self.form.as_str().into());
        let texts = [("from", &self.from), ("locale", &self.locale)];
        for (key, text) in texts {
            meta.extend(text.as_deref().map(|text| (key.to_owned(), text.into())));
        }
        meta.extend(self.reported_date.map(|millis| ("reported_date".to_owned(), millis.into())));
        let mut body = self.fields.clone();
        body.insert("_meta".to_owned(), meta.into());
        body.serialize(serializer)
    }
}

/// The text of an SMS.
#[derive(Clone, Default, PartialEq)]
pub struct SmsRecord {
    /// The text.
    pub message: String,
    /// The phone number of the sender.
    pub from: String,
    /// When it was sent, in epoch milliseconds.
    pub sent_timestamp: Option<i64>,
    /// The language of messages that answer it.
    pub locale: Option<String>,
    /// The id at the gateway.
    pub gateway_ref: Option<String>,
}

impl fmt::Debug for SmsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmsRecord")
    }
}

#[derive(Deserialize)]
struct Answer {
    id: String,
}

/// Records.
#[derive(Clone, Debug)]
pub struct Records(ChtClient);

impl ChtClient {
    /// Records.
    pub fn records(&self) -> Records {
        Records(self.clone())
    }
}

impl Records {
    /// Stores a record and gives the id of the report. An answer without an id is an error: nothing was stored.
    pub async fn send(&self, record: &Record) -> Result<String, Error> {
        self.send_body(record).await
    }

    /// Stores a record whose body was put together elsewhere.
    pub async fn send_body<T: Serialize + ?Sized>(&self, body: &T) -> Result<String, Error> {
        let answer: Answer = self.0.json(Call::post("/api/v2/records").json(body)?).await?;
        Ok(answer.id)
    }

    /// The same by the first version of the call, for servers before 3.
    pub async fn send_body_v1<T: Serialize + ?Sized>(
        &self,
        body: &T,
        locale: Option<&str>,
    ) -> Result<String, Error> {
        let call = Call::post("/api/v1/records").query_if("locale", locale).json(body)?;
        let answer: Answer = self.0.json(call).await?;
        Ok(answer.id)
    }

    /// Stores the text of an SMS, which the CHT parses.
    pub async fn send_sms(&self, sms: &SmsRecord) -> Result<String, Error> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("message", &sms.message).append_pair("from", &sms.from);
        if let Some(sent) = sms.sent_timestamp {
            form.append_pair("sent_timestamp", &sent.to_string());
        }
        for (name, text) in [("locale", &sms.locale), ("gateway_ref", &sms.gateway_ref)] {
            if let Some(text) = text {
                form.append_pair(name, text);
            }
        }
        let call = Call::post("/api/v2/records").body("application/x-www-form-urlencoded", form.finish());
        let answer: Answer = self.0.json(call).await?;
        Ok(answer.id)
    }

    /// The report that a record became.
    pub async fn stored(&self, id: &str) -> Result<Report, Error> {
        self.0.medic().get(id).await
    }
}
