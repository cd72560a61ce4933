//! What was read → tables: pure. Every text from outside is escaped here.

use super::snapshot::Snapshot;
use super::state::Tab;
use super::table::{Cell, Column, Level, Row, Sort, Table};
use crate::cli::topics::report::{self, Report, WIDE};
use crate::core::model::text::Shown;
use crate::core::model::time::rfc3339;
use crate::tools::map::{EdgeView, MetricView, NodeView, SubjectView, Values};

/// From these ratios of failures on, a row is emphasized, as the page does.
const FAILING: [f64; 2] = [0.01, 0.05];
/// The columns of the numbers of a service or an edge.
const NUMBERS: [Column; 4] =
    [Column::number("RATE/S"), Column::number("ERRORS"), Column::number("P50"), Column::number("P95")];

/// What a tab is sorted by at first.
pub(super) fn first_sort(tab: Tab) -> Sort {
    match tab {
        Tab::Services => Sort { column: 1, descending: true },
        Tab::Edges => Sort { column: 2, descending: true },
        // In the order of `topics`: it is the order in which they were read.
        Tab::Partitions => Sort { column: usize::MAX, descending: false },
        Tab::Series => Sort { column: 3, descending: true },
        Tab::LabelSets => Sort { column: 5, descending: true },
        Tab::Samples => Sort { column: usize::MAX, descending: false },
    }
}

/// The table of a tab.
pub(super) fn table(snapshot: &Snapshot, tab: Tab) -> Table {
    match tab {
        Tab::Services => services(snapshot),
        Tab::Edges => edges(snapshot),
        Tab::Partitions => partitions(snapshot),
        Tab::Series => series(snapshot),
        Tab::LabelSets => label_sets(snapshot),
        Tab::Samples => samples(snapshot),
    }
}

fn services(snapshot: &Snapshot) -> Table {
    let mut columns = vec![Column::text("SERVICE")];
    columns.extend(NUMBERS);
    columns.extend([Column::text("TYPE"), Column::text("COUNTS").wide()]);
    let row = |node: &NodeView| {
        let mut cells = vec![text(&node.id)];
        cells.extend(numbers(node.now.as_ref()));
        cells.extend([Cell::text(node.kind.name()), Cell::text(node.of)]);
        Row { cells, level: level(node.now.as_ref()) }
    };
    Table { columns, rows: snapshot.services.iter().map(row).collect(), notes: Vec::new() }
}

fn edges(snapshot: &Snapshot) -> Table {
    let mut columns = vec![Column::text("CLIENT"), Column::text("SERVER")];
    columns.extend(NUMBERS);
    let wide = [Column::text("LATENCY OF"), Column::text("FIRST SEEN"), Column::text("LAST SEEN")];
    columns.push(Column::text("TYPE"));
    columns.extend(wide.map(Column::wide));
    let row = |edge: &EdgeView| {
        let mut cells = vec![text(&edge.client), text(&edge.server)];
        cells.extend(numbers(edge.now.as_ref()));
        let times = [edge.first_seen, edge.last_seen].map(|at| Cell::text(rfc3339(at)));
        cells.extend([Cell::text(edge.kind), Cell::text(edge.side)].into_iter().chain(times));
        Row { cells, level: level(edge.now.as_ref()) }
    };
    Table { columns, rows: snapshot.edges.iter().map(row).collect(), notes: Vec::new() }
}

fn partitions(snapshot: &Snapshot) -> Table {
    let mut columns = vec![
        Column::text("PARTITION"),
        Column::text("OWNER"),
        Column::number("UNREAD"),
        Column::number("LAG"),
        Column::number("TIME AGE"),
        Column::number("LAST COMMIT"),
    ];
    // Their texts are those of `topics`, so they are not sorted as numbers.
    columns.extend(WIDE.map(|title| Column::text(title).wide()));
    columns.push(Column::text("STATE"));
    let Some(report) = &snapshot.partitions else {
        return Table { columns, rows: Vec::new(), notes: vec!["the partitions are being read".to_owned()] };
    };
    let rows = report.partitions.iter().map(|row| partition(report, row)).collect();
    let notes = report.problems.iter().map(|problem| Shown(problem).to_string()).collect();
    Table { columns, rows, notes }
}

