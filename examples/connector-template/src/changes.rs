//! Records of the partner into canonical changes. This endpoint gives none.

use connector_core::change::{Change, Record};
use connector_core::connector::Reject;

/// The changes that a record stands for.
pub fn changes(_record: &Record) -> Result<Vec<Change>, Reject> {
    Ok(vec![])
}
