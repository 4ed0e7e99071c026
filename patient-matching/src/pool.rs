//! Interned strings: each distinct value of a kind is stored once and named by a number.
//!
//! Guarantees: number 0 is the empty string; equal strings have equal numbers; hashes are the same on every
//! machine and in every run, so they may be stored.

#![allow(clippy::indexing_slicing, reason = "numbers and slots are made by the pool itself")]

use crate::similarity::Shape;
use crate::text;

/// A 64-bit hash that is stable across runs (FNV-1a with a final mix).
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for &b in bytes {
        h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(h)
}

/// Spreads the bits of a number over all 64.
pub(crate) fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// What blocking and comparing need to know about a value before they look at its letters.
#[derive(Clone, Copy, Default)]
pub(crate) struct Facts {
    /// Hash of the re-spelling key, 0 for the empty string.
    pub key: u32,
    /// Hash of the consonant skeleton of that key.
    pub skeleton: u32,
    /// The letters of a name or place, the digits of a code.
    pub shape: Shape,
}

/// A set of distinct strings.
#[derive(Clone)]
pub(crate) struct Pool {
    arena: String,
    ends: Vec<u32>,
    facts: Vec<Facts>,
    slots: Vec<u32>,
    spelled: bool,
}

impl Pool {
    /// An empty pool. `spelled` pools hold names and keep the re-spelling facts of each value.
    pub fn new(spelled: bool) -> Pool {
        Pool {
            arena: String::new(),
            ends: vec![0],
            facts: vec![Facts::default()],
            slots: vec![0; 64],
            spelled,
        }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn text(&self, id: u32) -> &str {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        &self.arena[start..self.ends[id] as usize]
    }

    pub fn facts(&self, id: u32) -> Facts {
        self.facts[id as usize]
    }

    /// The strings one after the other, and where each ends.
    pub fn parts(&self) -> (&str, &[u32]) {
        (&self.arena, &self.ends)
    }

    /// A pool from its parts, if they fit together.
    pub fn from_parts(arena: String, ends: Vec<u32>, spelled: bool) -> Option<Pool> {
        let rising =
            ends.first() == Some(&0) && ends.is_sorted() && ends.last() == Some(&(arena.len() as u32));
        if !rising || !ends.iter().all(|e| arena.is_char_boundary(*e as usize)) {
            return None;
        }
        let size = (ends.len() * 2).next_power_of_two().max(64);
        let mut pool = Pool { arena, ends, facts: Vec::new(), slots: vec![0; size], spelled };
        for id in 0..pool.len() as u32 {
            let facts = if id == 0 { Facts::default() } else { make_facts(pool.text(id), spelled) };
            pool.facts.push(facts);
            if id > 0 {
                let slot = pool.slot(pool.text(id));
                pool.slots[slot] = id;
            }
        }
        Some(pool)
    }

    /// The number of `value`, if it is in the pool.
    pub fn find(&self, value: &str) -> Option<u32> {
        if value.is_empty() {
            return Some(0);
        }
        let slot = self.slot(value);
        (self.slots[slot] != 0).then(|| self.slots[slot])
    }

    fn slot(&self, value: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash_bytes(value.as_bytes()) as usize & mask;
        while self.slots[slot] != 0 && self.text(self.slots[slot]) != value {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The number of `value`, which is added if it is new.
    pub fn intern(&mut self, value: &str) -> u32 {
        if value.is_empty() {
            return 0;
        }
        let slot = self.slot(value);
        if self.slots[slot] != 0 {
            return self.slots[slot];
        }
        let id = self.ends.len() as u32;
        self.arena.push_str(value);
        self.ends.push(self.arena.len() as u32);
        self.facts.push(make_facts(value, self.spelled));
        self.slots[slot] = id;
        if self.ends.len() * 2 > self.slots.len() {
            self.grow();
        }
        id
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len() * 2];
        for id in 1..self.ends.len() as u32 {
            let slot = self.slot(self.text(id));
            self.slots[slot] = id;
        }
    }

    /// The pool in alphabetical order, and the new number of each old one.
    pub fn sorted(&self) -> (Pool, Vec<u32>) {
        // The first eight bytes decide nearly always, and need no look into the arena.
        let head = |id: u32| {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(self.text(id).bytes()).for_each(|(slot, b)| *slot = b);
            u64::from_be_bytes(bytes)
        };
        let mut order: Vec<(u64, u32)> = (0..self.len() as u32).map(|id| (head(id), id)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.text(a.1).cmp(self.text(b.1))));
        let mut pool = Pool {
            arena: String::with_capacity(self.arena.len()),
            ends: Vec::with_capacity(self.len()),
            facts: Vec::with_capacity(self.len()),
            slots: vec![0; self.slots.len()],
            spelled: self.spelled,
        };
        let mut renamed = vec![0_u32; self.len()];
        for (new, &(_, old)) in order.iter().enumerate() {
            pool.arena.push_str(self.text(old));
            pool.ends.push(pool.arena.len() as u32);
            pool.facts.push(self.facts(old));
            renamed[old as usize] = new as u32;
        }
        for id in 1..pool.len() as u32 {
            let slot = pool.slot(pool.text(id));
            pool.slots[slot] = id;
        }
        (pool, renamed)
    }
}

fn make_facts(value: &str, spelled: bool) -> Facts {
    if !spelled {
        return Facts { key: short_hash(value), skeleton: 0, shape: Shape::of_code(value) };
    }
    let key = text::spelling_key(value);
    Facts { key: short_hash(&key), skeleton: short_hash(&text::skeleton(&key)), shape: Shape::of(value) }
}

fn short_hash(text: &str) -> u32 {
    ((hash_bytes(text.as_bytes()) >> 32) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_sorted_keeps_the_text() {
        let mut pool = Pool::new(true);
        let words: Vec<String> = (0..500).map(|i| format!("w{}", (i * 7919) % 500)).collect();
        let ids: Vec<u32> = words.iter().map(|w| pool.intern(w)).collect();
        for (w, id) in words.iter().zip(&ids) {
            assert_eq!(pool.find(w), Some(*id));
            assert_eq!(pool.text(*id), w);
        }
        assert_eq!((pool.find(""), pool.find("absent")), (Some(0), None));
        let (sorted, renamed) = pool.sorted();
        for (w, id) in words.iter().zip(&ids) {
            assert_eq!(sorted.text(renamed[*id as usize]), w);
            assert_eq!(sorted.find(w), Some(renamed[*id as usize]));
        }
        assert!((1..sorted.len() as u32).all(|i| sorted.text(i - 1) < sorted.text(i)));
    }
}
