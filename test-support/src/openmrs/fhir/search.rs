//! Searches and their pages. A page runs the search again over what there is now: there is no snapshot.
//!
//! The last hundred searches of anybody are kept for their links; the link of a first page forgets `_summary`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    Fhir,
    filter::{Window, fits, order, patients, sorts_patients},
    show::{Item, Style, subsetted},
};
use crate::openmrs::{
    http::{Answer, Reply, processing, unserved},
    metadata::metadata,
    model::{Obs, Visit},
    tables::Tables,
    time,
};

const STORED: usize = 100;
const DEFAULT_COUNT: i64 = 10;
const LARGEST_COUNT: i64 = 100;
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A search that was answered, for the links of its pages.
#[derive(Clone, Debug)]
pub struct Search {
    id: String,
    bundle: String,
    made: i64,
    total: usize,
    resource: String,
    query: Vec<(String, String)>,
}

type Query = Vec<(String, String)>;

/// Parameters of every search.
const COMMON: [&str; 9] =
    ["_id", "_lastUpdated", "_sort", "_count", "_summary", "_elements", "_format", "_pretty", "_total"];

fn parameters(resource: &str) -> &'static [&'static str] {
    match resource {
        "Patient" => &[
            "name",
            "given",
            "family",
            "identifier",
            "gender",
            "birthdate",
            "death-date",
            "deceased",
            "address-city",
            "address-state",
            "address-postalcode",
            "address-country",
            "_revinclude",
            "_query",
            "q",
        ],
        "Encounter" => &[
            "date",
            "location",
            "participant",
            "subject",
            "patient",
            "type",
            "_tag",
            "_include",
            "_revinclude",
        ],
        "Observation" => {
            &["encounter", "subject", "patient", "code", "date", "category", "_include", "_revinclude"]
        }
        "Task" => &["based-on", "owner", "subject", "focus", "code", "status", "_include"],
        "Practitioner" => &["name", "identifier", "given", "family"],
        "Location" => &["name", "address-city", "address-state", "address-country", "_tag"],
        "RelatedPerson" => &["name", "gender", "birthdate"],
        _ => &[],
    }
}

/// What a search found: a run of the index where it can be, else a list.
enum Rows<'a> {
    Created(&'a [u32]),
    Stamped(&'a [(i64, u32)]),
    List(Vec<Item<'a>>),
}

impl<'a> Rows<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Created(rows) => rows.len(),
            Self::Stamped(rows) => rows.len(),
            Self::List(rows) => rows.len(),
        }
    }

    fn page(&self, tables: &'a Tables, offset: usize, count: usize) -> Vec<Item<'a>> {
        let range = offset.min(self.len())..offset.saturating_add(count).min(self.len());
        let patient = |at: u32| Item::Patient(tables.patient(at));
        match self {
            Self::Created(rows) => rows[range].iter().map(|at| patient(*at)).collect(),
            Self::Stamped(rows) => rows[range].iter().map(|(_, at)| patient(*at)).collect(),
            Self::List(rows) => rows[range].to_vec(),
        }
    }
}

