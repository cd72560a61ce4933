//! `spanmill replay`: metrics of the past, at their own times.
//!
//! *In:* spans that Kafka still holds (`kafka`), or files (`files`). *Out:* samples to the receivers of the
//! configuration or to a spool (`target`), and a summary. *Next:* `sink` and `diff` for the use of a spool.

pub mod diff;
pub mod files;
pub mod finish;
pub mod kafka;
mod show;
pub mod sink;
mod target;
mod terminal;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use self::files::{FilesArgs, FilesError};
use self::kafka::{KafkaArgs, ReplayError};
use super::ConfigArgs;
use super::produce::duration;
pub use crate::worker::sender::preflight;
pub use target::{TargetArgs, TargetError};

/// What to replay, and the destination.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten, next_help_heading = "From Kafka")]
    kafka: KafkaArgs,
    #[command(flatten, next_help_heading = "From files instead")]
    files: FilesArgs,
    #[command(flatten, next_help_heading = "To where")]
    target: TargetArgs,
    #[command(flatten, next_help_heading = "Reports")]
    report: ReportArgs,
}

/// What to report.
#[derive(Debug, Clone, clap::Args)]
pub struct ReportArgs {
    /// Print only the summary, as JSON, to standard output
    #[arg(long)]
    pub json: bool,
    /// Interval of progress reports without a terminal; 0s: none
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub print_every: Duration,
}

/// A replay that could not begin or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From Kafka.
    #[error(transparent)]
    Kafka(#[from] ReplayError),
    /// From files.
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// Replays. Returns the exit code: 0 if everything was read and stored (and equal, if it was compared), 1 if something is left,
/// was refused or differs, 64 if the settings or the arguments are wrong.
///
/// # Errors
/// When the replay cannot start or continue.
pub fn run(args: &ReplayArgs, stop: &Arc<AtomicBool>) -> Result<u8, Error> {
    let ReplayArgs { config, kafka, files, target, report } = args;
    if files.files.is_empty() {
        Ok(kafka::run(config, kafka, target, report, stop)?)
    } else {
        Ok(files::run(config, files, target, report, stop)?)
    }
}
