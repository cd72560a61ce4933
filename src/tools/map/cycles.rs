//! Services that call each other in a circle.

use std::collections::BTreeMap;

use petgraph::algo::kosaraju_scc;
use petgraph::graphmap::DiGraphMap;

use super::views::EdgeView;

/// The groups of nodes that reach each other through the edges with calls, of two nodes and more: a request can come back to
/// where it was. Nodes and groups are sorted by identifier; a node that calls itself is no cycle.
pub(super) fn cycles(edges: &[EdgeView]) -> Vec<Vec<String>> {
    let called = || edges.iter().filter(|edge| edge.now.is_some()).map(|edge| (&*edge.client, &*edge.server));
    // By number, as the order of a graph's nodes should be that of their identifiers.
    let numbers: BTreeMap<&str, u32> =
        called().flat_map(|(client, server)| [client, server]).map(|id| (id, 0)).collect();
    let numbers: BTreeMap<&str, u32> = numbers.into_keys().zip(0..).collect();
    let ids: Vec<&str> = numbers.keys().copied().collect();
    let graph: DiGraphMap<u32, ()> = called().map(|(client, server)| (numbers[client], numbers[server])).collect();
    let groups = kosaraju_scc(&graph).into_iter().filter(|group| group.len() > 1);
    let mut cycles: Vec<Vec<String>> = groups
        .map(|mut group| {
            group.sort_unstable();
            group.into_iter().filter_map(|number| ids.get(number as usize)).map(|id| (*id).to_owned()).collect()
        })
        .collect();
    cycles.sort_unstable();
    cycles
}

#[cfg(test)]
mod tests {
    use super::super::sums::Values;
    use super::*;

    fn edge(client: &str, server: &str, called: bool) -> EdgeView {
        EdgeView {
            client: client.to_owned(),
            server: server.to_owned(),
            kind: "request",
            side: "client",
            now: called.then(Values::default),
            then: None,
            first_seen: 0,
            last_seen: 0,
        }
    }

    #[test]
    fn nodes_that_reach_each_other_are_a_cycle_and_one_that_calls_itself_is_none() {
        let called = [("c", "b"), ("b", "a"), ("a", "b"), ("b", "c"), ("a", "x"), ("y", "z"), ("z", "y"), ("x", "x")];
        let mut edges: Vec<EdgeView> = called.iter().map(|(client, server)| edge(client, server, true)).collect();
        assert_eq!(cycles(&edges), [vec!["a", "b", "c"], vec!["y", "z"]]);
        edges.push(edge("x", "a", false));
        assert_eq!(cycles(&edges).len(), 2, "an edge without calls closes no circle");
        edges.push(edge("x", "a", true));
        assert_eq!(cycles(&edges)[0], ["a", "b", "c", "x"]);
        assert!(cycles(&[]).is_empty());
    }
}
