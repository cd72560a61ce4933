//! The bytes of a delta record part: one record of the deltas topic.
//!
//! ```text
//! 'S' | version | topic | partition | commit number | part | parts | step | stream time
//!     | sender: respell after, settings, their texts | tenants: n, then n x (tenant, sketch of its label sets)
//!     | layouts: n, then each | sets ... | xxh3-64 of everything before
//! set:  name (16) | flags | layout | [tenant | label block, when spelled] | cells: n, then n x (gap, value)
//!     | per native histogram of the layout: n | zero | (n - 1 or n) x (index gap, count)
//!     | exemplars: n, then n x (cell, span end - step end, trace ID (16), value)
//! ```
//!
//! A part belongs to one step. The parts of a delta record are numbered over all its steps.
//!
//! Numbers are varints. A set is *spelled* when its labels are written out; otherwise the 128-bit name stands for them.
//! Up to version 2, delta records had no sender, and names were XXH3 of the labels ([`SetName::old`]); since then they
//! are those of the group ([`Namer`](crate::core::model::Namer)). Version 1 had no tenants, and neither weights, names
//! nor native histograms in its layouts. Both are still read, so that workers can be replaced one after the other.

use std::sync::Arc;

use crate::core::model::wire::{Malformed, Reader, put_bytes, put_checksum, put_i64, put_u64, verify_checksum};
use crate::core::model::{Exemplar, Layout, Millis, Natives, SetName, Sketch, labels};

const MAGIC: u8 = b'S';
/// The version that is written.
const VERSION: u8 = VERSION_3;
/// The first version in which senders state their guarantees, and names of label sets resist collisions.
const VERSION_3: u8 = 3;
/// Before weights, names and native histograms.
const OLD_VERSION: u8 = 1;
const SPELLED: u8 = 1;

/// The head of a delta record part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaHead {
    /// The source topic.
    pub topic: String,
    /// The source partition.
    pub partition: i32,
    /// The commit that this delta record belongs to, counted per source partition.
    pub commit_number: u64,
    /// This part, from 0.
    pub part: u32,
    /// How many parts the delta record has; at least 1.
    pub parts: u32,
    /// The end of the step that the deltas of this part belong to.
    pub step: Millis,
    /// The source partition's stream time after the commit: no later delta record brings a step that ends at or before it.
    pub stream_time: Millis,
    /// What its sender guarantees; unknown before version 3.
    pub sender: Option<Sender>,
    /// In the first part of a step: for every tenant with a limit, which label sets of it the whole commit touches in that
    /// step, over all shards. Sorted by tenant.
    pub tenants: Vec<(String, Sketch)>,
}

/// What the sender of a delta record guarantees: shards rely on it, whatever their own settings are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sender {
    /// It names a label set only if an earlier delta record of its own mentioned that at most so many milliseconds of
    /// its stream time before; otherwise it sends the set in full.
    pub respell_after: Millis,
    /// The fingerprint of the settings that it counts by.
    pub settings: u64,
    /// These settings, one `key = value` per line: in the first part of the first delta record that has the
    /// fingerprint.
    pub told: Option<Arc<str>>,
}

/// A delta record part that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaRecordError {
    /// The bytes are not a delta record part, or are damaged.
    #[error("not a delta record: {0}")]
    Malformed(#[from] Malformed),
    /// A newer spanmill wrote it.
    #[error("delta record has format version {0}, but this version reads up to {VERSION}; upgrade this worker")]
    Newer(u8),
}

/// One cell that grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellDelta {
    /// The cell of the set's layout.
    pub cell: u32,
    /// By how much.
    pub value: u64,
}

/// What a delta record part adds to one label set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetDelta<'a> {
    /// The label set's name.
    pub name: SetName,
    /// The layout of the cells: an index into [`DeltaRecord::layouts`].
    pub layout: usize,
    /// The tenant and the label block, when the set is sent in full.
    pub spelled: Option<(&'a str, &'a [u8])>,
    /// The cells that grew, in ascending order.
    pub cells: Vec<CellDelta>,
    /// What native histograms gained, in the finest schemas of the layout.
    pub natives: Natives,
    /// Exemplars by cell, in ascending order.
    pub exemplars: Vec<(u32, Exemplar)>,
}

