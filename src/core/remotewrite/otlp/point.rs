//! Data points of sums, gauges and exponential histograms, and exemplars.

use prost::Message;

use super::{POINT, is_stale, put_attribute, put_attributes, put_field};
use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64};
use crate::core::remotewrite::decode::proto::histogram::{Count, ZeroCount};
use crate::core::remotewrite::decode::proto::{BucketSpan, Histogram};

/// Tags that all points have in common.
pub(super) const START: u8 = 0x11;
pub(super) const TIME: u8 = 0x19;
/// The flag of a point without a value, which ends a series.
pub(super) const NO_RECORDED_VALUE: u8 = 1;

/// Tags of `NumberDataPoint`.
const NUMBER_VALUE: u8 = 0x21;
const NUMBER_EXEMPLAR: u8 = 0x2a;
const NUMBER_ATTRIBUTE: u8 = 0x3a;
const NUMBER_FLAGS: u8 = 0x40;
/// Tags of `ExponentialHistogramDataPoint` and of its buckets.
const EXP_ATTRIBUTE: u8 = 0x0a;
const EXP_COUNT: u8 = 0x21;
const EXP_SUM: u8 = 0x29;
const EXP_SCALE: u8 = 0x30;
const EXP_ZERO: u8 = 0x39;
const EXP_POSITIVE: u8 = 0x42;
const EXP_FLAGS: u8 = 0x50;
const EXP_EXEMPLAR: u8 = 0x5a;
const EXP_THRESHOLD: u8 = 0x71;
const OFFSET: u8 = 0x08;
const COUNTS: u8 = 0x12;
/// Tags of `Exemplar`.
const EXEMPLAR_TIME: u8 = 0x11;
const EXEMPLAR_VALUE: u8 = 0x19;
const EXEMPLAR_SPAN: u8 = 0x22;
const EXEMPLAR_TRACE: u8 = 0x2a;
const EXEMPLAR_ATTRIBUTE: u8 = 0x3a;
/// OTLP has a count for every bucket between the first and the last. Beyond so many, two become one.
const MOST_BUCKETS: i64 = 16_384;

/// One sample of remote write 1.0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) value: f64,
    pub(super) at: Millis,
}

// === impl Sample ===

impl Sample {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, mut sample) = (Reader::new(bytes), Self { value: 0.0, at: 0 });
        while !r.is_empty() {
            match r.u64()? {
                0x09 => sample.value = f64::from_le_bytes(r.array()?),
                0x10 => sample.at = r.u64()?.cast_signed(),
                _ => return Err(Malformed("a sample has a value and a time")),
            }
        }
        Ok(sample)
    }
}

/// Appends the points of a sum or a gauge. A sum has a start, which is 0 when it is not known; a zero before another
/// sample is one, and no point.
pub(super) fn put_number(
    out: &mut Vec<u8>,
    attributes: &[(&str, &str)],
    samples: &[Sample],
    exemplars: &[&[u8]],
    start: Option<Millis>,
) -> Result<(), Malformed> {
    let (samples, zero_at) = match samples {
        [zero, rest @ ..] if start.is_some() && !rest.is_empty() && zero.value.to_bits() == 0 => (rest, zero.at),
        all => (all, 0),
    };
    let start = start.map(|known| if zero_at > 0 { zero_at } else { known });
    let mut point = Vec::new();
    for (at, sample) in samples.iter().enumerate() {
        point.clear();
        put_times(&mut point, start.unwrap_or(0), sample.at);
        if is_stale(sample.value) {
            point.extend_from_slice(&[NUMBER_FLAGS, NO_RECORDED_VALUE]);
        } else {
            put_f64(&mut point, NUMBER_VALUE, sample.value);
        }
        if at + 1 == samples.len() {
            exemplars.iter().try_for_each(|e| put_exemplar(&mut point, NUMBER_EXEMPLAR, e))?;
        }
        put_attributes(&mut point, NUMBER_ATTRIBUTE, attributes);
        put_field(out, POINT, &point);
    }
    Ok(())
}

/// Appends the points of a native histogram.
pub(super) fn put_native(
    out: &mut Vec<u8>,
    attributes: &[(&str, &str)],
    histograms: &[&[u8]],
    exemplars: &[&[u8]],
    start: Millis,
) -> Result<(), Malformed> {
    let read = |bytes: &&[u8]| Histogram::decode(*bytes).map_err(|_| Malformed("not a histogram"));
    let all = histograms.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let (all, start) = match &all[..] {
        [zero, rest @ ..] if !rest.is_empty() && is_empty(zero) => (rest, zero.timestamp),
        all => (all, start),
    };
    let mut point = Vec::new();
    for (at, histogram) in all.iter().enumerate() {
        point.clear();
        put_attributes(&mut point, EXP_ATTRIBUTE, attributes);
        put_times(&mut point, start, histogram.timestamp);
        if is_stale(histogram.sum) {
            point.extend_from_slice(&[EXP_FLAGS, NO_RECORDED_VALUE]);
        } else {
            put_buckets(&mut point, histogram)?;
        }
        if at + 1 == all.len() {
            exemplars.iter().try_for_each(|e| put_exemplar(&mut point, EXP_EXEMPLAR, e))?;
        }
        put_field(out, POINT, &point);
    }
    Ok(())
}

fn is_empty(histogram: &Histogram) -> bool {
    let counts = [Some(Count::CountInt(0)), Some(Count::CountFloat(0.0))];
    counts.contains(&histogram.count) && histogram.sum.to_bits() == 0
}

