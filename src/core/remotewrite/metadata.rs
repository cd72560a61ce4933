//! What a metric is about: its kind, a sentence and its unit, as receivers show them.
//!
//! *In:* the name of a series. *Out:* a [`Description`]. *Never:* a guess from values: the names of all metrics show
//! their kind, as `OpenMetrics` wants it. *Next:* [`super::v2`] sends it with every series.

/// The kinds that there are here, by their numbers in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MetricKind {
    /// It only grows.
    Counter = 1,
    /// It may rise and fall.
    Gauge = 2,
    /// Classic or native.
    Histogram = 3,
}

/// What a metric is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Its kind.
    pub kind: MetricKind,
    /// What it means; empty when that is not known.
    pub help: &'static str,
    /// Its unit; empty when it has none.
    pub unit: &'static str,
}

/// How the names of metrics end, without `_bucket`, `_sum` and `_count`, and what they mean, in every naming.
const HELP: &[(&str, &str)] = &[
    ("calls_total", "Number of spans."),
    ("size_total", "Size of spans in bytes."),
    ("events_total", "Number of span events."),
    ("latency", "Duration of spans."),
    ("duration_seconds", "Duration of spans."),
    ("duration_milliseconds", "Duration of spans."),
    ("request_total", "Number of requests between two services."),
    ("request_failed_total", "Number of failed requests between two services."),
    ("request_server_seconds", "Duration of requests between two services, as seen by the server."),
    ("request_client_seconds", "Duration of requests between two services, as seen by the client."),
    ("request_messaging_system_seconds", "Time between sending a message and receiving it."),
    ("connection_info", "Two services that are connected; always 1."),
    ("target_info", "Attributes of a resource; always 1."),
    ("host_info", "A host that sends spans; always 1."),
];

const UNITS: &[(&str, &str)] =
    &[("_seconds", "seconds"), ("_latency", "seconds"), ("_milliseconds", "milliseconds"), ("size_total", "bytes")];

/// The metric that a series of this name belongs to. `native` is whether its samples are native histograms.
#[must_use]
pub fn describe(name: &str, native: bool) -> Description {
    let part = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
    let (kind, family) = match part {
        _ if native => (MetricKind::Histogram, name),
        Some(family) => (MetricKind::Histogram, family),
        None if name.ends_with("_total") => (MetricKind::Counter, name),
        None => (MetricKind::Gauge, name),
    };
    let of = |list: &[(&str, &'static str)]| {
        list.iter().find(|(end, _)| family.ends_with(end)).map_or("", |(_, text)| *text)
    };
    Description { kind, help: of(HELP), unit: of(UNITS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::layout::{Family, Layout, Naming, Native, Shape, Spec, Unit};

    /// Every metric of a family in a naming, with its kind and whether it is native.
    fn metrics(family: Family, naming: &Naming) -> Vec<(String, MetricKind, bool)> {
        let shape = Shape::both(&[1], Native { schema: 3, max_buckets: 160 });
        let histograms = vec![Some(shape); family.histograms().len()];
        let layout = Layout::of(&Spec { family, naming: naming.clone(), weighted: false, histograms });
        let counters = (0..family.counters().len()).map(|c| {
            let kind = if family.is_gauge(c) { MetricKind::Gauge } else { MetricKind::Counter };
            (layout.counter_name(c), kind, false)
        });
        let histograms = (0..family.histograms().len()).flat_map(|h| {
            let base = layout.histogram_name(h);
            let parts = ["_bucket", "_sum", "_count"].map(|end| (format!("{base}{end}"), MetricKind::Histogram, false));
            parts.into_iter().chain([(base, MetricKind::Histogram, true)])
        });
        counters.chain(histograms.collect::<Vec<_>>()).collect()
    }

    #[test]
    fn every_metric_in_every_naming_has_its_kind_and_a_help_text() {
        use Family::{HostInfo, ServiceGraph, SpanEvents, SpanMetrics, TargetInfo};
        let otel = |namespace: &str, unit| Naming::Otel { namespace: namespace.to_owned(), unit };
        let namings = [
            Naming::Tempo,
            otel("traces_span_metrics", Unit::Milliseconds),
            otel("", Unit::Seconds),
            otel("x", Unit::Seconds),
        ];
        for naming in &namings {
            for family in [SpanMetrics, ServiceGraph, SpanEvents, TargetInfo, HostInfo] {
                for (name, kind, native) in metrics(family, naming) {
                    let said = describe(&name, native);
                    assert_eq!(said.kind, kind, "{name}");
                    assert!(!said.help.is_empty(), "{name}");
                    assert_eq!(
                        said.unit.is_empty(),
                        kind == MetricKind::Gauge
                            || (kind == MetricKind::Counter && said.help != "Size of spans in bytes."),
                        "{name}"
                    );
                }
            }
        }
        assert_eq!(describe("my_hosts", false), Description { kind: MetricKind::Gauge, help: "", unit: "" });
    }
}
