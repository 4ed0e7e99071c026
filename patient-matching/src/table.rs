//! People in memory: one short row of numbers each.
//!
//! Guarantees: a row holds everything that scoring and blocking read, and never the record id. `Table::canonical`
//! orders rows by content alone, so whatever is computed afterwards cannot depend on the order of the input.

#![allow(clippy::indexing_slicing, reason = "rows and numbers are made by the table itself")]

use crate::birth::Birth;
use crate::person::{Person, Sex};
use crate::pool::{Facts, Pool, mix};
use serde::{Deserialize, Serialize};

/// Which of the optional fields a set of people has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Number of place levels, at most 7; level 0 is the one that tells people apart best.
    pub places: usize,
    /// Names of the identifier types, at most 4, in the order of their slots.
    pub identifiers: Vec<String>,
}

/// Most place levels a layout can have.
pub const MAX_PLACES: usize = 7;
/// Most identifier types a layout can have.
pub const MAX_IDENTIFIERS: usize = 4;

pub(crate) const GIVEN: usize = 0;
pub(crate) const MIDDLE: usize = 1;
pub(crate) const FAMILY: usize = 2;
pub(crate) const SEX: usize = 3;
pub(crate) const BIRTH: usize = 4;
pub(crate) const PHONE: usize = 5;
pub(crate) const MOTHER: usize = 7;
pub(crate) const HOUSEHOLD: usize = 8;
pub(crate) const PLACE: usize = 9;
/// Set in an identifier's cell when it was verified.
pub(crate) const VERIFIED: u32 = 1 << 31;

/// A phone of more people is a shop's and says nothing.
const SHARED_BY: u32 = 60;

impl Layout {
    /// Columns of a row.
    pub(crate) fn width(&self) -> usize {
        PLACE + self.places + self.identifiers.len()
    }

    /// Column of the identifier type at `slot`.
    pub(crate) fn identifier(&self, slot: usize) -> usize {
        PLACE + self.places + slot
    }
}

/// The distinct strings of a table, by kind.
#[derive(Clone)]
pub(crate) struct Pools {
    pub names: Pool,
    pub places: Pool,
    pub codes: Pool,
}

impl Pools {
    pub fn new() -> Pools {
        Pools { names: Pool::new(true), places: Pool::new(true), codes: Pool::new(false) }
    }

    /// Appends the row of a person to `cells`; `intern` numbers a string of a pool.
    pub fn encode(
        person: &Person,
        layout: &Layout,
        cells: &mut Vec<u32>,
        mut intern: impl FnMut(Kind, &str) -> u32,
    ) {
        cells.push(intern(Kind::Name, &person.given));
        cells.push(intern(Kind::Name, &person.middle));
        cells.push(intern(Kind::Name, &person.family));
        cells.push(match person.sex {
            Sex::Unknown => 0,
            Sex::Female => 1,
            Sex::Male => 2,
        });
        cells.push(person.birth.bits());
        for i in 0..2 {
            cells.push(intern(Kind::Code, person.phones.get(i).map_or("", String::as_str)));
        }
        cells.push(intern(Kind::Name, &person.mother));
        cells.push(intern(Kind::Code, &person.household));
        for i in 0..layout.places {
            cells.push(intern(Kind::Place, person.places.get(i).map_or("", String::as_str)));
        }
        for slot in 0..layout.identifiers.len() {
            let id = person.identifiers.iter().find(|i| i.slot == slot);
            cells
                .push(id.map_or(0, |i| intern(Kind::Code, &i.value) | if i.verified { VERIFIED } else { 0 }));
        }
    }
}

/// The kinds of interned strings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Name,
    Place,
    Code,
}

/// Pools, and a small overlay for the strings of a person who is asked about but not stored.
#[derive(Clone, Copy)]
pub(crate) struct Texts<'a> {
    pub base: &'a Pools,
    pub extra: Option<&'a Pools>,
}

