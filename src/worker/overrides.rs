//! Settings per tenant: read at the start, and again whenever the file changes.
//!
//! *In:* the file at `overrides.file`. *Out:* [`InForce`], which tasks take over between two records or two steps, and the
//! routes of the exporter. *Owner:* the thread `overrides`, because it may wait for a disk or for credentials. *Never:*
//! half a file: with a single problem, everything stays as it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::shared::Shared;
use super::{WorkerError, pause};
use crate::config::{self, Config, Tenants};
use crate::export::Exporter;
use crate::telemetry::Telemetry;

/// A file that has changed must look the same again after this long: it may still be being written.
const SETTLE: Duration = Duration::from_millis(100);

/// The settings that apply now.
#[derive(Debug)]
pub(super) struct InForce {
    /// Grows with every change, so that tasks see it at a glance.
    pub(super) generation: u64,
    /// The settings of every tenant.
    pub(super) tenants: Tenants,
}

/// What the file looked like: a checksum, or why it cannot be read.
type Look = Result<u64, String>;

/// Follows the file.
pub(super) struct Watch {
    path: PathBuf,
    every: Duration,
    seen: Look,
}

/// Why a file does not come into force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverridesError {
    /// It is not there, or not for us.
    #[error("overrides.file: {path} cannot be read: {source}; check the path and its permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is wrong.
    #[error("{0}")]
    Problems(#[from] config::Problems),
    /// A receiver cannot be spoken to as it says.
    #[error(transparent)]
    Export(#[from] crate::export::ExportError),
}

/// Reads the file for the first time, if there is one, and routes the exporter by it.
pub(super) fn at_start(
    config: Config,
    exporter: &Exporter,
    telemetry: &Telemetry,
) -> Result<(InForce, Option<Watch>), WorkerError> {
    let Some(path) = config.overrides.file.clone() else {
        return Ok((InForce { generation: 0, tenants: Tenants::from(config) }, None));
    };
    let every = Duration::from_millis(config.overrides.reload_every.unsigned_abs());
    let text = readable(&path, std::fs::read_to_string(&path))?;
    let tenants = parse(&config, &path, &text)?;
    exporter.reroute(&tenants).map_err(OverridesError::from)?;
    show(telemetry, &tenants, &text);
    let seen = Ok(xxh3_64(text.as_bytes()));
    Ok((InForce { generation: 0, tenants }, Some(Watch { path, every, seen })))
}

fn readable(path: &Path, text: io::Result<String>) -> Result<String, OverridesError> {
    text.map_err(|source| OverridesError::Unreadable { path: path.to_owned(), source })
}

fn parse(config: &Config, path: &Path, text: &str) -> Result<Tenants, OverridesError> {
    let read_file = |path: &Path| std::fs::read_to_string(path);
    Ok(config::load_overrides(config, text, &path.to_string_lossy(), &read_file)?)
}

fn show(telemetry: &Telemetry, tenants: &Tenants, text: &str) {
    let names = tenants.overridden().map(|(name, _)| name.to_owned()).collect();
    telemetry.overrides_loaded(format!("{:016x}", xxh3_64(text.as_bytes())), names);
}

fn look(text: &io::Result<String>) -> Look {
    text.as_ref().map(|text| xxh3_64(text.as_bytes())).map_err(ToString::to_string)
}

// === impl Watch ===

impl Watch {
    /// Follows the file until the worker stops.
    pub(super) fn run(mut self, shared: &Shared) {
        while pause(&shared.stop, self.every) {
            let found = look(&std::fs::read_to_string(&self.path));
            if found == self.seen || !pause(&shared.stop, SETTLE) {
                continue;
            }
            let text = std::fs::read_to_string(&self.path);
            if look(&text) == found {
                self.seen = found;
                self.change(shared, text);
            }
        }
    }

    fn change(&self, shared: &Shared, text: io::Result<String>) {
        match self.apply(shared, text) {
            Ok(tenants) => tracing::info!(file = %self.path.display(), tenants, "new overrides are in force"),
            Err(why) => {
                shared.telemetry.overrides_refused();
                tracing::warn!(file = %self.path.display(),
                    "the overrides have changed and cannot be used; those in force stay: {why}");
            }
        }
    }

    /// Everything that can fail comes first.
    fn apply(&self, shared: &Shared, text: io::Result<String>) -> Result<usize, OverridesError> {
        let text = readable(&self.path, text)?;
        let tenants = parse(&shared.config, &self.path, &text)?;
        shared.exporter.reroute(&tenants)?;
        show(&shared.telemetry, &tenants, &text);
        let count = tenants.overridden().count();
        shared.put_in_force(tenants);
        Ok(count)
    }
}

/// Starts the thread that follows the file.
pub(super) fn follow(shared: &Arc<Shared>, watch: Watch) -> Result<std::thread::JoinHandle<()>, WorkerError> {
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("overrides".to_owned());
    thread.spawn(move || watch.run(&shared)).map_err(WorkerError::Thread)
}
