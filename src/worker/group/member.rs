//! The member thread: waits for the topics, joins the group, opens and closes tasks as the group assigns them, and does
//! the housekeeping that no other thread does (group offsets, trimming, new source topics and partitions).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::demand::{Demand, Moment};
use super::following::Following;
use super::membership::Membership;
use super::parts::Parts;
use super::renewal::Renewal;
use super::storm::{Losses, Storm};
use super::thread::{self, Threads};
use crate::config::settings::{GroupProtocol, WorkerStage};
use crate::worker::kafka::broker_clock::wall_clock;
use crate::worker::kafka::members::{OnChange, Partition};
use crate::worker::kafka::topics::Topics;
use crate::worker::kafka::{KafkaError, client};
use crate::worker::repartition::Stage;
use crate::worker::restore::Pool;
use crate::worker::task::{Close, Command, Inbox, WorkerError, pause};
use crate::worker::telemetry::flood;
use crate::worker::telemetry::{ActiveSpan, Condition, Rebalance, TaskId, TaskKind, TaskState, TaskStatus};

/// How often the group learns the positions, for lag dashboards, and the worker how far partitions reach.
const COMMIT_EVERY: Duration = Duration::from_secs(5);
/// How often, at the least, old records are deleted and source topics are checked for changes. More frequent snapshots make
/// more records deletable; `topic.metadata.refresh.interval.ms` decides how often clients learn of changed topics.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(30);

/// The shorter interval, when the group knows of partitions that this worker does not, or their journals could not be
/// extended.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How often a worker with one stage looks whether the other one has workers, and how long they may take to come.
const LOOK_FOR_OTHERS: Duration = Duration::from_secs(5);
const OTHERS_WITHIN: Duration = Duration::from_secs(20);
const AFTER_SILENCE: Duration = Duration::from_secs(60);

/// The threads that run tasks. Shared by the rebalance callback and the member loop.
struct Crew {
    parts: Parts,
    inboxes: Vec<Inbox>,
    storm: Mutex<Storm>,
    losses: Mutex<Losses>,
    /// Whether this worker has rejoined after too many evictions.
    wants_rest: AtomicBool,
}

/// Looks up the ends of partitions independently of fetching: a partition that is not fetched shows no records.
#[derive(Default)]
struct Ends {
    /// The positions of the tasks at the last check.
    positions: BTreeMap<TaskId, i64>,
}

/// Records that no task needs any more, and when they may be deleted.
#[derive(Default)]
struct KeptBack {
    /// What may be deleted at a time, and below which offset.
    waiting: VecDeque<(Option<Instant>, Partition, i64)>,
    /// Deletions that failed, and below which offset.
    failed: BTreeMap<Partition, i64>,
}

/// Whether any worker has the stage that this one lacks.
#[derive(Default)]
struct OneStage {
    next: Option<Instant>,
    since: Option<Instant>,
}

/// Runs until the worker is stopped.
pub(crate) fn run(parts: &Parts) -> Result<(), WorkerError> {
    let config = &parts.clients.config.kafka;
    let topics = Topics::new(config)?.named(&parts.clients.names).watched(&parts.clients.telemetry);
    let sources = match parts.mode.planned_sources() {
        Some(planned) => planned,
        None => wait_for_sources(parts, &topics)?,
    };
    agree_with_sharding(parts, &topics)?;
    // A replay reads what the live workers have repartitioned.
    let live = parts.mode.follows_changes();
    // A replay has no other workers that would do the rest.
    let own = if live { parts.clients.config.worker.stage } else { WorkerStage::Both };
    let repartitions = live && own != WorkerStage::Series;
    let stage = if repartitions { Stage::start(&parts.clients).map_err(WorkerError::Thread)? } else { None };
    // Before the journals follow them.
    let grown = grown(parts, &topics, &sources)?;
    let short = topics.ensure(&sources, parts.clients.config.kafka.shards, &mut || parts.liveness.beat())?;
    // A replay has to process all that its plan names, and a worker at least one topic.
    let left_out = sources.iter().find_map(|(topic, _)| topics.why_left_out(topic));
    let sources = without(sources, &short);
    if let Some(why) = left_out.filter(|_| sources.is_empty() || !parts.mode.follows_changes()) {
        return Err(KafkaError::Topic(why).into());
    }
    // One that is skipped now is a new one once it can be processed.
    parts.sources.add_grown(grown.into_iter().filter(|(topic, _)| short.get(topic) != Some(&0)));
    publish(parts, &sources);

    let pool = Pool::start(&parts.means())?;
    let threads = thread::start(parts, &pool)?;
    let crew = Arc::new(Crew::new(parts.clone(), threads.inboxes()));
    let following = Following::new(sources);
    let on_change = || -> Box<dyn OnChange> { Box::new(Arc::clone(&crew)) };
    let mut membership = Membership::join(&parts.clients, &parts.groups, (own, following.topics()), on_change)?;

    let served = serve(&crew, &topics, &mut membership, &threads, following);
    tracing::info!("stopping: draining the tasks");
    stage.iter().for_each(Stage::stop);
    crew.let_go(&membership.owned(), true);
    membership.commit(&parts.offsets.take_positions());
    drop(membership);
    threads.end();
    pool.end();
    served
}