fn put_buckets(out: &mut Vec<u8>, histogram: &Histogram) -> Result<(), Malformed> {
    let zero = match histogram.zero_count {
        Some(ZeroCount::ZeroCountInt(n)) => n,
        Some(ZeroCount::ZeroCountFloat(n)) => whole(n),
        None => 0,
    };
    let mut buckets = buckets(histogram)?;
    let mut scale = histogram.schema;
    while let (Some(first), Some(last)) = (buckets.first(), buckets.last())
        && last.0 - first.0 >= MOST_BUCKETS
    {
        scale -= 1;
        // Bucket `i` of ours ends at `b^i`, so those that become one are `2i - 1` and `2i`.
        buckets.iter_mut().for_each(|(index, _)| *index = (*index - 1).div_euclid(2) + 1);
    }
    let count = buckets.iter().fold(zero, |sum, (_, n)| sum.wrapping_add(*n));
    put_fixed(out, EXP_COUNT, count);
    put_f64(out, EXP_SUM, histogram.sum);
    if scale != 0 {
        out.push(EXP_SCALE);
        put_u64(out, zigzag(scale.into()));
    }
    put_fixed(out, EXP_ZERO, zero);
    if let (Some(first), Some(last)) = (buckets.first(), buckets.last()) {
        let mut counts = vec![0u64; (last.0 - first.0 + 1) as usize];
        for (index, n) in &buckets {
            let place = counts.get_mut((index - first.0) as usize);
            place.into_iter().for_each(|place| *place = place.wrapping_add(*n));
        }
        let (mut body, mut packed) = (Vec::new(), Vec::with_capacity(counts.len()));
        // Bucket `i` of OTLP ends at `b^(i + 1)`.
        body.push(OFFSET);
        put_u64(&mut body, zigzag(first.0 - 1));
        counts.iter().for_each(|n| put_u64(&mut packed, *n));
        put_field(&mut body, COUNTS, &packed);
        put_field(out, EXP_POSITIVE, &body);
    }
    put_f64(out, EXP_THRESHOLD, histogram.zero_threshold);
    Ok(())
}

/// The buckets by ascending index.
fn buckets(histogram: &Histogram) -> Result<Vec<(i64, u64)>, Malformed> {
    let mut sum = 0i64;
    let deltas = histogram.positive_deltas.iter().map(|delta| {
        sum = sum.wrapping_add(*delta);
        sum.cast_unsigned()
    });
    let counts: Vec<u64> = deltas.chain(histogram.positive_counts.iter().map(|n| whole(*n))).collect();
    let (mut out, mut next, mut counts) = (Vec::with_capacity(counts.len()), 0i64, counts.into_iter());
    for BucketSpan { offset, length } in &histogram.positive_spans {
        next += i64::from(*offset);
        for _ in 0..*length {
            let n = counts.next().ok_or(Malformed("a bucket has no count"))?;
            out.push((next, n));
            next += 1;
        }
    }
    Ok(out)
}

/// A count as OTLP has it.
pub(super) fn whole(count: f64) -> u64 {
    // What should be whole may be a little less, as a difference of sums.
    (count + 1e-6).floor() as u64
}

pub(super) fn put_times(out: &mut Vec<u8>, start: Millis, at: Millis) {
    put_fixed(out, START, nanos(start));
    put_fixed(out, TIME, nanos(at));
}

fn nanos(at: Millis) -> u64 {
    u64::try_from(at).unwrap_or(0).saturating_mul(1_000_000)
}

/// Appends a fixed number, unless it is zero.
pub(super) fn put_fixed(out: &mut Vec<u8>, tag: u8, n: u64) {
    if n != 0 {
        out.push(tag);
        out.extend_from_slice(&n.to_le_bytes());
    }
}

/// Appends a number that may be zero: it shows that there is one.
pub(super) fn put_f64(out: &mut Vec<u8>, tag: u8, value: f64) {
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes());
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)).cast_unsigned()
}

/// Appends an exemplar: a label that is a trace ID or a span ID becomes that, another one an attribute.
pub(super) fn put_exemplar(out: &mut Vec<u8>, tag: u8, exemplar: &[u8]) -> Result<(), Malformed> {
    let mut body = Vec::new();
    let mut r = Reader::new(exemplar);
    while !r.is_empty() {
        match r.u64()? {
            0x0a => put_label(&mut body, r.bytes()?)?,
            0x11 => put_f64(&mut body, EXEMPLAR_VALUE, f64::from_le_bytes(r.array()?)),
            0x18 => put_fixed(&mut body, EXEMPLAR_TIME, nanos(r.u64()?.cast_signed())),
            _ => return Err(Malformed("unknown part of an exemplar")),
        }
    }
    out.push(tag);
    put_bytes(out, &body);
    Ok(())
}

fn put_label(out: &mut Vec<u8>, label: &[u8]) -> Result<(), Malformed> {
    let (mut name, mut value, mut r) = ("", "", Reader::new(label));
    while !r.is_empty() {
        match r.u64()? {
            0x0a => name = r.str()?,
            0x12 => value = r.str()?,
            _ => return Err(Malformed("a label has a name and a value")),
        }
    }
    match (bytes_of::<16>(value), bytes_of::<8>(value)) {
        (Some(trace), _) => put_field(out, EXEMPLAR_TRACE, &trace),
        (_, Some(span)) => put_field(out, EXEMPLAR_SPAN, &span),
        _ => put_attribute(out, EXEMPLAR_ATTRIBUTE, name, value),
    }
    Ok(())
}

/// The bytes of an ID in hex.
fn bytes_of<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let (digits, mut out) = (hex.as_bytes(), [0; N]);
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |d: u8| char::from(d).to_digit(16);
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(out)
}
