//! The rules of the delivery core, each of which a test takes out to see the simulation fail.
//!
//! In a build without the feature `mutation` every rule holds and the checks cost nothing.

/// One rule. `docs/spec/connector.md` describes what each protects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// An unknown outcome is confirmed before it is sent again.
    Confirm = 1,
    /// No counterpart for a record that an open create may have made, and a claimed id is believed.
    EchoBarrier = 1 << 1,
    /// A field moves against the base kept at the link.
    FieldBase = 1 << 2,
    /// Keys of once-only effects hold no version.
    VersionFreeKeys = 1 << 3,
    /// A row that waits for a counterpart steps aside.
    WaitingStepsAside = 1 << 4,
    /// One end a system and person, checked again where the link is made.
    LinkCheck = 1 << 5,
    /// Two people with one identifier are never looked up or created at once.
    ExclusiveNames = 1 << 6,
    /// A row is looked up only at the head of all its lanes.
    LookUpAtTurn = 1 << 7,
    /// A plan holds only while nothing settles in its lanes.
    PlanNumbers = 1 << 8,
    /// What a pass no longer holds is fetched.
    Absence = 1 << 9,
    /// A halted system hears nothing but a rare probe.
    SlowProbe = 1 << 10,
    /// No byte leaves after the deadline.
    Deadline = 1 << 11,
    /// A settle needs the owner and attempt of its claim.
    SettleFence = 1 << 12,
    /// A record read before the other direction settled a field is read again.
    FreshSource = 1 << 13,
    /// One open attempt a person over both directions.
    OneDirection = 1 << 14,
}

/// Which rules hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    #[cfg(feature = "mutation")]
    broken: u32,
}

impl Rules {
    /// All rules.
    pub const fn all() -> Self {
        Self {
            #[cfg(feature = "mutation")]
            broken: 0,
        }
    }

    /// Whether the rule holds.
    #[inline]
    pub fn hold(self, rule: Rule) -> bool {
        #[cfg(feature = "mutation")]
        return self.broken & rule as u32 == 0;
        #[cfg(not(feature = "mutation"))]
        {
            let _ = rule;
            true
        }
    }

    /// Without this rule.
    #[cfg(feature = "mutation")]
    pub fn without(mut self, rule: Rule) -> Self {
        self.broken |= rule as u32;
        self
    }
}
