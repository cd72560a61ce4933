//! One schedule: chaos for a while, then peace until everything has arrived, then the reckoning.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::mutation::Mutation;
use super::net::{Net, Topic};
use super::oracle;
use super::rng::Rng;
use super::series_actor::{SeriesActor, Step};
use super::sink::{CONTRADICTED, Sink};
use super::source::{Deltas, Record, STEP, records, step_of};
use super::span_actor::SpanActor;
use spanmill::core::journal::Owner;

/// What an actor may know of the world.
pub(crate) struct Claims<'a> {
    pub(crate) mutation: Mutation,
    pub(crate) partitions: usize,
    pub(crate) shards: usize,
    pub(crate) endpoints: usize,
    /// The source partition of a span task.
    pub(crate) source: &'a [Record],
    /// Once no more faults happen, a fenced worker claims again.
    pub(crate) healing: bool,
    /// Which owner learned that which commit was accepted.
    pub(crate) accepted: &'a mut Vec<(Topic, Owner, u64)>,
    /// How often delta records were sent again because a shard lacked them.
    pub(crate) regained: usize,
    /// How far the group has learned from each journal that it goes.
    pub(crate) learned: Rc<Vec<(Topic, Option<i64>)>>,
}

/// A request on its way to an endpoint.
struct Request {
    actor: u64,
    endpoint: usize,
    step: Step,
}

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    schedules: usize,
    crashes: usize,
    zombies: usize,
    fenced: usize,
    broken_appends: usize,
    late_claims: usize,
    swapped: usize,
    cuts: usize,
    ticks: usize,
    resets: usize,
    forced: usize,
    snapshots: usize,
    releases: usize,
    lost_ends: usize,
    regained: usize,
    lost_journals: usize,
    refused: usize,
    /// Contradicted samples of forced closes whose marks are lost: a known limit. Too rare to be asked for.
    forced_lost: usize,
    outages: usize,
    resent_samples: usize,
    accepted: usize,
    /// Snapshots that hold what slow endpoints lack.
    carried: usize,
    /// Requests to an endpoint that others are ahead of.
    behind: usize,
}

pub(crate) struct World {
    rng: Rng,
    mutation: Mutation,
    net: Net,
    sources: Rc<Vec<Vec<Record>>>,
    /// How many records of each source are there by now.
    visible: Vec<usize>,
    shards: usize,
    spans: Vec<SpanActor>,
    series: Vec<SeriesActor>,
    requests: Vec<Request>,
    /// Of each endpoint.
    sinks: Vec<Sink>,
    outages: Vec<bool>,
    healing: bool,
    accepted: Vec<(Topic, Owner, u64)>,
    learned: Rc<Vec<(Topic, Option<i64>)>>,
    /// Journals that have lost their end.
    lost: Vec<Topic>,
    /// The shards whose journals have lost marks of forced closes, each with the first such step.
    lost_forced: BTreeMap<usize, i64>,
    counter: Counter,
}

/// The message that a step that was closed on stall timeout is contradicted because its mark is lost.
const FORCED_LOST: &str = "a forced close is lost: ";

/// How the refusal of a journal begins.
pub(crate) fn refusal(topic: Topic) -> String {
    format!("refused {topic:?}: ")
}

// === impl Claims ===

impl Claims<'_> {
    /// Refuses a journal that goes less far than the group has learned.
    pub(crate) fn has_its_end(&self, topic: Topic, next: Option<i64>) -> Result<(), String> {
        match self.learned.iter().find(|(of, _)| *of == topic) {
            Some((_, Some(known))) if next.is_none_or(|next| next < *known) => {
                Err(format!("{}it went to {known}, and goes to {next:?}", refusal(topic)))
            }
            _ => Ok(()),
        }
    }
}

// === impl Counter ===

impl Counter {
    fn counts(&mut self) -> [&mut usize; 22] {
        [
            &mut self.schedules,
            &mut self.crashes,
            &mut self.zombies,
            &mut self.fenced,
            &mut self.broken_appends,
            &mut self.cuts,
            &mut self.ticks,
            &mut self.resets,
            &mut self.forced,
            &mut self.snapshots,
            &mut self.releases,
            &mut self.lost_ends,
            &mut self.regained,
            &mut self.outages,
            &mut self.resent_samples,
            &mut self.accepted,
            &mut self.late_claims,
            &mut self.swapped,
            &mut self.lost_journals,
            &mut self.refused,
            &mut self.carried,
            &mut self.behind,
        ]
    }

