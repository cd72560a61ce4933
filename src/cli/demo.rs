//! `demo`: the whole way, from spans to series, in one process and without a server.
//!
//! * *In:* a seed, a rate, for how long.
//! * *Out:* the service graph, live on a terminal; at the end the ledger, and a verdict: every series that has arrived
//!   against every series that must.
//! * *Owner:* the command. The workers are those of `run`, the load is that of `produce`.
//! * *Never:* a number that did not pass through Kafka and remote write.

mod graph;
mod house;
mod screen;
#[cfg(test)]
mod tests;
mod verdict;
mod view;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use house::House;
use screen::Screen;
use verdict::DemoResult;
use view::{Style, StyledLine, count};

use super::produce::{Compression, ProduceError, Sink, Target, duration, wait_for, wall_clock};
use crate::core::model::{Counter, Millis};
use crate::tools::loadgen::{Expectation, Generator, Options, Topology};
use crate::worker::WorkerError;

/// Run a broker, a load, workers and a receiver in one process and check the result
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Duration of the load, such as 20s. Default: on a terminal until Ctrl-C (at most 15m), otherwise 20s
    #[arg(long, value_parser = some_time)]
    pub duration: Option<Duration>,
    /// Spans per second
    #[arg(long, value_name = "SPANS/S", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=5_000))]
    pub rate: u64,
    /// Seed of the load; the same seed produces the same load
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Number of workers that share the work; the totals do not depend on it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub workers: u32,
    /// Address of the page with the service map
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Compute metrics of whole traces as well; at the end, show what checkouts wait for and where errors begin
    #[arg(long)]
    pub traces: bool,
    /// Keep the page after the load has ended, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// Why a demo could not be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The embedded broker does not start.
    #[error("cannot start the embedded broker: {0}")]
    Broker(rdkafka::error::KafkaError),
    /// The built-in receiver does not start.
    #[error("cannot start the built-in receiver on 127.0.0.1: {0}")]
    Receiver(std::io::Error),
    /// A worker gave up.
    #[error("a worker ended: {0}")]
    Worker(#[from] WorkerError),
    /// The traffic could not be sent.
    #[error("cannot produce: {0}")]
    Produce(#[from] ProduceError),
    /// The thread that makes the traffic is gone.
    #[error("the load ended without a result; please report this bug")]
    Load,
    /// The page cannot be shown.
    #[error(transparent)]
    Page(#[from] super::ui::PageError),
    /// Nothing can be shown.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// How long the demo produces traffic where no user can press Ctrl-C.
const UNATTENDED: Duration = Duration::from_secs(20);
/// The receiver keeps every sample in memory, so the demo must end.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// How long the last pending edges and steps may take after the traffic has ended.
const PATIENCE: Duration = Duration::from_secs(60);
const PICTURE_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(2);
/// How often an operation of the shop fails by itself.
const ERROR_SHARE: f64 = 0.01;
/// Differences that are printed in full.
const MOST_DIFFERENCES: usize = 10;
const BREAK: &str = "Ctrl-C stops the load and checks every series";
const BREAK_AGAIN: &str = "press Ctrl-C again to quit now";

/// A demo without traffic would show and prove nothing.
fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("is too short; use at least 1s".to_owned()),
        some => Ok(some),
    }
}

/// The demo while it runs.
struct Demo<'a> {
    args: &'a DemoArgs,
    stop: &'a Arc<AtomicBool>,
    house: House,
    screen: Screen,
    /// Spans passed to Kafka so far.
    sent: Arc<AtomicU64>,
    /// Event time of the first span.
    start: Millis,
    begin: Instant,
    told: Option<Instant>,
}

