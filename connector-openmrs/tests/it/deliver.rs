//! CHT -> OpenMRS, without faults: what is made, what is edited, and that only what moved is written.

use std::sync::Arc;

use connector_core::change::{Body, Gone, Patient, RecordId};
use connector_core::connector::{Confirmed, Known, Outcome, Repeat};
use connector_openmrs::{NAMESPACE, patient_uuid};
use serde_json::json;
use test_support::openmrs::ClerkEdit;

use crate::world::*;

fn writes(world: &World) -> Vec<String> {
    world.sent().iter().filter(|s| s.method != "GET").map(|s| format!("{} {}", s.method, s.target)).collect()
}

#[tokio::test]
async fn a_contact_becomes_a_patient_under_its_own_uuid_with_a_number_and_its_id() {
    let world = World::new();
    let task = world.task(&amina(), None).unwrap();
    assert_eq!(task.command.repeat, Repeat::Safe);
    let Outcome::Step(note, number) = world.once(&task).await else { panic!("no number") };
    assert_eq!(note, "identifier.openmrs");
    assert_eq!(writes(&world).len(), 1, "one write a call");
    let mut task = task;
    task.notes.insert(note, number.clone());
    let Outcome::Done(receipt) = world.once(&task).await else { panic!("not done") };
    assert_eq!(writes(&world).len(), 2);
    let uuid = receipt.id.unwrap().id;
    assert_eq!(uuid, patient_uuid("0b7e5a10-5c1d-4e0f-9a3b-0000000000aa"));
    let seen = world.seen(&uuid);
    assert_eq!((seen.given_name.as_deref(), seen.middle_name.as_deref()), (Some("Amina"), Some("Wambui")));
    assert_eq!((seen.family_name.as_deref(), seen.gender.as_deref()), (Some("Otieno"), Some("F")));
    assert_eq!((seen.birthdate.as_deref(), seen.birthdate_estimated), (Some("1994-03-12"), false));
    assert_eq!((phone(&seen), seen.address["cityVillage"].as_str()), (Some("+254700100001"), "Ahero"));
    let held = |kind: &str| seen.identifiers.iter().find(|i| i.kind == kind).map(|i| i.value.clone());
    assert_eq!(held("OpenMRS ID").as_deref(), number.as_str());
    assert_eq!(held("CHT Record Reference UUID").as_deref(), Some("0b7e5a10-5c1d-4e0f-9a3b-0000000000aa"));
    assert_eq!(held("National ID").as_deref(), Some("30445566"));
    assert_eq!(
        receipt.record,
        world.current(&uuid).await,
        "the receipt is the normal form that a fetch gives"
    );
}

#[test]
fn the_namespace_never_changes() {
    assert_eq!(NAMESPACE.to_string(), "5f0c6a7e-2d2b-4b5e-9f6a-7c1f0e3d8a94");
    assert_eq!(patient_uuid("p1"), patient_uuid("p1"));
    assert_ne!(patient_uuid("p1"), patient_uuid("p2"));
}

