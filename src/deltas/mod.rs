//! The open step of a span task, and the shares that carry it to the shards.
//!
//! *In:* label sets and observations from the processors. *Out:* at a cut, the share records of every shard.
//! *Owner:* one span task. *Never:* a float, a map whose order reaches the output.
//! *Next:* [`crate::journal`] stores the cut in a commit, [`crate::series`] adds what it reads.
//!
//! # Which shard owns a label set
//!
//! The one of its [`route`]: all label sets of a service of a tenant (of a client, for edges) are in one shard, where a limit
//! can merge them. A series has one writer because a route follows from the tenant and from labels that the set has: equal
//! labels have equal routes, wherever they were seen. What the route was made from must therefore be among the labels.

mod share;
mod table;

pub use share::{CellDelta, SetDelta, Share, ShareError, ShareHead};
pub use table::{Cut, Define, DeltaTable, Limited, SetId, shard_of};
