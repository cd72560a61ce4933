//! OpenMetrics text for `promtool tsdb create-blocks-from openmetrics`.
//!
//! The text has limits: native histograms are refused. Markers of ended series are skipped and counted; in blocks made
//! of the text, an ended series is seen for Prometheus' lookback (5 minutes) longer. An exemplar follows its sample if
//! that is a counter or a bucket, by its name; promtool ignores it.
//!
//! The type of a family is guessed from the names of its metrics, by the protocol's own conventions. If the
//! `le` of a histogram are not written as OpenMetrics wants it (`1` and not `1.0`), newer versions of promtool would
//! rewrite them, and the series would not be the ones of remote write: such a family has the type unknown, and is not
//! changed. Blocks hold no types, so nothing else is lost by that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::{FormatError, Series, Written, floats};
use crate::core::model::Millis;
use crate::core::remotewrite::decode::proto::{Exemplar, Label};

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetricType {
    Counter,
    Histogram,
    Info,
    Unknown,
}

/// The names of a window, for finding families.
struct Names<'a> {
    all: BTreeSet<&'a str>,
    /// Histograms, and whether newer readers keep their `le` unchanged.
    histograms: BTreeMap<&'a str, bool>,
}

/// One line is made of it, a value, and a time.
struct Member<'a> {
    head: String,
    /// Where it is in a point of a histogram: buckets by bound, then count and sum.
    rank: (u8, f64),
    exemplars: Exemplars<'a>,
}

/// The exemplars of a series that have not been written.
struct Exemplars<'a> {
    left: &'a [Exemplar],
    allowed: bool,
}

/// Writes the series of one tenant and one window, sorted by name and labels.
///
/// # Errors
/// When `out` fails, or a series is a native histogram.
pub fn write(series: &[Series], out: &mut dyn Write) -> Result<Written, FormatError> {
    let names = Names::of(series);
    let mut families: BTreeMap<&str, (MetricType, Vec<&Series>)> = BTreeMap::new();
    for one in series {
        let (family, kind) = names.family(one.name());
        families.entry(family).or_insert_with(|| (kind, Vec::new())).1.push(one);
    }
    let mut written = Written::default();
    for (family, (kind, members)) in families {
        writeln!(out, "# TYPE {family} {}", kind.text())?;
        // A metric is the series that differ in nothing but a bound; its lines stand together.
        let mut metrics: BTreeMap<Vec<(&str, &str)>, Vec<&Series>> = BTreeMap::new();
        for one in members {
            let own = one.rest().filter(|l| kind != MetricType::Histogram || l.name != "le");
            let key: Vec<(&str, &str)> = own.map(|l| (l.name.as_str(), l.value.as_str())).collect();
            metrics.entry(key).or_default().push(one);
        }
        for members in metrics.into_values() {
            written += write_metric(&members, out)?;
        }
    }
    writeln!(out, "# EOF")?;
    Ok(written)
}

/// Writes the points of one metric by time.
fn write_metric(series: &[&Series], out: &mut dyn Write) -> Result<Written, FormatError> {
    let mut written = Written::default();
    let mut members: Vec<Member<'_>> = Vec::new();
    let mut points: Vec<(Millis, u8, f64, usize, f64)> = Vec::new();
    for one in series {
        let member = Member::new(one);
        let (place, before) = (members.len(), points.len());
        points.extend(floats(one)?.map(|(at, value)| (at, member.rank.0, member.rank.1, place, value)));
        let samples = (points.len() - before) as u64;
        written.series += 1;
        written.samples += samples;
        written.markers_left += one.floats.len() as u64 - samples;
        written.exemplars_left += one.exemplars.len() as u64;
        members.push(member);
    }
    points.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)).then(a.3.cmp(&b.3)));
    for (at, _, _, place, value) in points {
        let member = &mut members[place];
        write!(out, "{} {} {}", member.head, number(value), seconds(at))?;
        if let Some(exemplar) = member.exemplars.until(at) {
            write_exemplar(exemplar, out)?;
            written.exemplars += 1;
            written.exemplars_left -= 1;
        }
        out.write_all(b"\n")?;
    }
    Ok(written)
}

fn write_exemplar(exemplar: &Exemplar, out: &mut dyn Write) -> io::Result<()> {
    write!(out, " # {} {} {}", braces(&exemplar.labels), number(exemplar.value), seconds(exemplar.timestamp))
}

// === impl MetricType ===

impl MetricType {
    fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Info => "info",
            Self::Unknown => "unknown",
        }
    }
}

// === impl Names ===

