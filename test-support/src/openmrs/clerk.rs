//! The view of a clinic's clerk: patients as they stand, and edits made at the screen, not over HTTP.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    OpenMrs,
    edit::Hand,
    metadata::{ADMIN, metadata, text},
    model::{ADDRESS_FIELDS, NAME_FIELDS, Patient},
    time, validate,
};

/// A patient with all values that it shows; of a voided one those that it had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub uuid: String,
    pub voided: bool,
    pub void_reason: Option<String>,
    pub given_name: Option<String>,
    pub middle_name: Option<String>,
    pub family_name: Option<String>,
    /// How many names are active.
    pub names: usize,
    /// How many addresses are active.
    pub addresses: usize,
    pub gender: Option<String>,
    /// `YYYY-MM-DD`.
    pub birthdate: Option<String>,
    pub birthdate_estimated: bool,
    pub dead: bool,
    pub death_date: Option<String>,
    pub cause_of_death: Option<String>,
    pub address: BTreeMap<String, String>,
    /// Values by the name of the type.
    pub attributes: BTreeMap<String, Vec<String>>,
    pub identifiers: Vec<SeenIdentifier>,
    /// The stamp that FHIR shows, in milliseconds.
    pub last_updated: i64,
}

/// An identifier with the name of its type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenIdentifier {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
    pub preferred: bool,
}

/// What a clerk changes; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClerkEdit {
    pub given_name: Option<String>,
    pub middle_name: Option<String>,
    pub family_name: Option<String>,
    pub gender: Option<String>,
    /// `YYYY-MM-DD`.
    pub birthdate: Option<String>,
    pub birthdate_estimated: Option<bool>,
    pub dead: Option<bool>,
    pub death_date: Option<String>,
    /// The cause as text; a death needs one.
    pub cause_of_death: Option<String>,
    pub phone: Option<String>,
    /// Fields of the address: `cityVillage`, `address1` ...
    pub address: BTreeMap<String, String>,
    /// Values by the name of the type; an empty one voids.
    pub attributes: BTreeMap<String, String>,
    /// Values by the name of the type; an empty one voids.
    pub identifiers: BTreeMap<String, String>,
    /// Voids the patient, or takes the void back, which only the user interface can.
    pub voided: Option<bool>,
    /// Merges this patient into another one: it is voided, and what it had goes over.
    pub merged_into: Option<String>,
}

impl OpenMrs {
    /// All patients, voided ones too, in the order of creation.
    pub fn patients(&self) -> Vec<Seen> {
        self.lock().tables.patients.iter().map(seen).collect()
    }

    /// A patient, voided or not.
    pub fn patient(&self, uuid: &str) -> Option<Seen> {
        let state = self.lock();
        state.tables.find(uuid).map(|at| seen(state.tables.patient(at)))
    }

    /// Edits a patient as a clerk at the screen, who is checked as strictly as REST; the patient as it stood before.
    pub fn edit(self: &Arc<Self>, uuid: &str, edit: &ClerkEdit) -> Result<Seen, String> {
        let now = self.clock.now_ms();
        let mut state = self.lock();
        let at = state.tables.find(uuid).ok_or("there is no such patient")?;
        let switches = state.switches.clone();
        let hand = Hand { by: ADMIN, now, switches: &switches };
        let before = seen(state.tables.patient(at));
        let mut draft = state.tables.draft(at, now, &switches);
        if let Some(winner) = &edit.merged_into {
            let winner =
                state.tables.find(winner).filter(|winner| *winner != at).ok_or("there is no such winner")?;
            let mut kept = state.tables.patient(winner).clone();
            let reason = format!("Merged with patient #{}", kept.pk);
            let ids = &mut state.tables.ids;
            for row in draft.live_identifiers() {
                hand.add_identifier(&mut kept, ids.next(), row.kind, &row.value, row.location);
            }
            let names: Vec<_> = draft.live_names().cloned().collect();
            for mut part in names {
                part.uuid = ids.next();
                part.preferred = false;
                kept.names.push(part);
            }
            hand.void(&mut draft, &reason);
            state.tables.put(at, draft, ADMIN, now, &switches);
            state.tables.put(winner, kept, ADMIN, now, &switches);
            state.tables.move_encounters(at, winner);
            return Ok(before);
        }
        match edit.voided {
            Some(true) => hand.void(&mut draft, "Voided at the clinic"),
            Some(false) => unvoid(&mut draft),
            None => {}
        }
        apply(&mut draft, edit, hand, &mut state.tables.ids)?;
        let errors = validate::patient(&draft, Some(at), &state.tables, &switches, now);
        errors.fhir("patient").map_err(|reply| String::from_utf8_lossy(&reply.body).into_owned())?;
        let goes = draft.audit.is_voided();
        state.tables.put(at, draft, ADMIN, now, &switches);
        if goes {
            state.tables.void_encounters(at, ADMIN, now, "Voided at the clinic");
        }
        Ok(before)
    }
}

