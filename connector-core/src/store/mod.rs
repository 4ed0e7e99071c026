//! The durable store: every transaction of the core, on SQLite (file or memory) and PostgreSQL.
//!
//! A transaction is written once, as a [`Transaction`] in portable SQL. [`Store::run`] returns only after its commit
//! is durable; transactions take effect one after another, over all replicas too, so that none needs locks of its own.
//! Heavy work (planning, HTTP) stays outside.

mod crypt;
mod postgres;
mod rotate;
mod schema;
mod sql;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::clock::Clock;

pub use crypt::{Crypt, CryptError, StoreKey, make_key_file};
pub(crate) use sql::args;
pub use sql::{Arg, Row, Tx};

/// A durable transaction of the core.
#[async_trait]
pub trait Transaction: Send + 'static {
    /// What it gives.
    type Out: Send + 'static;
    /// Its name in metrics.
    const NAME: &'static str;

    /// Reads and writes through `tx` and waits for nothing else. An error rolls everything back. May be run again from
    /// the start, when the first run certainly took no effect.
    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError>;
}

/// Where a store is and what opens it.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where.
    pub place: Place,
    /// The site's key; without one nothing is encrypted.
    pub key: Option<StoreKey>,
}

/// Where a store is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In memory, gone with the process.
    Memory,
    /// In one SQLite file, for one process.
    Sqlite {
        /// The file; made if it is not there.
        path: PathBuf,
    },
    /// In a schema of a PostgreSQL database, shared by replicas.
    Postgres {
        /// `postgres://user:password@host/database`.
        url: SecretString,
        /// The schema; made if it is not there.
        schema: String,
        /// Most connections.
        pool: usize,
        /// Time by the clock of the engine instead of the database's: for simulations.
        engine_time: bool,
    },
}

