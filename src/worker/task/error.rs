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
    /// Something that only a restart can mend.
    #[error("{0}; restart the worker")]
    Fatal(String),
}

/// Why a file is not applied.
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
    Export(#[from] ExportError),
}
