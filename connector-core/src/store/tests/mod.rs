//! What every store does, on each engine.

mod rotation;

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::clock::ManualClock;

/// A transaction written where it is used.
struct Do<F>(F);

/// What a transaction written as a closure gives.
type Doing<'t, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 't>>;

#[async_trait]
impl<F, T> Transaction for Do<F>
where
    F: for<'t> FnMut(&'t mut Tx<'_>) -> Doing<'t, T> + Send + 'static,
    T: Send + 'static,
{
    type Out = T;
    const NAME: &'static str = "test";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<T, StoreError> {
        (self.0)(tx).await
    }
}

fn doing<F, T>(f: F) -> Do<F>
where
    F: for<'t> FnMut(&'t mut Tx<'_>) -> Doing<'t, T> + Send + 'static,
{
    Do(f)
}

fn add(n: i64) -> impl Transaction<Out = i64> {
    doing(move |tx| {
        Box::pin(async move {
            let sql = "INSERT INTO counter(name, n) VALUES ('a', ?1)
                ON CONFLICT (name) DO UPDATE SET n = counter.n + excluded.n RETURNING n";
            tx.row(sql, &args![n]).await?.ok_or(StoreError::Closed)?.int(0)
        })
    })
}

fn sum() -> impl Transaction<Out = i64> {
    doing(|tx| {
        Box::pin(async move {
            let row = tx.row("SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM counter", &[]).await?;
            row.ok_or(StoreError::Closed)?.int(0)
        })
    })
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(1_000))
}

fn memory() -> StoreOptions {
    StoreOptions { place: Place::Memory, key: Some(StoreKey::random()) }
}

fn file(dir: &tempfile::TempDir, key: Option<&StoreKey>) -> StoreOptions {
    StoreOptions { place: Place::Sqlite { path: dir.path().join("store.db") }, key: key.cloned() }
}

/// A schema of its own on the PostgreSQL server named in the environment.
fn postgres() -> Option<StoreOptions> {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    let Ok(url) = std::env::var("TEST_POSTGRES_URL") else {
        println!("skipped: TEST_POSTGRES_URL is not set");
        return None;
    };
    let schema = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
    let place = Place::Postgres { url: url.into(), schema, pool: 4, engine_time: true };
    Some(StoreOptions { place, key: Some(StoreKey::random()) })
}

