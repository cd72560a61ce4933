//! Native histograms in the wire form of remote write 1.0.
//!
//! *In:* exact counts by bucket index. *Out:* `TimeSeries.histograms` fields. *Owner:* [`super::encode::SeriesWriter`].
//! *Never:* a rounded count: whole counts are sent as integers, weights as the nearest floats. *Next:* the request.

use crate::core::model::Millis;
use crate::core::model::wire::{put_u64, varint_len};

use super::encode::STALE;

/// The width of the zero bucket: Prometheus' own default, 2^-128.
pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;
/// What a weighted count is multiplied with.
const WEIGHT_ONE: f64 = 4_294_967_296.0;

/// Tags of the fields of `Histogram`, and of `BucketSpan`.
const COUNT_INT: u8 = 0x08;
const COUNT_FLOAT: u8 = 0x11;
const SUM: u8 = 0x19;
const SCHEMA: u8 = 0x20;
const ZERO_WIDTH: u8 = 0x29;
const ZERO_INT: u8 = 0x30;
const ZERO_FLOAT: u8 = 0x39;
const SPAN: u8 = 0x5a;
const DELTAS: u8 = 0x62;
const COUNTS: u8 = 0x6a;
const TIME: u8 = 0x78;
const SPAN_OFFSET: u8 = 0x08;
const SPAN_LENGTH: u8 = 0x10;

/// A native histogram at one instant. Counts are whole numbers, or weights times 2^32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NativeValue<'a> {
    /// The resolution: bucket `i` holds what is above `b^(i-1)` and not above `b^i`, with `b = 2^(2^-schema)`.
    pub schema: i8,
    /// Whether counts are weights.
    pub weighted: bool,
    /// Observations of zero.
    pub zero: u128,
    /// The sum of all observations, in the unit of the metric.
    pub sum: f64,
    /// Buckets by ascending index, none empty.
    pub buckets: &'a [(i32, u128)],
}

/// The fields of one series, and memory to make them in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    fields: Vec<u8>,
    count: u32,
    body: Vec<u8>,
    packed: Vec<u8>,
}

// === impl NativeValue ===

impl NativeValue<'_> {
    /// The same histogram before its first observation.
    #[must_use]
    pub fn emptied(&self) -> NativeValue<'static> {
        NativeValue { schema: self.schema, weighted: self.weighted, zero: 0, sum: 0.0, buckets: &[] }
    }

    fn count(&self) -> u128 {
        self.buckets.iter().fold(self.zero, |sum, (_, n)| sum.wrapping_add(*n))
    }
}

// === impl Scratch ===

impl Scratch {
    pub(super) fn clear(&mut self) {
        self.fields.clear();
        self.count = 0;
    }

