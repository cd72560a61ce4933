//! The plain model of a trace.

use std::collections::{BTreeMap, BTreeSet};

/// A span.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    /// 0: none.
    pub(crate) id: u64,
    /// 0: none.
    pub(crate) parent: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) service: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) failed: bool,
    pub(crate) kind: u8,
    /// The attribute `tag`; empty: none.
    pub(crate) tag: &'static str,
}

/// A trace as lists of indices.
pub(crate) struct Oracle {
    nodes: Vec<Node>,
    parent: Vec<Option<usize>>,
    duplicates: u64,
    orphans: u64,
    cycles: u64,
}

// === impl Node ===

impl Node {
    pub(crate) fn last(&self) -> u64 {
        if self.end < self.start { self.start } else { self.end }
    }

    pub(crate) fn took(&self) -> u64 {
        self.last() - self.start
    }

    fn rank(&self) -> impl Ord + use<> {
        let longest_first = u64::MAX - self.last();
        let status = if self.failed { 2 } else { 0 };
        let names = (self.service, self.operation, self.tag);
        (self.start, longest_first, self.id, self.parent, self.kind, status, self.end, names)
    }
}

// === impl Oracle ===

impl Oracle {
    pub(crate) fn new(spans: &[Node]) -> Self {
        let mut sorted = spans.to_vec();
        sorted.sort_by_key(Node::rank);
        let mut nodes: Vec<Node> = Vec::new();
        for span in sorted {
            if span.id == 0 || nodes.iter().all(|other| other.id != span.id) {
                nodes.push(span);
            }
        }
        let named = |i: usize| {
            let wanted = nodes[i].parent;
            nodes.iter().position(|other| wanted != 0 && other.id == wanted).filter(|&found| found != i)
        };
        let mut parent: Vec<Option<usize>> = (0..nodes.len()).map(named).collect();
        let orphans = (0..nodes.len()).filter(|&i| nodes[i].parent != 0 && parent[i].is_none()).count() as u64;
        let mut cycles = 0;
        // The first span that is above itself loses its parent.
        while let Some(first) = (0..nodes.len()).find(|&i| above(&parent, i).contains(&i)) {
            parent[first] = None;
            cycles += 1;
        }
        let duplicates = (spans.len() - nodes.len()) as u64;
        Self { nodes, parent, duplicates, orphans, cycles }
    }

