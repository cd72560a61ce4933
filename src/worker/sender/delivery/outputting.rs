//! Requests to endpoints that are no remote write: OTLP over HTTP and gRPC, topics and files.

use std::sync::Arc;
use std::time::Instant;

use super::parallel::{Progress, Ways};
use super::{Delivery, Landing, Sending};
use crate::core::remotewrite::{Request, StepBatch, otlp};
use crate::worker::sender::Delivered;
use crate::worker::sender::client::{Answer, Failure};
use crate::worker::sender::endpoints::Endpoint;
use crate::worker::sender::outputs::Output;
use crate::worker::sender::way::Way;
use crate::worker::telemetry::{class_of, flood};

// === impl Sending ===

impl Sending {
    /// Sends all requests of the batch, cut between histograms, one after the other. There is one phase: a zero before a first
    /// value is the start time of its point. `out` gets the counts.
    pub(super) async fn settle_whole(
        &self,
        batch: &StepBatch,
        (ways, endpoint): (&mut Ways, &Arc<Endpoint>),
        progress: &Progress,
        out: &mut Delivered,
    ) {
        if ways.is_empty() {
            ways.push(None);
        }
        let Some(way) = ways.first_mut() else { return };
        let way = Way::to(way, Arc::clone(endpoint), (self, 0), &batch.tenant);
        let (counts, suspects) = (out.clone(), Vec::new());
        let mut delivery = Delivery { sending: self, batch, way, progress, out: counts, rerouted: false, suspects };
        for request in otlp::regroup(&batch.requests) {
            delivery.settle(request, true).await;
        }
        *out = delivery.out;
    }
}

// === impl Delivery ===

impl Delivery<'_> {
    /// One attempt at an output.
    pub(super) async fn attempt_output(
        &self,
        output: &Output,
        part: &Request,
        attempt: u32,
    ) -> Result<Answer, Failure> {
        let shared = &self.sending.shared;
        let (endpoint, tenant) = (&self.way.endpoint, &self.batch.tenant);
        // A body that cannot be translated did not come from the encoder.
        let own = shared.described.of(tenant);
        let body = otlp::body(part, output.resource(), &own).map_err(|why| Failure::NoAnswer(why.to_string()))?;
        let body = output.framed(&body)?;
        let meters = shared.telemetry.export();
        meters.bytes.inc_by(body.len() as u64);
        if attempt > 0 {
            meters.retries.inc();
        }
        meters.in_flight.inc();
        let in_flight = Landing(shared);
        let started = Instant::now();
        let answer = output.send(&endpoint.client, tenant, body, attempt).await;
        drop(in_flight);
        meters.seconds.observe(started.elapsed().as_secs_f64());
        meters.requests.with_label_values(&[class_of(answer.as_ref().map_or(0, |a| a.status))]).inc();
        answer
    }

    /// Counts what a receiver of OTLP has rejected of a request that it has accepted otherwise. It reports data points, and
    /// a histogram is one of them; which ones these are is not known.
    pub(super) fn partly_rejected(&mut self, part: &Request, answer: &Answer) -> u64 {
        let samples = answer.rejected_points.min(part.samples.into());
        if samples == 0 {
            return 0;
        }
        self.give_up(samples, "bad_data");
        let url = self.way.endpoint.client.shown();
        let Some(held_back) = flood::may_say(&format!("partial {url} {:?}", self.batch.tenant)) else { return samples };
        tracing::error!(
            url,
            held_back,
            shard = self.sending.shard,
            tenant = ?self.batch.tenant,
            step = self.batch.step,
            points = answer.rejected_points,
            sent = part.samples,
            answer = answer.text,
            "receiver rejected some data points of a request and stored the others; see its message"
        );
        samples
    }
}
