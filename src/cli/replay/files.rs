//! `spanmill replay --files`: files of OTLP traces to the samples that a worker would have made of them.
//!
//! * *In:* files and directories, or standard input; see [`crate::tools::files`] for their possible content.
//! * *Out:* the steps in event time, to the receivers of the configuration; and a summary.
//! * *Owner:* the command. One thread reads, decompresses and turns JSON into protobuf; this one does the rest.
//! * *Never:* a journal. A run that ended early is done again from its beginning, and sends the same samples.
//!
//! All files are one partition, in the order of their records' times: how traces are spread over files is unknown. So
//! halves of an edge may be in different files. Files have no record timestamps: each span belongs to the step of its
//! own end (`time.source: span_end`).

mod input;
mod progress;
mod reading;
mod sending;
mod shown;
mod summary;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::MultiProgress;

use super::super::produce::wall_clock;
use super::super::survey::conclude;
use super::super::ui::PageError;
use super::super::{ConfigArgs, USAGE};
use super::terminal::{init_log, is_live};
use super::{ReportArgs, TargetArgs, TargetError};
use crate::cli::console;
use crate::config::settings::TenantSource;
use crate::config::{Loaded, Tenants};
use crate::core::model::text::Shown;
use crate::core::model::{Millis, Seed};
use crate::core::settings::Encoding;
use crate::core::tasks::span::Record;
use crate::tools::local::{Local, LocalError};
use crate::tools::slos::SloTotals;
use crate::tools::survey::Survey;
use crate::tools::ui::PageSettings;
use crate::worker::sender::store::Stuck;
use crate::worker::sender::{ExportError, Exporter};
use crate::worker::telemetry::{Telemetry, say_illegal};
use input::{FileRecord, Inputs};
use progress::FilesProgress;
use reading::{Next, Reading, Taken};
use sending::Sending;
pub use summary::{Problem, Problems, SentSamples, Summary};

/// Names the only partition.
const TOPIC: &str = "files";
/// Names the run: its samples are kept under this name.
const RUN: &str = "files";
/// How long an interrupted run waits for the answers to what it has sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often progress is checked while idle.
const POLL: Duration = Duration::from_millis(100);

/// Files to replay, and what about them.
#[derive(Debug, Clone, clap::Args)]
pub struct FilesArgs {
    /// Read these files instead of Kafka: OTLP as the Collector's file exporter writes it, JSON lines or length-prefixed
    /// protobuf, and traces as the APIs and pages of Tempo, Jaeger and Zipkin download them; uncompressed, zstd or gzip. A
    /// directory stands for all files in it; `-` is standard input
    #[arg(
        long,
        value_name = "PATH",
        num_args = 1..,
        conflicts_with_all = ["id", "from", "to", "until_now", "read_rate", "listen", "remove"]
    )]
    pub files: Vec<PathBuf>,
    /// Format of the messages in the files [default: detected per message]
    #[arg(long, value_enum, requires = "files")]
    pub format: Option<FileFormat>,
    /// Tenant of all spans in the files; required if `tenant.source` refers to Kafka
    #[arg(long, value_name = "NAME", requires = "files")]
    pub tenant: Option<String>,
    /// Show the service map of the files as a page instead of sending samples; without an address at 127.0.0.1:4900
    #[arg(
        long,
        value_name = "HOST:PORT",
        num_args = 0..=1,
        default_missing_value = crate::cli::ui::LISTEN,
        requires = "files",
        conflicts_with_all = ["json", "spool", "convert", "url", "write_rate", "resend", "dry_run"]
    )]
    pub ui: Option<String>,
    /// Link to a trace on the page, with {trace_id} in place of its ID
    #[arg(long, value_name = "URL", requires = "ui", value_parser = PageSettings::check_trace_url)]
    pub trace_url: Option<String>,
    /// The samples may have been sent before: do not count rejected duplicates as lost
    #[arg(long, requires = "files")]
    pub resend: bool,
}

