//! How far a task is on its way out, when the group has taken its partition away in order.

/// From drained to released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Leaving {
    /// It stays.
    #[default]
    No,
    /// It reads nothing more, and brings what it has read to its end.
    Draining,
    /// The release of its journal is appended.
    Releasing,
    /// The release counts.
    Released,
}

// === impl Leaving ===

impl Leaving {
    /// It is to go.
    pub(crate) fn drain(&mut self) {
        *self = Self::Draining.max(*self);
    }

    /// Whether it is on its way out.
    pub(crate) fn is_under_way(self) -> bool {
        self > Self::No
    }

    /// Whether the release is appended, whether or not it counts already.
    pub(crate) fn is_released(self) -> bool {
        self >= Self::Releasing
    }
}