/// Runs the demo until its time is over or `stop` is raised; true when all series are what was produced.
///
/// # Errors
/// When something cannot be started, the traffic cannot be sent, a worker ends, or the output is gone.
pub fn run(args: &DemoArgs, stop: &Arc<AtomicBool>) -> Result<bool, DemoError> {
    let begin = Instant::now();
    let mut screen = Screen::new()?;
    let workers = if args.workers == 1 { "a worker".to_owned() } else { format!("{} workers", args.workers) };
    let hello = format!(
        "spanmill demo: a broker, {workers} and a receiver in this process; the first series appear after \
                 about 7 s"
    );
    screen.write(&[vec![(Style::Plain, hello)]])?;
    let house = House::start(args)?;
    screen.write(&[vec![(Style::Plain, format!("service map: {}", house.page.url()))]])?;
    let (sent, start) = (Arc::new(AtomicU64::new(0)), wall_clock());
    let load = load(args, &house, screen.live(), start, &sent, stop)?;
    let mut demo = Demo { args, stop, house, screen, sent, start, begin, told: None };
    demo.run(load)
}

/// Starts the traffic on a thread of its own.
fn load(
    args: &DemoArgs,
    house: &House,
    live: bool,
    start: Millis,
    sent: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
) -> Result<JoinHandle<Result<Expectation, ProduceError>>, DemoError> {
    let length = args.duration.unwrap_or(if live { LONGEST } else { UNATTENDED }).min(LONGEST);
    let spans = (length.as_millis() * u128::from(args.rate) / 1_000) as u64;
    let options =
        Options { start, rate: args.rate, spans: Some(spans), error_share: ERROR_SHARE, ..Options::default() };
    let mut generator =
        Generator::new(Topology::shop(args.seed), args.seed, options).with_edge_bounds(&house::EDGE_BOUNDS);
    if args.traces {
        generator = generator.with_whole_traces();
    }
    let (brokers, sent, stop) = (house.brokers(), Arc::clone(sent), Arc::clone(stop));
    let produce = move || {
        let (topic, compression) = (house::TOPIC, Compression::Lz4);
        let target = Target { brokers: &brokers, topic, compression, properties: &[], headers: &[] };
        let sink = Sink::new(target)?;
        let begin = Instant::now();
        let mut records = 0;
        loop {
            if stop.load(Ordering::Relaxed) {
                generator.stop();
            }
            let Some(record) = generator.next() else { break };
            wait_for(&record, begin, start, &stop);
            sink.send(&record, &stop)?;
            records += 1;
            sink.check(records)?;
            sent.fetch_add(u64::from(record.spans), Ordering::Relaxed);
        }
        sink.drain(&stop, records)?;
        Ok(generator.expectation())
    };
    Ok(std::thread::Builder::new().name("load".to_owned()).spawn(produce)?)
}

// === impl Demo ===

