//! The display of a replay: bars on a terminal, lines elsewhere, and a summary.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use super::ReportArgs;
use super::finish::Finished;
use super::terminal::{fitted, init_log, is_live, pace, width};
use crate::cli::console;
use crate::config::settings::Log;
use crate::core::model::text::Shown;
use crate::core::model::time::{last_step, rfc3339};
use crate::core::model::{Counter, Ledger, Millis};
use crate::tools::replay::{ReplayPlan, ReplayProgress};
use crate::tools::slos::{SloResult, table};
use crate::worker::telemetry::log::LogError;
use crate::worker::telemetry::{Samples, TaskKind, Telemetry};

/// The width of a bar with its name and numbers.
const BAR_WIDTH: usize = 49;
/// More partitions than this share one bar.
const BARS: usize = 16;

/// Standard error for progress, standard output for the summary.
pub(super) struct Screen {
    json: bool,
    live: bool,
    /// How often a line is printed where there is no terminal.
    every: Duration,
    printed: Cell<Instant>,
    bars: MultiProgress,
    total: ProgressBar,
    partitions: RefCell<Vec<ProgressBar>>,
    /// The first state: rates are since then.
    first: OnceCell<Look>,
}

/// The progress of this worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    elapsed: Duration,
    ledger: Ledger,
    samples: Samples,
    /// Offsets that this worker's partitions have passed.
    passed: u64,
    /// Offsets that they have in all.
    offsets: u64,
    /// The stream time of the slowest of them.
    slowest: Option<Millis>,
    partitions: Vec<Partition>,
    /// Why some task does not continue.
    trouble: Option<String>,
}

#[derive(Debug, Clone)]
struct Partition {
    name: String,
    passed: u64,
    offsets: u64,
    stream_time: Option<Millis>,
}

/// The result of this worker.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    elapsed: Duration,
    samples: Samples,
    /// The error of the spool, if that has ended the run.
    pub(super) stuck: Option<String>,
    /// Whether other workers have had a part of the run.
    pub(super) shared: bool,
    /// The result of the spool, if there is one and the run is complete.
    pub(super) finished: Finished,
    /// What objectives come to, if this worker has read the whole run.
    pub(super) slos: Vec<SloResult>,
}

// === impl Look ===

impl Look {
    pub(super) fn of(telemetry: &Telemetry, plan: &ReplayPlan, elapsed: Duration) -> Self {
        let statuses = telemetry.tasks().snapshot();
        let mut look = Self { elapsed, samples: telemetry.samples(), ..Self::default() };
        look.trouble = statuses.iter().find_map(|(_, status)| status.trouble.clone());
        for (id, status) in statuses.iter().filter(|(id, _)| id.kind == TaskKind::Span) {
            let planned = plan.partitions.iter().find(|p| p.topic == id.topic && p.partition == id.partition);
            let Some(planned) = planned else { continue };
            look.ledger.merge(&status.ledger);
            let offsets = (planned.to - planned.from).max(0).unsigned_abs();
            let passed = if status.done { planned.to } else { status.position } - planned.from;
            let passed = passed.max(0).unsigned_abs().min(offsets);
            let stream_time = status.stream_time.map(|at| last_step(at).unwrap_or(at));
            let name = format!("{}[{}]", id.topic, id.partition);
            look.partitions.push(Partition { name, passed, offsets, stream_time });
            (look.passed, look.offsets) = (look.passed + passed, look.offsets + offsets);
            if passed < offsets {
                look.slowest = [look.slowest, stream_time].into_iter().flatten().min();
            }
        }
        look
    }

    /// The same, and why the spool accepts no data, if it does not.
    pub(super) fn or_stuck(mut self, stuck: Option<String>) -> Self {
        self.trouble = stuck.or(self.trouble);
        self
    }

    fn spans(&self) -> u64 {
        self.ledger.get(Counter::SpansRead)
    }

