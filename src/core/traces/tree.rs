//! What the spans of one trace come to: its tree, self times, critical path and the origins of errors.
//!
//! A function of the set of spans: their order decides nothing. Every rule that disordered spans need is here:
//!
//! - A span that ends before it starts took no time.
//! - Spans are put in *order*: earliest start first, then the longest, then ID and all else. Of several spans with one
//!   ID the first in order counts, the others do not.
//! - A span without parent ID is a root. One whose parent is not there, or is the span itself, is an orphan. In a cycle
//!   of parent IDs, the first in order becomes an orphan.
//! - The *top* is the first root in order, or without any root the first orphan.

use crate::core::model::{NameId, Names};

/// No parent.
const NONE: u32 = u32::MAX;

/// One span of a trace, with all that its metrics need. 56 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceSpan {
    /// Its ID; all zero: it has none, and is no span's parent.
    pub id: [u8; 8],
    /// The ID of its parent; all zero: it is a root.
    pub parent: [u8; 8],
    /// Unix time, nanoseconds.
    pub start_ns: u64,
    /// Unix time, nanoseconds; may lie before the start.
    pub end_ns: u64,
    /// The service.
    pub service: NameId,
    /// The name of the span, sanitized.
    pub operation: NameId,
    /// The kind of its error; empty if it has not failed.
    pub error: NameId,
    /// Its attributes that branch labels read; empty if it has none.
    pub values: NameId,
    /// OTLP's kind; what that does not know is 255.
    pub kind: u8,
    /// OTLP's status code; what that does not know is 255.
    pub status: u8,
}

/// How many roots a trace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// None: the span without parent did not come, or came late.
    None,
    /// One.
    One,
    /// Several spans without parent.
    Several,
}

/// What is disordered in a trace: numbers of spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disorder {
    /// With the ID of another span of the trace.
    pub duplicates: u64,
    /// Whose parent is not there.
    pub orphans: u64,
    /// Cycles of parent IDs that were broken.
    pub cycles: u64,
    /// That start before their parent.
    pub early: u64,
    /// That end after their parent.
    pub outliving: u64,
}

/// The tree of a trace. It is reused from trace to trace.
#[derive(Debug, Default)]
pub struct TraceTree {
    spans: Vec<TraceSpan>,
    parents: Vec<u32>,
    /// The children of span `i` are `children[starts[i]..starts[i + 1]]`, in order.
    starts: Vec<u32>,
    children: Vec<u32>,
    by_id: Vec<([u8; 8], u32)>,
    self_ns: Vec<u64>,
    critical_ns: Vec<u64>,
    top: usize,
    roots: u64,
    depth: u64,
    services: u64,
    disorder: Disorder,
    /// For walks.
    visited: Vec<u32>,
    open: Vec<(u32, u64, u64)>,
    ends: Vec<(u64, std::cmp::Reverse<u64>, std::cmp::Reverse<u32>)>,
    distinct: Vec<NameId>,
}

// === impl TraceSpan ===

impl TraceSpan {
    /// OTLP's status code of a failure.
    const ERROR: u8 = 2;

    /// The end, which is not before the start.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end_ns.max(self.start_ns)
    }

    /// How long it took.
    #[must_use]
    pub fn took(&self) -> u64 {
        self.end() - self.start_ns
    }

    /// Whether its status is an error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.status == Self::ERROR
    }

    /// Compares all that decides an order. Names are compared by their bytes: their numbers differ from owner to owner.
    fn order(&self, other: &Self, names: &Names) -> std::cmp::Ordering {
        let key = |s: &Self| (s.start_ns, std::cmp::Reverse(s.end()), s.id, s.parent, s.kind, s.status, s.end_ns);
        let texts = |s: &Self| [s.service, s.operation, s.error, s.values].map(|name| names.get(name));
        key(self).cmp(&key(other)).then_with(|| texts(self).cmp(&texts(other)))
    }
}

// === impl TraceTree ===

impl TraceTree {
    /// Reads the spans of a trace, at least one, whose names are those of `names`.
    pub fn read(&mut self, spans: impl Iterator<Item = TraceSpan>, names: &Names) {
        self.disorder = Disorder::default();
        self.spans.clear();
        self.spans.extend(spans);
        self.spans.sort_unstable_by(|a, b| a.order(b, names));
        self.drop_duplicates();
        self.find_parents();
        self.break_cycles();
        self.find_children();
        self.measure();
        self.take_self_times();
    }

