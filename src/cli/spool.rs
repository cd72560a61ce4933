//! `spanmill spool`: what a replay that sent nothing has kept, as files, or beside what a server has.

use std::io::{self, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::replay::diff::DiffArgs;
use super::replay::finish::finish;
use super::replay::sink::{FileArgs, WINDOW};
use super::{ConfigArgs, USAGE};
use crate::config::load_from;
use crate::export::spool::{Contents, Reader};
use crate::model::time::rfc3339;

/// What to do with a spool.
#[derive(Debug, clap::Args)]
pub struct SpoolArgs {
    /// The directories that the workers of one run have written to
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    diff: DiffArgs,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Turns a spool into files, compares it, or says what is in it. Returns the exit code: 0 if all is well, 1 if something
/// cannot be done or differs, 64 if the settings are wrong.
///
/// # Errors
/// Only those of writing to `out`.
pub fn run(args: &SpoolArgs, out: &mut dyn Write) -> io::Result<u8> {
    if args.files.convert.is_none() && args.diff.url.is_none() {
        return show(args, out);
    }
    let loaded = match load_from(args.config.config.as_deref(), &args.config.set) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(out, "{problems}")?;
            return Ok(USAGE);
        }
    };
    // Nothing is drawn where there is no terminal.
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} samples, {per_sec}") {
        bar.set_style(style);
    }
    let remote_write = &loaded.config.remote_write;
    let done = finish(&args.dirs, &args.files, &args.diff, remote_write, &mut |samples| bar.inc(samples));
    bar.finish_and_clear();
    match done {
        Ok(done) => {
            if args.json {
                writeln!(out, "{}", serde_json::json!(done))?;
            } else {
                out.write_all(done.text.as_bytes())?;
            }
            Ok(u8::from(!done.is_equal()))
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            Ok(1)
        }
    }
}

fn show(args: &SpoolArgs, out: &mut dyn Write) -> io::Result<u8> {
    match Reader::open(&args.dirs, WINDOW) {
        Ok(reader) => {
            let contents = reader.contents();
            if args.json {
                writeln!(out, "{}", serde_json::json!(contents))?;
            } else {
                write_text(&contents, out)?;
            }
            Ok(0)
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            Ok(1)
        }
    }
}

fn write_text(contents: &Contents, out: &mut dyn Write) -> io::Result<()> {
    let Contents { requests, samples, bytes, steps } = contents;
    writeln!(out, "{samples} samples in {requests} requests, {bytes} bytes")?;
    let Some((first, last)) = steps else { return Ok(()) };
    writeln!(out, "steps from {} to {}", rfc3339(*first), rfc3339(*last))
}
