//! Referrals between the community and a facility.

use serde::{Deserialize, Serialize};

use super::RecordId;

/// A referral, or what became of one.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Referral {
    /// A community health worker sends somebody to a facility.
    Request {
        /// Who is referred.
        patient: RecordId,
        /// Why, in the words or code of the source.
        reason: String,
    },
    /// The facility accepted, saw, closed or sent back.
    Update {
        /// The request.
        referral: RecordId,
        /// `accepted`, `seen`, `closed`, `counter-referral`.
        status: String,
    },
}
