//! Native (exponential) histograms: which bucket a value falls into, and what buckets add up to.
//!
//! Bucket `i` of schema `s` holds the values in `(b^(i-1), b^i]` with `b = 2^(2^-s)`. Halving the resolution merges the
//! buckets `2j-1` and `2j` into `j`; doing that repeatedly is the same as asking the coarse schema at once.
//!
//! # Why the resolution does not depend on the order of arrival
//!
//! A total starts at the finest schema and is halved while it has too many populated buckets. Let `n(s)` be the number of
//! buckets that *all* observations populate at schema `s`. More observations never make it smaller, and a coarser schema
//! never makes it greater. Let `s*` be the finest schema with `n(s*)` within the limit. Whatever part of the observations
//! came first, it populates at most `n(s*)` buckets at `s*`, so halving stopped at `s*` or before it; and with all of them
//! halving continues as long as it is before `s*`. So the total ends at `s*`, and its buckets are those of `s*`: a function of
//! the set of observations alone. The same holds when some of them come in a coarser schema: the search starts there.

use super::{Layout, MAX_HISTOGRAMS, Native, Unit};
use crate::core::model::wire::{Malformed, Reader, put_i64, put_u64, put_u128};

/// The schemas of Prometheus.
const COARSEST: i8 = -4;
const FINEST: i8 = 8;
/// Buckets per power of two at the finest schema.
const STEPS: usize = 1 << FINEST;
/// No index of a duration is further from zero, at any schema.
const MAX_INDEX: i32 = 1 << 14;
/// Stands for the bucket of zero, before all others.
const ZERO: i32 = i32::MIN;

/// The bounds of the finest schema from 1/2 on, as the fraction of `frexp`. All platforms get the same bits, because they
/// come from integer square roots.
const BOUNDS: [f64; STEPS] = {
    let mut fixed = [1u64 << 62; STEPS + 1];
    fixed[STEPS] = 1 << 63;
    let mut stride = STEPS;
    while stride > 1 {
        let mut at = 0;
        while at < STEPS {
            // The bound in the middle is the geometric mean.
            fixed[at + stride / 2] = (fixed[at] as u128 * fixed[at + stride] as u128).isqrt() as u64;
            at += stride;
        }
        stride /= 2;
    }
    let mut bounds = [0.5; STEPS];
    let mut at = 0;
    while at < STEPS {
        bounds[at] = fixed[at] as f64 / (1u64 << 63) as f64;
        at += 1;
    }
    bounds
};

/// The buckets of one native histogram, sorted, none of them empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NativeTotal {
    schema: i8,
    buckets: Vec<Bucket>,
}

/// 96 bits of count: a whole `u64`, and in weighted layouts 32 bits behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    index: i32,
    high: u32,
    low: u64,
}

/// The native histograms of one label set. Nothing is allocated when its layout has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Natives(Option<Box<[NativeTotal; MAX_HISTOGRAMS]>>);

// === impl Native ===

impl Native {
    /// The native histogram whose bucket bounds grow by at most `factor`, as far as Prometheus has a schema for it, with
    /// at most `max_buckets` populated buckets; 0: any number.
    #[must_use]
    pub fn of_factor(factor: f64, max_buckets: u16) -> Self {
        let schema = (COARSEST..FINEST).find(|&schema| upper(1, schema) <= factor).unwrap_or(FINEST);
        Self { schema, max_buckets }
    }
}

/// The bucket of a value above zero.
pub(super) fn index_of(value: f64, schema: i8) -> i32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
    let fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1022 << 52));
    let finest = (exponent - 1) * STEPS as i32 + BOUNDS.partition_point(|&bound| bound < fraction) as i32;
    coarsen(finest, FINEST - schema)
}

/// The upper bound of a bucket.
pub(super) fn upper(index: i32, schema: i8) -> f64 {
    let finest = i64::from(index) << (FINEST - schema);
    let exponent = finest.div_euclid(STEPS as i64).clamp(-1_000, 1_000);
    BOUNDS[finest.rem_euclid(STEPS as i64) as usize] * f64::from_bits(((exponent + 1 + 1023) as u64) << 52)
}

/// The bucket after the resolution was halved `times` times.
fn coarsen(index: i32, times: i8) -> i32 {
    if index == ZERO { ZERO } else { (index + (1 << times) - 1) >> times }
}

// === impl Unit ===

impl Unit {
    /// A duration in this unit.
    #[must_use]
    pub fn of_ns(self, ns: u64) -> f64 {
        ns as f64 / self.ns()
    }

    /// Nanoseconds in one of it.
    #[must_use]
    pub fn ns(self) -> f64 {
        match self {
            Self::Seconds => 1e9,
            Self::Milliseconds => 1e6,
        }
    }
}

