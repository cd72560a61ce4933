//! The display of the demo, as lines of text: pure.

use super::graph::{Edge, Side};
use crate::core::model::text::Shown;
use crate::core::model::{Counter, Ledger};
use crate::tools::receiver::Totals;
use crate::worker::telemetry::Samples;

/// Names are not cut below this while another column can be omitted.
const MIN_NAME: usize = 12;
const GAP: &str = "  ";

/// How a piece of text looks where there are colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
}

/// One line: pieces of text and their looks.
pub(super) type StyledLine = Vec<(Style, String)>;

/// The columns of the table, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Client,
    Server,
    Type,
    Rate,
    Errors,
    P50,
    P95,
}

/// The columns that are omitted first on a narrow terminal.
const DISPENSABLE: [Column; 4] = [Column::Type, Column::P50, Column::Errors, Column::Rate];

/// The table of the service graph, over `seconds` of traffic; `width` and `height` bound it, heading and notes included.
pub(super) fn table(edges: &[Edge], seconds: f64, width: usize, height: usize) -> Vec<StyledLine> {
    let (columns, widths) = layout(edges, seconds, width);
    let row = |cell: &dyn Fn(Column) -> (Style, String)| -> StyledLine {
        let mut line: StyledLine = Vec::new();
        for (&column, &width) in columns.iter().zip(&widths) {
            if !line.is_empty() {
                line.push((Style::Plain, GAP.to_owned()));
            }
            let (style, text) = cell(column);
            line.push((style, pad(&text, width, column.is_text())));
        }
        line
    };
    let by_client = edges.iter().any(|e| e.side == Side::Client);
    let room = height.saturating_sub(1 + usize::from(by_client));
    let shown = if edges.len() > room { room.saturating_sub(1) } else { edges.len() };
    let mut lines = vec![row(&|c| (Style::Bold, c.heading().to_owned()))];
    lines.extend(edges[..shown].iter().map(|edge| row(&|c| (c.style(edge), c.cell(edge, seconds)))));
    if shown < edges.len() {
        lines.push(vec![(Style::Dim, format!("... and {} more", edges.len() - shown))]);
    }
    if by_client && !edges.is_empty() {
        lines.push(vec![(Style::Dim, "* from client spans only: the server sends no spans".to_owned())]);
    }
    lines
}

/// The totals of spans, pending edges and samples.
pub(super) fn ledger(ledger: &Ledger, samples: Samples, receiver: &Totals) -> Vec<StyledLine> {
    use Counter as T;
    let of = |counters: &[T]| counters.iter().map(|&t| ledger.get(t)).sum::<u64>();
    let spans =
        [("counted", of(&[T::SpansCounted])), ("dropped", of(&[T::SpansDroppedInvalidUtf8, T::SpansDroppedDisabled]))];
    let expired = [T::EdgesExpiredClient, T::EdgesExpiredServer, T::EdgesExpiredProducer, T::EdgesExpiredConsumer];
    let edges = [
        ("completed", of(&[T::EdgesCompleted])),
        ("virtual", of(&[T::EdgesVirtual])),
        ("expired", of(&expired)),
        ("dropped", of(&[T::EdgesDroppedFull, T::EdgesDroppedInvalidUtf8, T::EdgesLost])),
        ("pending", u64::try_from(ledger.pending_edges()).unwrap_or(0)),
    ];
    let sent = [
        ("acknowledged", samples.acknowledged + samples.already_there),
        ("rejected", samples.rejected),
        ("abandoned", samples.abandoned),
        ("pending", samples.pending),
    ];
    let violations = if receiver.violations == 0 { Style::Plain } else { Style::Bad };
    vec![
        equation("spans", "read", of(&[T::SpansRead]), &spans),
        equation("edges", "opened", of(&[T::EdgesOpened]), &edges),
        equation("samples", "built", samples.built, &sent),
        vec![
            (Style::Bold, format!("{:<9}", "receiver")),
            (Style::Plain, format!("{} series, {} exemplars, ", count(receiver.series), count(receiver.exemplars))),
            (violations, format!("{} contradictions", count(receiver.violations))),
        ],
    ]
}

