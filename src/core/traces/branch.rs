//! Branch labels: what a span of a trace takes from other spans of it, and the span metrics that have them.
//!
//! Of each span the attributes that some label reads are held as one name: pairs of key and value. Most spans have none, and few
//! of them differ. Which span a label takes its value from is known once the trace has closed.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::tree::TraceTree;
use crate::core::model::labels::cut_bytes;
use crate::core::model::wire::{Reader, put_bytes};
use crate::core::model::{Layout, Names, Spelling};
use crate::core::otlp::{Attributes, Keys};
use crate::core::settings::{BranchLabel, BranchSource};

/// OTLP's kinds of spans through which a request enters a service.
const SERVER: u8 = 2;
const CONSUMER: u8 = 5;
/// No span.
const NONE: usize = usize::MAX;

/// Span metrics of closed traces, and their labels.
#[derive(Debug)]
pub(super) struct BranchRules {
    pub(super) layout: Arc<Layout>,
    pub(super) labels: Vec<BranchLabel>,
    /// The attributes that the labels read.
    keys: Keys,
    spelling: Spelling,
    /// What labels keep of a text.
    most: usize,
    /// The values of one span by number of key, under construction.
    values: Vec<Vec<u8>>,
}

// === impl BranchRules ===

impl BranchRules {
    pub(super) fn new(layout: Arc<Layout>, labels: &[BranchLabel], spelling: Spelling, most: usize) -> Self {
        let mut keys = Keys::default();
        for label in labels {
            keys.number(&label.key);
        }
        let values = vec![Vec::new(); keys.len()];
        Self { layout, labels: labels.to_vec(), keys, spelling, most, values }
    }

    /// Appends the pairs of a span to `out`, sorted as the labels are: what the resource has, and else the span.
    pub(super) fn read(&mut self, resource: Attributes<'_>, span: Attributes<'_>, out: &mut Vec<u8>) {
        let Self { keys, values, spelling, .. } = self;
        values.iter_mut().for_each(Vec::clear);
        for attributes in [resource, span] {
            keys.visit(attributes, |number, value| {
                if values[number].is_empty() {
                    value.put_text_as(*spelling, &mut values[number]);
                }
                ControlFlow::Continue(())
            });
        }
        for (number, value) in values.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
            put_bytes(out, keys.key(number));
            put_bytes(out, cut_bytes(value, self.most));
        }
    }

    /// The values of all labels for a span, label by label. An empty text is none.
    pub(super) fn resolve<'n>(&self, tree: &TraceTree, names: &'n Names) -> Vec<Vec<&'n [u8]>> {
        let order = top_down(tree);
        self.labels.iter().map(|label| resolve(label, tree, names, &order)).collect()
    }
}

/// The spans of a tree, every parent before its children.
fn top_down(tree: &TraceTree) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tree.spans().len()).filter(|&i| tree.parent(i).is_none()).collect();
    let mut at = 0;
    while at < order.len() {
        order.extend(tree.children(order[at]));
        at += 1;
    }
    order
}

fn resolve<'n>(label: &BranchLabel, tree: &TraceTree, names: &'n Names, order: &[usize]) -> Vec<&'n [u8]> {
    let spans = tree.spans();
    let own = |i: usize| value_of(names.get(spans[i].values), label.key.as_bytes());
    let mut values: Vec<&[u8]> = vec![b""; spans.len()];
    if label.from == BranchSource::Descendant {
        // The first in order of the span itself and all below it.
        let mut first: Vec<usize> = (0..spans.len()).map(|i| if own(i).is_empty() { NONE } else { i }).collect();
        for &i in order.iter().rev() {
            if let Some(parent) = tree.parent(i) {
                first[parent] = first[parent].min(first[i]);
            }
        }
        for (value, i) in values.iter_mut().zip(first).filter(|(_, i)| *i != NONE) {
            *value = own(i);
        }
        return values;
    }
    for &i in order {
        let above = tree.parent(i).map(|parent| values[parent]);
        let decides = match label.from {
            BranchSource::Root => above.is_none() && spans[i].parent == [0; 8],
            BranchSource::Entry => matches!(spans[i].kind, SERVER | CONSUMER),
            BranchSource::Ancestor | BranchSource::Descendant => !own(i).is_empty(),
        };
        values[i] = if decides { own(i) } else { above.unwrap_or_default() };
    }
    values
}

/// The value of a key among pairs.
fn value_of<'n>(pairs: &'n [u8], key: &[u8]) -> &'n [u8] {
    let mut r = Reader::new(pairs);
    while let (Ok(k), Ok(value)) = (r.bytes(), r.bytes()) {
        if k == key {
            return value;
        }
    }
    b""
}
