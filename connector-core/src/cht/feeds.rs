//! Reading: the changes feed, documents by id, and people who may be the same.
//!
//! Guarantees that a page's end is never passed by something that is neither a record, nor skipped on purpose, nor named as
//! unreadable; and that all ways of reading give the body of [`changes`](super::changes).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use cht_core_client::Error;
use cht_core_client::bulk::DocRow;
use cht_core_client::changes::{Change, Seq};
use cht_core_client::error::Reason;
use cht_core_client::query::{FindQuery, ViewQuery};
use serde_json::{Map, Value, json};

use super::Cht;
use super::fields::folded;
use crate::change::{Patient, Record, RecordId, field};
use crate::connector::{Fault, Page, Unreadable};

/// The feed's name.
pub(super) const FEED: &str = "changes";
/// Documents in one request.
const MANY: usize = 500;
/// More people than this who may be the same are not worth a look.
const CANDIDATES: usize = 50;

impl Cht {
    pub(super) async fn read_feed(&self, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        let limit = limit.min(self.page.load(Ordering::Relaxed)).max(1);
        let changes = self
            .client
            .medic()
            .changes()
            .since(after.map_or_else(Seq::start, Seq::kept))
            .limit(limit)
            .include_docs()
            .selector(self.shape.selector());
        let page = match self.feed.longpoll {
            none if none.is_zero() => changes.page().await,
            wait => changes.timeout(wait).wait().await,
        };
        let next_limit = match &page {
            Err(Error::Unreadable { .. }) => limit / 2,
            _ => limit * 2,
        };
        self.page.store(next_limit.clamp(1, self.feed.page), Ordering::Relaxed);
        let page = page.map_err(|error| fault(&error))?;
        let mut out = Page {
            next: page.last_seq.as_str().to_owned(),
            more: page.pending.map_or(page.rows.len() >= limit, |pending| pending > 0),
            ..Page::default()
        };
        for row in page.rows {
            match row {
                Ok(change) => self.take(change, &mut out),
                Err(error) => out.unreadable.push(Unreadable {
                    id: RecordId::person(&self.shape.system, error.id.clone().unwrap_or_default()),
                    reason: error.to_string(),
                }),
            }
        }
        Ok(out)
    }

    fn take(&self, change: Change, out: &mut Page) {
        if change.deleted {
            let left = change.doc.clone().map(Value::Object);
            let rev = change.rev().unwrap_or_default();
            return out.records.extend(self.shape.deleted(&change.id, rev, left.as_ref()));
        }
        let Some(doc) = change.doc else {
            // The document was deleted or compacted away between the row and its reading.
            return out.refresh.push(RecordId::person(&self.shape.system, change.id));
        };
        match self.shape.record(Value::Object(doc)) {
            Ok(record) => out.records.extend(record),
            Err(unreadable) => out.unreadable.push(unreadable),
        }
    }

    pub(super) async fn present_place(&self) -> Result<String, Fault> {
        let changes = self.client.medic().changes().since(Seq::now()).limit(1);
        let page = changes.page().await.map_err(|error| fault(&error))?;
        Ok(page.last_seq.as_str().to_owned())
    }

    pub(super) async fn read(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        let mut rows: HashMap<String, DocRow<Value>> = HashMap::new();
        for some in ids.chunks(MANY) {
            let keys: Vec<&str> = some.iter().map(|id| id.id.as_str()).collect();
            let read = self.client.medic().all_docs(&keys, true).await.map_err(|error| fault(&error))?;
            rows.extend(keys.iter().map(|key| (*key).to_owned()).zip(read));
        }
        Ok(ids
            .iter()
            .map(|id| match rows.get(&id.id)? {
                DocRow::Found { doc: Some(doc), .. } => {
                    self.shape.record(doc.clone()).ok().flatten().filter(|record| record.id.kind == id.kind)
                }
                DocRow::Deleted { rev, .. } => Some(self.shape.gone(&id.kind, &id.id, rev.clone())),
                _ => None,
            })
            .collect())
    }

