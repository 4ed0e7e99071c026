//! Blocking: which pairs are worth comparing at all.
//!
//! Guarantees: a pair that shares a key of any kind is visited exactly once; a key shared by more people than
//! the cap is narrowed by further fields and, where that does not help, dropped with a warning and replaced by
//! neighbours in content order, so that no input can make the work quadratic; the set of pairs depends on the
//! content of the records alone.

#![allow(
    clippy::indexing_slicing,
    reason = "rows and slots come from the table and the plan made from its layout"
)]

use crate::birth::Birth;
use crate::pool::mix;
use crate::table::{self, Layout, Table, Texts};
use std::ops::Range;

/// The kinds of keys, each with the slots it fills in a record's list of keys.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    kinds: Vec<(&'static str, Range<usize>)>,
    slots: usize,
    /// The first kind that reads the birth date.
    dated: usize,
}

impl Plan {
    pub fn new(layout: &Layout) -> Plan {
        let mut plan = Plan { kinds: Vec::new(), slots: 0, dated: 0 };
        let place = usize::from(layout.places > 0);
        plan.add("phone", 2);
        plan.add("identifier", layout.identifiers.len());
        plan.add("household", 1);
        plan.add("two names", 3);
        plan.add("name and place", 3 * place);
        plan.add("given name and mother", 1);
        plan.add("consonants of two names", 1);
        plan.add("two places", layout.places.saturating_sub(1).min(4));
        plan.dated = plan.kinds.len();
        plan.add("birth date and name", 3);
        plan.add("birth date and place", layout.places.min(2));
        plan.add("birth year, sex and place", place);
        plan.add("given name, birth year and sex", 1);
        plan.add("family name, birth year and initial", 1);
        plan.add("birth digits and initial", 1);
        plan
    }

    fn add(&mut self, name: &'static str, slots: usize) {
        if slots > 0 {
            self.kinds.push((name, self.slots..self.slots + slots));
            self.slots += slots;
        }
    }

    /// Keys of a record.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Names and slots of the kinds.
    pub fn kinds(&self) -> &[(&'static str, Range<usize>)] {
        &self.kinds
    }

    /// Writes the keys of a row; 0 stands for "no key".
    pub fn keys(&self, row: &[u32], texts: &Texts<'_>, layout: &Layout, out: &mut Vec<u32>) {
        let start = out.len();
        let name = |c: usize| texts.name_facts(row[c]);
        let (given, middle, family) = (name(table::GIVEN), name(table::MIDDLE), name(table::FAMILY));
        let mother = name(table::MOTHER);
        let place =
            |i: usize| if i < layout.places { texts.place_facts(row[table::PLACE + i]).key } else { 0 };
        let birth = Birth::from_bits(row[table::BIRTH]);
        let (date, year, sex) = (birth.digits(), birth.year(), row[table::SEX]);
        let initial = texts.name(row[table::GIVEN]).bytes().next().map_or(0, u32::from);
        for c in [table::PHONE, table::PHONE + 1] {
            let digits = texts.code(row[c]);
            let tail = digits.get(digits.len().saturating_sub(7)..).unwrap_or(digits);
            out.push(if tail.is_empty() { 0 } else { crate::pool::hash_bytes(tail.as_bytes()) as u32 | 1 });
        }
        for i in 0..layout.identifiers.len() {
            out.push(join(&[texts.code_facts(row[layout.identifier(i)]).key, i as u32 + 1]));
        }
        out.push(texts.code_facts(row[table::HOUSEHOLD]).key);
        for (a, b) in [(given, family), (given, middle), (middle, family)] {
            out.push(join(&[a.key.min(b.key), a.key.max(b.key)]));
        }
        if layout.places > 0 {
            for n in [given, family, middle] {
                out.push(join(&[n.key, place(0)]));
            }
        }
        out.push(join(&[given.skeleton, mother.skeleton]));
        let (low, high) = (given.skeleton.min(family.skeleton), given.skeleton.max(family.skeleton));
        out.push(join(&[low, high]));
        for i in 0..layout.places.saturating_sub(1).min(4) {
            out.push(join(&[place(i), place(i + 1)]));
        }
        for n in [given, family, middle] {
            out.push(join(&[date, n.key]));
        }
        for i in 0..layout.places.min(2) {
            out.push(join(&[date, place(i)]));
        }
        if layout.places > 0 {
            out.push(join(&[year, sex, place(0)]));
        }
        out.push(join(&[given.key, year, sex]));
        out.push(join(&[family.skeleton, year, initial]));
        let (day, month) = (birth.day().min(birth.month()), birth.day().max(birth.month()));
        out.push(join(&[year, day, month, initial, sex + 1]));
        debug_assert_eq!(out.len() - start, self.slots);
    }
}

/// One key from its parts, 0 when a part is missing.
fn join(parts: &[u32]) -> u32 {
    if parts.contains(&0) {
        return 0;
    }
    let h = parts.iter().fold(0x9e37_79b9_u64, |h, &p| mix(h ^ u64::from(p)));
    (h >> 32) as u32 | 1
}

/// A kind of key that was too common.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// What the key is made of.
    pub key: String,
    /// How many keys of this kind were dropped.
    pub blocks: usize,
    /// How many records the largest of them holds.
    pub largest: usize,
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the key \"{}\" tells nobody apart: {} block(s), the largest with {} records, were dropped",
            self.key, self.blocks, self.largest
        )
    }
}

