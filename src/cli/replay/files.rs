//! `spanmill replay --files`: files of OTLP traces to the samples that a worker would have made of them.
//!
//! * *In:* files and directories, or standard input; see [`crate::files`] for what they may hold.
//! * *Out:* the steps in event time, to the receivers of the configuration; and what became of everything.
//! * *Owner:* the command. One thread reads, decompresses and turns JSON into protobuf; this one does the rest.
//! * *Never:* a journal. A run that ended early is done again from its beginning, and sends the same samples.
//!
//! All files are one partition, in the order of their records' times: nobody knows how traces are spread over files. So
//! halves of an edge may be in different files. Files have no record timestamps: each span belongs to the step of its own
//! end (`time.source: span_end`).

mod input;
mod progress;
mod reading;
mod sending;
mod summary;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::MultiProgress;

use super::super::produce::wall_clock;
use super::super::survey::conclude;
use super::super::{ConfigArgs, USAGE};
use super::terminal::{init_log, is_live};
use super::{ReportArgs, TargetArgs, TargetError};
use crate::config::settings::TenantSource;
use crate::config::{Loaded, Tenants};
use crate::export::{ExportError, Exporter};
use crate::files::Format;
use crate::model::Millis;
use crate::tasks::local::{Local, LocalError};
use crate::tasks::span::Record;
use crate::tasks::survey::Survey;
use crate::telemetry::Telemetry;
use input::{FileRecord, Inputs};
use progress::Progress;
use reading::{Next, Reading, Taken};
use sending::Sending;
pub use summary::{Problem, Problems, Samples, Summary};

/// Names the only partition.
const TOPIC: &str = "files";
/// Names what is kept of a run that nobody has named.
const RUN: &str = "files";
/// How long an interrupted run waits for the answers to what it has sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often progress is looked at while there is nothing to do.
const POLL: Duration = Duration::from_millis(100);

/// Files to replay, and what about them.
#[derive(Debug, Clone, clap::Args)]
pub struct FilesArgs {
    /// Read these files instead of Kafka: OTLP traces as the Collector's file exporter writes them, JSON lines or sized
    /// protobuf, plain, zstd or gzip. A directory stands for all files in it; `-` is standard input
    #[arg(
        long,
        value_name = "PATH",
        num_args = 1..,
        conflicts_with_all = ["id", "from", "to", "until_now", "read_rate", "listen", "remove"]
    )]
    pub files: Vec<PathBuf>,
    /// What is in the files; without it, their first bytes and names tell
    #[arg(long, value_enum, requires = "files")]
    pub format: Option<FileFormat>,
    /// The tenant of everything in the files; needed when `tenant.source` asks for something that only Kafka has
    #[arg(long, value_name = "NAME", requires = "files")]
    pub tenant: Option<String>,
    /// Says that these samples may have been sent before: what the receiver refuses because it is there is no loss
    #[arg(long, requires = "files")]
    pub resend: bool,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// A request in JSON per line.
    OtlpJson,
    /// Requests in protobuf, each with its length before it in 4 bytes.
    OtlpProto,
}

/// Why files are not, or not completely, replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// A path cannot be looked at.
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nothing to read.
    #[error("there is no file in {0}")]
    NoFiles(String),
    /// Nothing says whose the spans are.
    #[error("tenant.source is `{0}`, which files do not have: say --tenant NAME")]
    NoTenant(&'static str),
    /// Remote write cannot start.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Samples cannot go where they should.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A mistake of spanmill.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The thread that reads cannot be started, or has panicked.
    #[error("cannot read files: {0}")]
    Thread(std::io::Error),
    /// A dry run failed.
    #[error("{0}")]
    Other(String),
    /// The summary cannot be written.
    #[error("cannot write the summary: {0}")]
    Output(#[from] std::io::Error),
}

/// What to replay, and to where.
#[allow(missing_debug_implementations, reason = "a function has nothing to show")]
pub struct Job<'a> {
    /// The settings of all tenants.
    pub tenants: &'a Tenants,
    /// The files.
    pub args: &'a FilesArgs,
    /// Asks before the first sample is sent whether those of this time would be kept.
    pub preflight: &'a dyn Fn((Millis, Millis)) -> Result<(), TargetError>,
    /// The terminal to draw a bar on, if there is one.
    pub bars: Option<&'a MultiProgress>,
    /// How often to report progress where there is no terminal.
    pub print_every: Duration,
    /// Where the samples go.
    pub exporter: &'a Exporter,
    /// The present: no record is younger.
    pub now: Millis,
    /// Ends the run early once it is set.
    pub stop: &'a Arc<AtomicBool>,
}

