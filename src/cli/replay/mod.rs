//! `spanmill replay`: metrics of the past, at their own times.

pub mod files;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use files::{FilesArgs, FilesError};

/// What to replay.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: super::ConfigArgs,
    #[command(flatten)]
    files: FilesArgs,
}

/// Replays. Returns the exit code: 0 if everything was read and stored, 1 if something was not, 64 if the settings or the
/// arguments are wrong.
///
/// # Errors
/// When the replay cannot start or go on.
pub fn run(args: &ReplayArgs, stop: &Arc<AtomicBool>) -> Result<u8, FilesError> {
    files::run(&args.config, &args.files, stop)
}