impl<'a> Texts<'a> {
    pub fn name(&self, id: u32) -> &'a str {
        read(&self.base.names, self.extra.map(|e| &e.names), id)
    }

    pub fn place(&self, id: u32) -> &'a str {
        read(&self.base.places, self.extra.map(|e| &e.places), id)
    }

    pub fn code(&self, id: u32) -> &'a str {
        read(&self.base.codes, self.extra.map(|e| &e.codes), id & !VERIFIED)
    }

    pub fn name_facts(&self, id: u32) -> Facts {
        facts(&self.base.names, self.extra.map(|e| &e.names), id)
    }

    pub fn place_facts(&self, id: u32) -> Facts {
        facts(&self.base.places, self.extra.map(|e| &e.places), id)
    }

    pub fn code_facts(&self, id: u32) -> Facts {
        facts(&self.base.codes, self.extra.map(|e| &e.codes), id & !VERIFIED)
    }
}

/// Numbers of the overlay follow those of the base.
fn read<'a>(base: &'a Pool, extra: Option<&'a Pool>, id: u32) -> &'a str {
    match extra {
        Some(extra) if id as usize >= base.len() => extra.text(id - base.len() as u32),
        _ => base.text(id),
    }
}

fn facts(base: &Pool, extra: Option<&Pool>, id: u32) -> Facts {
    match extra {
        Some(extra) if id as usize >= base.len() => extra.facts(id - base.len() as u32),
        _ => base.facts(id),
    }
}

/// People of one or two sources.
#[derive(Clone)]
pub struct Table {
    pub(crate) layout: Layout,
    pub(crate) pools: Pools,
    pub(crate) cells: Vec<u32>,
    pub(crate) sources: Vec<u8>,
    ids: String,
    id_ends: Vec<u32>,
}

impl Table {
    /// An empty table.
    pub fn new(layout: Layout) -> Table {
        let layout = Layout {
            places: layout.places.min(MAX_PLACES),
            identifiers: layout.identifiers.into_iter().take(MAX_IDENTIFIERS).collect(),
        };
        Table {
            layout,
            pools: Pools::new(),
            cells: Vec::new(),
            sources: Vec::new(),
            ids: String::new(),
            id_ends: Vec::new(),
        }
    }

