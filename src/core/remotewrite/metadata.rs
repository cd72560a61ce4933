//! What a metric is about: its kind, a sentence and its unit, as receivers show them.
//!
//! *In:* the name of a series, and what users say about metrics of their own. *Out:* a [`Description`]. *Never:* a guess from values: the names of all metrics show
//! their kind, as `OpenMetrics` wants it. *Next:* [`super::v2`] sends it with every series; for 1.0, the sender sends a
//! [`body`] now and then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::core::model::labels;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64};

use super::Request;
use super::request::{HISTOGRAM_TAG, SERIES_TAG};
use super::separate::labels_of;

/// Tags of `WriteRequest.metadata` and of the fields of `MetricMetadata`.
const METADATA: u8 = 0x1a;
const KIND: u8 = 0x08;
const NAME: u8 = 0x12;
const HELP_TEXT: u8 = 0x22;
const UNIT: u8 = 0x2a;

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
pub struct Description<'a> {
    /// Its kind.
    pub kind: MetricKind,
    /// What it means; empty when that is not known.
    pub help: &'a str,
    /// Its unit; empty when it has none.
    pub unit: &'a str,
}

/// What the metrics of users are about: help and unit by name, for a histogram without the ends of its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptions(BTreeMap<String, (String, String)>);

// === impl Descriptions ===

impl FromIterator<(String, (String, String))> for Descriptions {
    fn from_iter<T: IntoIterator<Item = (String, (String, String))>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

/// How the names of metrics end, without `_bucket`, `_sum` and `_count`, and what they mean, in every naming.
const HELP: &[(&str, &str)] = &[
    ("repeated_calls_total", "Number of spans that call one operation repeatedly."),
    ("retried_calls_total", "Number of calls that follow a failed one of the same kind."),
    ("calls_per_request", "Number of calls between two services in a trace."),
    ("fan_out_calls_seconds_total", "Duration of the calls of spans that have several, added up."),
    ("fan_out_busy_seconds_total", "Time in which at least one call of a span that has several ran."),
    ("quality_problems_total", "Number of spans whose place in their trace is wrong."),
    ("calls_total", "Number of spans."),
    ("size_total", "Size of spans in bytes."),
    ("slo_events_total", "Number of events that a service level objective is about."),
    ("slo_good_total", "Number of events that are good by a service level objective."),
    ("critical_path_seconds_total", "Time for which a span is the deepest one on the critical path of its trace."),
    ("self_time_seconds_total", "Duration of spans less that of their children."),
    ("error_origin_total", "Number of failed spans without a failed child."),
    ("error_swallowed_total", "Number of spans that have not failed although a child has."),
    ("trace_duration_seconds", "Duration of traces."),
    ("trace_spans", "Number of spans in a trace."),
    ("trace_services", "Number of services in a trace."),
    ("trace_depth", "Number of spans in the longest chain of a trace."),
    ("events_total", "Number of span events."),
    ("latency", "Duration of spans."),
    ("duration_seconds", "Duration of spans."),
    ("duration_milliseconds", "Duration of spans."),
    ("request_total", "Number of requests between two services."),
    ("request_failed_total", "Number of failed requests between two services."),
    ("request_server_seconds", "Duration of requests between two services, as seen by the server."),
    ("request_client_seconds", "Duration of requests between two services, as seen by the client."),
    ("request_messaging_system_seconds", "Time between sending a message and receiving it."),
    ("edge_first_seen_timestamp_seconds", "When an edge of the service graph was seen first, in event time."),
    ("edge_last_seen_timestamp_seconds", "When an edge of the service graph was seen last, in event time."),
    ("new_edges_total", "How often an edge of the service graph was new."),
    ("connection_info", "Two services that are connected; always 1."),
    ("target_info", "Attributes of a resource; always 1."),
    ("host_info", "A host that sends spans; always 1."),
];

const UNITS: &[(&str, &str)] = &[
    ("_seconds", "seconds"),
    ("_seconds_total", "seconds"),
    ("_latency", "seconds"),
    ("_milliseconds", "milliseconds"),
    ("size_total", "bytes"),
];

/// The names of series in requests, each with whether its samples are native histograms.
pub type SeriesNames = BTreeSet<(String, bool)>;

/// The metric that a series of this name belongs to. `native` is whether its samples are native histograms.
#[must_use]
pub fn describe<'a>(name: &str, native: bool, own: &'a Descriptions) -> Description<'a> {
    let (kind, family) = kind_of(name, native);
    if let Some((help, unit)) = own.0.get(family) {
        return Description { kind, help, unit };
    }
    let of = |list: &[(&str, &'static str)]| {
        list.iter().find(|(end, _)| family.ends_with(end)).map_or("", |(_, text)| *text)
    };
    Description { kind, help: of(HELP), unit: of(UNITS) }
}

