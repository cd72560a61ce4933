//! A shard whose tenants have several endpoints: what each gets again from a new owner, and what is reported of those that
//! are behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::SeriesRunner;
use super::delivering::{Dropped, Track};
use crate::config::settings::OnBacklog;
use crate::core::journal::EndpointMark;
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;
use crate::core::tasks::series::ClosedStep;
use crate::worker::sender::EndpointRoute as Endpoint;
use crate::worker::task::TaskContext;
use crate::worker::telemetry::{EndpointDrop, flood};

/// The steps of batches, and what a snapshot holds besides.
type Again = (Vec<StepBatch>, Vec<(Millis, Vec<StepBatch>)>);

/// For which tracks of its tenant, whose endpoints are these, a batch that a snapshot holds is meant: all of them, if it was
/// stored when the tenant had one only. None, if its endpoint is not one of the tenant's any more.
pub(crate) fn meant(batch: &StepBatch, endpoints: &[Endpoint]) -> Vec<Option<Arc<str>>> {
    let named = |endpoint: &Endpoint| Some(Arc::clone(&endpoint.name));
    match (&batch.endpoint, endpoints) {
        (None, [] | [_]) => vec![None],
        (Some(name), [only]) if only.name == *name => vec![None],
        (Some(_), [] | [_]) => Vec::new(),
        (None, several) => several.iter().map(named).collect(),
        (Some(name), several) => several.iter().filter(|endpoint| endpoint.name == *name).map(named).collect(),
    }
}

/// Whether an endpoint, of those of a tenant, may lack a closed step, by the last mark.
fn may_lack(marks: &[EndpointMark], endpoint: Option<&Arc<str>>, endpoints: &[Endpoint], step: Millis) -> bool {
    let only = endpoints.first().map_or("", |only| &*only.name);
    let name = endpoint.map_or(only, |name| name);
    EndpointMark::lacks(marks, name).is_some_and(|first| step >= first)
}

impl SeriesRunner {
    /// Sends what receivers may lack: an endpoint that has a step, by the last mark, does not get it again.
    pub(super) fn send_again(&mut self, context: &TaskContext<'_>, (held, steps): Again, marks: &[EndpointMark]) {
        let exporter = &context.clients.exporter;
        let mut carried = Vec::new();
        for batch in held {
            let endpoints = exporter.routes(&batch.tenant);
            self.delivering.tracks(&batch.tenant, &endpoints);
            let tracks = meant(&batch, &endpoints);
            if let (true, Some(name)) = (tracks.is_empty(), &batch.endpoint) {
                context.clients.telemetry.endpoint_dropped(name, EndpointDrop::Removed, batch.samples());
                if let Some(held_back) = flood::may_say(&format!("endpoint removed {name}")) {
                    tracing::warn!(
                        shard = self.id.partition,
                        endpoint = ?name,
                        tenant = ?batch.tenant,
                        step = batch.step,
                        held_back,
                        "samples that waited for an endpoint are not sent, because it is not in remote_write any more"
                    );
                }
            }
            let lacks = |track: &Option<Arc<str>>| may_lack(marks, track.as_ref(), &endpoints, batch.step);
            let tracks = tracks.into_iter().filter(lacks);
            carried.extend(tracks.map(|endpoint| StepBatch { endpoint, ..batch.clone() }));
        }
        carried.iter().cloned().for_each(|batch| self.outbox.put(batch));
        self.delivering.carry(carried);
        for (step, batches) in steps {
            let mut all = self.delivering.for_endpoints(batches, |tenant| exporter.routes(tenant));
            all.retain(|batch| may_lack(marks, batch.endpoint.as_ref(), &exporter.routes(&batch.tenant), step));
            self.hand_over(step, all);
        }
    }

    /// How far the endpoints are when `closed` is closed, for its mark.
    pub(super) fn marks(&self, context: &TaskContext<'_>, closed: &ClosedStep) -> Vec<EndpointMark> {
        let pending = self.pending.iter().map(|(_, step)| step);
        let mut next: BTreeSet<Option<Arc<str>>> = BTreeSet::new();
        for batch in pending.clone().chain([closed]).flat_map(|step| &step.batches) {
            match &*context.clients.exporter.routes(&batch.tenant) {
                [] | [_] => drop(next.insert(None)),
                several => next.extend(several.iter().map(|endpoint| Some(Arc::clone(&endpoint.name)))),
            }
        }
        let first = pending.map(|step| step.step).min().unwrap_or(closed.step);
        self.delivering.marks(&next, first)
    }

