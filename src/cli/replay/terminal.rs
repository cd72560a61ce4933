//! A terminal with bars on it: the lines of the log stand above them.

use std::io::{self, IsTerminal as _, Write};

use console::Term;
use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::settings::Log;
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
