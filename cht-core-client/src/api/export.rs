//! Exports, and deletion in bulk.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bulk::{RowOutcome, read_rows};
use crate::client::{Call, ChtClient, is_page};
use crate::error::Error;
use crate::transport::Body;

/// A DHIS2 data value set, summed from the targets of one month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DataValueSet {
    /// Data set.
    pub data_set: String,
    /// Date of the export, `YYYY-MM-DD`.
    pub complete_date: String,
    /// Month, `YYYYMM`.
    pub period: String,
    /// Values; organisation units without data are there with zero.
    pub data_values: Vec<DataValue>,
}

/// One value. It is the target's total, for percent targets too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DataValue {
    /// Data element.
    pub data_element: String,
    /// Organisation unit.
    pub org_unit: String,
    /// Value.
    pub value: Value,
    /// Further properties of the target's `dhis`, such as `categoryOptionCombo`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What to export as CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvExport {
    /// Reports.
    Reports,
    /// Contacts.
    Contacts,
    /// Messages.
    Messages,
    /// Feedback.
    Feedback,
}

impl fmt::Display for CsvExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reports => "reports",
            Self::Contacts => "contacts",
            Self::Messages => "messages",
            Self::Feedback => "feedback",
        })
    }
}

impl ChtClient {
    /// The targets of one month as a data value set.
    ///
    /// `from`: any time in the month, in epoch milliseconds. Needs `can_export_all`: the CHT answers everybody else
    /// with 500, also users with `can_export_dhis`.
    pub async fn export_dhis(
        &self,
        data_set: &str,
        from: i64,
        org_unit: Option<&str>,
    ) -> Result<DataValueSet, Error> {
        let call = Call::get("/api/v2/export/dhis")
            .query("filters[dataSet]", data_set)
            .query("filters[date][from]", from)
            .query_if("filters[orgUnit]", org_unit);
        self.json(call).await
    }

    /// An export as CSV, as it arrives. Filters are pairs such as `filters[forms][selected][0][code]` and a form.
    ///
    /// Quotes in values are written `\"`; an export that fails midway ends with the line `--ERROR--`.
    pub async fn export_csv(&self, what: CsvExport, filters: &[(&str, &str)]) -> Result<Body, Error> {
        let mut call = Call::get("/api/v2/export").at(&what.to_string())?;
        for (name, value) in filters {
            call = call.query((*name).to_owned(), value);
        }
        let answer = self.open(call).await?;
        if is_page(answer.headers()) {
            return Err(Error::page_instead_of_data(answer.status(), b""));
        }
        Ok(answer.into_body())
    }

    /// Deletes documents, keeping their fields in the tombstones, and takes deleted persons out of their places.
    ///
    /// Ids that do not exist are skipped: there is no row for them. A missing login or right is answered with 500.
    pub async fn bulk_delete(&self, ids: &[&str]) -> Result<Vec<RowOutcome>, Error> {
        let docs: Vec<Value> = ids.iter().map(|id| json!({ "_id": id })).collect();
        let call = Call::post("/api/v1/bulk-delete").json(&json!({ "docs": docs }))?;
        let batches: Vec<Vec<Value>> = self.json(call).await?;
        read_rows(batches.into_iter().flatten())
    }
}
