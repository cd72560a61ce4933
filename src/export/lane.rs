//! A lane sends the batches of one shard: strictly in order, one request in flight, each retried until it is settled.
#![allow(clippy::disallowed_methods, reason = "HTTP dates and durations are about the time of day")]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::remotewrite::verdict::{self, Backoff, Past, Verdict};
use crate::remotewrite::{Request, StepBatch};
use crate::telemetry::Telemetry;

use super::Delivered;
use super::client::{Answer, Client, Failure};

/// Batches that wait in a lane.
const QUEUE: usize = 2;
/// Refusals of one batch that are logged as errors; the rest is counted.
const MAX_LOGGED: u32 = 3;

/// The way of one shard to the receiver. Dropping it stops what it is sending: a fenced task must fall silent.
#[derive(Debug)]
pub struct Lane {
    queue: mpsc::Sender<Queued>,
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
}

/// What all lanes share.
pub(super) struct Shared {
    pub(super) client: Client,
    telemetry: Telemetry,
    backoff: Backoff,
    pending: watch::Sender<usize>,
}

/// A batch on its way.
#[derive(Debug)]
struct Queued {
    batch: StepBatch,
    ticket: Ticket,
}

/// Counts the samples of a batch until each is settled, whatever happens to the batch.
#[derive(Debug)]
struct Ticket {
    shared: Arc<Shared>,
    left: u64,
}

struct Sending {
    shard: u32,
    shared: Arc<Shared>,
    done: Box<dyn Fn(Delivered) + Send + Sync>,
}

/// One batch while it is being sent.
struct Delivery<'a> {
    lane: &'a Sending,
    batch: &'a StepBatch,
    ticket: Ticket,
    out: Delivered,
    logged: u32,
}

// === impl Lane ===

impl Lane {
    pub(super) fn open(
        shard: u32,
        done: Box<dyn Fn(Delivered) + Send + Sync>,
        shared: Arc<Shared>,
        tasks: Option<&mut JoinSet<()>>,
        handle: &Handle,
    ) -> Self {
        let (queue, batches) = mpsc::channel(QUEUE);
        let sending = Sending { shard, shared: Arc::clone(&shared), done };
        let task = tasks.map(|tasks| tasks.spawn_on(sending.run(batches), handle));
        Self { queue, shared, task }
    }

    /// Hands a batch over. Never blocks.
    ///
    /// # Errors
    /// Gives the batch back when two are waiting already, or when the exporter has stopped.
    pub fn try_send(&self, batch: StepBatch) -> Result<(), StepBatch> {
        let Ok(place) = self.queue.try_reserve() else { return Err(batch) };
        let ticket = Ticket::new(Arc::clone(&self.shared), batch.samples());
        place.send(Queued { batch, ticket });
        Ok(())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(client: Client, telemetry: Telemetry, backoff: Backoff) -> Self {
        Self { client, telemetry, backoff, pending: watch::Sender::new(0) }
    }

    /// Batches that are not settled.
    pub(super) fn pending(&self) -> usize {
        *self.pending.borrow()
    }

    /// Waits until no batch is pending.
    pub(super) async fn idle(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        drop(self.pending.subscribe().wait_for(|&n| n == 0).await);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("url", &self.client.shown()).finish_non_exhaustive()
    }
}

// === impl Ticket ===

impl Ticket {
    fn new(shared: Arc<Shared>, samples: u64) -> Self {
        let meters = shared.telemetry.export();
        meters.built.inc_by(samples);
        meters.pending_samples.add(samples.cast_signed());
        meters.pending_batches.inc();
        shared.pending.send_modify(|n| *n += 1);
        Self { shared, left: samples }
    }

    fn settle(&mut self, samples: u64) {
        self.left = self.left.saturating_sub(samples);
        self.shared.telemetry.export().pending_samples.sub(samples.cast_signed());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let meters = self.shared.telemetry.export();
        meters.abandoned.inc_by(self.left);
        meters.pending_samples.sub(self.left.cast_signed());
        meters.pending_batches.dec();
        self.shared.pending.send_modify(|n| *n -= 1);
    }
}

// === impl Sending ===

impl Sending {
    async fn run(self, mut batches: mpsc::Receiver<Queued>) {
        while let Some(Queued { batch, ticket }) = batches.recv().await {
            let (step, tenant) = (batch.step, Arc::clone(&batch.tenant));
            let out = Delivered { step, tenant, acknowledged: 0, already_there: 0, rejected: 0 };
            let mut delivery = Delivery { lane: &self, batch: &batch, ticket, out, logged: 0 };
            for request in &batch.requests {
                delivery.settle(request).await;
            }
            let Delivery { out, ticket, .. } = delivery;
            (self.done)(out);
            drop(ticket);
        }
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
    async fn send(&self, part: &Request) -> Option<(Verdict, Answer)> {
        let mut past = if self.batch.resend { Past::Resent } else { Past::Fresh };
        let mut attempt = 0u32;
        loop {
            let (why, after, arrived) = match self.attempt(part, attempt).await {
                Ok(answer) => {
                    let header = answer.retry_after.as_deref();
                    match verdict::judge(answer.status, header, SystemTime::now(), past) {
                        // An overloaded receiver may have stored a part of it.
                        Verdict::Retry { after } => (format!("status {}: {}", answer.status, answer.text), after, true),
                        verdict => return Some((verdict, answer)),
                    }
                }
                Err(Failure::IllegalTenant) => return None,
                Err(Failure::NotSent(why)) => (why, None, false),
                Err(Failure::NoAnswer(why)) => (why, None, true),
            };
            if arrived && past == Past::Fresh {
                past = Past::Unanswered;
            }
            self.pause(attempt, &why, after).await;
            attempt = attempt.saturating_add(1);
        }
    }

    async fn attempt(&self, part: &Request, attempt: u32) -> Result<Answer, Failure> {
        let shared = &self.lane.shared;
        let meters = shared.telemetry.export();
        meters.bytes.inc_by(part.body.len() as u64);
        if attempt > 0 {
            meters.retries.inc();
        }
        meters.in_flight.inc();
        let in_flight = Landing(shared);
        let started = Instant::now();
        let answer = shared.client.post(&self.batch.tenant, &part.body, attempt).await;
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
        let shared = &self.lane.shared;
        let tried = attempt.saturating_add(1);
        let pause = match after {
            // A little jitter, so that the shards do not come back all at once.
            Some(after) => after + shared.backoff.delay(1, random()),
            None => shared.backoff.delay(tried, random()),
        };
        let (url, shard, tenant, step) = (shared.client.shown(), self.lane.shard, &self.batch.tenant, self.batch.step);
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
            url = self.lane.shared.client.shown(),
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
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