// === impl NativeTotal ===

impl NativeTotal {
    /// No observations yet.
    #[must_use]
    pub fn new(schema: i8) -> Self {
        Self { schema, buckets: Vec::new() }
    }

    /// The present resolution.
    #[must_use]
    pub fn schema(&self) -> i8 {
        self.schema
    }

    /// All populated buckets, the one of zero included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether nothing was observed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The observations of zero.
    #[must_use]
    pub fn zero(&self) -> u128 {
        self.buckets.first().filter(|b| b.index == ZERO).map_or(0, Bucket::count)
    }

    /// All observations.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.buckets.iter().map(Bucket::count).sum()
    }

    /// The populated buckets without the one of zero: index and count, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u128)> {
        self.positive().iter().map(|b| (b.index, b.count()))
    }

    fn positive(&self) -> &[Bucket] {
        let zero = self.buckets.first().is_some_and(|b| b.index == ZERO);
        &self.buckets[usize::from(zero)..]
    }

    /// Adds observations of one value, given in the unit of the histogram. Returns whether a bucket is new.
    pub(super) fn observe(&mut self, value: f64, count: u128) -> bool {
        let index = if value > 0.0 { index_of(value, self.schema) } else { ZERO };
        self.put(index, count)
    }

    /// Adds what another total counted, each count times `2^shift`. The coarser resolution of both is the result's.
    pub(super) fn add(&mut self, other: &Self, shift: u32) {
        if other.is_empty() {
            return;
        }
        self.coarsen_to(other.schema);
        for bucket in &other.buckets {
            self.put(coarsen(bucket.index, other.schema - self.schema), bucket.count() << shift);
        }
    }

    /// Adds observations of which only a lower bound is known: to the bucket after that of `value` at the finest schema
    /// of the layout, whatever the present one is.
    pub(super) fn observe_beyond(&mut self, value: f64, finest: i8, count: u128) {
        let index = if value > 0.0 { index_of(value, finest) + 1 } else { index_of(1e-9, finest) };
        self.put(coarsen(index, finest - self.schema), count);
    }

    /// The upper bound of every populated bucket, with its count.
    pub(super) fn uppers(&self) -> impl Iterator<Item = (f64, u128)> {
        let bound = |index| if index == ZERO { 0.0 } else { upper(index, self.schema) };
        self.buckets.iter().map(move |b| (bound(b.index), b.count()))
    }

    fn put(&mut self, index: i32, count: u128) -> bool {
        // The last observation is often near; most lists are short.
        match self.buckets.binary_search_by_key(&index, |b| b.index) {
            Ok(at) => {
                self.buckets[at] = Bucket::new(index, self.buckets[at].count().wrapping_add(count));
                false
            }
            Err(at) if count > 0 => {
                self.buckets.insert(at, Bucket::new(index, count));
                true
            }
            Err(_) => false,
        }
    }

    fn coarsen_to(&mut self, schema: i8) {
        if schema >= self.schema {
            return;
        }
        let times = self.schema - schema;
        self.schema = schema;
        for bucket in &mut self.buckets {
            bucket.index = coarsen(bucket.index, times);
        }
        self.buckets.dedup_by(|next, kept| {
            let same = next.index == kept.index;
            if same {
                *kept = Bucket::new(kept.index, kept.count().wrapping_add(next.count()));
            }
            same
        });
    }

    /// Halves the resolution while more than `max_buckets` buckets are populated, not counting the one of zero; 0: any
    /// number may be.
    pub(super) fn bound(&mut self, max_buckets: u16) {
        while max_buckets > 0 && self.positive().len() > usize::from(max_buckets) && self.schema > COARSEST {
            self.coarsen_to(self.schema - 1);
        }
    }

    /// Appends the buckets' bytes; the reader must know the schema.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.buckets.len() as u64);
        put_u128(out, self.zero());
        let mut last = 0;
        for bucket in self.positive() {
            put_i64(out, i64::from(bucket.index - last));
            put_u128(out, bucket.count());
            last = bucket.index;
        }
    }

    /// Reads what [`NativeTotal::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are malformed, or the buckets do not ascend.
    pub fn decode(r: &mut Reader<'_>, schema: i8) -> Result<Self, Malformed> {
        let n = r.u64()?;
        let zero = decode_count(r)?;
        let mut total = Self::new(schema);
        if zero > 0 {
            total.buckets.push(Bucket::new(ZERO, zero));
        }
        let mut last = 0i64;
        while (total.buckets.len() as u64) < n {
            let gap = r.i64()?;
            let first = total.positive().is_empty();
            last = last
                .checked_add(gap)
                .filter(|at| (-i64::from(MAX_INDEX)..=i64::from(MAX_INDEX)).contains(at))
                .ok_or(Malformed("bucket out of range"))?;
            let count = decode_count(r)?;
            if (gap <= 0 && !first) || count == 0 {
                return Err(Malformed("native buckets do not ascend or are empty"));
            }
            total.buckets.push(Bucket::new(last as i32, count));
        }
        if total.buckets.len() as u64 == n { Ok(total) } else { Err(Malformed("fewer buckets than there are")) }
    }
}

