//! A directory instead of a receiver: a segment per shard, to which the requests of its lane are appended.
//!
//! A batch is settled when it is on the disk, so that what a task calls acknowledged outlives the process and the machine. A
//! batch that could not be written as a whole is cut off again and written anew, for as long as it takes: the disk may be
//! full. What a crash leaves of one is cut off when the segment is opened again; its sender does not know that it was
//! settled and sends it once more. So a step may be there twice; the reader counts it once.
//!
//! The lock on a segment keeps two processes from writing to it at a time, such as a worker and its zombie.

#![allow(clippy::disallowed_methods, reason = "how long writing takes is a matter of the clock")]

mod reader;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::archive::frame::MAGIC;
use crate::archive::{Frame, FrameError, Scanner};
use crate::remotewrite::{Backoff, StepBatch};

use super::Delivered;
use super::delivery::{Sending, random};
use super::lane::Ticket;

pub use reader::{Contents, Reader, SpoolError};

/// Between two attempts to write.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };
/// What a segment's name begins and ends with.
const PREFIX: &str = "shard-";
const SUFFIX: &str = ".seg";

/// Where segments lie.
#[derive(Debug)]
pub(super) struct Spool(PathBuf);

/// The open segment of a shard.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    /// Where the last batch ends that is on the disk.
    end: u64,
    buffer: Vec<u8>,
}

// === impl Spool ===

impl Spool {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self(dir.to_owned()))
    }

    fn path(&self, shard: u32) -> PathBuf {
        self.0.join(format!("{PREFIX}{shard:05}{SUFFIX}"))
    }

    /// Writes a batch, however long it takes, and tells that it is settled.
    pub(super) async fn keep(
        &self,
        lane: &Sending,
        segment: &mut Option<Segment>,
        batch: &StepBatch,
        mut ticket: Ticket,
        out: Delivered,
    ) {
        let meters = lane.shared.telemetry.export();
        let mut tried = 0u32;
        loop {
            let started = Instant::now();
            // The other thread of the exporter goes on meanwhile. A lane that is dropped falls silent after this batch.
            let kept = tokio::task::block_in_place(|| self.write(lane.shard, segment, batch));
            meters.seconds.observe(started.elapsed().as_secs_f64());
            let Err(why) = kept else { break };
            lane.failing.failed();
            meters.retries.inc();
            tried = tried.saturating_add(1);
            let (path, pause) = (self.path(lane.shard), BACKOFF.delay(tried, random()));
            if tried.is_power_of_two() {
                let (file, step) = (path.display(), batch.step);
                tracing::warn!(%file, step, tried, ?pause, "cannot be written and is tried again, nothing is lost: {why}");
            }
            tokio::time::sleep(pause).await;
        }
        lane.failing.answered();
        let samples = batch.samples();
        meters.bytes.inc_by(batch.requests.iter().map(|r| r.body.len() as u64).sum());
        meters.acknowledged.inc_by(samples);
        ticket.settle(samples);
        (lane.done)(Delivered { acknowledged: samples, ..out });
        drop(ticket);
    }

    fn write(&self, shard: u32, segment: &mut Option<Segment>, batch: &StepBatch) -> Result<(), String> {
        let mut open = match segment.take() {
            Some(open) => open,
            None => Segment::open(&self.path(shard))?,
        };
        let appended = open.append(batch);
        // What cannot be cut now is cut when it is opened anew.
        if appended.is_ok() || open.cut().is_ok() {
            *segment = Some(open);
        }
        let Err(error) = appended else { return Ok(()) };
        Err(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("{error}; free some space there"),
            _ => error.to_string(),
        })
    }
}

// === impl Segment ===

impl Segment {
    /// Opens or makes it, and cuts off what was not written to its end.
    fn open(path: &Path) -> Result<Self, String> {
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create(true).truncate(false).open(path).map_err(|e| e.to_string())?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                "another process writes it; end that, or give this run a directory of its own".to_owned()
            }
            TryLockError::Error(error) => format!("cannot be locked: {error}"),
        })?;
        Self::resume(file, path).map_err(|e| e.to_string())
    }

    fn resume(file: File, path: &Path) -> Result<Self, FrameError> {
        let size = file.metadata()?.len();
        let mut scanner = Scanner::new(BufReader::with_capacity(1 << 18, &file), size)?;
        while scanner.next()?.is_some() {}
        let end = scanner.good();
        if end < size {
            tracing::info!(file = %path.display(), bytes = size - end, "cut off what was not written to its end");
        }
        let mut segment = Self { file, end, buffer: Vec::new() };
        segment.cut()?;
        if end == 0 {
            segment.file.write_all(&MAGIC)?;
            segment.file.sync_all()?;
            segment.end = MAGIC.len() as u64;
            // The directory's entry is part of what has to last.
            path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
        }
        Ok(segment)
    }

    /// Writes a batch and waits until it is on the disk.
    fn append(&mut self, batch: &StepBatch) -> io::Result<()> {
        self.buffer.clear();
        for request in &batch.requests {
            let (tenant, step) = (&batch.tenant, batch.step);
            Frame { tenant, step, samples: request.samples, body: &request.body }.put(&mut self.buffer);
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.buffer)?;
        self.file.sync_data()?;
        self.end += self.buffer.len() as u64;
        Ok(())
    }

    /// Goes back to the end of the last whole batch.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end)).map(drop)
    }
}
