//! What a search looks for: date bounds, the parameters of each resource, the order of what is found.

use super::{patient::gender_code, show::Item};
use crate::openmrs::{
    http::{Reply, processing},
    ids::Id,
    metadata::metadata,
    model::{Part, Patient},
    tables::Tables,
    time,
};

/// Whether a sort asks for another order than that of creation.
pub fn sorts_patients(sort: &str) -> bool {
    ["name", "given", "family", "birthdate"].contains(&sort.trim_start_matches('-'))
}

/// Visits stay before encounters: each half is sorted by itself.
pub fn order(rows: &mut [Item<'_>], sort: &str) {
    let half = |row: &Item<'_>| usize::from(!matches!(row, Item::Visit(_)));
    let text = |row: &Item<'_>, key: &str| match row {
        Item::Patient(patient) => match key {
            "birthdate" => patient.row.birthdate.map(|at| at.to_string()).unwrap_or_default(),
            "given" => patient
                .shown_name()
                .and_then(|part| part.name("givenName"))
                .unwrap_or_default()
                .to_lowercase(),
            "family" => patient
                .shown_name()
                .and_then(|part| part.name("familyName"))
                .unwrap_or_default()
                .to_lowercase(),
            _ => patient.name_text().to_lowercase(),
        },
        Item::Encounter(row) => format!("{:020}", row.at),
        Item::Visit(row) => format!("{:020}", row.start),
        _ => String::new(),
    };
    let key = sort.trim_start_matches('-');
    match key {
        "_lastUpdated" => rows.sort_by_key(|row| (half(row), row.stamp())),
        "name" | "given" | "family" | "birthdate" | "date" => {
            rows.sort_by_cached_key(|row| (half(row), text(row, key)))
        }
        _ => return,
    }
    if sort.starts_with('-') {
        rows.reverse();
        rows.sort_by_key(half);
    }
}

/// Bounds of a date search: `gt` is `ge`; `lt` and `le` take the unit itself and the first instant after it.
pub struct Window {
    pub from: i64,
    pub to: i64,
}

impl Window {
    /// The bounds that a query sets by one parameter.
    pub fn of(query: &[(String, String)], key: &str) -> Result<Self, Reply> {
        let mut window = Self { from: i64::MIN, to: i64::MAX };
        for (_, value) in query.iter().filter(|(name, _)| name == key) {
            let one = Self::one(value)?;
            window.from = window.from.max(one.from);
            window.to = window.to.min(one.to);
        }
        Ok(window)
    }

    fn one(value: &str) -> Result<Self, Reply> {
        let split = value.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let (prefix, date) = value.split_at(split);
        let bad = || processing(400, &format!("HAPI-1882: Invalid date/time format: \"{value}\""));
        let (from, next) = time::fhir_range(&date.replace(' ', "+")).ok_or_else(bad)?;
        Ok(match prefix {
            "" | "eq" => Self { from, to: next - 1 },
            "ge" | "gt" => Self { from, to: i64::MAX },
            "le" | "lt" => Self { from: i64::MIN, to: next },
            other => {
                let name = match other {
                    "sa" => "STARTS_AFTER",
                    "eb" => "ENDS_BEFORE",
                    "ne" => "NOT_EQUAL",
                    "ap" => "APPROXIMATE",
                    _ => return Err(bad()),
                };
                return Err(processing(400, &format!("HAPI-1925: Unknown comparator: {name}")));
            }
        })
    }

    /// Whether a time is within.
    pub fn holds(&self, at: i64) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

/// Patients that fit all filters; by key where a filter is one.
pub fn patients<'a>(tables: &'a Tables, filters: &[&(String, String)]) -> Result<Vec<Item<'a>>, Reply> {
    let key = |name: &str| filters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut places: Vec<u32> = if let Some(ids) = key("_id") {
        ids.split(',').filter_map(|id| tables.find(id)).collect()
    } else if let Some(group) = key("_has:Group:member:id") {
        let id = Id::from(group);
        let cohorts = tables.cohorts.iter().filter(|row| row.uuid == id);
        cohorts.flat_map(|row| row.members.iter().map(|(_, at, _)| *at)).collect()
    } else if let Some(sought) = key("identifier") {
        let values = sought.split(',').map(|token| token.rsplit('|').next().unwrap_or(token));
        values.flat_map(|value| tables.holders(value)).copied().collect()
    } else {
        tables.live().to_vec()
    };
    places.sort_unstable();
    places.dedup();
    let mut rows = Vec::new();
    'next: for patient in places.into_iter().map(|at| tables.patient(at)).filter(|row| !row.audit.is_voided())
    {
        for (key, value) in filters {
            if !patient_fits(patient, key, value)? {
                continue 'next;
            }
        }
        rows.push(Item::Patient(patient));
    }
    Ok(rows)
}