/// What blocking did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BlockingReport {
    /// Pairs compared.
    pub pairs: u64,
    /// Pairs first found by each kind of key.
    pub by_key: Vec<(String, u64)>,
    /// Keys that were too common to be used.
    pub dropped: Vec<Dropped>,
}

/// Which pairs are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// All.
    All,
    /// Only pairs across the two sources.
    Across,
}

/// Visits every pair of a table that shares a key, once. `keep` thins out pairs before the more costly test
/// whether the pair was visited before; `visit` gets `a < b` and whether a key without the birth date found them. One state per thread is made by `init` and
/// returned; which pairs a state sees depends on the number of threads, the union does not.
pub(crate) fn visit_pairs<S: Send>(
    table: &Table,
    cap: usize,
    threads: usize,
    wanted: Wanted,
    keep: impl Fn(u32, u32) -> bool + Sync,
    init: impl Fn() -> S,
    visit: impl Fn(&mut S, u32, u32, bool) + Sync,
) -> (Vec<S>, BlockingReport) {
    let plan = Plan::new(&table.layout);
    let slots = plan.slots();
    let threads = threads.max(1);
    let mut keys = all_keys(table, &plan, threads);
    let mut states: Vec<S> = (0..threads).map(|_| init()).collect();
    let mut report = BlockingReport::default();
    let mut entries: Vec<u64> = Vec::new();
    let mut spare: Vec<u64> = Vec::new();
    for (kind, (name, range)) in plan.kinds().iter().enumerate() {
        let dropped = settle(table, &mut keys, slots, range, cap, &mut entries, &mut spare);
        if dropped.0 > 0 {
            report.dropped.push(Dropped { key: (*name).to_owned(), blocks: dropped.0, largest: dropped.1 });
        }
        let shares = share_out(&entries, threads);
        let (keys, entries, plan, keep, visit) = (&keys, &entries, &plan, &keep, &visit);
        let counts: Vec<u64> = std::thread::scope(|scope| {
            let workers: Vec<_> = states
                .iter_mut()
                .zip(shares)
                .map(|(state, share)| {
                    scope.spawn(move || {
                        let mut count = 0;
                        for block in blocks(&entries[share]) {
                            let hash = (block[0] >> 32) as u32;
                            for (i, &x) in block.iter().enumerate() {
                                let a = x as u32;
                                for &y in &block[i + 1..] {
                                    let b = y as u32;
                                    if a == b
                                        || (wanted == Wanted::Across
                                            && table.sources[a as usize] == table.sources[b as usize])
                                    {
                                        continue;
                                    }
                                    if keep(a, b) && is_first(keys, slots, plan, kind, hash, a, b) {
                                        count += 1;
                                        visit(state, a, b, kind < plan.dated);
                                    }
                                }
                            }
                        }
                        count
                    })
                })
                .collect();
            workers.into_iter().map(|w| w.join().unwrap_or_default()).collect()
        });
        let found = counts.iter().sum();
        report.pairs += found;
        report.by_key.push(((*name).to_owned(), found));
    }
    if !report.dropped.is_empty() {
        let count = neighbours(table, wanted, &keep, &mut states, &visit, &keys, slots, &plan);
        report.pairs += count;
        report.by_key.push(("neighbours in order".to_owned(), count));
    }
    (states, report)
}

