//! Comparing two rows field by field.
//!
//! Guarantees: symmetric; reads rows and strings only; missing never counts as agreement. Similarities of name
//! pairs are remembered, because the same few thousand pairs come again and again.

#![allow(
    clippy::indexing_slicing,
    reason = "rows have the width of their layout, levels the length of their table"
)]

use crate::birth::{Birth, Heaped};
use crate::levels::*;
use crate::pool::mix;
use crate::similarity::{jaro_winkler, within_one_edit};
use crate::table::{self, Layout, Texts};

/// The levels of one pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Levels(pub [Level; MAX_FIELDS]);

/// Compares rows of one table (and of a query against it).
pub(crate) struct Comparer<'a> {
    pub texts: Texts<'a>,
    pub layout: &'a Layout,
    heaped: &'a Heaped,
    reference_year: u32,
    /// Two numbers of names and their level in one word.
    memo: Vec<u64>,
}

const MEMO: usize = 1 << 16;
/// Numbers of names above this are not remembered, they would not fit.
const REMEMBERED: u32 = 1 << 28;

impl<'a> Comparer<'a> {
    /// `reference_year` is the year in which ages are counted.
    pub fn new(
        texts: Texts<'a>,
        layout: &'a Layout,
        heaped: &'a Heaped,
        reference_year: u32,
    ) -> Comparer<'a> {
        Comparer { texts, layout, heaped, reference_year, memo: vec![0; MEMO] }
    }

    /// Without the memory of earlier comparisons, for one query.
    pub fn brief(
        texts: Texts<'a>,
        layout: &'a Layout,
        heaped: &'a Heaped,
        reference_year: u32,
    ) -> Comparer<'a> {
        Comparer { texts, layout, heaped, reference_year, memo: vec![0; 1 << 10] }
    }

    /// All levels of a pair.
    pub fn levels(&mut self, a: &[u32], b: &[u32]) -> Levels {
        let mut out = [0; MAX_FIELDS];
        out[F_GIVEN] = self.name(a[table::GIVEN], b[table::GIVEN]);
        out[F_FAMILY] = self.name(a[table::FAMILY], b[table::FAMILY]);
        self.cross(a, b, &mut out);
        out[F_MIDDLE] = self.middle(a, b);
        out[F_SEX] =
            missing(a[table::SEX], b[table::SEX], 2).unwrap_or(Level::from(a[table::SEX] != b[table::SEX]));
        out[F_BIRTH] = self.birth(Birth::from_bits(a[table::BIRTH]), Birth::from_bits(b[table::BIRTH]));
        out[F_PHONE] = self.phone(a, b);
        out[F_MOTHER] = self.near_name(a[table::MOTHER], b[table::MOTHER]);
        let (ha, hb) = (a[table::HOUSEHOLD], b[table::HOUSEHOLD]);
        out[F_HOUSEHOLD] = missing(ha, hb, NEAR_ONE).unwrap_or(if ha == hb { NEAR_SAME } else { NEAR_ELSE });
        let places = self.layout.places;
        for i in 0..places {
            out[FIXED + i] = self.place(a[table::PLACE + i], b[table::PLACE + i]);
        }
        for i in 0..self.layout.identifiers.len() {
            let c = self.layout.identifier(i);
            out[FIXED + places + i] = self.identifier(a[c], b[c]);
        }
        Levels(out)
    }

    /// Level of two names of the same slot.
    pub fn name(&mut self, a: u32, b: u32) -> Level {
        if a == 0 || b == 0 {
            return if a == b { NAME_BOTH } else { NAME_ONE };
        }
        if a == b {
            return EXACT;
        }
        let (fa, fb) = (self.texts.name_facts(a), self.texts.name_facts(b));
        if fa.key == fb.key {
            return KEY;
        }
        if !fa.shape.may_be_alike_names(fb.shape) {
            return NAME_ELSE;
        }
        if a.max(b) >= REMEMBERED {
            return name_level(self.texts.name(a), self.texts.name(b));
        }
        let pair = (u64::from(a.min(b)) << 28) | u64::from(a.max(b));
        let slot = mix(pair) as usize & (self.memo.len() - 1);
        if self.memo[slot] >> 8 == pair {
            return (self.memo[slot] & 0xff) as Level;
        }
        let level = name_level(self.texts.name(a), self.texts.name(b));
        self.memo[slot] = (pair << 8) | u64::from(level);
        level
    }

    /// Names that stand in another slot of the other record.
    fn cross(&mut self, a: &[u32], b: &[u32], out: &mut [Level; MAX_FIELDS]) {
        let weak = |l: Level| (INITIAL..NAME_BOTH).contains(&l);
        let (ga, ma, fa) = (a[table::GIVEN], a[table::MIDDLE], a[table::FAMILY]);
        let (gb, mb, fb) = (b[table::GIVEN], b[table::MIDDLE], b[table::FAMILY]);
        let (weak_given, weak_family) = (weak(out[F_GIVEN]), weak(out[F_FAMILY]));
        let (gf, fg) = (weak_given && self.close(ga, fb), weak_given && self.close(fa, gb));
        let (gm, mg) = (weak_given && self.close(ga, mb), weak_given && self.close(ma, gb));
        if weak_given && out[F_GIVEN] != INITIAL {
            if weak_family && (gf || fg) {
                out[F_GIVEN] = if gf && fg { SWAPPED } else { CROSS_FAMILY };
            } else if gm || mg {
                out[F_GIVEN] = if gm && mg { SWAPPED } else { CROSS_MIDDLE };
            }
        }
        if weak_family {
            if gf || fg {
                out[F_FAMILY] = if gf && fg { SWAPPED } else { CROSS_FAMILY };
            } else if self.close(fa, mb) || self.close(ma, fb) {
                out[F_FAMILY] = CROSS_MIDDLE;
            }
        }
    }

    fn close(&mut self, a: u32, b: u32) -> bool {
        if a == 0 || b == 0 || a == b {
            return a != 0 && a == b;
        }
        let (fa, fb) = (self.texts.name_facts(a), self.texts.name_facts(b));
        fa.key == fb.key || (fa.shape.may_be_close(fb.shape) && self.name(a, b) <= NEAR85)
    }

    fn middle(&mut self, a: &[u32], b: &[u32]) -> Level {
        let (ma, mb) = (a[table::MIDDLE], b[table::MIDDLE]);
        if ma == 0 && mb == 0 {
            return MIDDLE_ELSE + 2;
        }
        let same_slot = if ma == 0 || mb == 0 { NAME_ONE } else { self.name(ma, mb) };
        match same_slot {
            EXACT => return MIDDLE_EXACT,
            KEY..=NICK => return MIDDLE_NEAR,
            INITIAL => return MIDDLE_INITIAL,
            _ => {}
        }
        let crossed = |m: u32, other: &[u32], own: &[u32], me: &mut Self| {
            m != 0
                && ((me.close(m, other[table::GIVEN]) && !me.close(own[table::GIVEN], other[table::GIVEN]))
                    || (me.close(m, other[table::FAMILY])
                        && !me.close(own[table::FAMILY], other[table::FAMILY])))
        };
        if crossed(ma, b, a, self) || crossed(mb, a, b, self) {
            MIDDLE_CROSS
        } else if same_slot == NAME_ONE {
            MIDDLE_ELSE + 1
        } else {
            MIDDLE_ELSE
        }
    }

    /// Level of two birth dates.
    pub fn birth(&self, a: Birth, b: Birth) -> Level {
        if let Some(level) = missing(a.bits(), b.bits(), BIRTH_ONE) {
            return level;
        }
        let soft = self.heaped.is_soft(a) || self.heaped.is_soft(b);
        if a.digits() == b.digits() {
            return if soft { BIRTH_SOFT } else { BIRTH_EXACT };
        }
        let (ya, yb) = (a.year(), b.year());
        let apart = ya.abs_diff(yb);
        if !soft {
            if apart == 0 && a.month() == b.day() && a.day() == b.month() {
                return BIRTH_SWAPPED;
            }
            if (a.month(), a.day()) == (b.month(), b.day()) && apart <= 2 {
                return BIRTH_SHIFT;
            }
            if one_digit(a, b) {
                return BIRTH_TYPO;
            }
        }
        let adult = self.reference_year.saturating_sub(ya.max(yb)) >= 18;
        if soft && apart > 5 && (a.month(), a.day()) == (b.month(), b.day()) && one_digit(a, b) {
            return BIRTH_TYPO_SOFT;
        }
        match (apart, soft) {
            (0, true) => BIRTH_YEAR_SOFT,
            (0, false) => BIRTH_YEAR,
            (1, true) => BIRTH_1_SOFT,
            (1, false) => BIRTH_1,
            (2, true) => BIRTH_2_SOFT,
            (3..=5, true) if adult => BIRTH_5_ADULT,
            (2..=5, _) => BIRTH_5,
            (6..=10, true) if adult => BIRTH_10_ADULT,
            (6..=10, _) => BIRTH_10,
            _ => BIRTH_FAR,
        }
    }

    fn phone(&self, a: &[u32], b: &[u32]) -> Level {
        let (pa, pb) = ([a[table::PHONE], a[table::PHONE + 1]], [b[table::PHONE], b[table::PHONE + 1]]);
        if let Some(level) = missing(pa[0], pb[0], PHONE_ONE) {
            return level;
        }
        let mut best = PHONE_ELSE;
        for x in pa {
            for y in pb {
                if x == 0 || y == 0 {
                    continue;
                }
                best = best.min(if x == y {
                    PHONE_SAME
                } else if self.may_be_within(x, y, PHONE_DIGITS) {
                    phone_level(self.texts.code(x), self.texts.code(y))
                } else {
                    PHONE_ELSE
                });
            }
        }
        best
    }

    /// Whether two codes may be made equal by putting in or taking out this many digits.
    pub fn may_be_within(&self, a: u32, b: u32, digits: u32) -> bool {
        self.texts.code_facts(a).shape.may_be_within(self.texts.code_facts(b).shape, digits)
    }

    /// Level of two names of mothers or caretakers.
    pub fn near_name(&mut self, a: u32, b: u32) -> Level {
        missing(a, b, NEAR_ONE).unwrap_or_else(|| match self.name(a, b) {
            EXACT => NEAR_SAME,
            KEY..=NICK => NEAR_NEAR,
            _ => NEAR_ELSE,
        })
    }

    fn place(&self, a: u32, b: u32) -> Level {
        missing(a, b, NEAR_ONE).unwrap_or_else(|| {
            if a == b {
                return NEAR_SAME;
            }
            let (fa, fb) = (self.texts.place_facts(a), self.texts.place_facts(b));
            if fa.key != fb.key && !fa.shape.may_be_alike(fb.shape) {
                return NEAR_ELSE;
            }
            let (ta, tb) = (self.texts.place(a), self.texts.place(b));
            let near = fa.key == fb.key
                || (ta.len() > 2 && tb.len() > 2 && (jaro_winkler(ta, tb) >= 0.9 || within_one_edit(ta, tb)));
            if near { NEAR_NEAR } else { NEAR_ELSE }
        })
    }

    fn identifier(&self, a: u32, b: u32) -> Level {
        let (a, b) = (a & !table::VERIFIED, b & !table::VERIFIED);
        missing(a, b, NEAR_ONE).unwrap_or_else(|| {
            if a == b {
                NEAR_SAME
            } else if self.may_be_within(a, b, EDIT_DIGITS)
                && within_one_edit(self.texts.code(a), self.texts.code(b))
            {
                NEAR_NEAR
            } else {
                NEAR_ELSE
            }
        })
    }
}