/// Enters the sharding of the group. Brokers that do not answer are asked again.
fn agree_with_sharding(parts: &Parts, topics: &Topics) -> Result<(), WorkerError> {
    loop {
        parts.liveness.beat();
        match topics.agrees_with_sharding(parts.clients.config.kafka.shards) {
            Err(error @ (KafkaError::Request { .. } | KafkaError::Timeout { .. })) => {
                if let Some(held_back) = flood::may_say("sharding") {
                    tracing::warn!(%error, held_back, "cannot look up the number of shards of the group, retrying");
                }
                if !pause(&parts.stop, AGAIN) {
                    return Err(KafkaError::Stopping.into());
                }
            }
            outcome => return Ok(outcome?),
        }
    }
}

fn serve(
    crew: &Crew,
    topics: &Topics,
    membership: &mut Membership,
    threads: &Threads,
    mut following: Following,
) -> Result<(), WorkerError> {
    let parts = &crew.parts;
    let snapshots = Duration::from_millis(parts.clients.config.core.series.snapshot_every.unsigned_abs());
    let housekeeping = HOUSEKEEPING_EVERY.min(snapshots.max(Duration::from_secs(1)));
    let look_every = housekeeping.min(client::refreshes(&parts.clients.config.kafka));
    let (mut committed, mut kept, mut looked) = (Instant::now(), Instant::now(), Instant::now());
    let (mut ends, mut kept_back, mut demand) = (Ends::default(), KeptBack::default(), Demand::default());
    let (mut again, mut letters, mut renewal) = (AGAIN, Letters::new(parts), Renewal::default());
    letters.ensure(parts, topics);
    let mut alone = OneStage::default();
    while !parts.stop.load(Ordering::Relaxed) {
        parts.liveness.beat();
        parts.clock.compare();
        membership.serve();
        membership.rest_if(crew.wants_rest.swap(false, Ordering::Relaxed), &parts.clients.telemetry);
        parts.liveness.set_joined(membership.joined());
        check_up(membership, threads)?;
        renewal.look(&parts.clients.appender, &parts.clients.config.kafka.group, Instant::now())?;
        if committed.elapsed() > COMMIT_EVERY {
            membership.commit(&parts.offsets.take_positions());
            ends.look(parts, membership);
            estimate(parts, &mut demand, threads.idle());
            committed = Instant::now();
        }
        let strangers = || membership.sources().iter().any(|p| !parts.sources.knows(p));
        if parts.mode.follows_changes() && (looked.elapsed() > look_every || looked.elapsed() > again && strangers()) {
            let follows = follow_topics(parts, topics, &mut following, membership);
            again = if follows { AGAIN } else { AGAIN_AFTER_FAILURE };
            parts.liveness.beat();
            looked = Instant::now();
        }
        alone.look(parts, membership, Instant::now());
        if kept.elapsed() > housekeeping {
            let retention = Duration::from_millis(parts.clients.config.kafka.journal_retention.unsigned_abs());
            let (repartitioned, trims) = parts
                .offsets
                .take_trims()
                .into_iter()
                .partition(|(p, _)| parts.clients.config.kafka.repartitioned(&p.topic).is_some());
            kept_back.add(old_enough(parts, membership, repartitioned), |_| false, Instant::now());
            kept_back.add(trims, |topic| parts.clients.names.is_journal(topic), Instant::now() + retention);
            // Each of these may wait for a broker that does not answer, and liveness must not fail because of that.
            let left = topics.trim(kept_back.due(Instant::now()));
            kept_back.again(left);
            parts.liveness.beat();
            topics.check_again()?;
            letters.ensure(parts, topics);
            kept = Instant::now();
        }
    }
    Ok(())
}

