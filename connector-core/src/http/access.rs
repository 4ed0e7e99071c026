//! Who may use an entrance. Credentials are compared in a time that does not tell where they differ.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use sha2::Sha256;

use super::endpoint::Access;

/// What the head of a request says about its sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// May.
    Yes,
    /// May not, for lack of this kind of credentials.
    No(&'static str),
    /// The body decides.
    Signed,
}

/// Looks at the head alone, so that nobody's body is read who may not send one.
pub(super) fn standing(access: &Access, headers: &HeaderMap, from: SocketAddr) -> Standing {
    let (fits, scheme) = match access {
        Access::Hmac { .. } => return Standing::Signed,
        Access::Loopback => (from.ip().is_loopback(), "Loopback"),
        Access::Token(token) => (is_bearer(headers, token.expose_secret()), "Bearer"),
        Access::Basic { user, password } => {
            let expected = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
            (equal(scheme_value(headers, "Basic").as_bytes(), expected.as_bytes()), "Basic")
        }
    };
    if fits { Standing::Yes } else { Standing::No(scheme) }
}

/// Whether the request carries this token.
pub(super) fn is_bearer(headers: &HeaderMap, token: &str) -> bool {
    equal(scheme_value(headers, "Bearer").as_bytes(), token.as_bytes())
}

/// Whether the body was signed by who knows the secret, not long before `now` (seconds since 1970).
pub(super) fn is_signed(access: &Access, headers: &HeaderMap, body: &[u8], now: i64) -> bool {
    let Access::Hmac { secret, tolerance } = access else { return false };
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let stamp = text("x-timestamp");
    let fresh = stamp.parse::<i64>().is_ok_and(|at| now.abs_diff(at) <= tolerance.as_secs());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else { return false };
    mac.update(stamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let expected = crate::outbox::hex(&mac.finalize().into_bytes());
    equal(text("x-signature").as_bytes(), expected.as_bytes()) && fresh
}

fn scheme_value<'a>(headers: &'a HeaderMap, scheme: &str) -> &'a str {
    let text = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.split_once(' '));
    text.filter(|(given, _)| given.eq_ignore_ascii_case(scheme)).map_or("", |(_, value)| value)
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && !b.is_empty() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_whole_credentials_open() {
        let here: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let token = Access::Token("hush".to_owned().into());
        let basic = Access::Basic { user: "u".into(), password: "p".to_owned().into() };
        let may = |access: &Access, auth: &str| {
            standing(access, &headers(&[("authorization", auth)]), here) == Standing::Yes
        };
        assert!(may(&token, "Bearer hush") && may(&token, "bearer hush") && may(&basic, "Basic dTpw"));
        for wrong in ["Bearer hus", "Bearer hushh", "Bearer ", "hush", "Basic hush", ""] {
            assert!(!may(&token, wrong), "{wrong}");
        }
        assert!(!may(&Access::Token(String::new().into()), "Bearer "));
        assert_eq!(standing(&token, &HeaderMap::new(), here), Standing::No("Bearer"));
        assert_eq!(standing(&Access::Loopback, &HeaderMap::new(), here), Standing::Yes);
        assert_eq!(
            standing(&Access::Loopback, &HeaderMap::new(), "192.0.2.1:9".parse().unwrap()),
            Standing::No("Loopback")
        );
    }

    #[test]
    fn a_signature_holds_for_its_body_and_its_time() {
        let access = Access::Hmac { secret: "k".to_owned().into(), tolerance: Duration::from_secs(60) };
        let sign = |stamp: &str, body: &str| {
            let mut mac = Hmac::<Sha256>::new_from_slice(b"k").unwrap();
            mac.update(format!("{stamp}.{body}").as_bytes());
            headers(&[
                ("x-timestamp", stamp),
                ("x-signature", &crate::outbox::hex(&mac.finalize().into_bytes())),
            ])
        };
        let signed = sign("1000", "body");
        assert!(is_signed(&access, &signed, b"body", 1_060) && is_signed(&access, &signed, b"body", 940));
        assert!(!is_signed(&access, &signed, b"body", 1_061));
        assert!(!is_signed(&access, &signed, b"Body", 1_000));
        assert!(!is_signed(&access, &sign("", "body"), b"body", 0));
        assert!(!is_signed(&access, &HeaderMap::new(), b"body", 1_000));
    }
}
