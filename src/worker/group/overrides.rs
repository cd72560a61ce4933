//! Settings per tenant: read at the start, and again whenever the file changes.
//!
//! *In:* the file at `overrides.file`. *Out:* the [`TenantSettings`], which tasks apply between two records or two
//! steps, and the routes of the exporter. *Owner:* the thread `overrides`, because it may wait for a disk or for
//! credentials. *Never:* half a file: with a single problem, everything stays as it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::parts::Parts;
use crate::config::{self, Config, Tenants};
use crate::worker::sender::Exporter;
use crate::worker::task::{Clients, OverridesError, TenantSettings, WorkerError, pause};
use crate::worker::telemetry::Telemetry;

/// A file that has changed must look the same again after this long: it may still be being written.
const SETTLE: Duration = Duration::from_millis(100);

/// The state of the file: a checksum, or why it cannot be read.
type Look = Result<u64, String>;

/// Follows the file.
pub(crate) struct Watch {
    path: PathBuf,
    every: Duration,
    seen: Look,
}

/// Reads the file for the first time, if there is one, and routes the exporter by it.
pub(crate) fn at_start(
    config: Config,
    exporter: &Exporter,
    telemetry: &Telemetry,
) -> Result<(Tenants, Option<Watch>), WorkerError> {
    let Some(path) = config.overrides.file.clone() else {
        let tenants = Tenants::from(config);
        if !tenants.defaults().more_endpoints.is_empty() {
            exporter.reroute(&tenants)?;
        }
        exporter.describe(&tenants);
        telemetry.settings_in_force(tenants.agreed().fingerprint(), tenants.agreed().text());
        return Ok((tenants, None));
    };
    let every = Duration::from_millis(config.overrides.reload_every.unsigned_abs());
    let text = readable(&path, std::fs::read_to_string(&path))?;
    let tenants = parse(&config, &path, &text)?;
    exporter.reroute(&tenants).map_err(OverridesError::from)?;
    show(telemetry, &tenants, &text);
    let seen = Ok(xxh3_64(text.as_bytes()));
    Ok((tenants, Some(Watch { path, every, seen })))
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
    telemetry.settings_in_force(tenants.agreed().fingerprint(), tenants.agreed().text());
}

fn look(text: &io::Result<String>) -> Look {
    text.as_ref().map(|text| xxh3_64(text.as_bytes())).map_err(ToString::to_string)
}

// === impl Watch ===

impl Watch {
    /// Follows the file until the worker stops.
    fn run(mut self, clients: &Clients, tenants: &TenantSettings, stop: &AtomicBool) {
        while pause(stop, self.every) {
            let found = look(&std::fs::read_to_string(&self.path));
            if found == self.seen || !pause(stop, SETTLE) {
                continue;
            }
            let text = std::fs::read_to_string(&self.path);
            if look(&text) == found {
                self.seen = found;
                self.change(clients, tenants, text);
            }
        }
    }

    fn change(&self, clients: &Clients, settings: &TenantSettings, text: io::Result<String>) {
        match self.apply(clients, settings, text) {
            Ok(tenants) => tracing::info!(file = %self.path.display(), tenants, "overrides reloaded"),
            Err(why) => {
                clients.telemetry.overrides_refused();
                tracing::warn!(file = %self.path.display(), error = %why,
                    "overrides reload failed, keeping the previous overrides");
            }
        }
    }

    /// Every step that can fail comes first.
    fn apply(
        &self,
        clients: &Clients,
        settings: &TenantSettings,
        text: io::Result<String>,
    ) -> Result<usize, OverridesError> {
        let text = readable(&self.path, text)?;
        let tenants = parse(&clients.config, &self.path, &text)?;
        clients.exporter.reroute(&tenants)?;
        show(&clients.telemetry, &tenants, &text);
        let count = tenants.overridden().count();
        settings.put_in_force(tenants);
        Ok(count)
    }
}

/// Starts the thread that follows the file.
pub(crate) fn follow(parts: &Parts, watch: Watch) -> Result<std::thread::JoinHandle<()>, WorkerError> {
    let (clients, tenants, stop) = (Arc::clone(&parts.clients), Arc::clone(&parts.tenants), Arc::clone(&parts.stop));
    let thread = std::thread::Builder::new().name("overrides".to_owned());
    thread.spawn(move || watch.run(&clients, &tenants, &stop)).map_err(WorkerError::Thread)
}