    /// The fields made since the last [`Scratch::clear`].
    pub(super) fn bytes(&self) -> &[u8] {
        &self.fields
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Appends one histogram as a field; `None` is the marker that ends a series.
    pub(super) fn put(&mut self, tag: u8, at: Millis, value: Option<&NativeValue<'_>>) {
        self.body.clear();
        // A marker is nothing but its sum: receivers look at nothing else.
        let marker = NativeValue { schema: 0, weighted: false, zero: 0, sum: STALE, buckets: &[] };
        self.put_counts(value.unwrap_or(&marker), if value.is_some() { ZERO_THRESHOLD } else { 0.0 });
        self.body.push(TIME);
        put_u64(&mut self.body, at.cast_unsigned());
        self.fields.push(tag);
        put_u64(&mut self.fields, self.body.len() as u64);
        self.fields.extend_from_slice(&self.body);
        self.count += 1;
    }

    fn put_counts(&mut self, value: &NativeValue<'_>, zero_width: f64) {
        let out = &mut self.body;
        put_count(out, (COUNT_INT, COUNT_FLOAT), value.count(), value.weighted);
        put_f64(out, SUM, value.sum);
        if value.schema != 0 {
            out.push(SCHEMA);
            put_u64(out, zigzag(value.schema.into()));
        }
        put_f64(out, ZERO_WIDTH, zero_width);
        put_count(out, (ZERO_INT, ZERO_FLOAT), value.zero, value.weighted);
        put_spans(out, value.buckets);
        self.packed.clear();
        let mut last = 0u64;
        for &(_, n) in value.buckets {
            if value.weighted {
                self.packed.extend_from_slice(&weight(n).to_le_bytes());
            } else {
                put_u64(&mut self.packed, zigzag((n as u64).wrapping_sub(last).cast_signed()));
                last = n as u64;
            }
        }
        if !self.packed.is_empty() {
            out.push(if value.weighted { COUNTS } else { DELTAS });
            put_u64(out, self.packed.len() as u64);
            out.extend_from_slice(&self.packed);
        }
    }
}

/// Runs of consecutive indices. The first holds where it begins, the others how many buckets lie in between.
pub(super) fn put_spans(out: &mut Vec<u8>, buckets: &[(i32, u128)]) {
    let mut next = 0i32;
    for run in buckets.chunk_by(|(a, _), (b, _)| a.checked_add(1) == Some(*b)) {
        let offset = zigzag(run[0].0.wrapping_sub(next).into());
        // A field with the default value is omitted.
        let offset_len = if offset == 0 { 0 } else { 1 + varint_len(offset) };
        out.push(SPAN);
        put_u64(out, (offset_len + 1 + varint_len(run.len() as u64)) as u64);
        if offset != 0 {
            out.push(SPAN_OFFSET);
            put_u64(out, offset);
        }
        out.push(SPAN_LENGTH);
        put_u64(out, run.len() as u64);
        next = run[0].0.wrapping_add(run.len() as i32);
    }
}

/// A count as a whole number or as a float. It shows which of both, so it is written even when it is zero.
fn put_count(out: &mut Vec<u8>, tags: (u8, u8), n: u128, weighted: bool) {
    if weighted {
        out.push(tags.1);
        out.extend_from_slice(&weight(n).to_le_bytes());
    } else {
        out.push(tags.0);
        put_u64(out, n as u64);
    }
}

pub(super) fn put_f64(out: &mut Vec<u8>, tag: u8, value: f64) {
    if value != 0.0 {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn weight(n: u128) -> f64 {
    n as f64 / WEIGHT_ONE
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::super::decode::{self, proto};
    use super::super::encode::{SeriesLabels, SeriesWriter, name_label};
    use super::*;
    use crate::core::model::Exemplar;
    use crate::core::model::labels::cuts;

    /// The slow and obvious way.
    fn naive(at: Millis, value: Option<&NativeValue<'_>>) -> proto::Histogram {
        use proto::histogram::{Count, ZeroCount};
        let Some(v) = value else {
            let (count, zero_count) = (Some(Count::CountInt(0)), Some(ZeroCount::ZeroCountInt(0)));
            return proto::Histogram { sum: STALE, count, zero_count, timestamp: at, ..Default::default() };
        };
        let mut h = proto::Histogram {
            sum: v.sum,
            schema: v.schema.into(),
            zero_threshold: 2f64.powi(-128),
            timestamp: at,
            ..Default::default()
        };
        let whole: u128 = v.zero + v.buckets.iter().map(|b| b.1).sum::<u128>();
        if v.weighted {
            h.count = Some(Count::CountFloat(whole as f64 / 2f64.powi(32)));
            h.zero_count = Some(ZeroCount::ZeroCountFloat(v.zero as f64 / 2f64.powi(32)));
            h.positive_counts = v.buckets.iter().map(|b| b.1 as f64 / 2f64.powi(32)).collect();
        } else {
            h.count = Some(Count::CountInt(whole as u64));
            h.zero_count = Some(ZeroCount::ZeroCountInt(v.zero as u64));
            let counts = std::iter::once(0).chain(v.buckets.iter().map(|b| b.1 as i64));
            h.positive_deltas = counts.clone().skip(1).zip(counts).map(|(b, a)| b - a).collect();
        }
        let mut next = 0;
        for &(index, _) in v.buckets {
            match h.positive_spans.last_mut().filter(|_| index == next) {
                Some(span) => span.length += 1,
                None => h.positive_spans.push(proto::BucketSpan { offset: index - next, length: 1 }),
            }
            next = index + 1;
        }
        h
    }

    fn fast(at: Millis, zero_at: Option<Millis>, value: Option<&NativeValue<'_>>, exemplars: &[&Exemplar]) -> Vec<u8> {
        let mut writer = SeriesWriter::new(100, 1 << 20, "traceID");
        let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &name_label("latency"), le: &[] };
        let empty = value.map(NativeValue::emptied);
        writer.push_native(&labels, at, zero_at.zip(empty.as_ref()), value, exemplars);
        let body = writer.finish().remove(0).body;
        snap::raw::Decoder::new().decompress_vec(&body).expect("our own body")
    }

    fn message(histograms: Vec<proto::Histogram>, exemplars: Vec<proto::Exemplar>) -> Vec<u8> {
        let labels = vec![proto::Label { name: "__name__".to_owned(), value: "latency".to_owned() }];
        let series = proto::TimeSeries { labels, samples: Vec::new(), exemplars, histograms };
        proto::WriteRequest { timeseries: vec![series] }.encode_to_vec()
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_a_generated_encoder(
            (schema, weighted, zero, sum) in (-4i8..=8, any::<bool>(), 0u64..1 << 60, prop_oneof![Just(0.0), 0.0..1e12]),
            buckets in prop::collection::btree_map(-2_000i32..2_000, 1u64..1 << 50, 0..160),
            (at, zeroed) in (1i64..1 << 44, any::<bool>()),
        ) {
            let buckets: Vec<(i32, u128)> = buckets.into_iter().map(|(i, n)| (i, n.into())).collect();
            let value = NativeValue { schema, weighted, zero: zero.into(), sum, buckets: &buckets };
            let zero_at = (zeroed && at > 1).then(|| at - 1);
            let empty = NativeValue { zero: 0, sum: 0.0, buckets: &[], ..value };
            let histograms = zero_at.map(|at| naive(at, Some(&empty))).into_iter().chain([naive(at, Some(&value))]);
            prop_assert_eq!(fast(at, zero_at, Some(&value), &[]), message(histograms.collect(), Vec::new()));
        }
    }

    #[test]
    fn a_marker_is_a_histogram_whose_sum_is_the_stale_nan() {
        let bytes = fast(7, None, None, &[]);
        assert_eq!(bytes, message(vec![naive(7, None)], Vec::new()));
        let series = proto::WriteRequest::decode(bytes.as_slice()).expect("decodes").timeseries.remove(0);
        assert!(decode::is_stale(series.histograms[0].sum));
    }

    #[test]
    fn exemplars_stand_in_their_order_and_a_histogram_counts_as_one_sample() {
        let example = |at| Exemplar { at, trace_id: [0xab; 16], value_ns: 1_500_000_000 };
        let (first, second) = (example(5), example(6));
        let value = NativeValue { schema: 3, weighted: false, zero: 1, sum: 3.0, buckets: &[(2, 1), (3, 4), (9, 1)] };
        let exemplar = |at| proto::Exemplar {
            labels: vec![proto::Label { name: "traceID".to_owned(), value: "ab".repeat(16) }],
            value: 1.5,
            timestamp: at,
        };
        let expected = message(vec![naive(9, Some(&value))], vec![exemplar(5), exemplar(6)]);
        assert_eq!(fast(9, None, Some(&value), &[&first, &second]), expected);
        let mut writer = SeriesWriter::new(2, 1 << 20, "traceID");
        let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &name_label("latency"), le: &[] };
        writer.push_native(&labels, 9, Some((8, &value.emptied())), Some(&value), &[&first, &second]);
        writer.push_native(&labels, 9, None, Some(&value), &[]);
        let counts: Vec<_> = writer.finish().iter().map(|r| (r.series, r.samples, r.exemplars)).collect();
        assert_eq!(counts, [(1, 2, 2), (1, 1, 0)]);
    }

    #[test]
    fn the_zero_bucket_is_as_wide_as_prometheus_has_it() {
        assert_eq!(ZERO_THRESHOLD.to_bits(), 2f64.powi(-128).to_bits());
    }
}