/// Digits that one edit puts in or takes out, at most.
pub(crate) const EDIT_DIGITS: u32 = 2;
/// Digits by which two phones of nine digits may differ that end in the same seven.
pub(crate) const PHONE_DIGITS: u32 = 4;

/// The missing level, if one side is missing; `one` is the level "missing on one side".
fn missing(a: u32, b: u32, one: Level) -> Option<Level> {
    match (a == 0, b == 0) {
        (false, false) => None,
        (true, true) => Some(one + 1),
        _ => Some(one),
    }
}

/// Level of two different names with different re-spelling keys.
fn name_level(a: &str, b: &str) -> Level {
    let (short, long) = if (a.len(), a) <= (b.len(), b) { (a, b) } else { (b, a) };
    if short.len() == 1 {
        return if long.starts_with(short) { INITIAL } else { NAME_ELSE };
    }
    let similarity = jaro_winkler(short, long);
    if similarity >= 0.92 {
        return NEAR92;
    }
    if short.contains(' ') || long.contains(' ') {
        let level = token_level(short, long);
        if level < NAME_ELSE {
            return level;
        }
    }
    if similarity >= 0.85 {
        NEAR85
    } else if short.len() >= 3 && long.starts_with(short) {
        NICK
    } else if similarity >= 0.7 {
        LIKE70
    } else {
        NAME_ELSE
    }
}

