//! Whole traces against an oracle that shares no line with the library: it looks at a trace nanosecond by nanosecond, or in
//! the smallest pieces between any two times, and does not care for speed.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod oracle;
mod task;

use proptest::prelude::*;
use spanmill::core::model::{NameId, Names};
use spanmill::core::traces::{Problem, Roots, TraceSpan, TraceTree};

use crate::scramble::Dice;
use oracle::{Node, Oracle};

/// A trace with everything that may be wrong with one, by chance.
pub(crate) fn random_trace(dice: &mut Dice) -> Vec<Node> {
    let most = [1, 4, 8, 14, 30][dice.below(5) as usize];
    let count = 1 + dice.below(most);
    let calm = dice.below(3) > 0;
    let mut nodes: Vec<Node> = Vec::new();
    for i in 0..count {
        let above = (!nodes.is_empty()).then(|| nodes[dice.below(nodes.len() as u64) as usize].clone());
        let parent = match (dice.below(if calm { 60 } else { 12 }), &above) {
            (0, _) => 0,
            // A span that was not sent.
            (1, _) => 999,
            // A span that may come later, itself included: cycles.
            (2, _) => 1 + dice.below(count),
            (_, Some(above)) => above.id,
            (_, None) => 0,
        };
        let within = above.as_ref().filter(|_| calm || dice.below(3) > 0).map(|above| (above.start, above.took()));
        let (from, room) = within.unwrap_or((100, 60));
        let skew = if dice.below(8) == 0 { dice.below(30) as i64 - 15 } else { 0 };
        let start = (from + dice.below(room + 1)).saturating_add_signed(skew);
        let took = match dice.below(10) {
            0 => 0,
            1 => -(dice.below(20) as i64),
            2 => dice.below(80) as i64,
            _ => dice.below(room + 1) as i64,
        };
        let id = match dice.below(if calm { 100 } else { 15 }) {
            0 => 0,
            1 if i > 0 => 1 + dice.below(i),
            _ => i + 1,
        };
        nodes.push(Node {
            id,
            parent,
            start,
            end: start.saturating_add_signed(took),
            service: ["", "web", "cart", "bank"][dice.below(4) as usize],
            operation: ["get", "put"][dice.below(2) as usize],
            failed: dice.below(4) == 0,
            kind: dice.below(7) as u8,
            tag: ["", "", "", "a", "b"][dice.below(5) as usize],
        });
    }
    if dice.below(4) == 0 {
        let twice = nodes[dice.below(nodes.len() as u64) as usize].clone();
        nodes.push(twice);
    }
    nodes
}

fn shuffle<T>(dice: &mut Dice, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, dice.below(i as u64 + 1) as usize);
    }
}

fn span(node: &Node, names: &mut Names) -> TraceSpan {
    let error = if node.failed { names.intern(b"broken") } else { NameId::EMPTY };
    TraceSpan {
        id: node.id.to_be_bytes(),
        parent: node.parent.to_be_bytes(),
        start_ns: node.start,
        end_ns: node.end,
        service: names.intern(node.service.as_bytes()),
        operation: names.intern(node.operation.as_bytes()),
        error,
        values: names.intern(node.tag.as_bytes()),
        kind: node.kind,
        status: if node.failed { 2 } else { 0 },
    }
}

fn read(nodes: &[Node], names: &mut Names) -> TraceTree {
    let spans: Vec<TraceSpan> = nodes.iter().map(|node| span(node, names)).collect();
    let mut tree = TraceTree::default();
    tree.read(spans.into_iter(), names);
    tree.walk();
    tree
}

/// What identifies a span in results, and its number.
fn shown(tree: &TraceTree, names: &Names, values: &[u64]) -> Vec<(u64, u64, u64, String, u64)> {
    let spans = tree.spans().iter().zip(values);
    let mut all: Vec<_> = spans
        .map(|(span, value)| {
            let name = String::from_utf8_lossy(names.get(span.operation)).into_owned();
            (u64::from_be_bytes(span.id), span.start_ns, span.end(), name, *value)
        })
        .collect();
    all.sort();
    all
}

fn assert_calls_like(oracle: &Oracle, tree: &TraceTree, names: &Names) {
    let text = |name| std::str::from_utf8(names.get(name)).expect("text");
    let caller = |i: usize| {
        let span = &tree.spans()[i];
        (u64::from_be_bytes(span.id), span.start_ns, span.end())
    };
    let edges: Vec<_> =
        tree.edge_calls().iter().map(|edge| ((text(edge.client), text(edge.server)), edge.calls)).collect();
    let sorted: std::collections::BTreeMap<_, _> = edges.iter().copied().collect();
    assert_eq!((edges.len(), sorted), (oracle.edge_calls().len(), oracle.edge_calls()));
    let groups = tree.call_groups();
    let mut groups: Vec<_> = groups
        .iter()
        .map(|group| (caller(group.caller), text(group.service), text(group.operation), group.calls, group.retries))
        .collect();
    groups.sort_unstable();
    assert_eq!(groups, oracle.call_groups());
    let mut fan_outs: Vec<_> =
        tree.fan_outs().iter().map(|one| (caller(one.caller), one.calls_ns, one.busy_ns)).collect();
    fan_outs.sort_unstable();
    assert_eq!(fan_outs, oracle.fan_outs());
}

