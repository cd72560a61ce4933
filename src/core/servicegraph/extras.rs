//! The data of edges besides names and times: dimensions, namespaces, weight.
//!
//! All of it together is one interned name, so that a pending edge has the same small size whatever is configured:
//!
//! ```text
//! shape (4 bytes) | weight (8 bytes) | slot 0 | slot 1 | ...
//! slot: 0: not found | length + 1 and the value
//! ```
//!
//! The shape is a hash of what the slots mean. Values that were written under other settings count as not found.

use std::borrow::Cow;

use super::edge::End;
use crate::core::model::labels::cut_bytes;
use crate::core::model::names::{NameId, Names};
use crate::core::model::wire::{Reader, put_u64};
use crate::core::model::{LabelBuilder, Weight};
use crate::core::sanitize::NameCache;

/// The bytes before the slots.
const HEAD: usize = 12;

/// One value that edges carry.
#[derive(Debug, Clone)]
pub(super) struct ExtraLabel {
    /// The side whose span sets it; `None`: both do, and the last one wins.
    pub(super) end: Option<End>,
    pub(super) source: Source,
    pub(super) label: Box<str>,
    pub(super) default: Option<Box<str>>,
}

/// Where the value of a slot comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A resource attribute, by the number of its key.
    Resource(usize),
    /// An attribute, the resource's before the span's, by the number of its key.
    Either(usize),
    /// The first of several attributes that has a text, by the number of their list.
    First(usize),
    /// The span's name, sanitized.
    Operation,
}

/// The name of a span that a slot may ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation<'a> {
    pub(super) name: &'a [u8],
    /// Which of [`Scratch::operations`] sanitizes it.
    pub(super) cache: usize,
    /// As much as labels keep of it.
    pub(super) most: usize,
}

/// Whose values an update is about, and what the span is worth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh<'a> {
    pub(super) end: End,
    pub(super) weight: Weight,
    pub(super) operation: Operation<'a>,
}

/// The slots of a tenant's edges.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<ExtraLabel>,
    weighted: bool,
    shape: u32,
}

/// Memory for extras under construction.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    fresh: Vec<u8>,
    merged: Vec<u8>,
    /// By tenant with rules of its own.
    pub(super) operations: Vec<NameCache>,
}

// === impl Slots ===

impl Slots {
    pub(super) fn new(slots: Vec<ExtraLabel>, weighted: bool) -> Self {
        let mut meaning = Vec::new();
        for slot in &slots {
            meaning.push(slot.end.map_or(2, |end| end as u8));
            meaning.extend_from_slice(slot.label.as_bytes());
            meaning.push(0);
        }
        Self { slots, weighted, shape: xxhash_rust::xxh3::xxh3_64(&meaning) as u32 }
    }

    /// Whether edges carry nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && !self.weighted
    }

    /// The weight, and the bytes that decide the labels.
    pub(super) fn open<'a>(&self, extra: &'a [u8]) -> (Weight, &'a [u8]) {
        let weight = if self.weighted { weight_of(extra) } else { Weight::ONE };
        (weight, self.values(extra))
    }

    /// The slots in `extra`, if they have the present shape.
    fn values<'a>(&self, extra: &'a [u8]) -> &'a [u8] {
        match extra.split_at_checked(HEAD) {
            Some((head, values)) if head[..4] == self.shape.to_le_bytes() => values,
            _ => &[],
        }
    }

    /// Sets the labels of all slots, from what [`Slots::open`] returned.
    pub(super) fn label(&self, values: &[u8], labels: &mut LabelBuilder) -> Result<(), std::str::Utf8Error> {
        let mut values = Reader::new(values);
        let found: Vec<Option<&[u8]>> = self.slots.iter().map(|_| next_slot(&mut values)).collect();
        for (slot, value) in self.slots.iter().zip(&found) {
            // With a prefix, two slots ask for the same attribute: the default is for edges where neither side has it.
            let anywhere = || self.slots.iter().zip(&found).any(|(s, v)| s.source == slot.source && v.is_some());
            let text = match (value, &slot.default) {
                (Some(value), _) => value,
                (None, Some(default)) if !anywhere() => default.as_bytes(),
                _ => &[],
            };
            // As in Tempo, a dimension replaces a label of the same name, and removes it when there is no value.
            let own = matches!(slot.source, Source::Resource(_) | Source::Operation);
            if !own || !text.is_empty() {
                labels.set_bytes(&slot.label, text)?;
            }
        }
        Ok(())
    }

    /// Whether all values are text.
    pub(super) fn are_text(&self, values: &[u8]) -> bool {
        let mut values = Reader::new(values);
        let mut found = self.slots.iter().filter_map(|_| next_slot(&mut values));
        found.all(|value| std::str::from_utf8(value).is_ok())
    }
}

// === impl Scratch ===

impl Scratch {
    pub(super) fn of(operations: Vec<NameCache>) -> Self {
        Self { operations, ..Self::default() }
    }

