//! `spanmill spool`: converts the stored samples of a replay to files, or compares them with a server.

use std::io::{self, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::replay::diff::DiffArgs;
use super::replay::finish::finish;
use super::replay::sink::{FileArgs, WINDOW};
use super::{ConfigArgs, USAGE};
use crate::config::load_from;
use crate::core::model::text::{Shown, ShownAs};
use crate::core::model::time::rfc3339;
use crate::tools::spool::{Contents, Identity, Reader};

/// What to do with a spool.
#[derive(Debug, clap::Args)]
pub struct SpoolArgs {
    /// Directories that the workers of one run have written
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

/// Converts a spool to files, compares it, or describes its content. Returns the exit code: 0 if all is well, 1 if
/// something cannot be done or differs, 64 if the settings are wrong.
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
        Ok(mut done) => {
            done.incomplete = incomplete(&args.dirs);
            if let Some(run) = &done.incomplete {
                let run = Shown(run);
                done.text.push_str(&format!(
                    "run {run} is not complete: samples of records that it has not read yet are missing; finish the \
                     run and repeat this command\n"
                ));
            }
            if args.json {
                writeln!(out, "{}", serde_json::json!(done))?;
            } else {
                out.write_all(done.text.as_bytes())?;
            }
            Ok(u8::from(!done.is_equal()))
        }
        Err(error) => {
            writeln!(out, "{}", ShownAs(error))?;
            Ok(1)
        }
    }
}

/// The run of a spool whose identity records that something is missing. The reader of the samples reports what cannot be read.
fn incomplete(dirs: &[PathBuf]) -> Option<String> {
    let identities = dirs.iter().filter_map(|dir| Identity::read(dir).ok().flatten());
    identities.filter(|identity| !identity.complete).map(|identity| identity.run).next()
}

fn show(args: &SpoolArgs, out: &mut dyn Write) -> io::Result<u8> {
    match Reader::open(&args.dirs, WINDOW) {
        Ok(reader) => {
            let contents = reader.contents();
            if args.json {
                writeln!(out, "{}", serde_json::json!(Facts { contents, identity: reader.identity() }))?;
            } else {
                write_text(&contents, reader.identity(), out)?;
            }
            Ok(0)
        }
        Err(error) => {
            writeln!(out, "{}", ShownAs(error))?;
            Ok(1)
        }
    }
}

/// The content of a spool, as JSON.
#[derive(serde::Serialize)]
struct Facts<'a> {
    #[serde(flatten)]
    contents: Contents,
    /// The run of the samples, if that is known.
    identity: Option<&'a Identity>,
}

fn write_text(contents: &Contents, identity: Option<&Identity>, out: &mut dyn Write) -> io::Result<()> {
    let Contents { requests, samples, bytes, steps } = contents;
    writeln!(out, "{samples} samples in {requests} requests, {bytes} bytes")?;
    if let Some((first, last)) = steps {
        writeln!(out, "steps from {} to {}", rfc3339(*first), rfc3339(*last))?;
    }
    let Some(Identity { run, inputs, settings, complete, .. }) = identity else { return Ok(()) };
    let state = if *complete { "complete" } else { "not complete" };
    writeln!(out, "run {}, {state}, of", Shown(run))?;
    inputs.iter().chain(settings).try_for_each(|line| writeln!(out, "  {}", Shown(line)))
}
