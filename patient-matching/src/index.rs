//! The online index: insert, update, remove and look up people in memory.
//!
//! Guarantees: an answer depends on the living records and the model alone, not on the order in which they
//! came nor on the number of threads that ask; a new model needs no re-indexing; a query only reads.

#![allow(
    clippy::indexing_slicing,
    reason = "rows, nodes and numbers are made by the index, and checked on loading"
)]

use crate::birth::{Birth, Heaped};
use crate::block::Plan;
use crate::compare::Comparer;
use crate::decide::{Candidate, flags};
use crate::error::Error;
use crate::explain::{Explanation, build};
use crate::model::{Featurer, Model, Rarity};
use crate::person::Person;
use crate::pool::{Pool, mix};
use crate::table::{BIRTH, Kind, Layout, Pools, Texts};
use crate::weights::Weights;

/// People in memory, found by the keys of [blocking](crate::BlockingReport) and scored by a model.
pub struct Index {
    pub(crate) model: Model,
    weights: Weights,
    heaped: Heaped,
    rarity: Rarity,
    rarities: Vec<[f32; 4]>,
    plan: Plan,
    cap: usize,
    pub(crate) data: Data,
}

/// What a snapshot holds.
pub(crate) struct Data {
    pub layout: Layout,
    pub pools: Pools,
    pub cells: Vec<u32>,
    pub keys: Vec<u32>,
    /// Number of each row's id, and 0 for a row that is gone.
    pub ids: Vec<u32>,
    /// Row of each id, plus one.
    pub rows: Vec<u32>,
    pub names: Pool,
    /// First node of each bucket, plus one; a node is a row's key.
    pub heads: Vec<u32>,
    /// Next node in the bucket, plus one.
    pub next: Vec<u32>,
    pub nodes: usize,
    pub living: usize,
}

const SOURCE_MARK: char = '\u{1}';

impl Data {
    pub fn new(layout: Layout) -> Data {
        Data {
            layout,
            pools: Pools::new(),
            cells: Vec::new(),
            keys: Vec::new(),
            ids: Vec::new(),
            rows: vec![0],
            names: Pool::new(false),
            heads: vec![0; 1 << 10],
            next: Vec::new(),
            nodes: 0,
            living: 0,
        }
    }

    fn row(&self, row: usize) -> &[u32] {
        let width = self.layout.width();
        &self.cells[row * width..(row + 1) * width]
    }

    fn bucket(&self, kind: usize, key: u32) -> usize {
        mix((kind as u64) << 32 | u64::from(key)) as usize & (self.heads.len() - 1)
    }

    /// Links the keys of a row into their buckets.
    fn hang(&mut self, plan: &Plan, row: usize) {
        for (kind, (_, range)) in plan.kinds().iter().enumerate() {
            for slot in range.clone() {
                let node = row * plan.slots() + slot;
                let key = self.keys[node];
                if key != 0 && !self.keys[row * plan.slots() + range.start..node].contains(&key) {
                    let bucket = self.bucket(kind, key);
                    self.next[node] = std::mem::replace(&mut self.heads[bucket], node as u32 + 1);
                    self.nodes += 1;
                }
            }
        }
    }

    /// Doubles the buckets when they are full. All rows must hang in them already: a row hung twice would close
    /// its bucket into a ring.
    fn grow(&mut self, plan: &Plan) {
        if self.nodes < self.heads.len() {
            return;
        }
        self.heads = vec![0; self.heads.len() * 2];
        self.nodes = 0;
        for row in 0..self.ids.len() {
            if self.ids[row] != 0 {
                self.hang(plan, row);
            }
        }
    }
}

impl Index {
    /// An empty index.
    pub fn new(model: Model) -> Index {
        let data = Data::new(model.layout.clone());
        Index::with(model, data)
    }

    pub(crate) fn with(model: Model, data: Data) -> Index {
        let rarity = Rarity::new(&model.frequencies, &model.layout);
        let mut rarities = Vec::with_capacity(data.pools.names.len());
        rarity.extend(&data.pools, 0, &mut rarities);
        Index {
            weights: Weights::new(&model),
            heaped: model.heaped(),
            plan: Plan::new(&model.layout),
            rarity,
            rarities,
            cap: 300,
            model,
            data,
        }
    }

    /// Number of people.
    pub fn len(&self) -> usize {
        self.data.living
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.data.living == 0
    }

