//! String comparison: Jaro-Winkler by bit masks, and edit distance of at most one.
//!
//! Guarantees: symmetric, never panics, and equal to the textbook Jaro-Winkler (prefix bonus above 0.7 only,
//! as in strsim and rapidfuzz) on strings of up to 64 bytes; longer ones are compared by their first 64.

#![allow(clippy::indexing_slicing, reason = "indices are bounded by the lengths taken from the same slices")]

/// Jaro-Winkler similarity of two folded (ASCII) strings, between 0 and 1.
pub fn jaro_winkler(a: &str, b: &str) -> f64 {
    let (a, b) = (head(a.as_bytes()), head(b.as_bytes()));
    let (a, b) = if (a.len(), a) <= (b.len(), b) { (a, b) } else { (b, a) };
    let jaro = jaro(a, b);
    if jaro <= 0.7 {
        return jaro;
    }
    let prefix = a.iter().zip(b).take(4).take_while(|(x, y)| x == y).count();
    jaro + 0.1 * prefix as f64 * (1.0 - jaro)
}

/// The letters of a text, each counted up to two, and its length: enough to tell in a few instructions that two
/// texts cannot be alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape(u64);

/// Two bits for each letter, then the length, then some bits of the first letter; texts of several tokens and
/// texts that are too long are marked.
const LETTERS: u64 = (1 << 52) - 1;
const LENGTH: u32 = 52;
const FIRST: u64 = 7 << 59;
const SEVERAL: u64 = 1 << 62;
const LONG: u64 = 1 << 63;

impl Shape {
    /// The shape of a folded text.
    pub fn of(text: &str) -> Shape {
        if text.len() > 64 {
            return Shape(LONG);
        }
        let letters = text.bytes().filter(u8::is_ascii_lowercase).fold(0_u64, |letters, b| {
            let first = 1 << (u32::from(b - b'a') * 2);
            if letters & first == 0 { letters | first } else { letters | first << 1 }
        });
        let first = u64::from(text.bytes().next().unwrap_or_default()) << 59 & FIRST;
        let several = if text.contains(' ') { SEVERAL } else { 0 };
        Shape(letters | (text.len() as u64) << LENGTH | first | several)
    }

    /// The shape of a code: its digits, each counted up to five.
    pub fn of_code(code: &str) -> Shape {
        Shape(code.bytes().filter(u8::is_ascii_digit).fold(0, |digits, b| {
            let at = u32::from(b - b'0') * 5;
            digits | ((digits >> at & 0x1f) << 1 & 0x1f | 1) << at
        }))
    }

    /// False only if more than this many digits have to be put in or taken out to make one code of the other.
    pub fn may_be_within(self, other: Shape, digits: u32) -> bool {
        (self.0 ^ other.0).count_ones() <= digits
    }

    /// Most letters that the two can have in common, and their lengths.
    fn common(self, other: Shape) -> (u32, u32, u32) {
        let length = |s: Shape| (s.0 >> LENGTH) as u32 & 0x7f;
        let (a, b) = (length(self), length(other));
        let uncounted = |s: Shape, n: u32| n - (s.0 & LETTERS).count_ones();
        let common = (self.0 & other.0 & LETTERS).count_ones() + uncounted(self, a).min(uncounted(other, b));
        (common, a, b)
    }

    /// False only if the Jaro similarity of the two is below 0.7, neither begins with the other, and more than
    /// one edit lies between them.
    pub fn may_be_alike(self, other: Shape) -> bool {
        let (common, a, b) = self.common(other);
        (self.0 | other.0) & LONG != 0 || common >= a.min(b) || 10 * common * (a + b) >= 11 * a * b
    }

    /// The same for names, whose tokens may stand in another order.
    pub fn may_be_alike_names(self, other: Shape) -> bool {
        (self.0 | other.0) & SEVERAL != 0 || self.may_be_alike(other)
    }

    /// False only if both are single tokens and their Jaro-Winkler similarity is below 0.85.
    pub fn may_be_close(self, other: Shape) -> bool {
        let (common, a, b) = self.common(other);
        // Jaro-Winkler lifts Jaro 0.75 to 0.85 at most, and only if the first letters agree.
        let least = if (self.0 ^ other.0) & FIRST == 0 { 125 } else { 155 };
        (self.0 | other.0) & (LONG | SEVERAL) != 0 || 100 * common * (a + b) >= least * a * b
    }
}

fn head(s: &[u8]) -> &[u8] {
    &s[..s.len().min(64)]
}

