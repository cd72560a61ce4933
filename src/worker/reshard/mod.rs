//! Changes the number of shards of a group whose workers are stopped.
//!
//! Every step but the last leaves the present sharding valid, and can be repeated:
//!
//! 1. Acquire all shards, and let them count the delta records of all commits: `counting`.
//! 2. Close the steps in all shards that one of them has closed, and send what receivers lack: `sending`.
//! 3. Divide the series, and write journals of a sharding that no worker looks at yet: `dividing`.
//! 4. Reserve all journals of the group for that sharding, so that nothing of an earlier one counts any more. If a
//!    journal has grown since, end here.
//! 5. Append the record that makes it the present one.
//!
//! *In:* the topics of a group. *Out:* journals of new shards, one record that switches to them; samples that receivers
//! lacked. *Owner:* the command. *Never:* a member of a group; a change that an interruption leaves half done: see
//! `docs/internals/protocol.md`. *Next:* workers with the new `kafka.shards`.

mod counting;
mod dividing;
mod error;
mod sending;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use self::error::{ReshardError, Unfinished};
use crate::config::Config;
use crate::core::journal::Sharding;
use crate::core::settings::HistogramMode;
use crate::worker::group::{self, Parts};
use crate::worker::kafka::inspect::Inspector;
use crate::worker::kafka::topics::Topics;
use crate::worker::restore::{Means, Offline, TakeoverError, log_reader};
use crate::worker::sender::Exporter;
use crate::worker::task::WorkerError;
use crate::worker::telemetry::Telemetry;

/// How long an append may take.
const APPENDS_WITHIN: Duration = Duration::from_secs(30);

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// All shards count the delta records of all commits.
    Count,
    /// What receivers lack is sent.
    Send,
    /// The series are divided.
    Divide,
    /// Journals are reserved for the new sharding.
    Reserve,
    /// The record is appended that switches to it.
    Switch,
}

/// What has been done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resharded {
    /// The sharding that the group had; number 0 for the first one.
    pub before: Sharding,
    /// The one that it has now.
    pub after: Sharding,
    /// Delta records that some shard had not received.
    pub delta_records: usize,
    /// Steps that were closed so that all shards had closed the same ones.
    pub steps: usize,
    /// Batches that receivers lacked.
    pub batches: usize,
    /// The label sets of all shards.
    pub label_sets: usize,
    /// Topics of the earlier sharding, which nothing reads any more.
    pub left: Vec<String>,
}

/// How to do it.
#[derive(Debug, Clone)]
pub struct How {
    /// The number of shards that the group is to have.
    pub shards: u32,
    /// How long to wait for a receiver that takes nothing.
    pub patience: Duration,
    /// Ends it early.
    pub stop: Arc<AtomicBool>,
}

/// An attempt.
struct Attempt<'a> {
    offline: Offline<'a>,
    topics: &'a Topics,
    how: &'a How,
    before: Sharding,
    tell: &'a mut dyn FnMut(Stage) -> bool,
}

/// Changes the number of shards of the group of `config`. `tell` hears of each stage before it begins, and returns whether it
/// is to begin.
///
/// # Errors
/// When workers are running, Kafka or a receiver does not answer, or a journal has lost something.
pub fn reshard(
    config: Config,
    telemetry: Telemetry,
    how: &How,
    tell: &mut dyn FnMut(Stage) -> bool,
) -> Result<Resharded, Unfinished> {
    let mut reserved = false;
    attempt(config, telemetry, how, (tell, &mut reserved)).map_err(|why| Unfinished { why: Box::new(why), reserved })
}

fn attempt(
    mut config: Config,
    telemetry: Telemetry,
    how: &How,
    (tell, reserved): (&mut dyn FnMut(Stage) -> bool, &mut bool),
) -> Result<Resharded, ReshardError> {
    let before = present(&mut config)?;
    let parts = parts(config, telemetry)?;
    parts.clients.names.enter(before.number);
    let topics = Topics::new(&parts.clients.config.kafka)?.named(&parts.clients.names);
    nothing_runs(&parts)?;
    let means = Means { stop: Arc::clone(&how.stop), ..parts.means() };
    let reader = log_reader(&parts.clients)?;
    let offline = Offline { means: &means, reader: &reader };
    let done = Attempt { offline, topics: &topics, how, before, tell }.run(reserved);
    parts.clients.exporter.stop(Duration::from_secs(1));
    done
}

