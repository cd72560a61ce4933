//! A replay run: the stretch of every partition, agreed upon by all its workers, and its progress.
//!
//! *In:* bounds as text, the state of the brokers. *Out:* a [`ReplayPlan`], which the first worker of a run writes into
//! a topic of its own and all others read there; a [`ReplayProgress`] from the journals. *Owner:* the command line.
//! *Never:* a topic or a group of live workers; a second opinion on where a run ends. *Next:*
//! [`crate::worker::Worker::replay`].

mod agree;
mod honor;
mod plan;
mod progress;
mod range;

pub use agree::{Run, RunError, Wanted, agree, propose, remove};
pub use plan::{Planned, ReplayPlan, settings_of};
pub use progress::{PartitionProgress, ReplayProgress, Watch};
pub use range::{At, Bound, BoundError, Bounds};
