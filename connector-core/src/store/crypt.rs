//! Values at rest: sealed under the site's key, and digests that tell nothing without the store.
//!
//! A sealed value is `key id (1 byte) | nonce (24) | XChaCha20-Poly1305`, bound to the column it was made for; with
//! encryption switched off it is `0 | value`. Digests are HMAC-SHA-256 under a key of the store's own, cut to 16 bytes:
//! a plain hash of a name is the name. The digest key is made with the store and kept in it under the site's key, so
//! that a new site key leaves all digests as they are.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, AeadInPlace, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use rand::RngCore;
use secrecy::{ExposeSecret, SecretBox};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

use super::schema::SEALED;

/// Key id of values that are not encrypted.
pub(super) const PLAIN: u8 = 0;
/// What the digest key is sealed for.
pub(super) const DIGEST_KEY: &str = "meta.digest-key";
const NONCE: usize = 24;
const TAG: usize = 16;

/// Why a key or a sealed value cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CryptError {
    /// The value was sealed under another key, for another column, or was changed.
    #[error("a stored value of {0} cannot be opened: it was sealed under another key, or was changed")]
    Sealed(String),
    /// What was sealed is not what the reader expects.
    #[error("a stored value of {column} cannot be read at line {line}, column {at}")]
    Json {
        /// The column.
        column: String,
        /// Line of the JSON text.
        line: usize,
        /// Place in that line.
        at: usize,
    },
    /// The store is encrypted and no key was given.
    #[error("the store is encrypted: give the key file it was made with")]
    NoKey,
    /// The store is not encrypted and a key was given.
    #[error(
        "the store is not encrypted, but a key is configured: bring the key in by a key rotation, or say `encryption: off`"
    )]
    NotEncrypted,
    /// The key is not the one the store was made with.
    #[error("the key is not the one that this store is encrypted with: give that one")]
    WrongKey,
    /// A key change was begun and not ended.
    #[error("a key rotation was begun and not ended: run it again with the same old and new key")]
    HalfRotated,
    /// Not a key.
    #[error("{0}: not a key; expected 64 hexadecimal digits")]
    NotAKey(String),
    /// The key file cannot be read or made.
    #[error("key file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: Arc<std::io::Error>,
    },
}

/// The site's key: 32 random bytes, never shown.
#[derive(Clone)]
pub struct StoreKey(Arc<SecretBox<[u8; 32]>>);

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(***)")
    }
}

impl StoreKey {
    /// A new random key.
    pub fn random() -> Self {
        Self(Arc::new(SecretBox::init_with_mut(|key: &mut [u8; 32]| rand::rng().fill_bytes(key))))
    }

    /// From 64 hexadecimal digits; `place` says in an error where they stood.
    pub fn from_hex(text: &str, place: &str) -> Result<Self, CryptError> {
        let bad = || CryptError::NotAKey(place.to_owned());
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .map(|c| c.to_digit(16))
            .map(|d| d.and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or_else(bad)?;
        let bytes: Vec<u8> =
            digits.chunks_exact(2).filter_map(|pair| Some(pair.first()? << 4 | pair.last()?)).collect();
        let key: [u8; 32] =
            if digits.len() == 64 { bytes.try_into().map_err(|_| bad())? } else { return Err(bad()) };
        Ok(Self(Arc::new(SecretBox::new(Box::new(key)))))
    }

    /// From a file made by [`make_key_file`].
    pub fn from_file(path: &Path) -> Result<Self, CryptError> {
        let text = std::fs::read_to_string(path).map_err(|source| file_error(path, source))?;
        Self::from_hex(&text, &path.display().to_string())
    }

    fn hex(&self) -> String {
        self.0.expose_secret().iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn file_error(path: &Path, source: std::io::Error) -> CryptError {
    CryptError::File { path: path.display().to_string(), source: Arc::new(source) }
}

/// Makes a new key and writes it to `path`, readable by its owner only; an existing file is left alone and an error.
pub fn make_key_file(path: &Path) -> Result<StoreKey, CryptError> {
    let key = StoreKey::random();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || {
        let mut file = options.open(path)?;
        writeln!(file, "{}", key.hex())?;
        file.sync_all()
    };
    write().map_err(|source| file_error(path, source))?;
    Ok(key)
}

/// Seals, opens and digests for one store.
pub struct Crypt {
    id: u8,
    cipher: Option<XChaCha20Poly1305>,
    digest_key: SecretBox<[u8; 64]>,
    mac: Hmac<Sha256>,
}

impl fmt::Debug for Crypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypt").field("key", &self.id).finish_non_exhaustive()
    }
}

impl Crypt {
    /// With a fresh digest key: for a store that is being made.
    pub(super) fn fresh(key: Option<&StoreKey>) -> Self {
        let mut digest_key = [0; 64];
        rand::rng().fill_bytes(&mut digest_key);
        Self::new(key, u8::from(key.is_some()), digest_key)
    }

