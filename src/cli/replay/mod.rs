//! `spanmill replay`: metrics of the past, at their own times.

pub mod kafka;
mod show;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::kafka::{KafkaArgs, ReplayError};

/// What to replay.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: super::ConfigArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
}

/// Replays. Returns the exit code: 0 if everything was read and stored, 1 if something is left or was refused, 64 if the
/// settings or the arguments are wrong.
///
/// # Errors
/// When the replay cannot start or go on.
pub fn run(args: &ReplayArgs, stop: &Arc<AtomicBool>) -> Result<u8, ReplayError> {
    kafka::run(&args.config, &args.kafka, stop)
}
