//! A file of requests, as the Collector's file exporter writes them: lines of OTLP JSON, or protobuf behind its length.
//!
//! A request is settled when it is on the disk. What a crash has torn off is at the end only, was not settled, and comes
//! again; it is removed when the file is opened. One process writes to a file: it is locked.
#![allow(clippy::disallowed_methods, reason = "files are begun at a time of day")]

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::config::settings::{FileFormat, FileOutput};
use crate::core::remotewrite::acceptance::Finding;
use crate::worker::sender::millis;

/// How every line begins.
const LINE: &[u8] = b"{\"resourceMetrics\":[";
/// The first byte of every message.
const MESSAGE: u8 = 0x0a;
/// So much is read at a time.
const BLOCK: u64 = 1 << 16;
const FOREIGN: &str = "it holds something else than metrics of this format; write another path";

/// The file of an endpoint.
pub(super) struct OutputFile {
    settings: FileOutput,
    current: Mutex<Option<Current>>,
}

/// The open file.
struct Current {
    file: File,
    size: u64,
    begun: SystemTime,
}

// === impl Current ===

impl Current {
    /// Whether the path still leads to this file, and nothing else has changed its length.
    fn is_at(&self, path: &Path) -> bool {
        let same = |own: Metadata, there: Metadata| {
            (own.dev(), own.ino()) == (there.dev(), there.ino()) && there.len() == self.size
        };
        self.file.metadata().and_then(|own| Ok(same(own, std::fs::metadata(path)?))).unwrap_or(false)
    }
}

/// A message behind its length.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(4 + message.len());
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out.into()
}

// === impl OutputFile ===

impl OutputFile {
    pub(super) fn new(settings: FileOutput) -> Self {
        Self { settings, current: Mutex::default() }
    }

    pub(super) fn format(&self) -> FileFormat {
        self.settings.format
    }

    /// Appends one request; it is on the disk afterwards.
    pub(super) fn append(&self, request: &[u8]) -> Result<(), String> {
        let path = self.settings.path.as_deref().unwrap_or_else(|| Path::new(""));
        let named = |why: String| format!("{}: {why}", path.display());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that another program has removed, renamed, replaced or cut gets nothing more as it is.
        let mut open = match current.take().filter(|open| open.is_at(path)) {
            Some(open) => open,
            None => self.open(path).map_err(named)?,
        };
        if open.size > 0 && self.is_full(&open, request.len() as u64, SystemTime::now()) {
            self.rotate(path, &open).map_err(named)?;
            open = self.open(path).map_err(named)?;
        }
        let written = open.file.write_all(request).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // What is left of it is removed here, or when the file is opened again.
            drop(open.file.set_len(open.size));
            return Err(named(error.to_string()));
        }
        open.size += request.len() as u64;
        *current = Some(open);
        Ok(())
    }

    fn is_full(&self, open: &Current, more: u64, now: SystemTime) -> bool {
        let interval = millis(self.settings.rotation_interval);
        let age = now.duration_since(open.begun).unwrap_or(Duration::ZERO);
        open.size + more > self.settings.max_size as u64 || (!interval.is_zero() && age >= interval)
    }

    fn open(&self, path: &Path) -> Result<Current, String> {
        let text = |e: std::io::Error| e.to_string();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(text)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err("another process writes to it; give each worker a file of its own".to_owned());
            }
            Err(TryLockError::Error(error)) => return Err(error.to_string()),
        }
        let looked = file.metadata().map_err(text)?;
        let size = self.whole(&mut file, looked.len()).map_err(text)?.ok_or(FOREIGN)?;
        if size < looked.len() {
            tracing::warn!(path = %path.display(), bytes = looked.len() - size, "removed a request that a crash has cut off");
            file.set_len(size).and_then(|()| file.sync_data()).map_err(text)?;
        }
        sync_directory(path).map_err(text)?;
        let begun = looked.created().or_else(|_| looked.modified()).unwrap_or_else(|_| SystemTime::now());
        Ok(Current { file, size, begun })
    }

    /// The bytes up to the end of the last request; `None` if the file holds something else.
    fn whole(&self, file: &mut File, len: u64) -> std::io::Result<Option<u64>> {
        match self.settings.format {
            FileFormat::Json => whole_lines(file, len),
            FileFormat::Proto => whole_messages(file, len),
        }
    }

    /// Whether it could be written. Its content stays as it is; in its directory, another file is created and removed.
    pub(super) fn examine(&self) -> Vec<Finding> {
        let path = self.settings.path.as_deref().unwrap_or_else(|| Path::new(""));
        let mut out = Vec::new();
        let about_file = match self.look(path) {
            Ok(found) => found,
            Err(why) => Some(Finding::Waits(format!("{}: {why}", path.display()))),
        };
        out.extend(about_file);
        let (directory, probe) = (directory(path), probe_name(path));
        let created = OpenOptions::new().write(true).create_new(true).open(&probe);
        out.push(match created.and_then(|_| std::fs::remove_file(&probe)) {
            Ok(()) => Finding::Good(format!("directory {} is writable", directory.display())),
            Err(error) => Finding::Waits(format!(
                "no file can be created in directory {}: {error}; create it, and grant the worker's user the right to write \
                 to it",
                directory.display()
            )),
        });
        out
    }

    /// What speaks for or against the file that is there; `None` if there is none.
    fn look(&self, path: &Path) -> Result<Option<Finding>, String> {
        let mut file = match OpenOptions::new().read(true).append(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{error}; grant the worker's user the right to read and write it")),
        };
        let len = file.metadata().map_err(|e| e.to_string())?.len();
        self.whole(&mut file, len).map_err(|e| e.to_string())?.ok_or(FOREIGN)?;
        Ok(Some(match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let text = "another process writes to it: each worker needs a file of its own";
                Finding::Warning(format!("{}: {text}", path.display()))
            }
            Ok(()) | Err(TryLockError::Error(_)) => Finding::Good(format!("{} can be continued", path.display())),
        }))
    }

    /// Gives the file the name of the present time.
    fn rotate(&self, path: &Path, open: &Current) -> Result<(), String> {
        open.file.sync_all().map_err(|e| e.to_string())?;
        std::fs::rename(path, free_name(path)).map_err(|e| e.to_string())
    }
}

