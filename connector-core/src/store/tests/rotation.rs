//! A key rotation seals every value anew, also one that was interrupted.

use super::super::schema::SEALED;
use super::super::sql;
use super::*;

/// A sealed value in every column that holds some, and a digest.
fn fill() -> impl Transaction<Out = ()> {
    doing(|tx| {
        Box::pin(async move {
            let crypt = tx.crypt();
            let seal = |column, n: i64| crypt.seal(column, format!("{column} {n}").as_bytes());
            let made: Vec<_> =
                (0..600).map(|n| (n, SEALED.iter().map(|s| seal(s.column, n)).collect::<Vec<_>>())).collect();
            for (n, sealed) in &made {
                let [
                    position,
                    seen,
                    refresh,
                    change,
                    command,
                    notes,
                    link,
                    evidence,
                    conflict,
                    unreadable,
                    body,
                ] = &sealed[..]
                else {
                    panic!("a new sealed column: add it to this test");
                };
                let key = tx.crypt().digest(&[&n.to_le_bytes()]);
                let feed = format!("feed {n}");
                tx.exec(
                    "INSERT INTO cursor(feed, position, pass, due, moved, began) VALUES (?1, ?2, 0, 0, 0, 0)",
                    &args![&feed, position],
                )
                .await?;
                tx.exec(
                    "INSERT INTO seen(record, system, digest, read_at, id) VALUES (?1, 'a', ?1, 0, ?2)",
                    &args![key, seen],
                )
                .await?;
                tx.exec(
                    "INSERT INTO refresh(record, system, id, asked) VALUES (?1, 'a', ?2, 0)",
                    &args![key, refresh],
                )
                .await?;
                let sql = "INSERT INTO outbox(seq, target, destination, flow, source, subject, person, lane, names, state, head,
                    plan, creates, maybe, attempt, read_at, not_before, share, config, created, tries, change, command, notes)
                    VALUES (?1, 'a', 'a', 'a', ?2, ?2, ?2, ?2, ?2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ?3, ?4, ?5)";
                let command = (n % 2 == 0).then_some(command);
                tx.exec(sql, &args![*n, key, change, command, notes]).await?;
                let sql = "INSERT INTO link(record, person, system, id, rule, state, at) VALUES (?1, ?1, 'a', ?2, 'a', 'a', 0)";
                tx.exec(sql, &args![key, link]).await?;
                tx.exec(
                    "INSERT INTO review(id, kind, evidence, opened) VALUES (?1, 'a', ?2, 0)",
                    &args![*n, evidence],
                )
                .await?;
                let sql = "INSERT INTO conflict(id, at, record, field, body) VALUES (?1, 0, ?2, 'a', ?3)";
                tx.exec(sql, &args![*n, key, conflict]).await?;
                let sql = "INSERT INTO unreadable(record, system, id, reason, at, body) VALUES (?1, 'a', ?2, 'a', 0, ?3)";
                tx.exec(sql, &args![key, unreadable, body]).await?;
            }
            Ok(())
        })
    })
}

/// How many sealed values there are, each opened and compared.
fn opened() -> impl Transaction<Out = usize> {
    doing(|tx| {
        Box::pin(async move {
            let mut count = 0;
            for sealed in SEALED {
                let mut after = sql::Value::of(sealed.first);
                loop {
                    let rows = tx.rows(sealed.page, &[after.as_arg()]).await?;
                    let Some(last) = rows.last() else { break };
                    after = last.value(0)?.clone();
                    for row in &rows {
                        let plain = tx.crypt().open(sealed.column, row.blob(1)?)?;
                        assert!(plain.starts_with(sealed.column.as_bytes()));
                        count += 1;
                    }
                }
            }
            Ok(count)
        })
    })
}

const VALUES: usize = 600 * 10 + 300;

async fn rotation(options: StoreOptions) {
    let with = |key: Option<&StoreKey>| StoreOptions { place: options.place.clone(), key: key.cloned() };
    let (old, new) = (options.key.as_ref(), StoreKey::random());
    let store = Store::open(&options, clock()).await.unwrap();
    store.run(fill()).await.unwrap();
    let digest = store.crypt().digest(&[b"x"]);

    let busy = Store::rotate(&options.place, old, Some(&new), clock(), |_| {}).await;
    assert!(matches!(busy, Err(StoreError::InUse(_))), "{busy:?}");
    store.close().await;

    let mut told = 0;
    Store::rotate(&options.place, old, Some(&new), clock(), |n| told = n).await.unwrap();
    assert_eq!(told, VALUES as u64);
    assert!(matches!(Store::open(&options, clock()).await, Err(StoreError::Crypt(CryptError::WrongKey))));
    let store = Store::open(&with(Some(&new)), clock()).await.unwrap();
    assert_eq!(store.read(opened()).await.unwrap(), VALUES);
    assert_eq!(store.crypt().digest(&[b"x"]), digest);
    store.close().await;

    // Interrupted half way, it opens with neither key and is ended by running it again.
    let stopped =
        std::panic::AssertUnwindSafe(Store::rotate(&options.place, Some(&new), None, clock(), |n| {
            assert!(n < 1_000, "stopped on purpose");
        }));
    futures_util::FutureExt::catch_unwind(stopped).await.unwrap_err();
    loop {
        match Store::open(&with(Some(&new)), clock()).await {
            Err(StoreError::InUse(_)) => tokio::task::yield_now().await,
            half => {
                assert!(matches!(half, Err(StoreError::Crypt(CryptError::HalfRotated))), "{half:?}");
                break;
            }
        }
    }
    assert!(Store::open(&with(None), clock()).await.is_err());
    Store::rotate(&options.place, Some(&new), None, clock(), |_| {}).await.unwrap();
    let store = Store::open(&with(None), clock()).await.unwrap();
    assert_eq!(store.read(opened()).await.unwrap(), VALUES);
    assert_eq!(store.crypt().digest(&[b"x"]), digest);
    store.close().await;
}

#[tokio::test]
async fn a_key_rotation_seals_every_value_anew() {
    let dir = tempfile::tempdir().unwrap();
    rotation(file(&dir, Some(&StoreKey::random()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rotation_on_postgres() {
    let Some(options) = postgres() else { return };
    rotation(options).await;
}
