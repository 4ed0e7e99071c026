//! A model made ready for scoring, and the most that a pair can reach before its strings are read.
//!
//! Guarantees: no pair's total lies above its ceiling.

#![allow(clippy::indexing_slicing, reason = "levels and fields are bounded by the tables in `levels`")]

use crate::birth::Birth;
use crate::compare::{Comparer, EDIT_DIGITS, PHONE_DIGITS};
use crate::levels::*;
use crate::model::{
    CLOSE_FIELDS, CLOSE_WORDS, CLOSENESS, CONTEXTS, Features, MAX_LEVELS, Model, RARE, context_index,
};
use crate::similarity::Shape;
use crate::table::{self, Layout};

/// A model made ready for scoring.
pub(crate) struct Weights {
    pub prior: f64,
    pub bits: [[f64; MAX_LEVELS]; MAX_FIELDS],
    pub rarity: [f64; 4],
    pub context: [f64; CONTEXTS],
    pub close: [[[f64; MAX_LEVELS]; CLOSENESS]; CLOSE_FIELDS.len()],
    pub fields: usize,
    /// Most bits of what cannot be told from the numbers of a row.
    most: Most,
}

impl Weights {
    pub fn new(model: &Model) -> Weights {
        let mut w = Weights {
            prior: model.prior_bits,
            bits: [[0.0; MAX_LEVELS]; MAX_FIELDS],
            rarity: [0.0; 4],
            context: [0.0; CONTEXTS],
            close: [[[0.0; MAX_LEVELS]; CLOSENESS]; CLOSE_FIELDS.len()],
            fields: model.field_count(),
            most: Most::default(),
        };
        for (bits, field) in w.bits.iter_mut().zip(&model.fields) {
            for (slot, level) in bits.iter_mut().zip(&field.levels) {
                *slot = level.bits;
            }
        }
        for (slot, (field, _)) in w.rarity.iter_mut().zip(RARE) {
            *slot = model.fields.get(field).map_or(0.0, |f| f.rarity);
        }
        for c in &model.household_bits {
            if let Some(i) = context_index(&c.combination) {
                w.context[i] = c.bits;
            }
        }
        for c in &model.closeness_bits {
            let field = CLOSE_FIELDS.iter().position(|f| kind(*f, 0).name == c.field);
            let closeness = CLOSE_WORDS.iter().position(|w| *w == c.closeness);
            if let (Some(f), Some(h)) = (field, closeness) {
                w.close[f][h].iter_mut().zip(&c.bits).for_each(|(slot, bits)| *slot = *bits);
            }
        }
        w.most = Most::of(&w, model.layout.places);
        w
    }

    /// The total of a pair.
    pub fn total(&self, f: &Features, layout: &Layout) -> f64 {
        let mut sum = self.prior;
        for (bits, &level) in self.bits.iter().zip(&f.levels.0).take(self.fields) {
            sum += bits[usize::from(level)];
        }
        for (w, r) in self.rarity.iter().zip(f.rarity) {
            sum += w * f64::from(r);
        }
        sum + self.household(f, layout)
    }

    /// What living close together changes.
    pub fn household(&self, f: &Features, layout: &Layout) -> f64 {
        let closeness = f.closeness(layout);
        let close: f64 = self
            .close
            .iter()
            .zip(CLOSE_FIELDS)
            .map(|(bits, field)| bits[closeness][usize::from(f.levels.0[field])])
            .sum();
        self.context[f.context(layout)] + close
    }

