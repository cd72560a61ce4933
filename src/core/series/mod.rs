//! The cumulative series of a shard: the sums of delta records, step by step.
//!
//! *In:* the label sets of accepted delta records, steps to close. *Out:* a [`ClosedStep`]: the requests of that step.
//! *Owner:* one series task; it is the only writer of these series. *Never:* a clock, the order of arrival in a result,
//! a float that is added to. *Next:* [`crate::core::remotewrite`] holds the requests, `export` sends them.
//!
//! # The life of a label set
//!
//! | state | what the receiver gets | ends when |
//! |---|---|---|
//! | live | all its samples at every step, changed or not, as a scrape would | no step touched it for `stale_after` |
//! | cold | one stale marker per series, then nothing; the values are kept | touched: live again, or `forget_after` passes |
//! | forgotten | nothing | touched: a new set, from zero |
//!
//! The sample before the first value of a series is its earlier value: a zero when the set is new, its kept value when
//! it comes back from the cold and continues counting where it stopped. So `increase()` and `rate()` see the first
//! step, also where their window does not reach back to the old value. A set that comes back after
//! `stale_after + forget_after` begins again at zero with a zero sample, whether or not its memory has been freed by
//! then, so the samples do not depend on when memory is freed.
//!
//! That sample lies `zero_offset` before the value, by default 1 ms after the step before, where it is true: the
//! counter stood there. Queries that look at a window of some steps then see what they see of a series that was always
//! there. docs/internals/measurements.md has the measurements for other places. In any case it lies after the step that
//! was closed before, whose marker of the same series receivers may have. Infos have none: a zero would be another
//! info.
//!
//! # What differs from Tempo
//!
//! - The zero before a first value goes to `_sum`, too: without it an average over the first window divides a sum that
//!   lacks the first step by a count that has it. It lies in the step of the value, and not in the minute before.
//! - A series that ends gets a stale marker.
//! - An exemplar keeps its trace ID as 32 hex characters, leading zeros included, and the time of its own span. A time
//!   that is not later than the last one sent of the same histogram is skipped, because some receivers would refuse the
//!   whole sample; so is one far ahead of its step.
//!
//! # Why a delta record never names a forgotten set
//!
//! A span task sends a set in full when it has not mentioned it for more than some time `r` of its own stream time. The
//! value of `r` is in its delta records: it is a setting of the source's owner, which may differ from that of others. A
//! new owner sends everything in full again. So when a delta record with stream time `s` only names a set, an earlier
//! delta record of the same owner mentioned it at some `m >= s - r`, and the chain has accepted that one first, with
//! `r` in it. Until the delta record itself is accepted, the stream time `t` known here of this source is at most `s`,
//! so `t <= m + r <= last_mentioned + r`. A set is freed only when `t > last_mentioned + max(r, memory)` for every
//! source, each with its own `t` and `r`, which cannot hold for this one then. Steps do not occur in the argument, so
//! it covers forced closes, too.
//!
//! A source that does not report its `r`, because an earlier version owns it, holds all freeing back. So does one that
//! is silent, until it is forgotten: when it is no longer configured and its memory is over. Should it come back after
//! that, a new owner sends everything in full. Only delta records that its last owner had committed and not yet
//! forwarded may name what is freed by then.
//!
//! # Why results do not depend on the order of arrival
//!
//! Everything is decided while a step is folded, from sums, maxima and the step itself: cells add up, an exemplar is
//! the greatest candidate, a set takes the layout of its latest definition (by step; of several in one step their
//! join), and deltas of several layouts are kept apart until then. The buckets of a native histogram, and their
//! resolution, are a function of the set of its observations (`src/core/model/layout/native.rs` has the argument).
//! Samples are written in the order of tenant, family and label block. So any interleaving of the sources gives the
//! same bytes, as long as steps close by watermark.
//!
//! # When the layout of a live set changes
//!
//! Names, buckets and the kind of histogram are those of the latest definition. A histogram or a fraction of a weight
//! that the set has once had stays until the set begins again: its calls and its latency may come from different raw
//! keys, with a layout each, and both continue. A set that stands for refused ones keeps what it began with. Counters,
//! counts and sums stay exact, only the bounds between buckets move. Series that end by the change get a marker, those
//! that come in their place start with what the set had counted.

mod admission;
mod aliases;
mod candidates;
mod cardinality;
mod chunks;
mod emit;
mod fold;
mod instead;
mod layouts;
mod limits;
mod metrics;
mod open;
mod registry;
mod reshard;
mod set;
mod sets;
mod settings;
mod since;
mod snapshot;
mod starts;
mod tenancy;
mod tenant;
mod tenants;
mod unnamed;

pub use cardinality::{Cardinality, TopLabel};
pub use emit::{ClosedStep, IllegalSeries};
pub use open::Touched;
pub use registry::{AddError, LayoutId, Registry};
pub use reshard::{DivideError, divide};
pub use settings::SettingsError;
pub(crate) use snapshot::{OLD_VERSION, VERSION, VERSION_3};
pub use tenancy::OVERFLOW_TENANT;
pub use tenant::{TenantBook, TenantSeries};

use crate::core::model::{Family, Millis, Namer, Seed, StepWidth};

/// For how long after its last call an edge is not new when it is called again: eight days, so that what runs once a week
/// is not new each time. Its series end as all others do.
pub const EDGE_MEMORY: Millis = 8 * 24 * 3_600_000;

/// What a series task needs of the configuration: all of it decides what is sent. So it is journaled when it changes,
/// and an owner that closes a step again uses the settings that it was first closed by. Durations are
/// milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSettings {
    /// `time.step`
    pub step: StepWidth,
    /// `series.stale_after`
    pub stale_after: Millis,
    /// `series.forget_after`
    pub forget_after: Millis,
    /// `series.zero_offset`, less than a step; 0 sends nothing before first values. Never more than back to the step before,
    /// where a marker of the same series may lie.
    pub zero_offset: Millis,
    /// `kafka.shards`
    pub shards: u32,
    /// What tenants may have of their own.
    pub tenants: TenantBook,
    /// How label sets are named: as the group is.
    pub namer: Namer,
    /// The seed that hides where names lie in memory. Production sets a random one.
    pub seed: Seed,
}

/// What the allocator takes for a piece of memory: with a word of overhead, in multiples of 16.
fn heap(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + size_of::<usize>()).next_multiple_of(16).max(32) }
}

// === impl SeriesSettings ===

impl SeriesSettings {
    /// The same with a seed that no sender knows.
    #[must_use]
    pub fn seeded(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// How long after its last touch a set counts as new.
    #[must_use]
    pub fn memory(&self) -> Millis {
        self.stale_after.saturating_add(self.forget_after)
    }

    /// The same for a set of this family. Edges are remembered for longer than series are: see [`EDGE_MEMORY`].
    #[must_use]
    pub fn memory_of(&self, family: Family) -> Millis {
        if family.is_seen() { self.memory().max(EDGE_MEMORY) } else { self.memory() }
    }
}
