//! A terminal with bars on it: the lines of the log stand above them.

use std::io::{self, IsTerminal as _, Write};

use console::Term;
use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::settings::Log;
use crate::core::model::Millis;
use crate::core::model::time::rfc3339;
use crate::worker::telemetry::log::{self, LogError};

/// Removes the bars, writes a line, and draws them again.
#[derive(Clone)]
struct AboveBars(MultiProgress);

/// Whether there is a terminal to draw on.
pub(super) fn is_live() -> bool {
    io::stderr().is_terminal()
}

/// How wide the terminal is.
pub(super) fn width() -> usize {
    usize::from(Term::stderr().size().1)
}

/// As many of the words as fit into `width`, and the first one in any case. They are in the order of their importance.
pub(super) fn fitted(words: &[String], width: usize) -> String {
    let mut text = String::new();
    for word in words {
        let comma = if text.is_empty() { "" } else { ", " };
        if !text.is_empty() && text.chars().count() + comma.len() + word.chars().count() > width {
            break;
        }
        text.push_str(comma);
        text.push_str(word);
    }
    text
}

/// How far a replay is and how fast, in words, the most important first: it has read `spans`, `new` ones of them in these
/// `seconds`, in which event time went from the first of the `times`, if that is known, to the second.
pub(super) fn pace(spans: u64, new: u64, seconds: f64, times: Option<(Option<Millis>, Millis)>) -> Vec<String> {
    let mut words = vec![format!("{spans} spans"), format!("{} spans/s", rate(new as f64 / seconds))];
    if let Some((from, at)) = times {
        words.push(format!("at {}", rfc3339(at)));
        let passed = from.map(|from| (at - from).max(0) as f64 / 1e3);
        words.extend(passed.map(|passed| format!("{} times real time", rate(passed / seconds))));
    }
    words
}

/// A rate with its significant digits.
fn rate(rate: f64) -> String {
    if rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// Sets up logs for a process that may have bars on its terminal.
pub(super) fn init_log(settings: &Log, bars: Option<&MultiProgress>) -> Result<(), LogError> {
    let Log { level, format } = settings;
    match bars {
        Some(bars) => log::init(level, *format, AboveBars(bars.clone())),
        None => log::init(level, *format, io::stderr),
    }
}

// === impl AboveBars ===

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for AboveBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_names_event_time_as_far_as_it_is_known() {
        assert_eq!(pace(300, 200, 2.0, None), ["300 spans", "100 spans/s"]);
        let at = 1_796_083_200_000;
        let words = ["7 spans", "3.5 spans/s", "at 2026-12-01T00:00:00Z"];
        assert_eq!(pace(7, 7, 2.0, Some((None, at))), words);
        assert_eq!(pace(7, 7, 2.0, Some((Some(at - 60_000), at)))[2..], [words[2], "30.0 times real time"]);
    }

    #[test]
    fn a_line_has_as_many_words_as_fit_and_cuts_none() {
        let words = ["12 spans", "3 spans/s", "2026-11-30"].map(str::to_owned);
        assert_eq!(fitted(&words, 80), "12 spans, 3 spans/s, 2026-11-30");
        assert_eq!(fitted(&words, 30), "12 spans, 3 spans/s");
        assert_eq!(fitted(&words, 19), "12 spans, 3 spans/s");
        assert_eq!(fitted(&words, 18), "12 spans");
        assert_eq!(fitted(&words, 0), "12 spans");
        assert_eq!(fitted(&[], 10), "");
    }
}
