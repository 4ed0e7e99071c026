//! The comparison levels of every field, with the names people read and the shares common sense expects.
//!
//! Guarantees: the tables are complete (one name and one share per level) and the shares of a field sum to one.

/// A level within a field. The last two of every field mean "missing on one side" and "missing on both".
pub(crate) type Level = u8;

/// One field as it is compared.
pub(crate) struct FieldKind {
    /// Name in the model file and in explanations.
    pub name: &'static str,
    /// Level names, strongest agreement first.
    pub levels: &'static [&'static str],
    /// Share of each level expected among true pairs before any data is seen.
    pub expected: &'static [f64],
    /// Most that a level may hold of the true pairs, whatever training believes (1 = no bound).
    pub bound: &'static [f64],
}

pub(crate) const EXACT: Level = 0;
pub(crate) const KEY: Level = 1;
pub(crate) const NEAR92: Level = 2;
pub(crate) const NEAR85: Level = 3;
pub(crate) const NICK: Level = 4;
pub(crate) const SWAPPED: Level = 5;
pub(crate) const CROSS_FAMILY: Level = 6;
pub(crate) const CROSS_MIDDLE: Level = 7;
pub(crate) const INITIAL: Level = 8;
pub(crate) const LIKE70: Level = 9;
pub(crate) const NAME_ELSE: Level = 10;
pub(crate) const NAME_ONE: Level = 11;
pub(crate) const NAME_BOTH: Level = 12;

const NAME_LEVELS: &[&str] = &[
    "same",
    "same but for spelling",
    "almost the same (0.92)",
    "similar (0.85)",
    "short form",
    "the two names are swapped",
    "is another name of the other",
    "is the other's middle name",
    "initial agrees",
    "somewhat similar (0.70)",
    "different",
    "missing on one side",
    "missing on both sides",
];

pub(crate) const GIVEN: FieldKind = FieldKind {
    name: "given name",
    levels: NAME_LEVELS,
    expected: &[0.70, 0.05, 0.04, 0.03, 0.02, 0.03, 0.01, 0.01, 0.03, 0.02, 0.02, 0.03, 0.01],
    bound: &[1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.05, 0.05, 0.1, 0.05, 0.05, 1.0, 1.0],
};

pub(crate) const FAMILY: FieldKind = FieldKind {
    name: "family name",
    levels: NAME_LEVELS,
    expected: &[0.70, 0.05, 0.04, 0.03, 0.01, 0.03, 0.01, 0.01, 0.01, 0.01, 0.04, 0.05, 0.01],
    bound: &[1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.05, 0.05, 0.1, 0.1, 0.15, 1.0, 1.0],
};

pub(crate) const MIDDLE_EXACT: Level = 0;
pub(crate) const MIDDLE_NEAR: Level = 1;
pub(crate) const MIDDLE_INITIAL: Level = 2;
pub(crate) const MIDDLE_CROSS: Level = 3;
pub(crate) const MIDDLE_ELSE: Level = 4;

pub(crate) const MIDDLE: FieldKind = FieldKind {
    name: "middle name",
    levels: &[
        "same",
        "similar",
        "initial agrees",
        "is another name of the other",
        "different",
        "missing on one side",
        "missing on both sides",
    ],
    expected: &[0.28, 0.05, 0.03, 0.03, 0.03, 0.18, 0.40],
    bound: &[1.0, 1.0, 1.0, 1.0, 0.1, 1.0, 1.0],
};

pub(crate) const SEX: FieldKind = FieldKind {
    name: "sex",
    levels: &["same", "different", "missing on one side", "missing on both sides"],
    expected: &[0.96, 0.01, 0.02, 0.01],
    bound: &[1.0, 0.02, 1.0, 1.0],
};

pub(crate) const BIRTH_EXACT: Level = 0;
pub(crate) const BIRTH_SOFT: Level = 1;
pub(crate) const BIRTH_SWAPPED: Level = 2;
pub(crate) const BIRTH_TYPO: Level = 3;
pub(crate) const BIRTH_SHIFT: Level = 4;
pub(crate) const BIRTH_YEAR_SOFT: Level = 5;
pub(crate) const BIRTH_YEAR: Level = 6;
pub(crate) const BIRTH_1_SOFT: Level = 7;
pub(crate) const BIRTH_1: Level = 8;
pub(crate) const BIRTH_2_SOFT: Level = 9;
pub(crate) const BIRTH_5_ADULT: Level = 10;
pub(crate) const BIRTH_5: Level = 11;
pub(crate) const BIRTH_10_ADULT: Level = 12;
pub(crate) const BIRTH_10: Level = 13;
pub(crate) const BIRTH_TYPO_SOFT: Level = 14;
pub(crate) const BIRTH_FAR: Level = 15;
pub(crate) const BIRTH_ONE: Level = 16;

