//! The bytes of a share part: one record of the deltas topic.
//!
//! ```text
//! 'S' | version | topic | partition | k | part | parts | step | stream time
//!     | layouts: n, then each | sets ... | xxh3-64 of everything before
//! set:  name (16) | flags | layout | [tenant | label block, when spelled] | cells: n, then n x (gap, value)
//!     | exemplars: n, then n x (cell, span end - step end, trace ID (16), value)
//! ```
//!
//! Numbers are varints. A set is *spelled* when its labels are written out; otherwise the 128-bit name stands for them.

use crate::model::wire::{Malformed, Reader, put_bytes, put_checksum, put_i64, put_u64, verify_checksum};
use crate::model::{Exemplar, Layout, Millis, SetName, labels};

const MAGIC: u8 = b'S';
const VERSION: u8 = 1;
const SPELLED: u8 = 1;

/// What a share part says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHead {
    /// The source topic.
    pub topic: String,
    /// The source partition.
    pub partition: i32,
    /// The commit that this share belongs to, counted per source partition.
    pub k: u64,
    /// This part, from 0.
    pub part: u32,
    /// How many parts the share has; at least 1.
    pub parts: u32,
    /// The end of the step that the deltas belong to.
    pub step: Millis,
    /// The source partition's stream time after the commit: no later share brings a step that ends at or before it.
    pub stream_time: Millis,
}

/// A share part that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The bytes are not a share part, or are damaged.
    #[error("not a share: {0}")]
    Malformed(#[from] Malformed),
    /// A newer spanmill wrote it.
    #[error("share has format version {0}, this version reads up to {VERSION}; upgrade this worker")]
    Newer(u8),
}

/// One cell that grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellDelta {
    /// The cell of the set's layout.
    pub cell: u16,
    /// By how much.
    pub value: u64,
}

/// What a share part adds to one label set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDelta<'a> {
    /// The label set's name.
    pub name: SetName,
    /// The layout of the cells: an index into [`Share::layouts`].
    pub layout: usize,
    /// The tenant and the label block, when the set is spelled out.
    pub spelled: Option<(&'a str, &'a [u8])>,
    /// The cells that grew, in ascending order.
    pub cells: Vec<CellDelta>,
    /// Exemplars by bucket cell, in ascending order.
    pub exemplars: Vec<(u16, Exemplar)>,
}

/// A decoded share part; its sets are read one by one.
#[derive(Debug)]
pub struct Share<'a> {
    /// The head.
    pub head: ShareHead,
    /// The layouts that the sets refer to.
    pub layouts: Vec<Layout>,
    sets: Reader<'a>,
}

/// Builds share parts for one shard, cutting them at a size.
#[derive(Debug, Default)]
pub(super) struct PartBuilder {
    done: Vec<Vec<u8>>,
    open: Vec<u8>,
}

/// One set of an open share, as the table holds it: all cells, zeros included.
#[derive(Debug)]
pub(super) struct SetRef<'a> {
    pub(super) name: SetName,
    pub(super) layout: usize,
    pub(super) spelled: Option<(&'a str, &'a [u8])>,
    pub(super) cells: &'a [u64],
    pub(super) exemplars: &'a [(u16, Exemplar)],
}

// === impl Share ===

impl<'a> Share<'a> {
    /// Verifies the checksum and reads the head.
    ///
    /// # Errors
    /// When the record is not a share part of a known version.
    pub fn decode(record: &'a [u8]) -> Result<Self, ShareError> {
        let mut r = Reader::new(verify_checksum(record)?);
        if r.u8()? != MAGIC {
            return Err(Malformed("wrong magic").into());
        }
        let version = r.u8()?;
        if version != VERSION {
            return Err(ShareError::Newer(version));
        }
        let head = ShareHead {
            topic: r.str()?.to_owned(),
            partition: r.uint()?,
            k: r.u64()?,
            part: r.uint()?,
            parts: r.uint()?,
            step: r.i64()?,
            stream_time: r.i64()?,
        };
        if head.part >= head.parts {
            return Err(Malformed("part number out of range").into());
        }
        let layouts = (0..r.uint::<u16>()?).map(|_| Layout::decode(&mut r)).collect::<Result<_, _>>()?;
        Ok(Self { head, layouts, sets: r })
    }

