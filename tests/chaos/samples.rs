//! Everything that the receiver has stored, with the time at which it came: what the streams are compared by, and how
//! fresh they were.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spanmill::core::remotewrite::decode::{self, proto::TimeSeries};
use spanmill::tools::receiver::Receiver;

use crate::wall_clock;

/// So many contradictions are kept in words.
const MAX_WORDS: usize = 20;

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub bits: u64,
    /// The exemplars that came with it, encoded.
    pub exemplars: Vec<Vec<u8>>,
    /// When it came first, in milliseconds since the epoch.
    pub stored: i64,
}

/// The samples of a series by their timestamps.
pub type Stream = BTreeMap<i64, Point>;

/// All samples.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    pub streams: BTreeMap<String, Stream>,
    /// Resent samples whose exemplars are others than at first. Values are the receiver's to check.
    pub contradicted: u64,
    pub words: Vec<String>,
    /// How far the step that was most of all ahead of its time was ahead of it, in milliseconds.
    pub ahead: i64,
}

/// Shared with the receiver.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<Samples>>);

// === impl Watched ===

impl Watched {
    /// Notes everything that `receiver` stores from now on.
    pub fn new(receiver: &Receiver) -> Self {
        let watched = Self::default();
        let noting = watched.clone();
        receiver.watch(move |tenant, entry| noting.samples().note(tenant, entry, wall_clock()));
        watched
    }

    pub fn samples(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Samples ===

impl Samples {
    fn note(&mut self, tenant: &str, entry: &TimeSeries, stored: i64) {
        let mut name = decode::text(&entry.labels);
        if !tenant.is_empty() {
            name = format!("{tenant}/{name}");
        }
        let last = entry.samples.iter().map(|s| s.timestamp).max();
        for sample in &entry.samples {
            self.ahead = self.ahead.max(sample.timestamp - stored);
            let own = entry.exemplars.iter().filter(|_| last == Some(sample.timestamp));
            let exemplars: Vec<Vec<u8>> = own.map(prost::Message::encode_to_vec).collect();
            let stream = self.streams.entry(name.clone()).or_default();
            match stream.get(&sample.timestamp) {
                Some(known) if known.exemplars == exemplars => {}
                Some(_) => {
                    self.contradicted += 1;
                    if self.words.len() < MAX_WORDS {
                        self.words.push(format!("{name}: other exemplars at {}", sample.timestamp));
                    }
                }
                None => {
                    stream.insert(sample.timestamp, Point { bits: sample.value.to_bits(), exemplars, stored });
                }
            }
        }
    }

    /// The last step of the slowest shard: each sends all its series with every step.
    pub fn slowest(&self) -> i64 {
        self.streams.values().filter_map(|s| Some(*s.last_key_value()?.0)).min().unwrap_or_default()
    }

    /// The same of the series of a tenant.
    pub fn slowest_of(&self, tenant: &str) -> i64 {
        let own = self.streams.iter().filter(|(name, _)| belongs_to(name, tenant));
        own.filter_map(|(_, s)| Some(*s.last_key_value()?.0)).min().unwrap_or_default()
    }

    /// How long after its step each sample came that came within `from..to`, ascending.
    pub fn lags(&self, step: i64, from: i64, to: i64) -> Vec<i64> {
        let points =
            self.streams.values().flatten().filter(|(at, p)| **at % step == 0 && (from..to).contains(&p.stored));
        let mut lags: Vec<i64> = points.map(|(at, p)| p.stored - at).collect();
        lags.sort_unstable();
        lags
    }

    /// The same, but only of the tenants beside this one.
    pub fn lags_beside(&self, tenant: &str, step: i64, from: i64, to: i64) -> Vec<i64> {
        let others = self.streams.iter().filter(|(name, _)| !belongs_to(name, tenant)).flat_map(|(_, s)| s);
        let points = others.filter(|(at, p)| **at % step == 0 && (from..to).contains(&p.stored));
        points.map(|(at, p)| p.stored - at).collect()
    }

    /// By step: when the last series got its sample.
    pub fn complete(&self, step: i64) -> BTreeMap<i64, i64> {
        let mut complete = BTreeMap::new();
        for (at, point) in self.streams.values().flatten().filter(|(at, _)| **at % step == 0) {
            let last: &mut i64 = complete.entry(*at).or_default();
            *last = point.stored.max(*last);
        }
        complete
    }
}

fn belongs_to(series: &str, tenant: &str) -> bool {
    series.strip_prefix(tenant).is_some_and(|rest| rest.starts_with('/'))
}
