//! What a replay of files came to.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use super::super::finish::Finished;
use super::sending::Sending;
use crate::export::Delivered;
use crate::files::Place;
use crate::model::time::rfc3339;
use crate::model::{Ledger, Millis, Tally};
use crate::series::ClosedStep;
use crate::tasks::local::Local;

/// Problems that are told one by one; the rest is counted.
const TOLD: usize = 20;

/// What was read, what it gave, and what became of that.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Files that were found.
    pub files: u64,
    /// Bytes of them that were read, before decompression.
    pub bytes: u64,
    /// Requests that were read.
    pub records: u64,
    /// Messages and files that could not be read.
    pub unreadable: Problems,
    /// Spans in the records.
    pub spans: u64,
    /// The times of the first and of the last record, in milliseconds.
    pub times: Option<(Millis, Millis)>,
    /// Steps that were closed, the shards taken together.
    pub steps: u64,
    /// The last step up to which everything has been answered.
    pub settled: Option<Millis>,
    /// Series that the last steps have written.
    pub active_series: u64,
    /// Label sets that a limit refused.
    pub limited: u64,
    /// Samples, by what became of them.
    pub samples: Samples,
    /// Whether it ended before everything was read and settled.
    pub stopped: bool,
    /// How long it took.
    pub seconds: f64,
    /// What became of records, spans and half edges, without the lines that are zero.
    pub ledger: BTreeMap<&'static str, u64>,
    /// What has become of the spool, if there is one and everything was read.
    pub finished: Finished,
    #[serde(skip)]
    pub(super) last_step: Option<Millis>,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file, or `-`.
    pub file: String,
    /// Where in it; none if it is about the whole file, or the rest of it.
    pub at: Option<Place>,
    /// What is wrong.
    pub what: String,
}

/// Problems, the first of which are told one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Problems {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<Problem>,
}

/// Samples, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Samples {
    /// Handed over.
    pub built: u64,
    /// Stored by the receiver.
    pub acknowledged: u64,
    /// Refused because they were there.
    pub already_there: u64,
    /// Refused for good.
    pub rejected: u64,
}

// === impl Samples ===

impl Samples {
    pub(super) fn add(&mut self, delivered: &Delivered) {
        self.acknowledged += delivered.acknowledged;
        self.already_there += delivered.already_there;
        self.rejected += delivered.rejected;
    }
}

// === impl Problems ===

impl Problems {
    pub(super) fn add(&mut self, problem: Problem) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(problem);
        }
    }

    pub(super) fn merge(&mut self, later: Self) {
        let unlisted = later.count - later.first.len() as u64;
        later.first.into_iter().for_each(|problem| self.add(problem));
        self.count += unlisted;
    }
}

// === impl Problem ===

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Some(at) => write!(f, "{}, {at}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

// === impl Summary ===

impl Summary {
    /// Whether everything was read, and every sample is at the receiver.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.stopped && self.unreadable.count == 0 && self.samples.rejected == 0
    }

    pub(super) fn record(&mut self, at: Millis) {
        self.records += 1;
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
    }

    pub(super) fn step(&mut self, closed: &ClosedStep) {
        self.steps += u64::from(self.last_step.replace(closed.step) != Some(closed.step));
        self.samples.built += closed.samples;
    }

    pub(super) fn end(&mut self, local: &Local, sending: &Sending, took: Duration) {
        let ledger: Ledger = local.ledger();
        self.spans = ledger.get(Tally::SpansRead);
        self.ledger = ledger.iter().filter(|(_, n)| *n > 0).map(|(tally, n)| (tally.name(), n)).collect();
        (self.active_series, self.limited) = (local.active_series(), local.refused());
        self.samples = Samples { built: self.samples.built, ..sending.samples() };
        self.settled = sending.settled(self.stopped);
        self.seconds = took.as_secs_f64();
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { files, bytes, records, spans, seconds, .. } = self;
        let rate = *spans as f64 / seconds.max(1e-9);
        writeln!(
            out,
            "read      {files} files, {bytes} bytes, {records} records, {spans} spans in {seconds:.1} s, {rate:.0} spans/s"
        )?;
        if let Some((first, last)) = self.times {
            let (length, factor) = ((last - first) as f64 / 1e3, (last - first) as f64 / 1e3 / seconds.max(1e-9));
            writeln!(
                out,
                "of        {} to {}, {length:.1} s, {factor:.1} times real time",
                rfc3339(first),
                rfc3339(last)
            )?;
        }
        let Samples { built, acknowledged, already_there, rejected } = self.samples;
        writeln!(out, "written   {} steps, {} series at the end, {built} samples", self.steps, self.active_series)?;
        writeln!(out, "answered  {acknowledged} samples stored, {already_there} already there, {rejected} refused")?;
        if self.limited > 0 {
            writeln!(out, "limited   {} label sets", self.limited)?;
        }
        for (name, n) in &self.ledger {
            writeln!(out, "  {n:>14}  {name}")?;
        }
        if self.unreadable.count > 0 {
            writeln!(out, "{} messages could not be read:", self.unreadable.count)?;
            self.unreadable.first.iter().try_for_each(|problem| writeln!(out, "  {problem}"))?;
        }
        if self.stopped {
            let until =
                self.settled.map_or_else(|| "Nothing".to_owned(), |step| format!("Everything up to {}", rfc3339(step)));
            writeln!(
                out,
                "stopped early. {until} has been answered. Run it again with --resend: it sends the same samples."
            )?;
        }
        out.write_all(self.finished.text.as_bytes())
    }

    /// Writes it for programs.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}
