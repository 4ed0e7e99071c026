//! Out of a system into the store: polls, fetches, pushes.

use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::bridge::{Begin, Bridge, RuntimeError};
use super::system::System;
use crate::change::{Record, RecordId};
use crate::clock::millis;
use crate::connector::{Fault, Feed, Page};
use crate::http::endpoint::Delivery;
use crate::outbox::{Accept, Cursor, DueRefresh, FeedMove, Item, LoadCursor, SeenDigests, Tick, Unread};
use crate::reconcile::Side;
use crate::store::StoreError;

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Not yet: due at this time.
    NotDue(i64),
    /// Something was read; whether there is more right now.
    Read {
        /// Records that were new or changed.
        changed: usize,
        /// Whether there is more right now.
        more: bool,
    },
}

/// A page that is being read while the one before it is stored.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    position: String,
    /// The transaction before its reading began.
    began: i64,
    /// Holds the reading, and ends it when nobody wants it any more.
    page: JoinSet<Result<Page, Fault>>,
}

/// Where a feed stands before a poll, and how much of it counts.
struct Standing {
    from: Option<Cursor>,
    position: Option<String>,
    pass: i64,
    began: i64,
}

impl Bridge {
    /// Polls one feed if it is due.
    pub async fn poll(&self, side: Side, feed: &Feed) -> Result<Polled, RuntimeError> {
        self.poll_ahead(side, feed, None).await
    }

    /// The same; of a rolling pass the next page is read meanwhile.
    #[tracing::instrument(name = "poll", skip_all, fields(bridge = self.name, system = self.system(side).name, feed = feed.name))]
    pub(super) async fn poll_ahead(
        &self,
        side: Side,
        feed: &Feed,
        ahead: Option<&mut Ahead>,
    ) -> Result<Polled, RuntimeError> {
        let system = self.system(side);
        let name = format!("{}/{}", system.name, feed.name);
        let (cursor, began) = self.store.read(LoadCursor { feed: name.clone() }).await?;
        let now = self.clock.now();
        if let Some(c) = &cursor
            && c.due > now
        {
            return Ok(Polled::NotDue(c.due));
        }
        let mut standing = match cursor {
            Some(c) => Standing { position: c.position.clone(), pass: c.pass, from: Some(c), began },
            None if self.options.begin == Begin::Everything => {
                Standing { from: None, position: None, pass: 1, began }
            }
            // A rolling pass takes note of what is there; another feed begins where it stands now.
            None if feed.whole => Standing { from: None, position: None, pass: 0, began },
            None => {
                let position = match system.connector.now(&feed.name).await {
                    Ok(position) => position,
                    Err(fault) => return Err(self.fault(system, fault).await),
                };
                let to = Cursor { position, pass: 1, due: now, moved: 0, began: now };
                let feed = FeedMove { feed: name, from: None, to, whole: None, took: None };
                self.accept(Some(feed), began, vec![], vec![], vec![]).await?;
                return Ok(Polled::Read { changed: 0, more: true });
            }
        };
        let mut ahead = ahead.filter(|_| feed.whole);
        let read = match (&mut ahead, &standing.position) {
            (Some(ahead), Some(position)) if ahead.position == *position => {
                ahead.page.join_next().await.and_then(Result::ok).map(|page| (page, ahead.began))
            }
            _ => None,
        };
        let page = match read {
            Some((page, began)) => {
                standing.began = began;
                page
            }
            None => system.connector.poll(&feed.name, standing.position.as_deref(), self.options.page).await,
        };
        let page = match page {
            Ok(page) => page,
            Err(fault) => return Err(self.fault(system, fault).await),
        };
        if let Some(ahead) = ahead {
            *ahead = Ahead { position: page.next.clone(), began, page: JoinSet::new() };
            if page.more {
                let (connector, feed) = (system.connector.clone(), feed.name.clone());
                let (position, limit) = (page.next.clone(), self.options.page);
                ahead.page.spawn(async move { connector.poll(&feed, Some(&position), limit).await });
            }
        }
        let number =
            i64::try_from(system.capabilities.feeds.iter().position(|f| f.name == feed.name).unwrap_or(0))
                .unwrap_or(0);
        let due = if page.more { now } else { self.clock.now() + millis(feed.every) };
        let began = match &standing.from {
            Some(from) if from.position.is_some() => from.began,
            _ => now,
        };
        let took = (feed.whole && !page.more).then(|| self.clock.now() - began);
        let to = match took {
            Some(_) => Cursor { position: None, pass: standing.pass + 1, due, moved: 0, began },
            None => Cursor { position: Some(page.next), pass: standing.pass, due, moved: 0, began },
        };
        let moving =
            FeedMove { feed: name, from: standing.from, to, whole: feed.whole.then_some(number), took };
        let (items, mut unread) = self.items(side, page.records, feed.whole, standing.pass == 0).await?;
        unread.extend(page.unreadable.into_iter().map(|u| Unread { id: u.id, reason: u.reason, body: None }));
        let changed = self.accept(Some(moving), standing.began, items, unread, page.refresh).await?;
        Ok(Polled::Read { changed, more: page.more })
    }

