//! One CouchDB database in memory: documents with their revision trees, the feed in the order of sequences, local
//! documents, and batches of persons that are made when read.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write,
    ops::Bound,
    sync::Arc,
};

use serde_json::{Map, Value, json};

use super::{
    generated::Batch,
    rev::{Rev, Tree},
};

pub(super) type Json = Map<String, Value>;

/// So many of the latest documents keep the bodies that their revisions replaced.
const UNCOMPACTED: usize = 1000;

/// Sequences are counted in blocks of this size, so that what is pending is known without walking the feed.
const BLOCK: u64 = 1024;

#[derive(Clone)]
pub(super) struct Doc {
    pub tree: Tree,
    pub seq: u64,
    pub written_ms: i64,
}

#[derive(Default)]
pub(super) struct Db {
    pub docs: BTreeMap<Arc<str>, Doc>,
    by_seq: BTreeMap<u64, Arc<str>>,
    blocks: Vec<u32>,
    pub seq: u64,
    pub deleted: u64,
    pub local: BTreeMap<String, (u64, Json)>,
    pub batches: Vec<Batch>,
    /// First sequences of persons of a batch that are stored by now.
    taken: BTreeSet<u64>,
    /// Documents whose replaced bodies are still there, oldest first.
    replaced: VecDeque<Arc<str>>,
}

/// The current content of a document.
pub(super) struct Current<'a> {
    pub id: Cow<'a, str>,
    pub rev: Rev,
    pub deleted: bool,
    body: Cow<'a, str>,
    tree: Option<&'a Tree>,
}

impl Current<'_> {
    /// The document as text, spliced without parsing it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out);
        out
    }

    pub fn write_text(&self, out: &mut String) {
        write_text(out, &self.id, self.rev, self.deleted, &self.body);
    }

    pub fn json(&self) -> Json {
        parse(&self.id, self.rev, self.deleted, &self.body)
    }

    /// All leaves, as `style=all_docs` lists them.
    pub fn leaf_revs(&self) -> Vec<Rev> {
        let others = self.tree.into_iter().flat_map(Tree::leaves).map(|leaf| leaf.rev);
        std::iter::once(self.rev).chain(others.filter(|rev| *rev != self.rev)).collect()
    }
}

