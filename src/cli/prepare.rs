//! What every command does first that reads from Kafka and logs to standard error.

use std::io;

use super::{ConfigArgs, USAGE, console};
use crate::config::{Loaded, load_from};
use crate::worker::kafka;
use crate::worker::telemetry;

// === impl ConfigArgs ===

impl ConfigArgs {
    /// The configuration, with settings that a Kafka client takes, and logs as it has them.
    ///
    /// # Errors
    /// The exit code, if something is wrong; that has been written to standard error.
    pub(super) fn prepare(&self) -> Result<Loaded, u8> {
        let loaded = self.load()?;
        let log = &loaded.config.log;
        telemetry::log::init(&log.level, log.format, io::stderr).map_err(|error| usage(&error))?;
        Ok(loaded)
    }

    /// The same without logs.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub(super) fn load(&self) -> Result<Loaded, u8> {
        let loaded = load_from(self.config.as_deref(), &self.set).map_err(|problems| usage(&problems))?;
        kafka::client::check(&loaded.config.kafka).map_err(|error| usage(&error))?;
        Ok(loaded)
    }
}

fn usage(problem: &dyn std::fmt::Display) -> u8 {
    console::say(problem);
    USAGE
}
