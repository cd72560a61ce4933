//! `spanmill topics`: the progress of the workers of a group, by partition. It queries Kafka only, so it also works
//! while no worker runs.

pub(super) mod look;
pub(super) mod report;
pub(super) mod sending;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::look::Looker;
use self::report::Report;
use super::produce::wall_clock;
use super::{ConfigArgs, USAGE};
use crate::config::load_from;
use crate::core::model::text::ShownAs;

/// How often `--watch` refreshes.
const EVERY: Duration = Duration::from_secs(2);

/// How to show it.
#[derive(Debug, clap::Args)]
pub struct TopicsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Show it again every 2 seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// How to print it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

/// A format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// What is needed to see whether all is well.
    Table,
    /// The same with offsets, and what the internal topics hold.
    Wide,
    /// One JSON object a look.
    Json,
}

/// Shows every source partition and every shard of a group. Returns the exit code: 0 if all is well, 1 if something is not or
/// Kafka does not answer, 64 if the settings are wrong.
///
/// # Errors
/// Only those of writing to `out`.
pub fn run(args: &TopicsArgs, stop: &AtomicBool, out: &mut dyn Write) -> io::Result<u8> {
    let loaded = match load_from(args.config.config.as_deref(), &args.config.set) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(out, "{problems}")?;
            return Ok(USAGE);
        }
    };
    let mut looker = match Looker::new(&loaded.config) {
        Ok(looker) => looker,
        Err(error) => {
            writeln!(out, "{}", ShownAs(error))?;
            return Ok(1);
        }
    };
    loop {
        let code = match looker.look(wall_clock()) {
            Ok(report) => {
                write(&report, args.output, out)?;
                u8::from(!report.is_well())
            }
            Err(error) => {
                writeln!(out, "{}", ShownAs(error))?;
                1
            }
        };
        let next = Instant::now() + EVERY;
        while args.watch && Instant::now() < next && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        if !args.watch || stop.load(Ordering::Relaxed) {
            return Ok(code);
        }
    }
}

fn write(report: &Report, output: Output, out: &mut dyn Write) -> io::Result<()> {
    match output {
        Output::Table => out.write_all(report.table(false).as_bytes())?,
        Output::Wide => out.write_all(report.table(true).as_bytes())?,
        Output::Json => writeln!(out, "{}", serde_json::json!(report))?,
    }
    out.flush()
}
