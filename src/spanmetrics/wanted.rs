//! The attributes that become labels, found in one walk.

use crate::otlp::Attributes;

/// The keys that are looked for. Each has a slot.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    keys: Vec<Box<[u8]>>,
    /// Bit `n` is set when some key is `n` bytes long (bit 63: or longer). Most attributes mean nothing here, and nearly
    /// all of those are passed over by their length.
    lengths: u64,
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
        self.lengths |= 1 << key.len().min(63);
        self.keys.iter().position(|k| **k == *key.as_bytes()).unwrap_or_else(|| {
            self.keys.push(key.as_bytes().into());
            self.keys.len() - 1
        })
    }

    /// Replaces `found` by what these attributes have. Of equal keys the first counts, be its value empty.
    pub(super) fn read(&self, attributes: Attributes<'_>, found: &mut Found) {
        found.text.clear();
        found.slots.clear();
        found.slots.resize(self.keys.len(), None);
        let mut missing = self.keys.len();
        if missing == 0 {
            return;
        }
        for (key, value) in attributes.iter() {
            if self.lengths & (1 << key.len().min(63)) != 0
                && let Some(slot) = self.keys.iter().position(|k| **k == *key)
                && found.slots[slot].is_none()
            {
                let start = found.text.len() as u32;
                value.put_text(&mut found.text);
                found.slots[slot] = Some((start, found.text.len() as u32));
                missing -= 1;
                if missing == 0 {
                    return;
                }
            }
        }
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
