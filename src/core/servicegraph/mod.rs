//! Service graphs: client and server spans, paired in stream time into edges.
//!
//! *In:* the spans of records, with the record's offset and the stream time. *Out:* deltas of edges in a
//! [`DeltaTable`](crate::core::deltas::DeltaTable), counters, and the list of what waits. *Owner:* one span task.
//! *Never:* a clock, a pending edge in a commit. *Next:* [`crate::core::deltas`].
//!
//! # Pairing
//!
//! A client or producer span opens or completes the edge (tenant, trace, own span); a server or consumer span the edge
//! (tenant, trace, parent span). An edge with a client's and a server's name is complete. One that waited for `wait` in
//! stream time becomes a virtual node if its other end is known (the user in front of a root, a peer by its attribute),
//! and is counted as expired otherwise. A database answers no spans, so a client that names one completes at once.
//!
//! That is Tempo's pairing: both halves are one entry, into which every span with its key is written (`pairing`). When
//! a tenant's `fan_out`, `links` or `ancestors` is on, the halves wait apart and never write into each other, because
//! more than two of them may meet (`apart`). The two ways differ where one key has several spans: apart, each server
//! span is an edge of its own, roots of one trace included, and nothing depends on which side came last.
//!
//! With `ancestors: any`, what is open at the end of its wait is decided by the spans above it (`related`, `kin`).
//!
//! What an edge carries besides names and times is one interned name (`extras`), so that a pending edge is as small
//! with dimensions as without. An edge weighs what the heavier of its spans weighs: a maximum does not depend on which
//! came last.
//!
//! # Pending edges are rebuilt by re-reading, from a list of live ones
//!
//! A commit does not hold pending edges, only where each of them was opened: offset, ordinal of the span, stream time.
//! A new owner reads the source again from the first of these offsets up to the commit. A listed span opens its edge
//! again, a span that meets an open edge updates it, everything else is skipped; nothing is emitted, no counter moves.
//! The result is the state of the old owner: between its opening and the commit, the key of a living edge was its own,
//! so every span with that key that came after the opening was an update of that very edge.
//!
//! Why a list, and not just "re-read the last two wait windows"? Because a window starts in the middle of the history.
//! Suppose a client span was met by its server span before the window, and a second server span with the same parent (a
//! fan-out, a retry, a record delivered twice) lies inside it. The old owner saw the pair complete and then the second
//! server span open an edge of its own. An owner that starts at the window may see the same span, or the client's
//! duplicate, without its partner; it cannot know whether a half had met its partner already, and whichever way it
//! guesses, some topic proves it wrong: an edge is counted twice or never. No finite window helps, as halves can repeat
//! for as long as they like. The list of live edges is sufficient, and takes one or a few bytes for each pending edge.
//!
//! The same holds for everything else that waits:
//!
//! - **Halves apart.** A server half is one span, which nothing updates; a client half takes further client spans with
//!   its ID, and it is the only one of its key while it lives. That a client has met a server cannot be seen from where
//!   it was opened on, as the servers may have come earlier; so the list holds it, one bit. Where a server half has
//!   climbed to cannot be seen either, as the relays on its path may be gone before it is; so the list holds it, eight
//!   bytes for those that have climbed. One consumer span may have opened several halves; the list holds which of its
//!   links each one is. A consumer that has met its producer stays with that bit (`receive_once`), and where it has
//!   climbed to is a key made of the producer and its own service. Nothing meets while it is being rebuilt: whatever
//!   met before the commit is not on the list, or has its bit.
//! - **Calls** (`nested_once`). A call that has lost to the call around or inside of it has the bit of a half that has
//!   climbed, which no client can have; one that has met a server and stays to be seen has the bit of a client that has
//!   met one. See `nested`.
//! - **Marks** of filtered spans. A mark does one thing: it keeps its peer from opening an edge. While edges are being
//!   rebuilt the list decides what opens, so marks are needed only afterwards. Each is listed with the span that
//!   renewed it last, which determines the mark completely.
//! - **Relays.** A relay follows from one span, and never changes. It is listed like a pending edge.
//! - **Kin** (`ancestors: any`). So does every remembered span, but for one bit: a server has climbed over it. That cannot be
//!   seen from where it came, as the server may be gone. How many of them are decided is listed, too. Where a server
//!   began to climb is the parent that its span names.

mod apart;
mod edge;
mod edges;
mod emit;
mod extras;
mod filtered;
mod kin;
mod live;
mod nested;
mod pairing;
mod rebuild;
mod related;
mod rules;
mod store;

pub use live::{PendingEdge, pending_edges};
pub use pairing::{EdgeBlock, Pairing, RecordAt, Sink, Waited};