fn partition(report: &Report, row: &report::Row) -> Row {
    let age = |at: Option<i64>| at.map(|at| (report.at - at) as f64);
    let sorted_by = [Some(row.lag_records as f64), row.lag_seconds.or(Some(0.0)), age(row.time), age(row.committed)];
    let mut cells: Vec<Cell> = row.cells(report.at, true).into_iter().map(Cell::text).collect();
    for (cell, number) in cells.iter_mut().skip(2).zip(sorted_by) {
        cell.number = Some(number.unwrap_or(f64::NEG_INFINITY));
    }
    let level = if row.problems.is_empty() { Level::Plain } else { Level::Bad };
    Row { cells, level }
}

fn samples(snapshot: &Snapshot) -> Table {
    let columns = vec![
        Column::text("SHARD"),
        Column::text("OWNER").wide(),
        Column::number("CLOSED AGE"),
        Column::number("ACKNOWLEDGED AGE"),
        Column::number("UNACKNOWLEDGED"),
        Column::number("WAITING"),
        Column::text("SKIPPED FOR"),
        Column::number("STALL TIMEOUTS").wide(),
        Column::text("STATE"),
    ];
    let Some(report) = &snapshot.samples else {
        return Table { columns, rows: Vec::new(), notes: vec!["the journals are being read".to_owned()] };
    };
    let row = |row: &report::Row| {
        let sending = row.sending.clone().unwrap_or_default();
        let [acknowledged, unacknowledged, waiting, skipped, stall_timeouts] = sending.cells(report.at);
        let age = |at: Option<i64>| at.map(|at| (report.at - at) as f64);
        let cells = vec![
            Cell::text(row.place()),
            Cell::text(row.owner()),
            Cell::number(age(row.time), row.age(report.at)),
            Cell::number(age(sending.acknowledged), acknowledged),
            Cell::number(Some(sending.unacknowledged as f64), unacknowledged),
            Cell::number(Some(sending.undelivered_bytes as f64), waiting),
            Cell::text(skipped),
            Cell::number(Some(sending.stall_timeouts as f64), stall_timeouts),
            Cell::text(row.state()),
        ];
        let level = match (row.problems.is_empty(), sending.waits()) {
            (false, _) => Level::Bad,
            (true, true) => Level::Warning,
            (true, false) => Level::Plain,
        };
        Row { cells, level }
    };
    let notes = vec!["as of the latest step-close records: one step that is not acknowledged is normal".to_owned()];
    Table { columns, rows: report.shards().map(row).collect(), notes }
}

fn series(snapshot: &Snapshot) -> Table {
    let columns = vec![
        Column::text("TENANT"),
        Column::text("METRIC"),
        Column::number("LABEL SETS"),
        Column::number("SERIES"),
        Column::number("SHARE"),
    ];
    let all: u64 = snapshot.series.iter().map(|metric| metric.series).sum();
    let row = |metric: &MetricView| {
        let share = metric.series as f64 / all.max(1) as f64;
        let count = |n: u64| Cell::number(Some(n as f64), n.to_string());
        let cells = vec![
            text(&metric.tenant),
            text(&metric.metric),
            count(metric.label_sets),
            count(metric.series),
            Cell::number(Some(share), percent(share)),
        ];
        Row { cells, level: Level::Plain }
    };
    let mut notes = vec![format!("{all} series in all, before the limits of tenants")];
    if snapshot.quiet > 0 {
        notes.push(format!("{} label sets of snapshots have counted nothing since this view began", snapshot.quiet));
    }
    Table { columns, rows: snapshot.series.iter().map(row).collect(), notes }
}