    pub(crate) fn add(&mut self, run: &Counter) {
        let Counter { schedules, crashes, zombies, fenced, broken_appends, cuts, ticks, resets, .. } = *run;
        let Counter { forced, snapshots, releases, lost_ends, regained, outages, .. } = *run;
        let Counter { resent_samples, accepted, late_claims, swapped, lost_journals, refused, carried, behind, .. } =
            *run;
        self.forced_lost += run.forced_lost;
        let run = [schedules, crashes, zombies, fenced, broken_appends, cuts, ticks, resets, forced, snapshots];
        let rest = [releases, lost_ends, regained, outages, resent_samples, accepted, late_claims, swapped];
        let rest = rest.into_iter().chain([lost_journals, refused, carried, behind]);
        for (mine, n) in self.counts().into_iter().zip(run.into_iter().chain(rest)) {
            *mine += n;
        }
    }

    /// A known limit must not become a way out.
    pub(crate) fn few_are_forgiven(&self) -> bool {
        self.forced_lost * 50 <= self.lost_journals
    }

    pub(crate) fn has_seen_everything(&mut self) -> bool {
        self.counts().into_iter().all(|n| *n > 0)
    }
}

// === impl World ===

impl World {
    pub(crate) fn new(seed: u64, mutation: Mutation) -> Self {
        let mut rng = Rng::new(seed);
        let endpoints = [1, 2, 1, 3][seed as usize % 4];
        let (partitions, shards) = (1 + rng.below(3), 1 + rng.below(2));
        let sources: Vec<_> = (0..partitions)
            .map(|_| {
                let n = 15 + rng.below(25);
                records(&mut rng, n)
            })
            .collect();
        Self {
            net: Net::new(partitions, shards),
            visible: vec![0; partitions],
            sources: Rc::new(sources),
            shards,
            mutation,
            rng,
            spans: Vec::new(),
            series: Vec::new(),
            requests: Vec::new(),
            sinks: (0..endpoints).map(|_| Sink::default()).collect(),
            outages: vec![false; endpoints],
            healing: false,
            accepted: Vec::new(),
            learned: Rc::default(),
            lost: Vec::new(),
            lost_forced: BTreeMap::new(),
            counter: Counter { schedules: 1, ..Counter::default() },
        }
    }

    /// Runs the schedule. The error says which promise was broken.
    pub(crate) fn run(mut self) -> Result<Counter, String> {
        for _ in 0..600 {
            self.chaos()?;
        }
        if self.mutation == Mutation::None && self.rng.chance(25) {
            self.lose_power()?;
        }
        match self.heal() {
            Err(what) if self.lost.iter().any(|topic| what.starts_with(&refusal(*topic))) => self.counter.refused += 1,
            Err(what) if what.starts_with(FORCED_LOST) => self.counter.forced_lost += 1,
            healed => {
                healed?;
                self.reckon()?;
            }
        }
        self.counter.broken_appends = self.net.troubles;
        (self.counter.late_claims, self.counter.swapped) = (self.net.late_claims, self.net.swapped);
        self.counter.resent_samples = self.sinks.iter().map(|sink| sink.resent).sum();
        self.counter.accepted = self.accepted.len();
        self.counter.cuts = self.journals().filter(|&t| self.net.log(t).start > 0).count();
        Ok(self.counter)
    }

    fn journals(&self) -> impl Iterator<Item = Topic> + use<> {
        (0..self.sources.len()).map(Topic::Journal).chain((0..self.shards).map(Topic::SeriesJournal))
    }

    /// Every machine loses power. Nothing arrives that was under way, and journals lose any number of their last records,
    /// acknowledged or not. The group knows how far they went.
    fn lose_power(&mut self) -> Result<(), String> {
        for channel in 0..self.net.channels.len() {
            self.net.drop_queue(channel);
        }
        let mut learned = Vec::new();
        for topic in self.journals() {
            let of_source = matches!(topic, Topic::Journal(_));
            learned.push((topic, oracle::next(self.net.log(topic), of_source)?));
            let log = self.net.log_mut(topic);
            let there = log.read(0, log.end()).len();
            let most = if self.rng.chance(50) { there.min(6) } else { there };
            let n = if self.rng.chance(40) { self.rng.below(most + 1) } else { 0 };
            if n > 0 {
                let forced = |log: &_| if of_source { Ok(Vec::new()) } else { oracle::forced(log) };
                let before = forced(log)?;
                log.lose_end(n);
                if let (Topic::SeriesJournal(shard), Some(lost)) = (topic, before.get(forced(log)?.len())) {
                    self.lost_forced.insert(shard, *lost);
                }
                self.lost.push(topic);
                self.counter.lost_journals += 1;
            }
        }
        self.learned = Rc::new(learned);
        Ok(())
    }

