//! A registry as bytes. A restored registry continues bit for bit.
//!
//! ```text
//! closed? | layouts: n, then each
//! | sets: n, then n x (tenant | label block | layout | emitted | live | closed - touched | closed - mentioned | numbers
//!                      | per native histogram of the layout: schema | n | zero | buckets)
//! | open steps: n, then n x (step | tenants with a limit: n, then n x (tenant | sketch | sketch by old names)
//!                                     | deltas: n, then n x (set | layout | spelled | cells
//!                                                        | per native histogram: n | zero | buckets | exemplars))
//! | without labels: n, then n x (name | layout | mentioned | cells | per native histogram: n | zero | buckets)
//! ```
//!
//! In place of its numbers, a set that a limit refuses has the label block of the one that counts for it. Behind its
//! numbers, a set that came back and has not been written since has the layout that its receiver has seen (plus one; 0:
//! none) and its numbers of before.
//!
//! Sets stand in the order of emission and are numbered by it; a set's name follows from its labels. Format version 1,
//! which is still read, had neither native histograms nor a time of the last exemplar of counters; up to version 2
//! there was one sketch, by old names; up to version 3 it was not known when metrics began to count.

use std::borrow::Cow;

use super::SeriesSettings;
use super::metrics::Metrics;
use super::open::{Delta, Gain, Touched};
use super::registry::Registry;
use super::set::{self, LabelSet};
use super::unnamed::Unnamed;
use crate::core::deltas::CellDelta;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};
use crate::core::model::{Exemplar, Family, Layout, MAX_TIME, Millis, Natives, labels};

/// The state of a set: 0 for a cold one.
const LIVE: u8 = 1;
const REFUSED: u8 = 2;
/// Added to the state of a set that has kept numbers.
const KEPT: u8 = 4;
/// Added to the state of a set whose values of the last step were not written, because they had not changed.
const SKIPPED: u8 = 8;

/// The version of the snapshot around it that has no weights, names and native histograms.
pub(crate) const OLD_VERSION: u8 = 1;
/// The first one that has what was counted, the guarantees of sources, which tenants have a place, sketches by the
/// names of today, and deltas without labels.
pub(crate) const VERSION_3: u8 = 3;
/// The first one that has when metrics began to count.
const VERSION_4: u8 = 4;
/// The one that is written.
pub(crate) const VERSION: u8 = VERSION_4;

// === impl Registry ===

impl Registry {
    /// Appends the registry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let order = self.sorted_order();
        let base = self.closed.unwrap_or(0);
        put_u64(out, u64::from(self.closed.is_some()));
        put_i64(out, base);
        put_u64(out, self.layouts.iter().len() as u64);
        for metrics in self.layouts.iter() {
            metrics.layout.encode(out);
        }
        put_u64(out, order.len() as u64);
        let mut numbers = vec![0u32; self.sets.places()];
        for (number, &id) in order.iter().enumerate() {
            numbers[id as usize] = number as u32;
            let set = self.sets.get(id).expect("ordered sets exist");
            self.encode_set(out, base, id, set);
        }
        put_u64(out, self.open.len() as u64);
        for (&step, open) in &self.open {
            put_i64(out, step);
            put_u64(out, open.everywhere.len() as u64);
            for (tenant, sets) in &open.everywhere {
                put_bytes(out, tenant.as_bytes());
                sets.encode(out);
            }
            put_u64(out, open.len() as u64);
            for delta in open.deltas() {
                let metrics = self.layouts.of(delta.layout());
                encode_delta(out, step, numbers[delta.set as usize], delta, metrics);
            }
        }
        self.unnamed.encode(&self.layouts, out);
    }

    fn encode_set(&self, out: &mut Vec<u8>, base: Millis, id: u32, set: &LabelSet) {
        let (block, numbers) = set.parts();
        let (instead, kept) = (self.instead.get(id), self.kept.get(id));
        put_bytes(out, self.tenants.of(set.tenant).as_bytes());
        put_bytes(out, block);
        put_u64(out, set.layout.into());
        out.push(set.emitted);
        let life = if set.live { LIVE } else { 0 } | if kept.is_some() { KEPT } else { 0 };
        let life = life | if set.skipped { SKIPPED } else { 0 };
        out.push(if instead.is_some() { REFUSED } else { life });
        put_i64(out, base.wrapping_sub(set.touched));
        put_i64(out, base.wrapping_sub(set.mentioned));
        if let Some(instead) = instead {
            return put_bytes(out, instead);
        }
        out.extend_from_slice(numbers);
        let layout = &self.layouts.of(set.layout).layout;
        set.natives.encode_totals(layout, out);
        if let Some((numbers, natives, seen)) = kept {
            put_u64(out, seen.map_or(0, |seen| u64::from(seen) + 1));
            out.extend_from_slice(numbers);
            natives.encode_totals(layout, out);
        }
    }

    /// Reads a registry from a snapshot of format `version`. The settings may be other ones than when it was written.
    ///
    /// # Errors
    /// When the bytes are not what [`Registry::encode`] writes.
    pub fn decode(settings: SeriesSettings, version: u8, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let old = version == OLD_VERSION;
        let mut registry = Self::new(settings);
        let has_closed = r.u64()? != 0;
        let base = time(r)?;
        registry.closed = has_closed.then_some(base);
        for i in 0..r.u64()? {
            let layout = if old { Layout::decode_v1(r)? } else { Layout::decode(r)? };
            if u64::from(registry.layouts.id(&layout)) != i {
                return Err(Malformed("the same layout twice"));
            }
        }
        let mut ids = Vec::new();
        let mut unpacked = Vec::new();
        for _ in 0..r.u64()? {
            let Decoded { set, instead, kept } = decode_set(&mut registry, base, version, r)?;
            if registry.sets.find(set.name).is_some() {
                return Err(Malformed("the same label set twice"));
            }
            if set.live {
                registry.live += 1;
                set.unpack(&mut unpacked);
                registry.layouts.of(set.layout).each(&unpacked, &set.natives, |_| registry.active_series += 1);
            }
            let id = registry.insert(set);
            if let Some(instead) = instead {
                registry.instead.insert(id, instead);
            }
            if let Some((packed, natives, seen)) = kept {
                registry.kept.insert(id, &packed, natives, seen);
            }
            ids.push(id);
        }
        for _ in 0..r.u64()? {
            let step = time(r)?;
            for _ in 0..if old { 0 } else { r.u64()? } {
                let tenant = r.str()?;
                registry.mention(step, tenant, &Touched::decode(version, r)?);
            }
            for _ in 0..r.u64()? {
                decode_delta(&mut registry, step, &ids, old, r)?;
            }
        }
        if version >= VERSION_3 {
            registry.unnamed = Unnamed::decode(&registry.layouts, r)?;
        }
        Ok(registry)
    }
}