    /// Of spans with one ID, the first stays.
    fn drop_duplicates(&mut self) {
        let Self { spans, by_id, disorder, .. } = self;
        by_id.clear();
        by_id.extend((0..).zip(spans.iter()).filter(|(_, span)| span.id != [0; 8]).map(|(i, span)| (span.id, i)));
        by_id.sort_unstable();
        let before = by_id.len();
        by_id.dedup_by_key(|(id, _)| *id);
        disorder.duplicates = (before - by_id.len()) as u64;
        if disorder.duplicates == 0 {
            return;
        }
        let mut at = 0;
        spans.retain(|span| {
            at += 1;
            span.id == [0; 8] || by_id.binary_search(&(span.id, at - 1)).is_ok()
        });
        by_id.clear();
        by_id.extend((0..).zip(spans.iter()).filter(|(_, span)| span.id != [0; 8]).map(|(i, span)| (span.id, i)));
        by_id.sort_unstable();
    }

    fn find_parents(&mut self) {
        let Self { spans, by_id, parents, disorder, roots, .. } = self;
        parents.clear();
        *roots = 0;
        for (i, span) in (0..).zip(spans.iter()) {
            if span.parent == [0; 8] {
                *roots += 1;
                parents.push(NONE);
                continue;
            }
            let found = by_id.binary_search_by_key(&span.parent, |(id, _)| *id).ok().map(|at| by_id[at].1);
            let parent = found.filter(|&parent| parent != i);
            disorder.orphans += u64::from(parent.is_none());
            parents.push(parent.unwrap_or(NONE));
        }
    }

    /// Every span has one parent at most, so cycles have no span in common.
    fn break_cycles(&mut self) {
        let Self { parents, visited, disorder, .. } = self;
        visited.clear();
        visited.resize(parents.len(), NONE);
        for first in 0..parents.len() as u32 {
            let mut at = first;
            while at != NONE && visited[at as usize] == NONE {
                visited[at as usize] = first;
                at = parents[at as usize];
            }
            if at == NONE || visited[at as usize] != first {
                continue;
            }
            let (mut least, mut next) = (at, parents[at as usize]);
            while next != at {
                least = least.min(next);
                next = parents[next as usize];
            }
            parents[least as usize] = NONE;
            disorder.cycles += 1;
        }
    }

