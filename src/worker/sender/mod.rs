//! Remote write over HTTP: shard senders that send the steps of a shard in order and retry until every sample is settled.
//! Tenants may have receivers of their own, and several; a shard sender has a track for each tenant at each of them.
//!
//! *In:* [`StepBatch`]es from series tasks. *Out:* requests; [`Delivered`] per batch.
//! *Owner:* [`Exporter`] owns the clients and an async runtime of its own; a series task owns its [`ShardSender`]. *Never:* a
//! sample that is lost without a counted reason, a body text that is interpreted, a secret in a log.

mod auth;
mod causes;
mod client;
mod concurrency;
mod connector;
mod custom_buckets;
mod delivery;
mod described;
mod dialect;
mod endpoints;
mod exemplars;
mod guard;
mod halving;
mod metadata;
mod outage;
mod outbox;
mod outputs;
mod pace;
pub mod preflight;
mod quarantine;
pub mod query;
mod recipient;
mod secrets;
mod shard_sender;
pub mod store;
mod way;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::config::Tenants;
use crate::config::settings::RemoteWrite;
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;
use crate::worker::telemetry::Telemetry;

pub use endpoints::EndpointRoute;
pub use outbox::Outbox;
pub use outputs::examine;
pub use shard_sender::ShardSender;

use endpoints::Endpoints;
use shard_sender::Destination;
use store::{Store, Stored, Stuck};

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
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{key}: {path} is not usable: {why}; it must be PEM")]
    Pem {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The problem.
        why: String,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("remote_write.tls: cert_file and key_file belong together; set both or none")]
    HalfIdentity,
    /// Settings of a token endpoint that cannot be used.
    #[error("remote_write.auth.oauth2: {0}")]
    OAuth2(Box<str>),
    /// An AWS profile whose credentials a person has to fetch.
    #[error("remote_write.auth.profile: {0}")]
    Profile(Box<str>),
    /// A rule of relabeling has no regular expression.
    #[error("remote_write.write_relabel_configs: {0}")]
    Relabel(regex::Error),
    /// A Kafka client cannot be built.
    #[error("remote_write.kafka: {0}")]
    Kafka(Box<crate::worker::kafka::KafkaError>),
    /// The HTTP client cannot be built.
    #[error(
        "remote_write: cannot set up the HTTP client: {0}; check remote_write.tls and the system's CA certificates"
    )]
    Client(String),
    /// The settings of one of several endpoints cannot be used.
    #[error("endpoint {0:?}: {1}")]
    Endpoint(String, Box<ExportError>),
    /// The settings of one tenant cannot be used.
    #[error("overrides of tenant {0:?}: {1}")]
    Tenant(String, Box<ExportError>),
    /// No threads for it.
    #[error("remote_write: cannot start its threads: {0}")]
    Threads(std::io::Error),
}

/// The result of one batch; counts are samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The step of the batch.
    pub step: Millis,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// Which of the tenant's endpoints it was for; `None` if it has one only.
    pub endpoint: Option<Arc<str>>,
    /// Stored by the receiver.
    pub acknowledged: u64,
    /// Refused by the receiver because a predecessor had delivered them.
    pub already_there: u64,
    /// Rejected by the receiver, or not sent because it rejects their series, or because two series got the same labels.
    pub rejected: u64,
    /// Of series that `write_relabel_configs` do not send, and those that have become a part of a native histogram with custom
    /// buckets.
    pub filtered: u64,
}

/// The sender of all shards of this process. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Exporter(Arc<Inner>);

struct Inner {
    shared: Arc<shard_sender::SenderState>,
    runtime: Mutex<Option<Runtime>>,
}

