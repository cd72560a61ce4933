//! Native histograms with custom buckets in a batch, and the way back where the receiver does not take them.

use super::Delivery;
use crate::core::remotewrite::{Request, custom_buckets};
use crate::worker::sender::client::{Answer, Failure};
use crate::worker::sender::dialect::Version;

// === impl Delivery ===

impl Delivery<'_> {
    /// Counts samples that have become a part of a native histogram.
    pub(super) fn convert(&mut self, samples: u64) {
        if samples > 0 {
            self.sending.shared.telemetry.export().converted.inc_by(samples);
            self.out.filtered += samples;
            self.progress.ticket.settle(samples);
        }
    }

    /// The same with classic histograms, if it is to be sent so: in 1.0, to a receiver that has refused others, or as a trial.
    pub(super) fn as_classic(&self, part: &Request, version: Version, trial: bool) -> Option<Request> {
        let wanted = trial || version == Version::First || self.way.endpoint.custom_buckets.are_refused();
        if !self.progress.custom || !wanted {
            return None;
        }
        custom_buckets::classic(part).ok().flatten()
    }

    /// Whether a refused request is one native histogram with custom buckets, which the receiver may take as a classic one.
    pub(super) fn may_be_classic(&self, part: &Request, answer: &Answer) -> bool {
        let sent = answer.version == Version::Second && !answer.classic;
        sent && self.progress.custom && part.series == 1 && custom_buckets::classic(part).is_ok_and(|c| c.is_some())
    }
}

/// What was written of a request, if its histograms were sent as classic ones (`sent`), in terms of the request.
pub(super) fn in_terms_of(
    part: &Request,
    sent: Option<&Request>,
    answer: Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    let mut answer = answer?;
    let Some(sent) = sent else { return Ok(answer) };
    answer.classic = true;
    if let Some(written) = &mut answer.written
        && written.samples == u64::from(sent.samples)
    {
        written.samples = part.samples.into();
    }
    Ok(answer)
}