    /// A table of one source.
    pub fn of<'a>(layout: &Layout, people: impl IntoIterator<Item = &'a Person>) -> Table {
        let mut table = Table::new(layout.clone());
        for person in people {
            table.push(person, 0);
        }
        table
    }

    /// Adds a person of `source` (0 or 1).
    pub fn push(&mut self, person: &Person, source: u8) {
        let Pools { names, places, codes } = &mut self.pools;
        Pools::encode(person, &self.layout, &mut self.cells, |kind, text| match kind {
            Kind::Name => names.intern(text),
            Kind::Place => places.intern(text),
            Kind::Code => codes.intern(text),
        });
        self.sources.push(source);
        self.ids.push_str(&person.id);
        self.id_ends.push(self.ids.len() as u32);
    }

    /// Number of people.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The layout of its rows.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The record id of a row.
    pub fn id(&self, row: u32) -> &str {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.id_ends[row - 1] as usize };
        &self.ids[start..self.id_ends[row] as usize]
    }

    /// The source of a row.
    pub fn source(&self, row: u32) -> u8 {
        self.sources[row as usize]
    }

    pub(crate) fn row(&self, row: u32) -> &[u32] {
        let width = self.layout.width();
        &self.cells[row as usize * width..(row as usize + 1) * width]
    }

    pub(crate) fn texts(&self) -> Texts<'_> {
        Texts { base: &self.pools, extra: None }
    }

    /// The birth date of a row.
    pub(crate) fn birth(&self, row: u32) -> Birth {
        Birth::from_bits(self.row(row)[BIRTH])
    }

    /// A hash of the content of a row, the same in every table that holds these strings.
    pub(crate) fn fingerprints(&self) -> Vec<u64> {
        let hashes = |pool: &Pool| -> Vec<u64> {
            (0..pool.len() as u32).map(|i| crate::pool::hash_bytes(pool.text(i).as_bytes())).collect()
        };
        let (names, places, codes) =
            (hashes(&self.pools.names), hashes(&self.pools.places), hashes(&self.pools.codes));
        (0..self.len() as u32)
            .map(|r| {
                self.row(r).iter().enumerate().fold(0, |h, (c, &v)| {
                    let text = match c {
                        GIVEN | MIDDLE | FAMILY | MOTHER => names[v as usize],
                        SEX | BIRTH => u64::from(v),
                        PHONE | 6 | HOUSEHOLD => codes[v as usize],
                        c if c < PLACE + self.layout.places => places[v as usize],
                        _ => codes[(v & !VERIFIED) as usize],
                    };
                    mix(h ^ text.wrapping_add(c as u64))
                })
            })
            .collect()
    }

    /// The same people in the order of their content: neighbours in a place stand together, and equal input in
    /// any order gives equal tables (but for the ids of people who are equal in every field).
    #[must_use]
    pub fn canonical(&self) -> Table {
        let (names, new_names) = self.pools.names.sorted();
        let (places, new_places) = self.pools.places.sorted();
        let (codes, new_codes) = self.pools.codes.sorted();
        let width = self.layout.width();
        let mut cells = self.cells.clone();
        for row in cells.chunks_exact_mut(width) {
            for c in [GIVEN, MIDDLE, FAMILY, MOTHER] {
                row[c] = new_names[row[c] as usize];
            }
            for c in [PHONE, PHONE + 1, HOUSEHOLD] {
                row[c] = new_codes[row[c] as usize];
            }
            for cell in &mut row[PLACE..PLACE + self.layout.places] {
                *cell = new_places[*cell as usize];
            }
            for cell in &mut row[PLACE + self.layout.places..] {
                *cell = new_codes[(*cell & !VERIFIED) as usize] | (*cell & VERIFIED);
            }
        }
        let mut holders = vec![0_u32; codes.len()];
        for row in cells.chunks_exact(width) {
            holders[row[PHONE] as usize] += 1;
        }
        for row in cells.chunks_exact_mut(width) {
            if holders[row[PHONE] as usize] > SHARED_BY {
                row[PHONE] = std::mem::take(&mut row[PHONE + 1]);
            }
        }
        let row = |i: u32| &cells[i as usize * width..(i as usize + 1) * width];
        let place = |i: u32| if self.layout.places > 0 { row(i)[PLACE] } else { 0 };
        let mut keyed: Vec<(u64, u32)> = (0..self.len() as u32)
            .map(|i| ((u64::from(place(i)) << 32) | u64::from(row(i)[FAMILY]), i))
            .collect();
        keyed.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0)
                .then_with(|| row(a.1).cmp(row(b.1)))
                .then_with(|| self.source(a.1).cmp(&self.source(b.1)))
                .then_with(|| self.id(a.1).cmp(self.id(b.1)))
        });
        let mut table = Table {
            layout: self.layout.clone(),
            pools: Pools { names, places, codes },
            cells: Vec::with_capacity(cells.len()),
            sources: Vec::with_capacity(self.len()),
            ids: String::with_capacity(self.ids.len()),
            id_ends: Vec::with_capacity(self.len()),
        };
        for (_, i) in keyed {
            table.cells.extend_from_slice(row(i));
            table.sources.push(self.source(i));
            table.ids.push_str(self.id(i));
            table.id_ends.push(table.ids.len() as u32);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> Vec<Person> {
        (0..50)
            .map(|i| {
                Person::new(format!("r{i}"))
                    .given(["Amina", "Juma", "Rose"][i % 3])
                    .family(["Otieno", "Saad"][i % 2])
                    .birth_date(&format!("19{:02}-03-02", 20 + i))
                    .place(0, ["Kuchi", "Sema"][i % 2])
            })
            .collect()
    }

    #[test]
    fn canonical_order_forgets_the_input_order() {
        let layout = Layout { places: 1, identifiers: vec![] };
        let people = people();
        let a = Table::of(&layout, &people).canonical();
        let b = Table::of(&layout, people.iter().rev()).canonical();
        assert_eq!(a.cells, b.cells);
        assert_eq!(a.fingerprints(), b.fingerprints());
        assert!((0..50).all(|i| a.id(i) == b.id(i)));
        assert_eq!(Table::of(&layout, &people).len(), 50);
    }
}
