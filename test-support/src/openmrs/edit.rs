//! Edits of a patient draft that REST, FHIR and the clerk share: rows are added and voided, never changed in secret.

use super::{
    ids::Id,
    model::{Attribute, Audit, Identifier, Part, Patient, PersonRow, UserIx},
    options::Switches,
};

/// Who edits, when, and how the server misbehaves.
#[derive(Clone, Copy)]
pub struct Hand<'a> {
    pub by: UserIx,
    pub now: i64,
    pub switches: &'a Switches,
}

impl Hand<'_> {
    /// A patient without any part.
    pub fn new_patient(self, pk: u32, uuid: Id) -> Patient {
        Patient {
            pk,
            uuid,
            row: PersonRow::default(),
            names: Vec::new(),
            addresses: Vec::new(),
            attributes: Vec::new(),
            identifiers: Vec::new(),
            audit: Audit::new(self.by, self.now),
            before: None,
        }
    }

    /// An empty name or address.
    pub fn part(self, uuid: Id, preferred: bool) -> Part {
        Part { uuid, preferred, fields: Vec::new(), audit: Audit::new(self.by, self.now) }
    }

    /// Makes one part the preferred one.
    pub fn prefer(self, parts: &mut [Part], uuid: &Id) {
        for part in parts {
            let preferred = part.uuid == *uuid;
            if part.preferred != preferred && !part.audit.is_voided() {
                if part.audit.created != super::time::whole_second(self.now) {
                    part.audit.change(self.by, self.now);
                }
                part.preferred = preferred;
            }
        }
    }

    /// Sets the value of an attribute type: an equal one stays, another one is voided, except within the window in which
    /// the server does not see it.
    pub fn set_attribute(self, draft: &mut Patient, uuid: Id, kind: u16, value: &str) {
        let value = self.switches.rewrite.text(value);
        if draft.live_attributes().any(|row| row.kind == kind && *row.value == value) {
            return;
        }
        self.clear_attribute(draft, kind, "Replaced by a new value");
        let audit = Audit::new(self.by, self.now);
        draft.attributes.push(Attribute { uuid, kind, value: value.into(), audit, inserted: self.now });
    }

    /// Voids the attributes of a type.
    pub fn clear_attribute(self, draft: &mut Patient, kind: u16, reason: &str) {
        let window = self.switches.uniqueness_window_ms;
        for row in
            draft.attributes.iter_mut().filter(|row| row.kind == kind && self.now - row.inserted >= window)
        {
            row.audit.void(self.by, self.now, reason);
        }
    }

    /// Adds an identifier.
    pub fn add_identifier(
        self,
        draft: &mut Patient,
        uuid: Id,
        kind: u16,
        value: &str,
        location: Option<u16>,
    ) {
        draft.identifiers.push(Identifier {
            uuid,
            value: self.switches.rewrite.identifier(value).into(),
            kind,
            location,
            preferred: false,
            audit: Audit::new(self.by, self.now),
            inserted: self.now,
        });
    }

    /// Voids a patient with all its parts.
    pub fn void(self, draft: &mut Patient, reason: &str) {
        let parts = draft.names.iter_mut().chain(&mut draft.addresses).map(|part| &mut part.audit);
        let attributes = draft.attributes.iter_mut().map(|row| &mut row.audit);
        let identifiers = draft.identifiers.iter_mut().map(|row| &mut row.audit);
        for audit in parts.chain(attributes).chain(identifiers).chain([&mut draft.audit]) {
            audit.void(self.by, self.now, reason);
        }
    }
}
