//! The parts that running tasks, the threads that run them, and the pool that acquires tasks share.
//!
//! *In:* what the worker is made of: clients, settings of tenants, source topics, clock, mode. *Out:* a [`Context`] for
//! each turn of a task, [`Command`]s for threads, [`Taken`] state for a task to begin with, and the reason when it has
//! [`Ended`]. *Owner:* each part names its writer; all others read. *Never:* a running task, a thread or an acquisition
//! themselves: they use this room, and it knows none of them. *Next:* the rooms `span_task` and `series_task`, which
//! run by it.

mod clients;
mod clock;
mod command;
mod context;
mod error;
mod exit;
mod groups;
mod journal;
mod leaving;
mod memory;
mod mode;
mod offsets;
mod pause;
mod replay;
mod sources;
mod spread;
mod taken;
mod tenants;
mod unread;

pub(crate) use self::clients::Clients;
pub(crate) use self::clock::{Clock, MAX_OFF};
pub(crate) use self::command::{Close, Command, Epoch, Failure, Inbox, News, Sent};
pub(crate) use self::context::{TaskContext, Turn};
pub use self::error::{OverridesError, WorkerError};
pub(crate) use self::exit::{Ended, guarded, text_of};
pub(crate) use self::groups::Groups;
pub(crate) use self::journal::JournalEnd;
pub(crate) use self::leaving::Leaving;
pub(crate) use self::memory::{Held, Leave, Part};
pub(crate) use self::mode::Mode;
pub(crate) use self::offsets::Offsets;
pub(crate) use self::pause::pause;
pub use self::replay::{DeltaWatch, Replay, ReplayRange};
pub(crate) use self::sources::{SourceList, Sources};
pub(crate) use self::taken::{Taken, TakenSeries, TakenSpan};
pub(crate) use self::tenants::TenantSettings;
pub(crate) use self::unread::{Unread, fetching};
