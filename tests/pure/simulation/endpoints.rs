//! The steps of a shard that its endpoints do not have yet: a queue for each, of which none waits for another.

use std::collections::{BTreeMap, VecDeque};

use super::mutation::Mutation;
use super::series_actor::Step;
use super::source::STEP;
use spanmill::core::journal::EndpointMark;
use spanmill::core::model::wire::{Malformed, Reader, put_i64, put_u64};

#[derive(Clone)]
pub(crate) struct Queues {
    all: Vec<Queue>,
    /// Steps up to this one count as acknowledged, because the latest snapshot holds what endpoints lack of them.
    held: i64,
    /// The newest step that was added.
    newest: Option<i64>,
}

#[derive(Clone, Default)]
struct Queue {
    steps: VecDeque<Step>,
    /// The oldest of them is under way.
    sending: bool,
}

/// The name of an endpoint in marks.
fn name(endpoint: usize) -> String {
    format!("e{endpoint}")
}

/// The first step that an endpoint may lack, by marks.
pub(crate) fn lacks(marks: &[EndpointMark], endpoint: usize) -> Option<i64> {
    EndpointMark::lacks(marks, &name(endpoint))
}

impl Queues {
    pub(crate) fn new(endpoints: usize) -> Self {
        Self { all: vec![Queue::default(); endpoints], held: i64::MIN, newest: None }
    }

    /// What endpoints may lack, by the last mark: of what the latest snapshot holds, and of the steps that were closed again.
    pub(crate) fn restored(
        endpoints: usize,
        (apart, held): (&[u8], Option<i64>),
        steps: &VecDeque<Step>,
        (marks, mutation): (&[EndpointMark], Mutation),
    ) -> Result<Self, Malformed> {
        let mut queues = Self::decode(endpoints, apart)?;
        queues.held = held.unwrap_or(i64::MIN);
        queues.newest = steps.back().map(|step| step.0).or(held);
        for (endpoint, queue) in queues.all.iter_mut().enumerate() {
            queue.steps.extend(steps.iter().cloned());
            let first = lacks(marks, endpoint);
            if mutation != Mutation::EndpointMarksIgnored {
                queue.steps.retain(|step| first.is_some_and(|first| step.0 >= first));
            }
        }
        Ok(queues)
    }

    /// Everything that is in the queues, by endpoint.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (usize, i64)> {
        let all = self.all.iter().enumerate();
        all.flat_map(|(endpoint, queue)| queue.steps.iter().map(move |step| (endpoint, step.0)))
    }

    pub(crate) fn add(&mut self, step: &Step) {
        self.newest = Some(step.0);
        self.all.iter_mut().for_each(|queue| queue.steps.push_back(step.clone()));
    }

    /// Whether no endpoint lacks a step.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.iter().all(|queue| queue.steps.is_empty())
    }

    /// Whether a snapshot may be taken: an endpoint that is ahead has everything, and what others lack can be carried.
    pub(crate) fn may_be_carried(&self) -> bool {
        self.all.iter().any(|queue| queue.steps.is_empty())
    }

    /// A snapshot counts that holds what was lacking when `step` was the last closed one.
    pub(crate) fn held(&mut self, step: i64) {
        self.held = step;
    }

    /// The last step of which every endpoint has all, but what the latest snapshot holds.
    pub(crate) fn acknowledged(&self) -> Option<i64> {
        let first = self.steps().map(|(_, step)| step).filter(|step| *step > self.held).min();
        first.map(|step| step - STEP).or(self.newest)
    }

    /// How far the endpoints are; `next` is the first step that none of them has been given. Only one is not named.
    pub(crate) fn marks(&self, next: i64, mutation: Mutation) -> Vec<EndpointMark> {
        if self.all.len() < 2 {
            return Vec::new();
        }
        let first = |queue: &Queue| queue.steps.front().map_or(next, |step| step.0);
        let fastest = self.all.iter().map(first).max().unwrap_or(next);
        let lacks = |queue: &Queue| if mutation == Mutation::EndpointMarkTooFar { fastest } else { first(queue) };
        let mark = |(endpoint, queue)| EndpointMark { name: name(endpoint), lacks: lacks(queue) };
        self.all.iter().enumerate().map(mark).collect()
    }

    /// The oldest step that an endpoint lacks; it is under way from now on.
    pub(crate) fn request(&mut self, endpoint: usize) -> Option<Step> {
        let queue = self.all.get_mut(endpoint).filter(|queue| !queue.sending)?;
        queue.sending = !queue.steps.is_empty();
        queue.steps.front().cloned()
    }

    /// The answer of an endpoint, or that none came.
    pub(crate) fn answered(&mut self, endpoint: usize, step: i64, taken: bool) {
        // An answer to what was sent before the task was restored shows nothing about it now.
        let Some(queue) = self.all.get_mut(endpoint).filter(|queue| queue.sending) else { return };
        if queue.steps.front().is_some_and(|front| front.0 == step) {
            queue.sending = false;
            if taken {
                queue.steps.pop_front();
            }
        }
    }

    /// What endpoints lack, for a snapshot; nothing if they lack nothing.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for queue in self.all.iter().filter(|_| !self.is_empty()) {
            put_u64(&mut out, queue.steps.len() as u64);
            for (step, series) in &queue.steps {
                put_i64(&mut out, *step);
                put_u64(&mut out, series.len() as u64);
                for (series, value) in series {
                    put_u64(&mut out, *series);
                    put_u64(&mut out, *value);
                }
            }
        }
        out
    }

    fn decode(endpoints: usize, bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, mut queues) = (Reader::new(bytes), Self::new(endpoints));
        for queue in queues.all.iter_mut().filter(|_| !bytes.is_empty()) {
            for _ in 0..r.u64()? {
                let (step, mut series) = (r.i64()?, BTreeMap::new());
                for _ in 0..r.u64()? {
                    series.insert(r.u64()?, r.u64()?);
                }
                queue.steps.push_back((step, series));
            }
        }
        Ok(queues)
    }
}
