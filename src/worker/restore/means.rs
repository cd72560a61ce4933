//! What acquiring a task works with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::worker::kafka::reader::READ_AHEAD;
use crate::worker::kafka::{KafkaError, LogReader};
use crate::worker::task::{Clients, Groups, Mode, Offsets, Sources, TenantSettings};

/// The number of threads that acquire tasks.
pub(super) const THREADS: usize = 4;

/// The parts of the worker that restoring a task needs.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) clients: Arc<Clients>,
    pub(crate) tenants: Arc<TenantSettings>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) offsets: Arc<Offsets>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) mode: Arc<Mode>,
    /// Raised when the worker is to end.
    pub(crate) stop: Arc<AtomicBool>,
}

/// A reader of journals and deltas. All of them together stay within the part of the limit for fetching ahead.
pub(crate) fn log_reader(clients: &Clients) -> Result<LogReader, KafkaError> {
    LogReader::with_buffer(&clients.config.kafka, clients.memory.fetch_ahead(READ_AHEAD, THREADS))
}