/// Names of several tokens are bags: the order is free, and the shorter one may lack tokens.
fn token_level(a: &str, b: &str) -> Level {
    let mut left: Vec<&str> = a.split(' ').take(4).collect();
    let mut right: Vec<&str> = b.split(' ').take(4).collect();
    if left.len() > right.len() {
        std::mem::swap(&mut left, &mut right);
    }
    let whole = left.len() == right.len();
    let mut worst: f64 = 1.0;
    for token in &left {
        let best = right
            .iter()
            .enumerate()
            .map(|(i, r)| (jaro_winkler(token, r), i))
            .max_by(|x, y| x.0.total_cmp(&y.0).then(y.1.cmp(&x.1)));
        let Some((similarity, i)) = best else { return NAME_ELSE };
        worst = worst.min(similarity);
        right.swap_remove(i);
    }
    match (worst, whole) {
        (w, true) if w >= 0.92 => NEAR92,
        (w, true) if w >= 0.85 => NEAR85,
        (w, false) if w >= 0.92 => NICK,
        (w, _) if w >= 0.85 => LIKE70,
        _ => NAME_ELSE,
    }
}

fn phone_level(a: &str, b: &str) -> Level {
    fn tail(s: &str) -> Option<&str> {
        s.len().checked_sub(7).and_then(|i| s.get(i..))
    }
    match (tail(a), tail(b)) {
        (Some(x), Some(y)) if x == y => PHONE_LAST7,
        _ if within_one_edit(a, b) => PHONE_EDIT,
        _ => PHONE_ELSE,
    }
}

