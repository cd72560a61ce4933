//! One batch until it is settled: sent in two phases, retried, halved, refused or acknowledged.
#![allow(clippy::disallowed_methods, reason = "HTTP dates and durations are about the time of day")]

mod converting;
mod omitting;
mod outputting;
mod parallel;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;

use crate::core::remotewrite::relabel::Relabeled;
use crate::core::remotewrite::verdict::{self, Past, ReceiverAnswer, Verdict};
use crate::core::remotewrite::{Request, StepBatch, otlp, v2};
use crate::worker::telemetry::{EndpointDrop, ILLEGAL_TENANT, MAX_SAMPLE_AGE, QUARANTINED, class_of, flood};

use super::Delivered;
use super::client::{Answer, Failure};
use super::concurrency::Load;
use super::dialect::{Version, if_read, is_unread};
use super::endpoints::Endpoint;
use super::halving::Halving;
use super::quarantine::Suspect;
use super::shard_sender::{Done, Failing, Queued, SenderState, Ticket, To};
use super::way::Way;
use converting::in_terms_of;
use parallel::{Progress, Ways};

/// The state of a track.
pub(super) struct Sending {
    pub(super) shard: u32,
    pub(super) shared: Arc<SenderState>,
    pub(super) done: Done,
    pub(super) failing: Arc<Failing>,
}

/// A batch while it is being sent, one request after the other; several of these share its requests.
struct Delivery<'a> {
    sending: &'a Sending,
    batch: &'a StepBatch,
    way: &'a mut Way,
    progress: &'a Progress,
    out: Delivered,
    /// The tenant has another receiver since the part that is being sent was begun.
    rerouted: bool,
    /// Single series that it has refused for what they are.
    suspects: Vec<Suspect>,
}

/// A request with the final answer to it.
struct Answered {
    verdict: Verdict,
    answer: Answer,
    /// What was sent of it, and what was not.
    sent: Relabeled,
}

/// Why a part is never sent.
enum Unsendable {
    /// Its samples are older than `max_sample_age`.
    TooOld,
    IllegalTenant,
    /// The tenant has no such endpoint any more.
    Gone,
}

// === impl Sending ===

impl Sending {
    /// Sends what comes, one batch after the other.
    pub(super) async fn run(self, mut batches: mpsc::Receiver<Queued>) {
        let (mut writer, mut ways) = (None, Ways::new());
        while let Some(Queued { batch, ticket }) = batches.recv().await {
            let (step, tenant, endpoint) = (batch.step, Arc::clone(&batch.tenant), batch.endpoint.clone());
            let out = Delivered { step, tenant, endpoint, acknowledged: 0, already_there: 0, rejected: 0, filtered: 0 };
            match self.shared.destination.of(&batch.tenant, batch.endpoint.as_deref()) {
                To::Receiver(endpoint) => {
                    self.deliver(&batch, (&mut ways, endpoint), ticket, out).await;
                }
                To::Store(store) => store.keep(&self, &mut writer, &batch, ticket, out).await,
                To::Gone => {
                    // What waits there is over with it.
                    ways.clear();
                    self.forget(&batch, &ticket, out);
                }
            }
        }
    }

    async fn deliver(
        &self,
        batch: &StepBatch,
        (ways, endpoint): (&mut Ways, Arc<Endpoint>),
        ticket: Ticket,
        mut out: Delivered,
    ) {
        let is_output = endpoint.output.is_some();
        let custom = !is_output && endpoint.custom_buckets.are_sent(&endpoint.dialect, &endpoint.client.shown());
        let progress = Progress::new(ticket, custom);
        // See `remotewrite/phases.rs`.
        if is_output {
            self.settle_whole(batch, (ways, &endpoint), &progress, &mut out).await;
        } else if batch.requests.iter().any(Request::has_two_phases) {
            self.phase((batch, false), (ways, &endpoint), &progress, &mut out).await;
        }
        if !is_output {
            self.phase((batch, true), (ways, &endpoint), &progress, &mut out).await;
        }
        if progress.is_gone() {
            return self.forget(batch, &progress.ticket, out);
        }
        let first = ways.iter_mut().flatten().next();
        if let Some(way) = &first {
            way.recipient.report_quarantine();
        }
        if let Some(endpoint) = &out.endpoint {
            let results = [
                ("acknowledged", out.acknowledged),
                ("duplicate", out.already_there),
                ("rejected", out.rejected),
                ("filtered", out.filtered),
            ];
            self.shared.telemetry.endpoint_settled(endpoint, results);
        }
        (self.done)(out);
        let taken = progress.is_taken();
        drop(progress);
        if let Some(way) = first.filter(|_| taken && !is_output) {
            way.describe(self, batch).await;
        }
    }
}

