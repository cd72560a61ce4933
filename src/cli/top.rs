//! `spanmill top`: what the workers of a group count, and how far they are, in the terminal.
//!
//! *In:* the configuration of the workers; the deltas topic and the journals. *Out:* a live view, or tables once. *Never:* a
//! member of their groups, a write.

mod draw;
mod live;
mod print;
mod rows;
mod snapshot;
mod source;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::source::Source;
use self::state::{State, Tab};
use super::produce::duration;
use super::{ConfigArgs, console};
use crate::config::Config;
use crate::core::model::Millis;
use crate::tools::map::MapSettings;
use crate::worker::telemetry;

/// Numbers are counted over so many points of the map.
const POINTS: Millis = 5;
/// Edges without calls stay for at least this long.
const HISTORY: Millis = 600_000;
/// The longest time that numbers may be counted over.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the tables once and exit: 1 if something could not be read. So it does when there is no terminal, or with --output
    #[arg(long)]
    once: bool,
    /// How to print it once
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
    /// The tab that is shown first; the only one that is printed. Without it, all are printed
    #[arg(long, value_enum, value_name = "TAB")]
    tab: Option<Tab>,
    /// The tenant whose services and edges are shown; without it, the first one
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// The time over which rates and quantiles are counted; rounded up to 5 multiples of time.step
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = window)]
    window: Duration,
    /// How long printing once waits until everything is read
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Memory for the counts in MiB; above it the oldest are dropped, and the view reports it
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..))]
    memory: u32,
}

/// A format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Tables.
    Table,
    /// Tables with more columns.
    Wide,
    /// One JSON object.
    Json,
}

fn window(text: &str) -> Result<Duration, String> {
    let window = duration(text)?;
    let fits = (Duration::from_secs(1)..=LONGEST).contains(&window);
    if fits { Ok(window) } else { Err("use 1s to 1h".to_owned()) }
}

/// Shows the view until it is ended, or prints it once. Returns the exit code: 0 if everything could be read, 1 if
/// something is missing from what was printed, 64 if the settings are wrong.
///
/// # Errors
/// When the terminal or the output cannot be written to.
pub(super) fn run(args: &TopArgs) -> io::Result<u8> {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let settings = args.settings(&loaded.config);
    let stop = live::stop_signal()?;
    if args.once || args.output.is_some() || !live::is_possible() {
        let mut source = Source::start(loaded, settings)?;
        return args.print(&mut source, || stop.load(Ordering::Relaxed), &mut console::out());
    }
    // A live picture and log lines do not share a terminal; `2>FILE` keeps the logs.
    if !io::stderr().is_terminal() {
        let log = &loaded.config.log;
        telemetry::log::init(&log.level, log.format, io::stderr).map_err(io::Error::other)?;
    }
    let state = State::new(args.tab.unwrap_or(Tab::Services), args.tenant.clone(), false);
    live::run(&mut Source::start(loaded, settings)?, state, &stop)?;
    Ok(0)
}

// === impl TopArgs ===

impl TopArgs {
    fn settings(&self, config: &Config) -> MapSettings {
        let step = config.core.time.step;
        let point = (self.window.as_millis() as Millis + POINTS - 1) / POINTS;
        let resolution = step.end_of((point - 1).max(0));
        let history = HISTORY.max(4 * POINTS * resolution);
        MapSettings {
            step: step.ms(),
            resolution,
            history: Some(history),
            points: (history / resolution) as usize + 1,
            memory: self.memory as usize * (1 << 20),
            whole: false,
        }
    }

    fn print(&self, source: &mut Source, stopped: impl Fn() -> bool, out: &mut dyn Write) -> io::Result<u8> {
        let one = self.tab.map(|tab| [tab]);
        let tabs: &[Tab] = one.as_ref().map_or(&Tab::ALL, |one| one);
        let read = source.wait(tabs, Instant::now() + self.timeout, stopped);
        let mut snapshot = source.snapshot(self.tenant.as_deref(), tabs);
        let mut code = 0;
        let unknown = self.tenant.as_ref().filter(|tenant| !snapshot.tenants.contains(tenant));
        let unknown = unknown
            .map(|tenant| format!("tenant {tenant} has counted nothing; these have: {}", snapshot.tenants.join(", ")));
        for problem in read.err().into_iter().chain(unknown) {
            code = 1;
            if !snapshot.partial.contains(&problem) {
                snapshot.partial.push(problem);
            }
        }
        match self.output.unwrap_or(Output::Table) {
            Output::Table => print::tables(&snapshot, tabs, false, out)?,
            Output::Wide => print::tables(&snapshot, tabs, true, out)?,
            Output::Json => print::json(&snapshot, tabs, out)?,
        }
        Ok(code)
    }
}
