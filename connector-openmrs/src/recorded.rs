//! What a real server was recorded to say, read by this connector.

use serde_json::Value;

use crate::answer::Said;
use crate::client::{Answer, is_denied};
use crate::config::Config;
use crate::fhir::{Bundle, FhirPatient};
use crate::normal::{Person, Types};
use crate::rest::RestPatient;

struct Recorded {
    name: String,
    method: String,
    path: String,
    sent: Value,
    answer: Answer,
}

fn all() -> Vec<Recorded> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    include_str!("../tests/fixtures/recorded.jsonl")
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            Recorded {
                name: text(&line["name"]),
                method: text(&line["request"]["method"]),
                path: text(&line["request"]["path"]),
                sent: line["request"]["body"].clone(),
                answer: Answer {
                    status: u16::try_from(line["response"]["status"].as_u64().unwrap()).unwrap(),
                    text: text(&line["response"]["body"]),
                    date: None,
                    retry_after: None,
                },
            }
        })
        .collect()
}

fn config() -> Config {
    serde_json::from_value(serde_json::json!({
        "url": "http://openmrs.test/openmrs", "user": "u", "password": "p",
        "identifiers": {"openmrs": {"type": "05a29f94-c0ed-11e2-94be-8c13b969e334"},
                        "national": {"type": "49af6cdc-7968-4abb-bf46-de10d7f4859f"}},
        "address": {"village": "cityVillage", "landmark": "address1"}
    }))
    .unwrap()
}

fn types() -> Types {
    let phone = ("Telephone Number".to_owned(), "14d4f066-15f5-102d-96e4-000c29c2a5d7".to_owned());
    Types { attributes: [phone].into(), ..Types::default() }
}

#[test]
fn a_denied_request_is_told_from_every_other_error() {
    let signs = [
        "unauthenticated",
        "wrong-password",
        "forbidden",
        "no-privilege",
        "no-login",
        "stale-cookie",
        "lockout-patient",
    ];
    let mut denied = 0;
    for r in all().iter().filter(|r| !r.path.ends_with("/session")) {
        let expected = signs.iter().any(|sign| r.name.contains(sign));
        assert_eq!(is_denied(&r.answer), expected, "{}", r.name);
        denied += u32::from(expected);
    }
    assert!(denied >= 12, "{denied}");
}

#[test]
fn every_recorded_answer_to_a_write_is_understood() {
    let mut seen = 0;
    for r in all().iter().filter(|r| r.method != "GET" && r.path.contains("/rest/") && !is_denied(&r.answer))
    {
        let said = Said::of(&r.answer);
        let right = match r.name.as_str() {
            "patient-create-again-500" => said == Said::Repeated,
            "patient-create-again-without-uuid-400" | "patient-create-duplicate-cht-id-400" => {
                said == Said::Taken
            }
            // An unserved media type is the container's, and says nothing about the patient.
            "patient-create-text-plain-500" => matches!(said, Said::Failed(500) | Said::Invalid(_)),
            _ if r.answer.status < 300 => said == Said::Yes,
            _ => matches!(said, Said::Invalid(_)),
        };
        assert!(right, "{}: {said:?}", r.name);
        seen += 1;
        let reason = format!("{said:?}");
        let person = &r.sent["person"]["names"][0];
        for value in [
            &r.sent["identifiers"][0]["identifier"],
            &r.sent["identifier"],
            &person["givenName"],
            &person["familyName"],
        ] {
            assert!(value.as_str().is_none_or(|v| !reason.contains(v)), "{}", r.name);
        }
    }
    assert!(seen >= 50, "{seen}");
}

#[test]
fn every_recorded_patient_is_read_and_none_is_lost() {
    let (config, types) = (config(), types());
    let mut read = 0;
    let pages = all().into_iter().filter(|r| r.answer.status == 200 && r.path.contains("/fhir2/"));
    for r in pages.filter(|r| r.name != "fhir-read-xml") {
        let body = r.answer.json();
        let bundle: Bundle = r.answer.parse().unwrap();
        let rows = bundle.resources().map(|r| serde_json::from_str::<Value>(r.get()).unwrap());
        for resource in rows.chain([body]).filter(|resource| resource["resourceType"] == "Patient") {
            let patient = FhirPatient::read(&resource).unwrap_or_else(|| panic!("{}", r.name));
            let person = Person::of_fhir(&patient, Some("2026-11-24"), &config, &types);
            if !resource["name"].is_null() {
                assert!(person.name.is_some(), "{}", r.name);
            }
            assert_eq!(
                resource["gender"] != "?" && !resource["gender"].is_null(),
                person.sex.is_some(),
                "{}",
                r.name
            );
            read += 1;
        }
    }
    assert!(read >= 30, "{read}");
}

fn recorded(name: &str) -> Recorded {
    all().into_iter().find(|r| r.name == name).unwrap()
}

fn of_fhir(name: &str) -> Person {
    let patient = FhirPatient::read(recorded(name).answer.json()).unwrap();
    Person::of_fhir(&patient, Some("2026-11-24"), &config(), &types())
}

#[test]
fn naomi_is_the_same_by_fhir_and_by_rest() {
    let mut rest: RestPatient = recorded("patient-get-custom").answer.parse().unwrap();
    // The recorded representation asks for neither locations nor the first line of the address.
    for identifier in rest.identifiers.iter_mut().filter(|i| i.preferred) {
        let location = serde_json::json!({"uuid": "a1111111-0000-4000-8000-000000000001"});
        identifier.location = Some(serde_json::from_value(location).unwrap());
    }
    rest.person.addresses[0].insert("address1".into(), "Near market".into());
    assert!(Person::of_rest(&rest, &config()) == of_fhir("fhir-read-naomi"));
}

#[test]
fn deaths_letters_and_estimated_dates_are_read_as_they_are_shown() {
    assert_eq!(of_fhir("fhir-read-dead").deceased.as_deref(), Some("2026-11-21"));
    assert_eq!(of_fhir("fhir-read-gender-question-mark").sex, None);
    assert_eq!(of_fhir("fhir-read-child-year-month").birth_date.as_deref(), Some("2024-05"));
    assert_eq!(of_fhir("fhir-read-charles").birth_date.as_deref(), Some("1975"));
}

#[test]
fn of_a_page_link_only_the_number_is_used() {
    let first: Bundle = recorded("fhir-page-1").answer.parse().unwrap();
    assert_eq!(first.search().as_deref(), Some("9e40a011-f453-480b-a055-7ef5ff3f26a9"));
    let forwarded: Bundle = recorded("fhir-page-2-forwarded").answer.parse().unwrap();
    assert_eq!(forwarded.search(), first.search());
    assert!(recorded("fhir-count-zero").answer.parse::<Bundle>().unwrap().search().is_none());
}