// === impl Exporter ===

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("shared", &self.0.shared).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Sets up the default client. Nothing is sent yet, and the receiver need not be there. Call it outside of any
    /// async runtime.
    ///
    /// # Errors
    /// Names the key of the configuration that cannot be used.
    pub fn start(cfg: &RemoteWrite, telemetry: Telemetry) -> Result<Self, ExportError> {
        let runtime = runtime()?;
        let endpoints = runtime.block_on(Endpoints::new(cfg))?;
        Ok(Self::over(Destination::Receivers(endpoints), telemetry, runtime))
    }

    /// Sends nothing: `store` keeps all batches, whatever the settings of tenants are. A batch is settled when it is
    /// stored.
    ///
    /// # Errors
    /// When the system has no threads for it.
    pub fn keeping(store: Arc<dyn Store>, telemetry: Telemetry) -> Result<Self, ExportError> {
        Ok(Self::over(Destination::Store(Arc::new(Stored::new(store))), telemetry, runtime()?))
    }

    fn over(destination: Destination, telemetry: Telemetry, runtime: Runtime) -> Self {
        let shared = shard_sender::SenderState::new(destination, telemetry, runtime.handle().clone());
        Self(Arc::new(Inner { shared: Arc::new(shared), runtime: Mutex::new(Some(runtime)) }))
    }

    /// Sends each tenant's samples to the receiver of its settings: batches that are enqueued from now on, and those
    /// that fail elsewhere. After an error nothing changes, and with a store nothing does either. Call it outside of
    /// any async runtime; it may wait for credentials.
    ///
    /// # Errors
    /// Names the tenant and the key of its settings that cannot be used.
    pub fn reroute(&self, tenants: &Tenants) -> Result<(), ExportError> {
        let shared = &self.0.shared;
        if let Destination::Receivers(endpoints) = &shared.destination {
            shared.handle().block_on(endpoints.replace(tenants))?;
        }
        shared.described.set(tenants);
        Ok(())
    }

    /// Describes the metrics of these settings to receivers from now on.
    pub fn describe(&self, tenants: &Tenants) {
        self.0.shared.described.set(tenants);
    }

    /// Opens the shard sender of a shard. `done` is called once per batch, from a thread of the exporter, after the last
    /// request of the batch is settled; it must not block. After [`Exporter::stop`] the shard sender takes nothing.
    #[must_use]
    pub fn open(&self, shard: u32, done: Box<dyn Fn(Delivered) + Send + Sync>) -> ShardSender {
        ShardSender::open(shard, Arc::from(done), Arc::clone(&self.0.shared))
    }

    /// From now on, sends at most so many samples a second, over all shard senders.
    pub fn limit(&self, samples_per_second: u64) {
        self.0.shared.pace.set(samples_per_second);
    }

    /// From now on, asks receivers before old samples are sent to them whether they would keep them, if the settings
    /// ask for that: samples that would be rejected wait. `step` is the collection interval, `native` whether there are
    /// native histograms.
    pub fn look_ahead(&self, step: Millis, native: bool) {
        self.0.shared.guard.arm(step, native);
    }

    /// The endpoints of a tenant; none with a store, which is one whatever the settings are.
    #[must_use]
    pub fn routes(&self, tenant: &str) -> Arc<[EndpointRoute]> {
        match &self.0.shared.destination {
            Destination::Receivers(endpoints) => endpoints.of_tenant(tenant),
            Destination::Store(_) => Arc::default(),
        }
    }

    /// A batch for each endpoint of its tenant.
    #[must_use]
    pub fn for_endpoints(&self, batch: StepBatch) -> Vec<StepBatch> {
        let routes = self.routes(&batch.tenant);
        if routes.len() < 2 {
            return vec![batch];
        }
        let of = |route: &EndpointRoute| StepBatch { endpoint: Some(Arc::clone(&route.name)), ..batch.clone() };
        routes.iter().map(of).collect()
    }

    /// What the store cannot keep, if there is a store, and since when.
    #[must_use]
    pub fn stuck(&self) -> Option<Stuck> {
        match &self.0.shared.destination {
            Destination::Receivers(_) => None,
            Destination::Store(store) => store.stuck(),
        }
    }

    /// Waits until everything that was enqueued is settled, for at most `deadline`, then stops all shard senders. Call
    /// it outside of any async runtime.
    pub fn stop(&self, deadline: Duration) {
        let tenant_queues = self.0.shared.close();
        let runtime = self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(mut tenant_queues), Some(runtime)) = (tenant_queues, runtime) else { return };
        let idle = runtime.block_on(async { tokio::time::timeout(deadline, self.0.shared.idle()).await });
        if idle.is_err() {
            tracing::warn!(
                batches = self.0.shared.pending(),
                "remote write stopped with unsettled batches; they are sent again when the work continues"
            );
        }
        tenant_queues.abort_all();
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
        .thread_name("sender")
        .enable_all()
        .build()
        .map_err(ExportError::Threads)
}

fn millis(ms: Millis) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
