//! The cumulative series of a shard: what shares add up to, step by step.
//!
//! *In:* the label sets of accepted shares, steps to close. *Out:* a [`ClosedStep`]: the requests of that step.
//! *Owner:* one series task; it is the only writer of these series. *Never:* a clock, the order of arrival in a result, a
//! float that is added to. *Next:* [`crate::remotewrite`] holds the requests, `export` sends them.
//!
//! # The life of a label set
//!
//! | state | what the receiver gets | ends when |
//! |---|---|---|
//! | live | all its samples at every step, changed or not, as a scrape would | no step touched it for `stale_after` |
//! | cold | one stale marker per series, then nothing; the values are kept | touched: live again, or `forget_after` passes |
//! | forgotten | nothing | touched: a new set, from zero |
//!
//! A set that comes back from the cold goes on counting where it stopped, without a zero: the receiver still has the old
//! value before the gap, so the difference is exactly what was added, and a zero would look like a reset. A set that
//! comes back after `stale_after + forget_after` begins again at zero with a zero sample, whether or not its memory has
//! been freed by then, so the samples do not depend on when memory is freed.
//!
//! # What differs from Tempo
//!
//! - The zero before a first value goes to `_sum`, too: without it an average over the first window divides a sum that
//!   lacks the first step by a count that has it.
//! - A series that ends gets a stale marker.
//! - An exemplar keeps its trace ID as 32 hex characters, leading zeros included, and the time of its own span. A time
//!   that is not later than the last one told of the same histogram is left out, because some receivers would refuse the
//!   whole sample; so is one far ahead of its step.
//!
//! # Why a share never names a forgotten set
//!
//! A span task spells a set out when it has not mentioned it for more than `stale_after` of its own stream time. So when
//! a share with stream time `s` only names a set, an earlier share of the same source mentioned it at some
//! `m >= s - stale_after`, and the chain has accepted that one first. Until the share itself is accepted, the stream time
//! known here of this source is at most `s`, so the least one over all sources, the watermark `w`, is at most
//! `m + stale_after <= last_mentioned + stale_after`. A set is freed only when `w > last_mentioned + stale_after +
//! forget_after`, which cannot hold then. Steps do not occur in the argument, so it covers forced closes, too.
//! It needs every source in the watermark: one that is no longer read holds freeing back, never correctness.
//!
//! # Why results do not depend on the order of arrival
//!
//! Everything is decided while a step is folded, from sums, maxima and the step itself: cells add up, an exemplar is the
//! greatest candidate, a set takes the layout of its latest definition (by step; of several in one step their join), and
//! deltas of several layouts are kept apart until then. The buckets of a native histogram, and their resolution, are a
//! function of the set of its observations (`src/model/layout/native.rs` has the argument). Samples are written in the
//! order of tenant, family and label block. So any interleaving of the sources gives the same bytes, as long as steps
//! close by watermark.
//!
//! # When the layout of a live set changes
//!
//! Names, buckets and the kind of histogram are those of the latest definition. A histogram or a fraction of a weight that
//! the set has once had stays until the set begins anew: its calls and its latency may come from different raw keys, with
//! a layout each, and both go on. A set that stands for refused ones keeps what it began with. Counters, counts and sums stay exact, only the bounds between buckets move. Series that
//! end by the change get a marker, those that come in their place no zero.

mod admission;
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
mod set;
mod sets;
mod snapshot;
mod tenant;
mod tenants;

pub use cardinality::{Cardinality, Offender};
pub use emit::ClosedStep;
pub use registry::{AddError, LayoutId, Registry};
pub(crate) use snapshot::OLD_VERSION;
pub use tenant::{TenantBook, TenantSeries};

use crate::config::Tenants;
use crate::model::{Millis, StepWidth};

/// What a series task needs of the configuration. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSettings {
    /// `time.step`
    pub step: StepWidth,
    /// `series.stale_after`
    pub stale_after: Millis,
    /// `series.forget_after`
    pub forget_after: Millis,
    /// `series.zero_offset`; 0 switches zero samples off. Above `forget_after`, the zero of a set that begins anew could
    /// lie before the marker that ended its series.
    pub zero_offset: Millis,
    /// `kafka.shards`
    pub shards: u32,
    /// What tenants may have of their own.
    pub tenants: TenantBook,
}

/// What the allocator takes for a piece of memory: a word of its own, in sixteens.
fn heap(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + size_of::<usize>()).next_multiple_of(16).max(32) }
}

// === impl SeriesSettings ===

impl From<&Tenants> for SeriesSettings {
    fn from(tenants: &Tenants) -> Self {
        let config = tenants.defaults();
        Self {
            step: config.time.step,
            stale_after: config.series.stale_after,
            forget_after: config.series.forget_after,
            zero_offset: config.series.zero_offset,
            shards: config.kafka.shards,
            tenants: TenantBook::from(tenants),
        }
    }
}

impl SeriesSettings {
    /// How long after its last touch a set counts as new.
    fn memory(&self) -> Millis {
        self.stale_after.saturating_add(self.forget_after)
    }
}