fn equation(what: &str, all: &str, total: u64, parts: &[(&str, u64)]) -> StyledLine {
    let parts: Vec<String> = parts.iter().map(|(name, n)| format!("{} {name}", count(*n))).collect();
    vec![(Style::Bold, format!("{what:<9}")), (Style::Plain, format!("{} {all} = {}", count(total), parts.join(" + ")))]
}

/// A line as characters, at most `width` of them, colored if wanted.
pub(super) fn paint(line: &StyledLine, width: usize, colors: bool) -> String {
    let mut out = String::new();
    let mut left = width;
    for (style, text) in line {
        let cut: String = Shown(text).to_string().chars().take(left).collect();
        left -= cut.chars().count();
        match style.code().filter(|_| colors && !cut.is_empty()) {
            Some(code) => out.push_str(&format!("\x1b[{code}m{cut}\x1b[0m")),
            None => out.push_str(&cut),
        }
    }
    out
}

/// A number with its thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The columns that fit, and how wide they are.
fn layout(edges: &[Edge], seconds: f64, width: usize) -> (Vec<Column>, Vec<usize>) {
    let mut columns = Column::ALL.to_vec();
    let mut dispensable = DISPENSABLE.iter();
    loop {
        let mut widths: Vec<usize> = columns
            .iter()
            .map(|c| edges.iter().map(|e| length(&c.cell(e, seconds))).max().unwrap_or(0).max(length(c.heading())))
            .collect();
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1);
        let over = total(&widths).saturating_sub(width);
        // Names are shortened down to a minimum, then columns are omitted.
        if over > widths[..2].iter().map(|&w| w.saturating_sub(MIN_NAME)).sum()
            && let Some(gone) = dispensable.next()
        {
            columns.retain(|c| c != gone);
            continue;
        }
        for _ in 0..over {
            let longest = usize::from(widths[1] > widths[0]);
            widths[longest] = (widths[longest] - 1).max(1);
        }
        return (columns, widths);
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, width: usize, left: bool) -> String {
    if length(text) > width {
        let cut: String = text.chars().take(width.saturating_sub(1)).collect();
        return format!("{cut}…");
    }
    if left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

/// A latency in the unit that suits it.
/// The greatest finite bound of `house::EDGE_BOUNDS`, in seconds.
const LAST_BOUND: f64 = 12.8;

fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        // The last bound is all that is known of what lies above it.
        Some(s) if s >= LAST_BOUND => format!(">{LAST_BOUND:.1} s"),
        Some(s) if s < 0.0995 => format!("{:.1} ms", s * 1e3),
        Some(s) if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        Some(s) => format!("{s:.2} s"),
    }
}

// === impl Style ===

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Good => Some("1;32"),
            Self::Bad => Some("31"),
        }
    }
}

// === impl Column ===

impl Column {
    const ALL: [Self; 7] = [Self::Client, Self::Server, Self::Type, Self::Rate, Self::Errors, Self::P50, Self::P95];

    fn is_text(self) -> bool {
        matches!(self, Self::Client | Self::Server | Self::Type)
    }

    fn style(self, edge: &Edge) -> Style {
        match self {
            Self::Type => Style::Dim,
            Self::Errors if edge.failed / edge.requests >= 0.05 => Style::Bad,
            _ => Style::Plain,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "   server",
            Self::Type => "type",
            Self::Rate => "req/s",
            Self::Errors => "errors",
            Self::P50 => "p50 ",
            Self::P95 => "p95 ",
        }
    }

    fn cell(self, edge: &Edge, seconds: f64) -> String {
        let star = if edge.side == Side::Client { "*" } else { " " };
        match self {
            Self::Client => Shown(&edge.client).to_string(),
            Self::Server => format!("-> {}", Shown(&edge.server)),
            Self::Type => Shown(&edge.connection).to_string(),
            Self::Rate => format!("{:.1}", edge.requests / seconds.max(1.0)),
            Self::Errors => format!("{:.1} %", 100.0 * edge.failed / edge.requests),
            Self::P50 => latency(edge.p50) + star,
            Self::P95 => latency(edge.p95) + star,
        }
    }
}