fn apply(
    draft: &mut Patient,
    edit: &ClerkEdit,
    hand: Hand<'_>,
    ids: &mut super::ids::IdSource,
) -> Result<(), String> {
    let names = [
        ("givenName", &edit.given_name),
        ("middleName", &edit.middle_name),
        ("familyName", &edit.family_name),
    ];
    let shown = draft.shown_name().map(|part| part.uuid.clone());
    if let Some(part) = draft.names.iter_mut().find(|part| Some(&part.uuid) == shown.as_ref()) {
        for (field, value) in names.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
            part.set(&NAME_FIELDS, field, Some(value).filter(|v| !v.is_empty()).map(String::as_str));
            part.audit.change(hand.by, hand.now);
        }
    }
    if !edit.address.is_empty() {
        let shown = draft.shown_address().map(|part| part.uuid.clone());
        let shown = shown.unwrap_or_else(|| {
            let uuid = ids.next();
            draft.addresses.push(hand.part(uuid.clone(), true));
            uuid
        });
        for part in draft.addresses.iter_mut().filter(|part| part.uuid == shown) {
            for (field, value) in &edit.address {
                part.set(&ADDRESS_FIELDS, field, Some(value.as_str()).filter(|v| !v.is_empty()));
            }
            part.audit.change(hand.by, hand.now);
        }
    }
    let date = |text: &str| time::parse_rest(text).ok_or_else(|| format!("not a date: {text}"));
    if let Some(gender) = &edit.gender {
        draft.row.gender = Some(gender.as_str().into());
    }
    if let Some(text) = &edit.birthdate {
        draft.row.birthdate = Some(date(text)?);
    }
    if let Some(estimated) = edit.birthdate_estimated {
        draft.row.estimated = estimated;
    }
    if let Some(text) = &edit.death_date {
        draft.row.death_date = Some(date(text)?);
    }
    if let Some(cause) = &edit.cause_of_death {
        draft.row.cause_text = Some(cause.as_str().into());
    }
    if let Some(dead) = edit.dead {
        draft.row.dead = dead;
        if !dead {
            (draft.row.death_date, draft.row.cause, draft.row.cause_text) = (None, None, None);
        }
    }
    let phone = edit.phone.iter().map(|value| ("Telephone Number", value));
    for (name, value) in phone.chain(edit.attributes.iter().map(|(name, value)| (name.as_str(), value))) {
        let kind = metadata().named("personattributetype", name).ok_or("there is no such attribute type")?;
        match value.as_str() {
            "" => hand.clear_attribute(draft, kind, "Removed at the clinic"),
            value => hand.set_attribute(draft, ids.next(), kind, value),
        }
    }
    for (name, value) in &edit.identifiers {
        let kind =
            metadata().named("patientidentifiertype", name).ok_or("there is no such identifier type")?;
        let old = draft.identifiers.iter_mut().find(|row| row.kind == kind && !row.audit.is_voided());
        match (old, value.as_str()) {
            (Some(old), "") => old.audit.void(hand.by, hand.now, "Removed at the clinic"),
            (Some(old), value) => {
                old.value = value.into();
                old.audit.change(hand.by, hand.now);
            }
            (None, "") => {}
            (None, value) => hand.add_identifier(draft, ids.next(), kind, value, None),
        }
    }
    Ok(())
}

/// Takes back the void of the patient and of all parts that went with it.
fn unvoid(draft: &mut Patient) {
    let Some(voided) = draft.audit.voided.take() else { return };
    let parts = draft.names.iter_mut().chain(&mut draft.addresses).map(|part| &mut part.audit);
    let attributes = draft.attributes.iter_mut().map(|row| &mut row.audit);
    let identifiers = draft.identifiers.iter_mut().map(|row| &mut row.audit);
    for audit in parts.chain(attributes).chain(identifiers) {
        if audit.voided.as_ref().is_some_and(|row| row.at == voided.at) {
            audit.voided = None;
        }
    }
}

fn seen(patient: &Patient) -> Seen {
    let voided = patient.audit.is_voided();
    let at_the_end = |audit: &super::model::Audit| match (&patient.audit.voided, &audit.voided) {
        (Some(all), Some(own)) => all.at == own.at,
        (_, own) => own.is_none(),
    };
    let name = patient.shown_name();
    let field = |field: &str| name.and_then(|part| part.name(field)).map(str::to_owned);
    let mut attributes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in patient.attributes.iter().filter(|row| at_the_end(&row.audit)) {
        let kind = text(metadata().at("personattributetype", row.kind), "name");
        attributes.entry(kind.to_owned()).or_default().push(row.value.to_string());
    }
    let address = patient.shown_address().into_iter().flat_map(|part| &part.fields);
    let address = address.map(|(at, value)| (ADDRESS_FIELDS[usize::from(*at)].to_owned(), value.to_string()));
    let identifiers =
        patient.identifiers.iter().filter(|row| at_the_end(&row.audit)).map(|row| SeenIdentifier {
            kind: text(metadata().at("patientidentifiertype", row.kind), "name").to_owned(),
            value: row.value.to_string(),
            preferred: row.preferred,
        });
    let day = |at: jiff::civil::DateTime| at.date().to_string();
    let cause = patient.row.cause.as_ref().map(|id| super::rest::values::name_of("concept", id));
    Seen {
        uuid: patient.uuid.to_string(),
        voided,
        void_reason: patient.audit.voided.as_ref().map(|row| row.reason.to_string()),
        given_name: field("givenName"),
        middle_name: field("middleName"),
        family_name: field("familyName"),
        names: patient.live_names().count(),
        addresses: patient.live_addresses().count(),
        gender: patient.row.gender.as_deref().map(str::to_owned),
        birthdate: patient.row.birthdate.map(day),
        birthdate_estimated: patient.row.estimated,
        dead: patient.row.dead,
        death_date: patient.row.death_date.map(day),
        cause_of_death: cause.or_else(|| patient.row.cause_text.as_deref().map(str::to_owned)),
        address: address.collect(),
        attributes,
        identifiers: identifiers.collect(),
        last_updated: patient.audit.stamp(),
    }
}