/// A name as the Collector gives it to a file that is full: `metrics-2026-01-31T23-59-59.000.json`.
fn free_name(path: &Path) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let (stem, end) = (part(path.file_stem()), part(path.extension()));
    let end = if end.is_empty() { end } else { format!(".{end}") };
    let mut at = jiff::Timestamp::now();
    loop {
        let name = path.with_file_name(format!("{stem}-{}{end}", at.strftime("%Y-%m-%dT%H-%M-%S.%3f")));
        if !name.exists() {
            return name;
        }
        at = at.saturating_add(jiff::SignedDuration::from_millis(1)).unwrap_or(at);
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// A name beside the file that no other process uses.
fn probe_name(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.check", std::process::id()))
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// The bytes up to the end of the last line; `None` if what follows is no beginning of a line of ours.
fn whole_lines(file: &mut File, len: u64) -> std::io::Result<Option<u64>> {
    let (mut end, mut tail) = (len, Vec::new());
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        let newline = block.iter().rposition(|byte| *byte == b'\n');
        let from = newline.map_or(0, |at| at + 1);
        tail.splice(0..0, block[from..].iter().copied());
        if newline.is_some() {
            end = start + from as u64;
            break;
        }
        end = start;
    }
    let seen = tail.len().min(LINE.len());
    Ok((tail[..seen] == LINE[..seen]).then_some(end))
}

/// The bytes up to the end of the last message; `None` if what follows is no beginning of one.
fn whole_messages(file: &mut File, len: u64) -> std::io::Result<Option<u64>> {
    let mut at = 0;
    while len - at > 4 {
        let mut head = [0; 5];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [a, b, c, d, first] = head;
        if first != MESSAGE {
            return Ok(None);
        }
        let next = at + 4 + u64::from(u32::from_be_bytes([a, b, c, d]));
        if next > len {
            break;
        }
        at = next;
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(dir: &Path, format: FileFormat, max_size: usize) -> OutputFile {
        let path = Some(dir.join("metrics.json"));
        OutputFile::new(FileOutput { path, format, max_size, rotation_interval: 0 })
    }

    fn line(n: u32) -> Vec<u8> {
        format!("{{\"resourceMetrics\":[{n}]}}\n").into_bytes()
    }

    #[test]
    fn what_a_crash_has_cut_off_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("metrics.json");
        let message = |n: u8| framed(&[MESSAGE, n, n, n]).to_vec();
        for (format, whole, next) in [
            (FileFormat::Json, [line(1), line(2)].concat(), line(3)),
            (FileFormat::Proto, [message(1), message(2)].concat(), message(3)),
        ] {
            for cut in 0..next.len() {
                std::fs::write(&path, [&whole[..], &next[..cut]].concat()).expect("written");
                output(dir.path(), format, 1 << 20).append(&next).expect("appended");
                assert_eq!(std::fs::read(&path).expect("there"), [&whole[..], &next].concat(), "{format:?} {cut}");
            }
            std::fs::write(&path, "a letter\nwithout an end").expect("written");
            let refused = output(dir.path(), format, 1 << 20).append(&next).expect_err("not ours");
            assert!(refused.contains("something else"), "{refused}");
            assert_eq!(std::fs::read(&path).expect("there"), b"a letter\nwithout an end");
        }
    }

    #[test]
    fn a_file_that_is_full_is_renamed_and_nothing_is_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = output(dir.path(), FileFormat::Json, 2 * line(1).len());
        (0..9).for_each(|n| file.append(&line(n)).expect("appended"));
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).expect("there").map(|e| e.expect("one").path()).collect();
        names.sort();
        assert_eq!(names.len(), 5);
        // The present file has no time in its name and sorts behind the others.
        let all: Vec<u8> = names.iter().flat_map(|name| std::fs::read(name).expect("there")).collect();
        assert_eq!(all, (0..9).flat_map(line).collect::<Vec<u8>>());
    }

    #[test]
    fn a_file_that_another_program_replaces_or_cuts_is_opened_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("metrics.json");
        let file = output(dir.path(), FileFormat::Json, 1 << 20);
        file.append(&line(1)).expect("appended");
        // As log rotation does: the file has another name, and a new one is there.
        std::fs::rename(&path, dir.path().join("old")).expect("renamed");
        std::fs::write(&path, "").expect("created");
        file.append(&line(2)).expect("appended");
        assert_eq!(std::fs::read(&path).expect("there"), line(2));
        // Or its contents are copied, and it is cut.
        std::fs::write(&path, "").expect("cut");
        file.append(&line(3)).expect("appended");
        assert_eq!(std::fs::read(&path).expect("there"), line(3));
        std::fs::remove_file(&path).expect("removed");
        file.append(&line(4)).expect("appended");
        assert_eq!(std::fs::read(&path).expect("there"), line(4));
        assert_eq!(std::fs::read(dir.path().join("old")).expect("there"), line(1));
    }

    #[test]
    fn an_examination_of_a_file_leaves_its_directory_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("metrics.json");
        let told = |format| {
            let findings = output(dir.path(), format, 1 << 20).examine();
            findings.iter().map(|finding| format!("{finding}\n")).collect::<String>()
        };
        let names = || std::fs::read_dir(dir.path()).expect("there").count();
        assert!(told(FileFormat::Json).contains("is writable"));
        assert_eq!(names(), 0);
        let torn = [line(1), b"{\"reso".to_vec()].concat();
        std::fs::write(&path, &torn).expect("written");
        assert!(told(FileFormat::Json).contains("can be continued"));
        assert!(told(FileFormat::Proto).contains("something else"));
        let writer = output(dir.path(), FileFormat::Json, 1 << 20);
        assert_eq!((std::fs::read(&path).expect("there"), names()), (torn, 1));
        writer.append(&line(2)).expect("appended");
        assert!(told(FileFormat::Json).contains("another process writes to it"));
        let nowhere = output(&dir.path().join("gone"), FileFormat::Json, 1 << 20).examine();
        assert!(matches!(&nowhere[..], [Finding::Waits(why)] if why.contains("create it")), "{nowhere:?}");
    }

    #[test]
    fn two_writers_of_a_file_are_one_too_many() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, other) =
            (output(dir.path(), FileFormat::Json, 1 << 20), output(dir.path(), FileFormat::Json, 1 << 20));
        one.append(&line(1)).expect("appended");
        assert!(other.append(&line(2)).expect_err("locked").contains("another process"));
        drop(one);
        other.append(&line(2)).expect("free again");
    }
}
