//! The spans of open traces: linked lists in chunks, so that growing copies nothing.

use super::tree::TraceSpan;
use crate::core::model::NameId;

/// No span.
pub(super) const NONE: u32 = u32::MAX;
/// Spans in a chunk. A power of two.
const CHUNK: usize = 1 << 12;

/// A span, and the next one of its trace.
#[derive(Debug, Clone, Copy)]
struct Held {
    span: TraceSpan,
    next: u32,
}

/// Spans by number.
#[derive(Debug, Default)]
pub(super) struct HeldSpans {
    chunks: Vec<Vec<Held>>,
    /// Free places, linked by `next`.
    free: Option<u32>,
    /// Places that were ever in use.
    len: usize,
    held: usize,
}

// === impl HeldSpans ===

impl HeldSpans {
    /// Puts a span before those of a list, which begins at `head`.
    pub(super) fn push(&mut self, head: u32, span: TraceSpan) -> u32 {
        self.held += 1;
        let held = Held { span, next: head };
        if let Some(at) = self.free {
            let next = std::mem::replace(self.get_mut(at), held).next;
            self.free = (next != NONE).then_some(next);
            return at;
        }
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[self.len / CHUNK].push(held);
        self.len += 1;
        (self.len - 1) as u32
    }

    /// The spans of a list, the last one first.
    pub(super) fn of(&self, head: u32) -> impl Iterator<Item = TraceSpan> {
        let first = (head != NONE).then_some(head);
        std::iter::successors(first, |&at| Some(self.get(at).next).filter(|&next| next != NONE))
            .map(|at| self.get(at).span)
    }

    /// Frees a list.
    pub(super) fn free(&mut self, head: u32) {
        let mut at = head;
        while at != NONE {
            let free = self.free.unwrap_or(NONE);
            let next = std::mem::replace(&mut self.get_mut(at).next, free);
            (self.free, at) = (Some(at), next);
            self.held -= 1;
        }
        if self.held == 0 {
            *self = Self::default();
        }
    }

    /// Renames all that is held in a list.
    pub(super) fn rename(&mut self, head: u32, rename: &mut dyn FnMut(&mut NameId)) {
        let mut at = head;
        while at != NONE {
            let Held { span, next } = self.get_mut(at);
            [&mut span.service, &mut span.operation, &mut span.error, &mut span.values]
                .into_iter()
                .for_each(&mut *rename);
            at = *next;
        }
    }

    /// The number of spans.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Held>()
    }

    fn get(&self, at: u32) -> &Held {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    fn get_mut(&mut self, at: u32) -> &mut Held {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(n: u64) -> TraceSpan {
        TraceSpan {
            id: n.to_be_bytes(),
            parent: [0; 8],
            start_ns: n,
            end_ns: n,
            service: NameId::EMPTY,
            operation: NameId::EMPTY,
            error: NameId::EMPTY,
            values: NameId::EMPTY,
            kind: 0,
            status: 0,
        }
    }

    #[test]
    fn lists_keep_their_spans_and_places_are_used_again() {
        let mut spans = HeldSpans::default();
        let mut heads = [NONE; 3];
        for n in 0..10_000 {
            let list = n as usize % 3;
            heads[list] = spans.push(heads[list], span(n));
        }
        assert_eq!(spans.held(), 10_000);
        for (list, head) in heads.iter().enumerate() {
            let starts: Vec<u64> = spans.of(*head).map(|span| span.start_ns).collect();
            assert!(starts.is_sorted_by(|a, b| a == &(b + 3)) && starts.last() == Some(&(list as u64)), "{list}");
        }
        let bytes = spans.bytes();
        spans.free(heads[1]);
        heads[1] = NONE;
        (0..3_000).for_each(|n| heads[1] = spans.push(heads[1], span(n)));
        assert_eq!((spans.of(heads[1]).count(), spans.bytes()), (3_000, bytes));
        assert!(bytes <= 64 * 3 * CHUNK, "a span takes less than 64 bytes");
        heads.into_iter().for_each(|head| spans.free(head));
        assert_eq!((spans.held(), spans.bytes()), (0, 0));
    }
}
