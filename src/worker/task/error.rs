//! Why a worker could not start, or had to end.

use std::io;
use std::path::PathBuf;

use crate::config;
use crate::worker::kafka::KafkaError;
use crate::worker::sender::ExportError;

/// Why a worker could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// Kafka refused or did not answer.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The remote-write client cannot be built.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The settings of the tenants cannot be used.
    #[error(transparent)]
    Overrides(#[from] OverridesError),
    /// The operating system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A problem that only a restart can fix.
    #[error("{0}; restart the worker")]
    Fatal(String),
}

/// Why a file is not applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverridesError {
    /// It does not exist, or may not be read.
    #[error("overrides.file: {path} cannot be read: {source}; check the path and its permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Its content is not valid.
    #[error("{0}")]
    Problems(#[from] config::Problems),
    /// A receiver cannot be used with its settings.
    #[error(transparent)]
    Export(#[from] ExportError),
}
