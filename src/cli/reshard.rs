//! `spanmill reshard`: another number of shards for a group whose workers are stopped.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{ConfigArgs, console};
use crate::core::model::text::ShownAs;
use crate::worker::reshard::{How, Resharded, Stage, reshard};
use crate::worker::telemetry::Telemetry;

/// Into how many shards a group is divided.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Series continue: no counter is reset, no sample is sent twice or never. All workers of the group must be stopped, and the \
receivers must answer. The command needs the memory of all shards at once. It can be interrupted at any moment: the group \
then has the number of shards that it had, or the new one, and running the command again completes it.

Afterwards set kafka.shards to the new number and start the workers.")]
pub struct ReshardArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The number of shards that the group is to have; the group knows the present one, so kafka.shards is not read.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::config::settings::MAX_SHARDS)))]
    shards: u32,
    /// How long to wait while receivers take nothing of what they lack.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = patience)]
    timeout: Duration,
}

fn patience(text: &str) -> Result<Duration, String> {
    let ms = crate::config::duration(text)?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

/// Divides the group. Returns the exit code: 0 if it has the wanted number of shards, 1 if not, 64 if the settings are wrong.
///
/// # Errors
/// Only those of writing to `out`.
pub fn run(args: &ReshardArgs, stop: &Arc<AtomicBool>, out: &mut dyn Write) -> io::Result<u8> {
    let loaded = match args.config.prepare() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let how = How { shards: args.shards, patience: args.timeout, stop: Arc::clone(stop) };
    let mut told = Ok(());
    let mut tell = |stage: Stage| {
        told = writeln!(out, "{stage} …").and_then(|()| out.flush());
        told.is_ok()
    };
    let done = reshard(loaded.config, Telemetry::new(), &how, &mut tell);
    told?;
    match done {
        Ok(done) => {
            write_done(&done, out)?;
            Ok(0)
        }
        Err(unfinished) => {
            console::say(&ShownAs(unfinished));
            Ok(1)
        }
    }
}

fn write_done(done: &Resharded, out: &mut dyn Write) -> io::Result<()> {
    let Resharded { before, after, delta_records, steps, batches, label_sets, left } = done;
    writeln!(
        out,
        "{} label sets of {} shards are in {} shards now; before, {delta_records} delta records were sent again, \
         {steps} steps closed, and {batches} batches sent to receivers",
        label_sets, before.shards, after.shards
    )?;
    writeln!(out, "set kafka.shards to {} for all workers, and start them", after.shards)?;
    writeln!(out, "nothing reads these topics any more, delete them when you like: {}", left.join(", "))
}
