//! A worker thread: an inbox, a consumer, and the tasks that this thread alone touches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::buffers::{fetcher, partitions};
use super::parts::{Gear, Parts};
use crate::core::model::Millis;
use crate::worker::kafka::{Fetcher, KafkaError};
use crate::worker::restore::{Pool, log_reader};
use crate::worker::series_task::SeriesRunner;
use crate::worker::span_task::SpanRunner;
use crate::worker::task::{
    Close, Command, Ended, Epoch, Failure, Inbox, News, Taken, TaskContext, Turn, WorkerError, guarded,
};
use crate::worker::telemetry::{TaskId, TaskState, TaskStatus, flood};

/// The capacity of the inbox. Far above what the tasks of one thread can have in flight.
const INBOX: usize = 1 << 16;
/// How long a thread without work sleeps at most; a record, a fate or a command wakes it earlier.
const NAP: Duration = Duration::from_millis(20);
/// The same for a thread that has had nothing to do for `QUIET`: only what the clock decides waits for it.
const LONG_NAP: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_secs(1);
/// How often a task's state is shown on the task registry.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// The threads that run tasks.
pub(crate) struct Threads {
    running: Vec<(Inbox, JoinHandle<()>)>,
    /// For how many microseconds they have had nothing to do, together.
    idle: Arc<AtomicU64>,
}

enum Runner {
    Span(Box<SpanRunner>),
    Series(Box<SeriesRunner>),
}

enum TaskSlot {
    /// Being acquired, as long as that is `wanted`.
    TakingOver { epoch: Epoch, _wanted: Arc<()> },
    /// To be acquired again, later.
    Waiting { until: Instant },
    /// At work.
    Running { epoch: Epoch, runner: Runner, failures: u32 },
}

/// The effect of a closed task on its rows in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// It is acquired again.
    Stay,
    /// Another worker has acquired it, in order.
    Go,
    /// The group has given it away, and its owner is not known.
    Lost,
}

struct Closing {
    request: Close,
    deadline: Instant,
}

struct Thread {
    parts: Parts,
    gear: Gear,
    /// How many partitions share what may be fetched ahead.
    planned: usize,
    pool: Arc<Pool>,
    commands: Receiver<Command>,
    /// Numbers the lives of the tasks of this thread.
    epochs: Epoch,
    slots: BTreeMap<TaskId, TaskSlot>,
    /// How often tasks have failed in a row, kept across restarts.
    failures: BTreeMap<TaskId, u32>,
    closing: Vec<Closing>,
    shown: Instant,
}