/// The kind of the metric that a series belongs to, and its name: that of the series, but for the parts of a classic histogram.
fn kind_of(name: &str, native: bool) -> (MetricKind, &str) {
    let part = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
    match part {
        _ if native => (MetricKind::Histogram, name),
        Some(family) => (MetricKind::Histogram, family),
        None if name.ends_with("_total") => (MetricKind::Counter, name),
        None => (MetricKind::Gauge, name),
    }
}

/// Adds the names of the series of a request.
///
/// # Errors
/// When the request is not one of ours.
pub fn collect(request: &Request, names: &mut SeriesNames) -> Result<(), Malformed> {
    let raw = snap::raw::Decoder::new().decompress_vec(&request.body).map_err(|_| Malformed("not a snappy block"))?;
    let mut r = Reader::new(&raw);
    // Series of one metric stand next to one another.
    let mut last: Option<(&str, bool)> = None;
    while !r.is_empty() {
        if r.u64()? != SERIES_TAG {
            return Err(Malformed("a request holds nothing but series"));
        }
        let series = r.bytes()?;
        let own = labels_of(series);
        let Some((_, name)) = labels::iter(own).find(|(label, _)| *label == "__name__") else { continue };
        let mut values = Reader::new(series.get(own.len()..).unwrap_or_default());
        let native = has_histogram(&mut values)?;
        if last != Some((name, native)) {
            last = Some((name, native));
            names.insert((name.to_owned(), native));
        }
    }
    Ok(())
}

fn has_histogram(values: &mut Reader<'_>) -> Result<bool, Malformed> {
    while !values.is_empty() {
        if values.u64()? == HISTOGRAM_TAG {
            return Ok(true);
        }
        values.bytes()?;
    }
    Ok(false)
}