#[tokio::test]
async fn what_came_from_the_contact_is_read_back_as_the_same_fields_and_as_its_copy() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let record = world.current(&uuid).await.unwrap();
    let change = world.connector.changes(&record).unwrap().remove(0);
    assert_eq!(change.same_as, Some(RecordId::person("cht", "0b7e5a10-5c1d-4e0f-9a3b-0000000000aa")));
    let back = fields(&world.connector, &record);
    let Body::Patient(sent) = amina().body else { unreachable!() };
    for (name, value) in &sent.fields {
        assert_eq!(back.get(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn an_edit_writes_only_what_moved_and_in_place() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    for (field, value, path) in [
        ("name", "Amina Atieno Cheruiyot", "/person/"),
        ("phone", "+254700100099", "/attribute/"),
        ("address.village", "Katito", "/address/"),
        ("identifier.national", "30445577", "/identifier/"),
        ("sex", "other", "/person/"),
        ("birth_date", "1994-04", "/person/"),
        ("attribute.mother", "Achieng", "/attribute"),
        ("address.landmark", "Near market", "/address/"),
    ] {
        world.forget_sent();
        let receipt = world.settle(&amina_with([(field, value)]), Some(&uuid)).await.unwrap();
        let wrote = writes(&world);
        assert_eq!(wrote.len(), 1, "{field}: {wrote:?}");
        assert!(wrote[0].contains(path), "{field}: {wrote:?}");
        let back = fields(&world.connector, &receipt.record.unwrap());
        let expected = if field == "birth_date" { "1994" } else { value };
        assert_eq!(back.get(field).map(String::as_str), Some(expected), "{field}");
    }
    nothing_doubled(&world);
}

#[tokio::test]
async fn several_fields_are_several_steps_with_one_write_a_call() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let change = amina_with([
        ("name", "Amina Cheruiyot"),
        ("phone", "+254700100077"),
        ("sex", "unknown"),
        ("address.village", "Boya"),
    ]);
    let current = world.current(&uuid).await.unwrap();
    let mut task = world.task(&change, Some(&current)).unwrap();
    let mut steps = 0;
    loop {
        world.forget_sent();
        let outcome = world.once(&task).await;
        assert_eq!(writes(&world).len(), 1);
        match outcome {
            Outcome::Step(name, note) => drop(task.notes.insert(name, note)),
            Outcome::Done(_) => break,
            _ => panic!("neither step nor done"),
        }
        steps += 1;
    }
    assert_eq!(steps, 3);
    let seen = world.seen(&uuid);
    assert_eq!(
        (seen.given_name.as_deref(), seen.middle_name.as_deref()),
        (Some("Amina"), None),
        "the middle name went"
    );
    assert_eq!((seen.gender.as_deref(), phone(&seen)), (Some("U"), Some("+254700100077")));
    nothing_doubled(&world);
}

#[tokio::test]
async fn nothing_is_sent_when_openmrs_agrees() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let current = world.current(&uuid).await.unwrap();
    assert!(world.task(&amina(), Some(&current)).is_none());
    let knows_better = amina_with([("birth_date", "1994")]);
    assert!(world.task(&knows_better, Some(&current)).is_none(), "a less precise date takes nothing away");
}

#[tokio::test]
async fn a_patient_that_was_there_gets_the_contacts_id_once() {
    let world = World::new();
    world.server.generate(1, 1);
    let uuid = world.server.patients()[0].uuid.clone();
    let ids = std::collections::BTreeMap::from([("CHT Record Reference UUID".to_owned(), String::new())]);
    world.server.edit(&uuid, &ClerkEdit { identifiers: ids, ..ClerkEdit::default() }).unwrap();
    world.settle(&amina_with([("phone", "+254700111222")]), Some(&uuid)).await.unwrap();
    let current = world.current(&uuid).await.unwrap();
    let change = world.connector.changes(&current).unwrap().remove(0);
    assert_eq!(change.same_as, Some(amina().source));
    assert_eq!(fields(&world.connector, &current)["phone"], "+254700111222");
    nothing_doubled(&world);
}

#[tokio::test]
async fn a_patient_of_another_contact_is_never_taken_over() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let current = world.current(&uuid).await.unwrap();
    let links = std::collections::BTreeMap::new();
    let known = Known { now: START, links: &links, current: Some(&current), destination: "", key: "k" };
    let reject = world.connector.command(&contact("another", [("phone", "1")]), &known).unwrap_err();
    assert!(reject.reason.contains("another CHT contact"), "{}", reject.reason);
}

#[tokio::test]
async fn a_patient_found_by_the_contacts_id_is_linked_and_not_made_again() {
    let world = World::new();
    world.server.generate(3, 1);
    let there = world.server.patients()[1].clone();
    let id = there.identifiers.iter().find(|i| i.kind == "CHT Record Reference UUID").unwrap().value.clone();
    let receipt =
        world.settle(&contact(&id, [("name", "Somebody Else"), ("sex", "male")]), None).await.unwrap();
    assert_eq!(receipt.id.unwrap().id, there.uuid);
    assert!(writes(&world).is_empty(), "neither number nor patient");
}

