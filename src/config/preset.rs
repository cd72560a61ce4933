//! `service_graphs.preset`: the defaults of the keys that it covers.

use crate::core::settings::ServiceGraphs;

/// `service_graphs.preset`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GraphPreset {
    /// As in Tempo.
    Tempo,
    /// Correct where Tempo's edges are wrong, depend on the order of arrival, or use only old attribute names.
    Recommended,
}

/// The present name of `peer.service` in the semantic conventions.
const PEER: &str = "service.peer.name";

/// Switches that are on in what is recommended, by their keys.
fn switches(graphs: &mut ServiceGraphs) -> [(&'static str, &mut bool); 5] {
    [
        ("service_graphs.each_root", &mut graphs.each_root),
        ("service_graphs.strict_callers", &mut graphs.strict_callers),
        ("service_graphs.type_of_both", &mut graphs.type_of_both),
        ("service_graphs.receive_once", &mut graphs.receive_once),
        ("service_graphs.nested_once", &mut graphs.nested_once),
    ]
}

/// Lists that begin with [`PEER`] in what is recommended, by their keys.
fn lists(graphs: &mut ServiceGraphs) -> [(&'static str, &mut Vec<String>); 2] {
    [
        ("service_graphs.peer_attributes", &mut graphs.peer_attributes),
        ("service_graphs.database_node_attributes", &mut graphs.database_node_attributes),
    ]
}

// === impl GraphPreset ===

impl GraphPreset {
    /// The preset that these settings are.
    pub(super) fn of(graphs: &ServiceGraphs) -> Self {
        let (mut with, mut graphs) = (graphs.clone(), graphs.clone());
        Self::Recommended.apply(&mut with, |_| false);
        let same = switches(&mut with).map(|(_, on)| *on) == switches(&mut graphs).map(|(_, on)| *on)
            && lists(&mut with).map(|(_, list)| list.clone()) == lists(&mut graphs).map(|(_, list)| list.clone());
        if same { Self::Recommended } else { Self::Tempo }
    }

    /// Sets the keys that it covers, except for those that are set.
    pub(super) fn apply(self, graphs: &mut ServiceGraphs, given: impl Fn(&str) -> bool) {
        let recommended = self == Self::Recommended;
        for (path, on) in switches(graphs) {
            if !given(path) {
                *on = recommended;
            }
        }
        let mut usual = ServiceGraphs::default();
        for ((path, list), (_, usual)) in lists(graphs).into_iter().zip(lists(&mut usual)) {
            if given(path) {
                continue;
            }
            list.clear();
            list.extend(recommended.then(|| PEER.to_owned()));
            list.append(usual);
        }
    }
}