    /// With the digest key that a store holds, sealed under `key`.
    pub(super) fn unlock(key: Option<&StoreKey>, sealed: &[u8]) -> Result<Self, CryptError> {
        let id = match (sealed.first(), key) {
            (Some(&PLAIN), None) => PLAIN,
            (Some(&PLAIN), Some(_)) => return Err(CryptError::NotEncrypted),
            (Some(_), None) => return Err(CryptError::NoKey),
            (Some(&id), Some(_)) => id,
            (None, _) => return Err(CryptError::Sealed(DIGEST_KEY.to_owned())),
        };
        let digest_key =
            Self::new(key, id, [0; 64]).open(DIGEST_KEY, sealed).map_err(|_| CryptError::WrongKey)?;
        let digest_key = digest_key.try_into().map_err(|_| CryptError::Sealed(DIGEST_KEY.to_owned()))?;
        Ok(Self::new(key, id, digest_key))
    }

    /// The same digests under another key, which gets the next id.
    pub(super) fn successor(&self, key: Option<&StoreKey>) -> Self {
        let id = if key.is_some() { self.id.checked_add(1).unwrap_or(1) } else { PLAIN };
        Self::new(key, id, *self.digest_key.expose_secret())
    }

    fn new(key: Option<&StoreKey>, id: u8, digest_key: [u8; 64]) -> Self {
        let mac = <Hmac<Sha256> as hmac::KeyInit>::new(&digest_key.into());
        let cipher = key.map(|key| XChaCha20Poly1305::new(key.0.expose_secret().into()));
        Self { id, cipher, digest_key: SecretBox::new(Box::new(digest_key)), mac }
    }

    /// The digest key, sealed to be kept in the store.
    pub(super) fn locked(&self) -> Vec<u8> {
        self.seal(DIGEST_KEY, self.digest_key.expose_secret())
    }

    /// Whether the value was sealed under this key (or, without a key, is plain).
    pub(super) fn made(&self, sealed: &[u8]) -> bool {
        sealed.first() == Some(&self.id)
    }

    /// Seals `value` for `column`, which is `table.column`.
    pub fn seal(&self, column: &str, value: &[u8]) -> Vec<u8> {
        debug_assert!(
            column == DIGEST_KEY || SEALED.iter().any(|s| s.column == column),
            "{column} is not among the columns that a key rotation seals anew"
        );
        let mut sealed = Vec::with_capacity(1 + NONCE + value.len() + TAG);
        sealed.push(self.id);
        let Some(cipher) = &self.cipher else {
            sealed.extend_from_slice(value);
            return sealed;
        };
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let (_, text) = sealed.split_at_mut(1 + NONCE);
        #[expect(clippy::expect_used, reason = "fails only beyond 256 GiB")]
        let tag = cipher
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), column.as_bytes(), text)
            .expect("a value below 256 GiB");
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens what [`seal`](Self::seal) made for the same column.
    pub fn open(&self, column: &str, sealed: &[u8]) -> Result<Vec<u8>, CryptError> {
        let bad = || CryptError::Sealed(column.to_owned());
        let (id, rest) = sealed.split_first().ok_or_else(bad)?;
        if *id != self.id {
            return Err(bad());
        }
        let Some(cipher) = &self.cipher else { return Ok(rest.to_vec()) };
        let (nonce, msg) = rest.split_at_checked(NONCE).ok_or_else(bad)?;
        cipher.decrypt(XNonce::from_slice(nonce), Payload { msg, aad: column.as_bytes() }).map_err(|_| bad())
    }