    /// Rates since `first`, in words, the most important first.
    fn words(&self, first: &Self) -> Vec<String> {
        let seconds = self.elapsed.saturating_sub(first.elapsed).as_secs_f64().max(1e-3);
        let mut words: Vec<String> = self.trouble.iter().cloned().collect();
        let times = self.slowest.map(|at| (first.slowest, at));
        words.extend(pace(self.spans(), self.spans().saturating_sub(first.spans()), seconds, times));
        let rate = self.passed.saturating_sub(first.passed) as f64 / seconds;
        let left = self.offsets.saturating_sub(self.passed);
        if rate > 0.0 && left > 0 {
            words.push(format!("{} left", length(left as f64 / rate)));
        }
        words.push(format!("{} samples", self.samples.acknowledged + self.samples.already_there));
        words
    }
}

// === impl Summary ===

impl Summary {
    pub(super) fn of(telemetry: &Telemetry, elapsed: Duration) -> Self {
        Self {
            elapsed,
            samples: telemetry.samples(),
            stuck: None,
            shared: false,
            finished: Finished::default(),
            slos: Vec::new(),
        }
    }

    /// Whether nothing was refused, and nothing differs.
    pub(super) fn is_good(&self) -> bool {
        self.samples.rejected == 0 && self.finished.is_good()
    }
}

// === impl Screen ===

impl Screen {
    pub(super) fn new(report: &ReportArgs) -> Self {
        let live = is_live();
        let bars = MultiProgress::new();
        let total = if live { bars.add(ProgressBar::new(0).with_style(style())) } else { ProgressBar::hidden() };
        let (json, every) = (report.json, report.print_every);
        let (partitions, first, printed) = (RefCell::default(), OnceCell::new(), Cell::new(Instant::now()));
        Self { json, live, every, bars, total, partitions, first, printed }
    }

    /// Sets up logs, which appear above the bars.
    pub(super) fn init_log(&self, settings: &Log) -> Result<(), LogError> {
        init_log(settings, self.live.then_some(&self.bars))
    }

    /// Prints the plan of the run.
    pub(super) fn begin(&self, id: &str, plan: &ReplayPlan, new: bool) {
        let verb = if new { "begins" } else { "continues" };
        let begins = plan.begins().map(rfc3339);
        let from = begins.map(|at| format!(", from {at}")).unwrap_or_default();
        self.say(&format!("run {id} {verb}: {} partitions, {} offsets{from}", plan.partitions.len(), plan.offsets()));
        for p in plan.partitions.iter().filter(|p| p.cut) {
            let note = "earlier records have been deleted from the topic";
            self.say(&format!("{}[{}] begins at offset {}: {note}", p.topic, p.partition, p.from));
        }
    }

    pub(super) fn say(&self, line: &str) {
        if self.live {
            // A terminal that has gone away is noticed elsewhere.
            self.bars.println(Shown(line).to_string()).unwrap_or_default();
        } else {
            console::say(&line);
        }
    }

    /// Draws the bars, or prints a line at intervals.
    pub(super) fn show(&self, look: &Look) {
        let first = self.first.get_or_init(|| look.clone());
        if !self.live {
            return self.print(look, first);
        }
        self.total.set_length(look.offsets);
        self.total.set_position(look.passed);
        let room = width().saturating_sub(BAR_WIDTH);
        self.total.set_message(Shown(&fitted(&look.words(first), room)).to_string());
        if look.partitions.len() > BARS {
            return;
        }
        for (at, partition) in look.partitions.iter().enumerate() {
            let bar = self.bar(at);
            bar.set_prefix(Shown(&partition.name).to_string());
            bar.set_length(partition.offsets);
            bar.set_position(partition.passed);
            bar.set_message(partition.stream_time.map(rfc3339).unwrap_or_default());
        }
    }

    /// The bar of a partition; there are more when the group gives this worker more.
    fn bar(&self, at: usize) -> ProgressBar {
        let mut bars = self.partitions.borrow_mut();
        while bars.len() <= at {
            bars.push(self.bars.add(ProgressBar::new(0).with_style(style())));
        }
        bars[at].clone()
    }