    /// The next set, or `None` at the end.
    ///
    /// # Errors
    /// When the set is malformed.
    pub fn next_set(&mut self) -> Result<Option<SetDelta<'a>>, ShareError> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        let r = &mut self.sets;
        let name = SetName(u128::from_le_bytes(r.array()?));
        let flags = r.u8()?;
        let layout: usize = r.uint()?;
        let cells_of_layout = self.layouts.get(layout).ok_or(Malformed("unknown layout"))?.cells();
        let spelled = if flags & SPELLED == 0 {
            None
        } else {
            let (tenant, block) = (r.str()?, r.bytes()?);
            labels::check(block)?;
            Some((tenant, block))
        };
        let cells = decode_cells(r, cells_of_layout)?;
        let exemplars = decode_exemplars(r, cells_of_layout, self.head.step)?;
        Ok(Some(SetDelta { name, layout, spelled, cells, exemplars }))
    }
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
        cells.push(CellDelta { cell: at as u16, value: r.u64()? });
        at += 1;
    }
    Ok(cells)
}

fn decode_exemplars(r: &mut Reader<'_>, limit: usize, step: Millis) -> Result<Vec<(u16, Exemplar)>, Malformed> {
    let n = r.uint::<usize>()?;
    if n > limit {
        return Err(Malformed("more exemplars than the layout has cells"));
    }
    let mut out: Vec<(u16, Exemplar)> = Vec::with_capacity(n);
    for _ in 0..n {
        let cell = r.uint::<u16>()?;
        if usize::from(cell) >= limit || out.last().is_some_and(|(last, _)| *last >= cell) {
            return Err(Malformed("exemplar cells out of order or range"));
        }
        let at = step.wrapping_add(r.i64()?);
        out.push((cell, Exemplar { at, trace_id: r.array()?, value_ns: r.u64()? }));
    }
    Ok(out)
}

// === impl PartBuilder ===

impl PartBuilder {
    /// Appends one set of a share of `step`; starts a new part when the open one would grow beyond `max` bytes.
    pub(super) fn push(&mut self, max: usize, step: Millis, set: &SetRef<'_>) {
        let start = self.open.len();
        let out = &mut self.open;
        out.extend_from_slice(&set.name.0.to_le_bytes());
        out.push(if set.spelled.is_some() { SPELLED } else { 0 });
        put_u64(out, set.layout as u64);
        if let Some((tenant, block)) = set.spelled {
            put_bytes(out, tenant.as_bytes());
            put_bytes(out, block);
        }
        encode_cells(out, set.cells);
        put_u64(out, set.exemplars.len() as u64);
        for (cell, e) in set.exemplars {
            put_u64(out, u64::from(*cell));
            put_i64(out, e.at.wrapping_sub(step));
            out.extend_from_slice(&e.trace_id);
            put_u64(out, e.value_ns);
        }
        if self.open.len() > max && start > 0 {
            let tail = self.open.split_off(start);
            self.done.push(std::mem::replace(&mut self.open, tail));
        }
    }

    /// The finished records. There is always at least one part: an empty share still carries the stream time.
    pub(super) fn finish(mut self, head: &mut ShareHead, layouts: &[u8]) -> Vec<Vec<u8>> {
        self.done.push(self.open);
        head.parts = self.done.len() as u32;
        let mut records = Vec::with_capacity(self.done.len());
        for (part, sets) in self.done.iter().enumerate() {
            head.part = part as u32;
            let mut out = Vec::with_capacity(sets.len() + layouts.len() + head.topic.len() + 48);
            encode_head(&mut out, head);
            if sets.is_empty() {
                put_u64(&mut out, 0);
            } else {
                out.extend_from_slice(layouts);
            }
            out.extend_from_slice(sets);
            put_checksum(&mut out, 0);
            records.push(out);
        }
        records
    }
}

fn encode_head(out: &mut Vec<u8>, head: &ShareHead) {
    out.extend_from_slice(&[MAGIC, VERSION]);
    put_bytes(out, head.topic.as_bytes());
    put_u64(out, u64::from(head.partition.unsigned_abs()));
    put_u64(out, head.k);
    put_u64(out, u64::from(head.part));
    put_u64(out, u64::from(head.parts));
    put_i64(out, head.step);
    put_i64(out, head.stream_time);
}

fn encode_cells(out: &mut Vec<u8>, cells: &[u64]) {
    put_u64(out, cells.iter().filter(|&&v| v != 0).count() as u64);
    let mut expected = 0;
    for (i, &v) in cells.iter().enumerate().filter(|&(_, &v)| v != 0) {
        put_u64(out, (i - expected) as u64);
        put_u64(out, v);
        expected = i + 1;
    }
}