pub(super) fn write_text(out: &mut String, id: &str, rev: Rev, deleted: bool, body: &str) {
    out.reserve(body.len() + id.len() + 80);
    let _ = write!(out, r#"{{"_id":{},"_rev":"{rev}""#, Value::from(id));
    let inner = &body[1..body.len() - 1];
    if !inner.is_empty() {
        out.push(',');
        out.push_str(inner);
    }
    out.push_str(if deleted { r#","_deleted":true}"# } else { "}" });
}

pub(super) fn parse(id: &str, rev: Rev, deleted: bool, body: &str) -> Json {
    let mut json: Json = serde_json::from_str(body).unwrap_or_default();
    json.insert("_id".into(), id.into());
    json.insert("_rev".into(), rev.to_string().into());
    if deleted {
        json.insert("_deleted".into(), true.into());
    }
    json
}

impl Db {
    /// How many documents there are, deleted ones left out.
    pub fn doc_count(&self) -> u64 {
        self.docs.len() as u64 - self.deleted + self.generated()
    }

    /// Persons of batches that are not stored.
    pub fn generated(&self) -> u64 {
        self.batches.iter().map(|batch| batch.spec.count).sum::<u64>() - self.taken.len() as u64
    }

    pub fn get(&self, id: &str) -> Option<Current<'_>> {
        if let Some((id, doc)) = self.docs.get_key_value(id) {
            return Some(Self::current(id, doc));
        }
        self.batches.iter().find_map(|batch| batch.index(id).map(|index| Self::made(batch, index)))
    }

    /// The id of a stored document as it is kept, to be shared.
    pub fn key(&self, id: &str) -> Arc<str> {
        self.docs.get_key_value(id).map_or_else(|| id.into(), |(key, _)| key.clone())
    }

    fn current<'a>(id: &'a str, doc: &'a Doc) -> Current<'a> {
        let node = doc.tree.winner();
        Current {
            id: Cow::Borrowed(id),
            rev: node.rev,
            deleted: node.deleted,
            body: Cow::Borrowed(node.body.as_deref().unwrap_or("{}")),
            tree: Some(&doc.tree),
        }
    }

    fn made(batch: &Batch, index: u64) -> Current<'static> {
        let (pos, hash) = batch.rev(index);
        Current {
            id: Cow::Owned(batch.id(index)),
            rev: Rev { pos, hash },
            deleted: false,
            body: Cow::Owned(batch.body(index)),
            tree: None,
        }
    }

    /// The live document with `_id` and `_rev`.
    pub fn json(&self, id: &str) -> Option<Json> {
        self.get(id).filter(|current| !current.deleted).map(|current| current.json())
    }

    /// Writes with the check for conflicts; `None` is a conflict.
    pub fn put(&mut self, id: &str, base: Option<Rev>, deleted: bool, body: &Json, now: i64) -> Option<Rev> {
        self.materialise(id);
        let body = serde_json::to_string(body).unwrap_or_else(|_| "{}".into());
        match self.docs.get_mut(id) {
            None if base.is_some() => None,
            None => {
                let mut tree = Tree::default();
                let rev = tree.edit(None, deleted, body)?;
                self.insert(id, tree, now);
                Some(rev)
            }
            Some(doc) => {
                let was_deleted = doc.tree.winner().deleted;
                let rev = doc.tree.edit(base, deleted, body)?;
                self.moved(id, was_deleted, now);
                Some(rev)
            }
        }
    }

    /// Writes a revision with its ancestors as replication does.
    pub fn graft(&mut self, id: &str, path: &[Rev], deleted: bool, body: &Json, now: i64) {
        let body = serde_json::to_string(body).unwrap_or_else(|_| "{}".into());
        match self.docs.get_mut(id) {
            None => {
                let mut tree = Tree::default();
                tree.graft(path, deleted, body);
                self.insert(id, tree, now);
            }
            Some(doc) => {
                let was_deleted = doc.tree.winner().deleted;
                doc.tree.graft(path, deleted, body);
                self.moved(id, was_deleted, now);
            }
        }
    }

    /// A made person that is about to be edited becomes a stored one.
    fn materialise(&mut self, id: &str) {
        if self.docs.contains_key(id) {
            return;
        }
        let Some((batch, index)) = self.batches.iter().find_map(|b| b.index(id).map(|index| (b, index)))
        else {
            return;
        };
        let ((pos, hash), body) = (batch.rev(index), batch.body(index));
        let (seq, written_ms) = (batch.first_seq + index, batch.reported_date);
        let mut tree = Tree::default();
        tree.graft(&[Rev { pos, hash }], false, body);
        let id: Arc<str> = id.into();
        self.docs.insert(id.clone(), Doc { tree, seq, written_ms });
        self.taken.insert(seq);
        self.list(seq, id);
    }

    fn insert(&mut self, id: &str, tree: Tree, now: i64) {
        let id: Arc<str> = id.into();
        self.seq += 1;
        self.deleted += u64::from(tree.winner().deleted);
        self.docs.insert(id.clone(), Doc { tree, seq: self.seq, written_ms: now });
        self.list(self.seq, id);
    }

    fn moved(&mut self, id: &str, was_deleted: bool, now: i64) {
        self.seq += 1;
        let seq = self.seq;
        let Some(doc) = self.docs.get_mut(id) else { return };
        let old = std::mem::replace(&mut doc.seq, seq);
        doc.written_ms = now;
        let is_deleted = doc.tree.winner().deleted;
        self.deleted = self.deleted + u64::from(is_deleted) - u64::from(was_deleted);
        if let Some(key) = self.by_seq.remove(&old) {
            self.blocks[(old / BLOCK) as usize] -= 1;
            self.list(seq, key.clone());
            self.replaced.push_back(key);
        }
        if self.replaced.len() > UNCOMPACTED
            && let Some(doc) = self.replaced.pop_front().and_then(|id| self.docs.get_mut(&id))
        {
            doc.tree.compact();
        }
    }

    fn list(&mut self, seq: u64, id: Arc<str>) {
        let block = (seq / BLOCK) as usize;
        if self.blocks.len() <= block {
            self.blocks.resize(block + 1, 0);
        }
        self.blocks[block] += 1;
        self.by_seq.insert(seq, id);
    }

    /// Puts a document back as it was saved.
    pub fn restore(&mut self, id: &str, doc: Doc) {
        let id: Arc<str> = id.into();
        self.deleted += u64::from(doc.tree.winner().deleted);
        self.seq = self.seq.max(doc.seq);
        let made = self.batches.iter().find_map(|b| b.index(&id).map(|index| b.first_seq + index));
        self.taken.extend(made);
        self.list(doc.seq, id.clone());
        self.docs.insert(id, doc);
    }

    pub fn add_batch(&mut self, batch: Batch) {
        self.seq = batch.first_seq + batch.spec.count - 1;
        self.batches.push(batch);
    }

    /// The change that follows a place in the feed.
    pub fn after(&self, seq: u64) -> Option<(u64, Current<'_>)> {
        let stored = self.by_seq.range((Bound::Excluded(seq), Bound::Unbounded)).next();
        let mut place = seq + 1;
        let made = self.batches.iter().find_map(|batch| {
            let end = batch.first_seq + batch.spec.count;
            place = place.max(batch.first_seq);
            while place < end && self.taken.contains(&place) {
                place += 1;
            }
            (place < end).then_some((place, batch))
        });
        match (stored, made) {
            (Some((stored, _)), Some((made, batch))) if made < *stored => {
                Some((made, Self::made(batch, made - batch.first_seq)))
            }
            (Some((seq, id)), _) => self.docs.get(id).map(|doc| (*seq, Self::current(id, doc))),
            (None, Some((made, batch))) => Some((made, Self::made(batch, made - batch.first_seq))),
            (None, None) => None,
        }
    }

    /// Stored changes, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = (u64, Current<'_>)> {
        self.by_seq
            .iter()
            .rev()
            .filter_map(|(seq, id)| self.docs.get(id).map(|doc| (*seq, Self::current(id, doc))))
    }

    /// The first stored change after a place, batches left out.
    pub fn stored_after(&self, seq: u64) -> Option<(u64, Arc<str>, i64)> {
        let (seq, id) = self.by_seq.range((Bound::Excluded(seq), Bound::Unbounded)).next()?;
        Some((*seq, id.clone(), self.docs.get(id).map_or(0, |doc| doc.written_ms)))
    }

    /// How many changes follow a place.
    pub fn pending(&self, seq: u64) -> u64 {
        let made: u64 = self
            .batches
            .iter()
            .map(|batch| (batch.first_seq + batch.spec.count).saturating_sub(batch.first_seq.max(seq + 1)))
            .sum();
        let taken = self.taken.range(seq + 1..).count() as u64;
        made - taken + self.stored_pending(seq)
    }

    /// The same without batches.
    pub fn stored_pending(&self, seq: u64) -> u64 {
        let block = seq / BLOCK;
        let rest: u64 = self.blocks.iter().skip(block as usize + 1).map(|count| u64::from(*count)).sum();
        let here = (Bound::Excluded(seq), Bound::Excluded((block + 1) * BLOCK));
        rest + self.by_seq.range(here).count() as u64
    }

    /// The document that follows in the order of ids; `inclusive` when `id` itself counts.
    pub fn next_id(&self, id: &str, inclusive: bool) -> Option<Current<'_>> {
        let from = if inclusive { Bound::Included(id) } else { Bound::Excluded(id) };
        let stored = self.docs.range::<str, _>((from, Bound::Unbounded)).next();
        let made = self
            .batches
            .iter()
            .filter_map(|batch| {
                let mut index = batch.lower_bound(id);
                while index < batch.spec.count
                    && ((!inclusive && batch.id(index) == id)
                        || self.docs.contains_key(batch.id(index).as_str()))
                {
                    index += 1;
                }
                (index < batch.spec.count).then(|| (batch.id(index), batch, index))
            })
            .min_by(|a, b| a.0.cmp(&b.0));
        match (stored, made) {
            (Some((id, doc)), Some((made, batch, index))) => {
                let made_first = made.as_str() < &**id;
                Some(if made_first { Self::made(batch, index) } else { Self::current(id, doc) })
            }
            (Some((id, doc)), None) => Some(Self::current(id, doc)),
            (None, Some((_, batch, index))) => Some(Self::made(batch, index)),
            (None, None) => None,
        }
    }

    /// All live stored documents.
    pub fn live(&self) -> impl Iterator<Item = Current<'_>> {
        self.docs.iter().map(|(id, doc)| Self::current(id, doc)).filter(|current| !current.deleted)
    }

    pub fn conflicts(&self) -> usize {
        self.docs.values().filter(|doc| !doc.tree.conflicts().is_empty()).count()
    }

    pub fn put_local(&mut self, id: &str, mut body: Json) -> u64 {
        let based_on = body.remove("_rev");
        body.remove("_id");
        let count = |rev: &Value| rev.as_str()?.strip_prefix("0-")?.parse::<u64>().ok();
        let rev = based_on.as_ref().and_then(count).unwrap_or(0) + 1;
        self.local.insert(id.to_owned(), (rev, body));
        rev
    }

    pub fn local(&self, id: &str) -> Option<Value> {
        let (rev, body) = self.local.get(id)?;
        let mut body = body.clone();
        body.insert("_id".into(), format!("_local/{id}").into());
        body.insert("_rev".into(), format!("0-{rev}").into());
        Some(json!(body))
    }
}

