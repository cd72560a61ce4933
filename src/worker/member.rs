//! The member thread: waits for the topics, joins the group, opens and closes tasks as the group says, and does the
//! housekeeping that belongs to nobody else (group offsets, trimming, new source partitions).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::command::{Close, Command, Inbox};
use super::membership::Membership;
use super::replay::Replaying;
use super::shared::Shared;
use super::thread::Threads;
use super::watch::{Losses, Storm};
use super::{WorkerError, pause, takeover, thread};
use crate::kafka::KafkaError;
use crate::kafka::members::{OnChange, Partition};
use crate::kafka::topics::Topics;
use crate::telemetry::{Rebalance, TaskId, TaskKind, TaskState};

/// How often the group learns the positions, for lag dashboards.
const COMMIT_EVERY: Duration = Duration::from_secs(5);
/// How often source topics are looked at for new partitions, and old records are deleted, at the least. Snapshots that come
/// more often make more records deletable.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(30);

/// How soon again, when the group knows of partitions that this worker does not.
const AGAIN: Duration = Duration::from_secs(1);

/// Partitions whose end is looked up at a time.
const LOOKS: usize = 16;

/// The threads that run tasks. Shared by the rebalance callback and the member loop.
struct Crew {
    shared: Arc<Shared>,
    inboxes: Vec<Inbox>,
    storm: Mutex<Storm>,
    losses: Mutex<Losses>,
    /// Whether this worker is back from having been thrown out once too often.
    wants_rest: AtomicBool,
}

/// Looks up how far partitions reach, without the help of fetching: a partition that is not fetched shows no records.
#[derive(Default)]
struct Ends {
    /// Where the tasks stood at the last look.
    positions: BTreeMap<TaskId, i64>,
    /// The task that was looked at last, if there may be more.
    last: Option<TaskId>,
}

/// What nobody needs any more, and when it may be deleted.
#[derive(Default)]
struct KeptBack(VecDeque<(Option<Instant>, Partition, i64)>);

/// Runs until the worker is stopped.
pub(super) fn run(shared: &Arc<Shared>) -> Result<(), WorkerError> {
    let topics = Topics::new(&shared.config.kafka)?;
    let sources = match &shared.replaying {
        Some(replaying) => replaying.sources(),
        None => wait_for_sources(shared, &topics)?,
    };
    // Before the journals follow them.
    shared.set_grown(grown(shared, &topics, &sources)?);
    topics.ensure(&sources, shared.config.kafka.shards)?;
    publish(shared, &sources);
    let letters = &shared.config.kafka.dead_letter_topic;
    if !letters.is_empty()
        && let Err(error) = topics.ensure_dead_letters(letters)
    {
        tracing::error!(%error, "there is no topic for dead letters; what cannot be read is only counted");
    }

    let pool = takeover::Pool::start(shared)?;
    let threads = thread::start(shared, &pool)?;
    let crew = Arc::new(Crew::new(Arc::clone(shared), threads.inboxes()));
    let mut membership = Membership::join(shared, || Box::new(Arc::clone(&crew)))?;

    let served = serve(&crew, &topics, &mut membership, &threads, sources);
    tracing::info!("stopping: draining the tasks");
    crew.let_go(&membership.owned(), true);
    membership.commit(&shared.take_positions());
    drop(membership);
    threads.end();
    pool.end();
    served
}

