//! The result of a replay of files.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use super::super::finish::Finished;
use super::input::FileRecord;
use super::sending::Sending;
use crate::core::model::text::{Shown, ShownAs};
use crate::core::model::time::rfc3339;
use crate::core::model::{Counter, Ledger, Millis};
use crate::core::series::ClosedStep;
use crate::tools::files::FilePosition;
use crate::tools::local::Local;
use crate::tools::slos::{SloResult, table};
use crate::worker::sender::Delivered;

/// Problems that are listed one by one; further ones are counted.
const TOLD: usize = 20;

/// The input, the output and the results of delivery.
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
    /// Those of them that have no end.
    pub unfinished: u64,
    /// Those of them that hold an implausible time; they count at the time of their message.
    pub odd_times: Problems,
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
    /// Samples, by result.
    pub samples: SentSamples,
    /// Whether it ended before everything was read and settled.
    pub stopped: bool,
    /// Why it could not continue, if it could not.
    pub failed: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// The ledger of records, spans and pending edges, without the lines that are zero.
    pub ledger: BTreeMap<&'static str, u64>,
    /// What service level objectives come to, over everything that was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slos: Vec<SloResult>,
    /// The result of the spool, if there is one and everything was read.
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
    pub at: Option<FilePosition>,
    /// The problem.
    pub what: String,
}

/// Problems, the first of which are listed one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Problems {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<Problem>,
}

/// Samples, by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct SentSamples {
    /// Passed to the sender.
    pub built: u64,
    /// Stored by the receiver.
    pub acknowledged: u64,
    /// Refused because they were there.
    pub already_there: u64,
    /// Rejected.
    pub rejected: u64,
    /// Not sent, by `write_relabel_configs`.
    pub filtered: u64,
}

// === impl SentSamples ===

impl SentSamples {
    pub(super) fn add(&mut self, delivered: &Delivered) {
        self.acknowledged += delivered.acknowledged;
        self.already_there += delivered.already_there;
        self.rejected += delivered.rejected;
        self.filtered += delivered.filtered;
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

    /// Writes them as text.
    ///
    /// # Errors
    /// Those of `out`.
    pub(in crate::cli) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_as("messages could not be read", out)
    }

    /// The same for problems of another kind.
    fn write_as(&self, kind: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        writeln!(out, "{} {kind}:", self.count)?;
        self.first.iter().try_for_each(|problem| writeln!(out, "  {problem}"))?;
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => writeln!(out, "  and {more} more"),
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
            Some(at) => write!(f, "{}, {at}: {}", Shown(&self.file), ShownAs(&self.what)),
            None => write!(f, "{}: {}", Shown(&self.file), ShownAs(&self.what)),
        }
    }
}

// === impl Summary ===

impl Summary {
    /// Whether everything was read, and every sample is at the receiver.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.stopped && self.failed.is_none() && self.unreadable.count == 0 && self.samples.rejected == 0
    }

    pub(super) fn record(&mut self, record: &FileRecord) {
        let at = record.timestamp;
        self.records += 1;
        self.unfinished += record.unfinished;
        if let Some((spans, error)) = &record.odd {
            let what = error.to_string();
            self.odd_times.add(Problem { file: record.file.to_string(), at: Some(record.at), what });
            self.odd_times.count += spans - 1;
        }
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
    }

    pub(super) fn step(&mut self, closed: &ClosedStep) {
        self.steps += u64::from(self.last_step.replace(closed.step) != Some(closed.step));
        self.samples.built += closed.samples;
    }

    pub(super) fn end(&mut self, local: &Local, sending: &Sending, took: Duration) {
        let ledger: Ledger = local.ledger();
        self.spans = ledger.get(Counter::SpansRead);
        self.ledger = ledger.iter().filter(|(_, n)| *n > 0).map(|(counter, n)| (counter.name(), n)).collect();
        (self.active_series, self.limited) = (local.active_series(), local.refused());
        self.samples = SentSamples { built: self.samples.built, ..sending.samples() };
        self.settled = sending.settled(self.stopped);
        self.seconds = took.as_secs_f64();
    }

    /// Writes it as text.
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
        let SentSamples { built, acknowledged, already_there, rejected, filtered } = self.samples;
        writeln!(out, "written   {} steps, {} series at the end, {built} samples", self.steps, self.active_series)?;
        writeln!(out, "answered  {acknowledged} samples stored, {already_there} duplicates, {rejected} rejected")?;
        if filtered > 0 {
            writeln!(out, "filtered  {filtered} samples not sent, by write_relabel_configs")?;
        }
        if self.limited > 0 {
            writeln!(out, "limited   {} label sets", self.limited)?;
        }
        for (name, n) in &self.ledger {
            writeln!(out, "  {n:>14}  {name}")?;
        }
        out.write_all(table(&self.slos).as_bytes())?;
        self.write_trouble(out)?;
        out.write_all(self.finished.text.as_bytes())
    }

    /// Writes the warnings.
    fn write_trouble(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.records > 0 && self.spans == 0 {
            writeln!(out, "the records contain no spans: nothing to count")?;
        }
        if self.unfinished > 0 {
            writeln!(
                out,
                "{} spans have no end time: they are counted with a duration of 0 in the oldest open step",
                self.unfinished
            )?;
        }
        self.odd_times.write_as("spans have an impossible time, and are counted at the time of their message", out)?;
        self.unreadable.write(out)?;
        if let Some(why) = &self.failed {
            writeln!(out, "failed: {}", ShownAs(why))?;
        }
        if self.stopped {
            let until =
                self.settled.map_or_else(|| "Nothing".to_owned(), |step| format!("Everything up to {}", rfc3339(step)));
            writeln!(
                out,
                "stopped early. {until} has been answered. Run the command again with --resend: it sends the same \
                 samples."
            )?;
        }
        Ok(())
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}