/// What went wrong in the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be opened.
    #[error("the store {place} cannot be opened: {source}")]
    Open {
        /// The file, or the schema.
        place: String,
        /// Why.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has it.
    #[error("the store {0} is in use by another process: stop that one first")]
    InUse(String),
    /// A newer release made it.
    #[error(
        "the store has format {found}, this release knows formats up to {known}: use the release that wrote it, or a newer one"
    )]
    Newer {
        /// Format of the store.
        found: usize,
        /// Newest format known.
        known: usize,
    },
    /// A release too old made it.
    #[error(
        "the store has format {found}, this release reads formats from {known} on: open it once with a release between"
    )]
    Older {
        /// Format of the store.
        found: usize,
        /// Oldest format known.
        known: usize,
    },
    /// The key does not fit, or a value cannot be opened.
    #[error(transparent)]
    Crypt(#[from] CryptError),
    /// SQLite refused.
    #[error("SQLite: {0}")]
    Sqlite(#[source] Arc<rusqlite::Error>),
    /// PostgreSQL refused.
    #[error("PostgreSQL: {0}")]
    Postgres(#[source] Arc<tokio_postgres::Error>),
    /// PostgreSQL cannot be reached.
    #[error("PostgreSQL cannot be reached: {0}")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A query gave something else than its reader expects.
    #[error("column {index} of a query: expected {wanted}, found {found}")]
    Column {
        /// From 0.
        index: usize,
        /// Expected.
        wanted: &'static str,
        /// Found.
        found: &'static str,
    },
    /// What is stored contradicts itself.
    #[error("the store is damaged: {0}; restore a backup")]
    Damaged(&'static str),
    /// A transaction waited for something else than the store.
    #[error("transaction {0} waits for something outside the store")]
    Waits(&'static str),
    /// The commit failed in a way that leaves open whether it took effect.
    #[error("whether the last commit took effect is not known: {0}")]
    Unsure(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A backup cannot be written.
    #[error("the backup {path} cannot be written: {source}")]
    Backup {
        /// The file.
        path: String,
        /// Why.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store is not of a kind that can do this.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Sqlite(Arc::new(error))
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        StoreError::Postgres(Arc::new(error))
    }
}

/// What the engines share with the front.
#[derive(Debug)]
struct Shared {
    crypt: Crypt,
    clock: Arc<dyn Clock>,
    commits: AtomicU64,
    work: watch::Sender<u64>,
}

impl Shared {
    fn new(crypt: Crypt, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { crypt, clock, commits: AtomicU64::new(0), work: watch::Sender::new(0) })
    }

    fn committed(&self, notify: bool) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        if notify {
            self.wake();
        }
    }

    fn wake(&self) {
        self.work.send_modify(|n| *n += 1);
    }
}

#[derive(Clone, Debug)]
enum Engine {
    Sqlite(sqlite::Sqlite),
    Postgres(Arc<postgres::Postgres>),
}

/// An open store; clones are the same store.
#[derive(Debug)]
pub struct Store {
    engine: Engine,
    shared: Arc<Shared>,
    woken: AtomicU64,
}

impl Clone for Store {
    fn clone(&self) -> Self {
        let woken = AtomicU64::new(self.woken.load(Ordering::SeqCst));
        Self { engine: self.engine.clone(), shared: self.shared.clone(), woken }
    }
}

impl Store {
    /// Opens a store, makes it if it is not there, and brings an older format up.
    pub async fn open(options: &StoreOptions, clock: Arc<dyn Clock>) -> Result<Store, StoreError> {
        Self::open_for(options, clock, false).await
    }

    async fn open_for(
        options: &StoreOptions,
        clock: Arc<dyn Clock>,
        rotating: bool,
    ) -> Result<Store, StoreError> {
        let setup = schema::Setup { key: options.key.clone(), rotating };
        let (engine, shared) = match &options.place {
            Place::Memory => {
                sqlite::Sqlite::open(None, setup, clock).await.map(|(e, s)| (Engine::Sqlite(e), s))?
            }
            Place::Sqlite { path } => sqlite::Sqlite::open(Some(path.clone()), setup, clock)
                .await
                .map(|(e, s)| (Engine::Sqlite(e), s))?,
            Place::Postgres { url, schema, pool, engine_time } => {
                let opened = postgres::Postgres::open(url, schema, *pool, *engine_time, setup, clock).await?;
                (Engine::Postgres(Arc::new(opened.0)), opened.1)
            }
        };
        Ok(Store { engine, shared, woken: AtomicU64::new(0) })
    }

    /// Runs a transaction; returns after its commit is durable.
    pub async fn run<T: Transaction>(&self, transaction: T) -> Result<T::Out, StoreError> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.run(transaction).await,
            Engine::Postgres(engine) => engine.run(transaction).await,
        }
    }

    /// Runs a transaction that only reads, on one state of the store, without holding up those that write.
    pub async fn read<T: Transaction>(&self, transaction: T) -> Result<T::Out, StoreError> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(transaction).await,
            Engine::Postgres(engine) => engine.read(transaction).await,
        }
    }

    /// Seals, opens and digests.
    pub fn crypt(&self) -> &Crypt {
        &self.shared.crypt
    }

    /// Returns when a transaction that called [`Tx::notify`] was committed, here or by another replica, after this
    /// clone of the store last returned from here (or was cloned). So a loop that looks for work and then waits misses
    /// nothing, if it keeps a clone of its own.
    pub async fn wait_for_work(&self) {
        let mut work = self.shared.work.subscribe();
        let seen = self.woken.load(Ordering::SeqCst);
        if let Ok(now) = work.wait_for(|n| *n != seen).await {
            self.woken.store(*now, Ordering::SeqCst);
        }
    }

    /// How many durable commits this process has made.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Writes a copy of the store, as it is at one moment, to a new file; values stay sealed. For SQLite; PostgreSQL
    /// has `pg_dump`.
    pub async fn backup(&self, path: &Path) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.backup(path.to_owned()).await,
            Engine::Postgres(_) => {
                Err(StoreError::Unsupported("a PostgreSQL store is backed up with pg_dump"))
            }
        }
    }

    /// Ends what is under way and lets go of the file or the connections; all clones are closed.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite(engine) => engine.close().await,
            Engine::Postgres(engine) => engine.close().await,
        }
    }
}