impl<'a> Names<'a> {
    fn of(series: &'a [Series]) -> Self {
        let all = series.iter().map(Series::name).collect();
        let mut histograms = BTreeMap::new();
        for one in series {
            if let (Some(base), Some(le)) = (one.name().strip_suffix("_bucket"), one.label("le")) {
                *histograms.entry(base).or_insert(true) &= is_canonical(le);
            }
        }
        Self { all, histograms }
    }

    /// The family of a metric. No two kinds share a family.
    fn family(&self, name: &'a str) -> (&'a str, MetricType) {
        let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
        if let Some(base) = of_histogram.filter(|base| self.histograms.get(base) == Some(&true)) {
            return (base, MetricType::Histogram);
        }
        for (end, kind) in [("_total", MetricType::Counter), ("_info", MetricType::Info)] {
            let base = name.strip_suffix(end).filter(|base| !base.is_empty());
            let taken = |base: &str| {
                let other = if end == "_total" { format!("{base}_info") } else { format!("{base}_total") };
                self.histograms.contains_key(base) || self.all.contains(base) || self.all.contains(other.as_str())
            };
            if let Some(base) = base.filter(|base| !taken(base)) {
                return (base, kind);
            }
        }
        (name, MetricType::Unknown)
    }
}

// === impl Member ===

impl<'a> Member<'a> {
    fn new(series: &'a Series) -> Self {
        let name = series.name();
        let rest: Vec<&Label> = series.rest().collect();
        let head = if rest.is_empty() { name.to_owned() } else { format!("{name}{}", braces(rest)) };
        let bound = series.label("le").and_then(|le| le.parse().ok());
        let rank = match bound {
            Some(bound) if name.ends_with("_bucket") => (0, bound),
            _ if name.ends_with("_count") => (1, 0.0),
            _ => (2, 0.0),
        };
        let allowed = name.ends_with("_total") || rank.0 == 0;
        Self { head, rank, exemplars: Exemplars { left: &series.exemplars, allowed } }
    }
}

// === impl Exemplars ===

impl<'a> Exemplars<'a> {
    /// The newest one that is not newer than a sample and not older than the one before.
    fn until(&mut self, at: Millis) -> Option<&'a Exemplar> {
        let (here, left) = self.left.split_at(self.left.partition_point(|e| e.timestamp <= at));
        self.left = left;
        here.last().filter(|_| self.allowed)
    }
}

/// Whether a bound is written as OpenMetrics wants it, so that no reader rewrites it.
fn is_canonical(le: &str) -> bool {
    let plain = |bound: f64| (1e-4..1e21).contains(&bound) && le.contains('.') && bound.to_string() == le;
    le == "+Inf" || le.parse().is_ok_and(plain)
}

fn braces<'a>(labels: impl IntoIterator<Item = &'a Label>) -> String {
    let mut out = String::from("{");
    for (i, label) in labels.into_iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let value = label.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        out.push_str(&format!("{comma}{}=\"{value}\"", label.name));
    }
    out.push('}');
    out
}

/// The shortest text that gives the same float.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value != 0.0 && !(1e-5..1e17).contains(&value.abs()) && !value.is_nan() {
        return format!("{value:e}");
    }
    value.to_string()
}

