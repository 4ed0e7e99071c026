//! PostgreSQL, in one schema, shared by replicas.
//!
//! Every transaction that writes first takes one advisory lock, so that transactions take effect one after another over
//! all replicas, as on SQLite. What failed before its commit for a reason that passes (lost connection, deadlock) is
//! run again; what failed in the commit itself is [`StoreError::Unsure`]. A replica that stops inside a transaction is
//! thrown out by the server after a few seconds. One session a replica listens for work and shows that it is there.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::stream::{self, StreamExt};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use tokio_util::sync::CancellationToken;

use super::crypt::Crypt;
use super::schema::Setup;
use super::sql::{Arg, Engine, Row, Tx, Value};
use super::{Shared, StoreError, Transaction};
use crate::clock::Clock;

/// How often a transaction is run before its error is told.
const TRIES: u32 = 4;
/// Pause before the second run; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause before the listening session is made again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
const LOCK: &str = "SELECT pg_advisory_xact_lock($1), (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
/// What is told apart from the site's own settings, for each session.
const SETTINGS: &str = "-c synchronous_commit=on -c statement_timeout=30s -c idle_in_transaction_session_timeout=5s \
    -c default_transaction_isolation=read\\ committed";

/// A session that listens, and what it hears.
type Listening = (Client, mpsc::UnboundedReceiver<String>);

/// Where and what a replica of the store is.
#[derive(Clone)]
struct Site {
    config: Config,
    schema: String,
    /// Advisory lock of the transactions.
    turn: i64,
    /// Advisory lock of being there: shared by replicas, exclusive for a key rotation.
    presence: i64,
    exclusive: bool,
    /// Tells this replica's notifications from those of others.
    replica: String,
}

pub(super) struct Postgres {
    pool: Pool,
    site: Site,
    engine_time: bool,
    shared: Arc<Shared>,
    /// Transactions of this process wait here, so that they hold no connection while they do.
    turn: Mutex<()>,
    listener: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.site.schema).finish_non_exhaustive()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Postgres {
    pub async fn open(
        url: &SecretString,
        schema: &str,
        pool: usize,
        engine_time: bool,
        mut setup: Setup,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Arc<Shared>), StoreError> {
        let site = Site::new(url, schema, setup.rotating)?;
        let listening = site.listen().await?;

        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(site.config.clone(), NoTls, manager))
            .max_size(pool.max(2))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(Duration::from_secs(30)))
            .build()
            .map_err(|e| site.failed(e))?;

        let fresh = Crypt::fresh(setup.key.as_ref());
        let mut client = pool.get().await?;
        let tx = client.transaction().await?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await?;
        tx.query_one(LOCK, &[&site.turn]).await?;
        if tx.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&site.schema]).await?.is_none() {
            tx.batch_execute(&format!("CREATE SCHEMA {}", site.schema)).await?;
        }
        let mut inner = Tx::new(Engine::Postgres(&tx), &fresh, clock.now());
        let out = setup.run(&mut inner).await;
        let (found, _) = inner.end(out)?;
        tx.commit().await?;
        drop(client);

        let shared = Shared::new(found.unwrap_or(fresh), clock);
        let stop = CancellationToken::new();
        let hearing = hear(site.clone(), listening, shared.clone(), stop.clone());
        let listener = Mutex::new(Some(tokio::spawn(hearing)));
        let engine =
            Self { pool, site, engine_time, shared: shared.clone(), turn: Mutex::new(()), listener, stop };
        Ok((engine, shared))
    }

    pub async fn run<T: Transaction>(&self, mut transaction: T) -> Result<T::Out, StoreError> {
        let _turn = self.turn.lock().await;
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.write_once(&mut transaction).await {
                Err(error) if passes(&error) => tokio::time::sleep(pause).await,
                done => return done,
            }
            pause *= 2;
        }
        self.write_once(&mut transaction).await
    }

    pub async fn read<T: Transaction>(&self, mut transaction: T) -> Result<T::Out, StoreError> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.read_once(&mut transaction).await {
                Err(error) if passes(&error) => tokio::time::sleep(pause).await,
                done => return done,
            }
            pause *= 2;
        }
        self.read_once(&mut transaction).await
    }

    /// Returns when the server knows that this replica has gone.
    pub async fn close(&self) {
        self.pool.close();
        self.stop.cancel();
        if let Some(listener) = self.listener.lock().await.take() {
            // It fails only by a panic, and then its session has ended too.
            let _ = listener.await;
        }
    }

    async fn write_once<T: Transaction>(&self, transaction: &mut T) -> Result<T::Out, StoreError> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let lock = tx.prepare_cached(LOCK).await?;
        let time = tx.query_one(&lock, &[&self.site.turn]).await?.try_get(1)?;

        let now = if self.engine_time { self.shared.clock.now() } else { time };
        let mut inner = Tx::new(Engine::Postgres(&tx), &self.shared.crypt, now);
        let out = transaction.run(&mut inner).await;
        let (out, notify) = inner.end(out)?;
        if notify {
            let tell = tx.prepare_cached("SELECT pg_notify($1, $2)").await?;
            tx.query(&tell, &[&self.site.schema, &self.site.replica]).await?;
        }
        tx.commit().await.map_err(|error| match error.code() {
            Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => error.into(),
            _ => StoreError::Unsure(Arc::new(error)),
        })?;
        self.shared.committed(notify);
        Ok(out)
    }

    async fn read_once<T: Transaction>(&self, transaction: &mut T) -> Result<T::Out, StoreError> {
        let mut client = self.pool.get().await?;
        let isolation = tokio_postgres::IsolationLevel::RepeatableRead;
        let tx = client.build_transaction().isolation_level(isolation).read_only(true).start().await?;
        let now = if self.engine_time {
            self.shared.clock.now()
        } else {
            let time = tx.prepare_cached(TIME).await?;
            tx.query_one(&time, &[]).await?.try_get(0)?
        };
        let mut inner = Tx::new(Engine::Postgres(&tx), &self.shared.crypt, now);
        let out = transaction.run(&mut inner).await;
        inner.end(out).map(|(out, _)| out)
    }
}

