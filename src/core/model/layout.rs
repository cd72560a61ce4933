//! What the numbers behind one label set mean: families, metrics, buckets, and the cells they live in.
//!
//! A label set owns one flat slice of `u64` **cells**, laid out by its [`Layout`], and beside it the sparse buckets of its
//! native histograms ([`Natives`]), if it has any:
//!
//! ```text
//! | counter 0 | counter 1 | ... | histogram 0: bucket 0 .. bucket n (+Inf) | sum low | sum high | histogram 1 ...
//! ```
//!
//! A histogram that is never observed has no cells, one without classic buckets only its sum. Bucket cells are *not*
//! cumulative over `le`; a histogram's count is the sum of its buckets. A sum is a 128-bit number of nanoseconds in two
//! cells, and so is the counter of a family that adds up numbers of spans: billionths of their unit. In a **weighted** layout,
//! counts and buckets are such pairs, too, and all pairs have 32 bits behind the point.
//! Cells only ever add up, with wrapping and carry, so merging is associative and exact.

mod cells;
mod names;
mod native;
#[cfg(test)]
mod tests;
mod wire;

pub use cells::{Numbers, Owner};
pub use native::{NativeTotal, Natives};
pub use wire::MAX_BUCKETS;

use super::wire::Malformed;

/// A group of metrics that share one label set. Metric names of different families differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// `traces_spanmetrics_*`: calls, size; latency.
    SpanMetrics = 0,
    /// `traces_service_graph_*`: total, failed, connection info; server, client and messaging latency.
    ServiceGraph = 1,
    /// `traces_spanmetrics_events_total`
    SpanEvents = 2,
    /// `traces_target_info`, in the naming of the Collector `target_info`
    TargetInfo = 3,
    /// `traces_host_info`
    HostInfo = 4,
    /// `traces_slo_*_total`: events, good events.
    Slo = 5,
    /// `traces_service_graph_edge_*`, `traces_service_graph_new_edges_total`: when an edge was seen first, and last, and how
    /// often it was new. Its cells mean something else in deltas; see [`Family::is_seen`].
    EdgeSeen = 9,
    /// A counter of spans with a name of its own.
    AttributeCounter = 6,
    /// A sum of numbers of spans with a name of its own.
    AttributeSum = 7,
    /// A histogram of numbers of spans with a name of its own.
    AttributeHistogram = 8,
    /// `traces_trace_duration_seconds`
    TraceDuration = 16,
    /// `traces_trace_spans`, `traces_trace_services`, `traces_trace_depth`
    TraceShape = 17,
    /// `traces_critical_path_seconds_total`
    CriticalPath = 18,
    /// `traces_self_time_seconds_total`
    SelfTime = 19,
    /// `traces_error_origin_total`, `traces_error_swallowed_total`
    TraceErrors = 20,
    /// `traces_calls_per_request`
    TraceCalls = 21,
    /// `traces_repeated_calls_total`, `traces_retried_calls_total`
    TraceCallGroups = 22,
    /// `traces_fan_out_calls_seconds_total`, `traces_fan_out_busy_seconds_total`
    TraceFanOut = 23,
    /// `traces_quality_problems_total`
    TraceQuality = 24,
    /// `traces_spanmetrics_by_root_*`: spans of closed traces, and their latency.
    SpansByRoot = 25,
}

/// How metrics are named, and in which unit durations are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Naming {
    /// As Tempo's metrics-generator: seconds.
    Tempo,
    /// As the Collector's spanmetrics connector behind a Prometheus exporter.
    Otel {
        /// Such as `traces_span_metrics`; a metric's name is this, `_`, and `calls_total` and so on. May be empty.
        namespace: String,
        /// The unit of durations.
        unit: Unit,
    },
    /// The one metric of the family has this name. Those of attribute metrics have one of many.
    Named(String),
}

/// The unit of durations in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Unit {
    /// `s`, `_seconds`
    Seconds = 0,
    /// `ms`, `_milliseconds`
    Milliseconds = 1,
}

/// How one histogram counts: classic buckets, a native histogram, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Upper bounds of the classic buckets in nanoseconds, strictly ascending, without `+Inf`; `None`: no classic buckets.
    pub bounds_ns: Option<Vec<u64>>,
    /// `None`: no native histogram.
    pub native: Option<Native>,
}

/// A native (exponential) histogram, as Prometheus defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Native {
    /// The finest resolution: bucket bounds grow by the factor `2^(2^-schema)`.
    pub schema: i8,
    /// With more buckets than this the resolution is halved.
    pub max_buckets: u16,
}