/// Pairs of records that stand next to each other in content order, for what the dropped keys would have found.
#[allow(clippy::too_many_arguments, reason = "the tail of visit_pairs, which owns all of these")]
fn neighbours<S>(
    table: &Table,
    wanted: Wanted,
    keep: &impl Fn(u32, u32) -> bool,
    states: &mut [S],
    visit: &impl Fn(&mut S, u32, u32, bool),
    keys: &[u32],
    slots: usize,
    plan: &Plan,
) -> u64 {
    let Some(state) = states.first_mut() else { return 0 };
    let mut count = 0;
    for a in 0..table.len() as u32 {
        for b in a + 1..(a + 4).min(table.len() as u32) {
            let across = table.sources[a as usize] != table.sources[b as usize];
            if (wanted == Wanted::All || across)
                && keep(a, b)
                && is_first(keys, slots, plan, plan.kinds().len(), 0, a, b)
            {
                count += 1;
                visit(state, a, b, false);
            }
        }
    }
    count
}

fn all_keys(table: &Table, plan: &Plan, threads: usize) -> Vec<u32> {
    let n = table.len();
    let step = n.div_ceil(threads).max(1);
    let parts: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..n)
            .step_by(step)
            .map(|from| {
                scope.spawn(move || {
                    let to = (from + step).min(n);
                    let mut out = Vec::with_capacity((to - from) * plan.slots());
                    let texts = table.texts();
                    for r in from..to {
                        plan.keys(table.row(r as u32), &texts, &table.layout, &mut out);
                    }
                    out
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap_or_default()).collect()
    });
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    all.reserve_exact(n * plan.slots() - all.len());
    for part in parts {
        all.extend_from_slice(&part);
    }
    all
}

/// Fills `entries` with the (key, record) pairs of one kind in order, after common keys were narrowed. Returns
/// the number of dropped blocks and the size of the largest.
fn settle(
    table: &Table,
    keys: &mut [u32],
    slots: usize,
    range: &Range<usize>,
    cap: usize,
    entries: &mut Vec<u64>,
    spare: &mut Vec<u64>,
) -> (usize, usize) {
    let mut dropped = (0, 0);
    collect(keys, slots, range, entries);
    sort_by_key(entries, spare);
    for round in 0..=ROUNDS {
        let common: Vec<Range<usize>> = block_ranges(entries).filter(|r| r.len() > cap).collect();
        if common.is_empty() {
            break;
        }
        if round == ROUNDS {
            dropped = (common.len(), common.iter().map(ExactSizeIterator::len).max().unwrap_or(0));
        }
        for block in common {
            let hash = (entries[block.start] >> 32) as u32;
            for entry in &entries[block] {
                let r = *entry as u32;
                for key in &mut keys[r as usize * slots..][range.clone()] {
                    if *key == hash {
                        *key =
                            if round == ROUNDS { 0 } else { join(&[hash, narrow(table, r, round).max(1)]) };
                    }
                }
            }
        }
        collect(keys, slots, range, entries);
        sort_by_key(entries, spare);
    }
    dropped
}

const ROUNDS: usize = 4;

/// What narrows a common key, round by round; never the birth date, which training must see in all its variety.
fn narrow(table: &Table, r: u32, round: usize) -> u32 {
    let row = table.row(r);
    let texts = table.texts();
    match round {
        0 => texts.name_facts(row[table::GIVEN]).skeleton,
        1 if table.layout.places > 0 => texts.place_facts(row[table::PLACE]).key,
        2 => texts.name_facts(row[table::FAMILY]).key,
        _ => row[table::SEX],
    }
}

fn collect(keys: &[u32], slots: usize, range: &Range<usize>, entries: &mut Vec<u64>) {
    entries.clear();
    for (r, row) in keys.chunks_exact(slots).enumerate() {
        for (i, &key) in row[range.clone()].iter().enumerate() {
            if key != 0 && !row[range.start..range.start + i].contains(&key) {
                entries.push((u64::from(key) << 32) | r as u64);
            }
        }
    }
}

/// Stable radix sort by the upper 32 bits; records stay in ascending order within a key.
fn sort_by_key(entries: &mut Vec<u64>, spare: &mut Vec<u64>) {
    if entries.len() < 2_000 {
        entries.sort_unstable();
        return;
    }
    spare.clear();
    spare.resize(entries.len(), 0);
    for shift in [32, 43, 54] {
        let mut counts = vec![0_usize; 1 << 11];
        let digit = |e: u64| (e >> shift) as usize & 0x7ff;
        for &e in entries.iter() {
            counts[digit(e)] += 1;
        }
        let mut at = 0;
        for c in &mut counts {
            at += std::mem::replace(c, at);
        }
        for &e in entries.iter() {
            let slot = &mut counts[digit(e)];
            spare[*slot] = e;
            *slot += 1;
        }
        std::mem::swap(entries, spare);
    }
}

fn block_ranges(entries: &[u64]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let key = entries.get(start)? >> 32;
        at += entries[start..].iter().take_while(|e| **e >> 32 == key).count();
        Some(start..at)
    })
}

