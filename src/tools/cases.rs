//! Cases: small scenarios of spans and their expected results, in a readable language.
//!
//! *In:* the text of a case. *Out:* a [`Report`]. *Owner:* the test suite, and users who want to test the metrics of
//! their own spans. *Never:* a file, a clock.
//!
//! # The language
//!
//! One statement per line; words are separated by blanks, and a word that holds blanks stands in `"quotes"` (with `\"`,
//! `\\`, `\n`, and `\xff` for any byte). Lines that start with `#` are comments.
//!
//! ```text
//! case      = { line }
//! line      = "set" KEY VALUE              a key of the configuration, as `--set KEY=VALUE`. Before the first record.
//!           | "override" TENANT KEY VALUE  the same for one tenant
//!           | "clock" TIME                 the present; without it, no record comes from the future
//!           | "tenant" NAME | "tenant" "-" of the following records; "-": they name none
//!           | "at" TIME                    a record with this timestamp; its spans follow
//!           | "again" TIME                 the record before, delivered once more
//!           | "garbage" TIME               a record that is no OTLP request
//!           | "from" NAME { ATTRIBUTE }    the service of the spans that follow; "-": none
//!           | "scope" NAME [ VERSION ]     the instrumentation scope of the spans that follow, up to the next `from`
//!           | KIND NAME { FIELD | ATTRIBUTE }                 a span
//!           | "event" NAME { ATTRIBUTE }   an event of the span before
//!           | "tick" TIME                  the partition has been silent until then
//!           | "expect" SERIES VALUE [ "in" TIME ]   the value of a series by now; or what the step that ends then has added
//!           | "absent" SERIES              no series has this name and these labels, whatever else it has
//!           | "exemplar" SERIES { FIELD }  the best example of a bucket so far: trace, end, took
//!           | "tally" NAME VALUE           a line of the ledger
//!           | "pending" VALUE              pending edges
//! KIND      = "client" | "server" | "producer" | "consumer" | "internal" | "unspecified" | "kind:" NUMBER
//! FIELD     = "trace=" ID | "id=" ID | "parent=" ID | "start=" TIME | "end=" TIME | "took=" DURATION
//!           | "status=" ( "unset" | "ok" | "error" | NUMBER ) | "message=" TEXT | "state=" TEXT (the `tracestate`)
//!           | "link=" ID ":" ID            a link to a span: its trace and its ID
//! ATTRIBUTE = "@" KEY "=" VALUE            a bare true, 7 or 0.5 is what it looks like; nothing: an attribute without value
//! SERIES    = NAME [ "{" LABEL "=" "\"" TEXT "\"" { "," ... } "}" ]
//! ID        = hexadecimal digits, filled up with zeros on the left | "raw:" hexadecimal digits as they are
//! TIME      = seconds since the epoch, such as 1.25
//! DURATION  = a number with ns, us, ms or s; may be negative for a span that ends before it starts
//! ```
//!
//! The VALUE of a key is the rest of the line, such as `[a, {name: b, default: none}]`; it may stand in quotes.
//!
//! A bucket of a native histogram is asked for as `NAME{..., native="SCHEMA", bucket="INDEX"}`, the one of zero as
//! `bucket="zero"`; it is not cumulative. `NAME_count` and `NAME_sum` give the rest, as of classic histograms.
//!
//! A span without `trace` belongs to trace 1; without `start` it starts at the record's timestamp; without `took` or
//! `end` it takes no time; without `parent` it is a root; without `id` it has none.

mod parse;
mod record;
mod words;

use crate::config::{Config, Tenants};
use crate::core::model::{Counter, Exemplar, Millis};
use crate::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use crate::tools::totals::{Series, Totals, TotalsError};

/// A case, ready to run.
#[derive(Debug, Clone)]
pub struct Case {
    settings: SpanSettings,
    steps: Vec<(usize, Step)>,
}

/// A case that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct CaseError {
    /// The line, from 1.
    pub line: usize,
    /// The problem.
    pub message: String,
}

/// The result of a case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many statements were checked.
    pub checks: usize,
    /// Those that do not hold.
    pub failures: Vec<Failure>,
}

/// A statement that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its line, from 1.
    pub line: usize,
    /// What is true instead.
    pub message: String,
}

/// How a case is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// By one owner from the first record to the last.
    One,
    /// By a new owner after every record, which knows only the journal. The result must not change.
    OneForEachRecord,
}

#[derive(Debug, Clone)]
enum Step {
    Record(Owned),
    Clock(Millis),
    Tick(Millis),
    Expect { tenant: String, series: Series, value: f64, step: Option<Millis> },
    Absent { tenant: String, series: Series },
    Exemplar { tenant: String, series: Series, exemplar: Exemplar },
    Counter(Counter, u64),
    Pending(u64),
}

#[derive(Debug, Clone)]
struct Owned {
    timestamp: Millis,
    tenant: Option<String>,
    value: Vec<u8>,
}

/// A partition, its owner and its journal.
struct World<'a> {
    settings: &'a SpanSettings,
    task: SpanTask,
    now: Millis,
    records: Vec<&'a Owned>,
    last: Option<StepCut>,
    totals: Totals,
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// Names the first line that is not in the language.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        Self::parse_over(text, &Tenants::from(Config::default()))
    }

    /// Reads a case whose settings are laid over these.
    ///
    /// # Errors
    /// Names the first line that is not in the language.
    pub fn parse_over(text: &str, base: &Tenants) -> Result<Self, CaseError> {
        parse::parse(text, base)
    }

    /// Runs it.
    #[must_use]
    pub fn run(&self, owners: Owners) -> Report {
        let mut report = Report::default();
        let mut world = World::new(&self.settings);
        for (line, step) in &self.steps {
            let outcome = world.step(step, owners);
            report.checks += usize::from(!matches!(step, Step::Record(_) | Step::Clock(_) | Step::Tick(_)));
            report.failures.extend(outcome.err().map(|message| Failure { line: *line, message }));
        }
        report
    }
}