impl Site {
    fn new(url: &SecretString, schema: &str, exclusive: bool) -> Result<Self, StoreError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if schema.is_empty()
            || schema.len() > 63
            || !schema.chars().all(plain)
            || schema.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(StoreError::Unsupported(
                "the name of a PostgreSQL schema has to be of lower-case letters, digits and `_`, with a letter first",
            ));
        }
        let failed = |e| StoreError::Open { place: format!("schema {schema}"), source: Arc::new(e) };
        let mut config: Config = url.expose_secret().parse().map_err(failed)?;
        let options =
            format!("{} {SETTINGS} -c search_path={schema}", config.get_options().unwrap_or_default());
        config.options(options.trim()).application_name("cht-connector");
        config.keepalives_idle(Duration::from_secs(30));
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        let replica = uuid::Uuid::new_v4().simple().to_string();
        let [turn, presence] = ["turn", "presence"].map(|purpose| lock_key(schema, purpose));
        Ok(Self { config, schema: schema.to_owned(), turn, presence, exclusive, replica })
    }

    fn failed(&self, error: impl Error + Send + Sync + 'static) -> StoreError {
        StoreError::Open { place: format!("schema {}", self.schema), source: Arc::new(error) }
    }

    /// Makes the session that listens; without its client it ends.
    async fn listen(&self) -> Result<Listening, StoreError> {
        let (client, mut connection) =
            self.config.connect(NoTls).await.map_err(|e| StoreError::Unreachable(Arc::new(e)))?;
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(|context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(told) = message {
                    // Who listens has gone when the session is about to end.
                    let _ = sender.send(told.payload().to_owned());
                }
            }
        });
        client.batch_execute(&format!("LISTEN {}", self.schema)).await?;
        let there = if self.exclusive {
            "SELECT pg_try_advisory_lock($1)"
        } else {
            "SELECT pg_try_advisory_lock_shared($1)"
        };
        if client.query_one(there, &[&self.presence]).await?.try_get(0)? {
            Ok((client, heard))
        } else {
            Err(StoreError::InUse(format!("schema {}", self.schema)))
        }
    }
}