pub(crate) const BIRTH: FieldKind = FieldKind {
    name: "birth date",
    levels: &[
        "same day",
        "same estimated day",
        "day and month swapped",
        "one digit differs",
        "same day of another near year",
        "same year, one estimated",
        "same year, other day",
        "one year apart, one estimated",
        "one year apart",
        "two years apart, one estimated",
        "3 to 5 years apart, adult and estimated",
        "2 to 5 years apart",
        "6 to 10 years apart, adult and estimated",
        "6 to 10 years apart",
        "one digit of the year differs, estimated",
        "more than 10 years apart",
        "missing on one side",
        "missing on both sides",
    ],
    expected: &[
        0.45, 0.20, 0.02, 0.03, 0.02, 0.06, 0.01, 0.05, 0.005, 0.025, 0.02, 0.005, 0.004, 0.001, 0.005,
        0.005, 0.07, 0.02,
    ],
    bound: &[
        1.0, 1.0, 0.1, 0.1, 0.1, 1.0, 0.05, 1.0, 0.03, 0.1, 0.05, 0.02, 0.01, 0.004, 0.02, 0.012, 1.0, 1.0,
    ],
};

pub(crate) const PHONE_SAME: Level = 0;
pub(crate) const PHONE_LAST7: Level = 1;
pub(crate) const PHONE_EDIT: Level = 2;
pub(crate) const PHONE_ELSE: Level = 3;
pub(crate) const PHONE_ONE: Level = 4;

pub(crate) const PHONE: FieldKind = FieldKind {
    name: "phone",
    levels: &[
        "same",
        "last seven digits same",
        "one digit differs",
        "different",
        "missing on one side",
        "missing on both sides",
    ],
    expected: &[0.45, 0.005, 0.02, 0.175, 0.20, 0.15],
    bound: &[1.0; 6],
};

pub(crate) const NEAR_SAME: Level = 0;
pub(crate) const NEAR_NEAR: Level = 1;
pub(crate) const NEAR_ELSE: Level = 2;
pub(crate) const NEAR_ONE: Level = 3;
const NEAR_LEVELS: &[&str] =
    &["same", "similar", "different", "missing on one side", "missing on both sides"];

pub(crate) const MOTHER: FieldKind = FieldKind {
    name: "mother or caretaker",
    levels: NEAR_LEVELS,
    expected: &[0.35, 0.06, 0.04, 0.20, 0.35],
    bound: &[1.0, 1.0, 0.08, 1.0, 1.0],
};

pub(crate) const HOUSEHOLD: FieldKind = FieldKind {
    name: "household",
    levels: NEAR_LEVELS,
    expected: &[0.6, 0.02, 0.1, 0.14, 0.14],
    bound: &[1.0; 5],
};

pub(crate) const PLACE: FieldKind = FieldKind {
    name: "place",
    levels: NEAR_LEVELS,
    expected: &[0.73, 0.12, 0.08, 0.05, 0.02],
    bound: &[1.0; 5],
};

pub(crate) const IDENTIFIER: FieldKind = FieldKind {
    name: "identifier",
    levels: NEAR_LEVELS,
    expected: &[0.30, 0.02, 0.01, 0.27, 0.40],
    bound: &[1.0, 1.0, 0.03, 1.0, 1.0],
};

/// Compared fields before the places.
pub(crate) const FIXED: usize = 8;
/// Positions of the fixed fields in a vector of levels.
pub(crate) const F_GIVEN: usize = 0;
pub(crate) const F_MIDDLE: usize = 1;
pub(crate) const F_FAMILY: usize = 2;
pub(crate) const F_SEX: usize = 3;
pub(crate) const F_BIRTH: usize = 4;
pub(crate) const F_PHONE: usize = 5;
pub(crate) const F_MOTHER: usize = 6;
pub(crate) const F_HOUSEHOLD: usize = 7;
/// Most compared fields: eight fixed, seven places, four identifiers, and one to spare.
pub(crate) const MAX_FIELDS: usize = 20;

/// What is compared at position `field` of a vector of levels.
pub(crate) fn kind(field: usize, places: usize) -> &'static FieldKind {
    const KINDS: [&FieldKind; FIXED] = [&GIVEN, &MIDDLE, &FAMILY, &SEX, &BIRTH, &PHONE, &MOTHER, &HOUSEHOLD];
    match KINDS.get(field) {
        Some(kind) => kind,
        None if field < FIXED + places => &PLACE,
        None => &IDENTIFIER,
    }
}

/// Whether the level says that something is missing.
pub(crate) fn is_missing(kind: &FieldKind, level: Level) -> bool {
    usize::from(level) + 2 >= kind.levels.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_complete() {
        for field in 0..FIXED + 3 {
            let k = kind(field, 2);
            assert_eq!(k.levels.len(), k.expected.len(), "{}", k.name);
            assert_eq!(k.levels.len(), k.bound.len(), "{}", k.name);
            assert!(
                (k.expected.iter().sum::<f64>() - 1.0).abs() < 1e-9,
                "{} {}",
                k.name,
                k.expected.iter().sum::<f64>()
            );
        }
        assert!(is_missing(&BIRTH, BIRTH_ONE) && !is_missing(&BIRTH, BIRTH_FAR));
        assert!(is_missing(&GIVEN, NAME_BOTH) && is_missing(&GIVEN, NAME_ONE));
    }
}