fn serve(
    crew: &Crew,
    topics: &Topics,
    membership: &mut Membership,
    threads: &Threads,
    mut sources: Vec<(String, i32)>,
) -> Result<(), WorkerError> {
    let shared = &crew.shared;
    let snapshots = Duration::from_millis(shared.config.series.snapshot_every.unsigned_abs());
    let housekeeping = HOUSEKEEPING_EVERY.min(snapshots.max(Duration::from_secs(1)));
    let (mut committed, mut kept) = (Instant::now(), Instant::now());
    let (mut ends, mut kept_back) = (Ends::default(), KeptBack::default());
    while !shared.stop.load(Ordering::Relaxed) {
        shared.beat();
        membership.serve();
        membership.rest_if(crew.wants_rest.swap(false, Ordering::Relaxed), &shared.telemetry);
        shared.joined.store(membership.joined(), Ordering::Relaxed);
        if !threads.alive() {
            return Err(WorkerError::Fatal("a worker thread has died; please report what the log says".to_owned()));
        }
        if let Some(text) = shared.appender.fatal() {
            return Err(WorkerError::Fatal(format!("the producer cannot go on: {text}")));
        }
        if let Some(text) = membership.fatal() {
            return Err(WorkerError::Fatal(format!(
                "the group has shut this worker out ({text}); if kafka.properties sets group.instance.id, each worker needs one \
                 of its own"
            )));
        }
        if committed.elapsed() > COMMIT_EVERY {
            membership.commit(&shared.take_positions());
            committed = Instant::now();
        }
        let strangers = || shared.replaying.is_none() && membership.sources().iter().any(|p| !shared.knows(p));
        if kept.elapsed() > housekeeping || kept.elapsed() > AGAIN && strangers() {
            let retention = Duration::from_millis(shared.config.kafka.journal_retention.unsigned_abs());
            kept_back.add(shared.take_trims(), |topic| shared.is_journal(topic), Instant::now() + retention);
            topics.trim(&kept_back.due(Instant::now()));
            keep_house(shared, topics, &mut sources);
            ends.look(shared, topics);
            kept = Instant::now();
        }
    }
    Ok(())
}

/// Waits until every source topic exists, as long as it takes: a Collector creates its topic with its first record.
fn wait_for_sources(shared: &Shared, topics: &Topics) -> Result<Vec<(String, i32)>, WorkerError> {
    let mut told = None::<Instant>;
    loop {
        shared.beat();
        match look_up_sources(shared, topics) {
            Ok(sources) => return Ok(sources),
            Err(error) => {
                if told.is_none_or(|t| t.elapsed() > Duration::from_secs(30)) {
                    tracing::warn!(%error, brokers = shared.config.kafka.brokers, "waiting for the source topics");
                    told = Some(Instant::now());
                }
            }
        }
        if !pause(&shared.stop, Duration::from_millis(500)) {
            return Err(KafkaError::Stopping.into());
        }
    }
}

fn look_up_sources(shared: &Shared, topics: &Topics) -> Result<Vec<(String, i32)>, KafkaError> {
    let mut sources = Vec::new();
    for topic in &shared.config.kafka.topics {
        let partitions = topics.partitions(topic)?.ok_or_else(|| {
            KafkaError::Topic(format!("topic {topic} does not exist; create it, or check kafka.topics"))
        })?;
        sources.push((topic.clone(), partitions));
    }
    Ok(sources)
}

/// By source topic, the first partition that the group has not known so far: its journal ends there. A group without a
/// journal knows all that there are.
fn grown(shared: &Shared, topics: &Topics, sources: &[(String, i32)]) -> Result<BTreeMap<String, i32>, KafkaError> {
    let known = |(topic, partitions): &(String, i32)| {
        let journal = topics.partitions(&shared.names.journal(topic))?;
        Ok((topic.clone(), journal.unwrap_or(*partitions)))
    };
    sources.iter().map(known).collect()
}

fn publish(shared: &Shared, sources: &[(String, i32)]) {
    let mut all: Vec<_> = sources.iter().flat_map(|(topic, n)| (0..*n).map(move |p| (topic.clone(), p))).collect();
    all.sort();
    shared.set_sources(all);
}

fn keep_house(shared: &Shared, topics: &Topics, sources: &mut Vec<(String, i32)>) {
    if shared.replaying.is_some() {
        // What has been added to a topic since is not part of it.
        return;
    }
    match look_up_sources(shared, topics) {
        Ok(found) if found != *sources => {
            tracing::info!(?found, "the source topics have changed");
            if let Err(error) = topics.ensure(&found, shared.config.kafka.shards) {
                tracing::error!(%error, "the internal topics do not follow the source topics");
                return;
            }
            publish(shared, &found);
            *sources = found;
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "looking at the source topics"),
    }
}

// === impl KeptBack ===

impl KeptBack {
    /// These records are not needed any more. Those of partitions that are to be `kept` may go at `later`, the others now.
    fn add(&mut self, below: Vec<(Partition, i64)>, kept: impl Fn(&str) -> bool, later: Instant) {
        for (partition, offset) in below {
            let due = kept(&partition.topic).then_some(later);
            self.0.push_back((due, partition, offset));
        }
    }

    /// What may go now.
    fn due(&mut self, present: Instant) -> Vec<(Partition, i64)> {
        let (due, rest) = self.0.drain(..).partition(|(due, ..)| due.is_none_or(|due| due <= present));
        self.0 = rest;
        let due: VecDeque<(Option<Instant>, Partition, i64)> = due;
        due.into_iter().map(|(_, partition, offset)| (partition, offset)).collect()
    }
}

