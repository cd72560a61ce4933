//! The metric names of a layout.

use super::{Family, Layout, Naming, Unit};

// === impl Layout ===

impl Layout {
    /// The unit in which durations are written.
    #[must_use]
    pub fn unit(&self) -> Unit {
        match (&self.spec.naming, self.spec.family) {
            (Naming::Otel { unit, .. }, Family::SpanMetrics) => *unit,
            _ => Unit::Seconds,
        }
    }

    /// The name of counter or gauge `c`.
    #[must_use]
    pub fn counter_name(&self, c: usize) -> String {
        let family = self.spec.family;
        match (&self.spec.naming, family) {
            (Naming::Otel { namespace, .. }, Family::SpanMetrics) => named(namespace, ["calls_total", "size_total"][c]),
            (Naming::Otel { namespace, .. }, Family::SpanEvents) => named(namespace, "events_total"),
            (Naming::Otel { .. }, Family::TargetInfo) => "target_info".to_owned(),
            (Naming::Named(name), _) => name.clone(),
            _ => family.counters()[c].to_owned(),
        }
    }

    /// The name of histogram `h`: as it is for a native histogram, with `_bucket`, `_sum` and `_count` for a classic one.
    #[must_use]
    pub fn histogram_name(&self, h: usize) -> String {
        let family = self.spec.family;
        match (&self.spec.naming, family) {
            (Naming::Otel { namespace, unit }, Family::SpanMetrics) => match unit {
                Unit::Seconds => named(namespace, "duration_seconds"),
                Unit::Milliseconds => named(namespace, "duration_milliseconds"),
            },
            (Naming::Named(name), Family::AttributeHistogram) => name.clone(),
            _ => family.histograms()[h].to_owned(),
        }
    }

    /// The values of `le` of the classic buckets of histogram `h`, in the order of its cells; none if it has none.
    pub fn les(&self, h: usize) -> impl Iterator<Item = String> + '_ {
        let unit = self.unit();
        let inf = (self.places[h].buckets > 0).then(|| "+Inf".to_owned());
        self.bounds(h).iter().map(move |&bound| unit.text(bound)).chain(inf)
    }
}

/// A metric name as the Prometheus exporters of the Collector make it.
fn named(namespace: &str, metric: &str) -> String {
    let mut name = String::with_capacity(namespace.len() + metric.len() + 2);
    if namespace.starts_with(|c: char| c.is_ascii_digit()) {
        name.push('_');
    }
    let separator = if namespace.is_empty() { "" } else { "_" };
    for c in namespace.chars().chain(separator.chars()).chain(metric.chars()) {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c != '_' || !name.ends_with('_') {
            name.push(c);
        }
    }
    name
}

// === impl Unit ===

impl Unit {
    /// A duration as the shortest decimal without an exponent (`0.002`, `1`, `12.8`). Made from the integer, so that
    /// different durations never share a text.
    #[must_use]
    pub fn text(self, ns: u64) -> String {
        let (one, digits) = match self {
            Self::Seconds => (1_000_000_000, 9),
            Self::Milliseconds => (1_000_000, 6),
        };
        let (whole, rest) = (ns / one, ns % one);
        if rest == 0 {
            return whole.to_string();
        }
        format!("{whole}.{rest:0digits$}").trim_end_matches('0').to_owned()
    }
}