/// The present sharding; settings are those of its shards from now on.
fn present(config: &mut Config) -> Result<Sharding, ReshardError> {
    let topics = Topics::new(&config.kafka)?;
    let found = topics.enter_sharding()?;
    let deltas = topics.names().deltas();
    let partitions = topics.partitions(&deltas)?.ok_or(ReshardError::NotRun(deltas))?;
    config.kafka.shards = partitions.unsigned_abs();
    Ok(found.unwrap_or(Sharding { number: 0, shards: config.kafka.shards }))
}

/// The clients of a worker, and its senders.
fn parts(config: Config, telemetry: Telemetry) -> Result<Parts, ReshardError> {
    let exporter = Exporter::start(&config.remote_write, telemetry.clone()).map_err(WorkerError::from)?;
    exporter.look_ahead(config.core.time.step.ms(), config.core.histograms.mode != HistogramMode::Classic);
    let (tenants, _) = group::at_start(config, &exporter, &telemetry)?;
    Ok(Parts::new(tenants, telemetry, exporter, None)?)
}

/// Checks that neither group has members, and lets questions about shards be asked without one.
fn nothing_runs(parts: &Parts) -> Result<(), ReshardError> {
    let (kafka, names) = (&parts.clients.config.kafka, &parts.clients.names);
    for group in [kafka.group.clone(), names.shards_group()] {
        let members = Inspector::new(kafka, &group)?.members(&group)?;
        if !members.is_empty() {
            return Err(ReshardError::Members { group, members });
        }
    }
    parts.groups.ask_by(Inspector::new(kafka, &names.shards_group())?);
    Ok(())
}

// === impl Attempt ===

impl Attempt<'_> {
    fn run(mut self, reserved: &mut bool) -> Result<Resharded, ReshardError> {
        self.begin(Stage::Count)?;
        let mut journals = self.journals()?;
        *reserved = journals.iter().any(|journal| journal.sharding > self.before.number);
        if self.before.shards == self.how.shards && !*reserved {
            return Err(ReshardError::Same(self.how.shards));
        }
        let mut shards = self.acquire()?;
        let delta_records = self.count(&mut shards, &mut journals)?;
        self.begin(Stage::Send)?;
        let steps = self.close(&mut shards)?;
        let batches = self.send(&mut shards)?;
        self.begin(Stage::Divide)?;
        let (after, written) = (self.next_sharding()?, self.commits_of(&shards));
        self.topics.ensure_sharding(after)?;
        let label_sets = self.divide(shards, after)?;
        self.begin(Stage::Reserve)?;
        *reserved = true;
        self.reserve(&journals, &written, after)?;
        self.begin(Stage::Switch)?;
        self.switch(after)?;
        let names = self.topics.names();
        let left = vec![names.deltas(), names.series_journal()];
        Ok(Resharded { before: self.before, after, delta_records, steps, batches, label_sets, left })
    }

    fn begin(&mut self, stage: Stage) -> Result<(), ReshardError> {
        let goes_on = !self.how.stop.load(Ordering::Relaxed) && (self.tell)(stage);
        if goes_on { Ok(()) } else { Err(ReshardError::Stopped(stage)) }
    }
}

/// Errors of acquiring are texts: they are the same that a worker logs.
impl From<TakeoverError> for ReshardError {
    fn from(error: TakeoverError) -> Self {
        match error {
            TakeoverError::Kafka(error) => Self::Kafka(error),
            other => Self::Journal(other.to_string()),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count all delta records",
            Self::Send => "send what receivers lack",
            Self::Divide => "divide the series",
            Self::Reserve => "reserve the journals",
            Self::Switch => "switch to the new shards",
        })
    }
}
