//! The attributes that become labels, found in one walk.

use std::ops::ControlFlow;

use crate::otlp::{Attributes, Keys};

/// The keys that are looked for. Each has a slot.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    keys: Keys,
}

/// What one list of attributes has of the wanted: texts, by slot. Made to be reused.
#[derive(Debug, Default)]
pub(super) struct Found {
    text: Vec<u8>,
    slots: Vec<Option<(u32, u32)>>,
}

// === impl Wanted ===

impl Wanted {
    /// The slot of a key.
    pub(super) fn slot(&mut self, key: &str) -> usize {
        self.keys.number(key)
    }

    /// Replaces `found` by what these attributes have. Of equal keys the first counts, be its value empty.
    #[inline]
    pub(super) fn read(&self, attributes: Attributes<'_>, found: &mut Found) {
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
            let start = found.text.len() as u32;
            value.put_text(&mut found.text);
            found.slots[slot] = Some((start, found.text.len() as u32));
            missing -= 1;
            if missing == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}

// === impl Found ===

impl Found {
    /// The text in a slot; `None` if no attribute had the key.
    pub(super) fn get(&self, slot: usize) -> Option<&[u8]> {
        let (start, end) = (*self.slots.get(slot)?)?;
        self.text.get(start as usize..end as usize)
    }
}
