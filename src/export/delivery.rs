//! One batch on its way: every request of it is sent until there is a final answer to each of its samples.
#![allow(clippy::disallowed_methods, reason = "HTTP dates and durations are about the time of day")]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;

use crate::remotewrite::verdict::{self, Past, Verdict};
use crate::remotewrite::{Request, StepBatch};

use super::Delivered;
use super::client::{Answer, Failure};
use super::endpoints::Endpoint;
use super::lane::{Done, Failing, Queued, Shared, Ticket, To};

/// Refusals of one batch that are logged as errors; the rest is counted.
const MAX_LOGGED: u32 = 3;

/// What a track knows.
pub(super) struct Sending {
    pub(super) shard: u32,
    pub(super) shared: Arc<Shared>,
    pub(super) done: Done,
    pub(super) failing: Arc<Failing>,
}

/// One batch while it is being sent.
struct Delivery<'a> {
    lane: &'a Sending,
    batch: &'a StepBatch,
    /// Where the latest attempt went.
    endpoint: Arc<Endpoint>,
    ticket: Ticket,
    out: Delivered,
    logged: u32,
}

// === impl Sending ===

impl Sending {
    /// Sends what comes, one batch after the other.
    pub(super) async fn run(self, mut batches: mpsc::Receiver<Queued>) {
        let mut segment = None;
        while let Some(Queued { batch, to, ticket }) = batches.recv().await {
            let (step, tenant) = (batch.step, Arc::clone(&batch.tenant));
            let out = Delivered { step, tenant, acknowledged: 0, already_there: 0, rejected: 0 };
            match to {
                To::Receiver(endpoint) => self.deliver(&batch, endpoint, ticket, out).await,
                To::Spool(spool) => spool.keep(&self, &mut segment, &batch, ticket, out).await,
            }
        }
    }

    async fn deliver(&self, batch: &StepBatch, endpoint: Arc<Endpoint>, ticket: Ticket, out: Delivered) {
        let mut delivery = Delivery { lane: self, batch, endpoint, ticket, out, logged: 0 };
        for request in &batch.requests {
            delivery.settle(request).await;
        }
        let Delivery { out, ticket, .. } = delivery;
        (self.done)(out);
        drop(ticket);
    }
}

// === impl Delivery ===

