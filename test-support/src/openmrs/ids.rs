//! Compact uuids: 16 bytes for a canonical one, text for whatever else a client or OpenMRS calls a uuid.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A uuid as OpenMRS understands it: any short text (`5089AAAA...` is one).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// Written in the canonical lower-case form.
    Uuid(u128),
    /// Anything else.
    Text(Box<str>),
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        let canonical = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
        match canonical.then(|| uuid::Uuid::try_parse(text)) {
            Some(Ok(uuid)) => Self::Uuid(uuid.as_u128()),
            _ => Self::Text(text.into()),
        }
    }
}

impl FromStr for Id {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid::Uuid::from_u128(*uuid).fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| text.as_str().into())
    }
}

/// Makes uuids that look random and are the same in every run with the same seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdSource {
    seed: u64,
    made: u64,
}

impl IdSource {
    /// A source that starts anew.
    pub fn new(seed: u64) -> Self {
        Self { seed, made: 0 }
    }

    /// The next uuid, version 4 by its form.
    pub fn next(&mut self) -> Id {
        self.made += 2;
        let (high, low) = (mix(self.seed, self.made), mix(self.seed, self.made + 1));
        let random = (u128::from(high) << 64) | u128::from(low);
        Id::Uuid(uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().as_u128())
    }
}

/// The `n`th number of the splitmix64 sequence of a seed.
pub fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