    /// Seals a value as JSON.
    pub fn seal_json<T: Serialize>(&self, column: &str, value: &T) -> Result<Vec<u8>, CryptError> {
        serde_json::to_vec(value).map(|json| self.seal(column, &json)).map_err(|e| json_error(column, &e))
    }

    /// Opens a value sealed as JSON.
    pub fn open_json<T: DeserializeOwned>(&self, column: &str, sealed: &[u8]) -> Result<T, CryptError> {
        serde_json::from_slice(&self.open(column, sealed)?).map_err(|e| json_error(column, &e))
    }

    /// A keyed digest of the parts, each counted with its length.
    pub fn digest(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let (short, _) = full.split_at(16);
        short.try_into().unwrap_or_default()
    }
}

/// The text of a JSON error may hold the value; only its place is kept.
fn json_error(column: &str, error: &serde_json::Error) -> CryptError {
    CryptError::Json { column: column.to_owned(), line: error.line(), at: error.column() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMN: &str = "outbox.change";

    #[test]
    fn a_sealed_value_opens_only_whole_with_its_key_and_for_its_column() {
        let key = StoreKey::random();
        let crypt = Crypt::fresh(Some(&key));
        let sealed = crypt.seal(COLUMN, b"Aisha");
        assert_eq!(crypt.open(COLUMN, &sealed).unwrap(), b"Aisha");
        assert!(!sealed.windows(5).any(|w| w == b"Aisha"));
        assert_ne!(crypt.seal(COLUMN, b"Aisha"), sealed);

        assert!(crypt.open("outbox.command", &sealed).is_err());
        assert!(Crypt::fresh(Some(&StoreKey::random())).open(COLUMN, &sealed).is_err());
        assert!(Crypt::fresh(None).open(COLUMN, &sealed).is_err());
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(crypt.open(COLUMN, &changed).is_err());
            assert!(crypt.open(COLUMN, &sealed[..i]).is_err());
        }
    }

    #[test]
    fn without_a_key_values_are_plain_and_are_not_taken_for_sealed_ones() {
        let plain = Crypt::fresh(None);
        let value = plain.seal(COLUMN, b"Aisha");
        assert_eq!(plain.open(COLUMN, &value).unwrap(), b"Aisha");
        assert!(Crypt::fresh(Some(&StoreKey::random())).open(COLUMN, &value).is_err());
    }

    #[test]
    fn digests_are_of_the_store_and_tell_parts_apart() {
        let crypt = Crypt::fresh(None);
        assert_eq!(crypt.digest(&[b"ab", b"c"]), crypt.digest(&[b"ab", b"c"]));
        assert_ne!(crypt.digest(&[b"ab", b"c"]), crypt.digest(&[b"a", b"bc"]));
        assert_ne!(crypt.digest(&[b"ab"]), Crypt::fresh(None).digest(&[b"ab"]));
    }

    #[test]
    fn the_digest_key_outlives_the_key() {
        let (old, new) = (StoreKey::random(), StoreKey::random());
        let crypt = Crypt::fresh(Some(&old));
        let again = Crypt::unlock(Some(&new), &crypt.successor(Some(&new)).locked()).unwrap();
        assert_eq!(again.digest(&[b"x"]), crypt.digest(&[b"x"]));
        assert!(again.open(COLUMN, &crypt.seal(COLUMN, b"x")).is_err());
    }

    #[test]
    fn json_errors_hold_nothing_of_the_value() {
        let crypt = Crypt::fresh(None);
        let sealed = crypt.seal_json(COLUMN, &"Aisha").unwrap();
        assert_eq!(crypt.open_json::<String>(COLUMN, &sealed).unwrap(), "Aisha");
        let error = crypt.open_json::<u32>(COLUMN, &sealed).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("Aisha"));
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.key");
        let made = make_key_file(&path).unwrap();
        assert_eq!(StoreKey::from_file(&path).unwrap().hex(), made.hex());
        assert!(matches!(make_key_file(&path), Err(CryptError::File { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(format!("{made:?}"), "StoreKey(***)");
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(66)] {
            assert!(StoreKey::from_hex(bad, "here").is_err(), "{bad}");
        }
    }
}