/// The body of a request in 1.0 that describes the metrics of these series, each once, as Prometheus sends it.
#[must_use]
pub fn body(names: &SeriesNames, own: &Descriptions) -> Bytes {
    let mut raw = Vec::new();
    let families: BTreeMap<&str, Description<'_>> =
        names.iter().map(|(name, native)| (kind_of(name, *native).1, describe(name, *native, own))).collect();
    for (family, Description { kind, help, unit }) in families {
        let mut entry = vec![KIND];
        put_u64(&mut entry, kind as u64);
        for (tag, text) in [(NAME, family), (HELP_TEXT, help), (UNIT, unit)] {
            if !text.is_empty() {
                entry.push(tag);
                put_bytes(&mut entry, text.as_bytes());
            }
        }
        raw.push(METADATA);
        put_bytes(&mut raw, &entry);
    }
    snap::raw::Encoder::new().compress_vec(&raw).expect("a few names are far below 4 GiB").into()
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
    fn a_body_of_metadata_names_each_metric_once_without_the_parts_of_classic_histograms() {
        use super::super::decode::{self, proto};
        use prost::Message;

        let label = |value: &str| proto::Label { name: "__name__".to_owned(), value: value.to_owned() };
        let entry = |name: &str, native: bool| proto::TimeSeries {
            labels: vec![label(name), proto::Label { name: "service".to_owned(), value: "a".to_owned() }],
            samples: vec![proto::Sample { value: 1.0, timestamp: 1 }; usize::from(!native)],
            histograms: vec![proto::Histogram::default(); usize::from(native)],
            exemplars: Vec::new(),
        };
        let timeseries = vec![
            entry("traces_spanmetrics_calls_total", false),
            entry("traces_spanmetrics_latency_bucket", false),
            entry("traces_spanmetrics_latency_bucket", false),
            entry("traces_spanmetrics_latency_count", false),
            entry("traces_spanmetrics_latency", true),
            entry("odd_count", true),
        ];
        let raw = proto::WriteRequest { timeseries }.encode_to_vec();
        let request = Request::compress(&raw, 6, 6, 0, &mut snap::raw::Encoder::new());
        let mut names = SeriesNames::new();
        assert_eq!(collect(&request, &mut names), Ok(()));
        assert_eq!(names.len(), 5);
        let said = decode::metadata(&body(&names, &Descriptions::default())).expect("our own body").metadata;
        let said: Vec<_> =
            said.iter().map(|m| (m.metric_family_name.as_str(), m.r#type, m.help.as_str(), m.unit.as_str())).collect();
        assert_eq!(
            said,
            [
                ("odd_count", 3, "", ""),
                ("traces_spanmetrics_calls_total", 1, "Number of spans.", ""),
                ("traces_spanmetrics_latency", 3, "Duration of spans.", "seconds"),
            ]
        );
        let odd = Request { body: Bytes::from_static(b"\x03abc"), ..request };
        assert!(collect(&odd, &mut names).is_err());
    }

    #[test]
    fn every_metric_in_every_naming_has_its_kind_and_a_help_text() {
        use Family::{
            CriticalPath, EdgeSeen, HostInfo, SelfTime, ServiceGraph, Slo, SpanEvents, SpanMetrics, SpansByRoot,
            TargetInfo, TraceCallGroups, TraceCalls, TraceDuration, TraceErrors, TraceFanOut, TraceQuality, TraceShape,
        };
        let all = [
            SpanMetrics,
            ServiceGraph,
            SpanEvents,
            TargetInfo,
            HostInfo,
            EdgeSeen,
            Slo,
            TraceDuration,
            TraceShape,
            CriticalPath,
            SelfTime,
            TraceErrors,
            TraceCalls,
            TraceCallGroups,
            TraceFanOut,
            TraceQuality,
            SpansByRoot,
        ];
        let otel = |namespace: &str, unit| Naming::Otel { namespace: namespace.to_owned(), unit };
        let namings = [
            Naming::Tempo,
            otel("traces_span_metrics", Unit::Milliseconds),
            otel("", Unit::Seconds),
            otel("x", Unit::Seconds),
        ];
        let none = Descriptions::default();
        for naming in &namings {
            for family in all {
                for (name, kind, native) in metrics(family, naming) {
                    let said = describe(&name, native, &none);
                    assert_eq!(said.kind, kind, "{name}");
                    assert!(!said.help.is_empty(), "{name}");
                    let has_unit = match kind {
                        MetricKind::Gauge => family == EdgeSeen,
                        MetricKind::Counter => name.contains("_seconds") || said.help == "Size of spans in bytes.",
                        MetricKind::Histogram => ![TraceShape, TraceCalls].contains(&family),
                    };
                    assert_eq!(!said.unit.is_empty(), has_unit, "{name}");
                }
            }
        }
        assert_eq!(describe("my_hosts", false, &none), Description { kind: MetricKind::Gauge, help: "", unit: "" });
    }

    #[test]
    fn what_users_say_about_a_metric_is_said_of_all_its_series() {
        let of = |name: &str, help: &str, unit: &str| (name.to_owned(), (help.to_owned(), unit.to_owned()));
        let own: Descriptions =
            [of("size", "Sizes.", "bytes"), of("tokens_total", "Tokens.", "tokens")].into_iter().collect();
        for (name, native, kind, help, unit) in [
            ("tokens_total", false, MetricKind::Counter, "Tokens.", "tokens"),
            ("size_bucket", false, MetricKind::Histogram, "Sizes.", "bytes"),
            ("size_sum", false, MetricKind::Histogram, "Sizes.", "bytes"),
            ("size", true, MetricKind::Histogram, "Sizes.", "bytes"),
            ("traces_spanmetrics_calls_total", false, MetricKind::Counter, "Number of spans.", ""),
        ] {
            assert_eq!(describe(name, native, &own), Description { kind, help, unit }, "{name}");
        }
        let names: SeriesNames = [("size_sum".to_owned(), false)].into_iter().collect();
        let said = super::super::decode::metadata(&body(&names, &own)).expect("our own body").metadata;
        assert_eq!((said[0].metric_family_name.as_str(), said[0].help.as_str()), ("size", "Sizes."));
    }
}