// === impl OneStage ===

impl OneStage {
    fn look(&mut self, parts: &Parts, membership: &Membership, now: Instant) {
        let config = &parts.clients.config;
        // Groups whose brokers share partitions out do not tell who is in them.
        let tells = config.worker.stage != WorkerStage::Both && config.kafka.group_protocol == GroupProtocol::Classic;
        if !tells || !parts.mode.follows_changes() || self.next.is_some_and(|next| now < next) {
            return;
        }
        let answer = membership.missing_stage();
        parts.liveness.beat();
        // Waiting for a broker that does not answer holds up the member thread.
        self.next = Some(now + if answer.is_ok() { LOOK_FOR_OTHERS } else { AFTER_SILENCE });
        let Ok(missing) = answer else { return };
        self.since = missing.and(self.since.or(Some(now)));
        let lasts = self.since.is_some_and(|since| now.saturating_duration_since(since) >= OTHERS_WITHIN);
        let reason = missing.filter(|_| lasts).map(|group| {
            let stage = if config.worker.stage == WorkerStage::Spans { "series" } else { "spans" };
            format!(
                "worker.stage leaves the other stage to others, and group {group} has no member; start workers with \
                 `worker.stage: {stage}`, or set it to `both`"
            )
        });
        parts.clients.telemetry.conditions().report(Condition::Group, "stage", reason);
    }
}

/// Of repartitioned records that no task needs any more, those that are older than `kafka.repartition_retention`.
fn old_enough(parts: &Parts, membership: &Membership, below: Vec<(Partition, i64)>) -> Vec<(Partition, i64)> {
    if below.is_empty() {
        return Vec::new();
    }
    let time = wall_clock() - parts.clients.config.kafka.repartition_retention;
    let partitions: Vec<Partition> = below.iter().map(|(p, _)| p.clone()).collect();
    match membership.offsets_at(&partitions, time) {
        Ok(young) => {
            let young: BTreeMap<Partition, i64> = young.into_iter().collect();
            let due = |(p, offset): (Partition, i64)| young.get(&p).map(|young| (p, offset.min(*young)));
            below.into_iter().filter_map(due).collect()
        }
        Err(error) => {
            tracing::debug!(%error, "cannot look up which repartitioned records are old, retrying later");
            Vec::new()
        }
    }
}

/// Shows how many workers the group needs, for autoscalers. A replay has no present to catch up with.
fn estimate(parts: &Parts, demand: &mut Demand, (threads, idle): (usize, Duration)) {
    if !parts.mode.time_passes() {
        return;
    }
    let telemetry = &parts.clients.telemetry;
    let moment = Moment::new(Instant::now(), idle, &telemetry.tasks().snapshot());
    let within = Duration::from_millis(parts.clients.config.admin.ready_max_lag.unsigned_abs());
    telemetry.desired_workers(demand.look(moment, threads, parts.sources.all().len(), within));
}

/// Ends the worker if something has failed that cannot be replaced.
fn check_up(membership: &Membership, threads: &Threads) -> Result<(), WorkerError> {
    if !threads.alive() {
        return Err(WorkerError::Fatal("a worker thread died; please report this bug with the log".to_owned()));
    }
    membership.fatal().map_or(Ok(()), |text| {
        Err(WorkerError::Fatal(format!(
            "the group has excluded this worker ({text}); if kafka.properties sets group.instance.id, each worker \
             needs its own"
        )))
    })
}

