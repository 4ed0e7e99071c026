//! Persons that are not stored but made from their number whenever they are read: growth tests in constant memory.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// What to make: `count` persons whose bodies have between `min_bytes` and `max_bytes`, log-uniform.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generate {
    /// How many persons.
    pub count: u64,
    /// Smallest body.
    #[serde(default = "kib")]
    pub min_bytes: usize,
    /// Largest body.
    #[serde(default = "kib")]
    pub max_bytes: usize,
    /// Other seeds give other persons.
    #[serde(default)]
    pub seed: u32,
}

fn kib() -> usize {
    1024
}

/// One batch of such persons; their sequences follow each other from `first_seq`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Batch {
    pub first_seq: u64,
    pub spec: Generate,
    pub reported_date: i64,
}

const NAMES: [&str; 16] = [
    "Achieng", "Baraka", "Chebet", "Daudi", "Esther", "Fatuma", "Grace", "Hassan", "Imani", "Juma", "Kamau",
    "Leila", "Mercy", "Njeri", "Omondi", "Zuri",
];

const WORDS: [&str; 16] = [
    "fever ",
    "cough ",
    "visit ",
    "clinic ",
    "referred ",
    "well ",
    "mother ",
    "child ",
    "water ",
    "net ",
    "dose ",
    "weight ",
    "asleep ",
    "home ",
    "away ",
    "again ",
];

impl Batch {
    pub fn id(&self, index: u64) -> String {
        format!("{:08x}-0000-4000-8000-{index:012x}", self.spec.seed)
    }

    /// The number of a person of this batch.
    pub fn index(&self, id: &str) -> Option<u64> {
        let index = u64::from_str_radix(id.get(24..)?, 16).ok()?;
        (id.len() == 36 && index < self.spec.count && self.id(index) == id).then_some(index)
    }

    /// The first number whose id is not below `id`.
    pub fn lower_bound(&self, id: &str) -> u64 {
        let (mut low, mut high) = (0, self.spec.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.id(middle).as_str() < id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub fn rev(&self, index: u64) -> (u32, u128) {
        (1, u128::from(mix(index ^ u64::from(self.spec.seed) << 32)) << 64 | u128::from(mix(index)))
    }

    /// The document without `_id` and `_rev`.
    pub fn body(&self, index: u64) -> String {
        let seed = u64::from(self.spec.seed);
        let draw = |n: u64| mix(mix(seed ^ n << 40) ^ index);
        let name = NAMES[draw(1) as usize % NAMES.len()];
        let family = NAMES[draw(2) as usize % NAMES.len()];
        let sex = if draw(3).is_multiple_of(2) { "female" } else { "male" };
        let (year, month, day) = (1930 + draw(4) % 95, 1 + draw(5) % 12, 1 + draw(6) % 28);
        let mut body = format!(
            r#"{{"type":"person","name":"{name} {family} {index:x}","sex":"{sex}","date_of_birth":"{year}-{month:02}-{day:02}","#
        );
        let _ = write!(
            body,
            r#""phone":"+2547{:08}","patient_id":"{seed}{index:09}","external_id":"g{seed}-{index}","reported_date":{},"notes":""#,
            index % 100_000_000,
            self.reported_date + index as i64 % 1000
        );
        let (low, high) = (self.spec.min_bytes.max(1) as f64, self.spec.max_bytes.max(1) as f64);
        let unit = (draw(7) >> 11) as f64 / (1_u64 << 53) as f64;
        let target = (low.ln() + unit * (high.ln() - low.ln()).max(0.0)).exp() as usize;
        let start = body.len();
        let mut bits = draw(8);
        while body.len() + 2 < target {
            bits = mix(bits);
            for word in (0..12).map(|at| WORDS[(bits >> (at * 5)) as usize % WORDS.len()]) {
                body.push_str(word);
            }
        }
        body.truncate(target.saturating_sub(2).max(start));
        body.push_str("\"}");
        body
    }
}

/// A well spread 64-bit hash of a number (the finaliser of SplitMix64).
pub(super) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_repeatable_distinct_json_between_the_sizes() {
        let spec = Generate { count: 1000, min_bytes: 1024, max_bytes: 65_536, seed: 7 };
        let batch = Batch { first_seq: 1, spec, reported_date: 0 };
        let sizes: Vec<usize> = (0..1000).map(|n| batch.body(n).len()).collect();
        assert!(sizes.iter().all(|size| (1000..=65_540).contains(size)));
        let below = sizes.iter().filter(|size| **size < 8192).count();
        assert!(
            (400..600).contains(&below),
            "log-uniform: half lies below the geometric middle, not {below}"
        );
        assert_eq!(batch.body(3), batch.body(3));
        assert_ne!(batch.body(3), batch.body(4));
        assert!(serde_json::from_str::<serde_json::Value>(&batch.body(5)).is_ok());
        assert_eq!((batch.index(&batch.id(999)), batch.index(&batch.id(1000))), (Some(999), None));
        assert_eq!((batch.lower_bound(&batch.id(12)), batch.lower_bound("~")), (12, 1000));
    }
}
