//! The FHIR2 reading of a patient, and the pages that it comes in.
//!
//! Own types for the few fields that are used: the gender that OpenMRS shows as `?`, an empty name or an unknown extension
//! makes one field absent and not the page unreadable (`docs/adr/0006-openmrs-without-fhir-sdk.md`).

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::normal::{Name, Person, Row, Types, day, letter_of_sex, text};

/// A page of a search.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Bundle {
    /// When the search was run, by the server's clock.
    pub meta: FhirMeta,
    /// How many there are in all.
    pub total: Option<u64>,
    link: Vec<Link>,
    entry: Vec<Entry>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Link {
    relation: String,
    url: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    resource: Option<Box<RawValue>>,
}

impl Bundle {
    /// The resources, unparsed: one odd one spoils no other.
    pub fn resources(&self) -> impl Iterator<Item = &RawValue> {
        self.entry.iter().filter_map(|e| e.resource.as_deref())
    }

    /// The resources themselves.
    pub fn into_resources(self) -> impl Iterator<Item = Box<RawValue>> {
        self.entry.into_iter().filter_map(|e| e.resource)
    }

    /// Number under which the server keeps the search, if there are more pages. Of the link nothing else is used: its host
    /// may be an inner one, and it forgets `_summary`.
    pub fn search(&self) -> Option<String> {
        let next = self.next()?;
        let (_, query) = next.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix("_getpages=")).map(str::to_owned)
    }

    /// The server's day, in its own zone, by which it shows ages.
    pub fn today(&self) -> Option<String> {
        self.meta.last_updated.as_deref().and_then(day)
    }

    /// The link to the next page as it came.
    pub fn next(&self) -> Option<&str> {
        self.link.iter().find(|l| l.relation == "next").map(|l| l.url.as_str())
    }
}

const ATTRIBUTE: &str = "http://fhir.openmrs.org/ext/person-attribute";
const ADDRESS: &str = "http://fhir.openmrs.org/ext/address";
const LOCATION: &str = "http://fhir.openmrs.org/ext/patient/identifier#location";

/// What every resource has, each part as odd as it may be.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct FhirHead {
    id: Value,
    meta: Value,
    subject: Value,
}

impl FhirHead {
    /// Of any resource.
    pub fn read(resource: &RawValue) -> Self {
        Self::deserialize(resource).unwrap_or_default()
    }

    /// Its id.
    pub fn id(&self) -> Option<&str> {
        self.id.as_str()
    }

    /// Its stamps.
    pub fn meta(&self) -> Option<FhirMeta> {
        FhirMeta::deserialize(&self.meta).ok()
    }

    /// Whom it is about.
    pub fn subject(&self) -> Option<FhirReference> {
        FhirReference::deserialize(&self.subject).ok()
    }
}

/// The few fields of a FHIR2 patient that are used, each as the server writes it.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FhirPatient {
    /// Its uuid.
    pub id: String,
    /// Stamps.
    pub meta: FhirMeta,
    name: Vec<FhirName>,
    gender: Option<String>,
    birth_date: Option<String>,
    deceased_boolean: Option<bool>,
    deceased_date_time: Option<String>,
    address: Vec<Value>,
    identifier: Vec<FhirIdentifier>,
    extension: Vec<FhirExtension>,
}

