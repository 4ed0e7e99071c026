//! Marked names, phones and identifiers go through success, mishaps, conflicts, dead letters and review. None of them,
//! plain, unsalted-digested or in another spelling, may stand in a log line, an error, a metric or a byte of the store.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use connector_core::outbox::Totals;
use connector_core::store::{Place, Store, StoreKey, StoreOptions};
use sha2::{Digest, Sha256};
use simulation::engine::Setup;
use simulation::openmrs_world::{OpenMrsWorld, Story};
use simulation::points::Points;
use simulation::run::World;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

/// A marked value in every spelling in which it could leak.
fn spellings(value: &str) -> Vec<Vec<u8>> {
    let base64 = |bytes: &[u8]| base64_of(bytes);
    let swapped = value.split(' ').rev().collect::<Vec<_>>().join(" ");
    let mut out: Vec<Vec<u8>> = vec![
        value.into(),
        value.to_uppercase().into(),
        value.to_lowercase().into(),
        swapped.into(),
        value.replace(' ', "%20").replace('+', "%2B").into(),
        value.replace(' ', "+").into(),
        value.chars().map(|c| format!("\\u{:04x}", c as u32)).collect::<String>().into(),
    ];
    // Base64 at each of the three offsets in a longer text, without the ends that depend on the neighbours.
    for skip in 0..3 {
        let padded = [&vec![b' '; skip][..], value.as_bytes()].concat();
        let text = base64(&padded);
        out.push(text.as_bytes()[4.min(text.len())..text.len().saturating_sub(4)].to_vec());
    }
    let digest = Sha256::digest(value.as_bytes());
    out.push(digest[..16].to_vec());
    out.push(digest.iter().take(8).map(|b| format!("{b:02x}")).collect::<String>().into());
    out.retain(|s| s.len() >= 7);
    out
}

fn base64_of(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            out.push(if i <= chunk.len() {
                ALPHABET[(n >> (18 - 6 * i) & 63) as usize] as char
            } else {
                '='
            });
        }
    }
    out
}

fn find(hay: &[u8], needle: &[u8]) -> bool {
    needle.first().is_some_and(|first| {
        let mut from = 0;
        while let Some(at) = hay[from..].iter().position(|b| b == first) {
            let at = from + at;
            if hay[at..].starts_with(needle) {
                return true;
            }
            from = at + 1;
        }
        false
    })
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        out.push((path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()));
    }
    out
}

#[test]
fn nothing_personal_in_logs_or_on_disk() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let folder = tempfile::tempdir().unwrap();
    let marks = tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(story(folder.path()))
    });
    assert!(marks.len() >= 200, "{} marked values", marks.len());
    let mut places = files(folder.path());
    for part in [".sqlite", "-wal", "backup"] {
        assert!(places.iter().any(|(name, _)| name.ends_with(part)), "{part} is looked through too");
    }
    assert!(places.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 200_000);
    places.push(("log".into(), log.0.lock().unwrap().clone()));
    assert!(places.last().unwrap().1.len() > 1_000, "something was logged");
    for (place, bytes) in &places {
        for mark in &marks {
            for spelling in spellings(mark) {
                assert!(
                    !find(bytes, &spelling),
                    "{mark} stands in {place} as {:?}",
                    String::from_utf8_lossy(&spelling)
                );
            }
        }
    }
}

/// Many marked people in both directions, through mishaps, a conflict, a rejection and a void.
async fn story(folder: &Path) -> Vec<String> {
    let mut world = OpenMrsWorld::new(7, 0.3, Story::Marked);
    let place = Place::Sqlite { path: folder.join("privacy.sqlite") };
    let options = StoreOptions { place, key: Some(StoreKey::random()) };
    let store = Store::open(&options, Arc::new(world.clock().clone())).await.unwrap();
    let engine = world.engine(store.clone(), Arc::new(Points::default()), &Setup::default()).await;
    for t in 0..140 {
        world.script(t).await;
        world.clock().0.advance(std::time::Duration::from_secs(1));
        world.clock().0.run_due();
        engine.tick().await;
        if t == 60 {
            store.backup(&folder.join("backup")).await.unwrap();
        }
    }
    let totals = store.read(Totals).await.unwrap();
    assert!(totals.iter().any(|c| c.state == "dead"), "a rejection is among them: {totals:?}");
    assert!(totals.iter().any(|c| c.state == "review"), "a review is among them: {totals:?}");
    let marks = world.marks();
    // The store stays open: its files are looked at as a running process leaves them.
    std::mem::forget((engine, store));
    marks
}