    fn chaos(&mut self) -> Result<(), String> {
        match self.rng.below(1000) {
            0..400 => self.move_records(),
            400..600 => {
                let i = self.rng.below(self.spans.len().max(1));
                self.step_span(i)?;
            }
            600..820 => {
                let i = self.rng.below(self.series.len().max(1));
                self.step_series(i)?;
            }
            820..890 => self.deliver_request()?,
            890..940 => {
                let p = self.rng.below(self.sources.len());
                self.visible[p] = (self.visible[p] + 1 + self.rng.below(4)).min(self.sources[p].len());
            }
            940..965 => self.take_over(),
            965..985 => self.crash(),
            985..990 => self.release(),
            990..993 if !self.mutation.keeps_ends() => self.lose_end(),
            _ => {
                let endpoint = self.any_endpoint();
                self.outages[endpoint] = !self.outages[endpoint];
                self.counter.outages += usize::from(self.outages[endpoint]);
            }
        }
        Ok(())
    }

    /// Moves a few records of one channel; those of the dead move as well.
    fn move_records(&mut self) {
        let channel = self.rng.below(self.net.channels.len().max(1));
        if channel < self.net.channels.len() {
            // The young ones are the ones that matter most.
            let recent = self.net.channels.len().saturating_sub(1 + self.rng.below(8));
            let channel = if self.rng.chance(70) { recent } else { channel };
            for _ in 0..=self.rng.below(3) {
                self.net.step(&mut self.rng, channel);
            }
        }
    }

    /// A worker acquires a task. Its earlier owner does not know, and continues.
    fn take_over(&mut self) {
        let Self { net, rng, mutation, .. } = self;
        let task = rng.below(self.sources.len() + self.shards);
        let zombie = if let Some(shard) = task.checked_sub(self.sources.len()) {
            self.series.push(SeriesActor::new(net, rng, shard, *mutation));
            self.series.iter().filter(|a| a.shard == shard).count() > 1
        } else {
            self.spans.push(SpanActor::new(net, rng, task, *mutation));
            self.spans.iter().filter(|a| a.partition == task).count() > 1
        };
        self.counter.zombies += usize::from(zombie);
    }

    fn crash(&mut self) {
        let n = self.spans.len() + self.series.len();
        if n == 0 {
            return;
        }
        self.counter.crashes += 1;
        let i = self.rng.below(n);
        let channels = match i.checked_sub(self.spans.len()) {
            Some(i) => self.series.swap_remove(i).channels(),
            None => self.spans.swap_remove(i).channels(),
        };
        // Requests that have left the process continue, unless they are lost as well.
        for channel in channels {
            if self.rng.chance(50) {
                self.net.drop_queue(channel);
            }
        }
    }

    /// The brokers lose the last records of a partition of the deltas topic, any number of them.
    fn lose_end(&mut self) {
        let shard = self.rng.below(self.shards);
        let log = self.net.log_mut(Topic::Deltas(shard));
        let most = if self.rng.chance(50) { log.all.len().min(6) } else { log.all.len() };
        let n = self.rng.below(most + 1);
        log.lose_end(n);
        self.counter.lost_ends += usize::from(n > 0);
        if self.rng.chance(50) {
            let Self { net, rng, mutation, .. } = self;
            self.series.push(SeriesActor::new(net, rng, shard, *mutation));
        }
    }

    fn release(&mut self) {
        let Self { net, spans, series, .. } = self;
        spans.retain_mut(|actor| {
            let gone = actor.release(net);
            self.counter.releases += usize::from(gone);
            !gone
        });
        if series.first_mut().is_some_and(|actor| actor.release(net)) {
            self.counter.releases += 1;
            series.swap_remove(0);
        }
    }