/// Waits until every source topic that is named exists, and any at all, as long as it takes: a Collector creates its topic with
/// its first record.
fn wait_for_sources(parts: &Parts, topics: &Topics) -> Result<Vec<(String, i32)>, WorkerError> {
    let mut told = None::<Instant>;
    loop {
        parts.liveness.beat();
        match topics.all_sources() {
            Ok(sources) => return Ok(sources),
            Err(error) => {
                let waits = format!("waiting for the source topics: {error}");
                parts.clients.telemetry.conditions().report(Condition::Group, "start", Some(waits));
                if told.is_none_or(|t| t.elapsed() > Duration::from_secs(30)) {
                    tracing::warn!(%error, brokers = parts.clients.config.kafka.brokers, "waiting for the source topics");
                    told = Some(Instant::now());
                }
            }
        }
        if !pause(&parts.stop, Duration::from_millis(500)) {
            return Err(KafkaError::Stopping.into());
        }
    }
}

/// By source topic, the first partition that the group has not known so far: the journal has no partition for it. A
/// group without a journal knows all existing partitions.
fn grown(parts: &Parts, topics: &Topics, sources: &[(String, i32)]) -> Result<BTreeMap<String, i32>, KafkaError> {
    let known = |(topic, partitions): &(String, i32)| {
        let journal = topics.partitions(&parts.clients.names.journal(topic))?;
        Ok((topic.clone(), journal.unwrap_or(*partitions)))
    };
    sources.iter().map(known).collect()
}

fn publish(parts: &Parts, sources: &[(String, i32)]) {
    let mut all: Vec<_> = sources.iter().flat_map(|(topic, n)| (0..*n).map(move |p| (topic.clone(), p))).collect();
    all.sort();
    parts.sources.set(all);
}

/// The source topics with the partitions that can be processed: those that have a journal.
fn without(mut sources: Vec<(String, i32)>, short: &BTreeMap<String, i32>) -> Vec<(String, i32)> {
    for (topic, partitions) in &mut sources {
        *partitions = short.get(topic).map_or(*partitions, |found| *found.min(partitions));
    }
    sources.retain(|(_, partitions)| *partitions > 0);
    sources
}

/// Follows changes of the source topics; returns whether all of their partitions can be processed.
fn follow_topics(parts: &Parts, topics: &Topics, following: &mut Following, membership: &Membership) -> bool {
    let found = match topics.all_sources() {
        Ok(found) => match following.look(found) {
            Some(found) => found,
            None => return true,
        },
        Err(error) => {
            tracing::debug!(%error, "cannot check the source topics");
            return false;
        }
    };
    // The groups have to be served meanwhile, or they would evict this worker.
    let mut between = || {
        parts.liveness.beat();
        membership.serve_now();
    };
    let short = match topics.ensure(&found, parts.clients.config.kafka.shards, &mut between) {
        Ok(short) => short,
        Err(error) => {
            tracing::error!(%error, "the internal topics cannot be adapted to the source topics");
            return false;
        }
    };
    // Behind the creation of journals: those that are there when the number of shards changes are reserved.
    if !topics.is_in_sharding() {
        return false;
    }
    let served = without(found, &short);
    if served.is_empty() {
        return false;
    }
    let Some((new, gone)) = following.change(served.clone()) else { return short.is_empty() };
    tracing::info!(?new, ?gone, ?served, "source topics changed");
    // What a new topic has is read from its beginning, wherever the group was begun.
    parts.sources.add_grown(new.into_iter().map(|topic| (topic, 0)));
    publish(parts, &served);
    // Last: their tasks are opened as soon as the group gives them out.
    membership.follow(following.topics());
    short.is_empty()
}

/// The topic of dead letters, which may have to wait for a permission.
struct Letters {
    wanted: bool,
    failed: bool,
}

// === impl Letters ===

impl Letters {
    fn new(parts: &Parts) -> Self {
        Self { wanted: !parts.clients.config.kafka.dead_letter_topic.is_empty(), failed: false }
    }

    /// Ensures that it exists, if that is not known yet.
    fn ensure(&mut self, parts: &Parts, topics: &Topics) {
        if !self.wanted {
            return;
        }
        match topics.ensure_dead_letters(&parts.clients.config.kafka.dead_letter_topic) {
            Ok(()) if self.failed => {
                tracing::info!("created the dead-letter topic");
                self.wanted = false;
            }
            Ok(()) => self.wanted = false,
            Err(error) if !self.failed => {
                tracing::error!(
                    %error,
                    "the dead-letter topic does not exist; dropped records are only counted. Retrying"
                );
                self.failed = true;
            }
            Err(error) => tracing::debug!(%error, "the dead-letter topic still does not exist"),
        }
    }
}

