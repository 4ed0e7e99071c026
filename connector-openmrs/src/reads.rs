//! Reading patients: by uuid, by identifier, by demographics. Every way gives the same normal form.

use std::sync::Arc;

use connector_core::change::{Patient, Record, RecordId, field};
use connector_core::connector::Fault;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::OpenMrs;
use crate::changes::{record, voided};
use crate::client::{Answer, segment};
use crate::fhir::{Bundle, FhirHead, FhirPatient};
use crate::normal::{Name, Person, Types, fold, letter_of_sex};
use crate::rest::{self, RestPatient};

/// Patients that one request asks for.
const TOGETHER: usize = 50;
/// Most candidates of one look-up.
const CANDIDATES: &str = "20";

impl OpenMrs {
    /// What the server calls its types; asked once, and again by `check`.
    pub(crate) async fn types(&self) -> Result<Arc<Types>, Fault> {
        let mut known = self.types.lock().await;
        if let Some(types) = &*known {
            return Ok(types.clone());
        }
        let types = Types {
            attributes: self
                .named("personattributetype")
                .await?
                .into_iter()
                .map(|(uuid, name)| (name, uuid))
                .collect(),
            identifiers: self.named("patientidentifiertype").await?.into_iter().collect(),
        };
        Ok(known.insert(Arc::new(types)).clone())
    }

    /// Uuid and name of everything in a REST list.
    pub(crate) async fn named(&self, resource: &str) -> Result<Vec<(String, String)>, Fault> {
        let mut all = vec![];
        loop {
            let start = all.len().to_string();
            let answer = self
                .client
                .rest(resource, &[("v", "custom:(uuid,name)"), ("limit", "100"), ("startIndex", &start)])
                .await?;
            if answer.status != 200 {
                return Err(answer.fault(resource));
            }
            let body = answer.json();
            let text = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
            let page = body.get("results").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            all.extend(page.iter().filter_map(|item| Some((text(item, "uuid")?, text(item, "name")?))));
            let is_next = |link: &Value| link.get("rel").is_some_and(|rel| rel == "next");
            let more =
                body.get("links").and_then(Value::as_array).is_some_and(|links| links.iter().any(is_next));
            if !more || page.is_empty() {
                return Ok(all);
            }
        }
    }

    /// The rows of a patient by REST; `None` if there is none.
    pub(crate) async fn rows(&self, uuid: &str) -> Result<Option<RestPatient>, Fault> {
        let form = rest::representation(&self.config);
        let answer = self.client.rest(&format!("patient/{}", segment(uuid)), &[("v", &form)]).await?;
        match answer.status {
            200 => {
                let rows: RestPatient = answer.parse().map_err(Fault::retry)?;
                if rows.uuid.eq_ignore_ascii_case(uuid) {
                    Ok(Some(rows))
                } else {
                    Err(answer.fault("a patient by REST"))
                }
            }
            404 => Ok(None),
            _ => Err(answer.fault("a patient by REST")),
        }
    }

    /// The record of a patient as REST reads it.
    pub(crate) async fn record_by_rest(&self, uuid: &str) -> Result<Option<Record>, Fault> {
        Ok(self.rows(uuid).await?.map(|rows| {
            if rows.voided {
                voided(&self.name, uuid)
            } else {
                record(&self.name, uuid, &Person::of_rest(&rows, &self.config))
            }
        }))
    }

    /// The record of a patient in a FHIR2 page; by REST where that reading does not tell enough. `None` if it vanished
    /// meanwhile.
    pub(crate) async fn record_of(
        &self,
        resource: &RawValue,
        today: Option<&str>,
    ) -> Result<Option<Record>, Fault> {
        match FhirPatient::read(resource) {
            Some(patient) if !patient.is_ambiguous(today) => {
                let types = self.types().await?;
                Ok(Some(record(
                    &self.name,
                    &patient.id,
                    &Person::of_fhir(&patient, today, &self.config, &types),
                )))
            }
            _ => match FhirHead::read(resource).id() {
                Some(uuid) => self.record_by_rest(uuid).await,
                None => Ok(None),
            },
        }
    }

    async fn records_of(&self, answer: &Answer) -> Result<Vec<Record>, Fault> {
        let bundle: Bundle = answer.parse().map_err(Fault::retry)?;
        let (mut records, today) = (vec![], bundle.today());
        for resource in bundle.resources() {
            records.extend(self.record_of(resource, today.as_deref()).await?);
        }
        Ok(records)
    }

    async fn read(&self, uuid: &str) -> Result<Option<Record>, Fault> {
        let answer = self.client.fhir(&format!("Patient/{}", segment(uuid)), &[]).await?;
        match answer.status {
            200 => match serde_json::from_str::<&RawValue>(&answer.text) {
                Ok(resource) => self.record_of(resource, None).await,
                Err(_) => Ok(None),
            },
            404 => Ok(None),
            410 => Ok(Some(voided(&self.name, uuid))),
            400 => self.record_by_rest(uuid).await,
            _ => Err(answer.fault("a patient by FHIR2")),
        }
    }

