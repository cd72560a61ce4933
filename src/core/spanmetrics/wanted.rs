//! The attributes that become labels, found in one walk.

use std::ops::ControlFlow;

use crate::core::model::Spelling;
use crate::core::model::labels::{cut_bytes, most};
use crate::core::otlp::{Attributes, Keys};
use crate::core::settings::Settings;
use crate::core::settings::labels::spelling;

/// The keys that are looked for. Each has a slot.
#[derive(Debug)]
pub(crate) struct Wanted {
    keys: Keys,
    /// No label's value is longer.
    most: usize,
    spelling: Spelling,
}

/// What one list of attributes has of the wanted: texts, by slot, as much as labels have of them. A raw key is kept for as
/// long as its label set is known, and a text may be a megabyte. Made to be reused.
#[derive(Debug, Default)]
pub(crate) struct Found {
    text: Vec<u8>,
    slots: Vec<Option<(u32, u32)>>,
}

// === impl Wanted ===

impl Wanted {
    /// No key is wanted yet. Texts are cut as labels are.
    pub(crate) fn new(config: &Settings) -> Self {
        Self {
            keys: Keys::default(),
            most: most(config.limits.max_label_value_length),
            spelling: spelling(config.naming.profile),
        }
    }

    /// The slot of a key.
    pub(crate) fn slot(&mut self, key: &str) -> usize {
        self.keys.number(key)
    }

    /// Replaces `found` by what these attributes have. Of equal keys the first counts, be its value empty.
    #[inline]
    pub(crate) fn read(&self, attributes: Attributes<'_>, found: &mut Found) {
        if !self.keys.is_empty() {
            self.read_some(attributes, found);
        }
    }

    fn read_some(&self, attributes: Attributes<'_>, found: &mut Found) {
        found.text.clear();
        found.slots.clear();
        found.slots.resize(self.keys.len(), None);
        let mut missing = self.keys.len();
        self.keys.visit(attributes, |slot, value| {
            if found.slots[slot].is_some() {
                return ControlFlow::Continue(());
            }
            let start = found.text.len();
            value.put_text_as(self.spelling, &mut found.text);
            if found.text.len() - start > self.most {
                found.cut(start, self.most);
            }
            found.slots[slot] = Some((start as u32, found.text.len() as u32));
            missing -= 1;
            if missing == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}

// === impl Found ===

impl Found {
    /// Cuts the text that begins at `start`, which is longer than `most`.
    #[cold]
    fn cut(&mut self, start: usize, most: usize) {
        let cut = cut_bytes(&self.text[start..], most).to_vec();
        self.text.truncate(start);
        self.text.extend_from_slice(&cut);
    }

    /// The text in a slot; `None` if no attribute had the key.
    pub(crate) fn get(&self, slot: usize) -> Option<&[u8]> {
        let (start, end) = (*self.slots.get(slot)?)?;
        self.text.get(start as usize..end as usize)
    }
}