    fn print(&self, look: &Look, first: &Look) {
        if self.every.is_zero() || self.printed.get().elapsed() < self.every {
            return;
        }
        self.printed.set(Instant::now());
        let percent = look.passed * 100 / look.offsets.max(1);
        console::say(&format_args!("{percent:>3} %: {}", look.words(first).join(", ")));
    }

    /// Prints the summary.
    pub(super) fn end(
        &self,
        id: &str,
        plan: &ReplayPlan,
        progress: &ReplayProgress,
        summary: &Summary,
    ) -> io::Result<()> {
        self.bars.clear()?;
        let mut out = console::out();
        if self.json {
            writeln!(out, "{:#}", as_json(id, plan, progress, summary))
        } else {
            out.write_all(as_text(id, plan, progress, summary).as_bytes())
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:16} {bar:24} {percent:>3} % {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn as_text(id: &str, plan: &ReplayPlan, progress: &ReplayProgress, summary: &Summary) -> String {
    let (ledger, samples) = (progress.ledger(), &summary.samples);
    let mut lines = Vec::new();
    let last = progress.partitions.values().filter_map(|p| p.step).max().map_or_else(|| "-".to_owned(), rfc3339);
    if progress.complete() {
        lines.push(format!("run {id} is complete, up to {last}"));
    } else {
        let over = progress.partitions.values().filter(|p| p.over).count();
        let (all, shards) = (progress.partitions.len(), progress.shards);
        lines.push(format!(
            "run {id} is not complete: {over} of {all} partitions are read, {} of {shards} shards are delivered",
            progress.shards_over
        ));
    }
    lines.push(format!("this worker: {}", length(summary.elapsed.as_secs_f64())));
    for (name, n) in [
        ("samples stored", samples.acknowledged),
        ("duplicate samples", samples.already_there),
        ("samples rejected", samples.rejected),
        ("samples filtered", samples.filtered),
    ] {
        lines.push(format!("  {n:>12}  {name}"));
    }
    lines.push("ledger of the whole run:".to_owned());
    lines.extend(ledger.iter().filter(|(_, n)| *n > 0).map(|(counter, n)| format!("  {n:>12}  {}", counter.name())));
    let open = ledger.pending_edges();
    if open > 0 {
        lines.push(format!("  {open:>12}  unpaired spans still wait for their peer"));
    }
    for p in plan.partitions.iter().filter(|p| p.cut) {
        let text = "earlier records of the range had been deleted";
        lines.push(format!("{}[{}] began at offset {}: {text}", p.topic, p.partition, p.from));
    }
    lines.push(if progress.complete() {
        format!("delete its topics with: spanmill replay --id {id} --remove, with the same configuration")
    } else {
        format!("continue it with: spanmill replay --id {id}, with the same configuration")
    });
    lines.join("\n") + "\n" + &summary.finished.text + &table(&summary.slos)
}

fn as_json(id: &str, plan: &ReplayPlan, progress: &ReplayProgress, summary: &Summary) -> serde_json::Value {
    let ledger = progress.ledger();
    let counters: serde_json::Map<String, serde_json::Value> =
        ledger.iter().map(|(counter, n)| (counter.name().to_owned(), n.into())).collect();
    let partitions = plan.partitions.iter().map(|p| {
        let reached = progress.partitions.get(&(p.topic.clone(), p.partition));
        json!({
            "topic": p.topic, "partition": p.partition, "from": p.from, "to": p.to, "cut": p.cut,
            "next": reached.and_then(|r| r.next), "over": reached.is_some_and(|r| r.over),
        })
    });
    json!({
        "id": id,
        "complete": progress.complete(),
        "seconds": summary.elapsed.as_secs_f64(),
        "samples": summary.samples,
        "ledger": counters,
        "edges_open": ledger.pending_edges().to_string().parse::<i64>().unwrap_or_default(),
        "partitions": partitions.collect::<Vec<_>>(),
        "shards": progress.shards,
        "shards_over": progress.shards_over,
        "finished": summary.finished,
        "slos": summary.slos,
    })
}

fn length(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3_600, whole / 60 % 60),
    }
}
