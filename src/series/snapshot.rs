//! A registry as bytes. What is restored goes on bit for bit.
//!
//! ```text
//! closed? | layouts: n, then each
//! | sets: n, then n x (tenant | label block | layout | emitted | live | closed - touched | closed - mentioned | numbers
//!                      | per native histogram of the layout: schema | n | zero | buckets)
//! | open steps: n, then n x (step | tenants with a limit: n, then n x (tenant | sketch) | deltas: n, then n x (set | layout | spelled | cells
//!                                                        | per native histogram: n | zero | buckets | exemplars))
//! ```
//!
//! In place of its numbers, a set that a limit refuses has the label block of the one that counts for it.
//!
//! Sets stand in the order of emission and are numbered by it; a set's name follows from its labels. Format version 1,
//! which is still read, had neither native histograms nor a time of the last exemplar of counters.

use super::SeriesSettings;
use super::metrics::Metrics;
use super::open::Delta;
use super::registry::{LabelSet, Registry};
use crate::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};
use crate::model::{Exemplar, Family, Layout, MAX_TIME, Millis, Natives, SetName, Sketch, labels};

/// What stands for the life of a set: 0 for a cold one.
const LIVE: u8 = 1;
const REFUSED: u8 = 2;

/// The version of the snapshot around it that has no weights, names and native histograms.
pub(crate) const OLD_VERSION: u8 = 1;

// === impl Registry ===

impl Registry {
    /// Appends the registry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let order = self.sorted_order();
        let base = self.closed.unwrap_or(0);
        put_u64(out, u64::from(self.closed.is_some()));
        put_i64(out, base);
        put_u64(out, self.metrics.len() as u64);
        for metrics in &self.metrics {
            metrics.layout.encode(out);
        }
        put_u64(out, order.len() as u64);
        let mut numbers = vec![0u32; self.sets.len()];
        for (number, &id) in order.iter().enumerate() {
            numbers[id as usize] = number as u32;
            let set = self.sets[id as usize].as_ref().expect("ordered sets exist");
            encode_set(
                out,
                base,
                set,
                self.instead.get(&id).map(AsRef::as_ref),
                &self.metrics[set.layout as usize].layout,
            );
        }
        put_u64(out, self.open.len() as u64);
        for (&step, open) in &self.open {
            put_i64(out, step);
            put_u64(out, open.everywhere.len() as u64);
            for (tenant, sets) in &open.everywhere {
                put_bytes(out, tenant.as_bytes());
                sets.encode(out);
            }
            put_u64(out, open.deltas().len() as u64);
            for delta in open.deltas() {
                let layout = &self.metrics[delta.layout as usize].layout;
                encode_delta(out, step, numbers[delta.set as usize], delta, layout);
            }
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
            if u64::from(registry.layout_id(&layout)) != i {
                return Err(Malformed("the same layout twice"));
            }
        }
        let mut ids = Vec::new();
        for _ in 0..r.u64()? {
            let (set, instead) = decode_set(&mut registry, base, old, r)?;
            if registry.knows(set.name) {
                return Err(Malformed("the same label set twice"));
            }
            if set.live {
                registry.live += 1;
                registry.metrics[set.layout as usize].each(&set.numbers, &set.natives, |_| registry.active_series += 1);
            }
            let id = registry.insert(set);
            if let Some(instead) = instead {
                registry.instead.insert(id, instead);
            }
            ids.push(id);
        }
        for _ in 0..r.u64()? {
            let step = time(r)?;
            for _ in 0..if old { 0 } else { r.u64()? } {
                let tenant = r.str()?;
                registry.mention(step, tenant, &Sketch::decode(r)?);
            }
            for _ in 0..r.u64()? {
                decode_delta(&mut registry, step, &ids, old, r)?;
            }
        }
        Ok(registry)
    }
}

fn encode_set(out: &mut Vec<u8>, base: Millis, set: &LabelSet, instead: Option<&[u8]>, layout: &Layout) {
    put_bytes(out, set.tenant.as_bytes());
    put_bytes(out, &set.block);
    put_u64(out, set.layout.into());
    out.push(set.emitted);
    out.push(if instead.is_some() { REFUSED } else { u8::from(set.live) });
    put_i64(out, base.wrapping_sub(set.touched));
    put_i64(out, base.wrapping_sub(set.mentioned));
    if let Some(instead) = instead {
        return put_bytes(out, instead);
    }
    for &n in &set.numbers {
        put_u64(out, n);
    }
    set.natives.encode_totals(layout, out);
}

