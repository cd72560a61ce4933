//! Asks a receiver, before old samples are sent to it, whether it would keep them. Samples that it would reject wait as
//! in an outage, so that they are still there once the receiver accepts them. Current samples are sent without a
//! question.
#![allow(clippy::disallowed_methods, reason = "how old samples are is a matter of the clock")]

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::settings::RemoteWrite;
use crate::core::model::Millis;

use super::preflight::{Plan, foresee, now};

/// Every receiver accepts younger samples: Prometheus without an out-of-order window accepts samples that are half a
/// block old.
const YOUNG: Millis = 3_600_000;
/// How long an answer counts: a receiver that would accept the samples need not be asked before each of them, and the
/// settings of one that would not may have been changed.
const GOOD_FOR: Duration = Duration::from_secs(600);
const BAD_FOR: Duration = Duration::from_secs(5);

/// Whether receivers are asked, and what is sent to them.
#[derive(Debug, Default)]
pub(super) struct Guard(OnceLock<(Millis, bool)>);

/// The answers of a recipient.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Option<GuardAnswer>>);

#[derive(Debug)]
struct GuardAnswer {
    at: Instant,
    /// The oldest sample that it was asked about.
    from: Millis,
    /// Why it would reject it, if it would.
    loss: Option<String>,
}

// === impl Guard ===

impl Guard {
    /// From now on, receivers are asked.
    pub(super) fn arm(&self, step: Millis, native: bool) {
        // A second call has no effect: it is the same process.
        self.0.get_or_init(|| (step, native));
    }

    /// Why a step must not be sent to a tenant now; `None` if it may.
    pub(super) async fn objects(&self, asked: &Asked, to: (&RemoteWrite, &str), step: Millis) -> Option<String> {
        let (width, native) = *self.0.get()?;
        let (cfg, tenant) = to;
        if !cfg.preflight || step >= now() - YOUNG {
            return None;
        }
        let mut said = asked.0.lock().await;
        if let Some(said) = said.as_ref().filter(|said| said.holds(step)) {
            return said.loss.clone();
        }
        let (cfg, tenant) = (cfg.clone(), tenant.to_owned());
        let ask = move || {
            let range = (step, step);
            let plan = Plan { cfg: &cfg, query_url: None, tenant: &tenant, range, step: width, native, both: false };
            // Problems of the settings were logged at the start.
            foresee(&plan).ok().and_then(|outcome| outcome.loss())
        };
        let loss = tokio::task::spawn_blocking(ask).await.unwrap_or_default();
        said.insert(GuardAnswer { at: Instant::now(), from: step, loss }).loss.clone()
    }
}

// === impl GuardAnswer ===

impl GuardAnswer {
    fn holds(&self, step: Millis) -> bool {
        let good_for = if self.loss.is_some() { BAD_FOR } else { GOOD_FOR };
        step >= self.from && self.at.elapsed() < good_for
    }
}