/// Replays the files, prints the summary, and returns the exit code.
///
/// # Errors
/// When the replay cannot start, or the summary cannot be written.
pub fn run(
    config: &ConfigArgs,
    args: &FilesArgs,
    target: &TargetArgs,
    report: &ReportArgs,
    stop: &Arc<AtomicBool>,
) -> Result<u8, FilesError> {
    let loaded = match load(config, target) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(USAGE);
        }
    };
    let bars = (is_live() && !report.print_every.is_zero()).then(MultiProgress::new);
    if let Err(error) = init_log(&loaded.config.log, bars.as_ref()) {
        eprintln!("{error}");
        return Ok(USAGE);
    }
    if target.dry_run {
        return dry_run(&loaded.tenants, args, stop).map(|()| 0);
    }
    let exporter = target.exporter(&loaded.config, Telemetry::new(), RUN)?;
    exporter.reroute(&loaded.tenants)?;
    let preflight = |range| target.preflight(&loaded.config, range, RUN);
    let (tenants, print_every) = (&loaded.tenants, report.print_every);
    let job = Job {
        tenants,
        args,
        preflight: &preflight,
        bars: bars.as_ref(),
        print_every,
        exporter: &exporter,
        now: wall_clock(),
        stop,
    };
    let mut summary = match replay(&job) {
        Err(error @ FilesError::NoTenant(_)) => {
            eprintln!("{error}");
            return Ok(USAGE);
        }
        ended => ended?,
    };
    exporter.stop(Duration::ZERO);
    if !summary.stopped {
        summary.finished = target.finish(&loaded.config, RUN)?;
    }
    let out = &mut std::io::stdout().lock();
    let written = if report.json { summary.write_json(out) } else { summary.write(out) };
    written?;
    Ok(u8::from(!summary.is_complete() || !summary.finished.is_equal()))
}

/// Reads the files and says what they would become.
fn dry_run(tenants: &Tenants, args: &FilesArgs, stop: &Arc<AtomicBool>) -> Result<(), FilesError> {
    let config = tenants.defaults();
    let tenant = tenant(args.tenant.as_deref(), &config.tenant)?;
    let inputs = Inputs::find(&args.files, args.format.map(Format::from))?;
    let latest = wall_clock().saturating_add(config.time.max_future);
    let mut reading = Reading::start(inputs, latest, stop).map_err(FilesError::Thread)?;
    let (mut survey, mut offset, mut unreadable) = (Survey::new(tenants), 0, 0);
    while !stop.load(Ordering::Relaxed) {
        let taken = match reading.next(POLL).map_err(FilesError::Thread)? {
            Next::Taken(taken) => taken,
            Next::Nothing => continue,
            Next::End => break,
        };
        unreadable += taken.problems.count;
        for FileRecord { timestamp, value, .. } in &taken.records {
            let record = Record { offset, timestamp: *timestamp, tenant: Some(tenant), value };
            survey.record(TOPIC, 0, &record).map_err(|e| FilesError::Other(e.to_string()))?;
            offset += 1;
        }
    }
    let out = &mut std::io::stdout().lock();
    conclude(survey, tenants, "the files", out).map_err(|e| FilesError::Other(e.to_string()))?;
    if unreadable > 0 {
        writeln!(out, "{unreadable} messages could not be read; a replay names them")?;
    }
    Ok(())
}

/// The configuration of the run. Files have no record timestamps, so spans tell the time themselves, unless a flag says
/// otherwise: then the first end in a record is its timestamp.
fn load(config: &ConfigArgs, target: &TargetArgs) -> Result<Loaded, crate::config::Problems> {
    let source = std::iter::once("time.source=span_end".to_owned());
    let set = source.chain(config.set.iter().cloned()).collect();
    target.load(&ConfigArgs { config: config.config.clone(), set })
}

/// Replays the files. Ends when everything is read and settled, or when it is told to stop; then it waits a little for what
/// has been sent.
///
/// # Errors
/// When a path cannot be read at all, or nothing says whose the spans are.
pub fn replay(job: &Job<'_>) -> Result<Summary, FilesError> {
    let mut run = Run::new(job)?;
    run.read()?;
    if !run.stopped() {
        run.local.finish()?;
        run.send_closed()?;
    }
    let sent = !run.stopped();
    run.settle();
    Ok(run.end(sent))
}

/// A replay while it runs.
struct Run<'a> {
    job: &'a Job<'a>,
    tenant: &'a str,
    begin: Instant,
    reading: Reading,
    local: Local,
    sending: Sending,
    progress: Progress,
    /// The number of the next record.
    offset: i64,
    summary: Summary,
}

