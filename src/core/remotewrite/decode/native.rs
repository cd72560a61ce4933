//! A native histogram as a receiver reads it.

use std::collections::BTreeMap;
use std::fmt;

use super::proto::histogram::{Count, ZeroCount};
use super::proto::{BucketSpan, Histogram};
use crate::core::remotewrite::custom_buckets::SCHEMA as CUSTOM;

/// The content of a decoded histogram. Whole counts up to 2^53 are exact here.
#[derive(Debug, Clone, PartialEq)]
pub struct Native {
    /// The resolution.
    pub schema: i32,
    /// All observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Those in the zero bucket.
    pub zero: f64,
    /// Those in each bucket that is not empty.
    pub buckets: BTreeMap<i32, f64>,
    /// The upper bounds of custom buckets, by index; one more has no bound. None of an exponential histogram.
    pub bounds: Vec<f64>,
}

// === impl Native ===

impl Native {
    /// Reads a message and checks it against the rules of a receiver.
    ///
    /// # Errors
    /// Names the rule that it breaks.
    pub fn read(h: &Histogram) -> Result<Self, String> {
        check_bounds(h)?;
        if !h.negative_spans.is_empty() {
            return Err("a duration is negative".to_owned());
        }
        let (whole, count) = match h.count {
            Some(Count::CountInt(n)) => (true, n as f64),
            Some(Count::CountFloat(n)) => (false, n),
            None => return Err("the count is missing".to_owned()),
        };
        let zero = match h.zero_count {
            Some(ZeroCount::ZeroCountInt(n)) if whole => n as f64,
            Some(ZeroCount::ZeroCountFloat(n)) if !whole => n,
            _ => return Err("the zero count is not of the kind of the count".to_owned()),
        };
        let counts = if whole { whole_counts(&h.positive_deltas) } else { h.positive_counts.clone() };
        let indices = indices(&h.positive_spans)?;
        if indices.len() != counts.len() {
            return Err(format!("{} buckets have {} counts", indices.len(), counts.len()));
        }
        if counts.iter().any(|n| *n < 0.0) {
            return Err("a bucket is below zero".to_owned());
        }
        let buckets: BTreeMap<i32, f64> = indices.into_iter().zip(counts).filter(|(_, n)| *n > 0.0).collect();
        let beyond = |index: &i32| !(0..=h.custom_values.len() as i32).contains(index);
        if h.schema == CUSTOM && (zero > 0.0 || buckets.keys().any(beyond)) {
            return Err("a custom bucket has no bound".to_owned());
        }
        let sum = zero + buckets.values().sum::<f64>();
        // Sums of weights are rounded.
        if (sum - count).abs() > count * 1e-9 {
            return Err(format!("the buckets hold {sum} and the count is {count}"));
        }
        Ok(Self { schema: h.schema, count, sum: h.sum, zero, buckets, bounds: h.custom_values.clone() })
    }

    /// The same at a resolution that is not finer.
    #[must_use]
    pub fn at_schema(&self, schema: i32) -> Self {
        let shift = (self.schema - schema).clamp(0, 31);
        let mut buckets = BTreeMap::new();
        for (index, n) in &self.buckets {
            *buckets.entry(((index - 1) >> shift) + 1).or_insert(0.0) += n;
        }
        Self { schema: self.schema - shift, buckets, bounds: Vec::new(), ..*self }
    }

    /// Why this cannot be a later state of the same counter as `before`.
    #[must_use]
    pub fn falls_from(&self, before: &Self) -> Option<String> {
        if self.schema > before.schema {
            return Some(format!("the resolution rises from {} to {}", before.schema, self.schema));
        }
        if self.bounds != before.bounds {
            // Other buckets: the histogram as a whole continues.
            let fallen = self.count < before.count || self.sum < before.sum;
            return fallen.then(|| format!("the count or the sum falls as the bounds change: {before}, {self}"));
        }
        let before = if self.schema == CUSTOM { before.clone() } else { before.at_schema(self.schema) };
        for (what, old, new) in
            [("count", before.count, self.count), ("sum", before.sum, self.sum), ("zero", before.zero, self.zero)]
        {
            if new < old {
                return Some(format!("the {what} falls from {old} to {new}"));
            }
        }
        let fallen = before.buckets.iter().find(|(i, n)| self.buckets.get(i).is_none_or(|now| now < n))?;
        Some(format!("bucket {} falls from {} to {:?}", fallen.0, fallen.1, self.buckets.get(fallen.0)))
    }
}

impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema {} count {} sum {} zero {}", self.schema, self.count, self.sum, self.zero)?;
        self.buckets.iter().try_for_each(|(i, n)| write!(f, " [{i}] {n}"))?;
        if self.bounds.is_empty() { Ok(()) } else { write!(f, " bounds {:?}", self.bounds) }
    }
}

fn check_bounds(h: &Histogram) -> Result<(), String> {
    match h.schema {
        -4..=8 if h.custom_values.is_empty() => Ok(()),
        CUSTOM if h.custom_values.is_sorted_by(|a, b| a < b) && h.custom_values.iter().all(|b| b.is_finite()) => Ok(()),
        -4..=8 => Err("an exponential histogram has custom bounds".to_owned()),
        CUSTOM => Err("custom bounds do not ascend".to_owned()),
        other => Err(format!("schema {other} is neither exponential nor that of custom buckets")),
    }
}

fn whole_counts(deltas: &[i64]) -> Vec<f64> {
    let mut last = 0i64;
    let mut next = |delta: &i64| {
        last = last.wrapping_add(*delta);
        last as f64
    };
    deltas.iter().map(&mut next).collect()
}

/// The maximum number of buckets that a receiver reads.
const MAX_BUCKETS: usize = 100_000;

fn indices(spans: &[BucketSpan]) -> Result<Vec<i32>, String> {
    let (mut out, mut next) = (Vec::new(), 0i32);
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return Err("spans overlap".to_owned());
        }
        next = next.checked_add(span.offset).ok_or("a span is out of range")?;
        let length = span.length as usize;
        if out.len() + length > MAX_BUCKETS {
            return Err(format!("more than {MAX_BUCKETS} buckets"));
        }
        for _ in 0..length {
            out.push(next);
            next = next.checked_add(1).ok_or("a span is out of range")?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::labels::cuts;
    use crate::core::remotewrite::decode;
    use crate::core::remotewrite::encode::{SeriesLabels, SeriesWriter};
    use crate::core::remotewrite::native::NativeValue;

    fn sent(value: &NativeValue<'_>) -> Histogram {
        let mut writer = SeriesWriter::new(10, 1 << 20, "traceID");
        let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &[], le: &[] };
        writer.push_native(&labels, 5, None, Some(value), &[]);
        let body = decode::body(&writer.finish()[0].body).expect("our own body");
        body.timeseries[0].histograms[0].clone()
    }

    fn native(schema: i8, zero: u128, buckets: &[(i32, u128)]) -> Native {
        let sum = buckets.iter().map(|(_, n)| *n as f64).sum();
        Native::read(&sent(&NativeValue { schema, weighted: false, zero, sum, buckets })).expect("legal")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = native(3, 2, &[(-5, 1), (-4, 7), (0, 1), (9, 3)]).to_string();
        assert_eq!(text, "schema 3 count 14 sum 12 zero 2 [-5] 1 [-4] 7 [0] 1 [9] 3");
        let half = NativeValue { schema: 0, weighted: true, zero: 1 << 31, sum: 1.0, buckets: &[(1, 3 << 31)] };
        assert_eq!(
            Native::read(&sent(&half)).map(|n| n.to_string()),
            Ok("schema 0 count 2 sum 1 zero 0.5 [1] 1.5".into())
        );
    }

    #[test]
    fn a_count_that_is_not_the_sum_of_its_buckets_is_refused() {
        let mut h = sent(&NativeValue { schema: 3, weighted: false, zero: 0, sum: 1.0, buckets: &[(1, 2)] });
        assert!(Native::read(&h).is_ok());
        h.count = Some(Count::CountInt(3));
        assert_eq!(Native::read(&h), Err("the buckets hold 2 and the count is 3".to_owned()));
        h.positive_deltas.push(1);
        assert_eq!(Native::read(&h), Err("1 buckets have 2 counts".to_owned()));
    }

    #[test]
    fn a_coarser_resolution_is_a_later_state_and_a_finer_one_is_not() {
        let fine = native(3, 0, &[(1, 1), (2, 1), (3, 5)]);
        let coarse = native(2, 0, &[(1, 2), (2, 5)]);
        assert_eq!(fine.at_schema(2), coarse);
        assert_eq!(coarse.falls_from(&fine), None);
        assert_eq!(fine.falls_from(&coarse).as_deref(), Some("the resolution rises from 2 to 3"));
        assert!(native(3, 0, &[(1, 1), (2, 0), (3, 9)]).falls_from(&fine).is_some_and(|w| w.starts_with("bucket 2")));
        assert!(native(3, 0, &[(1, 1), (2, 1)]).falls_from(&fine).is_some_and(|w| w.starts_with("the count")));
    }
}