impl Fhir<'_> {
    /// The first page of a search.
    pub(super) fn search(&mut self, resource: &str, query: Query) -> Answer {
        self.may_read(resource)?;
        let known = parameters(resource);
        let is_known = |key: &str| {
            let base = key.split(':').next().unwrap_or_default();
            COMMON.contains(&key) || known.contains(&base) || (resource == "Patient" && base == "_has")
        };
        if known.is_empty() || query.iter().any(|(key, _)| !is_known(key)) {
            let keys: Vec<&str> = query.iter().map(|(key, _)| key.as_str()).collect();
            return Err(unserved(&format!("GET operation[{resource}]"), &keys));
        }
        let style = Style::of(&query)?;
        let asked =
            query.iter().find(|(key, _)| key == "_count").and_then(|(_, value)| value.parse::<i64>().ok());
        let total = self.rows(resource, &query)?.len();
        let search = Search {
            id: self.state.tables.ids.next().to_string(),
            bundle: self.state.tables.ids.next().to_string(),
            made: self.call.now,
            total,
            resource: resource.to_owned(),
            query,
        };
        let kept = match self.state.switches.stored_searches {
            0 => STORED,
            kept => kept,
        };
        self.state.searches.push_back(search.clone());
        while self.state.searches.len() > kept {
            self.state.searches.pop_front();
        }
        if style.count_only || asked == Some(0) {
            let mut bundle = self.bundle(&search, true);
            bundle["total"] = total.into();
            return Ok(self.modified(Reply::fhir(200, &bundle), &search));
        }
        let count = asked.unwrap_or(DEFAULT_COUNT).clamp(0, LARGEST_COUNT) as usize;
        let mut bundle = self.bundle(&search, style.data);
        let mut sorted = search.query.clone();
        sorted.sort();
        let written: Vec<String> =
            sorted.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        let mut this = format!("{}/{resource}", self.base);
        if !written.is_empty() {
            this = format!("{this}?{}", written.join("&"));
        }
        let mut links = vec![json!({"relation": "self", "url": this})];
        if count > 0 && count < total {
            let elements = Style { data: false, ..style.clone() };
            links.push(self.page_link("next", &search, count, count, &elements));
        }
        bundle["link"] = links.into();
        self.fill(&mut bundle, &search, 0, count, &style)?;
        Ok(self.modified(Reply::fhir(200, &bundle), &search))
    }

    /// A later page by its link.
    pub(super) fn page(&mut self) -> Answer {
        let number = |name: &str| self.call.param(name).and_then(|text| text.parse::<i64>().ok());
        let id = self.call.param("_getpages").unwrap_or_default();
        let search = self.state.searches.iter().find(|search| search.id == id).cloned().ok_or_else(|| {
            processing(410, &format!("HAPI-0417: Search ID \"{id}\" does not exist and may have expired"))
        })?;
        self.may_read(&search.resource)?;
        let style = Style::of(&self.call.query)?;
        let offset = number("_getpagesoffset").unwrap_or(0).max(0) as usize;
        let count = number("_count").unwrap_or(DEFAULT_COUNT).clamp(0, LARGEST_COUNT) as usize;
        let mut bundle = self.bundle(&search, style.data);
        let mut links = vec![self.page_link("self", &search, offset, count, &style)];
        if offset + count < search.total {
            links.push(self.page_link("next", &search, offset + count, count, &style));
        }
        if offset > 0 {
            links.push(self.page_link("previous", &search, offset.saturating_sub(count), count, &style));
        }
        bundle["link"] = links.into();
        self.fill(&mut bundle, &search, offset, count, &style)?;
        let location = format!("{}/Bundle/{}", self.base, search.bundle);
        Ok(self.modified(Reply::fhir(200, &bundle), &search).with("content-location", location))
    }

    fn bundle(&self, search: &Search, cut: bool) -> Value {
        let mut bundle = json!({
            "resourceType": "Bundle",
            "id": search.bundle,
            "meta": {"lastUpdated": time::fhir_instant(search.made)},
            "type": "searchset",
            "total": search.total,
        });
        if cut {
            bundle["meta"]["tag"] = json!([subsetted()]);
        }
        bundle
    }

    fn modified(&self, reply: Reply, search: &Search) -> Reply {
        reply.with("last-modified", time::http_date(search.made))
    }

    fn page_link(
        &self,
        relation: &str,
        search: &Search,
        offset: usize,
        count: usize,
        style: &Style,
    ) -> Value {
        let (base, id) = (&self.base, &search.id);
        let mut url =
            format!("{base}?_getpages={id}&_getpagesoffset={offset}&_count={count}&_bundletype=searchset");
        if style.data {
            url.push_str("&_summary=data");
        }
        if !style.elements.is_empty() {
            url.push_str(&format!("&_elements={}", encode(&style.elements.join(","))));
        }
        json!({"relation": relation, "url": url})
    }

    fn fill(
        &self,
        bundle: &mut Value,
        search: &Search,
        offset: usize,
        count: usize,
        style: &Style,
    ) -> Result<(), Reply> {
        let rows = self.rows(&search.resource, &search.query)?;
        let page = rows.page(&self.state.tables, offset, count);
        self.entries(bundle, &page, style)
    }

    fn entries(&self, bundle: &mut Value, page: &[Item<'_>], style: &Style) -> Result<(), Reply> {
        let mut entries = Vec::with_capacity(page.len());
        for item in page {
            let shown = self.show(item, style)?;
            let part = |key: &str| shown[key].as_str().unwrap_or_default();
            let full = format!("{}/{}/{}", self.base, part("resourceType"), part("id"));
            entries.push(json!({"fullUrl": full, "resource": shown}));
        }
        if !entries.is_empty() {
            bundle["entry"] = entries.into();
        }
        Ok(())
    }

    /// A patient and all that hangs on it.
    pub(super) fn everything(&mut self, id: &str) -> Answer {
        self.may_read("Patient")?;
        let (made, bundle) = (self.call.now, self.state.tables.ids.next().to_string());
        let item = self.find("Patient", id).ok_or_else(|| super::unknown("Patient", id))?;
        if item.is_voided() {
            return Err(super::gone("Patient", id));
        }
        let tables = &self.state.tables;
        let at = tables.find(id).unwrap_or_default();
        let mut items = vec![item];
        items.extend(
            tables.obs.iter().filter(|obs| obs.patient == at && !obs.audit.is_voided()).map(Item::Obs),
        );
        items.extend(
            tables.visits.iter().filter(|row| row.patient == at && !row.audit.is_voided()).map(Item::Visit),
        );
        items.extend(tables.encounters_of(at).map(Item::Encounter));
        let total = items.len();
        let search =
            Search { id: String::new(), bundle, made, total, resource: String::new(), query: Vec::new() };
        let style = Style::of(&self.call.query)?;
        let mut shown = self.bundle(&search, style.data);
        let query: Vec<String> =
            self.call.query.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        let mut this = format!("{}/Patient/{id}/$everything", self.base);
        if !query.is_empty() {
            this = format!("{this}?{}", query.join("&"));
        }
        shown["link"] = json!([{"relation": "self", "url": this}]);
        self.entries(&mut shown, &items, &style)?;
        let location = format!("{}/Bundle/{}", self.base, search.bundle);
        Ok(self.modified(Reply::fhir(200, &shown), &search).with("content-location", location))
    }

    fn rows(&self, resource: &str, query: &Query) -> Result<Rows<'_>, Reply> {
        let tables = &self.state.tables;
        let window = Window::of(query, "_lastUpdated")?;
        let sort =
            query.iter().find(|(key, _)| key == "_sort").map(|(_, value)| value.as_str()).unwrap_or_default();
        let filters: Vec<&(String, String)> = query
            .iter()
            .filter(|(key, _)| key == "_id" || !COMMON.contains(&key.as_str()))
            .filter(|(key, _)| !key.starts_with("_revinclude") && !key.starts_with("_include"))
            .filter(|(key, _)| !key.starts_with("_has:") || key == "_has:Group:member:id")
            .collect();
        if resource == "Patient" && filters.is_empty() && sort != "-_lastUpdated" {
            let stamped = tables.by_stamp();
            let from = stamped.partition_point(|(stamp, _)| *stamp < window.from);
            let to = stamped.partition_point(|(stamp, _)| *stamp <= window.to);
            let within = &stamped[from.min(to)..to];
            match sort {
                "_lastUpdated" => return Ok(Rows::Stamped(within)),
                _ if within.len() == stamped.len() && !sorts_patients(sort) => {
                    return Ok(Rows::Created(tables.live()));
                }
                _ => {}
            }
        }
        let mut rows: Vec<Item<'_>> = match resource {
            "Patient" => patients(tables, &filters)?,
            "Encounter" => {
                let tag = query
                    .iter()
                    .find(|(key, _)| key == "_tag")
                    .map(|(_, tag)| tag.rsplit('|').next().unwrap_or(tag));
                let live = |row: &&Visit| !row.audit.is_voided();
                let visits =
                    tables.visits.iter().filter(live).map(Item::Visit).filter(|_| tag != Some("encounter"));
                let encounters = tables.encounters.iter().filter(|row| !row.audit.is_voided());
                visits.chain(encounters.map(Item::Encounter).filter(|_| tag != Some("visit"))).collect()
            }
            "Observation" => {
                let live = |row: &&Obs| !row.audit.is_voided();
                tables.obs.iter().filter(live).map(Item::Obs).collect()
            }
            "Task" => tables.tasks.iter().map(Item::Task).collect(),
            "Location" => metadata().table("location").iter().map(Item::Location).collect(),
            "Practitioner" => metadata().table("provider").iter().map(Item::Provider).collect(),
            "RelatedPerson" => {
                tables.relationships.iter().filter(|row| !row.audit.is_voided()).map(Item::Related).collect()
            }
            _ => Vec::new(),
        };
        if resource != "Patient" {
            for (key, value) in filters.iter().filter(|(key, _)| key != "_tag") {
                let mut kept = Vec::new();
                for row in rows {
                    if fits(&row, key, value, tables)? {
                        kept.push(row);
                    }
                }
                rows = kept;
            }
        }
        rows.retain(|row| row.stamp().is_none_or(|stamp| window.holds(stamp)));
        if resource == "Practitioner" {
            rows.extend(metadata().users.iter().map(Item::User));
        }
        order(&mut rows, sort);
        Ok(Rows::List(rows))
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}
