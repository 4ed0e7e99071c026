//! Keyed digests: what the tables are indexed by. Ids may hold personal data and never stand in the clear on disk.

use crate::change::{Change, Effect, RecordId};
use crate::store::Crypt;

/// A keyed digest of 16 bytes.
pub type Key = [u8; 16];

/// Makes keys under the store's digest key.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a>(pub &'a Crypt);

impl Keys<'_> {
    /// The key of a record.
    pub fn record(&self, id: &RecordId) -> Key {
        self.0.digest(&[b"record", id.system.as_bytes(), id.kind.as_bytes(), id.id.as_bytes()])
    }

    /// The lane of a person at a destination.
    pub fn lane(&self, target: &str, destination: &str, person: &Key) -> Key {
        self.0.digest(&[b"lane", target.as_bytes(), destination.as_bytes(), person])
    }

    /// An exclusive name at a destination.
    pub fn name(&self, target: &str, destination: &str, name: &str) -> Key {
        self.0.digest(&[b"name", target.as_bytes(), destination.as_bytes(), name.as_bytes()])
    }

    /// The ledger key of a once-only effect.
    pub fn once(&self, key: &str) -> Key {
        self.0.digest(&[b"once", key.as_bytes()])
    }

    /// Where the digest of the last settled command of a source at a destination is kept.
    pub fn sent(&self, target: &str, destination: &str, source: &Key) -> Key {
        self.0.digest(&[b"sent", target.as_bytes(), destination.as_bytes(), source])
    }

    /// A pair of people, in either order.
    pub fn pair(&self, a: &Key, b: &Key) -> Key {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        self.0.digest(&[b"pair", low, high])
    }

    /// The content of a record or command.
    pub fn content(&self, bytes: &[u8]) -> Key {
        self.0.digest(&[b"content", bytes])
    }

    /// One field's value, short because it stands once for each field of each linked person.
    pub fn value(&self, field: &str, value: &str) -> String {
        let [a, b, c, d, e, f, g, h, ..] = self.0.digest(&[b"value", field.as_bytes(), value.as_bytes()]);
        hex(&[a, b, c, d, e, f, g, h])
    }
}

/// The effect's name: same for the same effect for ever, whatever later revisions say. A state's name adds the number
/// of its row, so that A, B, A are three edits.
pub fn effect_key(target: &str, destination: &str, change: &Change) -> String {
    let s = &change.source;
    let base =
        format!("{target}/{destination}/{}/{}/{}/{}", change.body.flow().as_str(), s.system, s.kind, s.id);
    match &change.effect {
        Effect::Once(name) => format!("{base}/{name}"),
        Effect::State => base,
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        let _ = write!(out, "{b:02x}");
    }
    out
}