    /// The most bits that a pair can have, as far as is told by the numbers in its rows, the shapes of its texts
    /// and names that are remembered; phones, places and identifiers are not read.
    pub fn ceiling(&self, comparer: &mut Comparer<'_>, a: &[u32], b: &[u32]) -> f64 {
        let (texts, layout) = (comparer.texts, comparer.layout);
        let alike = |x: u32, y: u32, shapes: fn(Shape, Shape) -> bool| {
            let (fx, fy) = (texts.name_facts(x), texts.name_facts(y));
            x != 0 && y != 0 && (fx.key == fy.key || shapes(fx.shape, fy.shape))
        };
        let close = |x: u32, y: u32| alike(x, y, Shape::may_be_close);
        let names = |r: &[u32]| (r[table::GIVEN], r[table::MIDDLE], r[table::FAMILY]);
        let ((ga, ma, fa), (gb, mb, fb)) = (names(a), names(b));
        let (gf, gm, fm) =
            (close(ga, fb) || close(fa, gb), close(ga, mb) || close(ma, gb), close(fa, mb) || close(ma, fb));
        let given = comparer.name(ga, gb);
        let given_bits = self.name_bits(F_GIVEN, given, gf || gm);
        let family = comparer.name(fa, fb);
        let family_bits = self.name_bits(F_FAMILY, family, gf || fm);
        let mother = comparer.near_name(a[table::MOTHER], b[table::MOTHER]);
        let birth = comparer.birth(Birth::from_bits(a[table::BIRTH]), Birth::from_bits(b[table::BIRTH]));
        let middle = match Seen::of(ma, mb) {
            Seen::Alike if alike(ma, mb, Shape::may_be_alike_names) => Seen::Alike,
            Seen::Alike if gm || fm => Seen::Crossed,
            Seen::Alike => Seen::Unlike,
            Seen::Missing if (gm || fm) && ma != mb => Seen::Crossed,
            seen => seen,
        };
        let plain = |c: usize| match Seen::of(a[c], b[c]) {
            Seen::Alike => Seen::Unlike,
            seen => seen,
        };
        let (household, sex) = (plain(table::HOUSEHOLD), plain(table::SEX));
        let code = |x: u32, y: u32, digits: u32| match Seen::of(x, y) {
            Seen::Alike if !comparer.may_be_within(x, y, digits) => Seen::Unlike,
            seen => seen,
        };
        let phones = |r: &[u32]| [r[table::PHONE], r[table::PHONE + 1]];
        let (pa, pb) = (phones(a), phones(b));
        let phone = if pa[0] == 0 || pb[0] == 0 {
            Seen::Missing
        } else if pa.iter().any(|p| *p != 0 && pb.contains(p)) {
            Seen::Equal
        } else if pa[1] == 0 && pb[1] == 0 {
            code(pa[0], pb[0], PHONE_DIGITS)
        } else {
            Seen::Alike
        };
        let place = |i: usize| {
            let (x, y) = (a[table::PLACE + i], b[table::PLACE + i]);
            match Seen::of(x, y) {
                Seen::Alike => {
                    let (fx, fy) = (texts.place_facts(x), texts.place_facts(y));
                    if fx.key == fy.key || fx.shape.may_be_alike(fy.shape) {
                        Seen::Alike
                    } else {
                        Seen::Unlike
                    }
                }
                seen => seen,
            }
        };
        let first = if layout.places > 0 { place(0) } else { Seen::Missing };
        let own = |f: usize, level: Level| self.bits[f][usize::from(level)];
        let most = |f: usize, seen: Seen| self.most.fields[f][seen as usize];
        let mut sum =
            self.prior + SLACK + given_bits + family_bits + own(F_BIRTH, birth) + own(F_MOTHER, mother);
        sum +=
            most(F_MIDDLE, middle) + most(F_SEX, sex) + most(F_PHONE, phone) + most(F_HOUSEHOLD, household);
        let nothing = [
            given == NAME_ELSE && !gf && !gm,
            [Seen::Unlike, Seen::Missing].contains(&middle),
            family == NAME_ELSE && !gf && !fm,
            mother >= NEAR_ELSE,
        ];
        sum += self
            .most
            .rarity
            .iter()
            .zip(nothing)
            .filter(|(_, nothing)| !nothing)
            .map(|(most, _)| most)
            .sum::<f64>();
        for i in 0..layout.places {
            sum += most(FIXED + i, if i == 0 { first } else { place(i) });
        }
        for i in 0..layout.identifiers.len() {
            let c = layout.identifier(i);
            sum += most(
                FIXED + layout.places + i,
                code(a[c] & !table::VERIFIED, b[c] & !table::VERIFIED, EDIT_DIGITS),
            );
        }
        let near = phone == Seen::Equal || household == Seen::Equal || mother <= NEAR_NEAR;
        let family = match family {
            EXACT..=NICK => Seen::Equal,
            NAME_BOTH => Seen::Missing,
            NAME_ONE if gf || fm => Seen::Crossed,
            NAME_ONE => Seen::Missing,
            _ => Seen::Unlike,
        };
        let mother = match mother {
            NEAR_SAME | NEAR_NEAR => Seen::Equal,
            NEAR_ELSE => Seen::Unlike,
            _ => Seen::Missing,
        };
        let context = [family, phone, first, mother].iter().fold(0, |at, seen| at * SEEN + *seen as usize);
        sum + self.most.context[context] + self.most.close[usize::from(near)][usize::from(birth)]
    }

    /// The most bits of a name whose own slots compare like this.
    fn name_bits(&self, field: usize, level: Level, crossed: bool) -> f64 {
        let own = self.bits[field][usize::from(level)];
        if crossed && (INITIAL..NAME_BOTH).contains(&level) { own.max(self.most.crossed[field]) } else { own }
    }
}

/// Sums in another order differ by less.
const SLACK: f64 = 1e-6;

/// What can be told of two values before their letters are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The same value.
    Equal,
    /// Two values, which may be alike.
    Alike,
    /// Two values that are not alike.
    Unlike,
    /// Names that are not alike (or one is missing), but may be like another name of the other.
    Crossed,
    /// Missing on one side or both.
    Missing,
}

