//! A worker thread: an inbox, a consumer, and the tasks that this thread alone touches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::command::{Close, Command, Inbox, Life, News};
use super::intake::guarded;
use super::series::SeriesRunner;
use super::shared::Shared;
use super::span::SpanRunner;
use super::takeover::{Pool, Taken, log_reader};
use super::{WorkerError, now};
use crate::kafka::fetch::NoRecord;
use crate::kafka::{Fetcher, KafkaError, LogReader};
use crate::model::Millis;
use crate::telemetry::{TaskId, TaskKind, TaskState, TaskStatus};

/// Commands that may wait. Far above what the tasks of one thread can have in flight.
const INBOX: usize = 1 << 16;
/// How long a thread without work sleeps at most; a record, a fate or a command wakes it earlier.
const NAP: Duration = Duration::from_millis(20);
/// How often a task's state is shown on the board.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Why a running task has to end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// Somebody else claimed the journal. The group has given, or will give, the partition away.
    #[error("another worker has claimed its journal")]
    Fenced,
    /// It is not known what the journal accepted: take over again.
    #[error("the outcome of an append is unknown ({0})")]
    Unknown(String),
    /// Kafka does not let the task go on.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The data does not let the task go on.
    #[error("{0}")]
    Data(String),
    /// The partition has records and yields none.
    #[error("offset {0} and what follows does not come, however often it is fetched anew")]
    Stuck(i64),
    /// The code met a bug of its own.
    #[error("a bug in spanmill: {0}; please report it")]
    Panicked(String),
}

/// What a task did in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It worked and has more to do.
    Busy,
    /// It waits for records, acknowledgements or the receiver.
    Idle,
}

/// What a task may use in its turn.
pub(super) struct Context<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) fetcher: &'a Fetcher,
    pub(super) reader: &'a LogReader,
    pub(super) inbox: &'a Inbox,
}

/// The threads that run tasks.
pub(super) struct Threads {
    running: Vec<(Inbox, JoinHandle<()>)>,
}

enum Runner {
    Span(Box<SpanRunner>),
    Series(Box<SeriesRunner>),
}

enum Slot {
    /// Being taken over, as long as that is `wanted`.
    TakingOver { life: Life, _wanted: Arc<()> },
    /// To be taken over again, later.
    Waiting { until: Instant },
    /// At work.
    Running { life: Life, runner: Runner, failures: u32 },
}

struct Closing {
    request: Close,
    deadline: Instant,
}

struct Thread {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    inbox: Inbox,
    commands: Receiver<Command>,
    fetcher: Fetcher,
    reader: LogReader,
    slots: BTreeMap<TaskId, Slot>,
    /// How often tasks have failed in a row, kept over their take-overs.
    failures: BTreeMap<TaskId, u32>,
    closing: Vec<Closing>,
    shown: Instant,
}