    /// The spans by their labels, those that they take from others included, and how often and how long each.
    pub(crate) fn branches(&self) -> BTreeMap<String, (u64, u64)> {
        const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
        let mut all: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let way_up: Vec<usize> = std::iter::successors(Some(i), |up| self.parent[*up]).collect();
            let tag = |i: Option<usize>| i.map_or("", |i| self.nodes[i].tag);
            let is_below = |other: &usize| *other == i || above(&self.parent, *other).contains(&i);
            let root = way_up.last().copied().filter(|top| self.nodes[*top].parent == 0);
            let labels = [
                ("ancestor", tag(way_up.iter().copied().find(|up| !self.nodes[*up].tag.is_empty()))),
                (
                    "descendant",
                    tag((0..self.nodes.len()).filter(is_below).find(|below| !self.nodes[*below].tag.is_empty())),
                ),
                ("entry", tag(way_up.iter().copied().find(|up| [2, 5].contains(&self.nodes[*up].kind)))),
                ("is_root", if node.parent == 0 { "true" } else { "false" }),
                ("root", tag(root)),
                ("service", node.service),
                (
                    "span_kind",
                    &KINDS.get(usize::from(node.kind)).map_or(String::new(), |kind| format!("SPAN_KIND_{kind}")),
                ),
                ("span_name", node.operation),
                ("status_code", if node.failed { "STATUS_CODE_ERROR" } else { "STATUS_CODE_UNSET" }),
            ];
            let shown = labels.iter().filter(|(_, value)| !value.is_empty());
            let shown: Vec<String> = shown.map(|(name, value)| format!("{name}={value}")).collect();
            let (calls, took) = all.entry(shown.join(" ")).or_default();
            (*calls, *took) = (*calls + 1, *took + node.took());
        }
        all
    }

    fn children(&self, i: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&c| self.parent[c] == Some(i)).collect()
    }

    fn top(&self) -> usize {
        let tops = || (0..self.nodes.len()).filter(|&i| self.parent[i].is_none());
        tops().find(|&i| self.nodes[i].parent == 0).or_else(|| tops().next()).expect("no cycle is left")
    }

    pub(crate) fn roots(&self) -> usize {
        self.nodes.iter().filter(|node| node.parent == 0).count()
    }

    /// Duration, depth, services.
    pub(crate) fn shape(&self) -> (u64, u64, u64) {
        let first = self.nodes.iter().map(|node| node.start).min().expect("a span");
        let last = self.nodes.iter().map(Node::last).max().expect("a span");
        let depth = (0..self.nodes.len()).map(|i| above(&self.parent, i).len() + 1).max().expect("a span");
        let services: BTreeSet<_> = self.nodes.iter().map(|node| node.service).filter(|s| !s.is_empty()).collect();
        (last - first, depth as u64, services.len() as u64)
    }

    /// Every nanosecond of a span in which no child of it runs.
    pub(crate) fn self_times(&self) -> Vec<u64> {
        let alone = |i: usize| {
            let node = &self.nodes[i];
            let children = self.children(i);
            let runs = |t: u64| children.iter().any(|&c| self.nodes[c].start <= t && t < self.nodes[c].last());
            (node.start..node.last()).filter(|&t| !runs(t)).count() as u64
        };
        (0..self.nodes.len()).map(alone).collect()
    }

    /// Who is on the critical path of the top in every nanosecond of it, counted.
    pub(crate) fn critical_times(&self) -> Vec<u64> {
        let top = self.top();
        let mut owners = BTreeMap::new();
        self.paint(top, self.nodes[top].start, self.nodes[top].last(), &mut owners);
        let mut times = vec![0; self.nodes.len()];
        owners.values().for_each(|&owner: &usize| times[owner] += 1);
        times
    }

    /// Gives each nanosecond of the window to the span, then lets children take theirs, the one that ends last first.
    fn paint(&self, i: usize, from: u64, to: u64, owners: &mut BTreeMap<u64, usize>) {
        owners.extend((from..to).map(|t| (t, i)));
        let mut point = to;
        loop {
            let clip = |c: usize| (self.nodes[c].start.max(from), self.nodes[c].last().min(to));
            let mut best: Option<(u64, u64, usize)> = None;
            for c in self.children(i) {
                let (start, end) = clip(c);
                if end <= start || end > point {
                    continue;
                }
                let better = match best {
                    None => true,
                    Some((best_end, best_start, _)) => end > best_end || end == best_end && start < best_start,
                };
                if better {
                    best = Some((end, start, c));
                }
            }
            let Some((end, start, c)) = best else { return };
            self.paint(c, start, end, owners);
            point = start;
        }
    }

    pub(crate) fn disorder(&self) -> [u64; 5] {
        let pairs = || (0..self.nodes.len()).filter_map(|c| Some((&self.nodes[c], &self.nodes[self.parent[c]?])));
        let early = pairs().filter(|(child, parent)| child.start < parent.start).count() as u64;
        let outliving = pairs().filter(|(child, parent)| child.last() > parent.last()).count() as u64;
        [self.duplicates, self.orphans, self.cycles, early, outliving]
    }

    fn fails_below(&self, i: usize) -> bool {
        self.children(i).iter().any(|&c| self.nodes[c].failed)
    }

    fn ids(&self, which: impl Fn(usize) -> bool) -> Vec<(u64, u64, u64)> {
        let chosen = (0..self.nodes.len()).filter(|&i| which(i));
        let mut ids: Vec<_> = chosen.map(|i| (self.nodes[i].id, self.nodes[i].start, self.nodes[i].last())).collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn origins(&self) -> Vec<(u64, u64, u64)> {
        self.ids(|i| self.nodes[i].failed && !self.fails_below(i))
    }

    pub(crate) fn swallowing(&self) -> Vec<(u64, u64, u64)> {
        self.ids(|i| !self.nodes[i].failed && self.fails_below(i))
    }

    /// Whether a span belongs to another service than its parent, both of them known.
    fn crosses(&self, i: usize) -> bool {
        self.parent[i].is_some_and(|p| {
            let services = [self.nodes[p].service, self.nodes[i].service];
            services[0] != services[1] && !services.contains(&"")
        })
    }

    fn goes_out(&self, i: usize) -> bool {
        [3, 4].contains(&self.nodes[i].kind)
    }

    /// Calls by caller and callee.
    pub(crate) fn edge_calls(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut calls = BTreeMap::new();
        for i in (0..self.nodes.len()).filter(|&i| self.crosses(i)) {
            let parent = self.parent[i].expect("it crosses");
            *calls.entry((self.nodes[parent].service, self.nodes[i].service)).or_default() += 1;
        }
        calls
    }

    fn calls(&self, i: usize) -> Vec<usize> {
        self.children(i).into_iter().filter(|&c| self.goes_out(c) || self.crosses(c)).collect()
    }

    /// Callee, calls and retries of every group, by the ID and times of the caller.
    pub(crate) fn call_groups(&self) -> Vec<((u64, u64, u64), &'static str, &'static str, u64, u64)> {
        let mut all = Vec::new();
        for i in 0..self.nodes.len() {
            let callee = |call: usize| {
                let served = self.children(call).into_iter().find(|&c| self.goes_out(call) && self.crosses(c));
                let node = &self.nodes[served.unwrap_or(call)];
                (node.service, node.operation)
            };
            let calls = self.calls(i);
            let callees: BTreeSet<_> = calls.iter().map(|&call| callee(call)).collect();
            for one in callees {
                let group: Vec<&Node> =
                    calls.iter().filter(|&&call| callee(call) == one).map(|&call| &self.nodes[call]).collect();
                let retries = (1..group.len())
                    .filter(|&n| group[n - 1].failed && group[n - 1].last() <= group[n].start)
                    .count() as u64;
                let caller = &self.nodes[i];
                all.push(((caller.id, caller.start, caller.last()), one.0, one.1, group.len() as u64, retries));
            }
        }
        all.sort_unstable();
        all
    }

    /// What the calls of a span take together, and in how many nanoseconds one of them runs.
    pub(crate) fn fan_outs(&self) -> Vec<((u64, u64, u64), u64, u64)> {
        let mut all = Vec::new();
        for (i, caller) in self.nodes.iter().enumerate() {
            let calls = self.calls(i);
            if calls.len() < 2 {
                continue;
            }
            let times: BTreeSet<u64> =
                calls.iter().flat_map(|&call| self.nodes[call].start..self.nodes[call].last()).collect();
            let together = calls.iter().map(|&call| self.nodes[call].took()).sum();
            all.push(((caller.id, caller.start, caller.last()), together, times.len() as u64));
        }
        all.sort_unstable();
        all
    }

    /// Orphans, spans that start before their parent, and the top of a trace without root.
    pub(crate) fn problems(&self) -> [Vec<(u64, u64, u64)>; 3] {
        let is_here = |id| self.nodes.iter().any(|node| node.id == id);
        let orphans = |i: usize| {
            let node = &self.nodes[i];
            node.parent != 0 && self.parent[i].is_none() && (node.parent == node.id || !is_here(node.parent))
        };
        let early = |i: usize| self.parent[i].is_some_and(|p| self.nodes[i].start < self.nodes[p].start);
        let rootless = |i: usize| self.roots() == 0 && i == self.top();
        [self.ids(orphans), self.ids(early), self.ids(rootless)]
    }

    pub(crate) fn show(&self, values: &[u64]) -> Vec<(u64, u64, u64, String, u64)> {
        let mut all: Vec<_> = self
            .nodes
            .iter()
            .zip(values)
            .map(|(node, value)| (node.id, node.start, node.last(), node.operation.to_owned(), *value))
            .collect();
        all.sort();
        all
    }
}

/// The spans above one, itself included if it is in a cycle.
fn above(parent: &[Option<usize>], i: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut at = parent[i];
    while let Some(next) = at.filter(|next| !seen.contains(next)) {
        seen.insert(next);
        at = parent[next];
    }
    seen
}
