//! The spans of the steps of a shard that are not acknowledged: of the whole way of a step, of its step-close record, and of the
//! samples of each tenant.
//!
//! *In:* what happens to a step. *Out:* spans that end. *Owner:* the series task. *Never:* anything while traces are off, or for a step
//! that is not in the sample.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::delivering::Track;
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;
use crate::worker::telemetry::{ActiveSpan, Cause, Telemetry};

/// The steps with a trace.
#[derive(Default)]
pub(super) struct StepTraces(BTreeMap<Millis, StepTrace>);

struct StepTrace {
    step: ActiveSpan,
    /// Until the journal has accepted the step-close record.
    journal: Option<ActiveSpan>,
    /// Until the samples of a tenant for an endpoint are settled.
    sending: BTreeMap<Track, ActiveSpan>,
}

// === impl StepTraces ===

impl StepTraces {
    /// A step was closed; its record is on its way to the journal. `late`: how long after its end, in milliseconds.
    pub(super) fn closed(&mut self, telemetry: &Telemetry, shard: i32, step: Millis, cause: Cause, late: Millis) {
        let Some(span) = telemetry.trace("close step") else { return };
        let cause = match cause {
            Cause::Watermark => "watermark",
            Cause::Forced => "stall_timeout",
        };
        let span = span.with("spanmill.shard", i64::from(shard)).with("spanmill.step", step);
        let span = span.with("spanmill.cause", cause).with("spanmill.late_ms", late);
        let journal = Some(span.child("append to journal", true));
        self.0.insert(step, StepTrace { step: span, journal, sending: BTreeMap::new() });
    }

    /// The journal has accepted a step; its batches go to the receivers.
    pub(super) fn accepted(&mut self, step: Millis, batches: &[StepBatch]) {
        let Some(trace) = self.0.get_mut(&step) else { return };
        trace.journal.take().into_iter().for_each(ActiveSpan::end);
        for batch in batches {
            let sending = trace.step.child("send samples", true).with("spanmill.tenant", &*batch.tenant);
            let sending = sending.with("spanmill.samples", batch.samples().cast_signed());
            let sending = match &batch.endpoint {
                Some(endpoint) => sending.with("spanmill.endpoint", &**endpoint),
                None => sending,
            };
            trace.sending.insert((Arc::clone(&batch.tenant), batch.endpoint.clone()), sending);
        }
    }

    /// The samples of a tenant for an endpoint are settled.
    pub(super) fn settled(&mut self, step: Millis, track: &Track) {
        if let Some(sending) = self.0.get_mut(&step).and_then(|trace| trace.sending.remove(track)) {
            sending.end();
        }
    }

    /// All steps up to this one are acknowledged. What is not settled of them waits in the snapshot.
    pub(super) fn acknowledged(&mut self, up_to: Option<Millis>) {
        while let Some(first) = self.0.first_entry().filter(|first| Some(*first.key()) <= up_to) {
            let StepTrace { step, journal, sending } = first.remove();
            journal.into_iter().for_each(ActiveSpan::end);
            sending.into_values().for_each(|span| span.fail("its receiver is down; the samples wait in the snapshot"));
            step.end();
        }
    }
}
