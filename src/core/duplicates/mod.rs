//! Spans that come again: a producer that retries, or a Collector that sends at least once, writes a span twice.
//!
//! *In:* the spans of one source partition, in the order of their offsets. *Out:* which of them came before. *Owner:* the
//! span task. *Never:* a clock, a guess. *Next:* the span task removes them before anything counts them.
//!
//! # What is the same span
//!
//! The same tenant, trace ID, span ID and kind; nothing else is compared. The kind belongs to it because a client and a
//! server may share one ID (Zipkin). A span without a valid ID is never a duplicate. All of the ID is kept, no digest: what is
//! removed is a duplicate.
//!
//! # Slots
//!
//! Time is stream time, in slots of an eighth of the window. A span is remembered in the slot in which it came last, for
//! eight more slots: for the window at least, and an eighth of it longer at most. When [`SeenSpans::new`]'s bound is
//! reached, no further span is remembered for the rest of the slot, and their number is counted: a duplicate of one of
//! those would be counted twice.
//!
//! # Why a take-over is exact
//!
//! Stream time is in the order of offsets, so a slot is a range of offsets, and what is remembered follows from the records
//! of nine slots: each remembered span came in one of them, before the place where its slot was full. So a commit
//! holds for each slot its first offset and that place, and no span. The next owner reads those records again. What else
//! is rebuilt from records (pending edges, open traces) needs the same answers, so the list reaches back nine slots before the
//! first record that any of them needs.

mod slots;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use self::slots::{Slot, Slots};
use crate::core::model::wire::Malformed;
use crate::core::model::{Millis, Names, Seed};
use crate::core::otlp::Span;
use crate::core::settings::Duplicates;

/// A slot is this part of the window.
const PARTS: i64 = 8;
/// Kinds of spans are 0 to 5; all others are one.
const KINDS: u32 = 8;

/// The spans that a partition has seen of late.
#[derive(Debug)]
pub struct SeenSpans {
    /// Milliseconds of a slot.
    width: i64,
    most: usize,
    seed: Seed,
    tenants: Names,
    spans: HashTable<Seen>,
    slots: Slots,
    /// While what a commit lists is being rebuilt: its slots that no record has been read of.
    listed: Option<Slots>,
}

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// It is new, and remembered.
    New,
    /// It is new, and will not be recognized when it comes again: as many as allowed are remembered.
    Forgotten,
    /// It has no ID.
    Nameless,
    /// It came before.
    Again,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Trace ID and span ID.
    id: [u8; 24],
    /// Tenant and kind.
    owner: u32,
    /// The slot in which it came last. Numbers wrap around; the live ones are close together.
    slot: u32,
}

/// The tenant of some spans. Valid until the next call of [`SeenSpans::tenant`] after [`SeenSpans::turn_to`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenTenant(u32);

impl SeenSpans {
    /// Nothing seen; `None` if the settings have no window.
    #[must_use]
    pub fn new(settings: &Duplicates, seed: Seed) -> Option<Self> {
        (settings.window > 0).then(|| Self {
            width: width(settings),
            most: settings.max_spans,
            seed,
            tenants: Names::new(seed),
            spans: HashTable::new(),
            slots: Slots::default(),
            listed: None,
        })
    }

    /// The record at `offset` is next, at this stream time. Forgets what is too old.
    pub fn turn_to(&mut self, offset: i64, stream_time: Millis) {
        self.enter(Slot { number: stream_time.div_euclid(self.width), first: offset, full: None });
    }

    /// The same for a record that a commit covers: its slot is listed.
    pub fn turn_again(&mut self, offset: i64) {
        while let Some(slot) = self.listed.as_mut().and_then(|listed| listed.take_up_to(offset)) {
            self.enter(slot);
        }
    }

    fn enter(&mut self, slot: Slot) {
        let passed = self.slots.last().map(|last| slot.number.saturating_sub(last.number));
        if passed.is_some_and(|passed| passed <= 0) {
            return;
        }
        // A commit may have forgotten all slots, and what is in none is too old.
        if passed.is_none_or(|passed| passed > PARTS) {
            self.spans.clear();
        }
        self.slots.push(slot);
        let oldest = (slot.number - PARTS) as u32;
        self.spans.retain(|seen| seen.slot.wrapping_sub(oldest) <= PARTS as u32);
        if self.spans.is_empty() {
            self.tenants = Names::new(self.seed);
        }
    }

