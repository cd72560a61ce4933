//! `spanmill explain`: what became of the spans of a trace, and which setting decided.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::produce::{duration, wall_clock};
use super::replay::files::{FileFormat, FilesArgs, FilesError, Problems, each_record, of_files};
use super::{ConfigArgs, console};
use crate::config::Loaded;
use crate::core::model::Seed;
use crate::core::model::text::ShownAs;
use crate::core::tasks::span::Record;
use crate::tools::explain::{ExplainError, Explainer, Explanation, Searched, TraceId};
use crate::tools::replay::{At, Bound, RunError, Wanted, propose};
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::scan::Scanner;
use crate::worker::kafka::{KafkaError, tenant};

/// The partition that files are.
const FILES: (&str, i32) = ("files", 0);

/// Brackets would be links in the documentation.
const FROM: &str = "Start of the range: record time (such as 2026-11-20T10:00:00Z), offset, `earliest` or `now`, \
                    optionally prefixed by TOPIC= or TOPIC[PARTITION]=. Repeatable; the most specific one applies \
                    [default: earliest]";

/// Which traces, and where they are looked for.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// ID of the trace, in hexadecimal. Repeatable: spans of linked traces meet only if all are there
    #[arg(long, value_name = "ID", required = true, value_parser = trace_id)]
    trace: Vec<TraceId>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Where to begin; see [`Bound`].
    #[arg(long, value_name = "POINT", help = FROM, help_heading = "From Kafka")]
    from: Vec<Bound>,
    /// End of the range (exclusive), in the same form [default: now]
    #[arg(long, value_name = "POINT", help_heading = "From Kafka")]
    to: Vec<Bound>,
    /// Begin this long before the present, by record time
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "from", help_heading = "From Kafka")]
    since: Option<Duration>,
    /// Read these files instead of Kafka, as `replay --files` does; `-` is standard input
    #[arg(
        long,
        value_name = "PATH",
        num_args = 1..,
        conflicts_with_all = ["from", "to", "since"],
        help_heading = "From files instead"
    )]
    files: Vec<PathBuf>,
    /// Format of the messages in the files [default: detected per message]
    #[arg(long, value_enum, requires = "files", help_heading = "From files instead")]
    format: Option<FileFormat>,
    /// Tenant of all spans in the files; required if `tenant.source` refers to Kafka
    #[arg(long, value_name = "NAME", requires = "files", help_heading = "From files instead")]
    tenant: Option<String>,
}

/// An explanation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainCommandError {
    /// Kafka did not do what was asked.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The range cannot be read.
    #[error(transparent)]
    Range(#[from] RunError),
    /// The files cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The explanation itself failed.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// It could not be written.
    #[error("cannot write the explanation: {0}")]
    Write(#[from] io::Error),
}

/// Explains the traces. Returns the exit code: 0 if all were found, 1 if not, 64 if the settings or the arguments are wrong.
///
/// # Errors
/// When files or topics cannot be read, or the output cannot be written.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<u8, ExplainCommandError> {
    let given = if args.files.is_empty() { None } else { Some(of_files(&args.config)) };
    let config = given.as_ref().unwrap_or(&args.config);
    let loaded = match config.prepare() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let mut explainer = Explainer::new(&loaded, args.trace.clone(), Seed::new(rand::random()));
    let (explanation, unreadable) = if args.files.is_empty() {
        read_kafka(args, &loaded, &mut explainer)?;
        // What was read up to a time that was given is over; at the end of a topic more may come.
        (explainer.finish(!args.to.is_empty())?, Problems::default())
    } else {
        let unreadable = read_files(args, &loaded, &mut explainer)?;
        (explainer.finish(true)?, unreadable)
    };
    if args.json {
        writeln!(out, "{}", serde_json::json!(explanation))?;
    } else {
        write!(out, "{explanation}")?;
    }
    unreadable.write(&mut console::err())?;
    Ok(u8::from(!all_found(args, &explanation)))
}

fn read_files(
    args: &ExplainArgs,
    loaded: &Loaded,
    explainer: &mut Explainer<'_>,
) -> Result<Problems, ExplainCommandError> {
    let files = FilesArgs {
        files: args.files.clone(),
        format: args.format,
        tenant: args.tenant.clone(),
        ui: None,
        trace_url: None,
        resend: false,
    };
    let now = wall_clock();
    let each = &mut |record: &Record<'_>, place: &dyn Fn() -> String| {
        explainer.record(FILES, record, now, place).map_err(|error| FilesError::Other(error.to_string()))
    };
    Ok(each_record(&loaded.tenants, &files, &Arc::default(), each)?)
}

/// Reads the range as a plain reader, in no group.
fn read_kafka(args: &ExplainArgs, loaded: &Loaded, explainer: &mut Explainer<'_>) -> Result<(), ExplainCommandError> {
    let now = wall_clock();
    let ago = |since: Duration| now.saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).max(0);
    let since = args.since.map(|since| Bound { topic: None, partition: None, at: At::Time(ago(since)) });
    let from: Vec<Bound> = args.from.iter().cloned().chain(since).collect();
    let plan = propose(loaded, &Wanted { from: &from, to: &args.to, honor: None }, now)?;
    let scanner = Scanner::new(&loaded.config.kafka)?;
    for p in &plan.partitions {
        let stretch = Stretch { topic: &p.topic, partition: p.partition, from: p.from, to: p.to };
        let source = loaded.config.tenant_of(&p.topic);
        scanner.read(stretch, &mut |m| {
            use rdkafka::message::Message as _;
            let record = Record {
                offset: m.offset(),
                timestamp: m.timestamp().to_millis().unwrap_or_default(),
                tenant: tenant::of(m, &source),
                value: m.payload().unwrap_or_default(),
            };
            let place = || format!("{}[{}] at offset {}", p.topic, p.partition, record.offset);
            explainer.record((&p.topic, p.partition), &record, now, place).map_err(ExplainCommandError::from)
        })?;
    }
    Ok(())
}

/// Reports which traces were found nowhere, and what to do.
fn all_found(args: &ExplainArgs, explanation: &Explanation) -> bool {
    let Searched { records, undecodable, excluded } = explanation.searched;
    let remedy = if args.files.is_empty() {
        "check the ID, kafka.topics and the range (--since, --from, --to)"
    } else {
        "check the ID and --files"
    };
    for id in &explanation.missing {
        let (mut text, was) = (format!("spanmill: trace {id} is in none of {records} records; {remedy}"), "of them");
        if undecodable > 0 {
            text.push_str(&format!(
                "; {undecodable} {was} could not be decoded (kafka.encoding), so their spans are unknown"
            ));
        }
        if excluded > 0 {
            text.push_str(&format!("; the senders of {excluded} {was} exclude them from metrics"));
        }
        console::say(&ShownAs(text));
    }
    explanation.missing.is_empty()
}

/// The ID of a trace, with or without leading zeros.
fn trace_id(text: &str) -> Result<TraceId, String> {
    let wrong = || format!("{text:?} is no trace ID; use up to 32 hexadecimal digits, not all of them 0");
    let is_hex = (1..=32).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|number| is_hex && *number != 0);
    number.map(u128::to_be_bytes).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_hexadecimal_and_may_lack_its_zeros() {
        assert_eq!(trace_id("aB1"), Ok(0xab1_u128.to_be_bytes()));
        assert_eq!(trace_id(&"f".repeat(32)), Ok([0xff; 16]));
        for wrong in ["", "0", "xyz", "+1", &"1".repeat(33)] {
            assert!(trace_id(wrong).is_err(), "{wrong}");
        }
    }
}