/// Splits a document into id, revision, whether it deletes, and what is stored.
pub(super) fn take_apart(mut doc: Json) -> (String, Option<String>, bool, Json) {
    let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let id = text(doc.remove("_id")).unwrap_or_default();
    let base = text(doc.remove("_rev"));
    let deleted = doc.remove("_deleted") == Some(Value::Bool(true));
    (id, base, deleted, doc)
}

#[cfg(test)]
mod tests {
    use super::{super::generated::Generate, *};

    fn body(n: u64) -> Json {
        json!({ "n": n }).as_object().unwrap().clone()
    }

    fn feed(db: &Db) -> Vec<(u64, String)> {
        let mut place = 0;
        std::iter::from_fn(|| {
            let (seq, current) = db.after(place)?;
            place = seq;
            Some((seq, current.id.into_owned()))
        })
        .collect()
    }

    #[test]
    fn each_document_is_once_in_the_feed_and_pending_counts_what_follows() {
        let mut db = Db::default();
        for n in 0..3000 {
            db.put(&format!("d{n}"), None, false, &body(n), 0).unwrap();
        }
        let rev = db.get("d7").unwrap().rev;
        db.put("d7", Some(rev), false, &body(9), 0).unwrap();
        let feed = feed(&db);
        assert_eq!((feed.len(), feed.last().unwrap()), (3000, &(3001, "d7".to_owned())));
        for place in [0, 1, 7, 8, 1023, 1024, 2999, 3001] {
            assert_eq!(
                db.pending(place),
                feed.iter().filter(|(seq, _)| *seq > place).count() as u64,
                "{place}"
            );
        }
    }

    #[test]
    fn made_persons_are_in_the_feed_and_lists_until_they_are_edited() {
        let mut db = Db::default();
        db.put("a", None, false, &body(1), 0).unwrap();
        let spec = Generate { count: 5, min_bytes: 300, max_bytes: 300, seed: 1 };
        db.add_batch(Batch { first_seq: 2, spec, reported_date: 0 });
        db.put("z", None, false, &body(1), 0).unwrap();
        assert_eq!(feed(&db).iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((db.doc_count(), db.pending(3)), (7, 4));
        let id = db.batches[0].id(2);
        let rev = db.get(&id).unwrap().rev;
        db.put(&id, Some(rev), false, &body(2), 0).unwrap();
        assert_eq!(feed(&db).iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7, 8]);
        assert_eq!((db.doc_count(), db.pending(3)), (7, 4));
        let mut ids = Vec::new();
        let mut next = db.next_id("", true);
        while let Some(current) = next {
            ids.push(current.id.clone().into_owned());
            next = db.next_id(ids.last().unwrap(), false);
        }
        assert_eq!((ids.len(), ids.is_sorted()), (7, true));
    }
}