    fn claims<'a>(&self, accepted: &'a mut Vec<(Topic, Owner, u64)>, source: &'a [Record]) -> Claims<'a> {
        let (mutation, partitions, shards, healing) = (self.mutation, self.sources.len(), self.shards, self.healing);
        let learned = Rc::clone(&self.learned);
        let endpoints = self.sinks.len();
        Claims { mutation, partitions, shards, endpoints, source, healing, accepted, regained: 0, learned }
    }

    fn step_span(&mut self, i: usize) -> Result<(), String> {
        if i >= self.spans.len() {
            return Ok(());
        }
        let mut accepted = std::mem::take(&mut self.accepted);
        let source = Rc::clone(&self.sources);
        let p = self.spans[i].partition;
        let mut claims = self.claims(&mut accepted, &source[p]);
        let visible = &source[p][..self.visible[p]];
        // What a wall clock might say: as late as the latest source.
        let newest = source.iter().zip(&self.visible).flat_map(|(s, &n)| s[..n].iter().map(|r| r.ts)).max();
        let now = if self.healing { Some(self.end()) } else { newest };
        let Self { net, rng, spans, counter, .. } = self;
        let actor = &mut spans[i];
        let alive = actor.step(net, rng, &mut claims)?;
        if alive {
            if !claims.healing && rng.below(1500) == 0 {
                let to = i64::try_from(rng.below(visible.len() + 1)).expect("small");
                counter.resets += usize::from(actor.reset(net, &claims, to));
            } else if rng.chance(60) {
                actor.read(net, rng, &claims, visible);
            } else if let Some(now) = now.filter(|_| rng.chance(if claims.healing { 50 } else { 10 })) {
                counter.ticks += 1;
                actor.tick(net, &claims, now, visible);
            }
        } else {
            counter.fenced += 1;
            spans.swap_remove(i);
        }
        counter.regained += claims.regained;
        self.accepted = accepted;
        Ok(())
    }

    fn step_series(&mut self, i: usize) -> Result<(), String> {
        if i >= self.series.len() {
            return Ok(());
        }
        let mut accepted = std::mem::take(&mut self.accepted);
        let endpoint = self.any_endpoint();
        let mut claims = self.claims(&mut accepted, &[]);
        let Self { net, rng, series, counter, requests, .. } = self;
        let actor = &mut series[i];
        let alive = actor.step(net, rng, &mut claims)?;
        if alive {
            match rng.below(100) {
                0..60 => actor.read(net, rng, &claims)?,
                60..66 if !claims.healing => counter.forced += usize::from(actor.force(net, &claims)),
                66..73 => {
                    let [taken, carries] = actor.snapshot(net, &claims).map(usize::from);
                    (counter.snapshots, counter.carried) = (counter.snapshots + taken, counter.carried + carries);
                }
                _ => {
                    let step = actor.request(endpoint);
                    requests.extend(step.map(|step| Request { actor: actor.id, endpoint, step }));
                }
            }
        } else {
            counter.fenced += 1;
            series.swap_remove(i);
        }
        self.accepted = accepted;
        Ok(())
    }

    fn any_endpoint(&mut self) -> usize {
        // Schedules with one endpoint stay what they are.
        if self.sinks.len() == 1 { 0 } else { self.rng.below(self.sinks.len()) }
    }

