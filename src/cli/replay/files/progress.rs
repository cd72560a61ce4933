//! How far it is: a bar on a terminal, a line now and then elsewhere.

use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::summary::Summary;
use crate::model::Tally;
use crate::model::time::rfc3339;
use crate::tasks::local::Local;

/// A bar is drawn so often.
const BAR_EVERY: Duration = Duration::from_millis(250);

/// Tells how far a replay is, on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// Bytes to read, if that is known.
    total: Option<u64>,
    every: Duration,
    begin: Instant,
    told: Instant,
}

// === impl Progress ===

impl Progress {
    /// Draws on `bars`, if there is a terminal; without one, tells something `every` so often.
    pub(super) fn new(total: Option<u64>, bars: Option<&MultiProgress>, every: Duration, begin: Instant) -> Self {
        let bar = bars.map(|bars| bars.add(bar(total)));
        let every = if bar.is_some() { BAR_EVERY } else { every };
        Self { bar, total, every, begin, told: begin }
    }

    /// Tells it, if it is time.
    pub(super) fn show(&mut self, bytes: u64, summary: &Summary, local: &Local, waiting: usize) {
        if self.every.is_zero() || self.told.elapsed() < self.every {
            return;
        }
        self.told = Instant::now();
        let text = self.text(summary, local, waiting);
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            bar.set_message(text);
            return;
        }
        let read = match self.total.filter(|total| *total > 0) {
            Some(total) => format!("{:.1} % of {total} bytes", bytes as f64 * 100.0 / total as f64),
            None => format!("{bytes} bytes"),
        };
        // Whoever does not listen does not stop the replay.
        drop(writeln!(std::io::stderr(), "{read}, {text}"));
    }

    fn text(&self, summary: &Summary, local: &Local, waiting: usize) -> String {
        let (spans, seconds) = (local.ledger().get(Tally::SpansRead), self.begin.elapsed().as_secs_f64().max(1e-9));
        let reached = summary.times.map_or_else(String::new, |(first, last)| {
            format!(", {} ({:.0} times real time)", rfc3339(last), (last - first) as f64 / 1e3 / seconds)
        });
        let held = if waiting > 0 { format!(", {waiting} requests under way") } else { String::new() };
        let bad = if summary.unreadable.count > 0 {
            format!(", {} unreadable", summary.unreadable.count)
        } else {
            String::new()
        };
        format!("{spans} spans, {:.0} spans/s{reached}{held}{bad}", spans as f64 / seconds)
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
