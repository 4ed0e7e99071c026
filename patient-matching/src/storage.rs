//! The index on disk: one snapshot and an append-only journal.
//!
//! Guarantees: a change that [`Store`] has returned from is there after the process was killed at any moment; a
//! torn last entry of the journal is the change that was being written and is dropped; any other damage is
//! refused with an error that names the file.

#![allow(clippy::indexing_slicing, reason = "lengths are checked before each slice is taken")]

use crate::birth::Birth;
use crate::error::Error;
use crate::index::{Data, Index};
use crate::model::Model;
use crate::person::{Identifier, Person, Sex};
use crate::pool::{Pool, mix};
use crate::table::{Layout, VERIFIED};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"PMINDEX1";

/// An index with its files in one folder.
pub struct Store {
    index: Index,
    folder: PathBuf,
    generation: u64,
    journal: File,
}

impl Store {
    /// Opens the folder, which may be empty or absent. The model's layout must be that of the stored people.
    pub fn open(folder: impl Into<PathBuf>, model: Model) -> Result<Store, Error> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(Error::io("cannot make the folder of the index"))?;
        let path = folder.join("snapshot");
        let (generation, data) =
            if path.exists() { load(&path)? } else { (0, Data::new(model.layout.clone())) };
        if data.layout != model.layout {
            return Err(Error::Storage(
                "the snapshot holds other places or identifiers than the model".to_owned(),
            ));
        }
        let mut index = Index::with(model, data);
        check(&index)?;
        let journal = journal_path(&folder, generation);
        let good = replay(&journal, &mut index)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&journal)
            .map_err(Error::io("cannot open the journal"))?;
        file.set_len(good).map_err(Error::io("cannot cut the torn end of the journal"))?;
        Ok(Store { index, folder, generation, journal: file })
    }

    /// The index, for queries.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Adds or replaces a person; returns whether somebody was replaced.
    pub fn insert(&mut self, source: u8, person: &Person) -> Result<bool, Error> {
        self.write(&entry(source, Change::Put(person)))?;
        Ok(self.index.insert(source, person))
    }

    /// Replaces a person that is there; returns false, and changes nothing, if it is not.
    pub fn update(&mut self, source: u8, person: &Person) -> Result<bool, Error> {
        if !self.index.contains(source, person.id()) {
            return Ok(false);
        }
        self.insert(source, person)
    }

    /// Takes a person out; returns whether there was one.
    pub fn remove(&mut self, source: u8, id: &str) -> Result<bool, Error> {
        self.write(&entry(source, Change::Remove(id)))?;
        Ok(self.index.remove(source, id))
    }

    /// Scores with another model from now on.
    pub fn set_model(&mut self, model: Model) -> Result<(), Error> {
        self.index.set_model(model)
    }

    fn write(&mut self, entry: &[u8]) -> Result<(), Error> {
        self.journal.write_all(entry).map_err(Error::io("cannot write the journal"))
    }

    /// Makes everything written so far survive a loss of power, too.
    pub fn sync(&self) -> Result<(), Error> {
        self.journal.sync_data().map_err(Error::io("cannot sync the journal"))
    }

    /// Writes a snapshot and begins an empty journal.
    pub fn snapshot(&mut self) -> Result<(), Error> {
        self.index.compact();
        let next = self.generation + 1;
        let fresh = self.folder.join("snapshot.new");
        save(&fresh, next, &self.index.data)?;
        let journal = journal_path(&self.folder, next);
        let file = File::create(&journal).map_err(Error::io("cannot begin a journal"))?;
        file.sync_all().map_err(Error::io("cannot sync the journal"))?;
        std::fs::rename(&fresh, self.folder.join("snapshot"))
            .map_err(Error::io("cannot put the snapshot in place"))?;
        if let Ok(folder) = File::open(&self.folder) {
            let _ = folder.sync_all();
        }
        let _ = std::fs::remove_file(journal_path(&self.folder, self.generation));
        self.generation = next;
        self.journal = file;
        Ok(())
    }
}

fn journal_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("journal.{generation}"))
}