/// What a [`Layout`] is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The family.
    pub family: Family,
    /// The names of its metrics.
    pub naming: Naming,
    /// Whether counts are weights, with a fraction.
    pub weighted: bool,
    /// One per histogram of the family, in its order; `None`: it is never observed and takes no room.
    pub histograms: Vec<Option<Shape>>,
}

impl Family {
    /// The metric names of the counters and gauges in Tempo's naming, in cell order.
    #[must_use]
    pub fn counters(self) -> &'static [&'static str] {
        match self {
            Self::SpanMetrics => &["traces_spanmetrics_calls_total", "traces_spanmetrics_size_total"],
            Self::ServiceGraph => &[
                "traces_service_graph_request_total",
                "traces_service_graph_request_failed_total",
                "traces_service_graph_connection_info",
            ],
            Self::SpanEvents => &["traces_spanmetrics_events_total"],
            Self::TargetInfo => &["traces_target_info"],
            Self::HostInfo => &["traces_host_info"],
            Self::Slo => &["traces_slo_events_total", "traces_slo_good_total"],
            Self::EdgeSeen => &[
                "traces_service_graph_edge_first_seen_timestamp_seconds",
                "traces_service_graph_edge_last_seen_timestamp_seconds",
                "traces_service_graph_new_edges_total",
            ],
            Self::AttributeCounter => &["traces_attribute_spans_total"],
            Self::AttributeSum => &["traces_attribute_sum_total"],
            Self::AttributeHistogram => &[],
            Self::TraceDuration | Self::TraceShape | Self::TraceCalls => &[],
            Self::CriticalPath => &["traces_critical_path_seconds_total"],
            Self::SelfTime => &["traces_self_time_seconds_total"],
            Self::TraceErrors => &["traces_error_origin_total", "traces_error_swallowed_total"],
            Self::TraceCallGroups => &["traces_repeated_calls_total", "traces_retried_calls_total"],
            Self::TraceFanOut => &["traces_fan_out_calls_seconds_total", "traces_fan_out_busy_seconds_total"],
            Self::TraceQuality => &["traces_quality_problems_total"],
            Self::SpansByRoot => &["traces_spanmetrics_by_root_calls_total"],
        }
    }

    /// The base names of the histograms in Tempo's naming, in cell order.
    #[must_use]
    pub fn histograms(self) -> &'static [&'static str] {
        match self {
            Self::SpanMetrics => &["traces_spanmetrics_latency"],
            Self::ServiceGraph => &[
                "traces_service_graph_request_server_seconds",
                "traces_service_graph_request_client_seconds",
                "traces_service_graph_request_messaging_system_seconds",
            ],
            Self::AttributeHistogram => &["traces_attribute_values"],
            Self::TraceDuration => &["traces_trace_duration_seconds"],
            Self::TraceShape => &["traces_trace_spans", "traces_trace_services", "traces_trace_depth"],
            Self::TraceCalls => &["traces_calls_per_request"],
            Self::SpansByRoot => &["traces_spanmetrics_by_root_latency"],
            Self::SpanEvents
            | Self::TargetInfo
            | Self::HostInfo
            | Self::Slo
            | Self::EdgeSeen
            | Self::AttributeCounter
            | Self::AttributeSum
            | Self::CriticalPath
            | Self::SelfTime
            | Self::TraceErrors
            | Self::TraceCallGroups
            | Self::TraceFanOut
            | Self::TraceQuality => &[],
        }
    }

    /// Whether counter `c` is a gauge: it is written as 1 when above zero, or as a time.
    #[must_use]
    pub fn is_gauge(self, c: usize) -> bool {
        match self {
            Self::SpanMetrics
            | Self::SpanEvents
            | Self::Slo
            | Self::AttributeCounter
            | Self::AttributeSum
            | Self::AttributeHistogram
            | Self::TraceDuration
            | Self::TraceShape
            | Self::CriticalPath
            | Self::SelfTime
            | Self::TraceErrors
            | Self::TraceCalls
            | Self::TraceCallGroups
            | Self::TraceFanOut
            | Self::TraceQuality
            | Self::SpansByRoot => false,
            Self::ServiceGraph => c == 2,
            Self::EdgeSeen => c < 2,
            Self::TargetInfo | Self::HostInfo => true,
        }
    }

    /// Whether the gauges are times: of the first step that has touched the set since it began, and of the last one. In
    /// deltas a cell above zero is a touch; of a set the cells are those times in milliseconds, which are not added up, and
    /// behind them how often the set has begun: once, as a set that begins again is filled with zeros.
    #[must_use]
    pub fn is_seen(self) -> bool {
        self == Self::EdgeSeen
    }

    /// Touches the cells of a set whose gauges are times.
    pub fn see(cells: &mut [u64], step: u64) {
        if let [first, last, new, ..] = cells {
            *first = if *first == 0 { step } else { step.min(*first) };
            *last = step.max(*last);
            *new = 1;
        }
    }

    /// Whether the counters add up nanoseconds, in a pair of cells each, and are written in seconds.
    #[must_use]
    pub fn is_duration(self) -> bool {
        matches!(self, Self::CriticalPath | Self::SelfTime | Self::TraceFanOut)
    }

    /// The counter whose growth lets counter `c` exist, even at zero: where nothing is good, a ratio needs a zero.
    #[must_use]
    pub fn companion(self, c: usize) -> usize {
        if self == Self::Slo { 0 } else { c }
    }

    /// Whether the name of the metric is among the labels of its sets: see
    /// [`METRIC_LABEL`](crate::core::model::labels::METRIC_LABEL).
    #[must_use]
    pub fn is_named_by_label(self) -> bool {
        matches!(self, Self::AttributeCounter | Self::AttributeSum | Self::AttributeHistogram)
    }

    /// Whether the counter is a sum of billionths in two cells, which is there as soon as anything was added, be it zero.
    fn is_sum(self) -> bool {
        self == Self::AttributeSum
    }

    /// Whether counter `c` counts spans, edges or events, which a sampling weight multiplies. Bytes and gauges do not.
    fn is_weighed(self, c: usize) -> bool {
        let is_bytes = self == Self::SpanMetrics && c == 1;
        !self.is_gauge(c) && !is_bytes && !self.is_duration()
    }

    fn from_u8(v: u8) -> Result<Self, Malformed> {
        match v {
            0 => Ok(Self::SpanMetrics),
            1 => Ok(Self::ServiceGraph),
            2 => Ok(Self::SpanEvents),
            3 => Ok(Self::TargetInfo),
            4 => Ok(Self::HostInfo),
            5 => Ok(Self::Slo),
            6 => Ok(Self::AttributeCounter),
            7 => Ok(Self::AttributeSum),
            8 => Ok(Self::AttributeHistogram),
            9 => Ok(Self::EdgeSeen),
            16 => Ok(Self::TraceDuration),
            17 => Ok(Self::TraceShape),
            18 => Ok(Self::CriticalPath),
            19 => Ok(Self::SelfTime),
            20 => Ok(Self::TraceErrors),
            21 => Ok(Self::TraceCalls),
            22 => Ok(Self::TraceCallGroups),
            23 => Ok(Self::TraceFanOut),
            24 => Ok(Self::TraceQuality),
            25 => Ok(Self::SpansByRoot),
            _ => Err(Malformed("unknown metric family")),
        }
    }
}