async fn store_basics(options: StoreOptions) {
    let store = Store::open(&options, clock()).await.unwrap();

    assert_eq!(store.run(add(2)).await.unwrap(), 2);
    assert_eq!(store.run(add(3)).await.unwrap(), 5);
    assert_eq!(store.read(sum()).await.unwrap(), 5);
    assert_eq!(store.commits(), 2);

    // An error takes back all of its own transaction and nothing of others.
    let failing = doing(|tx| {
        Box::pin(async move {
            tx.exec("UPDATE counter SET n = 100 WHERE name = ?1", &args!["a"]).await?;
            Err::<(), _>(StoreError::Unsupported("wanted"))
        })
    });
    let (failed, good) = tokio::join!(store.run(failing), store.run(add(1)));
    assert!(matches!(failed, Err(StoreError::Unsupported("wanted"))));
    assert_eq!(good.unwrap(), 6);

    // A failed statement cannot be passed over.
    let careless = doing(|tx| {
        Box::pin(async move {
            tx.exec("UPDATE counter SET n = 100", &[]).await?;
            let _ = tx.exec("INSERT INTO tick(one, n) VALUES (1, 1)", &[]).await;
            Ok(())
        })
    });
    store.run(careless).await.unwrap_err();
    assert_eq!(store.read(sum()).await.unwrap(), 6);

    // Reading does not write.
    store.read(add(1)).await.unwrap_err();
    assert_eq!(store.read(sum()).await.unwrap(), 6);

    // All kinds of values come back as they went in; a wrong getter is an error.
    let key = store.crypt().digest(&[b"a", b"b"]);
    let values = doing(move |tx| {
        Box::pin(async move {
            let sql = "INSERT INTO seen(record, system, digest, read_at, feed, pass, id)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            tx.exec(sql, &args![key, "cht", &vec![0_u8, 255], i64::MAX, None::<i64>, true, None::<&[u8]>])
                .await?;
            let found = tx.row("SELECT * FROM seen WHERE record = ?1 AND pass = ?2", &args![&key, 1]).await?;
            let found = found.ok_or(StoreError::Closed)?;
            assert_eq!((found.key(0)?, found.text(1)?, found.blob(2)?), (key, "cht", &[0_u8, 255][..]));
            assert_eq!((found.int(3)?, found.opt_int(4)?, found.flag(5)?), (i64::MAX, None, true));
            assert_eq!(
                (found.opt_blob(6)?, found.opt_key(0)?, found.opt_text(1)?),
                (None, Some(key), Some("cht"))
            );
            for wrong in [found.int(0).err(), found.text(3).err(), found.key(2).err(), found.int(9).err()] {
                assert!(matches!(wrong, Some(StoreError::Column { .. })));
            }
            assert_eq!(tx.exec("DELETE FROM seen WHERE record = ?1", &args![key]).await?, 1);
            assert_eq!(tx.row("SELECT 1 FROM seen", &[]).await?.map(|_| ()), None);
            assert!(
                tx.row("SELECT EXISTS (SELECT 1 FROM tick)", &[])
                    .await?
                    .ok_or(StoreError::Closed)?
                    .flag(0)?
            );
            assert_eq!(tx.now(), 1_000);
            Ok(())
        })
    });
    store.run(values).await.unwrap();

    // One number a transaction that asks, higher in each.
    let tick = || {
        doing(|tx| {
            Box::pin(async move {
                let first = tx.tick().await?;
                assert_eq!(tx.tick().await?, first);
                Ok(first)
            })
        })
    };
    let first = store.run(tick()).await.unwrap();
    assert_eq!(store.run(tick()).await.unwrap(), first + 1);

    // Many at once: none is lost, each sees those before.
    let before = store.commits();
    let all = (0..200).map(|_| store.run(add(1)));
    let mut seen: Vec<i64> =
        futures_util::future::join_all(all).await.into_iter().map(|n| n.unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (7..207).collect::<Vec<_>>());
    assert!(store.commits() > before);

    store.close().await;
    assert!(matches!(store.run(add(1)).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn basics_in_memory() {
    store_basics(memory()).await;
}

#[tokio::test]
async fn basics_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    store_basics(file(&dir, Some(&StoreKey::random()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn basics_on_postgres() {
    let Some(options) = postgres() else { return };
    store_basics(options).await;
}

#[tokio::test]
async fn a_waiter_misses_nothing_and_is_not_woken_for_nothing() {
    let store = Store::open(&memory(), clock()).await.unwrap();
    let telling = || {
        doing(|tx| {
            Box::pin(async move {
                tx.notify();
                Ok(())
            })
        })
    };
    let (one, two) = (store.clone(), store.clone());
    store.run(telling()).await.unwrap();
    one.wait_for_work().await;
    two.wait_for_work().await;
    assert!(futures_util::FutureExt::now_or_never(one.wait_for_work()).is_none());
    store.run(add(1)).await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(one.wait_for_work()).is_none());
    let (_, told) = tokio::join!(one.wait_for_work(), store.run(telling()));
    told.unwrap();
}

#[tokio::test]
async fn waiting_inside_a_transaction_is_an_error() {
    let store = Store::open(&memory(), clock()).await.unwrap();
    let waiting = doing(|tx| {
        Box::pin(async move {
            tx.exec("INSERT INTO counter(name, n) VALUES ('w', 1)", &[]).await?;
            std::future::pending::<()>().await;
            Ok(())
        })
    });
    assert!(matches!(store.run(waiting).await, Err(StoreError::Waits("test"))));
    assert_eq!(store.read(sum()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_group_is_one_commit() {
    let store = Store::open(&memory(), clock()).await.unwrap();
    // The first one holds the thread until the others stand in line.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let holding = doing(move |_| {
        gate.lock().unwrap().recv().unwrap();
        Box::pin(async { Ok(()) })
    });
    let mut held = Box::pin(store.run(holding));
    assert!(futures_util::poll!(&mut held).is_pending());
    let mut rest: Vec<_> = (0..50).map(|_| Box::pin(store.run(add(1)))).collect();
    for one in &mut rest {
        assert!(futures_util::poll!(one).is_pending());
    }
    open.send(()).unwrap();
    for one in rest {
        one.await.unwrap();
    }
    held.await.unwrap();
    assert_eq!(store.commits(), 1);
}

#[tokio::test]
async fn a_file_is_for_one_process_and_keeps_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let key = StoreKey::random();
    let store = Store::open(&file(&dir, Some(&key)), clock()).await.unwrap();
    store.run(add(7)).await.unwrap();
    let digest = store.crypt().digest(&[b"x"]);
    assert!(matches!(Store::open(&file(&dir, Some(&key)), clock()).await, Err(StoreError::InUse(_))));
    store.close().await;

    let store = Store::open(&file(&dir, Some(&key)), clock()).await.unwrap();
    assert_eq!(store.read(sum()).await.unwrap(), 7);
    assert_eq!(store.crypt().digest(&[b"x"]), digest);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join("store.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    store.close().await;
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let key = StoreKey::random();
    Store::open(&file(&dir, Some(&key)), clock()).await.unwrap().close().await;
    let wrong = Store::open(&file(&dir, Some(&StoreKey::random())), clock()).await;
    assert!(matches!(wrong, Err(StoreError::Crypt(CryptError::WrongKey))));
    let none = Store::open(&file(&dir, None), clock()).await;
    assert!(matches!(none, Err(StoreError::Crypt(CryptError::NoKey))));

    let open = tempfile::tempdir().unwrap();
    Store::open(&file(&open, None), clock()).await.unwrap().close().await;
    let given = Store::open(&file(&open, Some(&key)), clock()).await;
    assert!(matches!(given, Err(StoreError::Crypt(CryptError::NotEncrypted))));
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let key = StoreKey::random();
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("store.db");
    let store = Store::open(&file(&dir, Some(&key)), clock()).await.unwrap();
    store.run(add(4)).await.unwrap();
    store.backup(&path).await.unwrap();
    assert!(matches!(store.backup(&path).await, Err(StoreError::Backup { .. })));
    store.run(add(4)).await.unwrap();
    store.close().await;
    let store = Store::open(&file(&copy, Some(&key)), clock()).await.unwrap();
    assert_eq!(store.read(sum()).await.unwrap(), 4);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_take_turns_and_wake_each_other() {
    let Some(options) = postgres() else { return };
    let one = Store::open(&options, clock()).await.unwrap();
    let two = Store::open(&options, clock()).await.unwrap();
    assert_eq!(one.crypt().digest(&[b"x"]), two.crypt().digest(&[b"x"]));

    // Reads, then writes what it read: two at a time would lose some.
    let add = || {
        doing(|tx| {
            Box::pin(async move {
                let n = tx.row("SELECT n FROM tick", &[]).await?.ok_or(StoreError::Closed)?.int(0)? + 1;
                tx.exec("UPDATE tick SET n = ?1", &args![n]).await?;
                Ok(n)
            })
        })
    };
    let all = (0..100).map(|n| if n % 2 == 0 { one.run(add()) } else { two.run(add()) });
    let mut seen: Vec<i64> =
        futures_util::future::join_all(all).await.into_iter().map(|n| n.unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=100).collect::<Vec<_>>());

    let telling = doing(|tx| {
        Box::pin(async move {
            tx.notify();
            Ok(())
        })
    });
    let (_, told) = tokio::join!(two.wait_for_work(), one.run(telling));
    told.unwrap();
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_before_the_commit_is_no_error() {
    let Some(options) = postgres() else { return };
    let store = Store::open(&options, clock()).await.unwrap();
    let mut runs = 0;
    let cut = doing(move |tx| {
        runs += 1;
        let runs = runs;
        Box::pin(async move {
            tx.exec("INSERT INTO counter(name, n) VALUES ('cut', 1)", &[]).await?;
            if runs == 1 {
                tx.exec("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await?;
            }
            Ok(runs)
        })
    });
    assert_eq!(store.run(cut).await.unwrap(), 2);
    assert_eq!(store.read(sum()).await.unwrap(), 1);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_tells_the_time_to_replicas() {
    let Some(mut options) = postgres() else { return };
    if let Place::Postgres { engine_time, .. } = &mut options.place {
        *engine_time = false;
    }
    let store = Store::open(&options, clock()).await.unwrap();
    let now = || doing(|tx| Box::pin(async move { Ok(tx.now()) }));
    let first = store.run(now()).await.unwrap();
    assert!(first > 1_700_000_000_000);
    assert!(store.read(now()).await.unwrap() >= first);
    store.close().await;
}

#[tokio::test]
async fn a_postgres_that_is_not_there_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgres://nobody:secret@127.0.0.1:{port}/none");
    let place = Place::Postgres { url: url.into(), schema: "s".to_owned(), pool: 2, engine_time: false };
    let error = Store::open(&StoreOptions { place, key: None }, clock()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)));
    assert!(!error.to_string().contains("secret"));
}