    pub(super) async fn look_for(&self, person: &Patient) -> Result<Vec<Record>, Fault> {
        let mut ids = BTreeSet::new();
        for (name, value) in person.identifiers() {
            ids.extend(self.by_identifier(name, value).await?);
        }
        if let Some(phone) = person.get(field::PHONE).filter(|_| self.search.phone) {
            ids.extend(self.by_phone(phone).await?);
        }
        if let (true, Some(name), Some(born)) =
            (self.search.scan, person.get(field::NAME), person.get(field::BIRTH_DATE))
        {
            ids.extend(self.by_name(name, born).await?);
        }
        if ids.is_empty() || ids.len() > CANDIDATES {
            return Ok(vec![]);
        }
        let ids: Vec<RecordId> = ids.into_iter().map(|id| RecordId::person(&self.shape.system, id)).collect();
        Ok(self.read(&ids).await?.into_iter().flatten().collect())
    }

    /// Contacts that hold the identifier where the configuration says that it stands.
    async fn by_identifier(&self, name: &str, value: &str) -> Result<Vec<String>, Fault> {
        let name = format!("{}{name}", field::IDENTIFIER);
        let Some(path) = self.shape.fields.path(&name) else { return Ok(vec![]) };
        let key = match path {
            "patient_id" => json!(["shortcode", value]),
            "rc_code" => json!(["external", value.to_uppercase()]),
            _ if self.search.scan => {
                return self
                    .find(json!({ path: value }))
                    .await
                    .map(|docs| docs.into_iter().filter_map(id_of).collect());
            }
            _ => return Ok(vec![]),
        };
        let query = ViewQuery { key: Some(key), ..ViewQuery::default() };
        let medic = self.client.medic();
        let rows = medic.view::<Map<String, Value>>("medic-client", "contacts_by_reference", &query).await;
        let rows = or_nothing(rows)?;
        Ok(rows.into_iter().filter_map(|row| row.id).collect())
    }

    async fn by_phone(&self, phone: &str) -> Result<Vec<String>, Fault> {
        let docs = or_nothing(self.client.contacts().by_phone(phone).await)?;
        Ok(docs.into_iter().filter_map(|contact| contact.id).collect())
    }

    /// The same name, however its letters are cased, and the same year of birth.
    async fn by_name(&self, name: &str, born: &str) -> Result<Vec<String>, Fault> {
        let Some(path) = self.shape.fields.path(field::NAME) else { return Ok(vec![]) };
        let year = born.get(..4).unwrap_or(born);
        let spellings =
            BTreeSet::from([name.to_owned(), name.to_lowercase(), name.to_uppercase(), titled(name)]);
        let docs = self.find(json!({ path: { "$in": spellings } })).await?;
        let same = |doc: &Value| {
            let read = |field: &str| self.shape.fields.read_one(doc, field);
            read(field::NAME).is_some_and(|found| folded(&found) == folded(name))
                && read(field::BIRTH_DATE).is_some_and(|found| found.starts_with(year))
        };
        Ok(docs.into_iter().filter(same).filter_map(id_of).collect())
    }

    async fn find(&self, selector: Value) -> Result<Vec<Value>, Fault> {
        let selector = json!({ "$and": [self.shape.selector(), selector] });
        let query = FindQuery { selector, limit: Some(CANDIDATES), ..FindQuery::default() };
        let page = self.client.medic().find::<Value>(&query).await.map_err(|error| fault(&error))?;
        Ok(page.docs)
    }
}

fn id_of(doc: Value) -> Option<String> {
    doc.get("_id").and_then(Value::as_str).map(str::to_owned)
}

fn titled(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    name.to_lowercase().split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A look-up that the CHT refuses for its value, or does not have, finds nobody.
fn or_nothing<T>(found: Result<Vec<T>, Error>) -> Result<Vec<T>, Fault> {
    match found {
        Ok(found) => Ok(found),
        Err(Error::NotFound { .. } | Error::NoSuchCall | Error::Invalid { .. }) => Ok(vec![]),
        Err(error) => Err(fault(&error)),
    }
}

/// Why a read failed, as the core understands it.
pub(super) fn fault(error: &Error) -> Fault {
    match error {
        Error::RateLimited { wait } => Fault::Retry { after: Some(*wait), reason: error.to_string() },
        Error::Invalid { reason: Reason::Sequence, .. } => Fault::Halt(
            "the CHT does not know the kept place in its changes feed; was its database restored or replaced? Reset the feed"
                .to_owned(),
        ),
        Error::LoginRequired { .. }
        | Error::Forbidden { .. }
        | Error::NoSuchCall
        | Error::NotFound { .. }
        | Error::Redirected { .. }
        | Error::Invalid { .. } => Fault::Halt(error.to_string()),
        _ => Fault::retry(error.to_string()),
    }
}
