//! Reads a spool: window by window, the newest first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::core::model::Millis;
use crate::tools::archive::{Collected, Frame, FrameError, Scanner, Window, WindowError};
use crate::worker::sender::ExportError;

use super::identity::{ClaimError, Identity, is_segment};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 18;

/// Why a spool cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The directory cannot be created.
    #[error("{path}: cannot be written: {source}; use a directory that can be created and written to")]
    Create {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The sender cannot start.
    #[error(transparent)]
    Sender(#[from] ExportError),
    /// The directory or a segment cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file or the directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// There is nothing in the directory.
    #[error("{0}: contains no segment of a spool; use a directory that a run has written")]
    Empty(PathBuf),
    /// Two directories are of two runs.
    #[error(
        "{dir}: keeps the samples of another run than the previous directories: {difference}; use one run at a time"
    )]
    Mixed {
        /// The directory.
        dir: PathBuf,
        /// The difference.
        difference: String,
    },
    /// The run that the segments belong to cannot be determined.
    #[error(transparent)]
    Identity(#[from] ClaimError),
    /// A segment is damaged.
    #[error("{path}: {source}")]
    Frame {
        /// The segment.
        path: PathBuf,
        /// The problem.
        source: FrameError,
    },
    /// A request cannot be decoded, or two contradict each other.
    #[error("{path}: {source}")]
    Window {
        /// The segment, or the directory for a contradiction.
        path: PathBuf,
        /// The problem.
        source: Box<WindowError>,
    },
}

/// The content of a spool, without incomplete frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Contents {
    /// Requests.
    pub requests: u64,
    /// Samples, those that were sent again included.
    pub samples: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// The oldest and the newest step, by their ends.
    pub steps: Option<(Millis, Millis)>,
}

/// Reads the segments of the directories of one run. They may grow meanwhile: frames since the opening are not read.
#[derive(Debug)]
pub struct Reader {
    dirs: Vec<PathBuf>,
    width: Millis,
    segments: Vec<PathBuf>,
    /// Where the requests of a window are, by its beginning.
    windows: BTreeMap<Millis, Vec<Stretch>>,
    contents: Contents,
    identity: Option<Identity>,
}

/// Frames that lie one after the other.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    segment: usize,
    from: u64,
    to: u64,
}

// === impl Reader ===

impl Reader {
    /// Reads everything once, checks it, and remembers where each window of `width` is; windows are aligned to the epoch.
    /// The workers of a run that was shared have a directory each; together they are one spool.
    ///
    /// # Errors
    /// When a directory is no spool, is of another run than those before, or a segment cannot be read or is damaged.
    pub fn open(dirs: &[PathBuf], width: Millis) -> Result<Self, SpoolError> {
        let (mut all, mut identity) = (Vec::new(), None::<Identity>);
        for dir in dirs {
            let here = segments(dir).map_err(|source| SpoolError::Read { path: dir.clone(), source })?;
            let own = Identity::read(dir)?;
            // A run without a sample has no segment.
            if here.is_empty() && own.is_none() {
                return Err(SpoolError::Empty(dir.clone()));
            }
            all.extend(here);
            identity = joined(identity, own, dir)?;
        }
        let (windows, contents) = (BTreeMap::new(), Contents::default());
        let mut reader = Self { dirs: dirs.to_vec(), width: width.max(1), segments: all, windows, contents, identity };
        for segment in 0..reader.segments.len() {
            let path = reader.segments[segment].clone();
            reader.scan(segment, &path).map_err(|source| SpoolError::Frame { path, source })?;
        }
        Ok(reader)
    }

    /// The content.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.contents
    }

    /// The run of the samples, if that is known; it is complete if all directories are.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Calls `each` for every window that has samples, the newest first, with its beginning and its samples. Only one
    /// window is in memory.
    ///
    /// # Errors
    /// Those of `each`; and when a segment cannot be read, or requests contradict each other.
    pub fn windows<E: From<SpoolError>>(
        &self,
        mut each: impl FnMut(Millis, Collected) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut window = Window::default();
        let mut left = self.windows.clone();
        loop {
            // Zeros may lie in a window without a request.
            let carried = window.newest().map(|at| self.window_of(at));
            let Some(from) = carried.max(left.last_key_value().map(|(from, _)| *from)) else { return Ok(()) };
            for stretch in left.remove(&from).unwrap_or_default() {
                self.read(stretch, &mut window)?;
            }
            let dir = || self.dirs.first().cloned().unwrap_or_default();
            let wrong = |source| SpoolError::Window { path: dir(), source: Box::new(source) };
            let collected = window.take(from).map_err(wrong)?;
            if !collected.series.is_empty() {
                each(from, collected)?;
            }
        }
    }

    fn window_of(&self, at: Millis) -> Millis {
        at.div_euclid(self.width).saturating_mul(self.width)
    }

    fn scan(&mut self, segment: usize, path: &Path) -> Result<(), FrameError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut scanner = Scanner::new(BufReader::with_capacity(CHUNK, file), size)?;
        let mut from = scanner.good();
        while let Some(Frame { step, samples, .. }) = scanner.next()? {
            let samples = u64::from(samples);
            let to = scanner.good();
            self.contents.requests += 1;
            self.contents.samples += samples;
            let (first, last) = self.contents.steps.unwrap_or((step, step));
            self.contents.steps = Some((first.min(step), last.max(step)));
            let stretches = self.windows.entry(self.window_of(step)).or_default();
            match stretches.last_mut() {
                Some(last) if last.segment == segment && last.to == from => last.to = to,
                _ => stretches.push(Stretch { segment, from, to }),
            }
            from = to;
        }
        self.contents.bytes += from;
        Ok(())
    }

    fn read(&self, stretch: Stretch, window: &mut Window) -> Result<(), SpoolError> {
        let path = &self.segments[stretch.segment];
        let io = |source| SpoolError::Read { path: path.clone(), source };
        let mut file = File::open(path).map_err(io)?;
        file.seek(SeekFrom::Start(stretch.from)).map_err(io)?;
        let mut scanner = Scanner::resume(BufReader::with_capacity(CHUNK, file), stretch.from, stretch.to);
        while let Some(frame) = scanner.next().map_err(|source| SpoolError::Frame { path: path.clone(), source })? {
            let added = window.add(frame.tenant, frame.body);
            added.map_err(|source| SpoolError::Window { path: path.clone(), source: Box::new(source) })?;
        }
        Ok(())
    }
}

/// The identity of two directories together, the second of which is `dir`.
fn joined(one: Option<Identity>, other: Option<Identity>, dir: &Path) -> Result<Option<Identity>, SpoolError> {
    let (Some(one), Some(other)) = (&one, &other) else { return Ok(other.or(one)) };
    match one.difference(other) {
        Some(difference) => Err(SpoolError::Mixed { dir: dir.to_owned(), difference }),
        None => {
            let mut both = one.clone();
            both.complete &= other.complete;
            Ok(Some(both))
        }
    }
}

/// The segments in a directory, by shard.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if is_segment(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
