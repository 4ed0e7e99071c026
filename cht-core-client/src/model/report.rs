//! Reports (`data_record` documents).

use serde_json::{Map, Value};

use super::document::document;
use super::lineage::Reference;

document! {
    /// A report, or a message if it has no form.
    Report {
        /// Document id.
        id: String = "_id",
        /// Revision.
        rev: String = "_rev",
        /// `data_record`.
        doc_type: String = "type",
        /// Form code.
        form: String = "form",
        /// `xml` for forms of the app. Without it the CHT takes the report for an SMS.
        content_type: String = "content_type",
        /// What was filled in: all texts if an app form, typed if a JSON form.
        fields: Map<String, Value> = "fields",
        /// Who sent it, with the whole chain of ids.
        contact: Reference = "contact",
        /// Phone number of the sender.
        from: String = "from",
        /// Time of the report in epoch milliseconds. It may not change.
        reported_date: i64 = "reported_date",
        /// Why the CHT does not accept it. Any entry means: stored, but rejected.
        errors: Vec<ReportError> = "errors",
        /// Messages to be sent.
        tasks: Vec<SmsTask> = "tasks",
        /// Messages to be sent later.
        scheduled_tasks: Vec<SmsTask> = "scheduled_tasks",
        /// Shortcode of a patient that this report registered.
        patient_id: String = "patient_id",
        /// Shortcode of a place that this report registered.
        place_id: String = "place_id",
        /// Case that this report opened.
        case_id: String = "case_id",
        /// Whether a supervisor verified it.
        verified: bool = "verified",
        /// Whether the document is a tombstone.
        deleted: bool = "_deleted",
    }
}

document! {
    /// An entry of `errors`.
    ReportError {
        /// Code, such as `sys.missing_fields`.
        code: String = "code",
        /// Text for people; may quote what was sent.
        message: String = "message",
    }
}

document! {
    /// An entry of `tasks` or `scheduled_tasks`.
    SmsTask {
        /// The messages.
        messages: Vec<Value> = "messages",
        /// State, such as `pending`.
        state: String = "state",
        /// Id at the gateway.
        gateway_ref: String = "gateway_ref",
    }
}

document! {
    /// What `POST /api/v1/report/summary` tells of a report.
    ReportSummary {
        /// Document id.
        id: String = "_id",
        /// Revision.
        rev: String = "_rev",
        /// Form code.
        form: String = "form",
        /// Phone number of the sender.
        from: String = "from",
        /// Whether the report has no errors.
        valid: bool = "valid",
        /// Time of the report in epoch milliseconds.
        reported_date: i64 = "reported_date",
        /// Ids of the places above the sender, nearest first.
        lineage: Vec<String> = "lineage",
        /// Whom the report is about.
        subject: Map<String, Value> = "subject",
    }
}

impl Report {
    /// Whether the CHT rejected it.
    pub fn is_rejected(&self) -> bool {
        self.errors.as_ref().is_some_and(|errors| !errors.is_empty()) || self.rest.contains_key("errors")
    }

    /// The codes of its errors, in order.
    pub fn error_codes(&self) -> Vec<&str> {
        self.errors.iter().flatten().map(|error| error.code.as_deref().unwrap_or("unknown")).collect()
    }

    /// What the report is about, in the order in which the rules engine looks: top level first, then `fields`.
    pub fn subject(&self) -> Option<&str> {
        ["patient_id", "patient_uuid", "place_id", "place_uuid"].iter().find_map(|key| {
            let top = match *key {
                "patient_id" => self.patient_id.as_deref(),
                "place_id" => self.place_id.as_deref(),
                other => self.rest.get(other).and_then(Value::as_str),
            };
            top.or_else(|| self.fields.as_ref()?.get(*key)?.as_str()).filter(|value| !value.is_empty())
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_with_errors_is_rejected() {
        let read = |value| serde_json::from_value::<Report>(value).unwrap();
        let report = read(json!({"errors": [{"code": "sys.missing_fields", "message": "m"}, {}]}));
        assert!(report.is_rejected());
        assert_eq!(report.error_codes(), ["sys.missing_fields", "unknown"]);
        assert!(!read(json!({"errors": []})).is_rejected());
        assert!(!read(json!({})).is_rejected());
        assert!(read(json!({"errors": ["text"]})).is_rejected());
    }

    #[test]
    fn the_subject_is_the_first_of_the_known_places() {
        let read = |value| serde_json::from_value::<Report>(value).unwrap();
        let report = read(json!({"fields": {"patient_uuid": "u", "place_id": "p"}}));
        assert_eq!(report.subject(), Some("u"));
        let report = read(json!({"patient_id": "1", "fields": {"patient_id": "2"}}));
        assert_eq!(report.subject(), Some("1"));
        assert_eq!(read(json!({"fields": {"patient_id": ""}})).subject(), None);
    }
}