enum Change<'a> {
    Put(&'a Person),
    Remove(&'a str),
}

/// An entry: length, checksum, content.
fn entry(source: u8, change: Change<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(160);
    match change {
        Change::Put(p) => {
            body.extend([1, source]);
            for text in [&p.id, &p.given, &p.middle, &p.family, &p.mother, &p.household] {
                put(&mut body, text);
            }
            body.push(p.sex as u8);
            body.extend(p.birth.bits().to_le_bytes());
            for list in [&p.phones, &p.places] {
                body.push(list.len() as u8);
                list.iter().for_each(|t| put(&mut body, t));
            }
            body.push(p.identifiers.len() as u8);
            for i in &p.identifiers {
                body.extend([i.slot as u8, u8::from(i.verified)]);
                put(&mut body, &i.value);
            }
        }
        Change::Remove(id) => {
            body.extend([2, source]);
            put(&mut body, id);
        }
    }
    let mut out = Vec::with_capacity(body.len() + 12);
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(crate::pool::hash_bytes(&body).to_le_bytes());
    out.extend(body);
    out
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Applies the entries of a journal; returns how many bytes of it are good.
fn replay(path: &Path, index: &mut Index) -> Result<u64, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(Error::io("cannot read the journal")(e)),
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (Some(length), Some(sum)) = (rest.first_chunk::<4>(), rest.get(4..12)) else { break };
        let length = u32::from_le_bytes(*length) as usize;
        let damaged =
            || Err(Error::Storage(format!("the journal is damaged at byte {at}; restore it from a copy")));
        let Some(body) = rest.get(12..12 + length) else {
            if length > LONGEST || holds_an_entry(&rest[1..]) {
                return damaged();
            }
            break;
        };
        if crate::pool::hash_bytes(body).to_le_bytes() != sum {
            if at + 12 + length == bytes.len() {
                break;
            }
            return damaged();
        }
        apply(body, index).ok_or_else(|| {
            Error::Storage(format!(
                "the journal has an unknown entry at byte {at}; it was written by another version"
            ))
        })?;
        at += 12 + length;
    }
    Ok(at as u64)
}

/// Whether a whole entry begins anywhere: then what stands before it is not the torn end of the journal.
fn holds_an_entry(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| {
        let rest = &bytes[at..];
        let (Some(length), Some(sum)) = (rest.first_chunk::<4>(), rest.get(4..12)) else { return false };
        let body = rest.get(12..12 + u32::from_le_bytes(*length) as usize);
        body.is_some_and(|b| !b.is_empty() && crate::pool::hash_bytes(b).to_le_bytes() == sum)
    })
}

/// No entry is longer.
const LONGEST: usize = 1 << 20;

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    fn text(&mut self) -> Option<String> {
        let n = self.number()? as usize;
        String::from_utf8(self.take(n)?.to_vec()).ok()
    }
}

fn apply(body: &[u8], index: &mut Index) -> Option<()> {
    let mut c = Cursor(body);
    match (c.byte()?, c.byte()?) {
        (1, source) => {
            let mut p = Person::new(c.text()?);
            p.given = c.text()?;
            p.middle = c.text()?;
            p.family = c.text()?;
            p.mother = c.text()?;
            p.household = c.text()?;
            p.sex = match c.byte()? {
                1 => Sex::Female,
                2 => Sex::Male,
                _ => Sex::Unknown,
            };
            p.birth = Birth::from_bits(c.number()?);
            for _ in 0..c.byte()? {
                p.phones.push(c.text()?);
            }
            for _ in 0..c.byte()? {
                p.places.push(c.text()?);
            }
            for _ in 0..c.byte()? {
                let (slot, verified) = (usize::from(c.byte()?), c.byte()? != 0);
                p.identifiers.push(Identifier { slot, value: c.text()?, verified });
            }
            index.insert(source, &p);
        }
        (2, source) => {
            index.remove(source, &c.text()?);
        }
        _ => return None,
    }
    c.0.is_empty().then_some(())
}

/// Writes numbers and keeps a checksum of them.
struct Sink<W: Write> {
    out: W,
    sum: u64,
}