    /// Reports endpoints for which no more may wait, and drops what their settings ask to drop.
    pub(super) fn tell_behind(&mut self, context: &TaskContext<'_>) {
        let outbox = &mut self.outbox;
        let withdraw = |(tenant, endpoint): &Track, step: Millis| {
            endpoint.as_ref().is_some_and(|endpoint| outbox.withdraw(tenant, endpoint, step))
        };
        let at_bound = self.delivering.at_bound();
        let dropped = self.delivering.drop_oldest(withdraw);
        if !dropped.is_empty() {
            self.advance();
        }
        for Dropped { track: (tenant, endpoint), step, samples } in dropped {
            let endpoint = endpoint.as_deref().unwrap_or_default();
            context.clients.telemetry.endpoint_dropped(endpoint, EndpointDrop::Backlog, samples);
            let Some(held_back) = flood::may_say(&format!("backlog {endpoint}")) else { continue };
            tracing::error!(
                shard = self.id.partition,
                endpoint = ?endpoint,
                ?tenant,
                step,
                samples,
                held_back,
                "the backlog of an endpoint is full: its oldest steps are not sent to it, other endpoints have them; \
                 check the receiver, raise remote_write.max_backlog, or set remote_write.on_backlog: wait"
            );
        }
        if at_bound == self.told_behind {
            return;
        }
        self.told_behind.clone_from(&at_bound);
        if at_bound.is_empty() {
            return self.behind.met();
        }
        let trouble: Vec<String> = at_bound.iter().map(|(name, what)| self.trouble(name, *what)).collect();
        self.behind.unmet(trouble.join("; "));
    }

    fn trouble(&self, name: &str, on_backlog: OnBacklog) -> String {
        let shard = self.id.partition;
        let what = match on_backlog {
            OnBacklog::Wait => {
                "the other endpoints wait for it; no data is lost. Check the receiver, raise remote_write.max_backlog, \
                 or set remote_write.on_backlog: drop"
            }
            OnBacklog::Drop => {
                "its oldest steps are dropped, other endpoints have them. Check the receiver, or raise \
                 remote_write.max_backlog"
            }
        };
        format!("shard {shard}: the backlog of endpoint {name:?} is full: {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(names: &[&str]) -> Vec<Endpoint> {
        let endpoint = |name: &&str| Endpoint { name: (*name).into(), max_backlog: 0, on_backlog: OnBacklog::Wait };
        names.iter().map(endpoint).collect()
    }

    #[test]
    fn what_a_snapshot_holds_goes_to_the_endpoints_that_it_was_for_if_they_are_still_there() {
        let of = |endpoint: Option<&str>, names: &[&str]| {
            let endpoint = endpoint.map(Arc::from);
            let batch = StepBatch { tenant: "t".into(), endpoint, step: 15, resend: true, requests: Vec::new() };
            meant(&batch, &endpoints(names)).into_iter().map(|name| name.map(|n| n.to_string())).collect::<Vec<_>>()
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(of(None, &["a"]), [None], "one endpoint, as ever");
        assert_eq!(of(None, &[]), [None], "a store");
        assert_eq!(of(Some("b"), &["b", "a"]), [named("b")], "whatever the order");
        assert_eq!(of(None, &["a", "b"]), [named("a"), named("b")], "it was for the only one, whichever that was");
        assert_eq!(of(Some("b"), &["b"]), [None], "the others were removed");
        assert!(of(Some("b"), &["a"]).is_empty() && of(Some("b"), &["a", "c"]).is_empty(), "it was removed");
    }

    #[test]
    fn a_closed_step_is_sent_again_to_endpoints_that_may_lack_it_and_not_to_new_ones() {
        let mark = |name: &str, lacks| EndpointMark { name: name.to_owned(), lacks };
        let marks = [mark("a", 45), mark("b", 15)];
        let lack = |name: Option<&str>, names: &[&str], step| {
            may_lack(&marks, name.map(Arc::from).as_ref(), &endpoints(names), step)
        };
        let all = ["a", "b", "c"];
        assert_eq!([30, 45].map(|step| lack(Some("a"), &all, step)), [false, true]);
        assert_eq!([0, 15].map(|step| lack(Some("b"), &all, step)), [false, true]);
        assert!(!lack(Some("c"), &all, 45), "it begins with the next step");
        assert!(
            lack(None, &["b"], 15) && !lack(None, &["b"], 0) && !lack(None, &["c"], 45),
            "the only one that is left"
        );
        assert!(may_lack(&[], None, &endpoints(&["a"]), 0), "a mark of one endpoint names none");
    }
}