/// Whether the two dates, written as eight digits, differ in one digit or in two neighbouring ones swapped.
fn one_digit(a: Birth, b: Birth) -> bool {
    let digits = |d: Birth| {
        let n = d.year() * 10_000 + d.month() * 100 + d.day();
        let mut out = [0_u8; 8];
        let mut rest = n;
        for slot in out.iter_mut().rev() {
            *slot = (rest % 10) as u8;
            rest /= 10;
        }
        out
    };
    let (x, y) = (digits(a), digits(b));
    let mut differing = [0; 8];
    let mut count = 0;
    for i in 0..8 {
        if x[i] != y[i] {
            differing[count] = i;
            count += 1;
        }
    }
    let [p, q, ..] = differing;
    count == 1 || (count == 2 && q == p + 1 && x[p] == y[q] && x[q] == y[p])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Person, Table};

    fn pair(a: Person, b: Person) -> Levels {
        let layout = Layout { places: 1, identifiers: vec!["nid".into()] };
        let table = Table::of(&layout, [&a, &b]);
        let heaped = Heaped::learn(std::iter::empty());
        let mut c = Comparer::new(table.texts(), &layout, &heaped, 2026);
        let out = c.levels(table.row(0), table.row(1));
        assert_eq!(out, c.levels(table.row(1), table.row(0)), "symmetry");
        out
    }

    fn person(given: &str, middle: &str, family: &str) -> Person {
        Person::new("x").given(given).middle(middle).family(family)
    }

    #[test]
    fn names_in_other_slots_are_found() {
        let l = pair(person("Rose", "", "Kimani"), person("Kimani", "", "Rose"));
        assert_eq!((l.0[F_GIVEN], l.0[F_FAMILY]), (SWAPPED, SWAPPED));
        let l = pair(person("Rose", "Hana", "Abed"), person("Hana", "", "Abed"));
        assert_eq!((l.0[F_GIVEN], l.0[F_FAMILY]), (CROSS_MIDDLE, EXACT));
        let l = pair(person("Rose", "Hana", "Abed"), person("Rose", "", "Abed"));
        assert_eq!(l.0[F_MIDDLE], MIDDLE_ELSE + 1);
        let l = pair(person("J", "", "Jarso"), person("John", "", "Jarso"));
        assert_eq!(l.0[F_GIVEN], INITIAL);
        let l = pair(person("Jon", "", "Jarso"), person("Jonathan", "", "Jarso"));
        assert!(l.0[F_GIVEN] <= NICK);
    }

    #[test]
    fn births() {
        for (a, b, level) in [
            ("1982-01-27", "1982-01-27", BIRTH_EXACT),
            ("1982-01-01", "1982-01-01", BIRTH_SOFT),
            ("1982-03-07", "1982-07-03", BIRTH_SWAPPED),
            ("1982-03-27", "1952-03-27", BIRTH_TYPO),
            ("1982-03-27", "1983-03-27", BIRTH_SHIFT),
            ("1982-03-27", "1982-06-30", BIRTH_YEAR_SOFT),
            ("1982-03-27", "1982-08-11", BIRTH_YEAR),
            ("1982-03-27", "1983-08-11", BIRTH_1),
            ("1982-03-27", "1983-01-01", BIRTH_1_SOFT),
            ("1962-03-27", "1970-01-01", BIRTH_10_ADULT),
            ("1964-01-01", "2004-01-01", BIRTH_FAR),
            ("1964-01-01", "1984-01-01", BIRTH_TYPO_SOFT),
            ("1962-03-27", "1990-01-01", BIRTH_FAR),
            ("", "1990-01-01", BIRTH_ONE),
            ("", "", BIRTH_ONE + 1),
        ] {
            let l = pair(Person::new("a").birth_date(a), Person::new("b").birth_date(b));
            assert_eq!(l.0[F_BIRTH], level, "{a} {b}");
        }
    }

    #[test]
    fn phones_and_identifiers() {
        for (a, b, level) in [
            ("0712345678", "+254712345678", PHONE_SAME),
            ("0712345678", "0712345687", PHONE_EDIT),
            ("0712345678", "0799999999", PHONE_ELSE),
            ("0712345678", "", PHONE_ONE),
        ] {
            let l = pair(Person::new("a").phone(a), Person::new("b").phone(b));
            assert_eq!(l.0[F_PHONE], level, "{a} {b}");
        }
        let l = pair(
            Person::new("a").identifier(0, "12345678", true),
            Person::new("b").identifier(0, "1234-5678", false),
        );
        assert_eq!(l.0[FIXED + 1], NEAR_SAME);
    }

    #[test]
    fn long_names_and_short_names_do_no_harm() {
        let long = "abc ".repeat(50);
        pair(person(&long, &long, &long), person("a", "b", "c"));
        pair(person("", "", ""), person("", "", ""));
    }
}
