//! `spanmill check`: says everything that is wrong with the settings, or what is in force and where it comes from; or
//! whether scenarios come out under these settings as their files say; or what a topic would cost under them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::survey::{self, AgainstError};
use crate::config::{Tenants, load_from, render_effective};
use crate::kafka;
use crate::tasks::cases::{Case, CaseError, Failure, Owners};

/// The exit code for settings that are wrong, `EX_USAGE` of sysexits.
const WRONG: u8 = 64;
/// The exit code for a scenario that comes out otherwise.
const FAILED: u8 = 1;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: super::ConfigArgs,
    /// Scenarios to play under these settings, in the language of tests/cases; prints what does not come out as they say.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    cases: Vec<PathBuf>,
    /// A topic to read under these settings: prints how many series its records would make, who makes them, and what the
    /// span-name sanitiser would merge. Nothing is sent, and no group is touched.
    #[arg(long, value_name = "TOPIC", conflicts_with = "cases")]
    against: Option<String>,
    /// How many of the latest records of the topic are read.
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "against")]
    records: u64,
}

/// Checks the settings, and plays the scenarios if there are any. Returns the exit code: 0 if all is well, 64 if the
/// settings are wrong, 1 if a scenario comes out otherwise.
///
/// # Errors
/// Only those of writing to `out`.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> io::Result<u8> {
    let loaded = match load_from(args.config.config.as_deref(), &args.config.set) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(out, "{problems}")?;
            return Ok(WRONG);
        }
    };
    if let Err(error) = kafka::client::check(&loaded.config.kafka) {
        writeln!(out, "{error}")?;
        return Ok(WRONG);
    }
    if let Some(topic) = &args.against {
        return match survey::against(&loaded.tenants, topic, args.records, out) {
            Ok(()) => Ok(0),
            Err(AgainstError::Write(error)) => Err(error),
            Err(error) => {
                writeln!(out, "{error}")?;
                Ok(FAILED)
            }
        };
    }
    if args.cases.is_empty() {
        out.write_all(render_effective(&loaded).as_bytes())?;
        return Ok(0);
    }
    let mut good = true;
    for file in &args.cases {
        good &= play(file, &loaded.tenants, out)?;
    }
    Ok(if good { 0 } else { FAILED })
}

/// Plays one scenario; true if all comes out as it says.
fn play(file: &Path, tenants: &Tenants, out: &mut dyn Write) -> io::Result<bool> {
    let name = file.display();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            writeln!(out, "{name}: cannot be read: {error}; check the path and its permissions")?;
            return Ok(false);
        }
    };
    let case = match Case::parse_over(&text, tenants) {
        Ok(case) => case,
        Err(CaseError { line, message }) => {
            writeln!(out, "{name}:{line}: {message}")?;
            return Ok(false);
        }
    };
    let report = case.run(Owners::One);
    for Failure { line, message } in &report.failures {
        writeln!(out, "{name}:{line}: {message}")?;
    }
    if report.checks == 0 {
        writeln!(out, "{name}: checks nothing; add a line such as `expect SERIES VALUE`")?;
    } else if report.failures.is_empty() {
        writeln!(out, "{name}: {} statements hold", report.checks)?;
    }
    Ok(report.checks > 0 && report.failures.is_empty())
}
