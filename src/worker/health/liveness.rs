//! Signs of life of a worker, for its probes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When the threads of a worker last showed progress.
#[derive(Debug)]
pub(crate) struct Liveness {
    started: Instant,
    /// When the member thread last ran its loop, in milliseconds since the start.
    beat: AtomicU64,
    /// When the readiness conditions were last checked.
    judged: AtomicU64,
    /// Whether the worker has joined the groups.
    joined: AtomicBool,
}

// === impl Liveness ===

impl Liveness {
    pub(crate) fn new() -> Self {
        let [beat, judged] = [const { AtomicU64::new(0) }; 2];
        Self { started: Instant::now(), beat, judged, joined: AtomicBool::new(false) }
    }

    /// The member thread has run its loop.
    pub(crate) fn beat(&self) {
        self.beat.store(self.uptime(), Ordering::Relaxed);
    }

    /// How long ago the member thread last ran its loop.
    pub(crate) fn beat_age(&self) -> Duration {
        self.ago(&self.beat)
    }

    /// The readiness conditions were checked.
    pub(super) fn judged(&self) {
        self.judged.store(self.uptime(), Ordering::Relaxed);
    }

    /// How long ago the readiness conditions were last checked.
    pub(crate) fn judged_ago(&self) -> Duration {
        self.ago(&self.judged)
    }

    /// Sets whether the worker has joined both groups, as the member thread saw it last.
    pub(crate) fn set_joined(&self, joined: bool) {
        self.joined.store(joined, Ordering::Relaxed);
    }

    /// The value that was set last.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    fn ago(&self, at: &AtomicU64) -> Duration {
        Duration::from_millis(self.uptime().saturating_sub(at.load(Ordering::Relaxed)))
    }

    /// Milliseconds since the start: the wall clock may jump.
    fn uptime(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
