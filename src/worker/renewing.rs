//! The clients of brokers are replaced when a file changes that they have read: certificates, keys, passwords.
//!
//! librdkafka reads them when a client is created. So the worker hands its tasks over as at a planned end, within the same
//! process, and starts again with the new content: all of its clients are new then, and a static member keeps its partitions.
//! The clients of receivers follow their files themselves.

use std::time::{Duration, Instant};

use super::Worker;
use super::identity::Changes;
use super::kafka::{client, files};
use crate::config::Config;

/// The workers of a group get new files at about the same moment, and must not all hand over at once.
const APART: Duration = Duration::from_secs(5);

/// Follows the files that the clients of a worker have read.
#[derive(Debug)]
pub struct Renewing {
    changes: Changes,
    /// The settings with new content, and when the worker is to start again with them.
    due: Option<(Instant, Box<Config>)>,
}

// === impl Renewing ===

impl Renewing {
    /// Of a worker that is about to start.
    #[must_use]
    pub fn new(config: &Config, present: Instant) -> Self {
        Self { changes: Changes::new(files::paths(&config.kafka), present), due: None }
    }

    /// Looks at the files. Returns the settings with which the worker is to be started again, if it is.
    pub fn look(&mut self, worker: &Worker, present: Instant) -> Option<Config> {
        if let Some(paths) = self.changes.look(present) {
            let used = &worker.parts.clients.config;
            let usable = files::read_again(&used.kafka)
                .and_then(|kafka| client::check(&kafka).map(|()| kafka).map_err(|error| error.to_string()));
            match usable {
                Ok(kafka) => {
                    let wait = APART.mul_f64(rand::random());
                    tracing::info!(
                        files = ?paths,
                        seconds = wait.as_secs_f64(),
                        "files of kafka.properties have changed: replacing all clients, tasks are handed over"
                    );
                    self.changes.take();
                    self.due = Some((present + wait, Box::new(Config { kafka, ..(**used).clone() })));
                }
                Err(error) => {
                    tracing::error!(
                        files = ?paths,
                        error,
                        "changed files of kafka.properties cannot be used, keeping the former content; correct them"
                    );
                    self.changes.refuse();
                }
            }
        }
        self.due.take_if(|(at, _)| present >= *at).map(|(_, config)| *config)
    }
}