    /// The model that scores.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Scores with another model from now on. Its layout must be the one of the people.
    pub fn set_model(&mut self, model: Model) -> Result<(), Error> {
        if model.layout != self.data.layout {
            return Err(Error::Model(
                "it was trained on other places or identifiers than the index holds".to_owned(),
            ));
        }
        self.weights = Weights::new(&model);
        self.heaped = model.heaped();
        self.rarity = Rarity::new(&model.frequencies, &model.layout);
        self.rarities.clear();
        self.rarity.extend(&self.data.pools, 0, &mut self.rarities);
        self.model = model;
        Ok(())
    }

    /// Adds a person of a source, or replaces the one with this id. Returns whether somebody was replaced.
    pub fn insert(&mut self, source: u8, person: &Person) -> bool {
        let replaced = self.remove(source, person.id());
        let data = &mut self.data;
        data.grow(&self.plan);
        let Pools { names, places, codes } = &mut data.pools;
        Pools::encode(person, &data.layout, &mut data.cells, |kind, text| match kind {
            Kind::Name => names.intern(text),
            Kind::Place => places.intern(text),
            Kind::Code => codes.intern(text),
        });
        let row = data.ids.len();
        let id = data.names.intern(&name(source, person.id()));
        data.rows.resize(data.names.len(), 0);
        data.rows[id as usize] = row as u32 + 1;
        data.ids.push(id);
        let texts = Texts { base: &data.pools, extra: None };
        let mut keys = std::mem::take(&mut data.keys);
        self.plan.keys(&data.cells[row * data.layout.width()..], &texts, &data.layout, &mut keys);
        data.keys = keys;
        data.next.resize(data.keys.len(), 0);
        data.living += 1;
        data.hang(&self.plan, row);
        let from = self.rarities.len();
        self.rarity.extend(&self.data.pools, from, &mut self.rarities);
        replaced
    }

    /// Replaces a person that the index holds. Returns false, and adds nobody, if it does not.
    pub fn update(&mut self, source: u8, person: &Person) -> bool {
        self.contains(source, person.id()) && self.insert(source, person)
    }

    /// Whether the index holds the person with this id.
    pub fn contains(&self, source: u8, id: &str) -> bool {
        self.find(source, id).is_some()
    }

    fn find(&self, source: u8, id: &str) -> Option<usize> {
        let id = self.data.names.find(&name(source, id))?;
        self.data.rows.get(id as usize)?.checked_sub(1).map(|r| r as usize)
    }

    /// Takes a person out. Returns whether there was one.
    pub fn remove(&mut self, source: u8, id: &str) -> bool {
        let Some(row) = self.find(source, id) else { return false };
        let id = std::mem::take(&mut self.data.ids[row]);
        self.data.rows[id as usize] = 0;
        self.data.living -= 1;
        true
    }

    /// The `top` people most like `person`, best first. With a `source`, only people of that source; the person
    /// with the same source and id is never an answer.
    pub fn query(&self, person: &Person, source: Option<u8>, top: usize) -> Vec<Candidate> {
        let (extra, row) = self.encode(person);
        let texts = Texts { base: &self.data.pools, extra: Some(&extra) };
        let rows = self.candidates(&row, &texts);
        let mut rarities = Vec::new();
        for i in 0..extra.names.len() {
            rarities.push(self.rarity.of(extra.names.text(i as u32)));
        }
        let mut featurer = self.featurer(texts, &rarities);
        let mut best: Vec<(f64, u32)> = Vec::new();
        for r in rows {
            let (s, id) = split(self.data.names.text(self.data.ids[r as usize]));
            if source.is_some_and(|w| w != s) || (id == person.id() && source.is_none()) {
                continue;
            }
            let bits =
                self.weights.total(&featurer.features(&row, self.data.row(r as usize)), &self.data.layout);
            best.push((bits, r));
        }
        let id = |r: u32| self.data.names.text(self.data.ids[r as usize]);
        best.sort_unstable_by(|x, y| y.0.total_cmp(&x.0).then_with(|| id(x.1).cmp(id(y.1))));
        best.truncate(top);
        best.into_iter()
            .map(|(bits, r)| {
                let other = self.data.row(r as usize);
                let features = featurer.features(&row, other);
                Candidate {
                    id: split(id(r)).1.to_owned(),
                    bits,
                    linked: None,
                    flags: flags(&self.model, &features, &row, other, self.soft(&row) || self.soft(other)),
                }
            })
            .collect()
    }