impl<W: Write> Sink<W> {
    fn numbers(&mut self, values: &[u32]) -> std::io::Result<()> {
        self.out.write_all(&(values.len() as u64).to_le_bytes())?;
        let mut buffer = Vec::with_capacity(1 << 16);
        for chunk in values.chunks(1 << 14) {
            buffer.clear();
            for v in chunk {
                self.sum = (self.sum ^ u64::from(*v)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
                buffer.extend_from_slice(&v.to_le_bytes());
            }
            self.out.write_all(&buffer)?;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> std::io::Result<()> {
        let mut words: Vec<u32> = vec![text.len() as u32];
        words.extend(text.as_bytes().chunks(4).map(|c| {
            let mut word = [0; 4];
            word[..c.len()].copy_from_slice(c);
            u32::from_le_bytes(word)
        }));
        self.numbers(&words)
    }

    fn pool(&mut self, pool: &Pool) -> std::io::Result<()> {
        let (arena, ends) = pool.parts();
        self.text(arena)?;
        self.numbers(ends)
    }
}

fn save(path: &Path, generation: u64, data: &Data) -> Result<(), Error> {
    let inner = || -> std::io::Result<()> {
        let mut sink = Sink { out: BufWriter::with_capacity(1 << 20, File::create(path)?), sum: 0 };
        sink.out.write_all(MAGIC)?;
        sink.numbers(&[(generation >> 32) as u32, generation as u32])?;
        sink.text(&serde_json::to_string(&data.layout)?)?;
        for pool in [&data.pools.names, &data.pools.places, &data.pools.codes, &data.names] {
            sink.pool(pool)?;
        }
        for numbers in [&data.cells, &data.keys, &data.ids, &data.rows, &data.heads, &data.next] {
            sink.numbers(numbers)?;
        }
        sink.numbers(&[data.nodes as u32, data.living as u32])?;
        let sum = mix(sink.sum);
        sink.out.write_all(&sum.to_le_bytes())?;
        sink.out.flush()?;
        sink.out.get_ref().sync_all()
    };
    inner().map_err(Error::io("cannot write the snapshot"))
}

struct Source<R: Read> {
    input: R,
    sum: u64,
    left: u64,
}

impl<R: Read> Source<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        self.input.read_exact(&mut out).map_err(|_| damaged())?;
        self.left = self.left.checked_sub(N as u64).ok_or_else(damaged)?;
        Ok(out)
    }

    fn numbers(&mut self) -> Result<Vec<u32>, Error> {
        let count = u64::from_le_bytes(self.bytes()?);
        let size = count.checked_mul(4).filter(|s| *s <= self.left).ok_or_else(damaged)?;
        self.left -= size;
        let mut out = Vec::with_capacity(count as usize);
        let mut buffer = vec![0; 1 << 16];
        let mut rest = size as usize;
        while rest > 0 {
            let n = rest.min(buffer.len());
            self.input.read_exact(&mut buffer[..n]).map_err(|_| damaged())?;
            for c in buffer[..n].chunks_exact(4) {
                let v = u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
                self.sum = (self.sum ^ u64::from(v)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
                out.push(v);
            }
            rest -= n;
        }
        Ok(out)
    }

    fn text(&mut self) -> Result<String, Error> {
        let words = self.numbers()?;
        let (length, words) = words.split_first().ok_or_else(damaged)?;
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        if bytes.len() < *length as usize {
            return Err(damaged());
        }
        bytes.truncate(*length as usize);
        String::from_utf8(bytes).map_err(|_| damaged())
    }

    fn pool(&mut self, spelled: bool) -> Result<Pool, Error> {
        let (arena, ends) = (self.text()?, self.numbers()?);
        Pool::from_parts(arena, ends, spelled).ok_or_else(damaged)
    }
}

fn damaged() -> Error {
    Error::Storage(
        "the snapshot is damaged or was cut short; restore it from a copy or build the index anew".to_owned(),
    )
}

fn load(path: &Path) -> Result<(u64, Data), Error> {
    let file = File::open(path).map_err(Error::io("cannot open the snapshot"))?;
    let left = file.metadata().map_err(Error::io("cannot read the snapshot"))?.len();
    let mut source = Source { input: BufReader::with_capacity(1 << 20, file), sum: 0, left };
    if &source.bytes::<8>()? != MAGIC {
        return Err(Error::Storage("the snapshot is of another format; build the index anew".to_owned()));
    }
    let generation = match source.numbers()?.as_slice() {
        [high, low] => (u64::from(*high) << 32) | u64::from(*low),
        _ => return Err(damaged()),
    };
    let layout: Layout = serde_json::from_str(&source.text()?).map_err(|_| damaged())?;
    let mut data = Data::new(layout);
    data.pools.names = source.pool(true)?;
    data.pools.places = source.pool(true)?;
    data.pools.codes = source.pool(false)?;
    data.names = source.pool(false)?;
    for slot in
        [&mut data.cells, &mut data.keys, &mut data.ids, &mut data.rows, &mut data.heads, &mut data.next]
    {
        *slot = source.numbers()?;
    }
    match source.numbers()?.as_slice() {
        [nodes, living] => (data.nodes, data.living) = (*nodes as usize, *living as usize),
        _ => return Err(damaged()),
    }
    let sum = mix(source.sum);
    if u64::from_le_bytes(source.bytes()?) != sum || source.left != 0 {
        return Err(damaged());
    }
    Ok((generation, data))
}

/// Checks that every number of a loaded index points at something.
fn check(index: &Index) -> Result<(), Error> {
    let d = &index.data;
    let n = d.ids.len();
    let slots = index.slots();
    let width = d.layout.width();
    let places = crate::table::PLACE..crate::table::PLACE + d.layout.places;
    let cell = |c: usize, v: u32| match c {
        crate::table::SEX => v <= 2,
        crate::table::BIRTH => true,
        crate::table::GIVEN | crate::table::MIDDLE | crate::table::FAMILY | crate::table::MOTHER => {
            (v as usize) < d.pools.names.len()
        }
        c if places.contains(&c) => (v as usize) < d.pools.places.len(),
        _ => ((v & !VERIFIED) as usize) < d.pools.codes.len(),
    };
    let good = d.cells.len() == n * width
        && d.keys.len() == n * slots
        && d.next.len() == n * slots
        && d.heads.len().is_power_of_two()
        && d.rows.len() == d.names.len()
        && d.cells.chunks_exact(width.max(1)).all(|r| r.iter().enumerate().all(|(c, &v)| cell(c, v)))
        && d.ids.iter().all(|i| (*i as usize) < d.names.len())
        && d.rows.iter().all(|r| *r as usize <= n)
        && d.heads.iter().chain(&d.next).all(|i| *i as usize <= n * slots)
        && d.living <= n;
    if good { Ok(()) } else { Err(damaged()) }
}
