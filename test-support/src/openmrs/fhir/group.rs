//! Cohorts as groups, relationships as related persons.

use serde_json::{Value, json};

use super::{
    Fhir, meta,
    patient::{EXT, address, birth_date, gender_code, name, patient_reference},
    reference_id,
};
use crate::openmrs::{
    http::Answer,
    metadata::metadata,
    model::{Audit, Cohort, Relationship},
    tables::Tables,
};

/// A cohort, managed by the user who made it. It has no narrative.
pub fn resource(cohort: &Cohort, tables: &Tables) -> Value {
    let user = &metadata().users[usize::from(cohort.audit.creator)];
    let mut shown = json!({
        "resourceType": "Group",
        "id": cohort.uuid,
        "meta": meta(&cohort.audit),
        "active": true,
        "type": "person",
        "actual": true,
        "name": cohort.name,
        "quantity": cohort.members.len(),
        "managingEntity": {
            "reference": format!("Practitioner/{}", user.uuid),
            "type": "Practitioner",
            "display": format!("{} {}", user.given, user.family),
        },
    });
    if let Some(description) = &cohort.description {
        shown["extension"] = json!([{"url": format!("{EXT}/group/description"), "valueString": description}]);
    }
    let members =
        cohort.members.iter().map(|(_, at, _)| json!({"entity": patient_reference(tables.patient(*at))}));
    let members: Vec<Value> = members.collect();
    if !members.is_empty() {
        shown["member"] = members.into();
    }
    shown
}

/// The first person of a relationship as related to the second; it has no stamp.
pub fn related_person(row: &Relationship, tables: &Tables, now: i64) -> Value {
    let person = tables.patient(row.a);
    let mut shown = json!({
        "resourceType": "RelatedPerson",
        "id": row.uuid,
        "identifier": [{"system": "RelatedPerson", "value": format!("Person/{}", person.uuid)}],
        "active": true,
        "patient": patient_reference(tables.patient(row.b)),
        "name": person.live_names().map(name).collect::<Vec<_>>(),
        "gender": person.row.gender.as_deref().map(gender_code),
        "birthDate": birth_date(person, now),
    });
    let addresses: Vec<Value> = person.live_addresses().map(address).collect();
    if !addresses.is_empty() {
        shown["address"] = addresses.into();
    }
    shown
}

impl Fhir<'_> {
    /// Members are kept, other than by REST.
    pub(super) fn create_group(&mut self) -> Answer {
        let body = self.resource("CREATE")?;
        let by = self.allow(&["Add Cohorts"])?;
        let tables = &mut self.state.tables;
        let uuid = tables.ids.next();
        let given = body["member"].as_array().into_iter().flatten();
        let found: Vec<u32> = given
            .filter_map(|member| reference_id(&member["entity"]))
            .filter_map(|id| tables.find(id))
            .collect();
        let audit = Audit::new(by, self.call.now);
        let members = found.into_iter().map(|at| (tables.ids.next(), at, audit.created)).collect();
        let description = body["extension"].as_array().into_iter().flatten();
        let description = description
            .filter(|one| one["url"] == format!("{EXT}/group/description"))
            .find_map(|one| one["valueString"].as_str().map(str::to_owned));
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        tables.cohorts.push(Cohort { uuid: uuid.clone(), name, description, members, audit });
        self.created("Group", &uuid)
    }
}
