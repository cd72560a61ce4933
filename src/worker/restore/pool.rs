//! The threads that acquire tasks.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::TakeoverError;
use super::means::{Means, THREADS, log_reader};
use super::takeover::{take_series, take_span};
use crate::worker::kafka::LogReader;
use crate::worker::task::{Command, Epoch, Failure, Held, Inbox, Part, Taken, WorkerError, text_of};
use crate::worker::telemetry::{ActiveSpan, TaskId, TaskKind, TaskState};

/// For how long a thread keeps a reader that it does not need: each is a client of its own, with threads and connections.
const UNUSED: Duration = Duration::from_secs(30);

/// The threads that acquire tasks.
pub(crate) struct Pool {
    jobs: Arc<Jobs>,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    task: TaskId,
    epoch: Epoch,
    inbox: Inbox,
    /// Gone when no thread waits for the task any more.
    wanted: Weak<()>,
}

/// The jobs that no thread has taken yet: as many as tasks at most, so bounded by what the group assigns.
#[derive(Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// No more will come.
    over: bool,
}

/// What a thread that asked for a job gets.
enum Next {
    Job(Job),
    /// There was none for [`UNUSED`].
    Nothing,
    /// There will be none.
    Over,
}

// === impl Jobs ===

impl Jobs {
    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn next(&self) -> Next {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let none = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.over;
        let waited = self.changed.wait_timeout_while(waiting, UNUSED, none);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match waiting.jobs.pop_front() {
            Some(job) if !waiting.over => Next::Job(job),
            _ if waiting.over => Next::Over,
            _ => Next::Nothing,
        }
    }
}

// === impl Pool ===

impl Pool {
    pub(crate) fn start(means: &Means) -> Result<Arc<Self>, WorkerError> {
        let jobs = Arc::new(Jobs::default());
        let mut threads = Vec::new();
        for i in 0..THREADS {
            let (means, queue) = (means.clone(), Arc::clone(&jobs));
            let thread = std::thread::Builder::new()
                .name(format!("restore-{i}"))
                .spawn(move || work(&means, &queue))
                .map_err(WorkerError::Thread)?;
            threads.push(thread);
        }
        Ok(Arc::new(Self { jobs, threads }))
    }

    /// Acquires `task`; the outcome goes to `inbox`. Dropping the returned value cancels it, if it has not begun: a
    /// claim for a task that has been moved would only fence its new owner.
    pub(crate) fn submit(&self, task: TaskId, epoch: Epoch, inbox: Inbox) -> Arc<()> {
        let wanted = Arc::new(());
        let job = Job { task, epoch, inbox, wanted: Arc::downgrade(&wanted) };
        self.jobs.change(|waiting| waiting.jobs.push_back(job));
        wanted
    }

    /// Ends the threads. Acquisitions in progress are abandoned.
    pub(crate) fn end(self: Arc<Self>) {
        let Some(pool) = Arc::into_inner(self) else { return };
        pool.jobs.change(|waiting| waiting.over = true);
        for thread in pool.threads {
            if thread.join().is_err() {
                tracing::error!("a restore thread died");
            }
        }
    }
}

fn work(means: &Means, jobs: &Jobs) {
    let mut reader = None;
    loop {
        let Job { task, epoch, inbox, wanted } = match jobs.next() {
            Next::Job(job) => job,
            Next::Nothing => {
                reader = None;
                continue;
            }
            Next::Over => return,
        };
        if wanted.strong_count() == 0 {
            continue;
        }
        let started = Instant::now();
        let span = means.clients.telemetry.trace("acquire task").map(|span| {
            let span = span.with("spanmill.task.kind", task.kind.name()).with("spanmill.topic", &*task.topic);
            span.with("spanmill.partition", i64::from(task.partition))
        });
        let mut held = Held::new(&means.clients.memory);
        means.clients.telemetry.tasks().update(&task, |s| s.state = TaskState::Claiming);
        // A panic ends the attempt and not the thread, which other tasks need.
        let outcome = catch_unwind(AssertUnwindSafe(|| take(means, &mut reader, &task, &mut held)));
        let outcome = outcome.unwrap_or_else(|panic| {
            means.clients.telemetry.panicked(task.kind);
            Err(TakeoverError::Panicked(text_of(&*panic)))
        });
        match outcome {
            Ok(taken) => {
                span.into_iter().for_each(ActiveSpan::end);
                means.clients.telemetry.restored(task.kind, started.elapsed());
                inbox.send(Command::Ready(task, epoch, Box::new(taken)));
            }
            Err(error) => {
                span.into_iter().for_each(|span| span.fail(&error.to_string()));
                let of_brokers = matches!(error, TakeoverError::Kafka(_));
                inbox.send(Command::Failed(task, epoch, Failure { why: error.to_string(), of_brokers }));
            }
        }
    }
}

fn take(means: &Means, reader: &mut Option<LogReader>, task: &TaskId, held: &mut Held) -> Result<Taken, TakeoverError> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(log_reader(&means.clients)?),
    };
    held.set(Part::Readers, reader.memory());
    Ok(match task.kind {
        TaskKind::Span => Taken::Span(Box::new(take_span(means, reader, task)?)),
        TaskKind::Series => Taken::Series(Box::new(take_series(means, reader, task, held)?)),
    })
}