/// A set, and the labels of the one that counts for it if it is refused.
type Decoded = (LabelSet, Option<Box<[u8]>>);

fn decode_set(registry: &mut Registry, base: Millis, old: bool, r: &mut Reader<'_>) -> Result<Decoded, Malformed> {
    let tenant = r.str()?;
    let block = r.bytes()?;
    labels::check(block)?;
    let layout = r.uint()?;
    let metrics = metrics_of(registry, layout)?;
    let name = SetName::of(tenant, metrics.layout.family(), block);
    let (emitted, life) = (r.u8()?, r.u8()?);
    let emitted = if old { emitted_v1(&metrics.layout, emitted) } else { emitted };
    let touched = base.wrapping_sub(r.i64()?);
    let mentioned = base.wrapping_sub(r.i64()?);
    let instead = if life == REFUSED { Some(r.bytes()?) } else { None };
    instead.map_or(Ok(()), labels::check)?;
    let (numbers, natives) = match (instead, old) {
        (Some(_), _) => (Vec::new(), Natives::default()),
        (None, true) => (numbers_v1(metrics, r)?, Natives::default()),
        (None, false) => (numbers(metrics.numbers(), r)?, Natives::decode_totals(&metrics.layout, r)?),
    };
    let set = LabelSet {
        name,
        tenant: registry.tenant(tenant),
        block: block.into(),
        cuts: labels::cuts(block),
        numbers: numbers.into_boxed_slice(),
        natives,
        touched,
        mentioned,
        layout,
        pending: 0,
        emitted,
        live: life == LIVE,
    };
    Ok((set, instead.map(Into::into)))
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

fn encode_delta(out: &mut Vec<u8>, step: Millis, number: u32, delta: &Delta, layout: &Layout) {
    put_u64(out, number.into());
    put_u64(out, delta.layout.into());
    out.push(u8::from(delta.spelled));
    for &cell in &delta.numbers.cells {
        put_u64(out, cell);
    }
    delta.numbers.natives.encode(layout, out);
    put_u64(out, delta.exemplars.len() as u64);
    for (cell, e) in &delta.exemplars {
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
    let layout = metrics_of(registry, layout_id)?.layout.clone();
    let spelled = r.u8()? != 0;
    let n = layout.cells();
    let cells = if old { cells_v1(&layout, n, r)? } else { numbers(n, r)? };
    let natives = if old { Natives::default() } else { Natives::decode(&layout, r)? };
    let mut exemplars = Vec::new();
    for _ in 0..r.u64()? {
        let cell = r.uint::<u32>()?;
        let cell = if old { layout.cell_of_v1(cell as usize) as u32 } else { cell };
        let at = step.wrapping_add(r.i64()?);
        exemplars.push((cell, Exemplar { at, trace_id: r.array()?, value_ns: r.u64()? }));
    }
    let open = registry.open_step(step);
    let set = registry.sets[id as usize].as_mut().ok_or(Malformed("unknown label set"))?;
    if registry.metrics[set.layout as usize].layout.family() != layout.family() {
        return Err(Malformed("cells of another family"));
    }
    let (delta, created) = registry.open.entry(open).or_default().delta(id, layout_id, &layout);
    set.pending += u32::from(created);
    delta.spelled |= spelled;
    layout.add(&mut delta.numbers.cells, &mut delta.numbers.natives, (&cells, &natives));
    delta.offer(&exemplars);
    Ok(())
}

fn metrics_of(registry: &Registry, layout: u32) -> Result<&Metrics, Malformed> {
    registry.metrics.get(layout as usize).ok_or(Malformed("unknown layout"))
}

fn time(r: &mut Reader<'_>) -> Result<Millis, Malformed> {
    r.i64().and_then(|at| if at.abs() <= MAX_TIME { Ok(at) } else { Err(Malformed("time out of range")) })
}
