//! Meters of remote write: samples by what became of them, requests by class of answer.

use prometheus::core::Collector as _;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::meters::{counter, counters, histogram, keep, opts};
use super::names::{self, Metric};
use crate::core::remotewrite::verdict::REASONS;

/// The reason under which samples are rejected whose tenant is not legal in a header.
pub(crate) const ILLEGAL_TENANT: &str = "illegal_tenant";
/// The same of samples that are not sent, because the receiver refuses their series.
pub(crate) const QUARANTINED: &str = "quarantined";
/// Why samples are not sent whose series got the labels of another one.
pub(crate) const SAME_LABELS: &str = "same_labels";
/// Why samples are not sent that are older than the settings allow.
pub(crate) const MAX_SAMPLE_AGE: &str = "max_sample_age";

/// All values that [`class_of`] returns.
pub(super) const CLASSES: [&str; 6] = ["2xx", "3xx", "429", "4xx", "5xx", "error"];

/// Seconds: from a quick answer on the same host to a receiver that hangs until the timeout.
const REQUEST_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// Samples in flight to the receivers, by the sender's own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Samples {
    /// Made.
    pub built: u64,
    /// Stored by the receiver.
    pub acknowledged: u64,
    /// Refused because a predecessor had delivered them.
    pub already_there: u64,
    /// Rejected.
    pub rejected: u64,
    /// Not sent for themselves: by `write_relabel_configs`, or as a part of a native histogram.
    pub filtered: u64,
    /// Dropped with the task that they came from; its next owner sends them again.
    pub abandoned: u64,
    /// In flight.
    pub pending: u64,
}

/// The meters of remote write.
pub(crate) struct ExportMeters {
    pub(crate) built: IntCounter,
    pub(crate) acknowledged: IntCounter,
    pub(crate) already_there: IntCounter,
    pub(crate) rejected: IntCounterVec,
    pub(crate) filtered: IntCounter,
    pub(crate) converted: IntCounter,
    pub(crate) abandoned: IntCounter,
    pub(crate) exemplars_rejected: IntCounter,
    pub(crate) exemplars_withheld: IntCounter,
    pub(crate) written_differs: IntCounter,
    pub(crate) pending_samples: IntGauge,
    pub(crate) requests: IntCounterVec,
    pub(crate) retries: IntCounter,
    pub(crate) metadata: IntCounterVec,
    pub(crate) bytes: IntCounter,
    pub(crate) in_flight: IntGauge,
    pub(crate) seconds: Histogram,
    pub(crate) pending_batches: IntGauge,
}

impl ExportMeters {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |m: Metric| keep(registry, IntGauge::with_opts(opts(m)));
        Self {
            built: counter(registry, names::SAMPLES_BUILT),
            acknowledged: counter(registry, names::SAMPLES_ACKNOWLEDGED),
            already_there: counter(registry, names::SAMPLES_ALREADY_THERE),
            rejected: counters(
                registry,
                names::SAMPLES_REJECTED,
                REASONS.into_iter().chain([ILLEGAL_TENANT, QUARANTINED, SAME_LABELS, MAX_SAMPLE_AGE]),
            ),
            filtered: counter(registry, names::SAMPLES_FILTERED),
            converted: counter(registry, names::SAMPLES_CONVERTED),
            abandoned: counter(registry, names::SAMPLES_ABANDONED),
            exemplars_rejected: counter(registry, names::EXEMPLARS_REJECTED),
            exemplars_withheld: counter(registry, names::EXEMPLARS_WITHHELD),
            written_differs: counter(registry, names::WRITTEN_DIFFERS),
            pending_samples: gauge(names::SAMPLES_PENDING),
            requests: counters(registry, names::REQUESTS, CLASSES),
            retries: counter(registry, names::RETRIES),
            metadata: counters(registry, names::METADATA, ["accepted", "failed"]),
            bytes: counter(registry, names::BYTES),
            in_flight: gauge(names::IN_FLIGHT),
            seconds: keep(registry, Histogram::with_opts(histogram(names::REQUEST_SECONDS, &REQUEST_BOUNDS))),
            pending_batches: gauge(names::PENDING_BATCHES),
        }
    }

    /// The results of all samples so far.
    pub(super) fn samples(&self) -> Samples {
        let rejected = self.rejected.collect();
        let rejected = rejected.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        Samples {
            built: self.built.get(),
            acknowledged: self.acknowledged.get(),
            already_there: self.already_there.get(),
            rejected: rejected.map(|m| m.get_counter().get_value()).sum::<f64>() as u64,
            filtered: self.filtered.get() + self.converted.get(),
            abandoned: self.abandoned.get(),
            pending: self.pending_samples.get().unsigned_abs(),
        }
    }
}

/// The class that an answer is counted under; 0 is no answer.
pub(crate) fn class_of(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        429 => "429",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "error",
    }
}
