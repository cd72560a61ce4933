//! Layouts as bytes.
//!
//! ```text
//! family | flags: 1 weighted | naming: 0 Tempo; 1 namespace, unit; 2 name
//!        | histograms: n, then n x (flags: 1 classic, 2 native | [bounds: n, gaps] | [schema, most buckets])
//! ```

use super::native::decode_schema;
use super::{Family, Layout, Naming, Native, Shape, Spec, Unit};
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

/// No histogram has more classic buckets than this.
pub const MAX_BUCKETS: usize = 1_000;

const WEIGHTED: u8 = 1;
const CLASSIC: u8 = 1;
const NATIVE: u8 = 2;

// === impl Layout ===

impl Layout {
    /// Appends the layout's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Spec { family, naming, weighted, histograms } = &self.spec;
        out.extend_from_slice(&[*family as u8, if *weighted { WEIGHTED } else { 0 }]);
        match naming {
            Naming::Tempo => out.push(0),
            Naming::Otel { namespace, unit } => {
                out.push(1);
                put_bytes(out, namespace.as_bytes());
                out.push(*unit as u8);
            }
            Naming::Named(name) => {
                out.push(2);
                put_bytes(out, name.as_bytes());
            }
        }
        put_u64(out, histograms.len() as u64);
        for shape in histograms {
            encode_shape(out, shape.as_ref());
        }
    }

    /// Reads what [`Layout::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are malformed, the family is unknown or its number of histograms is another one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let family = Family::from_u8(r.u8()?)?;
        let weighted = r.u8()? & WEIGHTED != 0;
        let naming = match r.u8()? {
            0 => Naming::Tempo,
            1 => Naming::Otel { namespace: r.str()?.to_owned(), unit: decode_unit(r)? },
            2 => Naming::Named(r.str()?.to_owned()),
            _ => return Err(Malformed("unknown naming")),
        };
        if r.uint::<usize>()? != family.histograms().len() {
            return Err(Malformed("number of histograms does not fit the family"));
        }
        let histograms = family.histograms().iter().map(|_| decode_shape(r)).collect::<Result<_, _>>()?;
        Ok(Self::of(&Spec { family, naming, weighted, histograms }))
    }

    /// Reads the layouts of format version 1: classic ones of two families, without weights and names; service graphs
    /// had no messaging latency.
    ///
    /// # Errors
    /// When the bytes are malformed, or the family is another one.
    pub fn decode_v1(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let family = Family::from_u8(r.u8()?)?;
        let known = match family {
            Family::SpanMetrics => 1,
            Family::ServiceGraph => 2,
            _ => return Err(Malformed("unknown metric family")),
        };
        if r.uint::<usize>()? != known {
            return Err(Malformed("number of histograms does not fit the family"));
        }
        let shape = |r: &mut Reader<'_>| Ok(Some(Shape { bounds_ns: Some(decode_bounds(r)?), native: None }));
        let histograms = (0..known).map(|_| shape(r)).collect::<Result<_, _>>()?;
        Ok(Self::of(&Spec { family, naming: Naming::Tempo, weighted: false, histograms }))
    }

    /// The present number of a cell of format version 1: service graphs had no gauge.
    #[must_use]
    pub fn cell_of_v1(&self, cell: usize) -> usize {
        if self.spec.family == Family::ServiceGraph && cell >= 2 { cell + 1 } else { cell }
    }

    /// The number of cells in format version 1.
    #[must_use]
    pub fn cells_in_v1(&self) -> usize {
        self.cells() - usize::from(self.spec.family == Family::ServiceGraph)
    }
}

fn encode_shape(out: &mut Vec<u8>, shape: Option<&Shape>) {
    let bounds = shape.and_then(|s| s.bounds_ns.as_ref());
    let native = shape.and_then(|s| s.native);
    out.push(if bounds.is_some() { CLASSIC } else { 0 } | if native.is_some() { NATIVE } else { 0 });
    if let Some(bounds) = bounds {
        put_u64(out, bounds.len() as u64);
        let mut last = 0;
        for &b in bounds {
            put_u64(out, b - last);
            last = b;
        }
    }
    if let Some(native) = native {
        put_i64(out, native.schema.into());
        put_u64(out, native.max_buckets.into());
    }
}

fn decode_shape(r: &mut Reader<'_>) -> Result<Option<Shape>, Malformed> {
    let flags = r.u8()?;
    if flags > (CLASSIC | NATIVE) {
        return Err(Malformed("unknown kind of histogram"));
    }
    let bounds_ns = if flags & CLASSIC == 0 { None } else { Some(decode_bounds(r)?) };
    let native =
        if flags & NATIVE == 0 { None } else { Some(Native { schema: decode_schema(r)?, max_buckets: r.uint()? }) };
    Ok((flags != 0).then_some(Shape { bounds_ns, native }))
}

fn decode_unit(r: &mut Reader<'_>) -> Result<Unit, Malformed> {
    match r.u8()? {
        0 => Ok(Unit::Seconds),
        1 => Ok(Unit::Milliseconds),
        _ => Err(Malformed("unknown unit")),
    }
}

fn decode_bounds(r: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    let n = r.uint::<usize>()?;
    if n > MAX_BUCKETS {
        return Err(Malformed("too many buckets"));
    }
    let mut bounds = Vec::with_capacity(n);
    let mut last = 0u64;
    for i in 0..n {
        let gap = r.u64()?;
        if gap == 0 && i > 0 {
            return Err(Malformed("bucket bounds do not ascend"));
        }
        last = last.checked_add(gap).ok_or(Malformed("bucket bound out of range"))?;
        bounds.push(last);
    }
    Ok(bounds)
}
