//! A registry as bytes. What is restored goes on bit for bit.
//!
//! ```text
//! closed? | layouts: n, then each
//! | sets: n, then n x (tenant | label block | layout | emitted | live | closed - touched | closed - mentioned | numbers)
//! | open steps: n, then n x (step | deltas: n, then n x (set | layout | spelled | cells | exemplars))
//! ```
//!
//! Sets stand in the order of emission and are numbered by it; a set's name follows from its labels.

use super::metrics::Metrics;
use super::open::Delta;
use super::registry::{LabelSet, Registry};
use super::{MAX_TIME, SeriesSettings};
use crate::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};
use crate::model::{Exemplar, Layout, Millis, SetName, labels};

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
            encode_set(out, base, self.sets[id as usize].as_ref().expect("ordered sets exist"));
        }
        put_u64(out, self.open.len() as u64);
        for (&step, open) in &self.open {
            put_i64(out, step);
            put_u64(out, open.deltas().len() as u64);
            for delta in open.deltas() {
                encode_delta(out, step, numbers[delta.set as usize], delta);
            }
        }
    }

    /// Reads a registry. The settings may be other ones than when it was written.
    ///
    /// # Errors
    /// When the bytes are not what [`Registry::encode`] writes.
    pub fn decode(settings: SeriesSettings, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut registry = Self::new(settings);
        let has_closed = r.u64()? != 0;
        let base = time(r)?;
        registry.closed = has_closed.then_some(base);
        for i in 0..r.u64()? {
            if u64::from(registry.layout_id(&Layout::decode(r)?)) != i {
                return Err(Malformed("the same layout twice"));
            }
        }
        let mut ids = Vec::new();
        for _ in 0..r.u64()? {
            let set = decode_set(&mut registry, base, r)?;
            if registry.knows(set.name) {
                return Err(Malformed("the same label set twice"));
            }
            if set.live {
                registry.live += 1;
                registry.metrics[set.layout as usize].each(&set.numbers, |_| registry.active_series += 1);
            }
            ids.push(registry.insert(set));
        }
        for _ in 0..r.u64()? {
            let step = time(r)?;
            for _ in 0..r.u64()? {
                decode_delta(&mut registry, step, &ids, r)?;
            }
        }
        Ok(registry)
    }
}

fn encode_set(out: &mut Vec<u8>, base: Millis, set: &LabelSet) {
    put_bytes(out, set.tenant.as_bytes());
    put_bytes(out, &set.block);
    put_u64(out, set.layout.into());
    out.push(set.emitted);
    out.push(u8::from(set.live));
    put_i64(out, base.wrapping_sub(set.touched));
    put_i64(out, base.wrapping_sub(set.mentioned));
    for &n in &set.numbers {
        put_u64(out, n);
    }
}

fn decode_set(registry: &mut Registry, base: Millis, r: &mut Reader<'_>) -> Result<LabelSet, Malformed> {
    let tenant = r.str()?;
    let block = r.bytes()?;
    labels::check(block)?;
    let layout = r.uint()?;
    let metrics = metrics_of(registry, layout)?;
    let name = SetName::of(tenant, metrics.layout.family(), block);
    let numbers = metrics.numbers();
    let (emitted, live) = (r.u8()?, r.u8()? != 0);
    let touched = base.wrapping_sub(r.i64()?);
    let mentioned = base.wrapping_sub(r.i64()?);
    Ok(LabelSet {
        name,
        tenant: registry.tenant(tenant),
        block: block.into(),
        cuts: labels::cuts(block),
        numbers: (0..numbers).map(|_| r.u64()).collect::<Result<_, _>>()?,
        touched,
        mentioned,
        layout,
        pending: 0,
        emitted,
        live,
    })
}

fn encode_delta(out: &mut Vec<u8>, step: Millis, number: u32, delta: &Delta) {
    put_u64(out, number.into());
    put_u64(out, delta.layout.into());
    out.push(u8::from(delta.spelled));
    for &cell in &delta.cells {
        put_u64(out, cell);
    }
    put_u64(out, delta.exemplars.len() as u64);
    for (cell, e) in &delta.exemplars {
        put_u64(out, u64::from(*cell));
        put_i64(out, e.at.wrapping_sub(step));
        out.extend_from_slice(&e.trace_id);
        put_u64(out, e.value_ns);
    }
}

fn decode_delta(registry: &mut Registry, step: Millis, ids: &[u32], r: &mut Reader<'_>) -> Result<(), Malformed> {
    let id = *ids.get(r.uint::<usize>()?).ok_or(Malformed("unknown label set"))?;
    let layout_id = r.uint()?;
    let layout = metrics_of(registry, layout_id)?.layout.clone();
    let spelled = r.u8()? != 0;
    let cells: Vec<u64> = (0..layout.cells()).map(|_| r.u64()).collect::<Result<_, _>>()?;
    let mut exemplars = Vec::new();
    for _ in 0..r.u64()? {
        let cell = r.uint::<u16>()?;
        let at = step.wrapping_add(r.i64()?);
        exemplars.push((cell, Exemplar { at, trace_id: r.array()?, value_ns: r.u64()? }));
    }
    let open = registry.open_step(step);
    let set = registry.sets[id as usize].as_mut().ok_or(Malformed("unknown label set"))?;
    if registry.metrics[set.layout as usize].layout.family() != layout.family() {
        return Err(Malformed("cells of another family"));
    }
    let (delta, created) = registry.open.entry(open).or_default().delta(id, layout_id, layout.cells());
    set.pending += u32::from(created);
    delta.spelled |= spelled;
    layout.add(&mut delta.cells, &cells);
    delta.offer(&exemplars);
    Ok(())
}

fn metrics_of(registry: &Registry, layout: u32) -> Result<&Metrics, Malformed> {
    registry.metrics.get(layout as usize).ok_or(Malformed("unknown layout"))
}

fn time(r: &mut Reader<'_>) -> Result<Millis, Malformed> {
    r.i64().and_then(|at| if at.abs() <= MAX_TIME { Ok(at) } else { Err(Malformed("time out of range")) })
}
