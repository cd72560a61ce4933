//! The thread that reads: all streams, in the order of their records' times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::input::{FileRecord, Inputs, Stream};
use super::summary::Problems;
use crate::core::model::Millis;

/// The size of a chunk.
const CHUNK: usize = 1 << 20;
/// Chunks that may wait.
const AHEAD: usize = 4;

/// A thread that reads ahead of the one that counts.
#[derive(Debug)]
pub(super) struct Reading {
    chunks: Receiver<Taken>,
    read: Arc<AtomicU64>,
    /// Until its end has been seen.
    thread: Option<JoinHandle<()>>,
}

/// Records in the order in which they are to be counted, and what was unreadable between them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) records: Vec<FileRecord>,
    pub(super) problems: Problems,
}

/// What there is to count.
#[derive(Debug)]
pub(super) enum Next {
    Taken(Taken),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    End,
}

/// The next record of every stream.
struct Merge {
    streams: Vec<Stream>,
    heads: Vec<Option<FileRecord>>,
    order: BinaryHeap<Reverse<(Millis, usize)>>,
}

// === impl Reading ===

impl Reading {
    /// Starts the thread. It ends with the files, with `stop`, or when this is dropped.
    pub(super) fn start(inputs: Inputs, latest: Millis, stop: &Arc<AtomicBool>) -> io::Result<Self> {
        let read = Arc::<AtomicU64>::default();
        let streams = inputs.streams(latest, &read);
        let (sender, chunks) = sync_channel(AHEAD);
        let stop = Arc::clone(stop);
        let thread = std::thread::Builder::new().name("files".to_owned());
        let thread = thread.spawn(move || run(Merge::new(streams), &sender, &stop))?;
        Ok(Self { chunks, read, thread: Some(thread) })
    }

    /// The next chunk, if it comes before `timeout`.
    pub(super) fn next(&mut self, timeout: Duration) -> io::Result<Next> {
        match self.chunks.recv_timeout(timeout) {
            Ok(taken) => Ok(Next::Taken(taken)),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            Err(RecvTimeoutError::Disconnected) => {
                let panicked = |_| io::Error::other("the reader thread panicked; please report this bug");
                self.thread.take().map_or(Ok(()), JoinHandle::join).map_err(panicked)?;
                Ok(Next::End)
            }
        }
    }

    /// Bytes that were read so far, before decompression.
    pub(super) fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

fn run(mut merge: Merge, chunks: &SyncSender<Taken>, stop: &AtomicBool) {
    let (mut taken, mut bytes) = (Taken::default(), 0);
    merge.begin(&mut taken.problems);
    while let Some(record) = merge.next(&mut taken.problems) {
        bytes += record.value.len();
        taken.records.push(record);
        if bytes >= CHUNK {
            bytes = 0;
            if stop.load(Ordering::Relaxed) || chunks.send(std::mem::take(&mut taken)).is_err() {
                return;
            }
        }
    }
    // The receiving thread is gone if the run was stopped.
    drop(chunks.send(taken));
}

// === impl Merge ===

impl Merge {
    fn new(streams: Vec<Stream>) -> Self {
        let heads = streams.iter().map(|_| None).collect();
        Self { streams, heads, order: BinaryHeap::new() }
    }

    fn begin(&mut self, problems: &mut Problems) {
        (0..self.streams.len()).for_each(|at| self.refill(at, problems));
    }

    fn refill(&mut self, at: usize, problems: &mut Problems) {
        self.heads[at] = self.streams[at].next(problems);
        if let Some(record) = &self.heads[at] {
            self.order.push(Reverse((record.timestamp, at)));
        }
    }

    /// The record with the least time; of several, that of the first stream.
    fn next(&mut self, problems: &mut Problems) -> Option<FileRecord> {
        let Reverse((_, at)) = self.order.pop()?;
        let record = self.heads[at].take();
        self.refill(at, problems);
        record
    }
}