    /// Some request arrives, however late, from any worker.
    fn deliver_request(&mut self) -> Result<(), String> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.requests.len());
        // The second endpoint is slow.
        if self.requests[at].endpoint == 1 && !self.healing && self.rng.chance(70) {
            return Ok(());
        }
        let Request { actor, endpoint, step } = self.requests.swap_remove(at);
        let newest = |sink: &Sink| sink.series.values().filter_map(|samples| samples.keys().last()).max().copied();
        let ahead = self.sinks.iter().filter_map(newest).max();
        self.counter.behind += usize::from(ahead.is_some_and(|newest| newest > step.0 + STEP));
        let lost = !self.healing && self.rng.chance(10);
        let answer_lost = !self.healing && self.rng.chance(10);
        let taken = !self.outages[endpoint] && !lost;
        if taken {
            for (&series, &value) in &step.1 {
                let shard = usize::try_from(series).expect("small") % self.shards;
                // Nothing else shows that a step was closed too early, and it is closed again with all that is there.
                let forgiven = self.lost_forced.get(&shard).is_some_and(|lost| step.0 >= *lost);
                self.sinks[endpoint].take(series, step.0, value).map_err(|what| {
                    let what = format!("endpoint {endpoint}: {what}");
                    if forgiven && what.contains(CONTRADICTED) { format!("{FORCED_LOST}{what}") } else { what }
                })?;
            }
        }
        if let Some(actor) = self.series.iter_mut().find(|a| a.id == actor) {
            actor.answered(endpoint, step.0, taken && !answer_lost);
        }
        Ok(())
    }

    /// The stream time at which every half has met its other or expired, and every step is over.
    fn end(&self) -> i64 {
        step_of(self.sources.iter().flatten().map(|r| r.ts).max().unwrap_or(0)) + 4 * STEP
    }

    /// Peace: one owner per task, nothing gets lost, until nothing is left to do.
    fn heal(&mut self) -> Result<(), String> {
        self.spans.clear();
        self.series.clear();
        self.outages.fill(false);
        self.healing = true;
        self.net.lossy = false;
        self.visible = self.sources.iter().map(Vec::len).collect();
        let Self { net, rng, mutation, .. } = self;
        self.spans.extend((0..self.sources.len()).map(|p| SpanActor::new(net, rng, p, *mutation)));
        self.series.extend((0..self.shards).map(|s| SeriesActor::new(net, rng, s, *mutation)));
        let end = self.end();
        for _ in 0..1_500 {
            for channel in 0..self.net.channels.len() {
                self.net.step(&mut self.rng, channel);
            }
            for i in 0..self.spans.len() {
                self.step_span(i)?;
            }
            for i in 0..self.series.len() {
                self.step_series(i)?;
            }
            for _ in 0..self.sinks.len() {
                self.deliver_request()?;
            }
            let Self { net, sources, spans, series, .. } = self;
            if spans.iter_mut().all(|a| a.is_done(end, &sources[a.partition]))
                && net.is_quiet()
                && series.iter_mut().all(|a| a.is_done(net, end))
            {
                return Ok(());
            }
        }
        Err("something waits for ever".to_owned())
    }

    fn reckon(&mut self) -> Result<(), String> {
        let (mut totals, mut resets) = (Deltas::new(), 0);
        for (p, source) in self.sources.iter().enumerate() {
            resets += oracle::check_span_journal(self.net.log(Topic::Journal(p)), source, &mut totals)
                .map_err(|what| format!("partition {p}: {what}"))?;
        }
        for (series, total) in oracle::plain_totals(&self.sources) {
            // Unless an operator wanted records counted twice, or not at all.
            if resets == 0 && totals.get(&series) != Some(&total) {
                return Err(format!("series {series}: the journals say {:?} of {total}", totals.get(&series)));
            }
        }
        let end = self.end();
        for (endpoint, sink) in self.sinks.iter().enumerate() {
            if let Some((series, ts)) = self.sinks.iter().find_map(|other| other.beyond(sink)) {
                return Err(format!("endpoint {endpoint} has lost series {series} at {ts}, which another one has"));
            }
            for (&series, &total) in &totals {
                match sink.last(series) {
                    Some((ts, value)) if ts >= end && value == total => {}
                    last => {
                        let wrong = format!("endpoint {endpoint} has {last:?}, it should be {total} at {end}");
                        return Err(format!("series {series}: {wrong}"));
                    }
                }
            }
        }
        if self.mutation == Mutation::None {
            self.check_what_writers_were_told()?;
        }
        Ok(())
    }

    /// A writer that takes a frame for accepted and the readers of its journal must mean the same.
    fn check_what_writers_were_told(&self) -> Result<(), String> {
        for topic in self.journals().filter(|topic| !self.lost.contains(topic)) {
            let counted = oracle::counted(self.net.log(topic));
            if !oracle::agrees(self.net.log(topic), &counted) {
                return Err(format!("{topic:?}: the fold and the letter of the rules differ"));
            }
            for (_, owner, commit_number) in self.accepted.iter().filter(|(t, ..)| *t == topic) {
                if !counted.iter().any(|c| (c.owner, c.commit_number) == (*owner, *commit_number)) {
                    return Err(format!("{topic:?}: {owner} believes that commit {commit_number} was accepted"));
                }
            }
        }
        Ok(())
    }
}