/// A decoded delta record part; its sets are read one by one.
#[derive(Debug)]
pub struct DeltaRecord<'a> {
    /// The head.
    pub head: DeltaHead,
    /// The layouts that the sets refer to.
    pub layouts: Vec<Layout>,
    version: u8,
    sets: Reader<'a>,
}

/// Builds delta record parts for one shard, one step after the other, cutting them at a size.
#[derive(Debug, Default)]
pub(super) struct PartBuilder {
    done: Vec<Part>,
    open: Part,
}

/// A part under construction.
#[derive(Debug, Default)]
struct Part {
    step: Millis,
    tenants: Vec<(String, Sketch)>,
    sets: Vec<u8>,
}

/// One set of an open delta record, as the table holds it: all cells, zeros included.
#[derive(Debug)]
pub(super) struct SetRef<'a> {
    pub(super) name: SetName,
    pub(super) layout: usize,
    pub(super) spelled: Option<(&'a str, &'a [u8])>,
    pub(super) cells: &'a [u64],
    /// The bytes of the native histograms.
    pub(super) natives: &'a [u8],
    pub(super) exemplars: &'a [(u32, Exemplar)],
}

// === impl DeltaRecord ===

impl<'a> DeltaRecord<'a> {
    /// Verifies the checksum and reads the head.
    ///
    /// # Errors
    /// When the record is not a delta record part of a known version.
    pub fn decode(record: &'a [u8]) -> Result<Self, DeltaRecordError> {
        let mut r = Reader::new(verify_checksum(record)?);
        if r.u8()? != MAGIC {
            return Err(Malformed("wrong magic").into());
        }
        let version = r.u8()?;
        if !(OLD_VERSION..=VERSION).contains(&version) {
            return Err(DeltaRecordError::Newer(version));
        }
        let mut head = DeltaHead {
            topic: r.str()?.to_owned(),
            partition: r.uint()?,
            commit_number: r.u64()?,
            part: r.uint()?,
            parts: r.uint()?,
            step: r.i64()?,
            stream_time: r.i64()?,
            sender: None,
            tenants: Vec::new(),
        };
        if version >= VERSION_3 {
            head.sender = Some(Sender::decode(&mut r)?);
        }
        if head.part >= head.parts {
            return Err(Malformed("part number out of range").into());
        }
        let decode = if version == OLD_VERSION { Layout::decode_v1 } else { Layout::decode };
        if version > OLD_VERSION {
            for _ in 0..r.u64()? {
                head.tenants.push((r.str()?.to_owned(), Sketch::decode(&mut r)?));
            }
        }
        let layouts = (0..r.uint::<u16>()?).map(|_| decode(&mut r)).collect::<Result<_, _>>()?;
        Ok(Self { head, layouts, version, sets: r })
    }

    /// Whether its label sets have the names of the earlier version.
    #[must_use]
    pub fn has_old_names(&self) -> bool {
        self.version < VERSION_3
    }

    /// The next set, or `None` at the end.
    ///
    /// # Errors
    /// When the set is malformed.
    pub fn next_set(&mut self) -> Result<Option<SetDelta<'a>>, DeltaRecordError> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        let r = &mut self.sets;
        let name = SetName(u128::from_le_bytes(r.array()?));
        let flags = r.u8()?;
        let layout: usize = r.uint()?;
        let cells = self.layouts.get(layout).ok_or(Malformed("unknown layout"))?;
        let spelled = if flags & SPELLED == 0 {
            None
        } else {
            let (tenant, block) = (r.str()?, r.bytes()?);
            labels::check(block)?;
            Some((tenant, block))
        };
        let step = self.head.step;
        if self.version == OLD_VERSION {
            return Ok(Some(decode_v1(r, cells, step, SetDelta { name, layout, spelled, ..SetDelta::default() })?));
        }
        let natives = |r: &mut Reader<'_>| Natives::decode(cells, r);
        let (gained, natives) = (decode_cells(r, cells.cells())?, natives(r)?);
        let exemplars = decode_exemplars(r, cells.example_cells(), step)?;
        Ok(Some(SetDelta { name, layout, spelled, cells: gained, natives, exemplars }))
    }
}