fn blocks(entries: &[u64]) -> impl Iterator<Item = &[u64]> {
    block_ranges(entries).map(|r| &entries[r])
}

/// Cuts the entries between blocks so that every thread gets about the same number of pairs.
fn share_out(entries: &[u64], threads: usize) -> Vec<Range<usize>> {
    let work = |r: &Range<usize>| (r.len() * r.len()) as u64;
    let total: u64 = block_ranges(entries).map(|r| work(&r)).sum();
    let mut shares = Vec::with_capacity(threads);
    let (mut from, mut done) = (0, 0);
    for r in block_ranges(entries) {
        done += work(&r);
        if shares.len() + 1 < threads && done * threads as u64 >= total * (shares.len() as u64 + 1) {
            shares.push(from..r.end);
            from = r.end;
        }
    }
    shares.push(from..entries.len());
    shares.resize(threads, entries.len()..entries.len());
    shares
}

/// Whether `kind` and `hash` are the first key that the two records share.
fn is_first(keys: &[u32], slots: usize, plan: &Plan, kind: usize, hash: u32, a: u32, b: u32) -> bool {
    let ka = &keys[a as usize * slots..][..slots];
    let kb = &keys[b as usize * slots..][..slots];
    for (_, range) in &plan.kinds()[..kind] {
        for &x in &ka[range.clone()] {
            if x != 0 && kb[range.clone()].contains(&x) {
                return false;
            }
        }
    }
    match plan.kinds().get(kind) {
        Some((_, range)) if range.len() > 1 => {
            let kb = &kb[range.clone()];
            ka[range.clone()].iter().filter(|x| **x != 0 && kb.contains(x)).min() == Some(&hash)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Person;

    fn pairs(table: &Table, cap: usize, threads: usize) -> (Vec<(u32, u32)>, BlockingReport) {
        let (states, report) =
            visit_pairs(table, cap, threads, Wanted::All, |_, _| true, Vec::new, |s, a, b, _| s.push((a, b)));
        let mut all: Vec<_> = states.into_iter().flatten().collect();
        all.sort_unstable();
        (all, report)
    }

    fn crowd(n: usize) -> Table {
        let layout = Layout { places: 1, identifiers: vec!["nid".into()] };
        let people: Vec<Person> = (0..n)
            .map(|i| {
                Person::new(format!("{i}"))
                    .given(["Amina", "Juma", "Rose", "Hana"][i % 4])
                    .middle(["Juma", "", "Amina"][i % 3])
                    .family(["Otieno", "Saad", "Amina"][i % 3])
                    .phone(&format!("07{:08}", 11_111_111 * (i % 7)))
                    .place(0, ["Kuchi", "Sema"][i % 2])
            })
            .collect();
        Table::of(&layout, &people).canonical()
    }

    #[test]
    fn every_pair_comes_once_whatever_the_number_of_threads() {
        let table = crowd(200);
        let (one, report) = pairs(&table, 1_000, 1);
        let mut distinct = one.clone();
        distinct.dedup();
        assert_eq!(one, distinct);
        assert_eq!(report.pairs, one.len() as u64);
        assert_eq!(one, pairs(&table, 1_000, 3).0);
    }

    #[test]
    fn pairs_are_those_that_share_a_key() {
        let table = crowd(60);
        let plan = Plan::new(&table.layout);
        let keys = all_keys(&table, &plan, 1);
        let shares = |a: usize, b: usize| {
            plan.kinds().iter().any(|(_, r)| {
                keys[a * plan.slots()..][r.clone()]
                    .iter()
                    .any(|k| *k != 0 && keys[b * plan.slots()..][r.clone()].contains(k))
            })
        };
        let mut expected = Vec::new();
        for a in 0..60 {
            for b in a + 1..60 {
                if shares(a, b) {
                    expected.push((a as u32, b as u32));
                }
            }
        }
        assert_eq!(pairs(&table, 1_000, 2).0, expected);
    }

    #[test]
    fn a_key_shared_by_all_is_dropped_with_its_name() {
        let layout = Layout { places: 1, identifiers: vec![] };
        let people: Vec<Person> = (0..10_000)
            .map(|i| Person::new(format!("{i}")).given("Amina").family("Saad").place(0, "Sema"))
            .collect();
        let table = Table::of(&layout, &people).canonical();
        let (found, report) = pairs(&table, 300, 2);
        assert!(found.len() <= 3 * 10_000, "{}", found.len());
        assert!(report.dropped.iter().any(|d| d.key == "two names" && d.largest == 10_000), "{report:?}");
        assert!(report.dropped[0].to_string().contains("two names"));
    }
}
