//! Mutated examples through every target: the short form of the fuzzing, on stable.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use fuzz_inputs::TARGETS;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const ROUNDS: u64 = 2_000;

/// What the targets are given before it is mutated.
const EXAMPLES: &[&str] = &[
    r#"{"_id":"p1","_rev":"1-a","type":"person","name":"A B","date_of_birth":"1990-01-01","sex":"female","parent":{"_id":"c","parent":{"_id":"h"}},"phone":"+256700000000","reported_date":1700000000000}"#,
    r#"{"results":[{"seq":"1-x","id":"p1","changes":[{"rev":"1-a"}],"doc":{"_id":"p1","_rev":"1-a","type":"person","name":"A"}},{"seq":"2-y","id":"p2","changes":[{"rev":"2-b"}],"deleted":true}],"last_seq":"2-y","pending":0}"#,
    r#"{"seq":"1-x","id":"p1","changes":[{"rev":"1-a"}],"doc":{"_id":"p1"}}"#,
    r#"{"resourceType":"Bundle","total":1,"link":[{"relation":"next","url":"http://h/openmrs/ws/fhir2/R4?_getpages=x"}],"entry":[{"resource":{"resourceType":"Patient","id":"a1111111-0000-4000-8000-000000000001","meta":{"lastUpdated":"2026-01-01T00:00:00.000+00:00"},"identifier":[{"type":{"coding":[{"code":"05a29f94-c0ed-11e2-94be-8c13b969e334"}]},"value":"100GEJ"}],"name":[{"family":"B","given":["A"]}],"gender":"female","birthDate":"1990-01-01","address":[{"extension":[]}]}}]}"#,
    r#"{"results":[{"uuid":"a1111111-0000-4000-8000-000000000001","identifiers":[{"uuid":"u","identifier":"x","identifierType":{"uuid":"t"},"preferred":true}],"person":{"gender":"F","birthdate":"1990-01-01T00:00:00.000+0000","birthdateEstimated":false,"names":[{"uuid":"n","givenName":"A","familyName":"B"}],"attributes":[],"addresses":[]},"voided":false}]}"#,
    "id = \"i\"\nname = \"n\"\nbirth_date = \"b\"\nphones = [\"p\"]\nplaces = [\"v\"]\n----\ni,n,b,p,v\n1,Amina Saad,1990-01-01,0712345678,Kuchi\n2,Aminah Saad,1990-13-01,+254712345678,Kuchi\n",
    "",
    "/b/in\nBearer token\n{\"Status\":null}",
    "store: memory\nencryption: off\nbridges:\n  - name: a\n    cht: { url: \"http://c\", user: u, password: \"${X}\" }\n    partner: { url: \"http://o/openmrs\", user: u, password: p }\n",
];

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    const TOKENS: &[&str] =
        &["null", "-1", "1e999", "\"\"", "[]", "{}", "\u{0}", "é", "\\ud800", "9999-99-99", "\n"];
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] = rng.random(),
            1 => bytes.truncate(at),
            2 => {
                let token = TOKENS[rng.random_range(0..TOKENS.len())];
                bytes.splice(at..at, token.bytes());
            }
            3 => {
                let to = rng.random_range(at..=bytes.len());
                let part = bytes[at..to].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                // A whole JSON value becomes another.
                let colon = bytes.iter().skip(at).position(|b| *b == b':');
                let token = TOKENS[rng.random_range(0..TOKENS.len())];
                if let Some(from) = colon.map(|c| at + c + 1) {
                    let end = bytes.iter().skip(from).position(|b| matches!(b, b',' | b'}' | b']'));
                    let to = end.map_or(bytes.len(), |e| from + e);
                    bytes.splice(from..to, token.bytes());
                }
            }
        }
        bytes.truncate(8_192);
    }
}

#[test]
fn no_bytes_from_outside_panic() {
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            scope.spawn(move || {
                for example in EXAMPLES {
                    target(example.as_bytes());
                }
                for round in 0..ROUNDS {
                    let mut rng = StdRng::seed_from_u64(round);
                    let example = EXAMPLES[rng.random_range(0..EXAMPLES.len())];
                    let mut bytes = example.as_bytes().to_vec();
                    mutate(&mut rng, &mut bytes);
                    let done = std::panic::catch_unwind(|| target(&bytes));
                    assert!(done.is_ok(), "{name}, round {round}: {:?}", String::from_utf8_lossy(&bytes));
                }
            });
        }
    });
}
