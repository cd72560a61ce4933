//! A directory instead of a receiver: a segment per shard, to which the requests of its shard sender are appended.
//!
//! A batch is settled when it is on the disk, so that acknowledged samples survive a crash of the process and the
//! machine. A batch that was written in part is truncated and written again, for as long as it takes: the disk may be
//! full. The run reports that and decides how long to wait. After a crash, an incomplete batch is truncated when the
//! segment is opened again; its sender does not know that it was settled and sends it again. So a step may be there
//! twice; the reader counts it once.
//!
//! The lock on a segment keeps two processes from writing to it at a time, such as a worker and its zombie.

mod identity;
mod reader;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::remotewrite::StepBatch;
use crate::tools::archive::frame::MAGIC;
use crate::tools::archive::{Frame, FrameError, Scanner};
use crate::worker::sender::Exporter;
use crate::worker::sender::store::{Store, Writer};
use crate::worker::telemetry::Telemetry;

pub use identity::{Claim, ClaimError, Identity};
pub use reader::{Contents, Reader, SpoolError};

/// The prefix and the suffix of a segment's name.
const PREFIX: &str = "shard-";
const SUFFIX: &str = ".seg";

/// A directory with a segment per shard.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
}

/// Writes the segment of one shard. It is opened for the first batch, and again after a failure that could not be undone.
#[derive(Debug)]
struct SegmentWriter {
    path: PathBuf,
    segment: Option<Segment>,
}

/// The open segment of a shard.
#[derive(Debug)]
struct Segment {
    file: File,
    /// Where the last batch ends that is on the disk.
    end: u64,
    buffer: Vec<u8>,
}

/// Sends nothing: keeps everything in the directory `dir`, in a segment per shard. See [`Reader`] for the other end.
///
/// # Errors
/// When the directory cannot be created, or the system has no threads for it.
pub fn exporter(dir: &Path, telemetry: Telemetry) -> Result<Exporter, SpoolError> {
    Ok(Exporter::keeping(Arc::new(Spool::create(dir)?), telemetry)?)
}

// === impl Spool ===

impl Spool {
    /// Creates the directory if it is missing. Existing files stay.
    ///
    /// # Errors
    /// When the directory cannot be created; the text names the path and the remedy.
    pub fn create(dir: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Create { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned() })
    }
}

impl Store for Spool {
    fn writer(&self, shard: u32) -> Box<dyn Writer> {
        let path = self.dir.join(format!("{PREFIX}{shard:05}{SUFFIX}"));
        Box::new(SegmentWriter { path, segment: None })
    }
}

// === impl SegmentWriter ===

impl Writer for SegmentWriter {
    fn write(&mut self, batch: &StepBatch) -> Result<(), String> {
        let mut open = match self.segment.take() {
            Some(open) => open,
            None => Segment::open(&self.path)?,
        };
        let appended = open.append(batch);
        // A part that cannot be truncated now is truncated when the segment is opened again.
        if appended.is_ok() || open.cut().is_ok() {
            self.segment = Some(open);
        }
        appended.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("{error}; free disk space there"),
            _ => error.to_string(),
        })
    }

    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

// === impl Segment ===

impl Segment {
    /// Opens or creates it, and truncates an incomplete batch.
    fn open(path: &Path) -> Result<Self, String> {
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create(true).truncate(false).open(path).map_err(|e| e.to_string())?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                "another process writes to it; stop that, or use another directory for this run".to_owned()
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
            tracing::info!(file = %path.display(), bytes = size - end, "removed an incomplete write from the end");
        }
        let mut segment = Self { file, end, buffer: Vec::new() };
        segment.cut()?;
        if end == 0 {
            segment.file.write_all(&MAGIC)?;
            segment.file.sync_all()?;
            segment.end = MAGIC.len() as u64;
            // The directory entry must be durable as well.
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