/// The numbers of a set in format version 1.
fn decode_v1<'a>(
    r: &mut Reader<'a>,
    layout: &Layout,
    step: Millis,
    mut set: SetDelta<'a>,
) -> Result<SetDelta<'a>, Malformed> {
    set.cells = decode_cells(r, layout.cells_in_v1())?;
    set.exemplars = decode_exemplars(r, layout.cells_in_v1(), step)?;
    let now = |cell: &mut u32| *cell = layout.cell_of_v1(*cell as usize) as u32;
    set.cells.iter_mut().for_each(|c| now(&mut c.cell));
    set.exemplars.iter_mut().for_each(|(cell, _)| now(cell));
    Ok(set)
}

fn decode_cells(r: &mut Reader<'_>, limit: usize) -> Result<Vec<CellDelta>, Malformed> {
    let n = r.uint::<usize>()?;
    if n > limit {
        return Err(Malformed("more cells than the layout has"));
    }
    let mut cells = Vec::with_capacity(n);
    let mut at = 0usize;
    for _ in 0..n {
        at = at.checked_add(r.uint::<usize>()?).filter(|&c| c < limit).ok_or(Malformed("cell out of range"))?;
        cells.push(CellDelta { cell: at as u32, value: r.u64()? });
        at += 1;
    }
    Ok(cells)
}

fn decode_exemplars(r: &mut Reader<'_>, limit: usize, step: Millis) -> Result<Vec<(u32, Exemplar)>, Malformed> {
    let n = r.uint::<usize>()?;
    if n > limit {
        return Err(Malformed("more exemplars than the layout has cells"));
    }
    let mut out: Vec<(u32, Exemplar)> = Vec::with_capacity(n);
    for _ in 0..n {
        let cell = r.uint::<u32>()?;
        if cell as usize >= limit || out.last().is_some_and(|(last, _)| *last >= cell) {
            return Err(Malformed("exemplar cells out of order or range"));
        }
        let at = step.wrapping_add(r.i64()?);
        out.push((cell, Exemplar { at, trace_id: r.array()?, value_ns: r.u64()? }));
    }
    Ok(out)
}

// === impl Sender ===

impl Sender {
    fn encode(&self, out: &mut Vec<u8>, part: u32) {
        put_u64(out, self.respell_after.max(0).unsigned_abs());
        put_u64(out, self.settings);
        put_bytes(out, self.told.as_deref().filter(|_| part == 0).unwrap_or_default().as_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (respell_after, settings) = (r.uint()?, r.u64()?);
        let told = Some(r.str()?).filter(|told| !told.is_empty()).map(Arc::from);
        Ok(Self { respell_after, settings, told })
    }
}

// === impl Part ===

impl Part {
    fn says_something(&self) -> bool {
        !self.sets.is_empty() || !self.tenants.is_empty()
    }
}

// === impl PartBuilder ===

impl PartBuilder {
    /// The following sets belong to `step`, in which the commit touches the label sets of `tenants`.
    pub(super) fn begin(&mut self, step: Millis, tenants: &[(String, Sketch)]) {
        let open = Part { step, tenants: tenants.to_vec(), sets: Vec::new() };
        self.end(open);
    }

    /// Continues with `next`. An empty part is dropped.
    fn end(&mut self, next: Part) {
        let open = std::mem::replace(&mut self.open, next);
        if open.says_something() {
            self.done.push(open);
        }
    }