/// A time in seconds. Readers multiply the nearest float with 1000 and cut off what is behind the point: where that would
/// give the millisecond before, another digit lifts it.
fn seconds(at: Millis) -> String {
    let (whole, ms) = (at.div_euclid(1000), at.rem_euclid(1000));
    if ms == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{ms:03}");
    let read = text.parse().map_or(0.0, |seconds: f64| seconds * 1000.0);
    if read as Millis == at { text } else { format!("{text}2") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::window::tests::labels;
    use super::*;
    use crate::core::remotewrite::decode::STALE_MARKER;
    use crate::core::remotewrite::decode::proto::Histogram;

    fn series(pairs: &[(&str, &str)], floats: &[(Millis, f64)]) -> Series {
        let (tenant, labels) = (Arc::from("t"), labels(pairs));
        Series { tenant, labels, floats: floats.to_vec(), histograms: Vec::new(), exemplars: Vec::new() }
    }

    fn text(series: &[Series]) -> (String, Written) {
        let mut out = Vec::new();
        let written = write(series, &mut out).expect("no native histogram");
        (String::from_utf8(out).expect("text"), written)
    }

    #[test]
    fn points_of_a_histogram_stand_together_and_carry_their_exemplars() {
        let exemplar = |value, timestamp| Exemplar { labels: labels(&[("trace_id", "ab")]), value, timestamp };
        let mut inf = series(&[("__name__", "d_bucket"), ("a", "x"), ("le", "+Inf")], &[(1000, 2.0), (2000, 3.0)]);
        inf.exemplars = vec![exemplar(0.5, 900), exemplar(0.7, 950), exemplar(1e-7, 1500)];
        let mut count = series(&[("__name__", "d_count"), ("a", "x")], &[(1000, 2.0)]);
        count.exemplars = vec![exemplar(0.5, 900)];
        let half = series(&[("__name__", "d_bucket"), ("a", "x"), ("le", "0.5")], &[(1000, 1.0), (2000, 1.0)]);
        let sum = series(&[("__name__", "d_sum"), ("a", "x")], &[(1000, 1.5), (2000, f64::from_bits(STALE_MARKER))]);
        let (text, written) = text(&[inf, half, count, sum]);
        let lines = [
            "# TYPE d histogram",
            r#"d_bucket{a="x",le="0.5"} 1 1"#,
            r#"d_bucket{a="x",le="+Inf"} 2 1 # {trace_id="ab"} 0.7 0.950"#,
            r#"d_count{a="x"} 2 1"#,
            r#"d_sum{a="x"} 1.5 1"#,
            r#"d_bucket{a="x",le="0.5"} 1 2"#,
            r#"d_bucket{a="x",le="+Inf"} 3 2 # {trace_id="ab"} 1e-7 1.500"#,
            "# EOF\n",
        ];
        assert_eq!(text, lines.join("\n"));
        assert_eq!(written, Written { series: 4, samples: 6, exemplars: 2, markers_left: 1, exemplars_left: 2 });
    }

    #[test]
    fn families_follow_from_names_and_no_two_kinds_share_one() {
        let one = |name| series(&[("__name__", name)], &[(1000, 1.0)]);
        let types = |names: &[&'static str]| {
            let (text, _) = text(&names.iter().map(|n| one(*n)).collect::<Vec<_>>());
            let types: Vec<String> =
                text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).map(str::to_owned).collect();
            types
        };
        assert_eq!(
            types(&["a_total", "b_info", "c", "d_count"]),
            ["a counter", "b info", "c unknown", "d_count unknown"]
        );
        assert_eq!(types(&["a", "a_total"]), ["a unknown", "a_total unknown"]);
        assert_eq!(types(&["a_info", "a_total"]), ["a_info unknown", "a_total unknown"]);
    }

    #[test]
    fn a_histogram_whose_bounds_a_reader_would_rewrite_is_of_unknown_type() {
        let bucket = |le| series(&[("__name__", "d_bucket"), ("le", le)], &[(1000, 1.0)]);
        let exemplar = || Exemplar { labels: labels(&[("trace_id", "ab")]), value: 0.5, timestamp: 900 };
        let with = |one: Series| Series { exemplars: vec![exemplar()], ..one };
        let total = series(&[("__name__", "d_total")], &[(1000, 1.0)]);
        let (text, written) = text(&[with(bucket("1")), bucket("+Inf"), with(total)]);
        assert_eq!((written.exemplars, written.exemplars_left), (2, 0), "types decide nothing about exemplars");
        let lines = [
            "# TYPE d_bucket unknown",
            r#"d_bucket{le="+Inf"} 1 1"#,
            r#"d_bucket{le="1"} 1 1 # {trace_id="ab"} 0.5 0.900"#,
            "# TYPE d_total unknown",
            r#"d_total 1 1 # {trace_id="ab"} 0.5 0.900"#,
            "# EOF\n",
        ];
        assert_eq!(text, lines.join("\n"));
        for (le, canonical) in [("0.002", true), ("1.0", false), ("2", false), ("0.00001", false), ("12.8", true)] {
            assert_eq!(is_canonical(le), canonical, "{le}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let (text, _) = text(&[series(&[("__name__", "a"), ("b", "x\"\\\ny")], &[(1, 1.0)])]);
        assert!(text.contains(r#"a{b="x\"\\\ny"} 1 0.001"#), "{text}");
    }

    #[test]
    fn a_native_histogram_is_refused_by_name() {
        let mut native = series(&[("__name__", "d"), ("a", "b")], &[]);
        native.histograms.push((5, Histogram::default()));
        let error = write(&[native], &mut Vec::new()).expect_err("refused").to_string();
        assert!(error.starts_with(r#"d{a="b"} is a native histogram"#), "{error}");
    }

    proptest! {
        #[test]
        fn a_reader_that_cuts_and_one_that_rounds_see_the_time(at in 0i64..4_102_444_800_000) {
            let read: f64 = seconds(at).parse().expect("a number");
            prop_assert_eq!((read * 1000.0) as i64, at);
            prop_assert_eq!((read * 1000.0).round() as i64, at);
        }

        #[test]
        fn a_number_is_read_as_it_was(bits: u64) {
            let value = f64::from_bits(bits);
            let read: f64 = number(value).parse().expect("a number");
            prop_assert!(read.to_bits() == bits || value.is_nan());
        }
    }
}