/// Format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// OTLP requests in JSON, one per line.
    OtlpJson,
    /// OTLP requests in protobuf, each prefixed with its length in 4 bytes.
    OtlpProto,
    /// Records of Tempo's codec push-bytes, prefixed with their length.
    TempoPushBytes,
    /// Jaeger's JSON: answers of its API, or spans of its model.
    JaegerJson,
    /// Jaeger spans in protobuf, prefixed with their length.
    JaegerProto,
    /// Zipkin's JSON of version 2.
    ZipkinJson,
    /// Lists of Zipkin spans in protobuf, prefixed with their length.
    ZipkinProto,
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
        /// The error of the system.
        source: std::io::Error,
    },
    /// Nothing to read.
    #[error("{0} contains no files")]
    NoFiles(String),
    /// No setting names the tenant of the spans.
    #[error("tenant.source is `{0}`, which does not apply to files; set --tenant NAME")]
    NoTenant(&'static str),
    /// Remote write cannot start.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The destination of the samples cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The disk accepts no more data.
    #[error("{why}; retried for {seconds} s. Stored samples are kept: free disk space and run the command again")]
    Stuck {
        /// The error of the spool.
        why: String,
        /// How long the run waited.
        seconds: u64,
    },
    /// A bug of spanmill.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The thread that reads cannot be started, or has panicked.
    #[error("cannot read files: {0}")]
    Thread(std::io::Error),
    /// A dry run failed.
    #[error("{0}")]
    Other(String),
    /// The page cannot be shown.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The summary cannot be written.
    #[error("cannot write the summary: {0}")]
    Output(#[from] std::io::Error),
}

/// What to replay, and the destination.
#[allow(missing_debug_implementations, reason = "a function has no details to print")]
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
    /// How long the run waits for a disk that accepts no data.
    pub patience: Duration,
    /// The present: no record is newer.
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
            console::say(&problems);
            return Ok(USAGE);
        }
    };
    let bars = (is_live() && !report.print_every.is_zero()).then(MultiProgress::new);
    if let Err(error) = init_log(&loaded.config.log, bars.as_ref()) {
        console::say(&error);
        return Ok(USAGE);
    }
    if let Err(error) = tenant(args.tenant.as_deref(), &loaded.config.tenant) {
        console::say(&error);
        return Ok(USAGE);
    }
    if let Some(listen) = &args.ui {
        return shown::show(&loaded.tenants, args, listen, stop);
    }
    if target.dry_run {
        return dry_run(&loaded.tenants, args, stop);
    }
    let inputs = Inputs::find(&args.files, args.encoding())?;
    let claim = target.claim(&loaded.tenants, RUN, args.described(&inputs), true)?;
    let exporter = target.exporter(&loaded.config, Telemetry::new(), RUN)?;
    exporter.reroute(&loaded.tenants)?;
    let preflight = |range| target.preflight(&loaded.config, range, RUN);
    let (tenants, print_every, patience) = (&loaded.tenants, report.print_every, target.sink.spool_patience);
    let job = Job {
        tenants,
        args,
        preflight: &preflight,
        bars: bars.as_ref(),
        print_every,
        exporter: &exporter,
        patience,
        now: wall_clock(),
        stop,
    };
    let mut summary = replay(&job)?;
    exporter.stop(Duration::ZERO);
    if let Some(why) = &summary.failed {
        console::say(&format_args!("spanmill: {}", Shown(why)));
    }
    if !summary.stopped {
        summary.finished = target.finish(&loaded.config, claim, false);
    }
    let out = &mut console::out();
    let written = if report.json { summary.write_json(out) } else { summary.write(out) };
    written?;
    Ok(u8::from(!summary.is_complete() || !summary.finished.is_good()))
}

/// Reads the files and reports their expected result.
fn dry_run(tenants: &Tenants, args: &FilesArgs, stop: &Arc<AtomicBool>) -> Result<u8, FilesError> {
    let mut survey = Survey::new(tenants, Seed::new(rand::random()));
    let unreadable = each_record(tenants, args, stop, &mut |record, _| {
        survey.record(TOPIC, 0, record).map_err(|e| FilesError::Other(e.to_string()))
    })?;
    let out = &mut console::out();
    conclude(survey, tenants, "the files", out).map_err(|e| FilesError::Other(e.to_string()))?;
    unreadable.write(out)?;
    Ok(u8::from(unreadable.count > 0))
}