    /// Why a person is, or is not, the one with this id. `rival_bits` comes from the verdict.
    pub fn explain(&self, person: &Person, source: u8, id: &str, rival_bits: f64) -> Option<Explanation> {
        let other = self.data.row(self.find(source, id)?);
        let (extra, row) = self.encode(person);
        let texts = Texts { base: &self.data.pools, extra: Some(&extra) };
        let rarities: Vec<[f32; 4]> =
            (0..extra.names.len()).map(|i| self.rarity.of(extra.names.text(i as u32))).collect();
        let features = self.featurer(texts, &rarities).features(&row, other);
        let lines = self.model.lines(&self.weights, &features, &row, other, &texts);
        let flags = flags(&self.model, &features, &row, other, self.soft(&row) || self.soft(other));
        Some(build(&self.model, lines, flags, rival_bits))
    }

    fn soft(&self, row: &[u32]) -> bool {
        row[BIRTH] != 0 && self.heaped.is_soft(Birth::from_bits(row[BIRTH]))
    }

    fn featurer<'a>(&'a self, texts: Texts<'a>, rarities: &'a [[f32; 4]]) -> Featurer<'a> {
        let comparer = Comparer::brief(texts, &self.data.layout, &self.heaped, self.model.reference_year);
        Featurer::new(comparer, &self.rarities, rarities)
    }

    /// The row of a person who is not stored, with the strings that the index does not know.
    fn encode(&self, person: &Person) -> (Pools, Vec<u32>) {
        let mut extra = Pools::new();
        let mut row = Vec::with_capacity(self.data.layout.width());
        let base = &self.data.pools;
        Pools::encode(person, &self.data.layout, &mut row, |kind, text| {
            let (base, extra) = match kind {
                Kind::Name => (&base.names, &mut extra.names),
                Kind::Place => (&base.places, &mut extra.places),
                Kind::Code => (&base.codes, &mut extra.codes),
            };
            base.find(text).unwrap_or_else(|| extra.intern(text) + base.len() as u32)
        });
        (extra, row)
    }

    /// Rows that share a key that tells people apart.
    fn candidates(&self, row: &[u32], texts: &Texts<'_>) -> Vec<u32> {
        let mut keys = Vec::with_capacity(self.plan.slots());
        self.plan.keys(row, texts, &self.data.layout, &mut keys);
        let slots = self.plan.slots();
        let mut out: Vec<u32> = Vec::with_capacity(512);
        for (kind, (_, range)) in self.plan.kinds().iter().enumerate() {
            for slot in range.clone() {
                let key = keys[slot];
                if key == 0 || keys[range.start..slot].contains(&key) {
                    continue;
                }
                let start = out.len();
                let mut node = self.data.heads[self.data.bucket(kind, key)];
                while node != 0 {
                    let at = node as usize - 1;
                    let r = at / slots;
                    if self.data.keys[at] == key && range.contains(&(at % slots)) && self.data.ids[r] != 0 {
                        out.push(r as u32);
                        if out.len() - start > self.cap {
                            out.truncate(start);
                            break;
                        }
                    }
                    node = self.data.next[at];
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Rebuilds the index without the rows that are gone.
    pub fn compact(&mut self) {
        if self.data.living == self.data.ids.len() {
            return;
        }
        let old = std::mem::replace(&mut self.data, Data::new(self.model.layout.clone()));
        let width = old.layout.width();
        let slots = self.plan.slots();
        let data = &mut self.data;
        data.pools = old.pools;
        for (row, &id) in old.ids.iter().enumerate().filter(|(_, id)| **id != 0) {
            data.grow(&self.plan);
            data.cells.extend_from_slice(&old.cells[row * width..(row + 1) * width]);
            data.keys.extend_from_slice(&old.keys[row * slots..(row + 1) * slots]);
            data.next.resize(data.keys.len(), 0);
            let new = data.names.intern(old.names.text(id));
            data.rows.resize(data.names.len(), 0);
            data.ids.push(new);
            data.rows[new as usize] = data.ids.len() as u32;
            data.living += 1;
            data.hang(&self.plan, data.ids.len() - 1);
        }
    }

    pub(crate) fn slots(&self) -> usize {
        self.plan.slots()
    }
}

fn name(source: u8, id: &str) -> String {
    format!("{source}{SOURCE_MARK}{id}")
}

fn split(name: &str) -> (u8, &str) {
    let (source, id) = name.split_once(SOURCE_MARK).unwrap_or(("0", name));
    (source.parse().unwrap_or_default(), id)
}
