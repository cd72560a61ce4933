//! The parts that a worker is made of.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::Tenants;
use crate::worker::health::Liveness;
use crate::worker::kafka::{Fetcher, KafkaError, LogReader};
use crate::worker::restore::Means;
use crate::worker::sender::Exporter;
use crate::worker::series_task::Shards;
use crate::worker::span_task::Intake;
use crate::worker::task::{Clients, Clock, Groups, Inbox, Mode, Offsets, Replay, Sources, TaskContext, TenantSettings};
use crate::worker::telemetry::Telemetry;

/// Every part of a worker, once. The threads pass each part to the code that needs it.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) clients: Arc<Clients>,
    pub(crate) tenants: Arc<TenantSettings>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) offsets: Arc<Offsets>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) mode: Arc<Mode>,
    /// For span tasks only.
    pub(crate) intake: Arc<Intake>,
    /// For series tasks only.
    pub(crate) shards: Arc<Shards>,
    pub(crate) liveness: Arc<Liveness>,
    /// Set once: end gracefully.
    pub(crate) stop: Arc<AtomicBool>,
}

/// What one thread works with.
pub(super) struct Gear {
    pub(super) fetcher: Fetcher,
    pub(super) reader: LogReader,
    pub(super) inbox: Inbox,
}

// === impl Parts ===

impl Parts {
    /// The parts of a live worker, or of one that replays.
    pub(crate) fn new(
        tenants: Tenants,
        telemetry: Telemetry,
        exporter: Exporter,
        replay: Option<Replay>,
    ) -> Result<Self, KafkaError> {
        let config = Arc::clone(tenants.defaults());
        let mode = Mode::new(replay, config.kafka.shards);
        let clients = Arc::new(Clients::new(config, telemetry, exporter)?);
        Ok(Self {
            intake: Arc::new(Intake::new(&clients)?),
            clock: Arc::new(Clock::new(&clients)),
            clients,
            tenants: Arc::new(TenantSettings::new(tenants)),
            mode: Arc::new(mode),
            sources: Arc::default(),
            offsets: Arc::default(),
            groups: Arc::default(),
            shards: Arc::default(),
            liveness: Arc::new(Liveness::new()),
            stop: Arc::default(),
        })
    }

    /// What a task of a thread uses in its turn.
    pub(super) fn context<'a>(&'a self, gear: &'a Gear) -> TaskContext<'a> {
        TaskContext {
            clients: &self.clients,
            tenants: &self.tenants,
            sources: &self.sources,
            offsets: &self.offsets,
            clock: &self.clock,
            mode: &self.mode,
            stop: &self.stop,
            fetcher: &gear.fetcher,
            reader: &gear.reader,
            inbox: &gear.inbox,
        }
    }

    /// What acquiring tasks needs.
    pub(crate) fn means(&self) -> Means {
        Means {
            clients: Arc::clone(&self.clients),
            tenants: Arc::clone(&self.tenants),
            sources: Arc::clone(&self.sources),
            offsets: Arc::clone(&self.offsets),
            groups: Arc::clone(&self.groups),
            mode: Arc::clone(&self.mode),
            stop: Arc::clone(&self.stop),
        }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("clients", &self.clients).finish_non_exhaustive()
    }
}
