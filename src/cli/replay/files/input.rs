//! Paths to streams of records.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::{FilesError, Problem, Problems};
use crate::core::formats::{FormatError, json_encoding};
use crate::core::model::Millis;
use crate::core::otlp::{Batch, DecodeError};
use crate::core::settings::Encoding;
use crate::tools::files::{self, FilePosition, Frames, Framing, Rotation, TimeError, Times};

/// Standard input, as a path.
const STDIN: &str = "-";
/// The bytes that are read to detect the format of a file.
const HEAD: u64 = 512;
/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

/// The files of a run, those that a Collector has rotated in one row each.
#[derive(Debug)]
pub(super) struct Inputs {
    rows: Vec<Vec<PathBuf>>,
    encoding: Encoding,
    bytes: Option<u64>,
}

/// The records of files that follow each other.
pub(super) struct Stream {
    paths: VecDeque<PathBuf>,
    encoding: Encoding,
    open: Option<Open>,
    batch: Batch,
    /// The time of the record before.
    time: Millis,
    latest: Millis,
    read: Arc<AtomicU64>,
}

/// A file that is being read.
struct Open {
    name: Arc<str>,
    frames: Frames<Box<dyn BufRead + Send>>,
    framing: Framing,
}

/// A record of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileRecord {
    pub(super) timestamp: Millis,
    pub(super) value: Vec<u8>,
    pub(super) file: Arc<str>,
    pub(super) at: FilePosition,
    /// How many of its spans have no end.
    pub(super) unfinished: u64,
    /// How many of them hold an implausible time, and what is wrong with the first.
    pub(super) odd: Option<(u64, TimeError)>,
    /// The bytes of all files that had been read with it.
    pub(super) read: u64,
}

/// Why a message is no record.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Message(#[from] FormatError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Time(#[from] TimeError),
}

// === impl Inputs ===

impl Inputs {
    /// All files that the paths stand for.
    pub(super) fn find(paths: &[PathBuf], encoding: Encoding) -> Result<Self, FilesError> {
        let (mut found, mut bytes) = (Vec::new(), Some(0));
        for path in paths {
            if path.as_os_str() == STDIN {
                bytes = None;
                found.push(path.clone());
            } else {
                walk(path, true, &mut found, &mut bytes)?;
            }
        }
        if found.is_empty() {
            let named: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            return Err(FilesError::NoFiles(named.join(", ")));
        }
        found.sort();
        found.dedup();
        let mut rows: BTreeMap<String, Vec<(Rotation, PathBuf)>> = BTreeMap::new();
        for path in found {
            let rotation = files::rotation(&path.to_string_lossy());
            rows.entry(rotation.of.clone()).or_default().push((rotation, path));
        }
        let in_order = |mut row: Vec<(Rotation, PathBuf)>| {
            row.sort();
            row.into_iter().map(|(_, path)| path).collect()
        };
        Ok(Self { rows: rows.into_values().map(in_order).collect(), encoding, bytes })
    }

    /// How many files there are.
    pub(super) fn files(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    /// The inputs, one line each: a changed file counts as another one.
    pub(super) fn described(&self) -> Vec<String> {
        let one = |path: &PathBuf| {
            if path.as_os_str() == STDIN {
                // Whether the input is the same as before is unknown.
                return format!("standard input, read by {:016x}", RandomState::new().build_hasher().finish());
            }
            let meta = fs::metadata(path).ok();
            let size = meta.as_ref().map_or(0, fs::Metadata::len);
            let changed = meta.and_then(|meta| meta.modified().ok()?.duration_since(UNIX_EPOCH).ok());
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            format!("{}, {size} bytes, changed at {}", path.display(), changed.unwrap_or_default().as_millis())
        };
        self.rows.iter().flatten().map(one).collect()
    }

    /// The size of all files, unless one is standard input.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// A stream for every row. What is read is counted in `read`; spans after `latest` do not count for their record's
    /// time.
    pub(super) fn streams(self, latest: Millis, read: &Arc<AtomicU64>) -> Vec<Stream> {
        let stream = |row: Vec<PathBuf>| Stream {
            paths: row.into(),
            encoding: self.encoding,
            open: None,
            batch: Batch::new(),
            time: 0,
            latest,
            read: Arc::clone(read),
        };
        self.rows.into_iter().map(stream).collect()
    }
}

/// Adds a file, or the files below a directory, in order. Files in a directory whose names begin with a dot are
/// skipped.
fn walk(path: &Path, named: bool, found: &mut Vec<PathBuf>, bytes: &mut Option<u64>) -> Result<(), FilesError> {
    let failed = |source| FilesError::Path { path: path.to_owned(), source };
    let meta = fs::metadata(path).map_err(failed)?;
    if !meta.is_dir() {
        *bytes = bytes.map(|bytes| bytes + meta.len());
        found.push(path.to_owned());
        return Ok(());
    }
    // A link to a directory may form a cycle.
    if !named && fs::symlink_metadata(path).map_err(failed)?.is_symlink() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            walk(&entry.path(), false, found, bytes)?;
        }
    }
    Ok(())
}

