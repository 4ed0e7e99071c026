//! What a sink remembers of its deliveries.
//!
//! Guarantees: 16 bytes and a count per key and per subject; a saved ledger that is loaded again is the same ledger, but
//! for kept bodies.

use std::{
    collections::HashMap,
    fs,
    hash::{DefaultHasher, Hasher},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Totals of a sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Deliveries applied.
    pub received: u64,
    /// Keys among them; a delivery without a key counts as one of its own.
    pub distinct: u64,
    /// Deliveries of a key that had taken effect before.
    pub doubled: u64,
    /// Deliveries that came after a newer one of their subject.
    pub out_of_order: u64,
    pub subjects: u64,
    pub max_concurrent: u64,
    /// Turned away by the limit of concurrent deliveries.
    pub rejected: u64,
    /// Sum of the body lengths.
    pub bytes: u64,
    pub first_ms: Option<i64>,
    pub last_ms: Option<i64>,
}

/// A line of `/_standin/sink/effects`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Effect {
    Key {
        /// Hash of the key.
        key_hash: String,
        count: u64,
    },
    Delivery {
        key: Option<String>,
        subject: Option<String>,
        seq: Option<u64>,
        at_ms: i64,
        body: String,
    },
}

pub(super) struct Delivery {
    pub key: Option<Vec<u8>>,
    pub subject: Option<Vec<u8>>,
    pub seq: Option<u64>,
    pub at_ms: i64,
}

#[derive(Default)]
pub(super) struct Ledger {
    counts: Counts,
    keys: HashMap<u128, u64>,
    /// The newest sequence of each subject.
    newest: HashMap<u128, u64>,
    kept: Vec<Effect>,
}

impl Ledger {
    pub fn note(&mut self, delivery: &Delivery, body: &Bytes, keep: bool) {
        let counts = &mut self.counts;
        counts.received += 1;
        counts.bytes += body.len() as u64;
        counts.first_ms.get_or_insert(delivery.at_ms);
        counts.last_ms = Some(delivery.at_ms);
        let times = delivery.key.as_ref().map_or(1, |key| {
            let times = self.keys.entry(hash(key)).or_default();
            *times += 1;
            *times
        });
        if times == 1 {
            counts.distinct += 1;
        } else {
            counts.doubled += 1;
        }
        if let (Some(subject), Some(seq)) = (&delivery.subject, delivery.seq) {
            let newest = self.newest.entry(hash(subject)).or_insert(seq);
            counts.out_of_order += u64::from(seq < *newest);
            *newest = seq.max(*newest);
        }
        if keep {
            let text =
                |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
            self.kept.push(Effect::Delivery {
                key: text(&delivery.key),
                subject: text(&delivery.subject),
                seq: delivery.seq,
                at_ms: delivery.at_ms,
                body: String::from_utf8_lossy(body).into_owned(),
            });
        }
    }

    pub fn counts(&self) -> Counts {
        Counts { subjects: self.newest.len() as u64, ..self.counts.clone() }
    }

    pub fn times(&self, key: &[u8]) -> u64 {
        self.keys.get(&hash(key)).copied().unwrap_or(0)
    }

    pub fn effects(&self) -> Vec<Effect> {
        if !self.kept.is_empty() {
            return self.kept.clone();
        }
        self.keys
            .iter()
            .map(|(key, count)| Effect::Key { key_hash: format!("{key:032x}"), count: *count })
            .collect()
    }

    pub fn save(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = BufWriter::new(fs::File::create(&beside)?);
        writeln!(file, "{}", serde_json::to_string(&self.counts)?)?;
        for (kind, map) in [("key", &self.keys), ("subject", &self.newest)] {
            for (hash, value) in map {
                writeln!(file, "{kind} {hash:032x} {value}")?;
            }
        }
        file.into_inner()?.sync_all()?;
        fs::rename(beside, path)
    }

    pub fn load(path: &Path) -> io::Result<Self> {
        let mut lines = BufReader::new(fs::File::open(path)?).lines();
        let counts = serde_json::from_str(&lines.next().unwrap_or_else(|| Err(wrong("empty")))?)?;
        let mut ledger = Self { counts, ..Self::default() };
        for line in lines {
            let line = line?;
            let mut words = line.split(' ');
            let (Some(kind), Some(hash), Some(value)) = (words.next(), words.next(), words.next()) else {
                return Err(wrong("a line is cut off"));
            };
            let hash = u128::from_str_radix(hash, 16).map_err(|_| wrong("a hash is none"))?;
            let value = value.parse().map_err(|_| wrong("a number is none"))?;
            let map = if kind == "key" { &mut ledger.keys } else { &mut ledger.newest };
            map.insert(hash, value);
        }
        Ok(ledger)
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a sink's state file: {what}"))
}

/// Two halves of 64 bits, told apart by their first byte.
fn hash(bytes: &[u8]) -> u128 {
    [0, 1].into_iter().fold(0, |whole, half| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(half);
        hasher.write(bytes);
        whole << 64 | u128::from(hasher.finish())
    })
}