    /// The tenant of the next spans.
    pub fn tenant(&mut self, name: &str) -> SeenTenant {
        SeenTenant(self.tenants.intern(name.as_bytes()).number())
    }

    /// Whether a span of the record at `offset` came before.
    pub fn see(&mut self, tenant: SeenTenant, span: &Span<'_>, offset: i64) -> Sighting {
        let Some(id) = id_of(span) else { return Sighting::Nameless };
        let kind = u32::try_from(span.kind).map_or(KINDS - 1, |kind| kind.min(KINDS - 1));
        let Some(slot) = self.slots.last_mut() else { return Sighting::Nameless };
        let seen = Seen { id, owner: tenant.0 * KINDS + kind, slot: slot.number as u32 };
        let here = (offset, span.ordinal);
        let seed = self.seed;
        let room = self.spans.len() < self.most;
        let same = |other: &Seen| other.id == seen.id && other.owner == seen.owner;
        match self.spans.entry(seen.hash(seed), same, |other| other.hash(seed)) {
            // Nothing is remembered behind that place, or a rebuild could not tell.
            Entry::Occupied(_) if slot.is_full_at(here) => Sighting::Again,
            Entry::Occupied(mut entry) => {
                entry.get_mut().slot = seen.slot;
                Sighting::Again
            }
            Entry::Vacant(_) if slot.is_full_at(here) => Sighting::Forgotten,
            Entry::Vacant(_) if !room && self.listed.is_none() => {
                slot.full = Some(here);
                Sighting::Forgotten
            }
            Entry::Vacant(entry) => {
                entry.insert(seen);
                Sighting::New
            }
        }
    }

    /// Forgets everything, because reading continues at another offset.
    pub fn clear(&mut self) {
        (self.slots, self.listed) = (Slots::default(), None);
        self.spans.clear();
        self.tenants = Names::new(self.seed);
    }

    /// What a commit has to hold at this stream time, and the offset from which records must be read again; `None` if
    /// nothing is remembered. `needed` is the first offset that something else needs to be read again from.
    pub fn list(&mut self, stream_time: Millis, needed: Option<i64>) -> Option<(i64, Vec<u8>)> {
        let present = stream_time.div_euclid(self.width);
        let of_needed = needed.and_then(|offset| self.slots.of(offset));
        self.slots.forget_before(of_needed.map_or(present, |slot| slot.min(present)).saturating_sub(PARTS));
        let from = self.slots.first()?.first;
        Some((from, self.slots.encode(self.width)))
    }

    /// Begins to rebuild what [`SeenSpans::list`] returned, from the record at `from` on.
    ///
    /// # Errors
    /// When the list does not decode.
    pub fn begin_rebuild(&mut self, from: i64, list: &[u8]) -> Result<(), Malformed> {
        self.listed = Some(Slots::decode(from, list, self.width)?);
        Ok(())
    }

    /// Ends rebuilding: all records up to the commit have been read.
    pub fn finish_rebuild(&mut self) {
        self.turn_again(i64::MAX);
        self.listed = None;
    }

    /// The number of remembered spans.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What they take in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.spans.allocation_size() + self.tenants.bytes()
    }
}

impl Seen {
    fn hash(&self, seed: Seed) -> u64 {
        let word =
            |at: usize| self.id.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
        let mut mixer = seed.mixer();
        mixer.words(word(0), word(8));
        mixer.words(word(16), self.owner.into());
        mixer.finish()
    }
}

fn width(settings: &Duplicates) -> i64 {
    (settings.window + PARTS - 1).div_euclid(PARTS).max(1)
}

/// Trace ID and span ID, if both are valid.
fn id_of(span: &Span<'_>) -> Option<[u8; 24]> {
    let trace = <[u8; 16]>::try_from(span.trace_id).ok().filter(|id| *id != [0; 16])?;
    let own = <[u8; 8]>::try_from(span.span_id).ok().filter(|id| *id != [0; 8])?;
    let mut id = [0; 24];
    id[..16].copy_from_slice(&trace);
    id[16..].copy_from_slice(&own);
    Some(id)
}

#[cfg(test)]
mod tests;
