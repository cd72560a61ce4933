//! The threads that acquire tasks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use super::error::TakeoverError;
use super::means::{Means, THREADS, log_reader};
use super::takeover::{take_series, take_span};
use crate::worker::kafka::LogReader;
use crate::worker::task::{Command, Epoch, Failure, Held, Inbox, Part, Taken, WorkerError, text_of};
use crate::worker::telemetry::{TaskId, TaskKind, TaskState};

/// The threads that acquire tasks.
pub(crate) struct Pool {
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    task: TaskId,
    epoch: Epoch,
    inbox: Inbox,
    /// Gone when no thread waits for the task any more.
    wanted: Weak<()>,
}

// === impl Pool ===

impl Pool {
    pub(crate) fn start(means: &Means) -> Result<Arc<Self>, WorkerError> {
        // As many jobs as tasks: bounded by the assignment of the group.
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for i in 0..THREADS {
            let (means, queue) = (means.clone(), Arc::clone(&queue));
            let reader = log_reader(&means.clients)?;
            let thread = std::thread::Builder::new()
                .name(format!("restore-{i}"))
                .spawn(move || work(&means, &reader, &queue))
                .map_err(WorkerError::Thread)?;
            threads.push(thread);
        }
        Ok(Arc::new(Self { jobs, threads }))
    }

    /// Acquires `task`; the outcome goes to `inbox`. Dropping the returned value cancels it, if it has not begun: a
    /// claim for a task that has been moved would only fence its new owner.
    pub(crate) fn submit(&self, task: TaskId, epoch: Epoch, inbox: Inbox) -> Arc<()> {
        let wanted = Arc::new(());
        if self.jobs.send(Job { task, epoch, inbox, wanted: Arc::downgrade(&wanted) }).is_err() {
            tracing::error!("the restore threads have ended");
        }
        wanted
    }

    /// Ends the threads. Acquisitions in progress are abandoned.
    pub(crate) fn end(self: Arc<Self>) {
        let Some(pool) = Arc::into_inner(self) else { return };
        drop(pool.jobs);
        for thread in pool.threads {
            if thread.join().is_err() {
                tracing::error!("a restore thread died");
            }
        }
    }
}

fn work(means: &Means, reader: &LogReader, queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(Job { task, epoch, inbox, wanted }) = job else { return };
        if wanted.strong_count() == 0 {
            continue;
        }
        let started = Instant::now();
        let mut held = Held::new(&means.clients.memory);
        held.set(Part::Readers, reader.memory());
        means.clients.telemetry.tasks().update(&task, |s| s.state = TaskState::Claiming);
        // A panic ends the attempt and not the thread, which other tasks need.
        let outcome = catch_unwind(AssertUnwindSafe(|| match task.kind {
            TaskKind::Span => take_span(means, reader, &task).map(|t| Taken::Span(Box::new(t))),
            TaskKind::Series => take_series(means, reader, &task, &mut held).map(|t| Taken::Series(Box::new(t))),
        }));
        let outcome = outcome.unwrap_or_else(|panic| {
            means.clients.telemetry.panicked(task.kind);
            Err(TakeoverError::Panicked(text_of(&*panic)))
        });
        match outcome {
            Ok(taken) => {
                means.clients.telemetry.restored(task.kind, started.elapsed());
                inbox.send(Command::Ready(task, epoch, Box::new(taken)));
            }
            Err(error) => {
                let of_brokers = matches!(error, TakeoverError::Kafka(_));
                inbox.send(Command::Failed(task, epoch, Failure { why: error.to_string(), of_brokers }));
            }
        }
    }
}