// === impl Ends ===

impl Ends {
    /// Looks up the ends of some source partitions whose tasks have stood still since the last look.
    fn look(&mut self, shared: &Shared, topics: &Topics) {
        let board = shared.telemetry.board().snapshot();
        let tasks: Vec<_> = board.into_iter().filter(|(id, _)| id.kind == TaskKind::Span).collect();
        let after = self.last.take().map_or(0, |last| tasks.partition_point(|(id, _)| *id <= last));
        let still = tasks.iter().cycle().skip(after).take(tasks.len());
        let still =
            still.filter(|(id, s)| s.state == TaskState::Running && self.positions.get(id) == Some(&s.position));
        for (id, _) in still.take(LOOKS) {
            match topics.end(&id.topic, id.partition) {
                // A task that has gone meanwhile must not come back to the board.
                Ok(end) if shared.telemetry.board().get(id).is_some() => {
                    shared.telemetry.board().update(id, |s| s.end_offset = s.end_offset.max(end));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the ends of partitions are looked up later");
                    break;
                }
            }
            self.last = Some(id.clone());
        }
        self.positions = tasks.into_iter().map(|(id, s)| (id, s.position)).collect();
    }
}

// === impl Crew ===

impl Crew {
    fn new(shared: Arc<Shared>, inboxes: Vec<Inbox>) -> Self {
        Self { shared, inboxes, storm: Mutex::default(), losses: Mutex::default(), wants_rest: AtomicBool::new(false) }
    }

    fn task(&self, p: &Partition) -> TaskId {
        let kind = if p.topic == self.shared.names.deltas() { TaskKind::Series } else { TaskKind::Span };
        TaskId { kind, topic: p.topic.clone(), partition: p.partition }
    }

    /// A replay leaves partitions alone that have been added since it was planned.
    fn is_ours(&self, task: &TaskId) -> bool {
        let planned = |replaying: &Replaying| replaying.stretch(&task.topic, task.partition).is_some();
        task.kind == TaskKind::Series || self.shared.replaying.as_ref().is_none_or(planned)
    }

    /// The tasks of `partitions` and of one kind, by the thread that runs them.
    fn by_thread(&self, partitions: &[Partition], kind: TaskKind) -> Vec<Vec<TaskId>> {
        let mut out = vec![Vec::new(); self.inboxes.len()];
        let wanted = |task: &TaskId| task.kind == kind && self.is_ours(task);
        for task in partitions.iter().map(|p| self.task(p)).filter(wanted) {
            out[task.partition.unsigned_abs() as usize % self.inboxes.len()].push(task);
        }
        out
    }

    /// Partitions have come or gone. A group that never settles does little else.
    fn moved(&self) {
        let Some(times) = self.storm.lock().ok().and_then(|mut storm| storm.moved(Instant::now())) else { return };
        self.shared.telemetry.rebalance_storm();
        tracing::warn!(
            times,
            "the group keeps moving partitions: {times} times within a minute. Are workers restarting, or too slow for their \
             heartbeats? If so, help them; else set kafka.properties session.timeout.ms to more, and group.instance.id to a \
             name of its own for each worker, so that a restart moves nothing"
        );
    }

    /// Closes tasks and waits until they are gone: span tasks first, so that their last shares are out.
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
            while all_done.recv().is_ok() {}
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
        self.shared.telemetry.rebalance(Rebalance::Assigned);
        self.moved();
        tracing::info!(count = partitions.len(), "assigned");
        for kind in [TaskKind::Span, TaskKind::Series] {
            for (inbox, tasks) in self.inboxes.iter().zip(self.by_thread(&partitions, kind)) {
                if !tasks.is_empty() {
                    // At once: a worker that is a member and has no tasks on its board is ready.
                    tasks.iter().for_each(|task| self.shared.telemetry.board().update(task, |_| {}));
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
        self.shared.telemetry.rebalance(if lost { Rebalance::Lost } else { Rebalance::Revoked });
        tracing::info!(count = partitions.len(), lost, "revoked");
        self.moved();
        self.let_go(&partitions, !lost);
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
        assert_eq!(kept.due(start + hour), [at("g-spans-journal", 5)]);
        assert_eq!(kept.due(start + 3 * hour), [at("g-spans-journal", 9)]);
    }
}