    /// Adds the values of one span to `old`.
    pub(super) fn update<'a>(
        &mut self,
        names: &mut Names,
        slots: &Slots,
        (old, new): (NameId, Fresh<'_>),
        look_up: impl Fn(Source) -> Option<Cow<'a, [u8]>>,
    ) -> NameId {
        if slots.is_empty() {
            return NameId::EMPTY;
        }
        let Self { fresh, operations, .. } = self;
        fresh.clear();
        fresh.extend(slots.shape.to_le_bytes());
        fresh.extend(new.weight.bits().to_le_bytes());
        for slot in &slots.slots {
            let is_of = slot.end.is_none_or(|of| of == new.end);
            match slot.source {
                Source::Operation if is_of => {
                    let Operation { name, cache, most } = new.operation;
                    let name = operations.get_mut(cache).map_or(name, |cache| cache.of(name).name);
                    put_slot(fresh, Some(cut_bytes(name, most)));
                }
                source => put_slot(fresh, if is_of { look_up(source) } else { None }.as_deref()),
            }
        }
        // Most often there is nothing to merge with.
        if old == NameId::EMPTY { names.intern(&self.fresh) } else { self.merge(names, slots, old, None) }
    }

    /// The extras of one edge from those of two halves. Where both have a value, that of `second` wins.
    pub(super) fn join(&mut self, names: &mut Names, slots: &Slots, first: NameId, second: NameId) -> NameId {
        if slots.is_empty() { NameId::EMPTY } else { self.merge(names, slots, first, Some(second)) }
    }

    /// Merges `old` with a newer one: an interned one, or the fresh one.
    fn merge(&mut self, names: &mut Names, slots: &Slots, old: NameId, new: Option<NameId>) -> NameId {
        let Self { fresh, merged, .. } = self;
        let new = new.map_or(fresh.as_slice(), |id| names.get(id));
        let old = names.get(old);
        // The greater weight, because taking a maximum does not depend on the order.
        let weight = [old, new].into_iter().filter(|e| !e.is_empty()).map(weight_of).max().unwrap_or_default();
        merged.clear();
        merged.extend(slots.shape.to_le_bytes());
        merged.extend(weight.bits().to_le_bytes());
        let (mut old, mut new) = (Reader::new(slots.values(old)), Reader::new(slots.values(new)));
        for _ in &slots.slots {
            let (before, now) = (next_slot(&mut old), next_slot(&mut new));
            put_slot(merged, now.or(before));
        }
        names.intern(merged)
    }
}

fn weight_of(extra: &[u8]) -> Weight {
    let bits = extra.get(4..HEAD).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    bits.map_or(Weight::ONE, Weight::from_bits)
}

fn put_slot(out: &mut Vec<u8>, value: Option<&[u8]>) {
    put_u64(out, value.map_or(0, |v| v.len() as u64 + 1));
    out.extend_from_slice(value.unwrap_or_default());
}

fn next_slot<'a>(values: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = values.uint::<usize>().ok()?.checked_sub(1)?;
    values.take(length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::labels;

    fn slot(end: Option<End>, key: usize, label: &str) -> ExtraLabel {
        ExtraLabel { end, source: Source::Either(key), label: label.into(), default: Some("none".into()) }
    }

    fn fresh(end: End, weight: Weight) -> Fresh<'static> {
        Fresh { end, weight, operation: Operation { name: b"", cache: 0, most: 0 } }
    }

    fn text(value: &str) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Borrowed(value.as_bytes()))
    }

    fn labels_of(slots: &Slots, extra: &[u8]) -> Vec<(String, String)> {
        let mut labels = LabelBuilder::default();
        slots.label(slots.open(extra).1, &mut labels).expect("UTF-8");
        labels::iter(&labels.block()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn a_side_keeps_what_the_other_one_does_not_say() {
        let slots = Slots::new(vec![slot(None, 0, "a"), slot(None, 1, "b")], true);
        let (mut names, mut scratch) = (Names::default(), Scratch::default());
        let two = Weight::from_ratio(0.5).expect("a ratio");
        let first =
            scratch.update(&mut names, &slots, (NameId::EMPTY, fresh(End::Client, two)), |source| match source {
                Source::Either(0) => text("x"),
                _ => text("y"),
            });
        let both =
            scratch.update(&mut names, &slots, (first, fresh(End::Server, Weight::ONE)), |source| match source {
                Source::Either(0) => text("z"),
                _ => None,
            });
        let pairs = |a: &str, b: &str| vec![("a".to_owned(), a.to_owned()), ("b".to_owned(), b.to_owned())];
        assert_eq!(labels_of(&slots, names.get(both)), pairs("z", "y"));
        assert_eq!(slots.open(names.get(both)).0, two, "the greater weight");
        assert_eq!(labels_of(&slots, &[]), pairs("none", "none"));
        let other = Slots::new(vec![slot(None, 0, "b"), slot(None, 1, "a")], true);
        assert_eq!(labels_of(&other, names.get(both)), pairs("none", "none"), "slots mean something else now");
    }

    #[test]
    fn the_default_is_for_edges_where_neither_side_has_the_attribute() {
        let slots =
            Slots::new(vec![slot(Some(End::Client), 0, "client_a"), slot(Some(End::Server), 0, "server_a")], false);
        let (mut names, mut scratch) = (Names::default(), Scratch::default());
        let one = scratch.update(&mut names, &slots, (NameId::EMPTY, fresh(End::Server, Weight::ONE)), |_| text("x"));
        assert_eq!(labels_of(&slots, names.get(one)), [("server_a".to_owned(), "x".to_owned())]);
        let none = labels_of(&slots, &[]);
        assert_eq!(none.len(), 2);
        assert!(none.iter().all(|(_, value)| value == "none"));
    }
}