// === impl KeptBack ===

impl KeptBack {
    /// These records are not needed any more. Those of partitions that are to be `kept` may be deleted at `later`, the
    /// others now.
    fn add(&mut self, below: Vec<(Partition, i64)>, kept: impl Fn(&str) -> bool, later: Instant) {
        for (partition, offset) in below {
            let due = kept(&partition.topic).then_some(later);
            self.waiting.push_back((due, partition, offset));
        }
    }

    /// What may be deleted now.
    fn due(&mut self, present: Instant) -> Vec<(Partition, i64)> {
        let (due, rest) = self.waiting.drain(..).partition(|(due, ..)| due.is_none_or(|due| due <= present));
        self.waiting = rest;
        let due: VecDeque<(Option<Instant>, Partition, i64)> = due;
        let mut below = std::mem::take(&mut self.failed);
        for (_, partition, offset) in due {
            let known = below.entry(partition).or_insert(offset);
            *known = offset.max(*known);
        }
        below.into_iter().collect()
    }

    /// These deletions failed: they are due again.
    fn again(&mut self, failed: Vec<(Partition, i64)>) {
        self.failed.extend(failed);
    }
}

// === impl Ends ===

impl Ends {
    /// Looks up the ends of partitions whose tasks have not advanced since the last check.
    fn look(&mut self, parts: &Parts, membership: &Membership) {
        let statuses = parts.clients.telemetry.tasks();
        let tasks = statuses.snapshot();
        let still = |(id, s): &&(TaskId, TaskStatus)| {
            s.state == TaskState::Running && self.positions.get(id) == Some(&s.position)
        };
        let still = tasks.iter().filter(still).map(|(id, _)| (id.topic.clone(), id.partition));
        let still: Vec<_> = still.map(|(topic, partition)| Partition { topic, partition }).collect();
        self.positions = tasks.iter().map(|(id, s)| (id.clone(), s.position)).collect();
        if still.is_empty() {
            return;
        }
        match membership.ends(&still) {
            Ok(ends) => {
                for (Partition { topic, partition }, end) in ends {
                    let kind = if topic == parts.clients.names.deltas() { TaskKind::Series } else { TaskKind::Span };
                    // A task that was closed meanwhile must not come back to the task registry.
                    let id = TaskId { kind, topic, partition };
                    statuses.update_known(&id, |s| s.end_offset = s.end_offset.max(end));
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look up the ends of partitions, retrying later"),
        }
    }
}

// === impl Crew ===

impl Crew {
    fn new(parts: Parts, inboxes: Vec<Inbox>) -> Self {
        Self { parts, inboxes, storm: Mutex::default(), losses: Mutex::default(), wants_rest: AtomicBool::new(false) }
    }

    fn task(&self, p: &Partition) -> TaskId {
        let kind = if p.topic == self.parts.clients.names.deltas() { TaskKind::Series } else { TaskKind::Span };
        TaskId { kind, topic: p.topic.clone(), partition: p.partition }
    }

    /// The tasks of `partitions` and of one kind, by the thread that runs them.
    fn by_thread(&self, partitions: &[Partition], kind: TaskKind) -> Vec<Vec<TaskId>> {
        let mut out = vec![Vec::new(); self.inboxes.len()];
        let wanted = |task: &TaskId| task.kind == kind && self.parts.mode.includes(task);
        for task in partitions.iter().map(|p| self.task(p)).filter(wanted) {
            // Many topics may have one partition each: the name parts them as well.
            let place = xxh3_64(task.topic.as_bytes()).wrapping_add(u64::from(task.partition.unsigned_abs()));
            out[(place % self.inboxes.len() as u64) as usize].push(task);
        }
        out
    }

    /// Counts a change of the assignment. A group that never settles does little else.
    fn moved(&self) {
        let Some(times) = self.storm.lock().ok().and_then(|mut storm| storm.moved(Instant::now())) else { return };
        self.parts.clients.telemetry.rebalance_storm();
        tracing::warn!(
            times,
            "the group keeps moving partitions, so many times within a minute; check whether workers restart or miss \
             heartbeats. If not, increase session.timeout.ms in kafka.properties, and set group.instance.id to a \
             name of its own for each worker, so that a restart moves no partitions"
        );
    }

    /// The span of a rebalance: revoking lasts until the tasks are closed.
    fn trace(&self, event: Rebalance, partitions: &[Partition]) -> Option<ActiveSpan> {
        let span = self.parts.clients.telemetry.trace("rebalance")?;
        Some(span.with("spanmill.event", event.name()).with("spanmill.partitions", partitions.len() as i64))
    }

    /// Closes tasks and waits until they are closed: span tasks first, so that their last delta records are sent.
    fn let_go(&self, partitions: &[Partition], drain: bool) {
        for kind in [TaskKind::Span, TaskKind::Series] {
            let (done, all_done) = sync_channel(self.inboxes.len());
            for (inbox, tasks) in self.inboxes.iter().zip(self.by_thread(partitions, kind)) {
                if !tasks.is_empty() {
                    inbox.send(Command::Close(Close { tasks, drain, done: done.clone() }));
                }
            }
            drop(done);
            // Ends when every thread has answered: each has a deadline of its own.
            while all_done.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Disconnected) {
                self.parts.liveness.beat();
            }
        }
    }
}

impl OnChange for Arc<Crew> {
    fn assigned(&self, partitions: Vec<Partition>) {
        if self.losses.lock().is_ok_and(|mut losses| losses.is_back()) {
            self.wants_rest.store(true, Ordering::Relaxed);
        }
        if partitions.is_empty() {
            return;
        }
        self.parts.clients.telemetry.rebalance(Rebalance::Assigned);
        self.moved();
        tracing::info!(count = partitions.len(), "partitions assigned");
        self.trace(Rebalance::Assigned, &partitions).into_iter().for_each(ActiveSpan::end);
        for kind in [TaskKind::Span, TaskKind::Series] {
            for (inbox, tasks) in self.inboxes.iter().zip(self.by_thread(&partitions, kind)) {
                if !tasks.is_empty() {
                    // At once: a worker that is a member and has no tasks on its task registry is ready.
                    let again = |s: &mut TaskStatus| {
                        if s.state == TaskState::Lost {
                            s.state = TaskState::Claiming;
                        }
                    };
                    tasks.iter().for_each(|task| self.parts.clients.telemetry.tasks().update(task, again));
                    inbox.send(Command::Open(tasks));
                }
            }
        }
    }

