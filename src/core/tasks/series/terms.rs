//! How a shard switches to other settings: at a step, and so that an owner that closes its steps again does the same.
//!
//! The worker that owns a shard may have other settings than its predecessor, and the settings of tenants change at any
//! time. All of them affect the samples of a step. So a step is closed by the settings in the journal; the mark of that
//! step holds those that apply from the next one on.

use super::{ClosedStep, SeriesSettings, SeriesTask, SettingsError};
use crate::core::journal::{Change, EmitMark};

/// The settings that the owner of a shard wants, and whether its journal holds the present ones.
#[derive(Debug)]
pub struct Terms {
    wanted: Option<SeriesSettings>,
    journaled: bool,
}

impl Terms {
    /// The terms of a task whose journal holds the settings, or does not, because it is new or of an earlier version.
    #[must_use]
    pub fn new(journaled: bool) -> Self {
        Self { wanted: None, journaled }
    }

    /// The owner has these settings. They are applied after the step that closes next; at once if no closed step of the
    /// journal has settings.
    pub fn want(&mut self, task: &mut SeriesTask, own: SeriesSettings) {
        let differ = own != *task.settings();
        if differ && !self.journaled {
            task.adopt(own);
        } else {
            self.wanted = Some(own).filter(|_| differ);
        }
    }

    /// A step has just been closed: the settings for its mark, and the keys that change, with their values.
    pub fn change(&mut self, task: &mut SeriesTask) -> (Vec<u8>, Vec<String>) {
        let mut changes = Vec::new();
        match self.wanted.take() {
            Some(own) => {
                changes = task.settings().changes(&own);
                task.adopt(own);
            }
            None if self.journaled => return (Vec::new(), changes),
            None => {}
        }
        self.journaled = true;
        (task.settings().encode(), changes)
    }
}

// === impl SeriesTask ===

impl SeriesTask {
    /// Closes a step again in the way that its mark describes.
    ///
    /// # Errors
    /// When the settings in the mark cannot be read.
    pub fn close_again(&mut self, mark: &EmitMark) -> Result<ClosedStep, SettingsError> {
        let Change { settings, gone, endpoints: _ } = &mark.change;
        self.let_go(gone);
        let closed = self.close_without(mark.step, &mark.left_out);
        if !settings.is_empty() {
            self.adopt(SeriesSettings::decode(settings, self.settings())?);
        }
        Ok(closed)
    }
}