// === impl Failure ===

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

// === impl World ===

impl<'a> World<'a> {
    fn new(settings: &'a SpanSettings) -> Self {
        let task = task(settings, Restored { next: Some(0), ..Restored::default() });
        Self { settings, task, now: Millis::MAX, records: Vec::new(), last: None, totals: Totals::default() }
    }

    fn step(&mut self, step: &'a Step, owners: Owners) -> Result<(), String> {
        match step {
            Step::Clock(now) => self.now = *now,
            Step::Record(record) => {
                self.records.push(record);
                self.offer(self.records.len() - 1)?;
                if owners == Owners::OneForEachRecord {
                    self.hand_over()?;
                }
            }
            Step::Tick(to) => {
                while let Some(cut) = self.task.tick(*to) {
                    self.commit(Some(cut))?;
                }
            }
            Step::Expect { .. } | Step::Absent { .. } | Step::Exemplar { .. } => {
                self.settle()?;
                let cut = self.task.cut();
                self.commit(cut)?;
                return self.check(step);
            }
            Step::Counter(counter, value) => {
                self.settle()?;
                equal(self.task.ledger().get(*counter), *value)?;
            }
            Step::Pending(value) => {
                self.settle()?;
                equal(self.task.pending_edges() as u64, *value)?;
            }
        }
        Ok(())
    }

    fn offer(&mut self, offset: usize) -> Result<(), String> {
        let Owned { timestamp, tenant, value } = self.records[offset];
        let record = Record { offset: offset as i64, timestamp: *timestamp, tenant: tenant.as_deref(), value };
        while let Offer::CutFirst { cut } = self.task.offer(&record, self.now) {
            self.commit(Some(*cut))?;
        }
        Ok(())
    }

    /// Expectations are about all records so far.
    fn settle(&mut self) -> Result<(), String> {
        self.task.settle().into_iter().try_for_each(|cut| self.commit(Some(cut)))
    }

    fn commit(&mut self, cut: Option<StepCut>) -> Result<(), String> {
        let Some(cut) = cut else { return Ok(()) };
        let added = cut.delta_records.iter().flatten().try_for_each(|delta_record| self.totals.add(delta_record));
        self.last = Some(cut);
        added.map_err(|error: TotalsError| error.to_string())
    }

    /// The owner is gone; the next one starts with the last commit.
    fn hand_over(&mut self) -> Result<(), String> {
        let cut = self.task.cut();
        self.commit(cut)?;
        let Some(last) = &self.last else { return Ok(()) };
        let next = last.to;
        let restored = Restored {
            next: Some(next),
            next_commit_number: last.commit_number + 1,
            stream_time: Some(last.stream_time),
            step: Some(last.step),
            reread_from: last.reread_from,
            live: last.live.clone(),
            ledger: last.ledger.clone(),
        };
        self.task = task(self.settings, restored);
        let from = self.task.start_offset().unwrap_or(next);
        for offset in from..next {
            self.offer(offset as usize)?;
        }
        self.task.reached(next);
        // Records that no commit covers, because their time was doubtful, are read again.
        for offset in next as usize..self.records.len() {
            self.offer(offset)?;
        }
        Ok(())
    }

    fn check(&self, step: &Step) -> Result<(), String> {
        match step {
            Step::Expect { tenant, series, value, step } => {
                let values = self.totals.values_in(tenant, |of| step.is_none_or(|step| step == of));
                match values.get(series) {
                    Some(found) if (found - value).abs() <= 1e-12 * value.abs().max(1.0) => Ok(()),
                    Some(found) => Err(format!("{series} is {found}, not {value}")),
                    None => Err(format!("{series} is missing{}", others(values.keys(), &series.name))),
                }
            }
            Step::Absent { tenant, series } => {
                let matches = |s: &&Series| s.name == series.name && series.labels.iter().all(|l| s.labels.contains(l));
                match self.totals.values(tenant).keys().find(matches) {
                    Some(found) => Err(format!("found {found}")),
                    None => Ok(()),
                }
            }
            Step::Exemplar { tenant, series, exemplar } => {
                let exemplars = self.totals.exemplars(tenant);
                match exemplars.get(series) {
                    Some(found) if found == exemplar => Ok(()),
                    Some(found) => Err(format!("the exemplar of {series} is {found:?}, not {exemplar:?}")),
                    None => Err(format!("{series} has no exemplar{}", others(exemplars.keys(), &series.name))),
                }
            }
            _ => Ok(()),
        }
    }
}

/// The list of pending edges is always one that a task made.
fn task(settings: &SpanSettings, restored: Restored) -> SpanTask {
    let mut task = SpanTask::new(settings, "case".to_owned(), 0, restored).expect("a list made by a task decodes");
    task.doubt_first();
    task
}

fn equal(found: u64, value: u64) -> Result<(), String> {
    if found == value { Ok(()) } else { Err(format!("it is {found}, not {value}")) }
}

fn others<'s>(all: impl Iterator<Item = &'s Series>, name: &str) -> String {
    let same: Vec<_> = all.filter(|s| s.name == name).map(Series::to_string).collect();
    if same.is_empty() { format!(", and there is no {name}") } else { format!("; found {}", same.join(" and ")) }
}

#[cfg(test)]
mod tests;
