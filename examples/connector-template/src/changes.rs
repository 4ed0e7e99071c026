//! Records of the partner into canonical changes. This endpoint gives people, who are pushed to `POST /people`.

use std::collections::BTreeMap;

use connector_core::change::{Body, Change, Patient, Record, RecordId};
use connector_core::connector::Reject;
use connector_core::http::endpoint::{Delivery, Request};
use serde::Deserialize;
use serde_json::Value;

/// Largest person that is taken, in bytes.
pub const LONGEST: usize = 64 * 1024;

/// A pushed person.
#[derive(Deserialize)]
struct Person {
    /// The partner's own id.
    id: String,
    /// Canonical fields: `name`, `birth_date`, `phone`.
    fields: Value,
}

/// One person, as the partner named `system` pushes them. A delivery that comes again carries the same
/// `Idempotency-Key`.
pub fn pushed(system: &str, request: &Request) -> Result<Vec<Delivery>, Reject> {
    let identity = request.headers.get("idempotency-key").filter(|key| !key.is_empty()).cloned();
    let identity = identity.ok_or_else(|| Reject::new("the header Idempotency-Key is missing"))?;
    let person: Person = serde_json::from_slice(&request.body).map_err(|_| {
        Reject::new("the body is not a JSON object with a text at `id` and an object at `fields`")
    })?;
    let record = Record {
        id: RecordId::person(system, person.id),
        version: None,
        deleted: false,
        body: person.fields,
    };
    Ok(vec![Delivery { identity, record }])
}

/// The changes that a record stands for.
pub fn changes(record: &Record) -> Result<Vec<Change>, Reject> {
    let fields = BTreeMap::<String, String>::deserialize(&record.body)
        .map_err(|_| Reject::new("a field of the person is not a text; send each as one"))?;
    Ok(vec![Change::state(record.id.clone(), Body::Patient(Patient { fields, gone: None }))])
}