/// Starts the threads.
pub(super) fn start(shared: &Arc<Shared>, pool: &Arc<Pool>) -> Result<Threads, WorkerError> {
    let mut running = Vec::new();
    for i in 0..shared.config.worker.threads.max(1) {
        let (shared, pool) = (Arc::clone(shared), Arc::clone(pool));
        let (ready, started) = sync_channel(1);
        let handle = std::thread::Builder::new()
            .name(format!("worker-{i}"))
            .spawn(move || {
                let (sender, commands) = sync_channel(INBOX);
                let inbox = Inbox::new(sender, std::thread::current());
                match Thread::new(shared, pool, inbox.clone(), commands) {
                    Ok(mut thread) => {
                        drop(ready.send(Ok(inbox)));
                        thread.run();
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(WorkerError::Thread)?;
        let inbox =
            started.recv().map_err(|_| WorkerError::Fatal("a worker thread died at its start".to_owned()))??;
        running.push((inbox, handle));
    }
    Ok(Threads { running })
}

// === impl Runner ===

impl Runner {
    fn turn(&mut self, context: &Context<'_>) -> Result<Turn, Ended> {
        match self {
            Self::Span(r) => r.turn(context),
            Self::Series(r) => r.turn(context),
        }
    }

    fn tell(&mut self, context: &Context<'_>, news: News) -> Result<(), Ended> {
        match self {
            Self::Span(r) => r.tell(context, news),
            Self::Series(r) => r.tell(context, news),
        }
    }

    fn drain(&mut self) {
        match self {
            Self::Span(r) => r.drain(),
            Self::Series(r) => r.drain(),
        }
    }

    fn draining(&self) -> bool {
        match self {
            Self::Span(r) => r.draining(),
            Self::Series(r) => r.draining(),
        }
    }

    fn drained(&self) -> bool {
        match self {
            Self::Span(r) => r.drained(),
            Self::Series(r) => r.drained(),
        }
    }

    fn show(&self, status: &mut TaskStatus, present: Millis) {
        match self {
            Self::Span(r) => r.show(status, present),
            Self::Series(r) => r.show(status, present),
        }
    }

    fn end(self, fetcher: &Fetcher) {
        match self {
            Self::Span(r) => r.end(fetcher),
            Self::Series(r) => r.end(fetcher),
        }
    }
}

// === impl Threads ===

impl Threads {
    pub(super) fn inboxes(&self) -> Vec<Inbox> {
        self.running.iter().map(|(inbox, _)| inbox.clone()).collect()
    }

    /// Whether all threads are alive. They end only when told to, or by a bug.
    pub(super) fn alive(&self) -> bool {
        self.running.iter().all(|(_, handle)| !handle.is_finished())
    }

    /// Ends the threads, whose tasks have been closed before.
    pub(super) fn end(self) {
        for (inbox, handle) in self.running {
            inbox.send(Command::End);
            if handle.join().is_err() {
                tracing::error!("a worker thread died");
            }
        }
    }
}

// === impl Thread ===

impl Thread {
    fn new(
        shared: Arc<Shared>,
        pool: Arc<Pool>,
        inbox: Inbox,
        commands: Receiver<Command>,
    ) -> Result<Self, KafkaError> {
        let telemetry = shared.telemetry.clone();
        let deltas = shared.names.deltas();
        let on_end = Box::new(move |topic: &str, partition: i32, end: i64| {
            let kind = if topic == deltas { TaskKind::Series } else { TaskKind::Span };
            let id = TaskId { kind, topic: topic.to_owned(), partition };
            if telemetry.board().get(&id).is_some() {
                telemetry.board().update(&id, |s| s.end_offset = s.end_offset.max(end));
            }
        });
        // At worst, this worker owns everything.
        let partitions = shared.sources().len() + shared.config.kafka.shards as usize;
        let buffer = shared.memory.fetch_ahead(shared.config.worker.fetch_buffer_bytes, partitions);
        let fetcher = Fetcher::new(&shared.config.kafka, buffer, on_end)?;
        let reader = log_reader(&shared)?;
        let (slots, failures, closing, shown) = (BTreeMap::new(), BTreeMap::new(), Vec::new(), Instant::now());
        Ok(Self { shared, pool, inbox, commands, fetcher, reader, slots, failures, closing, shown })
    }

    fn run(&mut self) {
        loop {
            if !self.obey() {
                return;
            }
            let busy = self.turn();
            self.let_go();
            if self.shown.elapsed() > SHOW_EVERY {
                self.show();
                self.shown = Instant::now();
            }
            self.fetcher.serve();
            if !busy {
                std::thread::park_timeout(NAP);
            }
        }
    }

    /// Carries out all waiting commands; false ends the thread.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open(tasks) => tasks.into_iter().for_each(|task| self.open(task)),
                Command::Close(request) => self.close(request),
                Command::Ready(task, life, taken) => self.ready(task, life, *taken),
                Command::Failed(task, life, error) => {
                    if self.takes_over(&task, life) {
                        self.wait(task, &error);
                    }
                }
                Command::News(task, life, news) => self.tell(task, life, news),
                Command::End => return false,
            }
        }
        true
    }

    fn open(&mut self, task: TaskId) {
        if self.slots.contains_key(&task) {
            return;
        }
        let life = self.shared.new_life();
        let wanted = self.pool.submit(task.clone(), life, self.inbox.clone());
        self.slots.insert(task, Slot::TakingOver { life, _wanted: wanted });
    }

    /// Puts a task that cannot run aside, for longer each time.
    fn wait(&mut self, task: TaskId, why: &dyn std::fmt::Display) {
        let failures = self.failures.entry(task.clone()).or_default();
        *failures += 1;
        let delay = Duration::from_millis(200 << (*failures).min(7));
        if *failures == 1 {
            tracing::info!(?task, %why, "will be taken over again");
        } else {
            tracing::warn!(?task, %why, failures = *failures, ?delay, "cannot run; will be taken over again");
        }
        let trouble = (*failures > 1).then(|| why.to_string());
        self.shared.telemetry.board().update(&task, |s| (s.state, s.trouble) = (TaskState::Claiming, trouble));
        self.slots.insert(task, Slot::Waiting { until: Instant::now() + delay });
    }

    /// Whether the take-over of this life is still waited for.
    fn takes_over(&self, task: &TaskId, life: Life) -> bool {
        match self.slots.get(task) {
            Some(Slot::TakingOver { life: current, .. }) => *current == life,
            Some(_) => false,
            None => {
                // It was let go meanwhile, and its take-over has shown itself on the board since.
                self.shared.telemetry.board().remove(task);
                false
            }
        }
    }

    fn ready(&mut self, task: TaskId, life: Life, taken: Taken) {
        if !self.takes_over(&task, life) {
            return;
        }
        let context =
            Context { shared: &self.shared, fetcher: &self.fetcher, reader: &self.reader, inbox: &self.inbox };
        let runner = match taken {
            Taken::Span(t) => SpanRunner::start(&context, task.clone(), life, *t).map(|r| Runner::Span(Box::new(r))),
            Taken::Series(t) => {
                SeriesRunner::start(&context, task.clone(), life, *t).map(|r| Runner::Series(Box::new(r)))
            }
        };
        match runner {
            Ok(runner) => {
                let failures = self.failures.get(&task).copied().unwrap_or_default();
                self.slots.insert(task, Slot::Running { life, runner, failures });
            }
            Err(error) => self.wait(task, &error),
        }
    }

    fn tell(&mut self, task: TaskId, life: Life, news: News) {
        let Some(Slot::Running { life: current, runner, .. }) = self.slots.get_mut(&task) else { return };
        if *current != life {
            return;
        }
        let context =
            Context { shared: &self.shared, fetcher: &self.fetcher, reader: &self.reader, inbox: &self.inbox };
        if let Err(ended) = guarded(|| runner.tell(&context, news)) {
            self.end_task(task, &ended);
        }
    }

    /// Gives every running task a turn; tells whether one of them has more to do.
    fn turn(&mut self) -> bool {
        let context =
            Context { shared: &self.shared, fetcher: &self.fetcher, reader: &self.reader, inbox: &self.inbox };
        let (mut busy, mut ended, mut due) = (false, Vec::new(), Vec::new());
        let present = Instant::now();
        for (task, slot) in &mut self.slots {
            match slot {
                Slot::TakingOver { .. } => {}
                Slot::Waiting { until } if present >= *until => due.push(task.clone()),
                Slot::Waiting { .. } => {}
                Slot::Running { runner, failures, .. } => {
                    match guarded(|| runner.turn(&context)) {
                        Ok(turn) => {
                            busy |= turn == Turn::Busy;
                            // One useful turn ends a row of failures.
                            if turn == Turn::Busy && *failures > 0 {
                                *failures = 0;
                                self.failures.remove(task);
                            }
                        }
                        Err(why) => ended.push((task.clone(), why)),
                    }
                }
            }
        }
        for (task, why) in ended {
            self.end_task(task, &why);
        }
        for task in due {
            self.slots.remove(&task);
            self.open(task);
        }
        busy
    }

    /// A running task cannot go on: its state is dropped, and it is taken over again while the group leaves it with us.
    fn end_task(&mut self, task: TaskId, why: &Ended) {
        match why {
            Ended::Fenced => self.shared.telemetry.fenced(task.kind),
            Ended::Panicked(_) => {
                tracing::error!(%task, %why, "its state is dropped, and it is taken over again");
                self.shared.telemetry.panicked(task.kind);
            }
            Ended::Unknown(_) | Ended::Kafka(_) | Ended::Data(_) | Ended::Stuck(_) => {}
        }
        self.drop_task(&task);
        if self.closing.iter().any(|c| c.request.tasks.contains(&task)) {
            tracing::info!(?task, %why, "ended while it was let go");
            return;
        }
        self.wait(task, why);
    }

    fn close(&mut self, mut request: Close) {
        let drained = Duration::from_millis(self.shared.config.worker.shutdown_timeout.unsigned_abs() / 2);
        let drain = request.drain;
        request.tasks.retain(|task| {
            self.failures.remove(task);
            match self.slots.get_mut(task) {
                Some(Slot::Running { runner, .. }) if drain => {
                    runner.drain();
                    true
                }
                _ => {
                    self.drop_task(task);
                    false
                }
            }
        });
        self.closing.push(Closing { request, deadline: Instant::now() + drained });
    }

    /// Drops what has drained or has run out of time, and tells those who wait.
    fn let_go(&mut self) {
        for mut closing in std::mem::take(&mut self.closing) {
            let late = Instant::now() >= closing.deadline;
            closing.request.tasks.retain(|task| match self.slots.get(task) {
                Some(Slot::Running { runner, .. }) if runner.draining() => {
                    let finished = late || runner.drained();
                    if finished {
                        self.drop_task(task);
                    }
                    !finished
                }
                _ => false,
            });
            if closing.request.tasks.is_empty() {
                // Whoever waits may have given up; then nobody needs the news.
                closing.request.done.send(()).unwrap_or_default();
            } else {
                self.closing.push(closing);
            }
        }
    }

    fn drop_task(&mut self, task: &TaskId) {
        if let Some(Slot::Running { runner, .. }) = self.slots.remove(task) {
            runner.end(&self.fetcher);
        }
        if let (Some(replaying), TaskKind::Series) = (&self.shared.replaying, task.kind) {
            replaying.forget_floor(task.partition);
        }
        self.shared.telemetry.board().remove(task);
    }

    fn show(&self) {
        self.shared.memory.show();
        let present = now();
        for (task, slot) in &self.slots {
            if let Slot::Running { runner, .. } = slot {
                self.shared.telemetry.board().update(task, |status| runner.show(status, present));
            }
        }
    }
}

/// Judges a fetch that failed. librdkafka goes on by itself, except where the records are gone: the take-over that follows
/// says what is lost.
pub(super) fn fetching(task: &TaskId, failed: NoRecord) -> Result<(), Ended> {
    match failed {
        NoRecord::Failed(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
            Err(KafkaError::request("fetch records that are not there any more", error).into())
        }
        NoRecord::MadeAgain => Err(Ended::Data(failed.to_string())),
        error => {
            tracing::warn!(?task, %error, "fetching; it will be tried again");
            Ok(())
        }
    }
}
