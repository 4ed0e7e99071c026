//! Reports by the calls of 4.18 to 5.2 and later.
//!
//! To create a report once, write it under an id of your own with
//! [`Database::bulk_docs`](crate::docs::Database::bulk_docs): `type: "data_record"`, `content_type: "xml"` for an
//! app form, and `contact` with the whole chain of its parents.

use serde::Serialize;
use serde_json::{Value, json};

use super::{ListPage, Paging};
use crate::client::{Call, ChtClient};
use crate::error::Error;
use crate::model::{Report, ReportSummary};

/// Reports.
#[derive(Clone, Debug)]
pub struct Reports(ChtClient);

impl ChtClient {
    /// Reports.
    pub fn reports(&self) -> Reports {
        Reports(self.clone())
    }
}

impl Reports {
    /// Reads a report (4.18).
    pub async fn get(&self, id: &str) -> Result<Report, Error> {
        self.0.json(Call::get("/api/v1/report").at(id)?).await
    }

    /// Reads a report with contact, patient and place filled in (4.18): the contact's parents only as far as the
    /// report itself stores their ids.
    pub async fn get_with_lineage(&self, id: &str) -> Result<Report, Error> {
        self.0.json(Call::get("/api/v1/report").at(id)?.query("with_lineage", true)).await
    }

    /// Ids of reports by text (4.18), newest last.
    pub async fn ids_by_freetext(&self, text: &str, paging: &Paging) -> Result<ListPage<String>, Error> {
        self.0.json(paging.apply(Call::get("/api/v1/report/uuid").query("freetext", text))).await
    }

    /// Ids of reports by forms ([`ReportIdsByForm`](crate::features::Feature::ReportIdsByForm)); every version has
    /// the view `medic-client/reports_by_form`.
    pub async fn ids_by_form(&self, forms: &[&str], paging: &Paging) -> Result<ListPage<String>, Error> {
        self.0.json(paging.apply(Call::get("/api/v1/report/uuid").query("form", forms.join(",")))).await
    }

    /// Reports by ids ([`ListReports`](crate::features::Feature::ListReports)); every version has
    /// [`Database::all_docs`](crate::docs::Database::all_docs).
    pub async fn list_by_ids(&self, ids: &[&str], paging: &Paging) -> Result<ListPage<Report>, Error> {
        self.0.json(paging.apply(Call::get("/api/v1/report").query("ids", ids.join(",")))).await
    }

    /// Summaries ([`ReportSummaries`](crate::features::Feature::ReportSummaries)).
    pub async fn summaries(&self, ids: &[&str]) -> Result<Vec<ReportSummary>, Error> {
        self.0.json(Call::post("/api/v1/report/summary").json(&json!({ "ids": ids }))?).await
    }

    /// Creates a report of an uploaded app form (5.2): `contact` is an id, `fields` are not checked, and
    /// `content_type: "xml"` is yours to set. The server chooses the id; a repeat makes a second one.
    pub async fn create<T: Serialize + ?Sized>(&self, report: &T) -> Result<Report, Error> {
        self.0.json(Call::post("/api/v1/report").json(report)?).await
    }

    /// Replaces a report (5.2). The answer repeats what was sent.
    pub async fn replace<T: Serialize + ?Sized>(&self, id: &str, report: &T) -> Result<Value, Error> {
        self.0.json(Call::put("/api/v1/report").at(id)?.json(report)?).await
    }
}
