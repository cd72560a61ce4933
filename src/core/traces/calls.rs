//! What the spans of a closed trace call: how often, again after a failure, one after the other or at once; and what is
//! wrong with their parents.
//!
//! - A span *crosses* when its parent belongs to another service; both have a name. That is a call of the one by the other.
//! - A child is a *call* of its parent if it crosses, or if it is a client or producer. Its *callee* is the service and operation of
//!   its first child in order that crosses, if it is a client or producer and has one, and otherwise its own.
//! - The calls of a caller to one callee are a *group*, in order. One is a *retry* if the call before it in its group has
//!   failed, and had ended when it started.
//! - Everything comes in the order in which its first span is in order, so the numbers of names decide nothing.

use std::cmp::Ordering;

use super::tree::{Roots, TraceTree};
use crate::core::model::NameId;

/// Kinds of OTLP that call another service.
const CLIENT: u8 = 3;
const PRODUCER: u8 = 4;

/// How often a service has called another one in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeCalls {
    /// The caller.
    pub client: NameId,
    /// The callee.
    pub server: NameId,
    /// At least 1.
    pub calls: u64,
}

/// The calls of a span to one callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallGroup {
    /// The index of the calling span.
    pub caller: usize,
    /// The service that is called.
    pub service: NameId,
    /// The operation that is called.
    pub operation: NameId,
    /// At least 1.
    pub calls: u64,
    /// How many of them are retries.
    pub retries: u64,
}

/// What the calls of a span take, if it has at least two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanOut {
    /// The index of the calling span.
    pub caller: usize,
    /// How long its calls took together, nanoseconds.
    pub calls_ns: u64,
    /// How long at least one of them ran, nanoseconds.
    pub busy_ns: u64,
}

/// What is wrong with a span's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// Its parent did not come with the trace.
    Orphan,
    /// It starts before its parent: clocks differ.
    Early,
    /// It is the top of a trace without root.
    Rootless,
    /// It came when its trace had closed.
    Late,
}

// === impl Problem ===

impl Problem {
    /// As in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::Early => "early",
            Self::Rootless => "rootless",
            Self::Late => "late",
        }
    }
}

// === impl TraceTree ===

impl TraceTree {
    /// How often each service has called each other one.
    #[must_use]
    pub fn edge_calls(&self) -> Vec<EdgeCalls> {
        let crossing = (0..self.spans().len()).filter_map(|i| {
            let (client, server) = (self.spans()[self.parent(i)?].service, self.spans()[i].service);
            self.crosses(i).then_some(((client, server), i))
        });
        let groups = grouped(crossing.collect());
        let edge = |((client, server), members): ((NameId, NameId), Vec<usize>)| EdgeCalls {
            client,
            server,
            calls: members.len() as u64,
        };
        groups.into_iter().map(edge).collect()
    }

    /// The groups of calls of all spans.
    #[must_use]
    pub fn call_groups(&self) -> Vec<CallGroup> {
        let mut out = Vec::new();
        for caller in 0..self.spans().len() {
            let calls: Vec<_> = self.calls(caller).map(|call| (self.callee(call), call)).collect();
            for ((service, operation), members) in grouped(calls) {
                let is_retry = |pair: &&[usize]| {
                    let [before, after] = [pair[0], pair[1]].map(|i| &self.spans()[i]);
                    before.failed() && before.end() <= after.start_ns
                };
                let retries = members.windows(2).filter(is_retry).count() as u64;
                out.push(CallGroup { caller, service, operation, calls: members.len() as u64, retries });
            }
        }
        out
    }

    /// The spans that have several calls.
    #[must_use]
    pub fn fan_outs(&self) -> Vec<FanOut> {
        let fan_out = |caller: usize| {
            let (mut calls, mut calls_ns, mut busy_ns, mut reached) = (0, 0u64, 0, 0);
            // In order of their starts.
            for call in self.calls(caller) {
                let span = &self.spans()[call];
                calls += 1;
                calls_ns = calls_ns.saturating_add(span.took());
                busy_ns += span.end().saturating_sub(span.start_ns.max(reached));
                reached = reached.max(span.end());
            }
            (calls > 1).then_some(FanOut { caller, calls_ns, busy_ns })
        };
        (0..self.spans().len()).filter_map(fan_out).collect()
    }

    /// What is wrong, with the index of the span.
    #[must_use]
    pub fn problems(&self) -> Vec<(usize, Problem)> {
        let mut out = Vec::new();
        for (i, span) in self.spans().iter().enumerate() {
            let is_early = self.parent(i).is_some_and(|parent| span.start_ns < self.spans()[parent].start_ns);
            out.extend(self.is_orphan(i).then_some((i, Problem::Orphan)));
            out.extend(is_early.then_some((i, Problem::Early)));
        }
        if self.roots() == Roots::None {
            out.push((self.top_index(), Problem::Rootless));
        }
        out
    }

    fn crosses(&self, i: usize) -> bool {
        let Some(parent) = self.parent(i) else { return false };
        let (caller, callee) = (self.spans()[parent].service, self.spans()[i].service);
        caller != callee && !caller.is_empty() && !callee.is_empty()
    }

    fn is_outgoing(&self, i: usize) -> bool {
        matches!(self.spans()[i].kind, CLIENT | PRODUCER)
    }

    /// The children of a span that are calls, in order.
    fn calls(&self, caller: usize) -> impl Iterator<Item = usize> {
        self.children(caller).filter(|&child| self.is_outgoing(child) || self.crosses(child))
    }

    fn callee(&self, call: usize) -> (NameId, NameId) {
        let served = self.is_outgoing(call).then(|| self.children(call).find(|&child| self.crosses(child))).flatten();
        let span = &self.spans()[served.unwrap_or(call)];
        (span.service, span.operation)
    }
}

/// The members of each key in their order, the key of the first member first.
fn grouped<K: Ord + Copy>(mut items: Vec<(K, usize)>) -> Vec<(K, Vec<usize>)> {
    items.sort_unstable();
    let chunks = items.chunk_by(|a, b| a.0.cmp(&b.0) == Ordering::Equal);
    let group = |chunk: &[(K, usize)]| Some((chunk.first()?.0, chunk.iter().map(|(_, i)| *i).collect::<Vec<_>>()));
    let mut groups: Vec<_> = chunks.filter_map(group).collect();
    groups.sort_unstable_by_key(|(_, members)| members.first().copied());
    groups
}