fn label_sets(snapshot: &Snapshot) -> Table {
    let columns = vec![
        Column::text("TENANT"),
        Column::text("SERVICE"),
        Column::text("OPERATION OR CALLEE"),
        Column::text("KIND"),
        Column::text("STATUS"),
        Column::number("LABEL SETS"),
    ];
    let row = |subject: &SubjectView| {
        let status = match (subject.kind, subject.failed) {
            ("edge", _) => "-",
            (_, true) => "failed",
            (_, false) => "ok",
        };
        let kind = if subject.kind == "edge" { format!("{} edge", subject.of) } else { subject.of.clone() };
        let cells = vec![
            text(&subject.tenant),
            text(&subject.service),
            text(&subject.name),
            text(&kind),
            Cell::text(status),
            Cell::number(Some(subject.label_sets as f64), subject.label_sets.to_string()),
        ];
        Row { cells, level: Level::Plain }
    };
    Table { columns, rows: snapshot.label_sets.iter().map(row).collect(), notes: Vec::new() }
}

/// A text from outside.
fn text(text: &str) -> Cell {
    Cell::text(Shown(text).to_string())
}

fn level(values: Option<&Values>) -> Level {
    match values {
        None => Level::Quiet,
        Some(values) if values.errors >= FAILING[1] => Level::Bad,
        Some(values) if values.errors >= FAILING[0] => Level::Warning,
        Some(_) => Level::Plain,
    }
}

fn numbers(values: Option<&Values>) -> [Cell; 4] {
    let quantile = |value: Option<f64>, at_most: Option<f64>, more_than: Option<f64>| {
        let sign = if at_most.is_some() {
            "< "
        } else if more_than.is_some() {
            "> "
        } else {
            ""
        };
        // In the first bucket only its bound is known.
        let shown = at_most.or(value);
        Cell::number(shown, shown.map_or_else(|| "-".to_owned(), |ms| format!("{sign}{}", milliseconds(ms))))
    };
    let Some(v) = values else { return [(); 4].map(|()| Cell::number(None, "-")) };
    [
        Cell::number(Some(v.rate), rate(v.rate)),
        Cell::number(Some(v.errors), percent(v.errors)),
        quantile(v.p50, v.p50_le, v.p50_gt),
        quantile(v.p95, v.p95_le, v.p95_gt),
    ]
}

/// `0.03`, `4.2`, `120`, `15300`.
fn rate(rate: f64) -> String {
    match rate {
        r if r < 1.0 => format!("{r:.2}"),
        r if r < 100.0 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p <= 0.0 => "0 %".to_owned(),
        p if p < 0.1 => "< 0.1 %".to_owned(),
        p => format!("{p:.1} %"),
    }
}

/// `0.8 ms`, `12 ms`, `1.3 s`.
fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1e3),
        ms => report::seconds(ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_a_reader_needs() {
        assert_eq!([0.034, 4.25, 120.4, 15_300.2].map(rate), ["0.03", "4.2", "120", "15300"]);
        assert_eq!([0.0, 0.0004, 0.012, 1.0].map(percent), ["0 %", "< 0.1 %", "1.2 %", "100.0 %"]);
        let all = [0.84, 12.4, 1_300.0, 90_000.0].map(milliseconds);
        assert_eq!(all, ["0.8 ms", "12 ms", "1.3 s", "90 s"]);
    }

    #[test]
    fn a_quantile_that_is_only_bounded_is_shown_with_its_bound() {
        let values = Values {
            p50: Some(40.0),
            p50_le: Some(100.0),
            p95: Some(12_800.0),
            p95_gt: Some(12_800.0),
            ..Values::default()
        };
        let [_, _, p50, p95] = numbers(Some(&values));
        assert_eq!((&*p50.text, &*p95.text), ("< 100 ms", "> 12.8 s"));
        assert!(numbers(None).iter().all(|cell| cell.text == "-" && cell.number == Some(f64::NEG_INFINITY)));
    }

    #[test]
    fn failures_are_emphasized_from_the_shares_of_the_page_on() {
        let of = |errors| level(Some(&Values { errors, ..Values::default() }));
        assert_eq!([0.0, 0.01, 0.05].map(of), [Level::Plain, Level::Warning, Level::Bad]);
        assert_eq!(level(None), Level::Quiet);
    }
}