impl Delivery<'_> {
    /// Sends one request, in halves if need be, until every sample in it is settled.
    async fn settle(&mut self, request: &Request) {
        let mut splits = 0;
        let mut parts = vec![request.clone()];
        while let Some(part) = parts.pop() {
            let Some((verdict, answer)) = self.send(&part).await else {
                let text = "the tenant's name cannot stand in an HTTP header".to_owned();
                self.reject(&part, "illegal_tenant", &Answer { status: 0, retry_after: None, text });
                continue;
            };
            if splits < verdict.splits()
                && let Some((first, second)) = part.split()
            {
                splits += 1;
                parts.extend([second, first]);
                continue;
            }
            let samples = u64::from(part.samples);
            match verdict {
                Verdict::Acknowledged => {
                    self.lane.shared.telemetry.export().acknowledged.inc_by(samples);
                    self.out.acknowledged += samples;
                    self.ticket.settle(samples);
                }
                Verdict::AlreadyThere => {
                    self.lane.shared.telemetry.export().already_there.inc_by(samples);
                    self.out.already_there += samples;
                    self.ticket.settle(samples);
                }
                _ => self.reject(&part, verdict::reason(answer.status), &answer),
            }
        }
    }

    /// Sends one part until there is a final answer to it; `None` when it can never be sent.
    async fn send(&mut self, part: &Request) -> Option<(Verdict, Answer)> {
        let new = if self.batch.resend { Past::Resent } else { Past::Fresh };
        let (mut past, mut attempt) = (new, 0u32);
        loop {
            let (why, after, arrived) = match self.attempt(part, attempt).await {
                Ok(answer) => {
                    let header = answer.retry_after.as_deref();
                    match verdict::judge(answer.status, header, SystemTime::now(), past) {
                        // An overloaded receiver may have stored a part of it.
                        Verdict::Retry { after } => (format!("status {}: {}", answer.status, answer.text), after, true),
                        verdict => {
                            self.lane.failing.answered();
                            return Some((verdict, answer));
                        }
                    }
                }
                Err(Failure::IllegalTenant) => return None,
                Err(Failure::NotSent(why)) => (why, None, false),
                Err(Failure::NoAnswer(why)) => (why, None, true),
            };
            if arrived && past == Past::Fresh {
                past = Past::Unanswered;
            }
            self.lane.failing.failed();
            self.pause(attempt, &why, after).await;
            attempt = attempt.saturating_add(1);
            if self.is_rerouted() {
                (past, attempt) = (new, 0);
            }
        }
    }

    /// Looks where the tenant's samples go now; tells whether that is another receiver.
    fn is_rerouted(&mut self) -> bool {
        let To::Receiver(endpoint) = self.lane.shared.destination.of(&self.batch.tenant) else { return false };
        let other = endpoint.id != self.endpoint.id;
        self.endpoint = endpoint;
        other
    }

    async fn attempt(&self, part: &Request, attempt: u32) -> Result<Answer, Failure> {
        let shared = &self.lane.shared;
        shared.pace.wait(u64::from(part.samples)).await;
        let meters = shared.telemetry.export();
        meters.bytes.inc_by(part.body.len() as u64);
        if attempt > 0 {
            meters.retries.inc();
        }
        meters.in_flight.inc();
        let in_flight = Landing(shared);
        let started = Instant::now();
        let answer = self.endpoint.client.post(&self.batch.tenant, &part.body, attempt).await;
        drop(in_flight);
        meters.seconds.observe(started.elapsed().as_secs_f64());
        let class = match answer.as_ref().map_or(0, |a| a.status) {
            200..=299 => "2xx",
            429 => "429",
            300..=399 => "3xx",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "error",
        };
        meters.requests.with_label_values(&[class]).inc();
        answer
    }

    /// Sleeps before the next attempt. Says so now and then: often at first, rarely later.
    async fn pause(&self, attempt: u32, why: &str, after: Option<std::time::Duration>) {
        let backoff = self.endpoint.backoff;
        let tried = attempt.saturating_add(1);
        let pause = match after {
            // A little jitter, so that the shards do not come back all at once.
            Some(after) => after + backoff.delay(1, random()),
            None => backoff.delay(tried, random()),
        };
        let (url, shard, tenant, step) =
            (self.endpoint.client.shown(), self.lane.shard, &self.batch.tenant, self.batch.step);
        if tried.is_power_of_two() {
            tracing::warn!(url, shard, %tenant, step, tried, ?pause, "remote write failed and is tried again: {why}");
        } else {
            tracing::debug!(url, shard, %tenant, step, tried, ?pause, "remote write failed and is tried again: {why}");
        }
        tokio::time::sleep(pause).await;
    }

    fn reject(&mut self, part: &Request, reason: &'static str, answer: &Answer) {
        let samples = u64::from(part.samples);
        self.lane.shared.telemetry.export().rejected.with_label_values(&[reason]).inc_by(samples);
        self.out.rejected += samples;
        self.ticket.settle(samples);
        self.logged += 1;
        if self.logged > MAX_LOGGED {
            return;
        }
        tracing::error!(
            url = self.endpoint.client.shown(),
            shard = self.lane.shard,
            tenant = %self.batch.tenant,
            step = self.batch.step,
            status = answer.status,
            reason,
            series = part.series,
            samples,
            first = part.describe(),
            remedy = verdict::remedy(answer.status),
            "the receiver refused samples for good: {}",
            answer.text
        );
    }
}

/// Counts a request out of flight, also when its lane is dropped meanwhile.
struct Landing<'a>(&'a Shared);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.telemetry.export().in_flight.dec();
    }
}

/// Jitter needs no quality and no seed, only to differ.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