/// Wakes the replica for the notifications of others. Whenever the session had to be made again some may have been
/// missed.
async fn hear(site: Site, listening: Listening, shared: Arc<Shared>, stop: CancellationToken) {
    let (mut session, mut heard) = listening;
    let listen = async {
        loop {
            while let Some(replica) = heard.recv().await {
                if replica != site.replica {
                    shared.wake();
                }
            }
            loop {
                tokio::time::sleep(LISTEN_AGAIN).await;
                match site.listen().await {
                    Ok(again) => break (session, heard) = again,
                    Err(error) => {
                        tracing::warn!(%error, "the store's listening session is down, trying again")
                    }
                }
            }
            shared.wake();
        }
    };
    stop.run_until_cancelled(listen).await;
    if let Err(error) = session.batch_execute("SELECT pg_advisory_unlock_all()").await {
        tracing::debug!(%error, "the store's listening session was down at the end");
    }
}

fn lock_key(schema: &str, purpose: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(format!("cht-connector {purpose} {schema}")).into();
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// Whether the transaction certainly took no effect and may do better in a while.
fn passes(error: &StoreError) -> bool {
    match error {
        StoreError::Unreachable(_) => true,
        StoreError::Postgres(error) => match error.code() {
            Some(code) => {
                code.code().starts_with("08")
                    || [
                        SqlState::T_R_SERIALIZATION_FAILURE,
                        SqlState::T_R_DEADLOCK_DETECTED,
                        SqlState::ADMIN_SHUTDOWN,
                        SqlState::CRASH_SHUTDOWN,
                        SqlState::CANNOT_CONNECT_NOW,
                        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                        SqlState::TOO_MANY_CONNECTIONS,
                    ]
                    .contains(code)
            }
            None => error.is_closed() || error.source().is_some_and(<dyn Error>::is::<std::io::Error>),
        },
        _ => false,
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Closed => StoreError::Closed,
            PoolError::Backend(error) if error.code().is_some() => error.into(),
            error => StoreError::Unreachable(Arc::new(error)),
        }
    }
}

pub(super) async fn exec(
    tx: &deadpool_postgres::Transaction<'_>,
    sql: &str,
    args: &[Arg<'_>],
) -> Result<u64, StoreError> {
    let statement = tx.prepare_typed_cached(sql, &types(args)).await?;
    Ok(tx.execute_raw(&statement, args.iter().map(|arg| arg as &(dyn ToSql + Sync))).await?)
}

pub(super) async fn rows(
    tx: &deadpool_postgres::Transaction<'_>,
    sql: &str,
    args: &[Arg<'_>],
) -> Result<Vec<Row>, StoreError> {
    let statement = tx.prepare_typed_cached(sql, &types(args)).await?;
    let args: Vec<&(dyn ToSql + Sync)> = args.iter().map(|arg| arg as &(dyn ToSql + Sync)).collect();
    let rows = tx.query(&statement, &args).await?;
    rows.iter()
        .map(|row| Ok(Row((0..row.len()).map(|i| row.try_get(i)).collect::<Result<_, _>>()?)))
        .collect()
}

/// Said, not guessed by the server: `?1 + 1` would make a four-byte number of the parameter.
fn types(args: &[Arg<'_>]) -> Vec<Type> {
    let named = |arg: &Arg<'_>| match arg {
        Arg::Int(_) => Type::INT8,
        Arg::Blob(_) | Arg::Key(_) => Type::BYTEA,
        Arg::Text(_) => Type::TEXT,
        Arg::Null => Type::UNKNOWN,
    };
    args.iter().map(named).collect()
}

impl ToSql for Arg<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Arg::Int(v) => v.to_sql(ty, out),
            Arg::Blob(v) => v.to_sql(ty, out),
            Arg::Key(v) => v.as_slice().to_sql(ty, out),
            Arg::Text(v) => v.to_sql(ty, out),
            Arg::Null => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            Type::INT8 => Value::Int(FromSql::from_sql(ty, raw)?),
            Type::INT4 => Value::Int(i32::from_sql(ty, raw)?.into()),
            Type::BOOL => Value::Int(bool::from_sql(ty, raw)?.into()),
            Type::BYTEA => Value::Blob(FromSql::from_sql(ty, raw)?),
            Type::TEXT => Value::Text(FromSql::from_sql(ty, raw)?),
            _ => return Err(format!("the store reads no {ty}; cast it").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Value::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