impl Sending {
    /// Settles what is left of a batch whose endpoint is not one of its tenant's any more.
    fn forget(&self, batch: &StepBatch, ticket: &Ticket, out: Delivered) {
        let left = ticket.left();
        ticket.settle(left);
        if let Some(name) = &batch.endpoint {
            self.shared.telemetry.endpoint_dropped(name, EndpointDrop::Removed, left);
        }
        (self.done)(out);
    }
}

// === impl Delivery ===

impl Delivery<'_> {
    /// Sends one request, in halves if need be, until every sample in it is settled.
    async fn settle(&mut self, request: Request, values: bool) {
        if self.progress.is_gone() {
            return;
        }
        if self.progress.is_overtaken() {
            let sent = self.relabel(&request);
            self.omit(&sent);
            return sent.request.iter().for_each(|rest| self.is_there(rest));
        }
        let now = tokio::time::Instant::now();
        let Some(separated) = self.way.recipient.quarantine.separate(&request, values, now) else {
            return self.settle_all(request, values).await;
        };
        self.give_up(separated.left_out, QUARANTINED);
        if let Some(rest) = separated.rest {
            self.settle_all(rest, values).await;
        }
        for one in separated.alone {
            self.try_again(&one).await;
        }
    }

    /// Sends a series again that was refused before, alone.
    async fn try_again(&mut self, one: &Request) {
        let Answered { verdict, answer, sent } = match self.send(one).await {
            Ok(answered) => answered,
            Err(Unsendable::Gone) => return,
            Err(Unsendable::TooOld) => return self.give_up(one.samples.into(), MAX_SAMPLE_AGE),
            Err(Unsendable::IllegalTenant) => return self.give_up(one.samples.into(), ILLEGAL_TENANT),
        };
        self.omit(&sent);
        let (labels, now) = (one.labels_of_one().unwrap_or_default(), tokio::time::Instant::now());
        let quarantine = &self.way.recipient.quarantine;
        // One that is not sent at all any more needs no trial.
        let Some(one) = &sent.request else { return quarantine.release(&labels) };
        match verdict {
            Verdict::Acknowledged => {
                quarantine.release(&labels);
                self.acknowledge(one, &answer);
            }
            Verdict::AlreadyThere | Verdict::Overtaken | Verdict::SplitResent => self.is_there(one),
            Verdict::Split | Verdict::Rejected | Verdict::Wait { .. } => {
                if verdict::blames_series(answer.status, &answer.text) {
                    quarantine.keep(vec![Suspect { labels, status: answer.status, answer: answer.text }], now);
                }
                self.give_up(one.samples.into(), QUARANTINED);
            }
        }
    }

    /// As [`Self::settle`], all of a request.
    async fn settle_all(&mut self, request: Request, values: bool) {
        let mut halving = self.way.refusals().begin(request, self.progress.is_taken(), tokio::time::Instant::now());
        if self.way.endpoint.output.is_some() {
            halving.cut_with(otlp::split);
        }
        while let Some(part) = halving.next() {
            let answered = match self.send(&part).await {
                Ok(answered) => answered,
                Err(Unsendable::Gone) => return,
                Err(Unsendable::TooOld) => {
                    self.expire(&part);
                    continue;
                }
                Err(Unsendable::IllegalTenant) => {
                    let text = "the tenant's name is not legal in an HTTP header".to_owned();
                    halving.rejected();
                    self.reject(&part, ILLEGAL_TENANT, &Answer { text, ..Answer::default() });
                    continue;
                }
            };
            if std::mem::take(&mut self.rerouted) {
                halving.forget();
            }
            self.act(&part, &answered, &mut halving);
            // With series of other shards under the same labels, a later step may be theirs.
            let is_own = self.way.endpoint.relabeler.as_ref().is_none_or(|rules| !rules.may_merge());
            if values && is_own && answered.verdict == Verdict::Overtaken {
                self.progress.overtaken();
            }
        }
        if halving.is_taken() {
            self.progress.set_taken(true);
        }
        self.suspects.append(&mut halving.take_suspects());
        self.quarantine();
        let refused = self.way.refusals().end(&halving, tokio::time::Instant::now());
        if let Some(refused) = refused {
            self.way.recipient.refused(refused);
        }
    }

    fn act(&mut self, part: &Request, answered: &Answered, halving: &mut Halving) {
        let Answered { verdict, answer, sent } = answered;
        let is_split = matches!(verdict, Verdict::Split | Verdict::SplitResent);
        let rest = is_split.then(|| self.survivors(part, sent));
        if rest.as_ref().is_some_and(|rest| halving.halve(rest)) {
            self.filter(sent.filtered);
            return;
        }
        self.omit(sent);
        // The receiver was not asked about a request of which nothing is left.
        let Some(sent) = &sent.request else { return };
        match *verdict {
            Verdict::Acknowledged => {
                halving.taken();
                self.acknowledge(sent, answer);
            }
            Verdict::AlreadyThere | Verdict::Overtaken | Verdict::SplitResent => self.is_there(sent),
            // `send` never returns a verdict to wait.
            Verdict::Split | Verdict::Rejected | Verdict::Wait { .. } => {
                halving.rejected();
                let blamed = *verdict == Verdict::Split && verdict::blames_series(answer.status, &answer.text);
                if let Some(labels) = rest.filter(|_| blamed).and_then(|rest| rest.labels_of_one()) {
                    halving.suspect(Suspect { labels, status: answer.status, answer: answer.text.clone() });
                }
                self.reject(sent, verdict::reason(answer.status, &answer.text), answer);
            }
        }
    }

    fn acknowledge(&mut self, part: &Request, answer: &Answer) {
        self.compare(part, answer);
        let samples = u64::from(part.samples).saturating_sub(self.partly_rejected(part, answer));
        self.sending.shared.telemetry.export().acknowledged.inc_by(samples);
        self.out.acknowledged += samples;
        self.progress.ticket.settle(samples);
    }

    /// Puts series in quarantine that were refused, once others of the step were taken.
    fn quarantine(&mut self) {
        if !self.progress.is_taken() || self.suspects.is_empty() {
            return;
        }
        let suspects = std::mem::take(&mut self.suspects);
        let (url, tenant) = (self.way.endpoint.client.shown(), &self.batch.tenant);
        self.way.recipient.quarantine.keep_and_say(suspects, &url, tenant);
    }

    /// Counts samples that are not sent any more.
    fn give_up(&mut self, samples: u64, reason: &'static str) {
        self.sending.shared.telemetry.export().rejected.with_label_values(&[reason]).inc_by(samples);
        self.out.rejected += samples;
        self.progress.ticket.settle(samples);
    }

    fn is_there(&mut self, part: &Request) {
        let samples = u64::from(part.samples);
        self.sending.shared.telemetry.export().already_there.inc_by(samples);
        self.out.already_there += samples;
        self.progress.ticket.settle(samples);
    }

    /// Sends one part until there is a final answer to it.
    async fn send(&mut self, part: &Request) -> Result<Answered, Unsendable> {
        let new = if self.batch.resend { Past::Resent } else { Past::Fresh };
        let (mut past, mut attempt) = (new, 0u32);
        let (mut sent, mut trial) = (self.relabel(part), false);
        loop {
            let Some(request) = &sent.request else {
                return Ok(Answered { verdict: Verdict::Acknowledged, answer: Answer::default(), sent });
            };
            if self.is_too_old() {
                return Err(Unsendable::TooOld);
            }
            let Some(tried) = self.attempt(request, attempt, trial).await else {
                if self.is_gone() {
                    return Err(Unsendable::Gone);
                }
                if self.is_rerouted() {
                    // What the receiver before refused or took proves nothing of this one.
                    self.progress.set_taken(false);
                    (self.suspects, self.rerouted) = (Vec::new(), true);
                    (past, attempt) = (new, 0);
                    sent = self.relabel(part);
                }
                continue;
            };
            if may_have_stored(&tried) && past == Past::Fresh {
                past = Past::Unanswered;
            }
            let endpoint = &self.way.endpoint;
            if endpoint.dialect.falls_back(&tried, &endpoint.client.shown()) {
                continue;
            }
            let trouble = match if_read(tried) {
                Ok(answer) => match self.judge(&answer, request, past) {
                    Verdict::Wait { after } => answer.trouble(after),
                    Verdict::Split | Verdict::Rejected if !trial && self.may_be_classic(request, &answer) => {
                        trial = true;
                        continue;
                    }
                    verdict => {
                        if trial && verdict == Verdict::Acknowledged {
                            self.way.endpoint.custom_buckets.refused();
                        }
                        self.way.answered(self.sending, verdict == Verdict::Acknowledged);
                        return Ok(Answered { verdict, answer, sent });
                    }
                },
                Err(failure) => failure.trouble().ok_or(Unsendable::IllegalTenant)?,
            };
            self.way.failed(self.sending, self.batch.step, &trouble);
            tokio::time::sleep(self.way.endpoint.backoff.delay(attempt.saturating_add(1), random())).await;
            attempt = attempt.saturating_add(1);
            if self.is_gone() {
                return Err(Unsendable::Gone);
            }
            if self.is_rerouted() {
                (past, attempt) = (new, 0);
                sent = self.relabel(part);
            }
        }
    }

    fn judge(&self, answer: &Answer, part: &Request, past: Past) -> Verdict {
        let said =
            ReceiverAnswer { status: answer.status, retry_after: answer.retry_after.as_deref(), text: &answer.text };
        let choice = self.way.endpoint.choices.get(&answer.status).copied();
        verdict::judge(&said, SystemTime::now(), past, choice).in_view_of(answer.written, part.samples)
    }

    /// Compares what the receiver reports as stored with what was sent.
    fn compare(&self, part: &Request, answer: &Answer) {
        let Some(written) = answer.written else { return };
        let meters = self.sending.shared.telemetry.export();
        meters.exemplars_rejected.inc_by(u64::from(part.exemplars).saturating_sub(written.exemplars));
        if written.samples == u64::from(part.samples) {
            return;
        }
        meters.written_differs.inc();
        let url = self.way.endpoint.client.shown();
        let Some(held_back) = flood::may_say(&format!("written {url} {:?}", self.batch.tenant)) else { return };
        tracing::warn!(
            url,
            held_back,
            shard = self.sending.shard,
            tenant = ?self.batch.tenant,
            step = self.batch.step,
            sent = part.samples,
            written = written.samples,
            first = ?part.describe(),
            "receiver acknowledged a request but reports another number of samples written; see its own log"
        );
    }

    fn destination(&self) -> To {
        self.sending.shared.destination.of(&self.batch.tenant, self.batch.endpoint.as_deref())
    }

    /// Looks up the receiver of the tenant's samples; returns whether it is another one.
    fn is_rerouted(&mut self) -> bool {
        let To::Receiver(endpoint) = self.destination() else { return false };
        self.way.turn(endpoint, self.sending)
    }

    /// Looks up whether the tenant has no such receiver any more.
    fn is_gone(&mut self) -> bool {
        self.progress.set_gone(matches!(self.destination(), To::Gone));
        self.progress.is_gone()
    }

    /// `None`: the pause is not over yet, but the receiver must be looked up again.
    async fn attempt(&self, part: &Request, attempt: u32, trial: bool) -> Option<Result<Answer, Failure>> {
        let shared = &self.sending.shared;
        let leave = self.way.leave(&self.sending.failing).await?;
        let to = (&self.way.endpoint.settings, &*self.batch.tenant);
        if self.way.endpoint.output.is_none()
            && let Some(why) = shared.guard.objects(&self.way.recipient.asked, to, self.batch.step).await
        {
            return Some(Err(Failure::WouldBeLost(why)));
        }
        shared.pace.wait(u64::from(part.samples)).await;
        let endpoint = &self.way.endpoint;
        if let Some(output) = &endpoint.output {
            let started = Instant::now();
            let answer = self.attempt_output(output, part, attempt).await;
            leave.learn(Load::of(&answer), started.elapsed());
            return Some(answer);
        }
        let version = endpoint.dialect.version(&endpoint.client, &self.batch.tenant).await;
        let classic = self.as_classic(part, version, trial);
        let sent = classic.as_ref().unwrap_or(part);
        let (version, body) = match version {
            // A body that cannot be translated did not come from the encoder, and is sent as it is.
            Version::Second => v2::body(sent, shared.seed, &shared.described.of(&self.batch.tenant))
                .map_or_else(|_| (Version::First, sent.body.clone()), |body| (Version::Second, body)),
            other => (other, sent.body.clone()),
        };
        let meters = shared.telemetry.export();
        meters.bytes.inc_by(body.len() as u64);
        if attempt > 0 {
            meters.retries.inc();
        }
        meters.in_flight.inc();
        let in_flight = Landing(shared);
        let started = Instant::now();
        let answer = endpoint.client.post(&self.batch.tenant, &body, attempt, version).await;
        drop(in_flight);
        leave.learn(Load::of(&answer), started.elapsed());
        meters.seconds.observe(started.elapsed().as_secs_f64());
        meters.requests.with_label_values(&[class_of(answer.as_ref().map_or(0, |a| a.status))]).inc();
        if let Ok(answer) = &answer {
            let (url, settings) = (endpoint.client.shown(), &endpoint.settings);
            endpoint.exemplars.learn(answer, &url, settings, &self.batch.tenant).await;
        }
        Some(in_terms_of(part, classic.as_ref(), answer))
    }

    fn reject(&mut self, part: &Request, reason: &'static str, answer: &Answer) {
        let samples = u64::from(part.samples);
        self.give_up(samples, reason);
        let url = self.way.endpoint.client.shown();
        // All shards meet the same refusal at every step; the log has it once, the counters have all.
        let cause = format!("refused {url} {:?} {} {reason}", self.batch.tenant, answer.status);
        let Some(held_back) = flood::may_say(&cause) else { return };
        tracing::error!(
            url,
            held_back,
            shard = self.sending.shard,
            tenant = ?self.batch.tenant,
            step = self.batch.step,
            resent = self.batch.resend,
            status = answer.status,
            reason,
            series = part.series,
            samples,
            first = ?part.describe(),
            remedy = verdict::remedy(answer.status, &answer.text),
            answer = answer.text,
            "receiver rejected samples, not retrying"
        );
    }
}