/// Hands every record of the files, in the order in which a replay counts them, to `each`, with its place. Returns what could
/// not be read.
///
/// # Errors
/// When a path cannot be read at all, no tenant can be found for the spans, or `each` fails.
pub(in crate::cli) fn each_record(
    tenants: &Tenants,
    args: &FilesArgs,
    stop: &Arc<AtomicBool>,
    each: &mut dyn FnMut(&Record<'_>, &dyn Fn() -> String) -> Result<(), FilesError>,
) -> Result<Problems, FilesError> {
    let config = tenants.defaults();
    let tenant = tenant(args.tenant.as_deref(), &config.tenant)?;
    let inputs = Inputs::find(&args.files, args.encoding())?;
    let latest = wall_clock().saturating_add(config.core.time.max_future);
    let mut reading = Reading::start(inputs, latest, stop).map_err(FilesError::Thread)?;
    let (mut unreadable, mut offset) = (Problems::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let taken = match reading.next(POLL).map_err(FilesError::Thread)? {
            Next::Taken(taken) => taken,
            Next::Nothing => continue,
            Next::End => break,
        };
        unreadable.merge(taken.problems);
        for FileRecord { timestamp, value, file, at, .. } in &taken.records {
            let record = Record { offset, timestamp: *timestamp, tenant: Some(tenant), value };
            each(&record, &|| format!("{file}, {at}"))?;
            offset += 1;
        }
    }
    Ok(unreadable)
}

/// The arguments with which files are read. Files have no record timestamps, so the spans give the time, unless a flag
/// asks for otherwise: then the first end in a record is its timestamp.
pub(in crate::cli) fn of_files(config: &ConfigArgs) -> ConfigArgs {
    let source = std::iter::once("time.source=span_end".to_owned());
    // Records from files are converted to OTLP protobuf before they reach a task.
    let encoding = ["kafka.encoding=otlp_proto".to_owned(), "kafka.topic_settings=[]".to_owned()];
    let set = source.chain(config.set.iter().cloned()).chain(encoding).collect();
    ConfigArgs { config: config.config.clone(), set }
}

/// The configuration of the run.
fn load(config: &ConfigArgs, target: &TargetArgs) -> Result<Loaded, crate::config::Problems> {
    target.load(&of_files(config))
}

/// Replays the files. Ends when everything is read and settled, when it cannot continue, or when it is stopped; then it
/// waits briefly for the answers. In any case, the summary reports what was read.
///
/// # Errors
/// When a path cannot be read at all, or no setting names the tenant of the spans.
pub fn replay(job: &Job<'_>) -> Result<Summary, FilesError> {
    let mut run = Run::new(job)?;
    let ended = run.work();
    if let Err(error) = ended.and_then(|()| run.settle()) {
        run.summary.failed = Some(error.to_string());
    }
    Ok(run.end())
}

/// Adds up what objectives count, beside the shards.
struct SloWatch {
    totals: SloTotals,
    /// Why that failed, which would be a bug of spanmill.
    failed: Option<String>,
}

// === impl SloWatch ===

impl SloWatch {
    /// Watches the delta records of a run; `None` without objectives.
    fn start(tenants: &Tenants, local: &mut Local) -> Option<Rc<RefCell<Self>>> {
        let watch = Rc::new(RefCell::new(Self { totals: SloTotals::new(tenants)?, failed: None }));
        let watcher = Rc::clone(&watch);
        local.watch(move |_, record| {
            let Self { totals, failed } = &mut *watcher.borrow_mut();
            if let Err(error) = totals.add(record) {
                failed.get_or_insert_with(|| error.to_string());
            }
        });
        Some(watch)
    }

    fn end(&self, summary: &mut Summary) {
        match &self.failed {
            Some(why) => drop(summary.failed.get_or_insert_with(|| format!("objectives are not added up: {why}"))),
            None => summary.slos = self.totals.results(),
        }
    }
}

/// A replay while it runs.
struct Run<'a> {
    job: &'a Job<'a>,
    tenant: &'a str,
    begin: Instant,
    reading: Reading,
    local: Local,
    slos: Option<Rc<RefCell<SloWatch>>>,
    sending: Sending,
    progress: FilesProgress,
    /// The number of the next record.
    offset: i64,
    /// Whether all steps have been passed to the sender.
    sent: bool,
    summary: Summary,
}

// === impl Run ===

