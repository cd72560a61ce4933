//! Remote write over HTTP: lanes that send the steps of a shard in order and retry until every sample is settled.
//! Tenants may have receivers of their own; a lane has a track to each.
//!
//! *In:* [`StepBatch`](crate::remotewrite::StepBatch)es from series tasks. *Out:* requests; [`Delivered`] per batch.
//! *Owner:* [`Exporter`] owns the clients and an async runtime of its own; a series task owns its [`Lane`]. *Never:* a
//! sample that is lost without a counted reason, a body text that is interpreted, a secret in a log.

mod auth;
mod client;
mod delivery;
mod endpoints;
mod lane;
mod pace;
pub mod query;
pub mod receiver;
pub mod spool;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::config::Tenants;
use crate::config::settings::RemoteWrite;
use crate::model::Millis;
use crate::telemetry::Telemetry;

pub use endpoints::EndpointId;
pub use lane::Lane;

use endpoints::Endpoints;
use lane::Destination;

/// HTTP needs few threads: the work is waiting.
const THREADS: usize = 2;

/// Why remote write cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The URL cannot be used.
    #[error("remote_write.url: {0}; write it as http://host:port/path or https://host/path")]
    Url(String),
    /// A header name or value is illegal.
    #[error("{key}: {name:?} is not a legal header or has an illegal value")]
    Header {
        /// The key of the configuration.
        key: &'static str,
        /// The header.
        name: String,
    },
    /// A header belongs to the protocol.
    #[error("remote_write.headers: {0:?} is set by spanmill itself; remove it")]
    ReservedHeader(String),
    /// A file cannot be read.
    #[error("{key}: cannot read {path}: {source}")]
    Read {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{key}: {path} is not usable: {why}; it must be PEM")]
    Pem {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("remote_write.tls: cert_file and key_file belong together; set both or none")]
    HalfIdentity,
    /// The HTTP client cannot be built.
    #[error(
        "remote_write: cannot set up the HTTP client: {0}; check remote_write.tls and the system's CA certificates"
    )]
    Client(String),
    /// The settings of one tenant cannot be used.
    #[error("overrides of tenant {0:?}: {1}")]
    Tenant(String, Box<ExportError>),
    /// A spool cannot be written.
    #[error("{path}: cannot be written: {source}; name a directory that can be made and written to")]
    Spool {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No threads for it.
    #[error("remote_write: cannot start its threads: {0}")]
    Threads(std::io::Error),
}

/// What became of one batch; counts are samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The step of the batch.
    pub step: Millis,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// Stored by the receiver.
    pub acknowledged: u64,
    /// Refused by the receiver because a predecessor had delivered them.
    pub already_there: u64,
    /// Refused by the receiver for good.
    pub rejected: u64,
}

/// The sender of all shards of this process. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Exporter(Arc<Inner>);

struct Inner {
    shared: Arc<lane::Shared>,
    runtime: Mutex<Option<Runtime>>,
}

// === impl Exporter ===

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("shared", &self.0.shared).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Sets up the client for everybody. Nothing is sent yet, and the receiver need not be there. Call it outside of any
    /// async runtime.
    ///
    /// # Errors
    /// Names the key of the configuration that cannot be used.
    pub fn start(cfg: &RemoteWrite, telemetry: Telemetry) -> Result<Self, ExportError> {
        let runtime = runtime()?;
        let endpoints = runtime.block_on(Endpoints::new(cfg))?;
        Ok(Self::over(Destination::Receivers(endpoints), telemetry, runtime))
    }

    /// Sends nothing: keeps everything in the directory `dir`, whatever tenants have as settings, in a segment per shard. A
    /// batch is settled when it is on the disk. What was there stays. See [`spool::Reader`] for the other end.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn start_spool(dir: &Path, telemetry: Telemetry) -> Result<Self, ExportError> {
        let spool = spool::Spool::new(dir).map_err(|source| ExportError::Spool { path: dir.to_owned(), source })?;
        Ok(Self::over(Destination::Spool(Arc::new(spool)), telemetry, runtime()?))
    }

    fn over(destination: Destination, telemetry: Telemetry, runtime: Runtime) -> Self {
        let shared = lane::Shared::new(destination, telemetry, runtime.handle().clone());
        Self(Arc::new(Inner { shared: Arc::new(shared), runtime: Mutex::new(Some(runtime)) }))
    }

    /// Sends each tenant's samples where its settings say: batches that are handed over from now on, and those that fail
    /// elsewhere. With an error nothing changes, nor does it in a spool. Call it outside of any async runtime; it may wait
    /// for credentials.
    ///
    /// # Errors
    /// Names the tenant and the key of its settings that cannot be used.
    pub fn reroute(&self, tenants: &Tenants) -> Result<(), ExportError> {
        let shared = &self.0.shared;
        match &shared.destination {
            Destination::Receivers(endpoints) => shared.handle().block_on(endpoints.replace(tenants)),
            Destination::Spool(_) => Ok(()),
        }
    }

    /// Opens the lane of a shard. `done` is called once per batch, from a thread of the exporter, after the last request
    /// of the batch is settled; it must not block. After [`Exporter::stop`] the lane takes nothing.
    #[must_use]
    pub fn open(&self, shard: u32, done: Box<dyn Fn(Delivered) + Send + Sync>) -> Lane {
        Lane::open(shard, Arc::from(done), Arc::clone(&self.0.shared))
    }

    /// From now on, sends at most so many samples a second, over all lanes.
    pub fn limit(&self, samples_per_second: u64) {
        self.0.shared.pace.set(samples_per_second);
    }

    /// Waits until everything that was handed over is settled, for at most `deadline`, then stops all lanes. Call it
    /// outside of any async runtime.
    pub fn stop(&self, deadline: Duration) {
        let tracks = self.0.shared.close();
        let runtime = self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(mut tracks), Some(runtime)) = (tracks, runtime) else { return };
        let idle = runtime.block_on(async { tokio::time::timeout(deadline, self.0.shared.idle()).await });
        if idle.is_err() {
            tracing::warn!(
                batches = self.0.shared.pending(),
                "remote write stops with unsettled batches; nothing calls them delivered, so going on sends them again"
            );
        }
        tracks.abort_all();
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Result<Runtime, ExportError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("export")
        .enable_all()
        .build()
        .map_err(ExportError::Threads)
}

fn millis(ms: Millis) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
