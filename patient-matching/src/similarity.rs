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
        fn one_edit_agrees_with_osa(a in "[ab]{0,6}", b in "[ab]{0,6}") {
            prop_assert_eq!(within_one_edit(&a, &b), strsim::osa_distance(&a, &b) <= 1);
        }
    }
}
