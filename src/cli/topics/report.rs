//! The state of every partition, and its problems.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sending::Sending;
use crate::core::model::Millis;
use crate::core::model::text::Shown;
use crate::core::model::time::{last_step, rfc3339};

/// Source partitions and shards of a group.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Report {
    group: String,
    /// When it was made, in milliseconds since the epoch.
    pub(in crate::cli) at: Millis,
    pub(in crate::cli) partitions: Vec<Row>,
    /// The problems of topics as a whole.
    pub(in crate::cli) problems: Vec<String>,
    #[serde(skip)]
    max_lag: Millis,
}

/// Which task a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Kind {
    /// A span task reads it.
    Source,
    /// A partition of the deltas topic.
    Shard,
}

/// One partition.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Row {
    kind: Kind,
    topic: String,
    partition: i32,
    /// The member that owns it: client ID and host. `None` if no member does, or the brokers do not report it.
    owner: Option<String>,
    #[serde(skip)]
    owner_known: bool,
    /// The lowest offset that is still there, and the one after the last.
    low: i64,
    end: i64,
    /// The offset after the last record that the journal covers.
    position: Option<i64>,
    pub(in crate::cli) lag_records: i64,
    /// How far the time of the partition is behind the clock, while records are unread.
    pub(in crate::cli) lag_seconds: Option<f64>,
    /// Stream time of a source partition, the last closed step of a shard.
    pub(in crate::cli) time: Option<Millis>,
    journal_records: u64,
    journal_bytes: u64,
    /// When the journal was written to last.
    pub(in crate::cli) committed: Option<Millis>,
    /// What the journal of a shard knows of its samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) sending: Option<Sending>,
    pub(in crate::cli) problems: Vec<String>,
}

// === impl Row ===

impl Row {
    pub(in crate::cli) fn new(kind: Kind, topic: &str, partition: i32, (low, end): (i64, i64)) -> Self {
        Self {
            kind,
            topic: topic.to_owned(),
            partition,
            owner: None,
            owner_known: false,
            low,
            end,
            position: None,
            lag_records: end - low,
            lag_seconds: None,
            time: None,
            journal_records: 0,
            journal_bytes: 0,
            committed: None,
            sending: None,
            problems: Vec::new(),
        }
    }

    pub(in crate::cli) fn owned_by(&mut self, owners: &Option<BTreeMap<(String, i32), String>>) {
        self.owner_known = owners.is_some();
        self.owner = owners.as_ref().and_then(|owners| owners.get(&(self.topic.clone(), self.partition)).cloned());
    }

    /// What the journal holds: the position and the time, or why it cannot be read; its records, bytes and last record.
    pub(in crate::cli) fn held(
        &mut self,
        state: &Result<(Option<i64>, Option<Millis>), &String>,
        (records, bytes, written): &(u64, u64, Option<Millis>),
    ) {
        (self.journal_records, self.journal_bytes, self.committed) = (*records, *bytes, *written);
        match state {
            Ok((position, time)) => (self.position, self.time) = (*position, *time),
            Err(error) => self.problems.push(format!("its journal cannot be restored: {error}")),
        }
    }

    /// Finds the problems.
    fn judge(&mut self, now: Millis, max_lag: Millis) {
        let position = self.position.unwrap_or(self.low);
        self.lag_records = self.end - position.max(self.low);
        let ended = self.time.is_some_and(|time| last_step(time).is_some());
        if self.lag_records > 0 && !ended {
            self.lag_seconds = self.time.map(|time| (now - time).max(0) as f64 / 1e3);
        }
        if position < self.low {
            self.problems.push(format!("{} records were deleted before they were read", self.low - position));
        }
        if self.owner_known && self.owner.is_none() {
            self.problems.push("no member of the group owns it".to_owned());
        }
        if self.lag_seconds.is_some_and(|lag| lag * 1e3 > max_lag as f64) {
            self.problems.push("lags by more than admin.ready_max_lag".to_owned());
        }
        if self.position.is_none() && self.problems.is_empty() && self.end > self.low {
            self.problems.push("nothing of it has been committed yet".to_owned());
        }
    }

    /// Its cells, as text: place, owner, unread records, lag, age of its time, age of the last commit, what only the wide form
    /// has, and its state.
    pub(in crate::cli) fn cells(&self, now: Millis, wide: bool) -> Vec<String> {
        let age = |at: Option<Millis>| at.map_or_else(|| "-".to_owned(), |at| seconds((now - at).max(0) as f64 / 1e3));
        let mut cells = vec![
            self.place(),
            self.owner(),
            self.lag_records.to_string(),
            self.lag_seconds.map_or_else(|| "0 s".to_owned(), seconds),
            self.age(now),
            age(self.committed),
        ];
        if wide {
            cells.extend([
                self.low.to_string(),
                self.position.map_or_else(|| "-".to_owned(), |position| position.to_string()),
                self.end.to_string(),
                self.time.filter(|time| last_step(*time).is_none()).map_or_else(|| "-".to_owned(), rfc3339),
                self.journal_records.to_string(),
                format!("{:.1} KiB", self.journal_bytes as f64 / 1024.0),
            ]);
        }
        cells.push(self.state());
        cells
    }

    /// Topic and partition.
    pub(in crate::cli) fn place(&self) -> String {
        format!("{}[{}]", Shown(&self.topic), self.partition)
    }

    pub(in crate::cli) fn owner(&self) -> String {
        match (&self.owner, self.owner_known) {
            (Some(owner), _) => Shown(owner).to_string(),
            (None, true) => "none".to_owned(),
            (None, false) => "?".to_owned(),
        }
    }