/// Stamps.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FhirMeta {
    /// When gender, birth date, death or void last changed; nothing else moves it.
    pub last_updated: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct FhirName {
    given: Vec<String>,
    family: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FhirIdentifier {
    r#use: Option<String>,
    r#type: FhirConcept,
    value: String,
    extension: Vec<FhirExtension>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct FhirConcept {
    coding: Vec<FhirCoding>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct FhirCoding {
    code: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FhirExtension {
    url: String,
    extension: Vec<FhirExtension>,
    value_string: Option<String>,
    value_boolean: Option<bool>,
    value_reference: Option<FhirReference>,
    value_codeable_concept: Option<FhirConcept>,
}

/// A reference.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct FhirReference {
    reference: String,
}

impl FhirReference {
    /// The id that it points to.
    pub fn id(&self) -> Option<&str> {
        self.reference.rsplit('/').next().filter(|id| !id.is_empty())
    }
}

impl FhirExtension {
    fn nested<'a>(&'a self, url: &'a str) -> impl Iterator<Item = &'a Self> {
        self.extension.iter().filter(move |e| e.url == url)
    }

    fn text(&self) -> Option<String> {
        let coded = || Some(self.value_codeable_concept.as_ref()?.coding.first()?.code.clone());
        let referred = || Some(self.value_reference.as_ref()?.id()?.to_owned());
        let value = self
            .value_string
            .clone()
            .or(self.value_boolean.map(|b| b.to_string()))
            .or_else(referred)
            .or_else(coded);
        value.as_deref().and_then(text)
    }
}

impl FhirPatient {
    /// A resource as a patient, unless its form is odd.
    pub fn read<'de>(resource: impl Deserializer<'de>) -> Option<Self> {
        Self::deserialize(resource).ok().filter(|patient| !patient.id.is_empty())
    }

    /// Whether this reading does not say which row is in use, or how precise a birth date is. FHIR2 marks no name, and
    /// shows several in any order where none is preferred; of several addresses without a preferred one the REST reading
    /// picks by uuid.
    pub fn is_ambiguous(&self, today: Option<&str>) -> bool {
        let homes = self.address.iter().filter(|a| a.get("use").is_some_and(|u| u == "home")).count();
        let is_infant =
            self.birth_date.as_deref().filter(|date| date.len() == 7).map(|month| infant(month, today));
        self.name.len() > 1 || (self.address.len() > 1 && homes != 1) || is_infant == Some(None)
    }

    fn birth_date(&self, today: Option<&str>) -> Option<String> {
        let date = self.birth_date.as_deref()?;
        let shown = if date.len() == 7 && infant(date, today) != Some(true) { date.get(..4)? } else { date };
        Some(shown.to_owned()).filter(|d| !d.is_empty())
    }

    fn address(&self) -> Option<&Value> {
        let home = self.address.iter().find(|a| a.get("use").is_some_and(|u| u == "home"));
        home.or(self.address.first())
    }
}

/// Whether somebody born in this month is under five years old today; unknown in the month of the fifth birthday.
/// Releases of fhir2 go on showing the month for up to a year longer, each its own way: that is cut to the year.
fn infant(month: &str, today: Option<&str>) -> Option<bool> {
    let months = |date: &str| {
        let (year, month) = date.get(..7)?.split_once('-')?;
        Some(year.parse::<i32>().ok()? * 12 + month.parse::<i32>().ok()?)
    };
    match months(today?)? - months(month)? {
        60 => None,
        age => Some(age < 60),
    }
}

fn address_part(address: &Value, field: &str) -> Option<String> {
    let plain = match field {
        "cityVillage" => "city",
        "countyDistrict" => "district",
        "stateProvince" => "state",
        "country" => "country",
        "postalCode" => "postalCode",
        numbered => {
            let all = address
                .get("extension")?
                .as_array()?
                .iter()
                .filter(|e| e.get("url").is_some_and(|u| u == ADDRESS));
            let url = format!("{ADDRESS}#{numbered}");
            let mut lines = all.filter_map(|e| e.get("extension")?.as_array()).flatten();
            let line = lines.find(|e| e.get("url").and_then(Value::as_str) == Some(&url))?;
            return line.get("valueString").and_then(Value::as_str).and_then(text);
        }
    };
    address.get(plain).and_then(Value::as_str).and_then(text)
}

impl Person {
    /// From the FHIR2 reading.
    pub fn of_fhir(patient: &FhirPatient, today: Option<&str>, config: &Config, types: &Types) -> Self {
        let name = patient.name.first().and_then(|n| {
            let mut given = n.given.iter().map(String::as_str);
            let first = given.next();
            let middle = given.collect::<Vec<_>>().join(" ");
            Name::of(first, Some(&middle), n.family.as_deref())
        });
        let known = |sex: &&String| letter_of_sex(sex).is_some();
        let died = patient.deceased_date_time.as_deref().and_then(day);
        let mut all = Self {
            name,
            sex: patient.gender.as_ref().filter(known).cloned(),
            birth_date: patient.birth_date(today),
            deceased: died.or_else(|| (patient.deceased_boolean == Some(true)).then(|| "true".into())),
            ..Self::default()
        };
        for field in config.address.values() {
            let value = patient.address().and_then(|a| address_part(a, field));
            all.address.extend(value.map(|value| (field.clone(), value)));
        }
        for extension in patient.extension.iter().filter(|e| e.url == ATTRIBUTE) {
            let named =
                extension.nested("http://fhir.openmrs.org/ext/person-attribute-type").find_map(|e| e.text());
            let kind = named.as_ref().and_then(|name| types.attributes.get(name));
            if let Some(kind) = kind.filter(|kind| config.attribute_types().any(|t| t == kind.as_str())) {
                let values = extension.nested("http://fhir.openmrs.org/ext/person-attribute-value");
                all.attributes
                    .entry(kind.clone())
                    .or_default()
                    .extend(values.filter_map(FhirExtension::text));
            }
        }
        let rows = patient.identifier.iter().map(|i| Row {
            kind: i.r#type.coding.first().map(|c| c.code.as_str()).unwrap_or_default(),
            value: &i.value,
            preferred: i.r#use.as_deref() == Some("official"),
            location: i
                .extension
                .iter()
                .find(|e| e.url == LOCATION)
                .and_then(|e| e.value_reference.as_ref()?.id()),
        });
        all.identify(rows.collect(), config);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_infants_month_is_kept_until_the_month_of_the_fifth_birthday_and_then_unsure() {
        let today = Some("2026-11-24");
        assert_eq!(infant("2021-12", today), Some(true));
        assert_eq!(infant("2021-11", today), None);
        assert_eq!(infant("2021-10", today), Some(false));
        assert_eq!(infant("2021-12", None), None, "without the server's day REST is asked");
        let born = |date: &str| FhirPatient { birth_date: Some(date.into()), ..FhirPatient::default() };
        assert!(born("2021-11").is_ambiguous(today) && !born("2021-12").is_ambiguous(today));
        assert!(!born("2021").is_ambiguous(None) && !born("2021-11-01").is_ambiguous(None));
        assert_eq!(born("2021-10").birth_date(today).as_deref(), Some("2021"));
    }

    #[test]
    fn one_odd_resource_spoils_no_other() {
        let page = serde_json::json!({"entry": [{"resource": {"id": "a", "name": "odd"}}, {"resource": {"id": "b"}}]});
        let bundle: Bundle = serde_json::from_value(page).unwrap();
        let read: Vec<_> = bundle.resources().map(|r| FhirPatient::read(r).is_some()).collect();
        assert_eq!(read, [false, true]);
    }
}
