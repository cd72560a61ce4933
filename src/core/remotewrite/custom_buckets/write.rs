//! The buckets of a histogram, and the native histogram that they are.

use prost::Message as _;

use super::SCHEMA;
use super::classic::label;
use crate::core::model::Millis;
use crate::core::model::labels::put_label;
use crate::core::model::wire::{Reader, put_bytes, put_i64, put_u64};
use crate::core::remotewrite::decode::{self, proto};
use crate::core::remotewrite::native::{put_f64, put_spans};
use crate::core::remotewrite::request::{EXEMPLAR_TAG, HISTOGRAM_TAG};

/// Tags of the fields of `Histogram`.
const COUNT_INT: u8 = 0x08;
const COUNT_FLOAT: u8 = 0x11;
const SUM: u8 = 0x19;
const SCHEMA_TAG: u8 = 0x20;
const ZERO_INT: u8 = 0x30;
const ZERO_FLOAT: u8 = 0x39;
const DELTAS: u8 = 0x62;
const COUNTS: u8 = 0x6a;
const TIME: u8 = 0x78;
const CUSTOM_VALUES: [u8; 2] = [0x82, 0x01];
/// Up to here a float is an exact whole number.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Classic buckets.
#[derive(Debug, Default)]
pub(super) struct Bucketed {
    /// Upper bounds, without the infinite one.
    bounds: Vec<f64>,
    /// How many observations are not above each bound; the last one is all of them.
    below: Vec<f64>,
    exemplars: Vec<(Millis, Vec<u8>)>,
}

// === impl Bucketed ===

impl Bucketed {
    /// Takes the next bucket of a histogram with `count` observations; returns whether it is the last one. `None`: it is not
    /// the next one.
    pub(super) fn push(&mut self, le: &str, below: f64, count: f64) -> Option<bool> {
        let is_marker = decode::is_stale(count);
        if !is_marker && self.below.last().is_some_and(|last| below < *last) {
            return None;
        }
        if le == "+Inf" {
            self.below.push(below);
            return (is_marker || below.to_bits() == count.to_bits()).then_some(true);
        }
        let bound: f64 = le.parse().ok().filter(|bound: &f64| bound.is_finite())?;
        // So that the bound is written as it was when the way back is needed.
        if bound.to_string() != le || self.bounds.last().is_some_and(|last| bound <= *last) {
            return None;
        }
        self.bounds.push(bound);
        self.below.push(below);
        Some(false)
    }

    /// Takes the exemplars of the last bucket.
    pub(super) fn exemplars(&mut self, encoded: &[&[u8]]) {
        for &bytes in encoded {
            if let Ok(exemplar) = proto::Exemplar::decode(bytes) {
                self.exemplars.push((exemplar.timestamp, bytes.to_vec()));
            }
        }
        // A native histogram has them by ascending time.
        self.exemplars.sort_by_key(|(at, _)| *at);
        self.exemplars.dedup_by_key(|(at, _)| *at);
    }

    pub(super) fn exemplar_count(&self) -> u32 {
        self.exemplars.len() as u32
    }

    /// The encoded series of the native histogram, whose labels are those of the sum but for its name.
    pub(super) fn series(&self, labels: &[u8], base: &[u8], at: Millis, sum: f64) -> Vec<u8> {
        let mut out = Vec::with_capacity(labels.len() + 16 * self.below.len() + 64);
        let mut r = Reader::new(labels);
        while let (Ok(tag), Ok(encoded)) = (r.u64(), r.bytes()) {
            if label(encoded).is_ok_and(|(name, _)| name == b"__name__") {
                put_label(&mut out, "__name__", &String::from_utf8_lossy(base));
            } else {
                put_u64(&mut out, tag);
                put_bytes(&mut out, encoded);
            }
        }
        for (_, exemplar) in &self.exemplars {
            put_u64(&mut out, EXEMPLAR_TAG);
            put_bytes(&mut out, exemplar);
        }
        put_u64(&mut out, HISTOGRAM_TAG);
        put_bytes(&mut out, &self.histogram(at, sum));
        out
    }

    fn histogram(&self, at: Millis, sum: f64) -> Vec<u8> {
        let mut out = Vec::new();
        // A marker is nothing but its sum.
        let below = if decode::is_stale(sum) { &[][..] } else { &self.below };
        let whole = below.iter().all(|n| n.fract() == 0.0 && *n <= MAX_WHOLE);
        let count = below.last().copied().unwrap_or(0.0);
        if whole {
            out.push(COUNT_INT);
            put_u64(&mut out, count as u64);
        } else {
            put_always(&mut out, COUNT_FLOAT, count);
        }
        put_f64(&mut out, SUM, sum);
        out.push(SCHEMA_TAG);
        put_i64(&mut out, SCHEMA.into());
        if whole {
            out.extend_from_slice(&[ZERO_INT, 0]);
        } else {
            put_always(&mut out, ZERO_FLOAT, 0.0);
        }
        put_buckets(&mut out, below, whole);
        out.push(TIME);
        put_u64(&mut out, at.cast_unsigned());
        if !self.bounds.is_empty() {
            out.extend_from_slice(&CUSTOM_VALUES);
            put_u64(&mut out, 8 * self.bounds.len() as u64);
            self.bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
        }
        out
    }
}

fn put_buckets(out: &mut Vec<u8>, below: &[f64], whole: bool) {
    let (mut last, mut filled, mut packed, mut before) = (0.0, Vec::new(), Vec::new(), 0i64);
    for (index, &n) in (0i32..).zip(below) {
        let count = n - last;
        last = n;
        if count == 0.0 {
            continue;
        }
        filled.push((index, 0));
        if whole {
            put_i64(&mut packed, (count as i64).wrapping_sub(before));
            before = count as i64;
        } else {
            packed.extend_from_slice(&count.to_le_bytes());
        }
    }
    put_spans(out, &filled);
    if !packed.is_empty() {
        out.push(if whole { DELTAS } else { COUNTS });
        put_bytes(out, &packed);
    }
}

fn put_always(out: &mut Vec<u8>, tag: u8, value: f64) {
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes());
}
