//! Documents of the CHT as types.
//!
//! Nothing is enforced by the CHT, so nothing is enforced here: every known field is optional, a field whose value
//! has an unexpected type stays in `rest` as it is, and so does every unknown field. Reading and writing a document
//! changes nothing in it. `Debug` shows which fields are there and never what they hold.

mod contact;
mod document;
mod infodoc;
mod lineage;
mod monitoring;
mod report;
mod settings;
mod task;
mod user;

pub use contact::{Contact, ContactSummary};
pub use infodoc::{CompletedTask, Infodoc, TransitionRun};
pub use lineage::{Lineage, MAX_DEPTH, Reference, minify};
pub use monitoring::{
    Backlog, Count, DatabaseFigures, Databases, DeployInfo, Impact, Monitoring, Readiness, ServerVersions,
    Version,
};
pub use report::{Report, ReportError, ReportSummary, SmsTask};
pub use settings::{ContactType, FieldDefinition, FormDefinition, Problem, Settings};
pub use task::{StateChange, Target, TargetValue, Task};
pub use user::{NewUser, User, UserWritten};