/// A set as it was written.
struct Decoded<'a> {
    set: LabelSet,
    /// The labels of the one that counts for it, if it is refused.
    instead: Option<&'a [u8]>,
    /// Its kept numbers: see [`super::starts`].
    kept: Option<(Cow<'a, [u8]>, Natives, Option<u32>)>,
}

fn decode_set<'a>(
    registry: &mut Registry,
    base: Millis,
    version: u8,
    r: &mut Reader<'a>,
) -> Result<Decoded<'a>, Malformed> {
    let old = version == OLD_VERSION;
    let tenant = r.str()?;
    let block = r.bytes()?;
    labels::check(block)?;
    let layout = r.uint()?;
    let metrics = metrics_of(registry, layout)?;
    let name = registry.settings.namer.name(tenant, metrics.layout.family(), block);
    let (emitted, life) = (r.u8()?, r.u8()?);
    let emitted = if old { emitted_v1(&metrics.layout, emitted) } else { emitted };
    let touched = base.wrapping_sub(r.i64()?);
    let mentioned = base.wrapping_sub(r.i64()?);
    let instead = if life == REFUSED { Some(r.bytes()?) } else { None };
    instead.map_or(Ok(()), labels::check)?;
    let (mut moved, mut natives, mut kept) = (Vec::new(), Natives::default(), None);
    let packed: Cow<'_, [u8]> = match (instead, old) {
        (Some(_), _) => Cow::Borrowed(&[]),
        (None, true) => {
            set::pack(&mut moved, &numbers_v1(metrics, r)?);
            Cow::Owned(moved)
        }
        (None, false) => {
            let packed = packed(metrics, version, r)?;
            natives = Natives::decode_totals(&metrics.layout, r)?;
            if life & KEPT != 0 {
                kept = Some(decode_kept(registry, metrics, version, r)?);
            }
            packed
        }
    };
    let mut set = LabelSet::new(name, registry.tenants.take(tenant), block, layout, &packed, natives);
    (set.touched, set.mentioned, set.emitted, set.live) = (touched, mentioned, emitted, life & LIVE != 0);
    set.skipped = instead.is_none() && life & SKIPPED != 0;
    Ok(Decoded { set, instead, kept })
}

/// The numbers that a set has kept, in the layout of the set.
fn decode_kept<'a>(
    registry: &Registry,
    metrics: &Metrics,
    version: u8,
    r: &mut Reader<'a>,
) -> Result<(Cow<'a, [u8]>, Natives, Option<u32>), Malformed> {
    let seen: Option<u32> = r.uint::<u32>()?.checked_sub(1);
    let family = metrics.layout.family();
    if let Some(seen) = seen
        && metrics_of(registry, seen)?.layout.family() != family
    {
        return Err(Malformed("kept numbers of another family"));
    }
    Ok((packed(metrics, version, r)?, Natives::decode_totals(&metrics.layout, r)?, seen))
}

