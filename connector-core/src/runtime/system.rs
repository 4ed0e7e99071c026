//! One end of a bridge as the runtime sees it: its connector, what it can do, its pace, whether it is halted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pace::Pace;
use crate::connector::{Capabilities, Connector};
use crate::reconcile::Side;

/// One end of a bridge.
pub struct System {
    /// Its configured name: the `system` of its records.
    pub name: String,
    /// Which end it is.
    pub side: Side,
    /// What speaks with it.
    pub connector: Arc<dyn Connector>,
    /// What it can do; read once, when the configuration was.
    pub capabilities: Capabilities,
    pub(super) pace: Pace,
    halted: AtomicBool,
    checked: AtomicBool,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("name", &self.name).field("side", &self.side).finish_non_exhaustive()
    }
}

impl System {
    /// A system under its configured name.
    pub fn new(name: impl Into<String>, side: Side, connector: Arc<dyn Connector>) -> Self {
        let capabilities = connector.capabilities();
        Self {
            name: name.into(),
            side,
            pace: Pace::new(&capabilities),
            connector,
            capabilities,
            halted: AtomicBool::new(false),
            checked: AtomicBool::new(false),
        }
    }

    /// Whether requests other than probes are held back.
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }

    pub(super) fn set_halted(&self, halted: bool) {
        self.halted.store(halted, Ordering::SeqCst);
    }

    /// Whether a check has been good since the start: before it nothing is planned.
    pub fn is_checked(&self) -> bool {
        self.checked.load(Ordering::SeqCst)
    }

    pub(super) fn set_checked(&self) {
        self.checked.store(true, Ordering::SeqCst);
    }
}
