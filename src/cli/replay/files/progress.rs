//! The progress: a bar on a terminal, a line at intervals elsewhere. It counts acknowledged data: files are read
//! ahead of that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::terminal::{fitted, pace, width};
use super::sending::Sending;
use super::summary::Summary;
use crate::cli::console;
use crate::core::model::text::Shown;
use crate::core::model::{Counter, Millis};
use crate::tools::local::Local;

/// The interval between two updates of a bar.
const BAR_EVERY: Duration = Duration::from_millis(250);
/// The width of the bar with its numbers.
const BAR_WIDTH: usize = 38;
/// Records that lie closer together are one place.
const PLACE: Millis = 1_000;

/// Reports the progress of a replay on standard error.
#[derive(Debug)]
pub(super) struct FilesProgress {
    bar: Option<ProgressBar>,
    /// Bytes to read, if that is known.
    total: Option<u64>,
    every: Duration,
    begin: Instant,
    told: Instant,
    delivered: Delivered,
}

/// How much of the files has been delivered.
#[derive(Debug, Default)]
struct Delivered {
    /// Times, and the bytes that had been read with the records up to then.
    places: VecDeque<(Millis, u64)>,
    bytes: u64,
}

// === impl Delivered ===

impl Delivered {
    fn read(&mut self, at: Millis, bytes: u64) {
        match self.places.back_mut() {
            Some((last, read)) if at - *last < PLACE => *read = bytes.max(*read),
            _ => self.places.push_back((at, bytes)),
        }
    }

    /// The bytes of what lies before `settled`, up to which everything has been answered.
    fn up_to(&mut self, settled: Option<Millis>) -> u64 {
        while let Some(&(_, bytes)) = self.places.front().filter(|(at, _)| settled.is_some_and(|end| *at < end)) {
            self.bytes = self.bytes.max(bytes);
            self.places.pop_front();
        }
        self.bytes
    }
}

// === impl FilesProgress ===

impl FilesProgress {
    /// Draws on `bars`, if there is a terminal; without one, reports once per interval `every`.
    pub(super) fn new(total: Option<u64>, bars: Option<&MultiProgress>, every: Duration, begin: Instant) -> Self {
        let bar = bars.map(|bars| bars.add(bar(total)));
        let every = if bar.is_some() { BAR_EVERY } else { every };
        Self { bar, total, every, begin, told: begin, delivered: Delivered::default() }
    }

    /// A record of this time has been taken; with it, so many bytes of the files had been read.
    pub(super) fn read(&mut self, at: Millis, bytes: u64) {
        // Places are removed when they are shown.
        if !self.every.is_zero() {
            self.delivered.read(at, bytes);
        }
    }

    /// Reports the progress, if it is time.
    pub(super) fn show(&mut self, summary: &Summary, local: &Local, sending: &Sending, stuck: Option<&str>) {
        if self.every.is_zero() || self.told.elapsed() < self.every {
            return;
        }
        self.told = Instant::now();
        let bytes = self.delivered.up_to(sending.settled(true));
        let words = self.words(summary, local, sending.waiting(), stuck);
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            bar.set_message(Shown(&fitted(&words, width().saturating_sub(BAR_WIDTH))).to_string());
            return;
        }
        let delivered = match self.total.filter(|total| *total > 0) {
            Some(total) => format!("{:.1} % of {total} bytes delivered", bytes as f64 * 100.0 / total as f64),
            None => format!("{bytes} bytes delivered"),
        };
        // A closed pipe does not stop the replay.
        console::say(&format_args!("{delivered}, {}", words.join(", ")));
    }

    /// The most important first.
    fn words(&self, summary: &Summary, local: &Local, waiting: usize, stuck: Option<&str>) -> Vec<String> {
        let (spans, seconds) = (local.ledger().get(Counter::SpansRead), self.begin.elapsed().as_secs_f64().max(1e-9));
        let mut words: Vec<String> = stuck.map(str::to_owned).into_iter().collect();
        if summary.unreadable.count > 0 {
            words.push(format!("{} unreadable", summary.unreadable.count));
        }
        words.extend(pace(spans, spans, seconds, summary.times.map(|(first, last)| (Some(first), last))));
        if waiting > 0 {
            words.push(format!("{waiting} requests in flight"));
        }
        words
    }

    /// Leaves the terminal as it was.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:24} {percent:>3} % {eta:>4}  {wide_msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {wide_msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_what_has_been_answered_and_not_what_has_been_read() {
        let mut delivered = Delivered::default();
        for (at, bytes) in [(1_000, 10), (1_500, 20), (20_000, 30), (19_000, 40), (40_000, 50)] {
            delivered.read(at, bytes);
        }
        let steps = [None, Some(1_000), Some(15_000), Some(30_000), Some(45_000)];
        assert_eq!(steps.map(|step| delivered.up_to(step)), [0, 0, 20, 40, 50]);
    }
}