impl<'a> Run<'a> {
    fn new(job: &'a Job<'a>) -> Result<Self, FilesError> {
        let begin = Instant::now();
        let config = job.tenants.defaults();
        let tenant = tenant(job.args.tenant.as_deref(), &config.tenant)?;
        let inputs = Inputs::find(&job.args.files, job.args.encoding())?;
        let summary = Summary { files: inputs.files() as u64, ..Summary::default() };
        let progress = FilesProgress::new(inputs.bytes(), job.bars, job.print_every, begin);
        let latest = job.now.saturating_add(config.core.time.max_future);
        let mut local = Local::new(job.tenants, TOPIC, 1, Seed::new(rand::random()))?;
        let slos = SloWatch::start(job.tenants, &mut local);
        let sending = Sending::new(job.exporter, local.shards(), job.args.resend);
        let reading = Reading::start(inputs, latest, job.stop).map_err(FilesError::Thread)?;
        Ok(Self { job, tenant, begin, reading, local, slos, sending, progress, offset: 0, sent: false, summary })
    }

    fn stopped(&self) -> bool {
        self.job.stop.load(Ordering::Relaxed)
    }

    fn work(&mut self) -> Result<(), FilesError> {
        self.read()?;
        if !self.stopped() {
            self.local.finish()?;
            self.send_closed()?;
            self.sent = !self.stopped();
        }
        Ok(())
    }

    /// Waits briefly for answers. Reports a disk that has written nothing for too long.
    fn wait(&mut self) -> Result<(), FilesError> {
        self.sending.wait(POLL);
        self.show();
        match self.job.exporter.stuck() {
            Some(Stuck { since, why }) if since.elapsed() >= self.job.patience => {
                Err(FilesError::Stuck { why, seconds: since.elapsed().as_secs() })
            }
            _ => Ok(()),
        }
    }

    /// Reads everything, and sends steps as they close.
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
            self.summary.record(&record);
            self.progress.read(record.timestamp, record.read);
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
            if let Some(illegal) = &step.illegal {
                say_illegal(illegal);
            }
            for batch in step.batches.into_iter().flat_map(|batch| self.job.exporter.for_endpoints(batch)) {
                let mut refused = self.sending.try_send(shard, batch);
                while let Some(batch) = refused.take().filter(|_| !self.stopped()) {
                    self.wait()?;
                    refused = self.sending.try_send(shard, batch);
                }
            }
        }
        Ok(())
    }

    /// Waits for the answers to everything that has been sent. If the run was stopped, only for a while, and not at all
    /// for a disk that takes nothing.
    fn settle(&mut self) -> Result<(), FilesError> {
        let mut told = None;
        while self.sending.waiting() > 0 {
            let since = self.stopped().then(|| *told.get_or_insert_with(Instant::now));
            let stuck = || self.job.exporter.stuck().is_some();
            if since.is_some_and(|since| since.elapsed() > PATIENCE || stuck()) {
                break;
            }
            self.wait()?;
        }
        Ok(())
    }

    fn show(&mut self) {
        let stuck = self.job.exporter.stuck().map(|stuck| stuck.text(self.job.patience));
        self.progress.show(&self.summary, &self.local, &self.sending, stuck.as_deref());
    }

    fn end(mut self) -> Summary {
        self.progress.end();
        self.summary.stopped = !self.sent || self.sending.waiting() > 0;
        self.summary.bytes = self.reading.bytes();
        if let Some(watch) = &self.slos {
            watch.borrow().end(&mut self.summary);
        }
        self.summary.end(&self.local, &self.sending, self.begin.elapsed());
        self.summary
    }
}

/// The tenant of the spans.
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

// === impl FilesArgs ===

impl FilesArgs {
    fn encoding(&self) -> Encoding {
        self.format.map_or(Encoding::Auto, Encoding::from)
    }

    /// The input, and all settings that affect samples, one line each.
    fn described(&self, inputs: &Inputs) -> Vec<String> {
        let format = self.format.map(|format| format!("format: {format:?}"));
        let tenant = self.tenant.iter().map(|tenant| format!("tenant: {tenant}"));
        inputs.described().into_iter().chain(format).chain(tenant).collect()
    }
}

// === impl Encoding ===

impl From<FileFormat> for Encoding {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::OtlpJson => Self::OtlpJson,
            FileFormat::OtlpProto => Self::OtlpProto,
            FileFormat::TempoPushBytes => Self::TempoPushBytes,
            FileFormat::JaegerJson => Self::JaegerJson,
            FileFormat::JaegerProto => Self::JaegerProto,
            FileFormat::ZipkinJson => Self::ZipkinJson,
            FileFormat::ZipkinProto => Self::ZipkinProto,
        }
    }
}

#[cfg(test)]
mod tests;
