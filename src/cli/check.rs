//! `spanmill check`: says everything that is wrong with the settings, or what is in force and where it comes from.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{load_from, render_effective};
use crate::kafka;

/// The exit code for settings that are wrong, `EX_USAGE` of sysexits.
const WRONG: u8 = 64;

/// Checks the file at `path`, if any, with the environment and `--set path=value` flags over it. Returns the exit code:
/// 0 if the settings are good, 64 if not.
///
/// # Errors
/// Only those of writing to `out`.
pub fn run(path: Option<&Path>, set: &[String], out: &mut dyn Write) -> io::Result<u8> {
    match load_from(path, set) {
        Ok(loaded) => {
            if let Err(error) = kafka::client::check(&loaded.config.kafka) {
                writeln!(out, "{error}")?;
                return Ok(WRONG);
            }
            out.write_all(render_effective(&loaded).as_bytes())?;
            Ok(0)
        }
        Err(problems) => {
            writeln!(out, "{problems}")?;
            Ok(WRONG)
        }
    }
}