#[tokio::test]
async fn candidates_are_looked_for_by_identifier_then_by_name_birth_and_sex() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let found = async |fields: &[(&str, &str)]| {
        let found = world.connector.candidates(&Patient::with(fields.iter().copied())).await.unwrap();
        found.into_iter().map(|r| r.id.id).collect::<Vec<_>>()
    };
    let nobody = Vec::<String>::new();
    assert_eq!(found(&[("identifier.national", "30445566")]).await, vec![uuid.clone()]);
    assert_eq!(
        found(&[("identifier.national", "3044556")]).await,
        nobody,
        "a part of a number is another number"
    );
    assert_eq!(found(&[("identifier.national", "")]).await, nobody, "a blank value is nobody's");
    assert_eq!(
        found(&[("name", "AMINA otieno"), ("birth_date", "1994"), ("sex", "female")]).await,
        vec![uuid.clone()]
    );
    assert_eq!(
        found(&[("name", "Amina Chebet"), ("birth_date", "1994-03-12"), ("sex", "female")]).await,
        [uuid]
    );
    assert_eq!(
        found(&[("name", "Amina Otieno"), ("birth_date", "1980-01-01"), ("sex", "female")]).await,
        nobody
    );
    assert_eq!(found(&[("name", "Amina Otieno"), ("birth_date", "1994"), ("sex", "male")]).await, nobody);
    assert_eq!(found(&[("phone", "+254700100001")]).await, nobody, "OpenMRS finds nobody by phone");
}

#[tokio::test]
async fn identifiers_are_exclusive_by_type_and_folded_value() {
    let world = World::new();
    let exclusive = |value: &str| {
        let change = amina_with([("identifier.national", value), ("identifier.unknown", "x")]);
        world.connector.destinations(&change).unwrap().remove(0).exclusive
    };
    assert_eq!(exclusive(" ab12 "), exclusive("AB12"));
    assert_eq!(exclusive("AB12").len(), 1);
    assert_ne!(exclusive("AB12"), exclusive("AB13"));
}

#[tokio::test]
async fn one_name_is_a_given_name_and_the_stand_in_for_a_family_name_is_not_read_back() {
    let world = World::new();
    let uuid = world.register(&contact("one", [("name", "Amina")])).await;
    assert_eq!(
        (world.seen(&uuid).given_name.as_deref(), world.seen(&uuid).family_name),
        (Some("Amina"), None)
    );
    let world = World::with(config_with("single_name_family", "Unknown"));
    let uuid = world.register(&contact("one", [("name", "Amina")])).await;
    assert_eq!(world.seen(&uuid).family_name.as_deref(), Some("Unknown"));
    let record = world.current(&uuid).await.unwrap();
    assert_eq!(fields(&world.connector, &record)["name"], "Amina");
}

#[tokio::test]
async fn confirm_says_applied_absent_or_unclear() {
    let world = World::new();
    let create = world.task(&amina(), None).unwrap();
    assert_eq!(world.connector.confirm(&create).await.unwrap(), Confirmed::Absent);
    let uuid = world.register(&amina()).await;
    assert!(matches!(world.connector.confirm(&create).await.unwrap(), Confirmed::Applied(_)));
    let current = world.current(&uuid).await.unwrap();
    let update = world.task(&amina_with([("phone", "+254711")]), Some(&current)).unwrap();
    assert_eq!(world.connector.confirm(&update).await.unwrap(), Confirmed::Absent);
    world.server.edit(&uuid, &ClerkEdit { phone: Some("+254722".into()), ..ClerkEdit::default() }).unwrap();
    assert_eq!(world.connector.confirm(&update).await.unwrap(), Confirmed::Unclear, "somebody else's edit");
    world.server.edit(&uuid, &ClerkEdit { phone: Some("+254711".into()), ..ClerkEdit::default() }).unwrap();
    assert!(matches!(world.connector.confirm(&update).await.unwrap(), Confirmed::Applied(_)));
    world.server.edit(&uuid, &ClerkEdit { voided: Some(true), ..ClerkEdit::default() }).unwrap();
    assert_eq!(world.connector.confirm(&update).await.unwrap(), Confirmed::Unclear);
    assert_eq!(world.connector.confirm(&create).await.unwrap(), Confirmed::Unclear);
}