fn patient_fits(patient: &Patient, key: &str, value: &str) -> Result<bool, Reply> {
    let (key, modifier) = key.split_once(':').unwrap_or((key, ""));
    let text = |part: &Part, fields: &[&str], sought: &str| {
        fields.iter().filter_map(|field| part.name(field)).any(|stored| match modifier {
            "exact" => stored == sought,
            "contains" => stored.to_lowercase().contains(&sought.to_lowercase()),
            _ => stored.to_lowercase().starts_with(&sought.to_lowercase()),
        })
    };
    let named = |fields: &[&str], tokens: &[&str]| {
        patient.live_names().any(|part| tokens.iter().any(|token| text(part, fields, token)))
    };
    let address = |field: &str| {
        let starts = |stored: &str| stored.to_lowercase().starts_with(&value.to_lowercase());
        patient.live_addresses().any(|part| part.address(field).is_some_and(starts))
    };
    let commas: Vec<&str> = value.split(',').collect();
    Ok(match key {
        "name" => {
            let tokens: Vec<&str> = value.split([' ', ',']).filter(|token| !token.is_empty()).collect();
            named(&["givenName", "middleName", "familyName"], &tokens)
        }
        "given" => named(&["givenName", "middleName"], &commas),
        "family" => named(&["familyName"], &commas),
        "identifier" => commas.iter().any(|token| {
            let (kind, value) = token.rsplit_once('|').unwrap_or(("", token));
            patient.live_identifiers().any(|row| {
                let name = &metadata().at("patientidentifiertype", row.kind)["name"];
                row.value.eq_ignore_ascii_case(value) && (kind.is_empty() || name == kind)
            })
        }),
        "gender" => {
            let shown = patient.row.gender.as_deref().map(gender_code);
            commas.iter().any(|token| Some(*token) == shown)
        }
        "birthdate" => {
            let window = Window::one(value)?;
            patient.row.birthdate.is_some_and(|at| window.holds(time::instant(at)))
        }
        "death-date" => {
            let window = Window::one(value)?;
            patient.row.death_date.is_some_and(|at| window.holds(time::instant(at)))
        }
        "deceased" => patient.row.dead == (value == "true"),
        "address-city" => address("cityVillage"),
        "address-state" => address("stateProvince"),
        "address-postalcode" => address("postalCode"),
        "address-country" => address("country"),
        "q" => {
            let prefix = |stored: &str| stored.to_lowercase().starts_with(&value.to_lowercase());
            let tokens: Vec<&str> = value.split_whitespace().collect();
            patient.live_identifiers().any(|row| prefix(&row.value))
                || named(&["givenName", "middleName", "familyName"], &tokens)
        }
        _ => true,
    })
}

/// Whether a resource that is no patient fits one filter.
pub fn fits(item: &Item<'_>, key: &str, value: &str, tables: &Tables) -> Result<bool, Reply> {
    let base = key.split(':').next().unwrap_or_default();
    let bare = value.rsplit('/').next().unwrap_or(value);
    let of_patient = |at: u32| tables.patient(at).uuid == Id::from(bare);
    let any = |id: Option<String>| {
        value.split(',').any(|token| Some(token.rsplit('|').next().unwrap_or(token)) == id.as_deref())
    };
    let starts = |shown: &str| shown.to_lowercase().starts_with(&value.to_lowercase());
    Ok(match (item, base) {
        (Item::Encounter(row), "_id") => any(Some(row.uuid.to_string())),
        (Item::Visit(row), "_id") => any(Some(row.uuid.to_string())),
        (Item::Obs(row), "_id") => any(Some(row.uuid.to_string())),
        (Item::Task(row), "_id") => any(Some(row.uuid.to_string())),
        (Item::Encounter(row), "patient" | "subject") => of_patient(row.patient),
        (Item::Visit(row), "patient" | "subject") => of_patient(row.patient),
        (Item::Obs(row), "patient" | "subject") => of_patient(row.patient),
        (Item::Encounter(row), "type") => any(Some(row.kind.to_string())),
        (Item::Visit(row), "type") => any(Some(row.kind.to_string())),
        (Item::Encounter(row), "date") => Window::one(value)?.holds(row.at),
        (Item::Visit(row), "date") => Window::one(value)?.holds(row.start),
        (Item::Obs(row), "date") => Window::one(value)?.holds(row.at),
        (Item::Obs(row), "encounter") => row.encounter.as_ref() == Some(&Id::from(bare)),
        (Item::Obs(row), "code") => any(Some(row.concept.to_string())),
        (Item::Task(row), "status") => {
            let statuses =
                ["requested", "received", "accepted", "rejected", "completed", "cancelled", "ready", "draft"];
            !statuses.contains(&value) || row.kept["status"] == value
        }
        // A bare id is ignored, and so is the filter.
        (Item::Task(_), "subject" | "owner" | "focus" | "based-on") if !value.contains('/') => true,
        (Item::Task(row), "subject") => row.kept["for"]["reference"] == value,
        (Item::Task(row), "owner") => row.kept["owner"]["reference"] == value,
        (Item::Task(row), "focus") => row.kept["focus"]["reference"] == value,
        (Item::Task(row), "based-on") => row.kept["basedOn"]
            .as_array()
            .is_some_and(|list| list.iter().any(|one| one["reference"] == value)),
        (Item::Provider(row), "identifier") => any(row["identifier"].as_str().map(str::to_owned)),
        (Item::Provider(row), "name" | "given" | "family") => {
            let display = row["person"]["display"].as_str().unwrap_or_default();
            display.split(' ').any(starts)
        }
        (Item::Location(row), "name") => row["name"].as_str().is_some_and(starts),
        (Item::Location(row), "_id") => any(row["uuid"].as_str().map(str::to_owned)),
        (Item::Related(row), "name") => patient_fits(tables.patient(row.a), "name", value)?,
        (Item::Related(row), "gender" | "birthdate") => patient_fits(tables.patient(row.a), base, value)?,
        _ => true,
    })
}
