//! A new key for a store that nobody uses: every sealed value is sealed anew.
//!
//! Done in pieces, each durable; one that was interrupted is ended by running it again with the same keys, and until
//! then the store does not open. Digests stay.

use std::sync::Arc;

use async_trait::async_trait;

use super::crypt::{Crypt, CryptError, StoreKey};
use super::schema::{SEALED, Sealed, meta, put_meta};
use super::sql::{Arg, Tx, Value};
use super::{Place, Store, StoreError, StoreOptions, Transaction, args};
use crate::clock::Clock;

impl Store {
    /// Gives the store at `place` the key `new` instead of `old` (`None`: not encrypted); `told` hears how many values
    /// were gone through so far. The store must not be in use.
    pub async fn rotate(
        place: &Place,
        old: Option<&StoreKey>,
        new: Option<&StoreKey>,
        clock: Arc<dyn Clock>,
        mut told: impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let options = StoreOptions { place: place.clone(), key: old.cloned() };
        let store = Self::open_for(&options, clock, true).await?;
        let done = store.seal_anew(new, &mut told).await;
        store.close().await;
        done
    }

    async fn seal_anew(&self, new: Option<&StoreKey>, told: &mut impl FnMut(u64)) -> Result<(), StoreError> {
        let next = Arc::new(self.run(Begin(new.cloned())).await?);
        let mut gone_through = 0;
        for column in SEALED {
            let mut after = Value::of(column.first);
            while let Some((last, count)) = self.run(Piece { column, after, next: next.clone() }).await? {
                gone_through += count;
                told(gone_through);
                after = last;
            }
        }
        self.run(End).await
    }
}

struct Begin(Option<StoreKey>);

#[async_trait]
impl Transaction for Begin {
    type Out = Crypt;
    const NAME: &'static str = "rotation-begin";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Crypt, StoreError> {
        if let Some(sealed) = meta(tx, "digest-key-next").await? {
            return Ok(Crypt::unlock(self.0.as_ref(), &sealed)?);
        }
        let next = tx.crypt().successor(self.0.as_ref());
        put_meta(tx, "digest-key-next", &next.locked()).await?;
        Ok(next)
    }
}

struct Piece {
    column: &'static Sealed,
    after: Value,
    next: Arc<Crypt>,
}

#[async_trait]
impl Transaction for Piece {
    /// The last key and how many rows there were; nothing at the end.
    type Out = Option<(Value, u64)>;
    const NAME: &'static str = "rotation-piece";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let rows = tx.rows(self.column.page, &[self.after.as_arg()]).await?;
        let mut last = None;
        for row in &rows {
            let (key, sealed) = (row.value(0)?, row.blob(1)?);
            if !self.next.made(sealed) {
                let plain = tx.crypt().open(self.column.column, sealed)?;
                let sealed = self.next.seal(self.column.column, &plain);
                tx.exec(self.column.put, &[Arg::Blob(&sealed), key.as_arg()]).await?;
            }
            last = Some(key.clone());
        }
        Ok(last.map(|last| (last, rows.len() as u64)))
    }
}

struct End;

#[async_trait]
impl Transaction for End {
    type Out = ();
    const NAME: &'static str = "rotation-end";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let sealed = meta(tx, "digest-key-next").await?.ok_or(CryptError::HalfRotated)?;
        put_meta(tx, "digest-key", &sealed).await?;
        tx.exec("DELETE FROM meta WHERE name = ?1", &args!["digest-key-next"]).await.map(drop)
    }
}