/// Starts the threads.
pub(crate) fn start(parts: &Parts, pool: &Arc<Pool>) -> Result<Threads, WorkerError> {
    let (mut running, idle) = (Vec::new(), Arc::new(AtomicU64::new(0)));
    for i in 0..parts.clients.config.worker.threads.max(1) {
        let (parts, pool, idle) = (parts.clone(), Arc::clone(pool), Arc::clone(&idle));
        let (ready, started) = sync_channel(1);
        let handle = std::thread::Builder::new()
            .name(format!("worker-{i}"))
            .spawn(move || {
                let (sender, commands) = sync_channel(INBOX);
                let inbox = Inbox::new(sender, std::thread::current());
                match Thread::new(parts, pool, inbox.clone(), commands) {
                    Ok(mut thread) => {
                        drop(ready.send(Ok(inbox)));
                        thread.run(&idle);
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(WorkerError::Thread)?;
        let inbox =
            started.recv().map_err(|_| WorkerError::Fatal("a worker thread died at its start".to_owned()))??;
        running.push((inbox, handle));
    }
    Ok(Threads { running, idle })
}

// === impl Runner ===

impl Runner {
    fn turn(&mut self, context: &TaskContext<'_>) -> Result<Turn, Ended> {
        match self {
            Self::Span(r) => r.turn(context),
            Self::Series(r) => r.turn(context),
        }
    }

    fn tell(&mut self, context: &TaskContext<'_>, news: News) -> Result<(), Ended> {
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

    fn show(&self, context: &TaskContext<'_>, status: &mut TaskStatus, present: Millis) {
        match self {
            Self::Span(r) => r.show(status, present),
            Self::Series(r) => r.show(status, context, present),
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
    pub(crate) fn inboxes(&self) -> Vec<Inbox> {
        self.running.iter().map(|(inbox, _)| inbox.clone()).collect()
    }

    /// How many there are, and for how long they have had nothing to do, together.
    pub(crate) fn idle(&self) -> (usize, Duration) {
        (self.running.len(), Duration::from_micros(self.idle.load(Ordering::Relaxed)))
    }

    /// Whether all threads are alive. They end only when they are stopped, or by a bug.
    pub(crate) fn alive(&self) -> bool {
        self.running.iter().all(|(_, handle)| !handle.is_finished())
    }

    /// Ends the threads, whose tasks have been closed before.
    pub(crate) fn end(self) {
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
    fn new(parts: Parts, pool: Arc<Pool>, inbox: Inbox, commands: Receiver<Command>) -> Result<Self, KafkaError> {
        let planned = partitions(&parts);
        let fetcher = fetcher(&parts, planned)?;
        let reader = log_reader(&parts.clients)?;
        let (slots, failures, closing, shown) = (BTreeMap::new(), BTreeMap::new(), Vec::new(), Instant::now());
        let gear = Gear { fetcher, reader, inbox };
        Ok(Self { parts, gear, planned, pool, commands, epochs: 0, slots, failures, closing, shown })
    }

    fn run(&mut self, idle: &AtomicU64) {
        let mut last_busy = Instant::now();
        loop {
            if !self.obey() {
                return;
            }
            let busy = self.turn();
            self.let_go();
            if self.shown.elapsed() > SHOW_EVERY {
                self.share_out();
                self.show();
                self.shown = Instant::now();
            }
            self.gear.fetcher.serve();
            if busy {
                last_busy = Instant::now();
            } else {
                let begin = Instant::now();
                std::thread::park_timeout(if last_busy.elapsed() < QUIET { NAP } else { LONG_NAP });
                let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or_default();
                idle.fetch_add(micros, Ordering::Relaxed);
            }
        }
    }

    /// Divides what may be fetched ahead again, when there are more than twice as many partitions as it was divided by: topics
    /// may appear by the hundred. How much a queue holds is settled with its consumer, so the tasks are restarted.
    fn share_out(&mut self) {
        let partitions = partitions(&self.parts);
        if partitions <= 2 * self.planned || !self.closing.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut self.planned, partitions);
        let fetcher = match fetcher(&self.parts, partitions) {
            Ok(fetcher) => fetcher,
            Err(error) => {
                tracing::warn!(%error, "cannot make the fetch buffers of partitions smaller; restart the worker");
                return;
            }
        };
        let running = self.slots.iter().filter(|(_, slot)| matches!(slot, TaskSlot::Running { .. }));
        let running: Vec<TaskId> = running.map(|(task, _)| task.clone()).collect();
        tracing::info!(
            before,
            partitions,
            tasks = running.len(),
            "restarting tasks: more partitions share the memory for fetching ahead"
        );
        running.iter().for_each(|task| self.drop_task(task, Rows::Stay));
        self.gear.fetcher = fetcher;
        for task in running {
            self.parts.clients.telemetry.tasks().update(&task, |s| s.state = TaskState::Claiming);
            self.open(task);
        }
    }

    /// Executes all waiting commands; false ends the thread.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open(tasks) => tasks.into_iter().for_each(|task| self.open(task)),
                Command::Close(request) => self.close(request),
                Command::Ready(task, epoch, taken) => self.ready(task, epoch, *taken),
                Command::Failed(task, epoch, Failure { why, of_brokers }) => {
                    if self.takes_over(&task, epoch) {
                        self.wait(task, &why, of_brokers);
                    }
                }
                Command::News(task, epoch, news) => self.tell(task, epoch, news),
                Command::End => return false,
            }
        }
        true
    }

    fn open(&mut self, task: TaskId) {
        if self.slots.contains_key(&task) {
            return;
        }
        let epoch = self.epochs;
        self.epochs += 1;
        let wanted = self.pool.submit(task.clone(), epoch, self.gear.inbox.clone());
        self.slots.insert(task, TaskSlot::TakingOver { epoch, _wanted: wanted });
    }

    /// Delays the restart of a task that cannot run, for longer each time. Logs the reason, once for all tasks if the
    /// brokers are the cause.
    fn wait(&mut self, task: TaskId, why: &dyn std::fmt::Display, of_brokers: bool) {
        let failures = self.failures.entry(task.clone()).or_default();
        *failures += 1;
        let delay = Duration::from_millis(200 << (*failures).min(7));
        let text = why.to_string();
        let again = *failures > 1;
        let whose = if of_brokers { format!("{:?}", task.kind) } else { task.to_string() };
        match flood::may_say(&format!("task {whose} {again} {}", flood::gist(&text))) {
            Some(held_back) if again => {
                tracing::warn!(%task, error = %why, attempt = *failures, retry_in = ?delay, held_back, "task failed, restarting it");
            }
            Some(held_back) => tracing::info!(%task, error = %why, retry_in = ?delay, held_back, "restarting the task"),
            None => tracing::debug!(%task, error = %why, attempt = *failures, retry_in = ?delay, "restarting the task"),
        }
        let trouble = again.then_some(text);
        self.parts.clients.telemetry.tasks().update(&task, |s| (s.state, s.trouble) = (TaskState::Claiming, trouble));
        self.slots.insert(task, TaskSlot::Waiting { until: Instant::now() + delay });
    }

    /// Whether this life is still being acquired.
    fn takes_over(&self, task: &TaskId, epoch: Epoch) -> bool {
        match self.slots.get(task) {
            Some(TaskSlot::TakingOver { epoch: current, .. }) => *current == epoch,
            Some(_) => false,
            None => {
                // It was closed meanwhile, and its acquisition has written to the task registry since.
                self.parts.clients.telemetry.tasks().remove(task);
                false
            }
        }
    }

    fn ready(&mut self, task: TaskId, epoch: Epoch, taken: Taken) {
        if !self.takes_over(&task, epoch) {
            return;
        }
        let context = self.parts.context(&self.gear);
        let runner = match taken {
            Taken::Span(t) => {
                let begun = SpanRunner::start(&context, &self.parts.intake, (task.clone(), epoch), *t);
                begun.map(|runner| Runner::Span(Box::new(runner)))
            }
            Taken::Series(t) => {
                let begun = SeriesRunner::start(&context, &self.parts.shards, (task.clone(), epoch), *t);
                begun.map(|runner| Runner::Series(Box::new(runner)))
            }
        };
        match runner {
            Ok(runner) => {
                let failures = self.failures.get(&task).copied().unwrap_or_default();
                self.slots.insert(task, TaskSlot::Running { epoch, runner, failures });
            }
            Err(error) => self.wait(task, &error, error.is_of_brokers()),
        }
    }

    fn tell(&mut self, task: TaskId, epoch: Epoch, news: News) {
        let Some(TaskSlot::Running { epoch: current, runner, .. }) = self.slots.get_mut(&task) else { return };
        if *current != epoch {
            return;
        }
        let context = self.parts.context(&self.gear);
        if let Err(ended) = guarded(|| runner.tell(&context, news)) {
            self.end_task(task, &ended);
        }
    }

    /// Gives every running task a turn; returns whether one of them has more to do.
    fn turn(&mut self) -> bool {
        let context = self.parts.context(&self.gear);
        let (mut busy, mut ended, mut due) = (false, Vec::new(), Vec::new());
        let present = Instant::now();
        for (task, slot) in &mut self.slots {
            match slot {
                TaskSlot::TakingOver { .. } => {}
                TaskSlot::Waiting { until } if present >= *until => due.push(task.clone()),
                TaskSlot::Waiting { .. } => {}
                TaskSlot::Running { runner, failures, .. } => {
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

    /// A running task cannot continue: its state is dropped, and it is restarted while the group leaves it with this worker.
    fn end_task(&mut self, task: TaskId, why: &Ended) {
        match why {
            Ended::Fenced => self.parts.clients.telemetry.fenced(task.kind),
            Ended::Panicked(_) => {
                tracing::error!(%task, error = %why, "task panicked, restarting it from its journal; please report this bug");
                self.parts.clients.telemetry.panicked(task.kind);
            }
            Ended::Unknown(_) | Ended::Kafka(_) | Ended::Data(_) | Ended::Stuck(_) | Ended::Lacked(..) => {}
        }
        if self.closing.iter().any(|c| c.request.tasks.contains(&task)) {
            tracing::info!(%task, error = %why, "task ended while it was being closed");
            return self.drop_task(&task, Rows::Go);
        }
        self.drop_task(&task, Rows::Stay);
        self.wait(task, why, why.is_of_brokers());
    }

    fn close(&mut self, mut request: Close) {
        let drained = Duration::from_millis(self.parts.clients.config.worker.shutdown_timeout.unsigned_abs() / 2);
        let drain = request.drain;
        request.tasks.retain(|task| {
            self.failures.remove(task);
            match self.slots.get_mut(task) {
                Some(TaskSlot::Running { runner, .. }) if drain => {
                    runner.drain();
                    true
                }
                _ => {
                    self.drop_task(task, if drain { Rows::Go } else { Rows::Lost });
                    false
                }
            }
        });
        self.closing.push(Closing { request, deadline: Instant::now() + drained });
    }

    /// Drops tasks that have drained or timed out, and notifies the waiting threads.
    fn let_go(&mut self) {
        for mut closing in std::mem::take(&mut self.closing) {
            let late = Instant::now() >= closing.deadline;
            closing.request.tasks.retain(|task| match self.slots.get(task) {
                Some(TaskSlot::Running { runner, .. }) if runner.draining() => {
                    let finished = late || runner.drained();
                    if finished {
                        self.drop_task(task, Rows::Go);
                    }
                    !finished
                }
                _ => false,
            });
            if closing.request.tasks.is_empty() {
                // The waiting thread may have given up; then it does not need the notification.
                closing.request.done.send(()).unwrap_or_default();
            } else {
                self.closing.push(closing);
            }
        }
    }

    fn drop_task(&mut self, task: &TaskId, rows: Rows) {
        if let Some(TaskSlot::Running { runner, .. }) = self.slots.remove(task) {
            runner.end(&self.gear.fetcher);
        }
        self.parts.mode.has_closed(task);
        let statuses = self.parts.clients.telemetry.tasks();
        // Prefetched records are gone, and would count as memory until the task reads again.
        statuses.update_known(task, |s| s.fetched = 0);
        match rows {
            Rows::Stay => {}
            Rows::Go => statuses.remove(task),
            Rows::Lost => statuses.lost(task),
        }
    }

    fn show(&self) {
        let (context, present) = (self.parts.context(&self.gear), self.parts.clock.present());
        for (task, slot) in &self.slots {
            if let TaskSlot::Running { runner, .. } = slot {
                self.parts.clients.telemetry.tasks().update(task, |status| runner.show(&context, status, present));
            }
        }
    }
}
