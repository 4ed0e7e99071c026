//! When two values of a canonical field mean the same.

use crate::change::field;

/// Whether a target that holds `there` needs no write of `here`: equal, or the same date less precisely.
pub fn same(name: &str, here: &str, there: &str) -> bool {
    here == there || name == field::BIRTH_DATE && less_precise(here, there)
}

/// Whether a target that was given `here` and now holds `there` only brought it into its own form.
pub fn adopts(name: &str, here: &str, there: &str) -> bool {
    same(name, here, there)
        || match name {
            field::PHONE => {
                let (a, b) = (digits(here), digits(there));
                !a.is_empty() && (a.ends_with(&b) || b.ends_with(&a)) && a.len().min(b.len()) >= 7
            }
            _ => folded(here) == folded(there),
        }
}

/// `1994` and `1994-05-01` are the same birth date, known more or less precisely.
fn less_precise(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.len() >= 4 && long.starts_with(short) && long.as_bytes().get(short.len()).is_none_or(|c| *c == b'-')
}

fn folded(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The digits of a phone number without a trunk prefix.
fn digits(value: &str) -> String {
    let all: String = value.chars().filter(char::is_ascii_digit).collect();
    all.trim_start_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_date_is_the_same_at_another_precision_and_only_then() {
        assert!(same(field::BIRTH_DATE, "1994-05-01", "1994"));
        assert!(same(field::BIRTH_DATE, "1994-05", "1994-05-01"));
        assert!(!same(field::BIRTH_DATE, "1994-05-01", "1994-0"));
        assert!(!same(field::BIRTH_DATE, "1994", "1995"));
        assert!(!same(field::NAME, "Ann", "Anna"));
    }

    #[test]
    fn what_a_target_normalised_is_adopted_and_what_it_changed_is_not() {
        assert!(adopts(field::NAME, "Amina  Otieno", "AMINA OTIENO"));
        assert!(!adopts(field::NAME, "Amina Otieno", "Amina Atieno"));
        assert!(adopts(field::PHONE, "0712 345 678", "+254712345678"));
        assert!(!adopts(field::PHONE, "0712345678", "+254712345679"));
        assert!(!adopts(field::PHONE, "", "5678"));
    }
}
