//! `produce`: a load with a known result, into Kafka.
//!
//! * *In:* a topology by name and seed, how much and how fast.
//! * *Out:* records in the topic, and on request a file with what a worker must make of them.
//! * *Owner:* the command; one thread makes records, librdkafka sends them.
//! * *Never:* drops a record. A full queue is waited for; a record that the broker refuses ends the command.
//! * *Next:* `run` or `replay` reads the topic.

mod args;
mod sink;

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::error::KafkaError;

pub(super) use args::duration;
pub use args::{Compression, GroupBy, Header, ProduceArgs, Property, Shape, StartTime};
pub(super) use sink::{Sink, Target};

use crate::core::model::Millis;
use crate::tools::loadgen::{Generator, Group, Options, Record, Scale, Topology, step_line};

/// Why a load was not, or not completely, produced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// Unthrottled without an end.
    #[error("--rate 0 is unthrottled: limit the load with --spans or --duration")]
    NoEnd,
    /// A property about tokens cannot be used.
    #[error("--property {0}: {1}")]
    Property(&'static str, String),
    /// The client refused to do something.
    #[error("cannot {doing}: {source}")]
    Kafka {
        /// What was tried.
        doing: String,
        /// librdkafka's error.
        source: KafkaError,
    },
    /// The topic does not exist.
    #[error(
        "topic `{0}` does not exist, or this client may not describe it; create it, pass --create-partitions N, or \
         grant Describe"
    )]
    NoTopic(String),
    /// Records were refused or timed out.
    #[error("{failed} of {sent} records were not delivered, so no expectation was written; the first: {first}")]
    NotDelivered {
        /// Records that failed.
        failed: u64,
        /// Records passed to the client.
        sent: u64,
        /// The first failure.
        first: String,
    },
    /// The command was stopped and the broker did not accept the remaining records.
    #[error(
        "stopped with {0} records not yet acknowledged, so no expectation was written; check that the broker is \
             reachable"
    )]
    NotFlushed(u64),
    /// The file of the expectation cannot be written.
    #[error("cannot write the expectation to {path}: {source}")]
    Expect {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The summary cannot be written.
    #[error("cannot write the summary: {0}")]
    Output(#[from] std::io::Error),
    /// The runtime for administrative requests cannot be built.
    #[error("cannot start a runtime for creating the topic: {0}")]
    Runtime(std::io::Error),
}

impl ProduceError {
    /// The remedy for brokers that do not answer, if that is the error.
    pub(super) fn remedy(&self, args: &ProduceArgs) -> Option<String> {
        let Self::Kafka { source, .. } = self else { return None };
        crate::worker::kafka::client::unreachable(source.rdkafka_error_code(), &args.brokers)
    }
}

/// What was passed to the client.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    spans: u64,
    records: u64,
    bytes: u64,
}

/// A progress line on standard error, at intervals.
#[derive(Debug)]
struct ProgressLine {
    every: Duration,
    last: Instant,
    before: Sent,
    terminal: bool,
}

/// Produces the load. Once `stop` is set no further trace begins, and traces that have begun are delivered.
///
/// # Errors
/// When the arguments contradict each other, Kafka refuses something, a record is not delivered, or a file cannot be
/// written.
pub fn run(args: &ProduceArgs, stop: &AtomicBool, out: &mut dyn Write) -> Result<(), ProduceError> {
    let (brokers, topic, compression) = (&*args.brokers, &*args.topic, args.compression);
    let (properties, headers) = (&args.properties[..], &args.headers[..]);
    let sink = Sink::new(Target { brokers, topic, compression, properties, headers })?;
    let partitions = sink.prepare(args.create_partitions)?;
    let options = options(args, partitions, wall_clock())?;
    let generator = Generator::new(topology(args), args.seed, options);
    let mut generator = match args.expect_steps {
        Some(width) => generator.with_steps(width),
        None => generator,
    };
    if args.expect_traces {
        generator = generator.with_whole_traces();
    }
    let begin = now();
    let pace = (args.rate > 0).then_some((begin, options.start));
    let sent = send_all(&mut generator, &sink, pace, stop, ProgressLine::new(args, begin))?;
    sink.drain(stop, sent.records)?;
    let seconds = begin.elapsed().as_secs_f64();
    let Sent { spans, records, bytes } = sent;
    let rate = spans as f64 / seconds.max(1e-9);
    writeln!(out, "spans {spans}\nrecords {records}\nbytes {bytes}\nseconds {seconds:.3}\nspans_per_second {rate:.0}")?;
    if let Some(path) = &args.expect {
        write_expectation(path, &generator)?;
        writeln!(out, "expectation {}", path.display())?;
    }
    Ok(())
}