    /// These patients as they are now, in order. Several at once are searched for, which voided and unreadable ones never
    /// show in; whoever is missing is read alone.
    pub(crate) async fn read_all(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        let mut all = Vec::with_capacity(ids.len());
        for some in ids.chunks(TOGETHER) {
            let mut found = vec![];
            if some.len() > 1 && some.iter().all(|id| id.is_person() && !id.id.contains(',')) {
                let list = some.iter().map(|id| id.id.as_str()).collect::<Vec<_>>().join(",");
                let answer = self.client.fhir("Patient", &[("_id", &list), ("_count", "100")]).await?;
                match answer.status {
                    200 => found = self.records_of(&answer).await?,
                    400 => {}
                    _ => return Err(answer.fault("patients by FHIR2")),
                }
            }
            for id in some {
                let at = found.iter().position(|r| r.id.id == id.id);
                all.push(match at {
                    Some(at) => Some(found.swap_remove(at)),
                    None if id.is_person() => self.read(&id.id).await?,
                    None => None,
                });
            }
        }
        Ok(all)
    }

    /// Patients with this identifier, type and value compared here. FHIR2 looks up by the name of the type and exactly; if
    /// one of those found makes its page unreadable, REST does, which finds parts of values and names too.
    pub(crate) async fn identified_by(
        &self,
        kind: &str,
        value: &str,
    ) -> Result<Vec<(String, Person)>, Fault> {
        let types = self.types().await?;
        let name = types.identifiers.get(kind).ok_or_else(|| {
            Fault::Halt("an identifier type of the configuration is not on the server; run `check`".into())
        })?;
        let token = format!("{}|{}", escape(name), escape(value));
        let answer = self.client.fhir("Patient", &[("identifier", &token), ("_count", CANDIDATES)]).await?;
        let found = match answer.status {
            200 => self.records_of(&answer).await?,
            400 => self.search_by_rest(&[("identifier", value)]).await?,
            _ => return Err(answer.fault("a look-up by identifier")),
        };
        let person =
            |record: Record| Some((record.id.id, serde_json::from_value::<Person>(record.body).ok()?));
        Ok(found.into_iter().filter_map(person).filter(|(_, p)| p.is_identified_by(kind, value)).collect())
    }

    async fn search_by_rest(&self, query: &[(&str, &str)]) -> Result<Vec<Record>, Fault> {
        let form = rest::representation(&self.config);
        let query: Vec<_> =
            query.iter().copied().chain([("v", form.as_str()), ("limit", CANDIDATES)]).collect();
        let answer = self.client.rest("patient", &query).await?;
        if answer.status != 200 {
            return Err(answer.fault("a search by REST"));
        }
        let body: Found = answer.parse().map_err(Fault::retry)?;
        let of = |rows: &RestPatient| record(&self.name, &rows.uuid, &Person::of_rest(rows, &self.config));
        Ok(body.results.iter().filter(|rows| !rows.voided).map(of).collect())
    }

    /// People who may be the given one: by identifier, else by name, or by first name and birth date, where sex, birth date
    /// and middle name do not contradict.
    pub(crate) async fn like(&self, person: &Patient) -> Result<Vec<Record>, Fault> {
        let mut found: Vec<Record> = vec![];
        for (name, value) in person.identifiers() {
            if let Some(identifier) = self.config.identifiers.get(name) {
                let same = self.identified_by(&identifier.kind, value).await?;
                found.extend(same.iter().map(|(uuid, p)| record(&self.name, uuid, p)));
            }
        }
        let name =
            person.get(field::NAME).map(|name| Name::split(name, None)).filter(|name| !name.given.is_empty());
        if let (true, Some(name)) = (found.is_empty(), name) {
            let by_name =
                [("given", name.given.as_str()), ("family", name.family.as_str()), ("_count", CANDIDATES)];
            let spoken = [name.given.as_str(), name.family.as_str()].join(" ");
            found.extend(self.similar(&by_name, spoken.trim()).await?);
            if let Some(day) = person.get(field::BIRTH_DATE).filter(|date| date.len() == 10) {
                let by_day = [("given", name.given.as_str()), ("birthdate", day), ("_count", CANDIDATES)];
                found.extend(self.similar(&by_day, &name.given).await?);
            }
            found.retain(|record| {
                serde_json::from_value(record.body.clone()).is_ok_and(|p| may_be(person, &p))
            });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found.dedup_by(|a, b| a.id == b.id);
        Ok(found)
    }

    async fn similar(&self, query: &[(&str, &str)], spoken: &str) -> Result<Vec<Record>, Fault> {
        let query: Vec<_> = query.iter().copied().filter(|(_, value)| !value.is_empty()).collect();
        let answer = self.client.fhir("Patient", &query).await?;
        match answer.status {
            200 => self.records_of(&answer).await,
            400 => self.search_by_rest(&[("q", spoken), ("includeDead", "true")]).await,
            _ => Err(answer.fault("a search by name")),
        }
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Found {
    results: Vec<RestPatient>,
}

/// A value within a FHIR search parameter.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, ',' | '|' | '$' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Whether neither sex, nor birth date, nor middle name contradicts.
fn may_be(person: &Patient, other: &Person) -> bool {
    let sex = person.get(field::SEX).and_then(letter_of_sex).filter(|s| *s != "U");
    let others = other.sex.as_deref().and_then(letter_of_sex).filter(|s| *s != "U");
    let middle =
        person.get(field::NAME).map(|name| fold(&Name::split(name, None).middle)).unwrap_or_default();
    let others_middle = other.name.as_ref().map(|name| fold(&name.middle)).unwrap_or_default();
    let dates = person.get(field::BIRTH_DATE).zip(other.birth_date.as_deref());
    (sex.is_none() || others.is_none() || sex == others)
        && (middle.is_empty() || others_middle.is_empty() || middle == others_middle)
        && dates.is_none_or(|(a, b)| a.starts_with(b) || b.starts_with(a))
}