const SEEN: usize = 5;

impl Seen {
    fn of(a: u32, b: u32) -> Seen {
        if a == 0 || b == 0 {
            Seen::Missing
        } else if a == b {
            Seen::Equal
        } else {
            Seen::Alike
        }
    }
}

/// The most bits of all that [`Seen`] leaves open.
#[derive(Default)]
struct Most {
    fields: Vec<[f64; SEEN]>,
    /// Of a given or family name that is another name of the other.
    crossed: [f64; F_FAMILY + 1],
    rarity: [f64; 4],
    /// By what is seen of family name, phone, place and mother.
    context: Vec<f64>,
    /// By whether the two are known to live in one household, and by level of the birth date.
    close: [[f64; MAX_LEVELS]; 2],
}

impl Most {
    fn of(w: &Weights, places: usize) -> Most {
        let most = |bits: &[f64]| bits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let fields = (0..w.fields)
            .map(|f| {
                let n = kind(f, places).levels.len();
                let bits = &w.bits[f][..n];
                let crossed =
                    if f == F_MIDDLE { most(&bits[usize::from(MIDDLE_CROSS)..n - 1]) } else { bits[n - 3] };
                [bits[0], most(&bits[1..n - 2]), bits[n - 3], crossed, most(&bits[n - 2..])]
            })
            .collect();
        let states: [&[usize]; SEEN] = [&[0], &[0, 1], &[1], &[1, 2], &[2]];
        let context = (0..SEEN.pow(4))
            .map(|seen| {
                let [f, p, q, m] = [seen / 125, seen / 25 % 5, seen / 5 % 5, seen % 5].map(|s| states[s]);
                let mut top = f64::NEG_INFINITY;
                for c in f.iter().flat_map(|f| p.iter().map(move |p| f * 3 + p)) {
                    for d in q.iter().flat_map(|q| m.iter().map(move |m| q * 3 + m)) {
                        top = top.max(w.context[c * 9 + d]);
                    }
                }
                top
            })
            .collect();
        let mut close = [[f64::NEG_INFINITY; MAX_LEVELS]; 2];
        for (h, birth) in (0..CLOSENESS).flat_map(|h| (0..MAX_LEVELS).map(move |b| (h, b))) {
            let bits = most(&w.close[0][h]) + most(&w.close[1][h]) + w.close[2][h][birth];
            close[0][birth] = close[0][birth].max(bits);
            if h == 0 {
                close[1][birth] = bits;
            }
        }
        let mut crossed = [0.0; F_FAMILY + 1];
        for f in [F_GIVEN, F_FAMILY] {
            crossed[f] = most(&w.bits[f][usize::from(SWAPPED)..=usize::from(CROSS_MIDDLE)]);
        }
        Most { fields, crossed, rarity: w.rarity.map(|r| 5.0 * r.abs()), context, close }
    }
}

#[cfg(test)]
mod tests {
    use crate::score::Scorer;
    use crate::{Options, Purpose, Schema, Table, learn, synth};

    #[test]
    fn no_total_is_above_its_ceiling_whatever_the_weights() {
        let schema = Schema::from_toml(include_str!("../schemas/cht-synth.toml")).unwrap();
        let mut csv = Vec::new();
        let recipe = synth::Recipe { records: 300, seed: 12, duplicates: 0.5 };
        synth::register(&recipe, &mut csv, &mut Vec::new()).unwrap();
        let mut table = Table::new(schema.layout());
        schema.read_into(csv.as_slice(), &mut table, 0).unwrap();
        let table = table.canonical();
        let mut model = learn(&table, Purpose::Dedupe, &Options::default());
        let mut dice = 1_u64;
        for _ in 0..5 {
            let mut bits = || {
                dice = crate::pool::mix(dice + 1);
                (dice % 2_001) as f64 / 100.0 - 10.0
            };
            for field in &mut model.fields {
                field.levels.iter_mut().for_each(|l| l.bits = bits());
                field.rarity = bits() / 5.0;
            }
            model.household_bits.iter_mut().for_each(|c| c.bits = bits());
            model.closeness_bits.iter_mut().for_each(|c| c.bits.iter_mut().for_each(|b| *b = bits()));
            let scorer = Scorer::new(&model, &table);
            let mut featurer = scorer.featurer();
            for (a, b) in (0..300).flat_map(|a| (a + 1..300).map(move |b| (a, b))) {
                let total = scorer.bits(&mut featurer, a, b);
                let most = scorer.weights.ceiling(&mut featurer.comparer, table.row(a), table.row(b));
                assert!(total <= most, "{total} {most}");
            }
        }
    }
}