    fn find_children(&mut self) {
        let Self { parents, starts, children, visited: ends, .. } = self;
        starts.clear();
        starts.resize(parents.len() + 1, 0);
        for &parent in parents.iter().filter(|parent| **parent != NONE) {
            starts[parent as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        children.clear();
        children.resize(starts[parents.len()] as usize, 0);
        ends.clear();
        ends.extend_from_slice(&starts[1..]);
        // From the last to the first, so that the children of each stand in order.
        for (i, &parent) in parents.iter().enumerate().rev().filter(|(_, parent)| **parent != NONE) {
            ends[parent as usize] -= 1;
            children[ends[parent as usize] as usize] = i as u32;
        }
    }

    /// The top, the depth, the services, and the spans that are outside of their parent.
    fn measure(&mut self) {
        let is_top = |i: &usize| self.parents[*i] == NONE;
        let is_root = |i: &usize| self.spans[*i].parent == [0; 8];
        let count = self.spans.len();
        self.top = (0..count).find(is_root).or_else(|| (0..count).find(is_top)).unwrap_or_default();
        let (mut depth, mut early, mut outliving) = (0, 0, 0);
        self.open.clear();
        self.open.extend((0..count).filter(is_top).map(|i| (i as u32, 1, 0)));
        while let Some((i, level, _)) = self.open.pop() {
            depth = depth.max(level);
            let parent = &self.spans[i as usize];
            for at in self.starts[i as usize]..self.starts[i as usize + 1] {
                let child = self.children[at as usize];
                early += u64::from(self.spans[child as usize].start_ns < parent.start_ns);
                outliving += u64::from(self.spans[child as usize].end() > parent.end());
                self.open.push((child, level + 1, 0));
            }
        }
        (self.depth, self.disorder.early, self.disorder.outliving) = (depth, early, outliving);
        self.distinct.clear();
        self.distinct.extend(self.spans.iter().map(|span| span.service).filter(|service| !service.is_empty()));
        self.distinct.sort_unstable();
        self.distinct.dedup();
        self.services = self.distinct.len() as u64;
    }

    /// The duration of each span less the union of its children within it.
    fn take_self_times(&mut self) {
        self.self_ns.clear();
        for (i, span) in self.spans.iter().enumerate() {
            let (mut covered, mut reached) = (0, span.start_ns);
            // Children are in order, earliest start first.
            for child in children_of(&self.starts, &self.children, i) {
                let child = &self.spans[child as usize];
                let (from, to) = (child.start_ns.max(reached), child.end().min(span.end()));
                if to > from {
                    covered += to - from;
                    reached = to;
                }
            }
            self.self_ns.push(span.took() - covered);
        }
    }

    /// Walks the critical path of the top; see [`TraceTree::critical_times`].
    ///
    /// From the end of a span backwards: of its children that have ended by the point reached, the one that ends last
    /// is on the path, of equal ones the longest. What lies between its end and the point is the span's own; the walk
    /// continues at the child's start. Children are clipped to what of their parent is on the path.
    pub fn walk(&mut self) {
        let Self { spans, starts, children, critical_ns, open, ends, top, .. } = self;
        critical_ns.clear();
        critical_ns.resize(spans.len(), 0);
        open.clear();
        open.push((*top as u32, spans[*top].start_ns, spans[*top].end()));
        while let Some((i, from, to)) = open.pop() {
            ends.clear();
            ends.extend(children_of(starts, children, i as usize).filter_map(|child| {
                let span = &spans[child as usize];
                let (start, end) = (span.start_ns.max(from), span.end().min(to));
                (end > start).then_some((end, std::cmp::Reverse(start), std::cmp::Reverse(child)))
            }));
            ends.sort_unstable();
            let mut point = to;
            for &(end, std::cmp::Reverse(start), std::cmp::Reverse(child)) in ends.iter().rev() {
                if end <= point {
                    critical_ns[i as usize] += point - end;
                    open.push((child, start, end));
                    point = start;
                }
            }
            critical_ns[i as usize] += point - from;
        }
    }

    /// The spans that count, in order.
    #[must_use]
    pub fn spans(&self) -> &[TraceSpan] {
        &self.spans
    }

    /// The first root in order, or without any the first orphan.
    #[must_use]
    pub fn top(&self) -> &TraceSpan {
        &self.spans[self.top]
    }

    /// The index of [`TraceTree::top`].
    pub(super) fn top_index(&self) -> usize {
        self.top
    }

    /// The index of a span's parent, if it has one here.
    pub(super) fn parent(&self, i: usize) -> Option<usize> {
        Some(self.parents[i]).filter(|parent| *parent != NONE).map(|parent| parent as usize)
    }

    /// The children of a span, in order.
    pub(super) fn children(&self, i: usize) -> impl Iterator<Item = usize> {
        children_of(&self.starts, &self.children, i).map(|child| child as usize)
    }

    /// Whether a span names a parent that is not here, or itself.
    pub(super) fn is_orphan(&self, i: usize) -> bool {
        let span = &self.spans[i];
        let is_here = |id| self.by_id.binary_search_by_key(&id, |(id, _)| *id).is_ok();
        span.parent != [0; 8] && self.parents[i] == NONE && (span.parent == span.id || !is_here(span.parent))
    }

    /// How many roots there are.
    #[must_use]
    pub fn roots(&self) -> Roots {
        match self.roots {
            0 => Roots::None,
            1 => Roots::One,
            _ => Roots::Several,
        }
    }

    /// From the earliest start to the latest end, nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        let first = self.spans.first().map_or(0, |span| span.start_ns);
        self.end_ns() - first
    }

    /// The latest end, nanoseconds of Unix time.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        self.spans.iter().map(TraceSpan::end).max().unwrap_or_default()
    }

    /// The number of distinct services.
    #[must_use]
    pub fn services(&self) -> u64 {
        self.services
    }

    /// The spans of the longest chain of parents.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// What is out of order.
    #[must_use]
    pub fn disorder(&self) -> Disorder {
        self.disorder
    }

    /// Per span, its duration less the union of its children within it, nanoseconds.
    #[must_use]
    pub fn self_times(&self) -> &[u64] {
        &self.self_ns
    }

    /// Per span, the time for which it is the deepest one on the critical path, nanoseconds. Together that is how long the
    /// top took. Only after [`TraceTree::walk`].
    #[must_use]
    pub fn critical_times(&self) -> &[u64] {
        &self.critical_ns
    }

    /// The failed spans without a failed child. A trace with a failed span has at least one.
    pub fn origins(&self) -> impl Iterator<Item = &TraceSpan> {
        self.spans.iter().enumerate().filter(|(i, span)| span.failed() && !self.has_failed_child(*i)).map(|(_, s)| s)
    }

    /// The spans that have not failed although a child has.
    pub fn swallowing(&self) -> impl Iterator<Item = &TraceSpan> {
        self.spans.iter().enumerate().filter(|(i, span)| !span.failed() && self.has_failed_child(*i)).map(|(_, s)| s)
    }

    fn has_failed_child(&self, i: usize) -> bool {
        children_of(&self.starts, &self.children, i).any(|child| self.spans[child as usize].failed())
    }
}

fn children_of(starts: &[u32], children: &[u32], i: usize) -> impl Iterator<Item = u32> {
    children[starts[i] as usize..starts[i + 1] as usize].iter().copied()
}