/// Passes every record to the client, at its time if the load is paced.
fn send_all(
    generator: &mut Generator,
    sink: &Sink,
    pace: Option<(Instant, Millis)>,
    stop: &AtomicBool,
    mut progress: ProgressLine,
) -> Result<Sent, ProduceError> {
    let mut sent = Sent::default();
    let mut stopping = false;
    loop {
        if !stopping && stop.load(Ordering::Relaxed) {
            stopping = true;
            generator.stop();
        }
        let Some(record) = generator.next() else { break };
        if let Some((begin, start)) = pace {
            wait_for(&record, begin, start, stop);
        }
        sink.send(&record, stop)?;
        sent.records += 1;
        sent.spans += u64::from(record.spans);
        sent.bytes += record.value.len() as u64;
        sink.check(sent.records)?;
        progress.show(sent)?;
    }
    progress.end()?;
    Ok(sent)
}

/// Sleeps until the record's time has come or `stop` is set.
pub(super) fn wait_for(record: &Record, begin: Instant, start: Millis, stop: &AtomicBool) {
    let due = begin + Duration::from_millis(u64::try_from(record.timestamp - start).unwrap_or(0));
    loop {
        let left = due.saturating_duration_since(now());
        if left.is_zero() || stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

fn topology(args: &ProduceArgs) -> Topology {
    match args.topology {
        Shape::Shop => Topology::shop(args.seed),
        Shape::Scaled => Topology::scaled(&Scale { services: args.services, operations: args.operations }, args.seed),
    }
}

/// The generator's options. Event time follows the wall clock when there is a rate. Unthrottled it runs at the virtual
/// rate, and a load that starts `now` ends now instead, because time must not run ahead of the wall clock.
fn options(args: &ProduceArgs, partitions: u32, wall: Millis) -> Result<Options, ProduceError> {
    let flat_out = args.rate == 0;
    let rate = if flat_out { args.virtual_rate } else { args.rate };
    let of_duration = args.duration.map(|d| (d.as_millis() * u128::from(rate) / 1_000) as u64);
    let spans = args.spans.or(of_duration);
    if flat_out && spans.is_none() {
        return Err(ProduceError::NoEnd);
    }
    let length = spans.map_or(0, |n| u128::from(n) * 1_000 / u128::from(rate.max(1)));
    let start = match args.start_time {
        StartTime::At(at) => at,
        StartTime::Now if flat_out => wall.saturating_sub(Millis::try_from(length).unwrap_or(Millis::MAX)),
        StartTime::Now => wall,
    };
    let group = match args.group {
        GroupBy::Trace => Group::Trace,
        GroupBy::Partition => Group::Partition(partitions),
    };
    let (error_share, spans_per_record) = (args.error_share, args.spans_per_record);
    Ok(Options { start, rate, spans, error_share, spans_per_record, group })
}

fn write_expectation(path: &std::path::Path, generator: &Generator) -> Result<(), ProduceError> {
    let write = || {
        let mut file = BufWriter::new(File::create(path)?);
        write!(file, "{}", generator.expectation())?;
        generator.each_step(|series, values| file.write_all(step_line(series, values).as_bytes()))?;
        file.flush()
    };
    write().map_err(|source| ProduceError::Expect { path: path.to_owned(), source })
}

/// The present time; a producer may read the clock.
#[expect(clippy::disallowed_methods, reason = "a load is paced by the wall clock")]
fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the epoch by the wall clock.
#[expect(clippy::disallowed_methods, reason = "a load that starts now starts by the wall clock")]
pub(super) fn wall_clock() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis)
}

// === impl ProgressLine ===

impl ProgressLine {
    fn new(args: &ProduceArgs, begin: Instant) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { every: args.print_every, last: begin, before: Sent::default(), terminal }
    }

    fn show(&mut self, sent: Sent) -> std::io::Result<()> {
        // Reading the clock for every record would cost more than some records do.
        if self.every.is_zero() || !sent.records.is_multiple_of(64) && sent.records > 64 {
            return Ok(());
        }
        let passed = self.last.elapsed();
        if passed < self.every {
            return Ok(());
        }
        let rate = (sent.spans - self.before.spans) as f64 / passed.as_secs_f64();
        let (from, to) = if self.terminal { ("\r", "\x1b[K") } else { ("", "\n") };
        let line = format!("{from}{} spans in {} records, {rate:.0} spans/s{to}", sent.spans, sent.records);
        (self.last, self.before) = (now(), sent);
        let mut err = std::io::stderr();
        err.write_all(line.as_bytes())?;
        err.flush()
    }

    /// Leaves the cursor on a line of its own.
    fn end(&self) -> std::io::Result<()> {
        if self.terminal && self.before.records > 0 { std::io::stderr().write_all(b"\n") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