impl Demo<'_> {
    fn run(&mut self, load: JoinHandle<Result<Expectation, ProduceError>>) -> Result<bool, DemoError> {
        while !load.is_finished() {
            // The reason of a worker that ended by itself is known when it is stopped.
            if !self.house.alive() {
                self.stop.store(true, Ordering::Relaxed);
            }
            self.show("traffic", None)?;
            self.nap();
        }
        let expected = load.join().map_err(|_| DemoError::Load)??;
        let ended = Instant::now();
        while self.house.alive() && !self.verdict(&expected).holds() && ended.elapsed() < PATIENCE {
            self.show("settling: unpaired spans wait 5 s for their peer", Some(&expected))?;
            self.nap();
        }
        self.show("stopping the workers", Some(&expected))?;
        let stopped = self.house.stop();
        let verdict = self.verdict(&expected);
        let receiver = self.house.receiver.totals();
        let mut lines = vec![StyledLine::new()];
        lines.extend(self.table(Some(&expected), usize::MAX));
        lines.push(StyledLine::new());
        if self.args.traces {
            lines.extend(whole::lines(&self.house.receiver.snapshot()));
            lines.push(StyledLine::new());
        }
        lines.extend(view::ledger(&self.house.ledger(), self.house.samples(), &receiver));
        lines.push(StyledLine::new());
        lines.extend(outcome(&verdict, &self.house.receiver.violations()));
        self.screen.write(&lines)?;
        stopped?;
        if self.args.keep {
            let kept = format!("service map: {} (Ctrl-C ends it)", self.house.page.url());
            self.screen.write(&[vec![(Style::Plain, kept)]])?;
            self.stop.store(false, Ordering::Relaxed);
            super::ui::wait(self.stop);
        }
        Ok(verdict.holds() && receiver.violations == 0)
    }

    fn nap(&self) {
        // This interval only paces the display.
        std::thread::sleep(PICTURE_EVERY);
    }

    fn verdict(&mut self, expected: &Expectation) -> DemoResult {
        DemoResult::new(expected, &self.house.receiver.snapshot(), &self.house.ledger())
    }

    /// Seconds of traffic that the series cover.
    fn covered(&self, expected: Option<&Expectation>) -> f64 {
        let newest = self.house.receiver.snapshot().values().map(|s| s.last_ts).max();
        let so_far = newest.map_or(0, |at| at.saturating_sub(self.start)) as f64 / 1e3;
        let whole = expected.map(|e| e.ledger().get(Counter::SpansRead) as f64 / self.args.rate as f64);
        whole.map_or(so_far, |whole| so_far.min(whole))
    }

    fn table(&mut self, expected: Option<&Expectation>, height: usize) -> Vec<StyledLine> {
        let edges = graph::edges(&self.house.receiver.snapshot());
        view::table(&edges, self.covered(expected), self.screen.size().columns, height)
    }

    fn show(&mut self, doing: &str, expected: Option<&Expectation>) -> std::io::Result<()> {
        if self.screen.live() { self.picture(doing, expected) } else { self.line(doing) }
    }

    fn picture(&mut self, doing: &str, expected: Option<&Expectation>) -> std::io::Result<()> {
        let stopping = self.stop.load(Ordering::Relaxed);
        let ledger = self.house.ledger();
        let edges = self.house.receiver.totals().series > 0;
        let doing = if edges { doing } else { "joining the group" };
        let title = format!(
            "  {doing}, {} s, {} spans sent, {} read",
            self.begin.elapsed().as_secs(),
            count(self.sent.load(Ordering::Relaxed)),
            count(ledger.get(Counter::SpansRead))
        );
        let mut lines = vec![vec![(Style::Bold, "spanmill demo".to_owned()), (Style::Plain, title)], StyledLine::new()];
        // The title, the ledger, the hint, the empty lines between them, and the line of the cursor.
        let around = 2 + 5 + 2 + 1;
        let height = self.screen.size().rows.saturating_sub(around);
        lines.extend(self.table(expected, height));
        lines.push(StyledLine::new());
        lines.extend(view::ledger(&ledger, self.house.samples(), &self.house.receiver.totals()));
        lines.push(StyledLine::new());
        let hint = if stopping { BREAK_AGAIN } else { BREAK };
        lines.push(vec![(Style::Dim, format!("{hint}; service map: {}", self.house.page.url()))]);
        self.screen.draw(&lines)?;
        // A second Ctrl-C leaves no time for giving the cursor back.
        if stopping { self.screen.show_cursor() } else { Ok(()) }
    }

    fn line(&mut self, doing: &str) -> std::io::Result<()> {
        if self.told.is_some_and(|told| told.elapsed() < LINE_EVERY) {
            return Ok(());
        }
        self.told = Some(Instant::now());
        let (ledger, receiver) = (self.house.ledger(), self.house.receiver.totals());
        let line = format!(
            "{:>3} s  {} spans sent, {} read, {} series, {} contradictions  ({doing})",
            self.begin.elapsed().as_secs(),
            count(self.sent.load(Ordering::Relaxed)),
            count(ledger.get(Counter::SpansRead)),
            count(receiver.series),
            count(receiver.violations)
        );
        self.screen.write(&[vec![(Style::Plain, line)]])
    }
}

/// The verdict in words.
fn outcome(verdict: &DemoResult, contradictions: &[String]) -> Vec<StyledLine> {
    let series = count(verdict.series as u64);
    if verdict.holds() && contradictions.is_empty() {
        return vec![vec![(Style::Good, format!("{series} series, all equal to the expected result"))]];
    }
    let mut lines = Vec::new();
    for (what, found) in [("differences", &verdict.differences[..]), ("contradictions", contradictions)] {
        if found.is_empty() {
            continue;
        }
        lines.push(vec![(Style::Bad, format!("{} {what} in {series} series:", count(found.len() as u64)))]);
        lines.extend(found.iter().take(MOST_DIFFERENCES).map(|text| vec![(Style::Plain, format!("  {text}"))]));
    }
    lines
}