#[tokio::test]
async fn a_clinics_edit_since_the_plan_is_a_conflict_and_is_not_overwritten() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let current = world.current(&uuid).await.unwrap();
    let task = world.task(&amina_with([("phone", "+254711")]), Some(&current)).unwrap();
    world.server.edit(&uuid, &ClerkEdit { phone: Some("+254722".into()), ..ClerkEdit::default() }).unwrap();
    world.forget_sent();
    assert_eq!(world.once(&task).await, Outcome::Conflict);
    assert!(writes(&world).is_empty());
    world.server.edit(&uuid, &ClerkEdit { voided: Some(true), ..ClerkEdit::default() }).unwrap();
    assert_eq!(world.once(&task).await, Outcome::Conflict, "nothing is written to a voided patient");
    assert!(writes(&world).is_empty());
}

#[tokio::test]
async fn a_value_that_openmrs_normalises_is_done_and_not_written_for_ever() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.switch(|s| s.rewrite.capitalise_names = true);
    let change = amina_with([("name", "AMINA CHERUIYOT"), ("phone", "+254733"), ("address.village", "Boya")]);
    let receipt = world.settle(&change, Some(&uuid)).await.unwrap();
    assert_eq!(fields(&world.connector, &receipt.record.unwrap())["name"], "Amina Cheruiyot");
    assert_eq!(phone(&world.seen(&uuid)), Some("+254733"));
}

#[tokio::test]
async fn an_edit_of_letter_case_alone_is_written_once_whatever_openmrs_makes_of_it() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let upper = [("name", "AMINA WAMBUI OTIENO"), ("phone", "+254733"), ("address.village", "AHERO")];
    world.settle(&amina_with(upper), Some(&uuid)).await.unwrap();
    assert_eq!(world.seen(&uuid).family_name.as_deref(), Some("OTIENO"));
    world.switch(|s| s.rewrite.capitalise_names = true);
    world.settle(&amina_with([("name", "Amina Wambui Otieno")]), Some(&uuid)).await.unwrap();
    world.forget_sent();
    let again = [("name", "amina wambui otieno"), ("phone", "+254744"), ("address.village", "Boya")];
    world.settle(&amina_with(again), Some(&uuid)).await.unwrap();
    assert_eq!(writes(&world).len(), 3, "one write a piece");
    assert_eq!(phone(&world.seen(&uuid)), Some("+254744"));
}

#[tokio::test]
async fn a_person_gone_at_the_source_is_never_written() {
    let world = World::new();
    let mut change = amina();
    change.body = Body::Patient(Patient { gone: Some(Gone::Deleted), ..Patient::default() });
    let links = std::collections::BTreeMap::new();
    let known = Known { now: START, links: &links, current: None, destination: "", key: "k" };
    assert!(world.connector.command(&change, &known).is_err());
}

#[tokio::test]
async fn capabilities_name_what_can_be_held() {
    let with = World::new().connector.capabilities();
    for held in [
        "name",
        "sex",
        "birth_date",
        "phone",
        "deceased",
        "address.village",
        "identifier.national",
        "attribute.mother",
    ] {
        assert!(with.can_hold(held), "{held}");
    }
    for not in ["muted", "location", "address.other", "identifier.other"] {
        assert!(!with.can_hold(not), "{not}");
    }
    assert_eq!((with.batch, with.probe.as_secs()), (1, 360));
    let without = World::with(config_with("cause_of_death", json!(null))).connector.capabilities();
    assert!(!without.can_hold("deceased"));
    assert!(with.feeds.iter().any(|f| f.whole && f.name == "pass"));
}

#[tokio::test]
async fn a_new_patient_stands_at_the_location_of_its_place() {
    let clinic = "a1111111-0000-4000-8000-000000000002";
    let world = World::with(config_with("locations", json!({"place-7": clinic})));
    let mut change = amina();
    if let Body::Patient(p) = &mut change.body {
        p.fields.insert("location".into(), "place-7".into());
    }
    let uuid = world.register(&change).await;
    let record = world.current(&uuid).await.unwrap();
    assert_eq!(fields(&world.connector, &record)["location"], clinic);
}

#[tokio::test]
async fn several_logins_at_once_are_one() {
    let world = World::new();
    let connector: Arc<_> = world.connector.clone();
    let ids = [RecordId::person("openmrs", "00000000-0000-4000-8000-000000000000")];
    let (a, b, c) = tokio::join!(connector.fetch(&ids), connector.fetch(&ids), connector.fetch(&ids));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(world.sent().iter().filter(|s| s.target.ends_with("/session")).count(), 1);
}
