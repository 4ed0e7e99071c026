//! A row of the outbox: one change for one destination.

use std::collections::BTreeMap;

use serde_json::Value;

use super::claim::Planned;
use super::keys::Key;
use crate::change::Change;
use crate::store::{Crypt, Row as SqlRow, StoreError};

/// Notes of finished steps, by step.
pub type Notes = BTreeMap<String, Value>;

/// Where a row stands. Settled and superseded rows leave the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i64)]
pub enum State {
    /// Waits for its turn.
    Queued = 0,
    /// Its command is stored, and no attempt is open.
    Planned = 1,
    /// An attempt may be on the wire.
    Sent = 2,
    /// An attempt ended without an answer.
    Unknown = 3,
    /// Waits for counterparts of other records.
    Waiting = 4,
    /// A person decides.
    Review = 5,
    /// Will not be done as it is.
    Dead = 6,
}

impl State {
    /// From its stored number.
    pub fn from_stored(n: i64) -> Result<Self, StoreError> {
        Ok(match n {
            0 => State::Queued,
            1 => State::Planned,
            2 => State::Sent,
            3 => State::Unknown,
            4 => State::Waiting,
            5 => State::Review,
            6 => State::Dead,
            _ => return Err(StoreError::Damaged("outbox: state")),
        })
    }

    /// The name shown to people and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Planned => "planned",
            State::Sent => "sent",
            State::Unknown => "unknown",
            State::Waiting => "waiting",
            State::Review => "review",
            State::Dead => "dead",
        }
    }
}

/// A row as it was read; what it carries is still sealed.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its place in the order.
    pub seq: i64,
    /// The ledger key, for once-only effects.
    pub once: Option<Key>,
    /// The system it goes to.
    pub target: String,
    /// Which of the system's destinations.
    pub destination: String,
    /// Key of the record it came from.
    pub source: Key,
    /// Key of the person it is about, the same at both ends of a link.
    pub person: Key,
    /// Its lane.
    pub lane: Key,
    /// Exclusive names.
    pub names: Vec<Key>,
    /// Where it stands.
    pub state: State,
    /// Moves when what was decided for the row must be decided again.
    pub plan: i64,
    /// Whether its command makes a person.
    pub creates: bool,
    /// Whether an earlier attempt may have taken effect.
    pub maybe: bool,
    /// Attempts begun.
    pub attempt: u32,
    /// When it was first sent, or 0.
    pub first_sent: i64,
    /// The transaction that first claimed it, or 0.
    pub first_tick: i64,
    /// The transaction before its record was read.
    pub read_at: i64,
    /// Most tasks its next request may hold.
    pub share: i64,
    /// Failed tries in a row.
    pub tries: u32,
    change: Vec<u8>,
    command: Option<Vec<u8>>,
    notes: Option<Vec<u8>>,
}

/// The columns that [`Row::read`] expects, in order.
macro_rules! columns {
    () => {
        "seq, once, target, destination, source, person, lane, names, state, plan, creates, maybe, attempt, \
         first_sent, first_tick, read_at, share, tries, change, command, notes"
    };
}
pub(super) use columns;

impl Row {
    pub(super) fn read(r: &SqlRow) -> Result<Self, StoreError> {
        let names = r.blob(7)?;
        Ok(Self {
            seq: r.int(0)?,
            once: r.opt_key(1)?,
            target: r.text(2)?.to_owned(),
            destination: r.text(3)?.to_owned(),
            source: r.key(4)?,
            person: r.key(5)?,
            lane: r.key(6)?,
            names: split_keys(names),
            state: State::from_stored(r.int(8)?)?,
            plan: r.int(9)?,
            creates: r.int(10)? != 0,
            maybe: r.int(11)? != 0,
            attempt: u32::try_from(r.int(12)?).map_err(|_| StoreError::Damaged("outbox: attempt"))?,
            first_sent: r.int(13)?,
            first_tick: r.int(14)?,
            read_at: r.int(15)?,
            share: r.int(16)?,
            tries: u32::try_from(r.int(17)?).map_err(|_| StoreError::Damaged("outbox: tries"))?,
            change: r.blob(18)?.to_vec(),
            command: r.opt_blob(19)?.map(<[u8]>::to_vec),
            notes: r.opt_blob(20)?.map(<[u8]>::to_vec),
        })
    }

    /// The change it carries.
    pub fn change(&self, crypt: &Crypt) -> Result<Change, StoreError> {
        Ok(crypt.open_json("outbox.change", &self.change)?)
    }

    /// The stored command, where there is one.
    pub fn planned(&self, crypt: &Crypt) -> Result<Option<Planned>, StoreError> {
        Ok(self.command.as_deref().map(|c| crypt.open_json("outbox.command", c)).transpose()?)
    }

    /// Notes of finished steps.
    pub fn notes(&self, crypt: &Crypt) -> Result<Notes, StoreError> {
        Ok(self.notes.as_deref().map(|n| crypt.open_json("outbox.notes", n)).transpose()?.unwrap_or_default())
    }

    /// Whether an attempt is or may be in effect: such a row comes first in its lane and is not planned again.
    pub fn maybe_open(&self) -> bool {
        matches!(self.state, State::Sent | State::Unknown)
            || self.state == State::Planned && (self.maybe || self.notes.is_some() || self.first_sent > 0)
    }
}

/// Stored names side by side.
pub(super) fn join_keys(keys: &[Key]) -> Vec<u8> {
    keys.concat()
}

fn split_keys(bytes: &[u8]) -> Vec<Key> {
    bytes.chunks_exact(16).filter_map(|c| c.try_into().ok()).collect()
}
