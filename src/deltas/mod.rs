//! The open step of a span task, and the shares that carry it to the shards.
//!
//! *In:* label sets and observations from the processors. *Out:* at a cut, the share records of every shard.
//! *Owner:* one span task. *Never:* a float, a map whose order reaches the output.
//! *Next:* [`crate::journal`] stores the cut in a commit, [`crate::series`] adds what it reads.

mod share;
mod table;

pub use share::{CellDelta, SetDelta, Share, ShareError, ShareHead};
pub use table::{Cut, Define, DeltaTable, SetId};
