//! Whether an endpoint gets exemplars. `remote_write.exemplars: auto` stops sending them to VictoriaMetrics, which reads
//! and discards them.
//!
//! Every answer of VictoriaMetrics has a header that no other receiver has, so others are asked nothing. What has it is
//! asked once for its own metrics, because a proxy of the same family (vmauth) may stand in front of another receiver. Where
//! the question has no answer, exemplars are sent as before.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::settings::{RemoteWrite, SendExemplars};

use super::client::Answer;
use super::preflight::drops_exemplars;

/// Whether one endpoint gets exemplars.
#[derive(Debug)]
pub(super) struct Exemplars {
    wanted: SendExemplars,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No answer has the header.
    Other,
    /// Its metrics are being looked at, or did not decide it.
    Asked,
    /// It stores none.
    Drops,
}

// === impl Exemplars ===

impl Exemplars {
    pub(super) fn new(wanted: SendExemplars) -> Self {
        Self { wanted, state: Mutex::new(State::Other) }
    }

    /// Whether exemplars are sent.
    pub(super) fn are_sent(&self) -> bool {
        match self.wanted {
            SendExemplars::On => true,
            SendExemplars::Off => false,
            SendExemplars::Auto => *self.state() != State::Drops,
        }
    }

    /// An answer of the endpoint with these settings has come.
    pub(super) async fn learn(&self, answer: &Answer, url: &str, cfg: &RemoteWrite, tenant: &str) {
        if self.wanted != SendExemplars::Auto || !(200..300).contains(&answer.status) {
            return;
        }
        {
            let mut state = self.state();
            match (answer.victoria, *state) {
                (false, State::Other) | (true, State::Asked | State::Drops) => return,
                (false, _) => {
                    // The receiver behind the address is another one.
                    if std::mem::replace(&mut *state, State::Other) == State::Drops {
                        tracing::info!(url, "receiver is no VictoriaMetrics any more, sending exemplars again");
                    }
                    return;
                }
                (true, State::Other) => *state = State::Asked,
            }
        }
        let (cfg, tenant) = (cfg.clone(), tenant.to_owned());
        let drops = tokio::task::spawn_blocking(move || drops_exemplars(&cfg, &tenant)).await.unwrap_or(false);
        let mut state = self.state();
        if drops && *state == State::Asked {
            *state = State::Drops;
            drop(state);
            tracing::info!(
                url,
                "receiver is VictoriaMetrics, which stores no exemplars, not sending them; to send them all the same, set \
                 remote_write.exemplars: on"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