/// Whether a failed attempt may have stored something all the same: no answer came, or the receiver gave up on the way,
/// as one that is overloaded does. A receiver that refuses a credential or an address has stored nothing.
fn may_have_stored(tried: &Result<Answer, Failure>) -> bool {
    match tried {
        Ok(answer) => matches!(answer.status, 408 | 429 | 500..=599) || is_unread(answer),
        Err(failure) => matches!(failure, Failure::NoAnswer(_)),
    }
}

/// Decrements the requests in flight, also when its shard sender is dropped meanwhile.
struct Landing<'a>(&'a SenderState);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.telemetry.export().in_flight.dec();
    }
}

/// Jitter needs no quality and no seed, only to differ.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::sender::auth::NoCredentials;

    #[test]
    fn only_who_does_not_answer_or_gives_up_on_the_way_may_have_stored_something() {
        let answered = |status| may_have_stored(&Ok(Answer { status, ..Answer::default() }));
        let failed = |failure| may_have_stored(&Err(failure));
        assert!([408, 429, 500, 503, 599].into_iter().all(answered));
        assert!(![302, 400, 401, 403, 404, 409, 413, 415, 422, 425].into_iter().any(answered));
        assert!(failed(Failure::NoAnswer(String::new())));
        let unread = |status| Answer { status, version: Version::Second, ..Answer::default() };
        assert!(may_have_stored(&Ok(unread(204))) && !may_have_stored(&Ok(unread(400))));
        assert!(
            !failed(Failure::NotSent(String::new()))
                && !failed(Failure::NoCredentials(NoCredentials { why: String::new(), remedy: "" }))
        );
    }
}