// === impl Run ===

impl<'a> Run<'a> {
    fn new(job: &'a Job<'a>) -> Result<Self, FilesError> {
        let begin = Instant::now();
        let config = job.tenants.defaults();
        let tenant = tenant(job.args.tenant.as_deref(), &config.tenant)?;
        let inputs = Inputs::find(&job.args.files, job.args.format.map(Format::from))?;
        let summary = Summary { files: inputs.files() as u64, ..Summary::default() };
        let progress = Progress::new(inputs.bytes(), job.bars, job.print_every, begin);
        let latest = job.now.saturating_add(config.time.max_future);
        let local = Local::new(job.tenants, TOPIC, 1)?;
        let sending = Sending::new(job.exporter, local.shards(), job.args.resend);
        let reading = Reading::start(inputs, latest, job.stop).map_err(FilesError::Thread)?;
        Ok(Self { job, tenant, begin, reading, local, sending, progress, offset: 0, summary })
    }

    fn stopped(&self) -> bool {
        self.job.stop.load(Ordering::Relaxed)
    }

    /// Reads everything, and sends what is closed on the way.
    fn read(&mut self) -> Result<(), FilesError> {
        while !self.stopped() {
            match self.reading.next(POLL).map_err(FilesError::Thread)? {
                Next::Taken(taken) => self.take(taken)?,
                Next::Nothing => {}
                Next::End => break,
            }
            self.show();
        }
        Ok(())
    }

    fn take(&mut self, taken: Taken) -> Result<(), FilesError> {
        self.summary.unreadable.merge(taken.problems);
        for record in taken.records {
            if self.stopped() {
                break;
            }
            self.summary.record(record.timestamp);
            let (timestamp, value) = (record.timestamp, record.value.as_slice());
            let offered = Record { offset: self.offset, timestamp, tenant: Some(self.tenant), value };
            self.offset += 1;
            if let Some(refusal) = self.local.offer(0, &offered, self.job.now)? {
                self.summary.unreadable.add(Problem {
                    file: record.file.to_string(),
                    at: Some(record.at),
                    what: refusal.to_string(),
                });
            }
            self.send_closed()?;
        }
        Ok(())
    }

    /// Sends the steps that are closed; waits as long as the receivers are slower than the files.
    fn send_closed(&mut self) -> Result<(), FilesError> {
        while let Some((shard, step)) = (!self.stopped()).then(|| self.local.next_closed()).flatten() {
            if self.summary.steps == 0 {
                (self.job.preflight)((step.step, self.job.now))?;
            }
            self.summary.step(&step);
            for batch in step.batches {
                let mut refused = self.sending.try_send(shard, batch);
                while let Some(batch) = refused.take().filter(|_| !self.stopped()) {
                    self.sending.wait(POLL);
                    self.show();
                    refused = self.sending.try_send(shard, batch);
                }
            }
        }
        Ok(())
    }

    /// Waits for the answers to everything that has been sent; if it was told to stop, only for a while.
    fn settle(&mut self) {
        let mut told = None;
        while self.sending.waiting() > 0 {
            let since = self.stopped().then(|| *told.get_or_insert_with(Instant::now));
            if since.is_some_and(|since| since.elapsed() > PATIENCE) {
                break;
            }
            self.sending.wait(POLL);
            self.show();
        }
    }

    fn show(&mut self) {
        self.progress.show(self.reading.bytes(), &self.summary, &self.local, self.sending.waiting());
    }

    /// `sent` says whether everything was sent.
    fn end(mut self, sent: bool) -> Summary {
        self.progress.end();
        self.summary.stopped = !sent || self.sending.waiting() > 0;
        self.summary.bytes = self.reading.bytes();
        self.summary.end(&self.local, &self.sending, self.begin.elapsed());
        self.summary
    }
}

/// Whose the spans are.
fn tenant<'a>(named: Option<&'a str>, source: &'a TenantSource) -> Result<&'a str, FilesError> {
    if let Some(name) = named {
        return Ok(name);
    }
    match source {
        TenantSource::Static(name) | TenantSource::Attribute { fallback: name, .. } => Ok(name),
        TenantSource::Key => Err(FilesError::NoTenant("key")),
        TenantSource::Header(_) => Err(FilesError::NoTenant("header")),
        TenantSource::Topic => Err(FilesError::NoTenant("topic")),
    }
}

// === impl Format ===

impl From<FileFormat> for Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::OtlpJson => Self::Json,
            FileFormat::OtlpProto => Self::Proto,
        }
    }
}

#[cfg(test)]
mod tests;