fn assert_like_oracle(seed: u64) {
    let mut dice = Dice(seed);
    let nodes = random_trace(&mut dice);
    let mut names = Names::default();
    // Numbers of names must not matter.
    if dice.below(2) == 0 {
        for name in ["put", "bank", "cart"] {
            names.intern(name.as_bytes());
        }
    }
    let oracle = Oracle::new(&nodes);
    let mut shuffled = nodes.clone();
    shuffle(&mut dice, &mut shuffled);
    for nodes in [nodes, shuffled] {
        let tree = read(&nodes, &mut names);
        let count = |roots| match roots {
            Roots::None => 0,
            Roots::One => 1,
            Roots::Several => 2,
        };
        assert_eq!(count(tree.roots()), oracle.roots().min(2), "{nodes:#?}");
        assert_eq!((tree.duration_ns(), tree.depth(), tree.services()), oracle.shape(), "{nodes:#?}");
        assert_eq!(shown(&tree, &names, tree.self_times()), oracle.show(&oracle.self_times()), "{nodes:#?}");
        assert_eq!(shown(&tree, &names, tree.critical_times()), oracle.show(&oracle.critical_times()), "{nodes:#?}");
        let disorder = tree.disorder();
        assert_eq!(
            [disorder.duplicates, disorder.orphans, disorder.cycles, disorder.early, disorder.outliving],
            oracle.disorder(),
            "{nodes:#?}"
        );
        let ids = |spans: Vec<&TraceSpan>| {
            let mut ids: Vec<_> = spans.iter().map(|s| (u64::from_be_bytes(s.id), s.start_ns, s.end())).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(tree.origins().collect()), oracle.origins(), "{nodes:#?}");
        assert_eq!(ids(tree.swallowing().collect()), oracle.swallowing(), "{nodes:#?}");
        assert_calls_like(&oracle, &tree, &names);
        for (problem, expected) in
            [Problem::Orphan, Problem::Early, Problem::Rootless].into_iter().zip(oracle.problems())
        {
            let found = tree.problems().into_iter().filter(|(_, one)| *one == problem).map(|(i, _)| &tree.spans()[i]);
            assert_eq!(ids(found.collect()), expected, "{problem:?}: {nodes:#?}");
        }
    }
}

#[test]
fn every_number_of_a_trace_is_that_of_the_oracle_in_every_order() {
    for seed in 0..20_000 {
        let result = std::panic::catch_unwind(|| assert_like_oracle(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_times_on_the_critical_path_add_up_to_what_the_top_took(seed: u64) {
        let nodes = random_trace(&mut Dice(seed));
        let tree = read(&nodes, &mut Names::default());
        prop_assert_eq!(tree.critical_times().iter().sum::<u64>(), tree.top().took());
    }

    #[test]
    fn a_trace_with_a_failed_span_has_an_origin_and_one_without_has_none(seed: u64) {
        let nodes = random_trace(&mut Dice(seed));
        let tree = read(&nodes, &mut Names::default());
        prop_assert_eq!(tree.origins().count() > 0, tree.spans().iter().any(TraceSpan::failed));
    }

    #[test]
    fn a_span_spends_no_more_time_than_it_took(seed: u64) {
        let nodes = random_trace(&mut Dice(seed));
        let tree = read(&nodes, &mut Names::default());
        for (i, span) in tree.spans().iter().enumerate() {
            prop_assert!(tree.self_times()[i] <= span.took() && tree.critical_times()[i] <= span.took());
        }
    }
}

fn node(id: u64, parent: u64, start: u64, end: u64) -> Node {
    Node { id, parent, start, end, service: "web", operation: "get", failed: false, kind: 1, tag: "" }
}

/// Critical and self times by ID.
fn times(nodes: &[Node]) -> Vec<(u64, u64, u64)> {
    let tree = read(nodes, &mut Names::default());
    let numbers = tree.critical_times().iter().zip(tree.self_times());
    let mut all: Vec<_> =
        tree.spans().iter().zip(numbers).map(|(s, (c, own))| (u64::from_be_bytes(s.id), *c, *own)).collect();
    all.sort_unstable();
    all
}

#[test]
fn of_children_at_the_same_time_the_one_that_ends_last_is_on_the_path() {
    // 1 |----------|
    // 2  |------|
    // 3    |--|
    let nodes = [node(1, 0, 0, 100), node(2, 1, 10, 80), node(3, 1, 30, 50)];
    assert_eq!(times(&nodes), [(1, 30, 30), (2, 70, 70), (3, 0, 20)]);
}

#[test]
fn children_one_after_the_other_are_all_on_the_path() {
    let nodes = [node(1, 0, 0, 100), node(2, 1, 10, 40), node(3, 1, 40, 90), node(4, 3, 50, 60)];
    assert_eq!(times(&nodes), [(1, 20, 20), (2, 30, 30), (3, 40, 40), (4, 10, 10)]);
}

#[test]
fn a_child_that_outlives_its_parent_is_on_the_path_up_to_the_parents_end() {
    let nodes = [node(1, 0, 0, 100), node(2, 1, 60, 500)];
    assert_eq!(times(&nodes), [(1, 60, 60), (2, 40, 440)]);
}

#[test]
fn a_child_with_a_fast_or_slow_clock_is_clipped_to_its_parent() {
    // Two starts before its parent, three ends after it, and four lies outside.
    let nodes = [node(1, 0, 100, 200), node(2, 1, 50, 130), node(3, 1, 150, 270), node(4, 1, 300, 400)];
    assert_eq!(times(&nodes), [(1, 20, 20), (2, 30, 80), (3, 50, 120), (4, 0, 100)]);
}

#[test]
fn a_trace_of_many_levels_needs_no_stack() {
    let nodes: Vec<Node> = (0..200_000).map(|i| node(i + 1, i, i, 1_000_000 - i)).collect();
    let tree = read(&nodes, &mut Names::default());
    assert_eq!((tree.depth(), tree.critical_times().iter().sum::<u64>()), (200_000, 1_000_000));
}
