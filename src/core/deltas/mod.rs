//! The open steps of a span task, and the delta records that carry them to the shards.
//!
//! *In:* label sets and observations from the processors. *Out:* at a cut, the delta records of every shard.
//! *Owner:* one span task. *Never:* a float, a map whose order reaches the output.
//! *Next:* [`crate::core::journal`] stores the cut in a commit, [`crate::core::series`] adds up the delta records.
//!
//! # Which shard owns a label set
//!
//! [`shard_of`]: all label sets of a service of a tenant (of a client, for edges) are in one shard, where a limit can
//! merge them. It follows from the tenant and from the finished labels, and from nothing else: equal labels are in one
//! shard, wherever they were seen, so a series has one writer.

mod delta_record;
mod key;
mod table;

pub use delta_record::{CellDelta, DeltaHead, DeltaRecord, DeltaRecordError, Sender, SetDelta};
pub(crate) use delta_record::{encode_cells, encode_exemplars};
pub use key::{Pieces, Prefix, RawKey};
pub use table::{Cut, Define, DeltaTable, Growing, Limited, SetId, shard_of};
