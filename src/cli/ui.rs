//! `spanmill ui`: the service map of a group as a page.
//!
//! *In:* the configuration of the workers. *Out:* a page, until it is stopped. *Never:* a member of their groups.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::produce::duration;
use super::run::stop_signal;
use super::{ConfigArgs, USAGE, console, fail};
use crate::config::settings::{Secret, ServerTls};
use crate::config::{Config, Loaded};
use crate::core::model::Millis;
use crate::tools::map::{Map, MapSettings};
use crate::tools::ui::follow::Follow;
use crate::tools::ui::{Access, Page, PageSettings, SharedMap};
use crate::worker::kafka::broker_clock::wall_clock;

/// The default address of a page.
pub(super) const LISTEN: &str = "127.0.0.1:4900";
/// Points of a history at most; a step of a minute fills 24 hours.
const POINTS: usize = 1440;

/// Arguments of `ui`.
#[derive(Debug, clap::Args)]
pub struct UiArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    page: PageArgs,
    /// How long points of the history are kept, at most 1440 of them
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = duration)]
    history: Duration,
    /// Time of one point of the history; rounded up to a multiple of time.step
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    resolution: Duration,
    /// Memory for the map in MiB; above it the oldest points are dropped, and the page reports it
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..))]
    memory: u32,
}

/// The arguments of all pages.
#[derive(Debug, Clone, clap::Args)]
pub struct PageArgs {
    /// Address of the page. Every client that reaches it, and has the token if there is one, sees all tenants
    #[arg(long, value_name = "HOST:PORT", default_value = LISTEN)]
    pub listen: String,
    /// Link to a trace, with {trace_id} in place of its ID, such as `https://tempo.example/trace/{trace_id}`
    #[arg(long, value_name = "URL", value_parser = PageSettings::check_trace_url)]
    pub trace_url: Option<String>,
    /// File with the token that requests must bring: as `Authorization: Bearer`, or as the password that a browser asks for, with
    /// any name. It is read again when it changes
    #[arg(long, value_name = "FILE", value_parser = token_of)]
    pub token_file: Option<Secret>,
    /// Certificate chain, PEM: the page is served over https only. It is read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// The token in a file.
fn token_of(file: &str) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("it cannot be read: {error}"))?;
    let token = Secret::in_text(&text);
    let sent = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
    if sent {
        Ok(Secret::of_file(token, file))
    } else {
        Err("it holds no token of visible ASCII without blanks".to_owned())
    }
}

/// A page that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the page at {listen}: {source}; choose a free host:port")]
pub struct PageError {
    /// Where.
    pub listen: String,
    /// The error of the system.
    pub source: std::io::Error,
}

/// Serves a page.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) fn serve(listen: &str, map: &SharedMap, settings: PageSettings) -> Result<Page, PageError> {
    let failed = |source| PageError { listen: listen.to_owned(), source };
    Page::start(listen, map.clone(), settings).map_err(failed)
}

/// How long an edge may take: it waits for its peer, then its step must end, and that of the slowest source.
pub(super) fn edge_delay(config: &Config) -> Millis {
    config.core.service_graphs.wait + 2 * config.core.time.step.ms()
}

/// Runs until a signal.
pub(super) fn run(args: &UiArgs) -> ExitCode {
    let loaded = match args.config.prepare() {
        Ok(loaded) => loaded,
        Err(code) => return ExitCode::from(code),
    };
    if let Some(problem) = args.problem(&loaded.config) {
        console::say(&problem);
        return ExitCode::from(USAGE);
    }
    match show(args, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn show(args: &UiArgs, loaded: Loaded) -> Result<(), Box<dyn std::error::Error>> {
    let stop = stop_signal()?;
    let config = &loaded.config;
    let map = SharedMap::new(Map::new(args.settings(config)));
    let settings = PageSettings {
        source: format!("group {}", config.kafka.group),
        trace_url: args.page.trace_url.clone(),
        edge_delay: edge_delay(config),
        finished: false,
        access: args.page.access(),
    };
    let page = serve(&args.page.listen, &map, settings)?;
    tracing::info!(url = page.url(), group = config.kafka.group, brokers = config.kafka.brokers, "serving the map");
    let since = wall_clock() - args.history.as_millis() as Millis;
    let follow = Follow::start(Arc::new(loaded.tenants), map, since)?;
    wait(&stop);
    drop(follow);
    drop(page);
    Ok(())
}

/// Waits for a signal.
pub(super) fn wait(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Prints the address of the page of files, and serves it until a signal.
///
/// # Errors
/// When the address cannot be listened on, or standard output is gone.
pub(super) fn show_until(
    listen: &str,
    map: &SharedMap,
    settings: PageSettings,
    stop: &AtomicBool,
) -> Result<(), PageError> {
    let page = serve(listen, map, settings)?;
    let told = writeln!(console::out(), "service map: {} (Ctrl-C ends it)", page.url());
    told.map_err(|source| PageError { listen: listen.to_owned(), source })?;
    wait(stop);
    Ok(())
}

/// The title of the page.
pub(super) fn title(files: &[std::path::PathBuf]) -> String {
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    match files {
        [one] => name(one),
        [first, rest @ ..] => format!("{} and {} more", name(first), rest.len()),
        [] => String::new(),
    }
}

// === impl PageArgs ===

impl PageArgs {
    fn access(&self) -> Access {
        let tls = ServerTls { cert_file: self.tls_cert.clone(), key_file: self.tls_key.clone() };
        Access { token: self.token_file.clone().unwrap_or_default(), tls }
    }
}

// === impl UiArgs ===

impl UiArgs {
    /// Why the requested history cannot be kept.
    fn problem(&self, config: &Config) -> Option<String> {
        let MapSettings { resolution, .. } = self.settings(config);
        let points = self.history.as_millis() as usize / resolution.unsigned_abs() as usize;
        (points > POINTS).then(|| {
            let seconds = (self.history.as_millis() as usize).div_ceil(POINTS).div_ceil(1_000);
            format!(
                "--history: these are {points} points, and {POINTS} are kept; use --resolution {seconds}s or more, or a \
                 shorter history"
            )
        })
    }

    fn settings(&self, config: &Config) -> MapSettings {
        let step = config.core.time.step;
        let resolution = step.end_of((self.resolution.as_millis() as Millis - 1).max(0));
        MapSettings {
            step: step.ms(),
            resolution,
            history: Some((self.history.as_millis() as Millis).max(resolution)),
            points: POINTS,
            memory: self.memory as usize * (1 << 20),
            whole: false,
        }
    }
}