fn decode_count(r: &mut Reader<'_>) -> Result<u128, Malformed> {
    let count = r.u128()?;
    if count >> 96 == 0 { Ok(count) } else { Err(Malformed("count of a native bucket out of range")) }
}

/// Reads a schema.
pub(super) fn decode_schema(r: &mut Reader<'_>) -> Result<i8, Malformed> {
    let schema = i8::try_from(r.i64()?).ok().filter(|s| (COARSEST..=FINEST).contains(s));
    schema.ok_or(Malformed("unknown schema of a native histogram"))
}

// === impl Bucket ===

impl Bucket {
    fn new(index: i32, count: u128) -> Self {
        Self { index, high: (count >> 64) as u32, low: count as u64 }
    }

    fn count(&self) -> u128 {
        u128::from(self.low) | (u128::from(self.high) << 64)
    }
}

// === impl Natives ===

impl Natives {
    /// Nothing observed, in a layout.
    #[must_use]
    pub fn of(layout: &Layout) -> Self {
        let any = (0..MAX_HISTOGRAMS).any(|h| layout.native(h).is_some());
        let fresh = |h| layout.native(h).map_or_else(NativeTotal::default, |n| NativeTotal::new(n.schema));
        Self(any.then(|| Box::new(std::array::from_fn(fresh))))
    }

    /// The buckets of histogram `h`, if the layout has native ones at all.
    #[must_use]
    pub fn get(&self, h: usize) -> Option<&NativeTotal> {
        self.0.as_ref().map(|all| &all[h])
    }

    pub(super) fn get_mut(&mut self, h: usize) -> Option<&mut NativeTotal> {
        self.0.as_mut().map(|all| &mut all[h])
    }

    /// Forgets what was observed and keeps the memory; for deltas, whose resolution never changes.
    pub fn clear(&mut self) {
        for total in self.0.iter_mut().flat_map(|all| all.iter_mut()) {
            total.buckets.clear();
        }
    }

    /// Adds the counts of others of the same layout.
    pub fn add(&mut self, other: &Self) {
        for h in 0..MAX_HISTOGRAMS {
            if let (Some(total), Some(delta)) = (self.get_mut(h), other.get(h)) {
                total.add(delta, 0);
            }
        }
    }

    /// What they take in memory, roughly.
    #[must_use]
    pub fn heap(&self) -> usize {
        let Some(all) = &self.0 else { return 0 };
        let buckets = |total: &NativeTotal| total.buckets.capacity() * size_of::<Bucket>();
        size_of_val(&**all) + all.iter().map(buckets).sum::<usize>()
    }

    /// Appends the bytes of a delta: every native histogram of the layout in its finest schema.
    pub fn encode(&self, layout: &Layout, out: &mut Vec<u8>) {
        for total in (0..MAX_HISTOGRAMS).filter(|&h| layout.native(h).is_some()).filter_map(|h| self.get(h)) {
            total.encode(out);
        }
    }

    /// Reads what [`Natives::encode`] wrote.
    ///
    /// # Errors
    /// As [`NativeTotal::decode`].
    pub fn decode(layout: &Layout, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut natives = Self::of(layout);
        for h in 0..MAX_HISTOGRAMS {
            if let (Some(native), Some(total)) = (layout.native(h), natives.get_mut(h)) {
                *total = NativeTotal::decode(r, native.schema)?;
            }
        }
        Ok(natives)
    }

    /// Appends the bytes of totals, whose schemas may be coarser than the layout's.
    pub fn encode_totals(&self, layout: &Layout, out: &mut Vec<u8>) {
        for total in (0..MAX_HISTOGRAMS).filter(|&h| layout.native(h).is_some()).filter_map(|h| self.get(h)) {
            put_i64(out, total.schema.into());
            total.encode(out);
        }
    }

    /// Reads what [`Natives::encode_totals`] wrote.
    ///
    /// # Errors
    /// As [`NativeTotal::decode`], and when a schema is unknown.
    pub fn decode_totals(layout: &Layout, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut natives = Self::of(layout);
        for h in (0..MAX_HISTOGRAMS).filter(|&h| layout.native(h).is_some()) {
            let schema = decode_schema(r)?;
            if let Some(total) = natives.get_mut(h) {
                *total = NativeTotal::decode(r, schema)?;
            }
        }
        Ok(natives)
    }
}
