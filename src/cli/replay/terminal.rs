//! A terminal with bars on it: the lines of the log stand above them.

use std::io::{self, IsTerminal as _, Write};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::settings::Log;
use crate::telemetry::log::{self, LogError};

/// Takes the bars away, writes a line, and draws them again.
#[derive(Clone)]
struct AboveBars(MultiProgress);

/// Whether there is a terminal to draw on.
pub(super) fn is_live() -> bool {
    io::stderr().is_terminal()
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
