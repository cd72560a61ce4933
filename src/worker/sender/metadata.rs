//! What metrics are about, for receivers of remote write 1.0: type, help and unit, in requests of their own now and then. 2.0
//! carries it with every series.
//!
//! It is sent behind the samples of a step that were taken, and never waited for: a request that fails is sent again when its
//! time comes again. Every shard looks which metrics it has; what one has sent for a recipient, others need not send.
#![allow(clippy::disallowed_methods, reason = "how often something is sent is a matter of the clock")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::remotewrite::StepBatch;
use crate::core::remotewrite::metadata::{SeriesNames, body, collect};
use crate::worker::telemetry::flood;

use super::delivery::Sending;
use super::dialect::Version;
use super::millis;
use super::way::Way;

/// So many names of series are remembered; metrics have few, whatever spans say.
const MOST: usize = 1_024;

/// When a recipient was sent the metadata of each name.
#[derive(Debug, Default)]
pub(super) struct SentMetadata(Mutex<BTreeMap<(String, bool), Instant>>);

// === impl SentMetadata ===

impl SentMetadata {
    /// Those of `names` whose metadata was not sent for `interval`; they count as sent from now on.
    fn due(&self, names: SeriesNames, interval: Duration, now: Instant) -> SeriesNames {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < interval;
        told.retain(|_, at| is_fresh(at));
        let room = MOST.saturating_sub(told.len());
        let due: SeriesNames = names.into_iter().filter(|name| !told.contains_key(name)).take(room).collect();
        told.extend(due.iter().map(|name| (name.clone(), now)));
        due
    }
}

// === impl Way ===

impl Way {
    /// Sends what the metrics of a batch are about, if it is time and the receiver is spoken to in 1.0.
    pub(super) async fn describe(&mut self, sender: &Sending, batch: &StepBatch) {
        let interval = millis(self.endpoint.settings.metadata_interval);
        let now = Instant::now();
        let is_time = self.described.is_none_or(|at| now.saturating_duration_since(at) >= interval);
        if interval.is_zero() || !is_time || self.endpoint.dialect.current() == Version::Second {
            return;
        }
        self.described = Some(now);
        let mut names = SeriesNames::new();
        if batch.requests.iter().any(|request| collect(request, &mut names).is_err()) {
            return;
        }
        let due = self.recipient.told.due(names, interval, now);
        // What fails is asked for samples only.
        if due.is_empty() || self.recipient.pause().is_some() {
            return;
        }
        let Some(_leave) = self.leave(&sender.failing).await else { return };
        let answer = self
            .endpoint
            .client
            .post(&batch.tenant, &body(&due, &sender.shared.described.of(&batch.tenant)), 0, Version::First)
            .await;
        let result =
            if matches!(&answer, Ok(answer) if (200..300).contains(&answer.status)) { "accepted" } else { "failed" };
        sender.shared.telemetry.export().metadata.with_label_values(&[result]).inc();
        let why = match answer {
            Ok(answer) if result == "failed" => format!("status {}: {}", answer.status, answer.text),
            Err(failure) => failure.trouble().map_or_else(String::new, |trouble| trouble.why),
            Ok(_) => return,
        };
        let url = self.endpoint.client.shown();
        let Some(held_back) = flood::may_say(&format!("metadata {url}")) else { return };
        tracing::warn!(
            url,
            held_back,
            tenant = ?batch.tenant,
            error = why,
            "receiver does not accept the metadata of metrics, samples are not affected; if it never does, set \
             remote_write.metadata_interval: 0s"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_shard_has_said_others_say_again_after_the_interval_only() {
        let (told, start, minute) = (SentMetadata::default(), Instant::now(), Duration::from_secs(60));
        let names = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), false)).collect::<SeriesNames>();
        assert_eq!(told.due(names(&["a", "b"]), minute, start), names(&["a", "b"]));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(told.due(names(&["b", "c"]), minute, at(30)), names(&["c"]));
        assert_eq!(told.due(names(&["a", "c"]), minute, at(60)), names(&["a"]));
        let many: SeriesNames = (0..2 * MOST).map(|i| (i.to_string(), true)).collect();
        assert_eq!(told.due(many, minute, at(200)).len(), MOST);
    }
}