    /// The age of its time.
    pub(in crate::cli) fn age(&self, now: Millis) -> String {
        match self.time {
            Some(time) if last_step(time).is_some() => "ended".to_owned(),
            Some(time) => seconds((now - time).max(0) as f64 / 1e3),
            None => "-".to_owned(),
        }
    }

    /// Its problems, or that there is none.
    pub(in crate::cli) fn state(&self) -> String {
        if self.problems.is_empty() { "ok".to_owned() } else { Shown(&self.problems.join("; ")).to_string() }
    }
}

// === impl Report ===

impl Report {
    pub(in crate::cli) fn new(group: String, at: Millis, max_lag: Millis) -> Self {
        Self { group, at, partitions: Vec::new(), problems: Vec::new(), max_lag }
    }

    pub(in crate::cli) fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    pub(in crate::cli) fn add(&mut self, mut row: Row) {
        row.judge(self.at, self.max_lag);
        self.partitions.push(row);
    }

    /// Whether nothing is wrong.
    pub(super) fn is_well(&self) -> bool {
        self.problems.is_empty() && self.partitions.iter().all(|row| row.problems.is_empty())
    }

    /// The shards among the partitions.
    pub(in crate::cli) fn shards(&self) -> impl Iterator<Item = &Row> {
        self.partitions.iter().filter(|row| row.kind == Kind::Shard)
    }

    /// Two tables: source partitions and shards.
    pub(in crate::cli) fn table(&self, wide: bool) -> String {
        let mut out = format!("group {} at {}\n", Shown(&self.group), rfc3339(self.at));
        for (kind, title, time) in
            [(Kind::Source, "SOURCE PARTITION", "STREAM TIME AGE"), (Kind::Shard, "SHARD", "CLOSED STEP AGE")]
        {
            let mut head = vec![title, "OWNER", "UNREAD", "LAG", time, "LAST COMMIT"];
            if wide {
                head.extend(WIDE);
            }
            head.push("STATE");
            let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
            rows.extend(self.partitions.iter().filter(|row| row.kind == kind).map(|row| row.cells(self.at, wide)));
            if rows.len() > 1 {
                out.push('\n');
                out.push_str(&aligned(&rows));
            }
        }
        for problem in &self.problems {
            out.push_str(&format!("\n{}\n", Shown(problem)));
        }
        out
    }
}

/// What only the wide form has.
pub(in crate::cli) const WIDE: [&str; 6] = ["FROM", "READ UP TO", "END", "TIME", "JOURNAL RECORDS", "JOURNAL SIZE"];

/// Columns with two spaces between them.
pub(in crate::cli) fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(&format!("{cell:<width$}  ", width = width(column).unwrap_or_default()));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `0.4 s`, `12 s`, `3 min`, `5 h`.
pub(in crate::cli) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_700_000_100_000;

    fn row(kind: Kind, partition: i32, position: Option<i64>, behind: Millis) -> Row {
        let mut row = Row::new(kind, "spans", partition, (100, 200));
        row.held(&Ok((position, Some(NOW - behind))), &(3, 2_048, Some(NOW - 500)));
        row
    }

    fn owned(mut row: Row) -> Row {
        let owners = BTreeMap::from([(("spans".to_owned(), row.partition), "spanmill at 10.0.0.1".to_owned())]);
        row.owned_by(&Some(owners));
        row
    }

    #[test]
    fn a_group_that_is_well_has_no_lag_and_every_partition_an_owner() {
        let mut report = Report::new("mill".to_owned(), NOW, 60_000);
        report.add(owned(row(Kind::Source, 0, Some(200), 3_000)));
        report.add(owned(row(Kind::Shard, 0, Some(190), 5_000)));
        assert!(report.is_well(), "{}", report.table(true));
        let expected = "group mill at 2023-11-14T22:15:00Z\n\n\
            SOURCE PARTITION  OWNER                 UNREAD  LAG  STREAM TIME AGE  LAST COMMIT  STATE\n\
            spans[0]          spanmill at 10.0.0.1  0       0 s  3.0 s            0.5 s        ok\n\n\
            SHARD     OWNER                 UNREAD  LAG    CLOSED STEP AGE  LAST COMMIT  STATE\n\
            spans[0]  spanmill at 10.0.0.1  10      5.0 s  5.0 s            0.5 s        ok\n";
        assert_eq!(report.table(false), expected);
    }

    #[test]
    fn what_is_wrong_with_a_partition_is_named() {
        let mut report = Report::new("mill".to_owned(), NOW, 60_000);
        let mut unowned = row(Kind::Source, 0, Some(200), 0);
        unowned.owned_by(&Some(BTreeMap::new()));
        let mut damaged = Row::new(Kind::Source, "spans", 3, (0, 0));
        damaged.held(&Err(&"its end is missing".to_owned()), &(0, 0, None));
        for row in [unowned, row(Kind::Source, 1, Some(50), 90_000), row(Kind::Source, 2, None, 0), damaged] {
            report.add(row);
        }
        report.problem("source topic\u{1b}[2J".to_owned());
        let text = report.table(true);
        for said in [
            "no member of the group owns it",
            "50 records were deleted before they were read; lags by more than admin.ready_max_lag",
            "nothing of it has been committed yet",
            "its journal cannot be restored: its end is missing",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(text.contains("spans[1]          ?"), "its owner is not known: {text}");
        assert!(!report.is_well() && !text.contains('\u{1b}'), "{text}");
        let json = serde_json::json!(report);
        assert_eq!(json["partitions"][1]["lag_records"], 100);
        assert_eq!(json["partitions"][1]["lag_seconds"], 90.0);
    }
}