    fn revoked(&self, partitions: Vec<Partition>, lost: bool) {
        let Some(kind) = partitions.first().map(|p| self.task(p).kind) else { return };
        if let (true, Ok(mut losses)) = (lost, self.losses.lock()) {
            losses.lost(kind, Instant::now());
        }
        let event = if lost { Rebalance::Lost } else { Rebalance::Revoked };
        self.parts.clients.telemetry.rebalance(event);
        tracing::info!(count = partitions.len(), lost, "partitions revoked");
        self.moved();
        let span = self.trace(event, &partitions);
        self.let_go(&partitions, !lost);
        span.into_iter().for_each(ActiveSpan::end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_stay_for_their_time_and_everything_else_goes_at_once() {
        let at = |topic: &str, offset| (Partition { topic: topic.to_owned(), partition: 0 }, offset);
        let (start, hour) = (Instant::now(), Duration::from_secs(3_600));
        let mut kept = KeptBack::default();
        kept.add(vec![at("g-spans-journal", 5), at("g-deltas", 7)], |t| t.ends_with("s-journal"), start + hour);
        kept.add(vec![at("g-spans-journal", 9)], |_| true, start + 2 * hour);
        assert_eq!(kept.due(start), [at("g-deltas", 7)]);
        assert!(kept.due(start).is_empty());
        // What failed is due again, and goes with what is due by then.
        kept.again(vec![at("g-deltas", 7)]);
        kept.add(vec![at("g-deltas", 6), at("g-deltas", 8)], |_| false, start);
        assert_eq!(kept.due(start), [at("g-deltas", 8)]);
        assert!(kept.due(start).is_empty());
        assert_eq!(kept.due(start + hour), [at("g-spans-journal", 5)]);
        assert_eq!(kept.due(start + 3 * hour), [at("g-spans-journal", 9)]);
    }
}