    /// The latest step that the delta record mentions.
    pub(super) fn latest(&self) -> Option<Millis> {
        let parts = self.done.iter().chain(Some(&self.open).filter(|open| open.says_something()));
        parts.map(|part| part.step).max()
    }

    /// Appends one set of the step; starts a new part when the open one would grow beyond `max` bytes.
    pub(super) fn push(&mut self, max: usize, set: &SetRef<'_>) {
        let Part { step, sets: out, .. } = &mut self.open;
        let (start, step) = (out.len(), *step);
        out.extend_from_slice(&set.name.0.to_le_bytes());
        out.push(if set.spelled.is_some() { SPELLED } else { 0 });
        put_u64(out, set.layout as u64);
        if let Some((tenant, block)) = set.spelled {
            put_bytes(out, tenant.as_bytes());
            put_bytes(out, block);
        }
        encode_cells(out, set.cells);
        out.extend_from_slice(set.natives);
        put_u64(out, set.exemplars.len() as u64);
        encode_exemplars(out, step, set.exemplars);
        if out.len() > max && start > 0 {
            let sets = out.split_off(start);
            self.end(Part { step, tenants: Vec::new(), sets });
        }
    }

    /// The finished records. There is always at least one part: an empty delta record still carries the stream time, and is of
    /// the step that `head` names.
    pub(super) fn finish(mut self, head: &mut DeltaHead, layouts: &[u8]) -> Vec<Vec<u8>> {
        let oldest = head.step;
        self.end(Part { step: oldest, ..Part::default() });
        if self.done.is_empty() {
            self.done.push(self.open);
        }
        head.parts = self.done.len() as u32;
        let mut records = Vec::with_capacity(self.done.len());
        for (part, Part { step, tenants, sets }) in (0..).zip(self.done) {
            (head.part, head.step, head.tenants) = (part, step, tenants);
            let mut out = Vec::with_capacity(sets.len() + layouts.len() + head.topic.len() + 48);
            encode_head(&mut out, head);
            if sets.is_empty() {
                put_u64(&mut out, 0);
            } else {
                out.extend_from_slice(layouts);
            }
            out.extend_from_slice(&sets);
            put_checksum(&mut out, 0);
            records.push(out);
        }
        head.step = oldest;
        records
    }
}

fn encode_head(out: &mut Vec<u8>, head: &DeltaHead) {
    out.extend_from_slice(&[MAGIC, VERSION]);
    put_bytes(out, head.topic.as_bytes());
    put_u64(out, u64::from(head.partition.unsigned_abs()));
    put_u64(out, head.commit_number);
    put_u64(out, u64::from(head.part));
    put_u64(out, u64::from(head.parts));
    put_i64(out, head.step);
    put_i64(out, head.stream_time);
    head.sender.clone().unwrap_or_default().encode(out, head.part);
    put_u64(out, head.tenants.len() as u64);
    for (tenant, sets) in &head.tenants {
        put_bytes(out, tenant.as_bytes());
        sets.encode(out);
    }
}

/// Appends the cells that are not zero: how many, then each with the number of zeros before it.
pub(crate) fn encode_cells(out: &mut Vec<u8>, cells: &[u64]) {
    put_u64(out, cells.iter().filter(|&&v| v != 0).count() as u64);
    let mut expected = 0;
    for (i, &v) in cells.iter().enumerate().filter(|&(_, &v)| v != 0) {
        put_u64(out, (i - expected) as u64);
        put_u64(out, v);
        expected = i + 1;
    }
}

/// Appends exemplars by cell, with their times in relation to `step`.
pub(crate) fn encode_exemplars(out: &mut Vec<u8>, step: Millis, exemplars: &[(u32, Exemplar)]) {
    for (cell, e) in exemplars {
        put_u64(out, u64::from(*cell));
        put_i64(out, e.at.wrapping_sub(step));
        out.extend_from_slice(&e.trace_id);
        put_u64(out, e.value_ns);
    }
}