    /// Fetches what is to be read again; how many records were asked for.
    #[tracing::instrument(skip_all, fields(bridge = self.name, system = self.system(side).name))]
    pub async fn refresh(&self, side: Side) -> Result<usize, RuntimeError> {
        let system = self.system(side);
        let limit = i64::try_from(self.options.page.min(100)).unwrap_or(100);
        let (asked, began) = self.store.read(DueRefresh { system: system.name.clone(), limit }).await?;
        if asked.is_empty() {
            return Ok(0);
        }
        let ids: Vec<RecordId> = asked.iter().map(|(id, _)| id.clone()).collect();
        let found = match system.connector.fetch(&ids).await {
            Ok(found) => found,
            Err(fault) => return Err(self.fault(system, fault).await),
        };
        let seen: Vec<_> = ids.iter().map(|id| self.keys().record(id)).collect();
        let seen = self.store.read(SeenDigests { records: seen }).await?;
        let (mut records, mut marks, mut answered) = (vec![], vec![], vec![]);
        for (((id, mark), record), seen) in asked.into_iter().zip(found).zip(seen) {
            let gone =
                || Record { id: id.clone(), version: None, deleted: true, body: serde_json::Value::Null };
            match record.or_else(|| seen.is_some().then(gone)) {
                Some(record) => {
                    records.push(record);
                    marks.push(mark);
                }
                None => answered.push((id, mark)),
            }
        }
        let count = records.len() + answered.len();
        let (mut items, unread) = self.items(side, records, false, false).await?;
        for (item, mark) in items.iter_mut().zip(marks) {
            item.asked = Some(mark);
        }
        let accept = Accept {
            feed: None,
            began,
            items,
            unread,
            refresh: vec![],
            answered,
            config: self.options.config,
            rules: self.options.rules,
        };
        let accepted = self.tx_if(accept, |a| a.changed > 0 || a.asked > 0).await?;
        self.grow(accepted.rows);
        Ok(count)
    }

    /// Stores what was pushed. Only after it returns may the sender be told that it was taken.
    #[tracing::instrument(skip_all, fields(bridge = self.name, system = self.system(side).name))]
    pub async fn push(&self, side: Side, deliveries: Vec<Delivery>) -> Result<usize, RuntimeError> {
        let began = self.store.read(Tick).await?;
        let identities: Vec<_> = deliveries
            .iter()
            .map(|d| {
                self.store.crypt().digest(&[
                    b"delivery",
                    self.system(side).name.as_bytes(),
                    d.identity.as_bytes(),
                ])
            })
            .collect();
        let (mut items, unread) =
            self.items(side, deliveries.into_iter().map(|d| d.record).collect(), false, false).await?;
        for (item, identity) in items.iter_mut().zip(identities) {
            item.delivery = Some(identity);
        }
        self.accept(None, began, items, unread, vec![]).await
    }

    /// One item for each record, and a dead letter besides for each that does not translate.
    async fn items(
        &self,
        side: Side,
        records: Vec<Record>,
        whole: bool,
        note_only: bool,
    ) -> Result<(Vec<Item>, Vec<Unread>), StoreError> {
        let digests: Vec<_> = records.iter().map(|r| self.digest(r)).collect();
        // A pass mostly meets what it met before: that need not be translated.
        let known = match whole && !note_only {
            true => {
                let keys = records.iter().map(|r| self.keys().record(&r.id)).collect();
                self.store.read(SeenDigests { records: keys }).await?
            }
            false => vec![None; records.len()],
        };
        let (mut items, mut unread) = (Vec::with_capacity(records.len()), vec![]);
        for ((record, digest), known) in records.into_iter().zip(digests).zip(known) {
            let rows =
                if note_only || known == Some(digest) { Ok(vec![]) } else { self.translate(side, &record) };
            let rows = rows.unwrap_or_else(|reject| {
                let body = serde_json::to_vec(&record.body).ok();
                unread.push(Unread { id: record.id.clone(), reason: reject.reason, body });
                vec![]
            });
            items.push(Item { id: record.id, digest, rows, delivery: None, asked: None });
        }
        Ok((items, unread))
    }

    async fn accept(
        &self,
        feed: Option<FeedMove>,
        began: i64,
        items: Vec<Item>,
        unread: Vec<Unread>,
        refresh: Vec<RecordId>,
    ) -> Result<usize, RuntimeError> {
        let (config, rules) = (self.options.config, self.options.rules);
        let accept = Accept { feed, began, items, unread, refresh, answered: vec![], config, rules };
        let accepted = self.tx_if(accept, |a| a.changed > 0 || a.asked > 0).await?;
        self.grow(accepted.rows);
        Ok(accepted.changed)
    }

    fn grow(&self, rows: usize) {
        self.open.fetch_add(i64::try_from(rows).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// A record of a system as it is now, translated anew, and the transaction before it was read.
    pub(super) async fn read_again(
        &self,
        system: &System,
        id: &RecordId,
    ) -> Result<(Option<Record>, i64), RuntimeError> {
        let began = self.store.read(Tick).await?;
        if system.is_halted() {
            let fault = Fault::retry("the source is halted");
            return Err(RuntimeError::Fault { system: system.name.clone(), fault });
        }
        match system.connector.fetch(std::slice::from_ref(id)).await {
            Ok(found) => Ok((found.into_iter().next().flatten(), began)),
            Err(fault) => Err(self.fault(system, fault).await),
        }
    }
}
