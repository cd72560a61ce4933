//! The explanation for people.

use std::fmt::{self, Display, Formatter};

use super::report::{Edge, ExplainedSpan, Explanation, Link, Reason, Trace, WholeTrace};
use super::series::{SeriesSet, Value};
use crate::core::model::text::Shown;

/// Deeper spans are not indented further.
const DEEPEST: usize = 12;
/// What stands below a span is indented by so many columns.
const BELOW: usize = 4;

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, trace) in self.traces.iter().enumerate() {
            write!(f, "{}{trace}", if i == 0 { "" } else { "\n" })?;
        }
        if self.omitted > 0 {
            writeln!(f, "{} more spans are not explained", self.omitted)?;
        }
        Ok(())
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { trace_id, sources, spans, whole } = self;
        writeln!(f, "trace {trace_id}: {} spans in {}", spans.len(), Shown(&sources.join(", ")))?;
        if sources.len() > 1 {
            writeln!(f, "WARNING: spans in different partitions never make an edge; partition the topic by trace ID")?;
        }
        spans.iter().try_for_each(|span| write!(f, "{span}"))?;
        whole.iter().try_for_each(|whole| write_whole(f, whole))
    }
}

impl Display for ExplainedSpan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let indent = self.depth.min(DEEPEST) * 2;
        let kind = self.kind.trim_start_matches("SPAN_KIND_").to_lowercase();
        let status = match self.status.trim_start_matches("STATUS_CODE_") {
            "UNSET" => String::new(),
            status => format!(", status {}", status.to_lowercase()),
        };
        let service = self.service.as_deref().unwrap_or("(no service)");
        let seconds = self.duration_ns as f64 / 1e9;
        writeln!(
            f,
            "{:indent$}{} / {} ({kind}, span {}, {seconds} s{status}, {})",
            "",
            Shown(service),
            Shown(&self.name),
            self.span_id,
            Shown(&self.place)
        )?;
        let below = indent + BELOW;
        writeln!(f, "{:below$}metrics: {}", "", if self.counted { "counted" } else { "not counted" })?;
        write_reasons(f, &self.reasons, below + 2)?;
        self.series.iter().try_for_each(|set| write_set(f, set, below + 2))?;
        let edges = if self.edges.is_empty() { "none" } else { "" };
        writeln!(f, "{:below$}edges:{}{edges}", "", if edges.is_empty() { "" } else { " " })?;
        write_reasons(f, &self.edge_reasons, below + 2)?;
        self.edges.iter().try_for_each(|edge| write_edge(f, edge, below + 2))
    }
}

fn write_whole(f: &mut Formatter<'_>, whole: &WholeTrace) -> fmt::Result {
    let WholeTrace { closed, open_spans, late_spans, series } = whole;
    let closed = match closed {
        0 => "not closed".to_owned(),
        1 => "closed".to_owned(),
        n => format!("closed {n} times"),
    };
    write!(f, "as a whole: {closed}")?;
    for (n, what) in [(open_spans, "wait for it to close"), (late_spans, "came late")] {
        if *n > 0 {
            write!(f, ", {n} spans {what}")?;
        }
    }
    writeln!(f)?;
    series.iter().try_for_each(|set| write_set(f, set, BELOW))
}

fn write_edge(f: &mut Formatter<'_>, edge: &Edge, indent: usize) -> fmt::Result {
    let Edge { outcome, client, server, connection_type, with, waits, series, reasons } = edge;
    write!(f, "{:indent$}{} -> {}, {outcome}", "", Shown(client), Shown(server))?;
    if !connection_type.is_empty() {
        write!(f, ", {}", Shown(connection_type))?;
    }
    for Link { span_id, service } in with {
        write!(f, ", with span {span_id} of {}", Shown(service.as_deref().unwrap_or("(no service)")))?;
    }
    writeln!(f, "{}", if *waits { ", unless its peer still comes" } else { "" })?;
    write_reasons(f, reasons, indent + 2)?;
    write_set(f, series, indent + 2)
}

fn write_reasons(f: &mut Formatter<'_>, reasons: &[Reason], indent: usize) -> fmt::Result {
    for Reason { code, text, setting } in reasons {
        writeln!(f, "{:indent$}{code}: {}", "", Shown(text))?;
        if let Some(setting) = setting {
            let (key, value, origin) = (Shown(&setting.key), Shown(&setting.value), Shown(&setting.origin));
            writeln!(f, "{:indent$}  {key} = {value}   # {origin}", "")?;
        }
    }
    Ok(())
}

fn write_set(f: &mut Formatter<'_>, set: &SeriesSet, indent: usize) -> fmt::Result {
    write!(f, "{:indent$}{{", "")?;
    for (i, (name, value)) in set.labels.iter().enumerate() {
        write!(f, "{}{}={:?}", if i == 0 { "" } else { ", " }, Shown(name), value)?;
    }
    writeln!(f, "}}")?;
    for metric in &set.metrics {
        match metric {
            Value::Counter { name, value } => writeln!(f, "{:indent$}  {} +{value}", "", Shown(name))?,
            Value::Gauge { name } => writeln!(f, "{:indent$}  {} =1", "", Shown(name))?,
            Value::Histogram { name, count, sum, le } => {
                write!(f, "{:indent$}  {} +{count} of {sum}", "", Shown(name))?;
                writeln!(f, "{}", le.as_ref().map_or(String::new(), |le| format!(", le={le:?}")))?;
            }
        }
    }
    Ok(())
}
