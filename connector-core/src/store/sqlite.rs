//! SQLite, in one file or in memory, for one process.
//!
//! One thread owns the connection that writes. It takes what stands in its channel, runs up to 128 transactions, each
//! in a savepoint of its own, inside one durable commit, and answers each caller after that commit. A file has a second
//! connection on a second thread for reading. A lock file beside the store keeps a second process out.

use std::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::crypt::Crypt;
use super::schema::Setup;
use super::sql::{Engine, Tx};
use super::{Shared, StoreError, Transaction};
use crate::clock::Clock;

/// Most transactions in one commit.
const GROUP: usize = 128;
/// Longest time that a commit gathers transactions, in milliseconds.
const GATHER: i64 = 5;
/// Callers that may stand in line before the next one waits.
const LINE: usize = 1024;

const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
    PRAGMA foreign_keys = OFF; PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096;
    PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 4000";
const READER: &str = "PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2048";

/// A transaction on its way through a thread.
trait Job: Send {
    fn read_only(&self) -> bool;
    /// Runs it; what is to be done with its writes.
    fn run(&mut self, connection: &mut Connection, shared: &Shared) -> Ran;
    /// Tells the caller, with the error if its group was not committed.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>);
}

struct Ran {
    keep: bool,
    notify: bool,
}

struct Call<T: Transaction> {
    transaction: T,
    read_only: bool,
    out: Result<T::Out, StoreError>,
    reply: oneshot::Sender<Result<T::Out, StoreError>>,
}

impl<T: Transaction> Job for Call<T> {
    fn read_only(&self) -> bool {
        self.read_only
    }

    fn run(&mut self, connection: &mut Connection, shared: &Shared) -> Ran {
        let done = run_once(&mut self.transaction, connection, &shared.crypt, shared.clock.now());
        let notify = matches!(done, Ok((_, true)));
        self.out = done.map(|(out, _)| out);
        Ran { keep: self.out.is_ok() && !self.read_only, notify }
    }

    fn answer(self: Box<Self>, commit: Result<(), StoreError>) {
        // A caller that has gone needs no answer.
        let _ = self.reply.send(commit.and(self.out));
    }
}

fn run_once<T: Transaction>(
    transaction: &mut T,
    connection: &mut Connection,
    crypt: &Crypt,
    now: i64,
) -> Result<(T::Out, bool), StoreError> {
    let mut tx = Tx::new(Engine::Sqlite(connection), crypt, now);
    let out = transaction.run(&mut tx).now_or_never().unwrap_or(Err(StoreError::Waits(T::NAME)));
    tx.end(out)
}

enum Message {
    Run(Box<dyn Job>),
    Backup(PathBuf, oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

/// The front of the two threads.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    writer: mpsc::Sender<Message>,
    reader: mpsc::Sender<Message>,
}

impl Sqlite {
    pub async fn open(
        path: Option<PathBuf>,
        setup: Setup,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Arc<Shared>), StoreError> {
        let opened = tokio::task::spawn_blocking(move || open(path, setup, clock));
        opened.await.map_err(|_| StoreError::Closed)?
    }

    pub async fn run<T: Transaction>(&self, transaction: T) -> Result<T::Out, StoreError> {
        call(&self.writer, transaction, false).await
    }

    pub async fn read<T: Transaction>(&self, transaction: T) -> Result<T::Out, StoreError> {
        call(&self.reader, transaction, true).await
    }

    pub async fn backup(&self, path: PathBuf) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.reader.send(Message::Backup(path, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// The reader first: the writer's connection is the last one and tidies the file up.
    pub async fn close(&self) {
        for thread in [&self.reader, &self.writer] {
            let (reply, answer) = oneshot::channel();
            if thread.send(Message::Close(reply)).await.is_ok() {
                // A thread that has ended is closed.
                let _ = answer.await;
            }
        }
    }
}

async fn call<T: Transaction>(
    thread: &mpsc::Sender<Message>,
    transaction: T,
    read_only: bool,
) -> Result<T::Out, StoreError> {
    let (reply, answer) = oneshot::channel();
    let job = Box::new(Call { transaction, read_only, out: Err(StoreError::Closed), reply });
    thread.send(Message::Run(job)).await.map_err(|_| StoreError::Closed)?;
    answer.await.map_err(|_| StoreError::Closed)?
}

fn open(
    path: Option<PathBuf>,
    mut setup: Setup,
    clock: Arc<dyn Clock>,
) -> Result<(Sqlite, Arc<Shared>), StoreError> {
    let place = path.as_deref().map_or("in memory".to_owned(), |p| p.display().to_string());
    let failed = |source: Arc<dyn Error + Send + Sync>| StoreError::Open { place: place.clone(), source };
    let lock = path.as_deref().map(lock).transpose()?;
    let mut connection = match &path {
        Some(path) => {
            owner_only(path).map_err(|e| failed(Arc::new(e))).and_then(|_| Ok(Connection::open(path)?))
        }
        None => Ok(Connection::open_in_memory()?),
    }?;
    prepare(&connection, WRITER).map_err(|e| failed(Arc::new(e)))?;

    let fresh = Crypt::fresh(setup.key.as_ref());
    connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| failed(Arc::new(e)))?;
    let (found, _) = run_once(&mut setup, &mut connection, &fresh, clock.now())?;
    connection.execute_batch("COMMIT")?;
    let shared = Shared::new(found.unwrap_or(fresh), clock);

    let (writer, jobs) = mpsc::channel(LINE);
    let reader = match &path {
        None => writer.clone(),
        Some(path) => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            prepare(&connection, READER)?;
            let (reader, jobs) = mpsc::channel(LINE);
            let shared = shared.clone();
            spawn("store-reader", move || serve_reads(connection, jobs, &shared))
                .map_err(|e| failed(Arc::new(e)))?;
            reader
        }
    };
    let for_writer = shared.clone();
    spawn("store-writer", move || {
        let asked = serve_writes(connection, jobs, &for_writer);
        drop(lock);
        // Whoever asked for the end may have gone.
        let _ = asked.map(|reply| reply.send(()));
    })
    .map_err(|e| failed(Arc::new(e)))?;
    Ok((Sqlite { writer, reader }, shared))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Kept open, the file keeps every other process out; the system lets go of it when this one ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let place = path.display().to_string();
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&name);
    match open.map(|file| (file.try_lock(), file)) {
        Ok((Ok(()), file)) => Ok(file),
        Ok((Err(TryLockError::WouldBlock), _)) => Err(StoreError::InUse(place)),
        Ok((Err(TryLockError::Error(source)), _)) | Err(source) => {
            Err(StoreError::Open { place, source: Arc::new(source) })
        }
    }
}

