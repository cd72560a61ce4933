//! The endpoints of remote write where a tenant has several: what each has got, and how far it is behind.
//!
//! With one endpoint there is none of this: the metrics of the sender are about that one.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::meters::{keep, opts};
use super::names;
use super::task_registry::{TaskRegistry, TaskStatus, gauges};
use crate::core::model::Millis;

/// Why samples are not sent to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointDrop {
    /// More waits than `max_backlog`, and `on_backlog` is `drop`.
    Backlog,
    /// It is not an endpoint of the tenant any more.
    Removed,
}

/// What waits in a shard for one of several endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointStatus {
    /// The bytes of the requests that wait for it.
    pub backlog: u64,
    /// How far the oldest step that it lacks is behind the last closed one, in milliseconds.
    pub behind: Millis,
    /// Whether its backlog has reached the bound, so that the shard waits for it, or drops steps.
    pub at_bound: bool,
}

/// What endpoints have got.
pub(super) struct EndpointMeters {
    samples: IntCounterVec,
    dropped: IntCounterVec,
    limit: IntGaugeVec,
    in_flight: IntGaugeVec,
}

/// The requests to one endpoint: how many there may be, and how many there are.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    limit: IntGauge,
    requests: IntGauge,
}

/// Counts a request until it is dropped.
#[derive(Debug)]
pub(crate) struct Flying(IntGauge);

/// Makes metrics of what tasks report.
pub(super) struct EndpointCollector {
    statuses: TaskRegistry,
    descs: Vec<Desc>,
}

// === impl EndpointDrop ===

impl EndpointDrop {
    const ALL: [Self; 2] = [Self::Backlog, Self::Removed];

    fn name(self) -> &'static str {
        match self {
            Self::Backlog => "backlog",
            Self::Removed => "removed",
        }
    }
}

// === impl EndpointMeters ===

impl EndpointMeters {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |metric: names::Metric| keep(registry, IntCounterVec::new(opts(metric), metric.labels));
        let gauges = |metric: names::Metric| keep(registry, IntGaugeVec::new(opts(metric), metric.labels));
        Self {
            samples: counters(names::ENDPOINT_SAMPLES),
            dropped: counters(names::ENDPOINT_DROPPED),
            limit: gauges(names::ENDPOINT_LIMIT),
            in_flight: gauges(names::ENDPOINT_IN_FLIGHT),
        }
    }

    pub(super) fn in_flight(&self, endpoint: &str) -> InFlight {
        let [limit, requests] = [&self.limit, &self.in_flight].map(|gauge| gauge.with_label_values(&[endpoint]));
        InFlight { limit, requests }
    }

    /// Counts the results of the samples of a batch.
    pub(super) fn settled(&self, endpoint: &str, results: [(&'static str, u64); 4]) {
        for (result, samples) in results.into_iter().filter(|(_, samples)| *samples > 0) {
            self.samples.with_label_values(&[endpoint, result]).inc_by(samples);
        }
        // A counter that is absent before its first drop has no rate of it.
        for why in EndpointDrop::ALL {
            self.dropped(endpoint, why, 0);
        }
    }

    pub(super) fn dropped(&self, endpoint: &str, why: EndpointDrop, samples: u64) {
        self.dropped.with_label_values(&[endpoint, why.name()]).inc_by(samples);
    }
}

// === impl InFlight ===

impl InFlight {
    /// The limit of a tenant has changed by so much.
    pub(crate) fn limit_changes(&self, by: i64) {
        self.limit.add(by);
    }

    /// A request is sent.
    pub(crate) fn begins(&self) -> Flying {
        self.requests.inc();
        Flying(self.requests.clone())
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Of all shards of this worker together: the sum of what waits, and the greatest distance.
#[must_use]
pub(super) fn endpoints_of<'a>(tasks: impl Iterator<Item = &'a TaskStatus>) -> BTreeMap<Arc<str>, EndpointStatus> {
    let mut all: BTreeMap<Arc<str>, EndpointStatus> = BTreeMap::new();
    for (name, status) in tasks.flat_map(|status| &status.endpoints) {
        let sum = all.entry(Arc::clone(name)).or_default();
        sum.backlog += status.backlog;
        sum.behind = sum.behind.max(status.behind);
        sum.at_bound |= status.at_bound;
    }
    all
}

// === impl EndpointCollector ===

impl EndpointCollector {
    pub(super) fn new(statuses: TaskRegistry) -> Self {
        let all = [names::ENDPOINT_BACKLOG, names::ENDPOINT_BEHIND, names::ENDPOINT_AT_BOUND];
        let descs = all.into_iter().flat_map(|m| gauges(m).desc().into_iter().cloned().collect::<Vec<_>>()).collect();
        Self { statuses, descs }
    }
}

impl Collector for EndpointCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let [backlog, behind, at_bound] =
            [names::ENDPOINT_BACKLOG, names::ENDPOINT_BEHIND, names::ENDPOINT_AT_BOUND].map(gauges);
        for (name, status) in self.statuses.endpoints() {
            backlog.with_label_values(&[&*name]).set(status.backlog as f64);
            behind.with_label_values(&[&*name]).set(status.behind as f64 / 1000.0);
            at_bound.with_label_values(&[&*name]).set(f64::from(u8::from(status.at_bound)));
        }
        let mut out = backlog.collect();
        out.extend(behind.collect());
        out.extend(at_bound.collect());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_an_endpoint_is_the_sum_of_all_shards_and_the_distance_is_the_greatest() {
        let of = |backlog, behind, at_bound| TaskStatus {
            endpoints: [("a".into(), EndpointStatus { backlog, behind, at_bound })].into(),
            ..TaskStatus::default()
        };
        let shards = [of(10, 15_000, true), of(5, 45_000, false), TaskStatus::default()];
        let expected = EndpointStatus { backlog: 15, behind: 45_000, at_bound: true };
        assert_eq!(endpoints_of(shards.iter()), [("a".into(), expected)].into());
    }
}