fn jaro(a: &[u8], b: &[u8]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return if a.len() == b.len() { 1.0 } else { 0.0 };
    }
    let window = (b.len() / 2).saturating_sub(1);
    let (mut used_a, mut used_b) = (0_u64, 0_u64);
    let mut masks = [0_u64; 64];
    let mut wide = [0_u64; 64];
    for (j, &y) in b.iter().enumerate() {
        let slot = if y < 64 { &mut wide } else { &mut masks };
        slot[usize::from(y & 63)] |= 1 << j;
    }
    for (i, &x) in a.iter().enumerate() {
        let mask = if x < 64 { wide[usize::from(x)] } else { masks[usize::from(x & 63)] };
        let low = i.saturating_sub(window);
        let high = (i + window).min(63);
        let span = (u64::MAX >> (63 - high)) & (u64::MAX << low.min(63));
        let free = mask & span & !used_b;
        if free != 0 {
            used_b |= free & free.wrapping_neg();
            used_a |= 1 << i;
        }
    }
    let matches = used_a.count_ones();
    if matches == 0 {
        return 0.0;
    }
    let (mut ra, mut rb, mut half) = (used_a, used_b, 0_u32);
    while ra != 0 && rb != 0 {
        half += u32::from(a[ra.trailing_zeros() as usize] != b[rb.trailing_zeros() as usize]);
        ra &= ra - 1;
        rb &= rb - 1;
    }
    let m = f64::from(matches);
    (m / a.len() as f64 + m / b.len() as f64 + (m - f64::from(half / 2)) / m) / 3.0
}

/// Whether the two differ by at most one insertion, deletion, substitution, or swap of neighbours.
pub fn within_one_edit(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if b.len() - a.len() > 1 {
        return false;
    }
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    if front == a.len() {
        return true;
    }
    let (ra, rb) = (&a[front..], &b[front..]);
    if a.len() < b.len() {
        return ra == &rb[1..];
    }
    ra[1..] == rb[1..] || (ra.len() >= 2 && ra[0] == rb[1] && ra[1] == rb[0] && ra[2..] == rb[2..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_values() {
        assert!((jaro_winkler("dixon", "dicksonx") - 0.8133).abs() < 1e-3);
        assert!((jaro_winkler("martha", "marhta") - 0.9611).abs() < 1e-3);
        assert_eq!(jaro_winkler("", ""), 1.0);
        assert_eq!(jaro_winkler("a", ""), 0.0);
    }

    #[test]
    fn one_edit() {
        for (a, b, yes) in [
            ("12345", "12345", true),
            ("12345", "12354", true),
            ("12345", "1235", true),
            ("12345", "12945", true),
            ("12345", "54321", false),
            ("123", "12345", false),
            ("1234", "2143", false),
        ] {
            assert_eq!(within_one_edit(a, b), yes, "{a} {b}");
            assert_eq!(within_one_edit(b, a), yes, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_strsim(a in "[a-e0-2 ]{0,20}", b in "[a-e0-2 ]{0,20}") {
            let (x, y) = if (a.len(), &a) <= (b.len(), &b) { (&a, &b) } else { (&b, &a) };
            prop_assert!((jaro_winkler(&a, &b) - strsim::jaro_winkler(x, y)).abs() < 1e-9);
            prop_assert_eq!(jaro_winkler(&a, &b), jaro_winkler(&b, &a));
        }

        #[test]
        fn texts_of_unlike_shape_are_unlike(a in "[a-f1 ]{3,12}", b in "[a-f1 ]{3,12}") {
            let alike = Shape::of(&a).may_be_alike(Shape::of(&b));
            prop_assert_eq!(alike, Shape::of(&b).may_be_alike(Shape::of(&a)));
            let far = jaro_winkler(&a, &b) < 0.7 && !within_one_edit(&a, &b);
            prop_assert!(alike || (far && !a.starts_with(&b) && !b.starts_with(&a)));
            let close = Shape::of(&a).may_be_close(Shape::of(&b));
            prop_assert!(close || (jaro_winkler(&a, &b) < 0.85 && !a.contains(' ') && !b.contains(' ')));
        }

        #[test]
        fn codes_of_other_digits_are_far(a in "[0-3]{1,9}", b in "[0-3]{1,9}") {
            let (x, y) = (Shape::of_code(&a), Shape::of_code(&b));
            prop_assert!(x.may_be_within(y, 2) || !within_one_edit(&a, &b));
            let tail = |s: &str| s.len().checked_sub(7).map(|i| s[i..].to_owned());
            prop_assert!(x.may_be_within(y, 4) || tail(&a).is_none() || tail(&a) != tail(&b));
        }

        #[test]
        fn one_edit_agrees_with_osa(a in "[ab]{0,6}", b in "[ab]{0,6}") {
            prop_assert_eq!(within_one_edit(&a, &b), strsim::osa_distance(&a, &b) <= 1);
        }
    }
}