// === impl Stream ===

impl Stream {
    /// The next record. What cannot be read on the way to it is added to `problems`.
    pub(super) fn next(&mut self, problems: &mut Problems) -> Option<FileRecord> {
        loop {
            let Some(open) = &mut self.open else {
                let path = self.paths.pop_front()?;
                let name: Arc<str> = path.to_string_lossy().into();
                match self.open(&path) {
                    Ok(Some((framing, input))) => {
                        self.open = Some(Open { name, frames: Frames::new(input, framing), framing });
                    }
                    Ok(None) => {}
                    Err(error) => problems.add(Problem { file: name.to_string(), at: None, what: error.to_string() }),
                }
                continue;
            };
            let file = Arc::clone(&open.name);
            let tell = |at, what: String| Problem { file: file.to_string(), at, what };
            match open.frames.read() {
                Ok(None) => self.open = None,
                Err(error) => {
                    problems.add(tell(None, format!("cannot read on: {error}")));
                    self.open = None;
                }
                Ok(Some((at, Err(flaw)))) => problems.add(tell(Some(at), flaw.to_string())),
                Ok(Some((at, Ok(message)))) => {
                    match record(message, (open.framing, self.encoding), self.latest, &mut self.batch) {
                        Ok((value, (times, odd))) => {
                            self.time = times.at.unwrap_or(self.time);
                            let (unfinished, read) = (times.unfinished, self.read.load(Ordering::Relaxed));
                            let (timestamp, odd) = (self.time, odd.map(|error| (times.odd, error)));
                            return Some(FileRecord { timestamp, value, file, at, unfinished, odd, read });
                        }
                        Err(unreadable) => problems.add(tell(Some(at), unreadable.to_string())),
                    }
                }
            }
        }
    }

    /// Opens a file and detects its format; `None` if it is empty.
    fn open(&self, path: &Path) -> io::Result<Option<(Framing, Box<dyn BufRead + Send>)>> {
        let raw: Box<dyn Read + Send> =
            if path.as_os_str() == STDIN { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let counting = Counting { inner: raw, read: Arc::clone(&self.read) };
        let (head, file) = look(BufReader::with_capacity(BUFFER, counting))?;
        let (head, input): (_, Box<dyn BufRead + Send>) = if files::is_gzip(&head) {
            look(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))?
        } else if files::is_zstd(&head) {
            look(BufReader::with_capacity(BUFFER, ZstdDecoder::with_buffer(file)?))?
        } else {
            (head, file)
        };
        if head.is_empty() {
            return Ok(None);
        }
        if files::is_utf16(&head) {
            let what = "this is UTF-16 text; convert it to UTF-8, as with `iconv -f UTF-16 -t UTF-8`";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let seen = files::framing(&head);
        let named = || files::hint(&path.to_string_lossy());
        // Both kinds may have lengths, and JSON may be broken into lines or not; the flags decide the rest.
        let told = match self.encoding {
            Encoding::Auto => None,
            encoding => seen.filter(|_| files::is_json(encoding)).or(Some(files::framing_of(encoding))),
        };
        let framing = told.or(seen).or_else(named);
        framing.map(|framing| Some((framing, input))).ok_or_else(|| {
            let looks = files::looks_like(&head).unwrap_or("if it is one, set --format");
            io::Error::new(io::ErrorKind::InvalidData, format!("this is not a file of traces; {looks}"))
        })
    }
}

/// Reads the first bytes, and gives them back with everything, from the beginning.
fn look(mut input: impl BufRead + Send + 'static) -> io::Result<(Vec<u8>, Box<dyn BufRead + Send>)> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD).read_to_end(&mut head)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(input))))
}

/// The record's value of a message, decoded into `batch`, and its time by its spans.
fn record(
    message: &[u8],
    (framing, encoding): (Framing, Encoding),
    latest: Millis,
    batch: &mut Batch,
) -> Result<(Vec<u8>, (Times, Option<TimeError>)), Unreadable> {
    // In a file of lines, a line that is not JSON is damaged JSON.
    let encoding = match (framing, encoding) {
        (Framing::Lines | Framing::Objects, Encoding::Auto) => json_encoding(message),
        (_, encoding) => encoding,
    };
    let value = files::value(message, encoding)?.into_owned();
    batch.decode(&value)?;
    let times = files::times(batch, &value, latest)?;
    Ok((value, times))
}

/// Counts the bytes that are read.
struct Counting<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