/// Makes the file, if it is not there, readable by its owner only.
fn owner_only(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn prepare(connection: &Connection, pragmas: &str) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(512);
    connection.execute_batch(pragmas)
}

fn step(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

fn serve_reads(mut connection: Connection, mut line: mpsc::Receiver<Message>, shared: &Shared) {
    while let Some(message) = line.blocking_recv() {
        match message {
            Message::Run(mut job) => {
                let read = step(&connection, "BEGIN").and_then(|()| {
                    job.run(&mut connection, shared);
                    step(&connection, "ROLLBACK")
                });
                job.answer(read.map_err(StoreError::from));
            }
            Message::Backup(path, reply) => {
                // A caller that has gone needs no answer.
                let _ = reply.send(backup(&connection, &path));
            }
            Message::Close(reply) => {
                drop(connection);
                let _ = reply.send(());
                return;
            }
        }
    }
}

/// Gives back the reply that the end of the thread is told to, if somebody asked for it.
fn serve_writes(
    mut connection: Connection,
    mut line: mpsc::Receiver<Message>,
    shared: &Shared,
) -> Option<oneshot::Sender<()>> {
    let mut next = line.blocking_recv();
    while let Some(message) = next.take() {
        match message {
            Message::Run(job) => next = group(&mut connection, job, &mut line, shared),
            Message::Backup(path, reply) => {
                // A caller that has gone needs no answer.
                let _ = reply.send(backup(&connection, &path));
            }
            Message::Close(reply) => return Some(reply),
        }
        if next.is_none() {
            next = line.blocking_recv();
        }
    }
    None
}

/// Runs `first` and what stands behind it in one commit; gives back the message that ended the group.
fn group(
    connection: &mut Connection,
    first: Box<dyn Job>,
    line: &mut mpsc::Receiver<Message>,
    shared: &Shared,
) -> Option<Message> {
    let started = shared.clock.now();
    let mut jobs = Vec::new();
    let mut written = false;
    let mut notify = false;
    let mut behind = None;
    let mut next = Some(first);
    let mut result = step(connection, "BEGIN IMMEDIATE");
    while let Some(mut job) = next.take() {
        if result.is_ok() {
            match in_savepoint(connection, job.as_mut(), shared) {
                Ok(ran) => {
                    written |= ran.keep;
                    notify |= ran.keep && ran.notify;
                }
                Err(error) => result = Err(error),
            }
        }
        jobs.push(job);
        if result.is_ok() && jobs.len() < GROUP && shared.clock.now() - started < GATHER {
            match line.try_recv() {
                Ok(Message::Run(job)) => next = Some(job),
                Ok(other) => behind = Some(other),
                Err(_) => {}
            }
        }
    }
    let commit = result.map_err(StoreError::from).and_then(|()| commit(connection));
    if commit.is_err() && !connection.is_autocommit() {
        // What cannot be rolled back now is rolled back when the connection is opened again.
        let _ = step(connection, "ROLLBACK");
    }
    if commit.is_ok() && written {
        shared.committed(notify);
    }
    for job in jobs {
        job.answer(commit.clone());
    }
    behind
}

fn in_savepoint(connection: &mut Connection, job: &mut dyn Job, shared: &Shared) -> rusqlite::Result<Ran> {
    step(connection, "SAVEPOINT job")?;
    if job.read_only() {
        connection.execute_batch("PRAGMA query_only = ON")?;
    }
    let ran = job.run(connection, shared);
    if job.read_only() {
        connection.execute_batch("PRAGMA query_only = OFF")?;
    }
    if !ran.keep {
        step(connection, "ROLLBACK TO job")?;
    }
    step(connection, "RELEASE job")?;
    Ok(ran)
}

/// A full disk is found before anything took effect; after any other failure only the file knows.
fn commit(connection: &Connection) -> Result<(), StoreError> {
    step(connection, "COMMIT").map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => error.into(),
        _ => StoreError::Unsure(Arc::new(error)),
    })
}

fn backup(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |source: Arc<dyn Error + Send + Sync>| StoreError::Backup {
        path: path.display().to_string(),
        source,
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|e| failed(Arc::new(e)))?;
    let text = path.to_str().ok_or(StoreError::Unsupported("the path of a backup has to be UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [text]).map_err(|e| failed(Arc::new(e)))?;
    file.sync_all().map_err(|e| failed(Arc::new(e)))
}
