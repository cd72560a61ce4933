//! Carries out the decisions of the groups: opens and closes tasks on the threads that run them.
//!
//! *In:* partitions that the groups assign and revoke, source topics, the file with the overrides. *Out:* turns of
//! running tasks, the groups' offsets, records that may be deleted. *Owner:* the member thread, the worker threads, and
//! the thread `overrides`. *Never:* two threads in one task. *Next:* `member` opens tasks, `thread` runs them.

mod buffers;
mod demand;
mod following;
mod member;
mod membership;
mod overrides;
mod parts;
mod renewal;
mod storm;
mod thread;

pub(crate) use self::member::run;
pub(crate) use self::overrides::{at_start, follow};
pub(crate) use self::parts::Parts;