/// The bytes of the numbers of a set.
fn packed<'a>(metrics: &Metrics, version: u8, r: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, Malformed> {
    let known = if version >= VERSION_4 { metrics.numbers() } else { metrics.numbers_before_starts() };
    let all = r.rest();
    for _ in 0..known {
        r.u64()?;
    }
    let read = &all[..all.len() - r.rest().len()];
    if known == metrics.numbers() {
        return Ok(Cow::Borrowed(read));
    }
    let mut padded = read.to_vec();
    set::pack(&mut padded, &vec![0; metrics.numbers() - known]);
    Ok(Cow::Owned(padded))
}

fn numbers(n: usize, r: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    (0..n).map(|_| r.u64()).collect()
}

/// Cells of format version 1, in their places of today.
fn cells_v1(layout: &Layout, n: usize, r: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    let mut cells = vec![0; n];
    for cell in 0..layout.cells_in_v1() {
        cells[layout.cell_of_v1(cell)] = r.u64()?;
    }
    Ok(cells)
}

/// Cells, then the time of the last exemplar of each histogram.
fn numbers_v1(metrics: &Metrics, r: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    let layout = &metrics.layout;
    let mut all = cells_v1(layout, metrics.numbers(), r)?;
    for h in (0..layout.family().histograms().len()).filter(|&h| layout.shape(h).is_some()) {
        all[layout.cells() + 1 + h] = r.u64()?;
    }
    Ok(all)
}

/// In format version 1, service graphs had two counters before their histograms.
fn emitted_v1(layout: &Layout, emitted: u8) -> u8 {
    match layout.family() {
        Family::ServiceGraph => (emitted & 0b11) | ((emitted & !0b11) << 1),
        _ => emitted,
    }
}

fn encode_delta(out: &mut Vec<u8>, step: Millis, number: u32, delta: &Delta, metrics: &Metrics) {
    put_u64(out, number.into());
    put_u64(out, delta.layout().into());
    out.push(u8::from(delta.spelled()));
    let (mut cells, mut exemplars) = (vec![0; metrics.layout.cells()], Vec::new());
    delta.add_to(&mut cells, metrics);
    delta.exemplars(step, &mut exemplars);
    set::pack(out, &cells);
    delta.natives.encode(&metrics.layout, out);
    put_u64(out, exemplars.len() as u64);
    for (cell, e) in &exemplars {
        put_u64(out, u64::from(*cell));
        put_i64(out, e.at.wrapping_sub(step));
        out.extend_from_slice(&e.trace_id);
        put_u64(out, e.value_ns);
    }
}

fn decode_delta(
    registry: &mut Registry,
    step: Millis,
    ids: &[u32],
    old: bool,
    r: &mut Reader<'_>,
) -> Result<(), Malformed> {
    let id = *ids.get(r.uint::<usize>()?).ok_or(Malformed("unknown label set"))?;
    let layout_id = r.uint()?;
    let layout = &metrics_of(registry, layout_id)?.layout;
    let spelled = r.u8()? != 0;
    let n = layout.cells();
    let cells = if old { cells_v1(layout, n, r)? } else { numbers(n, r)? };
    let natives = if old { Natives::default() } else { Natives::decode(layout, r)? };
    let mut exemplars = Vec::new();
    for _ in 0..r.u64()? {
        let cell = r.uint::<u32>()?;
        let cell = if old { layout.cell_of_v1(cell as usize) as u32 } else { cell };
        let at = step.wrapping_add(r.i64()?);
        exemplars.push((cell, Exemplar { at, trace_id: r.array()?, value_ns: r.u64()? }));
    }
    let family = layout.family();
    let open = registry.open_step(step);
    let set = registry.sets.get_mut(id).ok_or(Malformed("unknown label set"))?;
    if registry.layouts.family(set.layout) != family {
        return Err(Malformed("cells of another family"));
    }
    let grown = (0..).zip(cells).filter(|(_, value)| *value != 0);
    let cells: Vec<CellDelta> = grown.map(|(cell, value)| CellDelta { cell, value }).collect();
    let gain = Gain { spelled, cells: &cells, natives: &natives, exemplars: &exemplars };
    let metrics = registry.layouts.of(layout_id);
    let opened = registry.open.entry(open).or_default();
    set.pending += u32::from(opened.put((id, layout_id), open, metrics, &gain, &mut registry.scratch));
    Ok(())
}

fn metrics_of(registry: &Registry, layout: u32) -> Result<&Metrics, Malformed> {
    registry.layouts.get(layout).ok_or(Malformed("unknown layout"))
}

fn time(r: &mut Reader<'_>) -> Result<Millis, Malformed> {
    let fits = |at: i64| at.unsigned_abs() <= MAX_TIME.unsigned_abs();
    r.i64().and_then(|at| if fits(at) { Ok(at) } else { Err(Malformed("time out of range")) })
}
