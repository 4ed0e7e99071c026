//! Server messages read into reasons without values.
//!
//! A message of the CHT or CouchDB can quote what was sent. Only messages in known words are recognised, and of
//! what they quote only field names from a fixed list survive.

use std::fmt;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The content type is not exactly `application/json`.
    ContentType,
    /// There is no body, or it has the wrong content type.
    EmptyBody,
    /// The body is larger than the server takes (32 MiB).
    TooLarge,
    /// These fields are missing or have a wrong type.
    Fields(Vec<&'static str>),
    /// These fields must be left out.
    FieldsNotAllowed(Vec<&'static str>),
    /// These fields may not change.
    FieldsChanged(Vec<&'static str>),
    /// `_id`, `_rev` or `type` is missing or wrong.
    Identity,
    /// `_rev` has no valid form.
    RevisionFormat,
    /// The document has a field that may not start with an underscore.
    SpecialField,
    /// The parent does not exist.
    ParentNotFound,
    /// A contact of this type may not be below that parent.
    ParentNotAllowed,
    /// A contact of this type needs a parent.
    ParentRequired,
    /// The chain of parents is not the stored one.
    LineageChanged,
    /// The contact that is named does not exist.
    ContactNotFound,
    /// A contact is missing.
    ContactRequired,
    /// The contact type is not configured, or not for this call.
    ContactType,
    /// The name is missing.
    NameRequired,
    /// The date of the report cannot be read.
    ReportedDate,
    /// The form is not known to this call.
    UnknownForm,
    /// A record has no `_meta`.
    MetaRequired,
    /// A record has no form, no message or no sender.
    RecordIncomplete,
    /// The search text is too short or has blanks.
    Freetext,
    /// The cursor is not one that the server gave.
    Cursor,
    /// The limit is not a positive number.
    Limit,
    /// A query parameter or filter is missing.
    QueryIncomplete,
    /// The data set is not configured.
    DataSet,
    /// The phone number is missing or not valid.
    Phone,
    /// The place in the feed is not one that the server gave.
    Sequence,
    /// The message was not saved: it is incomplete, or it is there already.
    NotSaved,
    /// The user lacks a permission.
    Permission,
    /// The user is an offline user.
    OfflineUser,
    /// Only an administrator may do this.
    AdministratorOnly,
    /// The token is missing, wrong or not configured.
    Token,
    /// A user cannot be created or changed, with the translation key of the reason.
    User(&'static str),
    /// The database, or the call, does not exist.
    NoSuchDatabase,
    /// The document is deleted.
    Deleted,
    /// The server is starting.
    Starting,
    /// The document id cannot be used: empty, `.`, `..`, or starting with an underscore.
    DocumentId,
    /// The request cannot be expressed in HTTP or JSON.
    Request,
    /// An error code of CouchDB.
    Code(&'static str),
    /// The server's words are not known.
    Unknown,
}

const FIELDS: [&str; 17] = [
    "_id",
    "_rev",
    "type",
    "contact_type",
    "name",
    "parent",
    "phone",
    "patient_id",
    "place_id",
    "sex",
    "date_of_birth",
    "reported_date",
    "contact",
    "form",
    "fields",
    "ids",
    "doc_ids",
];

const CODES: [&str; 26] = [
    "bad_request",
    "bad_content_type",
    "conflict",
    "database_does_not_exist",
    "doc_validation",
    "document_too_large",
    "error",
    "file_exists",
    "forbidden",
    "illegal_docid",
    "internal_server_error",
    "invalid_operator",
    "method_not_allowed",
    "missing_required_key",
    "mango_idx",
    "no_usable_index",
    "not_acceptable",
    "not_found",
    "query_parse_error",
    "request_entity_too_large",
    "service_unavailable",
    "timeout",
    "too_large",
    "unauthorized",
    "unknown_error",
    "view_undefined",
];

/// Translation keys of the users calls.
const USER_KEYS: [&str; 6] = [
    "configuration.user.place.contact",
    "fields.required",
    "password.length.minimum",
    "password.weak",
    "username.invalid",
    "username.taken",
];

/// Beginning and end of a message, and what it means.
const MESSAGES: [(&str, &str, Reason); 52] = [
    ("Content-Type must be application/json", "", Reason::ContentType),
    ("Request body is empty", "", Reason::EmptyBody),
    ("Missing required request body", "", Reason::EmptyBody),
    ("Valid _id, _rev, and type fields must be provided", "", Reason::Identity),
    ("Invalid rev format", "", Reason::RevisionFormat),
    ("Bad special document member", "", Reason::SpecialField),
    ("Parent contact [", "] not found.", Reason::ParentNotFound),
    ("Failed to find place.", "", Reason::ParentNotFound),
    ("Parent contact of type [", "", Reason::ParentNotAllowed),
    ("Place type [", "does not support having a parent contact.", Reason::ParentNotAllowed),
    ("", "should have one of the following parent types", Reason::ParentNotAllowed),
    ("Place type [", "requires a parent contact.", Reason::ParentRequired),
    ("Parent lineage does not match.", "", Reason::LineageChanged),
    ("Contact [", "] not found.", Reason::ContactNotFound),
    ("A contact must be provided.", "", Reason::ContactRequired),
    ("Invalid contact type [", "", Reason::ContactType),
    ("[", "is not a valid person type.", Reason::ContactType),
    ("[", "is not a valid place type.", Reason::ContactType),
    ("Wrong type, ", "", Reason::ContactType),
    ("", "is missing a \"name\" property.", Reason::NameRequired),
    ("Reported date is invalid", "", Reason::ReportedDate),
    ("Invalid reported_date.", "", Reason::ReportedDate),
    ("Invalid form value [", "", Reason::UnknownForm),
    ("Form not found", "", Reason::UnknownForm),
    ("Missing _meta property.", "", Reason::MetaRequired),
    ("Missing required field: ", "", Reason::RecordIncomplete),
    ("Missing required value: ", "", Reason::RecordIncomplete),
    ("Invalid freetext [", "", Reason::Freetext),
    ("The cursor must be", "", Reason::Cursor),
    ("The limit must be", "", Reason::Limit),
    ("Either query param", "", Reason::QueryIncomplete),
    ("Query param", "", Reason::QueryIncomplete),
    ("filter \"", "is required", Reason::QueryIncomplete),
    ("POST body must include", "", Reason::QueryIncomplete),
    ("Missing JSON list of", "", Reason::QueryIncomplete),
    ("`doc_ids` parameter must be", "", Reason::QueryIncomplete),
    ("Invalid export type", "", Reason::QueryIncomplete),
    ("dataSet \"", "is not defined", Reason::DataSet),
    ("`phone` parameter is required", "", Reason::Phone),
    ("Malformed sequence", "", Reason::Sequence),
    ("Message was not saved", "", Reason::NotSaved),
    ("Insufficient privileges", "", Reason::Permission),
    ("Insufficient permissions", "", Reason::Permission),
    ("You are not allowed to access this db", "", Reason::Permission),
    ("Offline users are not allowed", "", Reason::OfflineUser),
    ("You are not authorized to edit admin only docs", "", Reason::AdministratorOnly),
    ("Missing authorization token", "", Reason::Token),
    ("Incorrect token", "", Reason::Token),
    ("No incoming key configured", "", Reason::Token),
    ("Database does not exist.", "", Reason::NoSuchDatabase),
    ("deleted", "", Reason::Deleted),
    ("Service unavailable", "", Reason::Starting),
];

impl Reason {
    pub(crate) fn of_message(message: &str) -> Self {
        let message = message.trim();
        if let Some(rest) = message.strip_prefix("The [")
            && let Some((names, end)) = rest.split_once(']')
        {
            let fields = field_names(names);
            if end.contains("must not be changed") {
                return Self::FieldsChanged(fields);
            }
            if end.contains("must not be set") {
                return Self::FieldsNotAllowed(fields);
            }
            if end.contains("must have") {
                return Self::Fields(fields);
            }
        }
        MESSAGES
            .iter()
            .find(|(begin, end, _)| message.starts_with(begin) && (end.is_empty() || message.contains(end)))
            .map_or(Self::Unknown, |(_, _, reason)| reason.clone())
    }

    pub(crate) fn of_code(code: &str) -> Self {
        CODES.iter().find(|known| **known == code).map_or(Self::Unknown, |known| Self::Code(known))
    }

    pub(crate) fn of_translation_key(key: &str) -> Self {
        USER_KEYS.iter().find(|known| **known == key).map_or(Self::Unknown, |known| Self::User(known))
    }

    pub(crate) fn or(self, other: impl FnOnce() -> Self) -> Self {
        if self == Self::Unknown { other() } else { self }
    }

    pub(crate) fn is_stale_revision(&self) -> bool {
        matches!(self, Self::FieldsChanged(fields) if fields.contains(&"_rev"))
    }
}

fn field_names(list: &str) -> Vec<&'static str> {
    list.split(',')
        .map(|name| FIELDS.iter().find(|known| **known == name.trim()).copied().unwrap_or("(other)"))
        .collect()
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Fields(fields) => {
                return write!(f, "missing or of a wrong type: {}", fields.join(", "));
            }
            Self::FieldsNotAllowed(fields) => return write!(f, "must be left out: {}", fields.join(", ")),
            Self::FieldsChanged(fields) => return write!(f, "must not change: {}", fields.join(", ")),
            Self::User(key) => return write!(f, "the user is not accepted ({key})"),
            Self::Code(code) => code,
            Self::ContentType => "the content type must be exactly application/json",
            Self::EmptyBody => "the body is missing or has the wrong content type",
            Self::TooLarge => "the body is larger than the server takes",
            Self::Identity => "_id, _rev or type is missing or wrong",
            Self::RevisionFormat => "_rev is not a revision",
            Self::SpecialField => "a field starts with an underscore",
            Self::ParentNotFound => "the parent does not exist",
            Self::ParentNotAllowed => "a contact of this type may not be below that parent",
            Self::ParentRequired => "a contact of this type needs a parent",
            Self::LineageChanged => "the parents are not the stored ones",
            Self::ContactNotFound => "the contact does not exist",
            Self::ContactRequired => "a contact must be given",
            Self::ContactType => "the contact type is not configured or does not fit this call",
            Self::NameRequired => "the name is missing",
            Self::ReportedDate => "reported_date cannot be read",
            Self::UnknownForm => "the form is not known; compare settings.forms and the uploaded forms",
            Self::MetaRequired => "_meta is missing",
            Self::RecordIncomplete => "the form, the message or the sender is missing",
            Self::Freetext => "the search text needs three characters and no blanks",
            Self::Cursor => "the cursor is not one that the server gave",
            Self::Limit => "the limit must be a positive number",
            Self::QueryIncomplete => "a parameter is missing",
            Self::DataSet => "the data set is not in settings.dhis_data_sets",
            Self::Phone => "the phone number is missing or not valid",
            Self::Sequence => "the place in the feed is not one that the server gave",
            Self::NotSaved => "the message is incomplete or there already",
            Self::Permission => "a permission is missing",
            Self::OfflineUser => "offline users may not; give the role mm-online",
            Self::AdministratorOnly => "only an administrator may",
            Self::Token => "the token is missing, wrong or not configured",
            Self::NoSuchDatabase => "no such call or database",
            Self::Deleted => "the document is deleted",
            Self::Starting => "the server is starting",
            Self::DocumentId => "the document id cannot be used",
            Self::Request => "the request cannot be expressed",
            Self::Unknown => "the server gave no known reason",
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_survive_and_values_do_not() {
        let reason = Reason::of_message("The [type,Zuri] fields must not be changed.");
        assert_eq!(reason.to_string(), "must not change: type, (other)");
        let reason = Reason::of_message("Parent contact [Zuri] not found.");
        assert_eq!(reason, Reason::ParentNotFound);
        assert_eq!(Reason::of_message("Zuri was here"), Reason::Unknown);
        assert_eq!(Reason::of_code("zuri"), Reason::Unknown);
        assert_eq!(Reason::of_translation_key("username.taken"), Reason::User("username.taken"));
        assert_eq!(Reason::of_translation_key("zuri.taken"), Reason::Unknown);
    }
}
