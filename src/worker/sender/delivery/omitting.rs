//! What the rules of an endpoint do not send, and the account of it.

use super::Delivery;
use crate::core::remotewrite::Request;
use crate::core::remotewrite::relabel::Relabeled;
use crate::core::remotewrite::separate::SeriesFate;
use crate::worker::sender::preflight::now;
use crate::worker::telemetry::{MAX_SAMPLE_AGE, SAME_LABELS, flood};

// === impl Delivery ===

impl Delivery<'_> {
    /// Counts the samples that the rules of the endpoint did not send.
    pub(super) fn omit(&mut self, sent: &Relabeled) {
        self.sending.shared.telemetry.export().exemplars_withheld.inc_by(sent.withheld);
        self.filter(sent.filtered);
        if sent.collided == 0 {
            return;
        }
        self.give_up(sent.collided, SAME_LABELS);
        let url = self.way.endpoint.client.shown();
        let Some(held_back) = flood::may_say(&format!("same labels {url} {:?}", self.batch.tenant)) else { return };
        tracing::error!(
            url,
            held_back,
            shard = self.sending.shard,
            tenant = ?self.batch.tenant,
            step = self.batch.step,
            samples = sent.collided,
            first = ?sent.collision,
            "write_relabel_configs give several series the same labels; only the first of a request is sent, and they are not \
             added up: keep a label that distinguishes them, or remove the dimension"
        );
    }

    /// Counts samples of series that the rules of the endpoint drop.
    pub(super) fn filter(&mut self, samples: u64) {
        if samples > 0 {
            self.sending.shared.telemetry.export().filtered.inc_by(samples);
            self.out.filtered += samples;
            self.progress.ticket.settle(samples);
        }
    }

    /// Whether the step is older than what the endpoint gets.
    pub(super) fn is_too_old(&self) -> bool {
        let age = self.way.endpoint.settings.max_sample_age;
        age > 0 && self.batch.step < now().saturating_sub(age)
    }

    /// Counts samples that have become too old.
    pub(super) fn expire(&mut self, part: &Request) {
        self.give_up(part.samples.into(), MAX_SAMPLE_AGE);
        let url = self.way.endpoint.client.shown();
        let Some(held_back) = flood::may_say(&format!("too old {url} {:?}", self.batch.tenant)) else { return };
        tracing::error!(
            url,
            held_back,
            shard = self.sending.shard,
            tenant = ?self.batch.tenant,
            step = self.batch.step,
            samples = part.samples,
            "samples are older than remote_write.max_sample_age and are dropped; raise it, or set it to 0s to wait for the \
             receiver"
        );
    }

    /// A part without the series that the rules of the endpoint dropped, so that no halving is spent on them.
    pub(super) fn survivors(&self, part: &Request, sent: &Relabeled) -> Request {
        let rules = self.way.endpoint.relabeler.as_ref().filter(|_| sent.filtered > 0);
        let rest = rules.and_then(|rules| {
            part.separate(|labels| if rules.keeps(labels) { SeriesFate::Stay } else { SeriesFate::LeaveOut })
        });
        rest.and_then(|separated| separated.rest).unwrap_or_else(|| part.clone())
    }

    /// Applies the rules of the endpoint, and takes out the exemplars that it does not get.
    pub(super) fn relabel(&self, part: &Request) -> Relabeled {
        let mut sent = self.relabel_only(part);
        if self.way.endpoint.exemplars.are_sent() {
            return sent;
        }
        if let Some(request) = &mut sent.request
            && let Some(rest) = request.without_exemplars()
        {
            sent.withheld = u64::from(request.exemplars);
            *request = rest;
        }
        sent
    }

    fn relabel_only(&self, part: &Request) -> Relabeled {
        let as_it_is = || Relabeled { request: Some(part.clone()), ..Relabeled::default() };
        let Some(relabeler) = &self.way.endpoint.relabeler else { return as_it_is() };
        // A body that cannot be read did not come from the encoder, and is sent as it is.
        relabeler.request(part).unwrap_or_else(|_| as_it_is())
    }
}
