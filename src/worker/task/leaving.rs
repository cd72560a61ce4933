//! How far the closing of a task has progressed, after the group has revoked its partition.

/// From drained to released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Leaving {
    /// It is not closing.
    #[default]
    No,
    /// It reads nothing more, and finishes what it has read.
    Draining,
    /// The release of its journal is appended.
    Releasing,
    /// The release counts.
    Released,
}

// === impl Leaving ===

impl Leaving {
    /// Starts closing.
    pub(crate) fn drain(&mut self) {
        *self = Self::Draining.max(*self);
    }

    /// Whether it is closing.
    pub(crate) fn is_under_way(self) -> bool {
        self > Self::No
    }

    /// Whether the release is appended, whether or not it counts already.
    pub(crate) fn is_released(self) -> bool {
        self >= Self::Releasing
    }
}
