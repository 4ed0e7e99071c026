//! Sequences as opaque text: the same place reads differently at every request, and only text made here is understood.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

const MARK: &str = "g1AAAA";
const MASK: u64 = 0x5eed_0fc4_7a11_9d03;

/// The text for a place in the feed; `nonce` is what changes between requests.
pub(super) fn encode(seq: u64, nonce: u32) -> String {
    let mut bytes = [0_u8; 12];
    bytes[..4].copy_from_slice(&nonce.to_be_bytes());
    bytes[4..].copy_from_slice(&(seq ^ MASK ^ u64::from(nonce) << 13).to_be_bytes());
    format!("{seq}-{MARK}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The place that `text` names: `0` is the start, nonsense is `None`.
pub(super) fn decode(text: &str) -> Option<u64> {
    let text = text.trim_matches('"');
    if text == "0" {
        return Some(0);
    }
    let opaque = text.split_once('-').map_or(text, |(_, opaque)| opaque);
    let bytes: [u8; 12] = URL_SAFE_NO_PAD.decode(opaque.strip_prefix(MARK)?).ok()?.try_into().ok()?;
    let nonce = u32::from_be_bytes(bytes[..4].try_into().ok()?);
    let seq = u64::from_be_bytes(bytes[4..].try_into().ok()?) ^ MASK ^ u64::from(nonce) << 13;
    (seq < 1 << 48).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_many_texts_and_nonsense_none() {
        let (one, two) = (encode(17, 1), encode(17, 2));
        assert_ne!(one, two);
        assert_eq!((decode(&one), decode(&two), decode("0")), (Some(17), Some(17), Some(0)));
        assert_eq!((decode("garbage"), decode("17"), decode("17-g1AAAAxyz")), (None, None, None));
    }
}