/// No family has more histograms.
pub const MAX_HISTOGRAMS: usize = 3;
/// No family has more counters and gauges.
const MAX_COUNTERS: usize = 3;

/// A [`Spec`] with the places of its cells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    spec: Spec,
    /// The first cell of each counter.
    counters: [u32; MAX_COUNTERS],
    places: [HistogramCells; MAX_HISTOGRAMS],
    cells: u32,
}

/// Where the cells of a histogram are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct HistogramCells {
    /// The first bucket's cell.
    first: u32,
    /// Classic buckets, `+Inf` included; none without classic buckets.
    buckets: u32,
    /// The lower cell of the sum.
    sum: u32,
}

// === impl Shape ===

impl Shape {
    /// Classic buckets with these upper bounds (nanoseconds, strictly ascending, without `+Inf`).
    #[must_use]
    pub fn classic(bounds_ns: &[u64]) -> Self {
        Self { bounds_ns: Some(bounds_ns.to_vec()), native: None }
    }

    /// A native histogram alone.
    #[must_use]
    pub fn native(native: Native) -> Self {
        Self { bounds_ns: None, native: Some(native) }
    }

    /// Classic buckets and a native histogram.
    #[must_use]
    pub fn both(bounds_ns: &[u64], native: Native) -> Self {
        Self { bounds_ns: Some(bounds_ns.to_vec()), native: Some(native) }
    }

    /// A fixed order of shapes; of two that are alike, the one with the coarser native histogram is the greater.
    fn rank(&self) -> impl Ord + '_ {
        (&self.bounds_ns, self.native.map(|n| (std::cmp::Reverse(n.schema), n.max_buckets)))
    }
}

// === impl Spec ===

