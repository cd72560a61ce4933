//! Whole traces: their spans are held until the trace closes in stream time, and then become metrics.
//!
//! *In:* the spans of records, with the record's offset and the stream time. *Out:* deltas in a
//! [`DeltaTable`](crate::core::deltas::DeltaTable), counters, and the list of what is open. *Owner:* one span task.
//! *Never:* a clock, a span in a commit. *Next:* [`crate::core::deltas`].
//!
//! # When a trace closes
//!
//! All spans of a trace lie in one partition. A trace opens with the first span of its ID and closes, in stream time,
//! when none has come for `idle`, `max_age` after the first, or at once with `max_spans` spans. Its spans are then read by
//! [`TraceTree`], in which their order means nothing. The ID of a closed trace is remembered for `late`: spans that come
//! meanwhile are late, and no part of any trace. After that they open a trace of their own.
//!
//! What is held is bounded. When `max_traces` are open, a span of another trace is dropped. All open traces together hold
//! [`SPANS_PER_TRACE`] times as many spans; the trace that reaches that closes with its span. As many closed traces are
//! remembered; the oldest are forgotten first.
//!
//! # Open traces are rebuilt by re-reading
//!
//! A commit does not hold spans. It lists of each open trace where it was opened (offset, ordinal of the span), when, when
//! its last span came, and how many spans it has; and of each remembered one its ID and when it closed. A new owner reads
//! the source again from the first of these offsets up to the commit. A listed span opens its trace again, and takes the
//! trace's times from the list, as stream time cannot be seen in records alone; further spans with its ID are added;
//! everything else is skipped. The result is the state of the old owner: between its opening and the commit the trace was
//! open, so every span with its ID was added to it, as a span of an open trace is never dropped.
//!
//! Remembered traces are in the list with their IDs, 18 bytes or so each. To read them again, too, a new owner would have
//! to go back by `late`, hundreds of times as many bytes.

mod branch;
mod calls;
mod emit;
mod list;
mod rules;
mod spans;
mod tree;
mod window;

pub use calls::{CallGroup, EdgeCalls, FanOut, Problem};
pub use tree::{Disorder, Roots, TraceSpan, TraceTree};
pub use window::{Closing, SPANS_PER_TRACE, TraceBlock, TraceSink, TraceWindow};