impl Spec {
    /// In the naming of Tempo, without weights, each histogram with the same classic bounds.
    #[must_use]
    pub fn classic(family: Family, bounds_ns: &[u64]) -> Self {
        let histograms = vec![Some(Shape::classic(bounds_ns)); family.histograms().len()];
        Self { family, naming: Naming::Tempo, weighted: false, histograms }
    }
}

// === impl Layout ===

impl Layout {
    /// A layout that uses the same bounds (nanoseconds, strictly ascending) for every histogram of the family.
    #[must_use]
    pub fn new(family: Family, bounds_ns: &[u64]) -> Self {
        Self::of(&Spec::classic(family, bounds_ns))
    }

    /// The layout of a specification. Bounds ascend strictly.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let mut spec = spec.clone();
        spec.histograms.resize(spec.family.histograms().len(), None);
        for shape in &mut spec.histograms {
            shape.take_if(|s| s.bounds_ns.is_none() && s.native.is_none());
        }
        debug_assert!(
            spec.histograms.iter().flatten().all(|s| s.bounds_ns.iter().all(|b| b.is_sorted_by(|a, b| a < b)))
        );
        let mut next = 0;
        let mut take = |cells: u32| {
            next += cells;
            next - cells
        };
        let mut counters = [0; MAX_COUNTERS];
        for (c, cell) in counters.iter_mut().enumerate().take(spec.family.counters().len()) {
            let adds_up = spec.family.is_sum() || spec.family.is_duration();
            let is_wide = adds_up || (spec.weighted && spec.family.is_weighed(c));
            *cell = take(if is_wide { 2 } else { 1 });
        }
        let width = if spec.weighted { 2 } else { 1 };
        let mut places = [HistogramCells::default(); MAX_HISTOGRAMS];
        for (place, shape) in places.iter_mut().zip(&spec.histograms) {
            let Some(shape) = shape else { continue };
            let buckets = shape.bounds_ns.as_ref().map_or(0, |b| b.len() as u32 + 1);
            *place = HistogramCells { first: take(buckets * width), buckets, sum: take(2) };
        }
        Self { spec, counters, places, cells: next }
    }

    /// What it is made from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.spec.family
    }

    /// Whether counts are weights.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        self.spec.weighted
    }

    /// The shape of histogram `h`; `None` if it is never observed.
    #[must_use]
    pub fn shape(&self, h: usize) -> Option<&Shape> {
        self.spec.histograms.get(h)?.as_ref()
    }

    /// The native half of histogram `h`.
    #[must_use]
    pub fn native(&self, h: usize) -> Option<Native> {
        self.shape(h)?.native
    }

    /// The upper bounds of the classic buckets of histogram `h` in nanoseconds, without `+Inf`.
    #[must_use]
    pub fn bounds(&self, h: usize) -> &[u64] {
        self.shape(h).and_then(|s| s.bounds_ns.as_deref()).unwrap_or_default()
    }

    /// The number of cells of one label set.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells as usize
    }

    /// The most Prometheus series that one label set can have.
    #[must_use]
    pub fn series(&self) -> usize {
        let of = |h| match self.shape(h) {
            // Buckets, sum and count; a native histogram is one series.
            Some(shape) => {
                self.buckets(h) + if self.buckets(h) > 0 { 2 } else { 0 } + usize::from(shape.native.is_some())
            }
            None => 0,
        };
        self.family().counters().len() + (0..MAX_HISTOGRAMS).map(of).sum::<usize>()
    }

    /// The greatest of both by a fixed order, metric by metric. Any grouping and order of joins gives the same layout,
    /// and it has a place for every histogram that one of them has.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let greater = |a: &Option<Shape>, b: &Option<Shape>| match (a, b) {
            (Some(x), Some(y)) => Some(if x.rank() < y.rank() { y } else { x }.clone()),
            (one, None) | (None, one) => one.clone(),
        };
        self.with(other, std::cmp::max(&self.spec.naming, &other.spec.naming).clone(), greater)
    }

    /// This layout with a place for everything that `other` has and it has not.
    #[must_use]
    pub fn widen(&self, other: &Self) -> Self {
        self.with(other, self.spec.naming.clone(), |mine, other| mine.clone().or_else(|| other.clone()))
    }

    fn with(
        &self,
        other: &Self,
        naming: Naming,
        choose: impl Fn(&Option<Shape>, &Option<Shape>) -> Option<Shape>,
    ) -> Self {
        let pairs = self.spec.histograms.iter().zip(&other.spec.histograms);
        let histograms = pairs.map(|(a, b)| choose(a, b)).collect();
        let weighted = self.spec.weighted || other.spec.weighted;
        Self::of(&Spec { family: self.spec.family, naming, weighted, histograms })
    }
}
