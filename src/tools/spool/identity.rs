//! The run whose samples a spool keeps: the file `spool.json` beside its segments.
//!
//! Samples of two runs in one directory would be read as those of one. So a writer of a spool records first what it
//! reads and under which settings; another run's spool is refused. The lock on the file keeps a run that begins again
//! from removing data that another process is writing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::reader::segments;
use super::{PREFIX, SUFFIX};

/// The name of the file.
const NAME: &str = "spool.json";
const VERSION: u32 = 1;

/// What a run reads, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The version of this format.
    version: u32,
    /// The name of the run.
    pub run: String,
    /// What it reads, a line each.
    pub inputs: Vec<String>,
    /// The settings that affect samples and are not the defaults, as `key = value`.
    pub settings: Vec<String>,
    /// Whether the run has ended, so that nothing is missing.
    #[serde(default)]
    pub complete: bool,
}

/// A spool that belongs to a run of this process.
#[derive(Debug)]
pub struct Claim {
    dir: PathBuf,
    identity: Identity,
    /// Whether there was nothing in it.
    fresh: bool,
    /// Locked as long as it is open.
    file: File,
}

/// Why a run cannot have a spool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// It is another run's.
    #[error(
        "{dir}: keeps the samples of another run, which would be mixed with those of this one: {difference}; use \
         another directory with --spool, or remove this one"
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// The difference.
        difference: String,
    },
    /// The run that the segments belong to is unknown.
    #[error("{0}: keeps samples of an unknown run; use another directory with --spool, or remove this one")]
    Unknown(PathBuf),
    /// Another process is writing to it.
    #[error("{0}: another process writes to it; stop that, or use another directory with --spool")]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("{path}: cannot be used: {source}; use a directory that can be created and written to")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

// === impl Identity ===

impl Identity {
    /// That of the run `run`, which reads `inputs` under `settings`.
    #[must_use]
    pub fn new(run: String, inputs: Vec<String>, settings: Vec<String>) -> Self {
        Self { version: VERSION, run, inputs, settings, complete: false }
    }

    /// That of the spool in `dir`; `None` if it has no such file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>, ClaimError> {
        let path = dir.join(NAME);
        let failed = |source| ClaimError::File { path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// What is different in another one; `None` if both are of one run.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.run != other.run {
            return Some(format!("it is run {}, and this is run {}", other.run, self.run));
        }
        let only = |these: &[String], those: &[String]| these.iter().find(|line| !those.contains(line)).cloned();
        for (what, here, there) in
            [("inputs", &self.inputs, &other.inputs), ("settings", &self.settings, &other.settings)]
        {
            if here != there {
                let [here, there] =
                    [only(here, there), only(there, here)].map(|o| o.unwrap_or_else(|| "nothing".into()));
                return Some(format!("other {what}: it has `{there}` and this run has `{here}`"));
            }
        }
        None
    }
}

// === impl Claim ===

impl Claim {
    /// Takes the spool in `dir` for a run. Samples of the same run stay, or are removed if the run begins `anew`.
    ///
    /// # Errors
    /// When it is another run's, or cannot be written.
    pub fn take(dir: &Path, identity: Identity, anew: bool) -> Result<Self, ClaimError> {
        let failed = |source| ClaimError::File { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join(NAME);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => ClaimError::InUse(dir.to_owned()),
            TryLockError::Error(source) => ClaimError::File { path: path.clone(), source },
        })?;
        let (kept, there) = (segments(dir).map_err(failed)?, Identity::read(dir)?);
        match &there {
            Some(there) => {
                if let Some(difference) = identity.difference(there) {
                    return Err(ClaimError::Foreign { dir: dir.to_owned(), difference });
                }
            }
            // Segments of an unknown run are refused, even for a run that continues: it may have been refused here
            // before.
            None if !kept.is_empty() => {
                drop(std::fs::remove_file(&path));
                return Err(ClaimError::Unknown(dir.to_owned()));
            }
            None => {}
        }
        if anew {
            remove(&kept, dir)?;
        }
        // A repeated call for the same run has lost nothing.
        let complete = !anew && there.is_some_and(|there| there.complete);
        let identity = Identity { complete, ..identity };
        let mut claim = Self { dir: dir.to_owned(), identity, fresh: anew || kept.is_empty(), file };
        claim.write().map_err(failed)?;
        Ok(claim)
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether nothing was in it when it was taken.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Records that nothing is missing.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn complete(&mut self) -> Result<(), ClaimError> {
        self.identity.complete = true;
        self.write().map_err(|source| ClaimError::File { path: self.dir.clone(), source })
    }

    /// Removes the spool, and the directory if nothing else is in it.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(self) -> Result<(), ClaimError> {
        let failed = |source| ClaimError::File { path: self.dir.clone(), source };
        remove(&segments(&self.dir).map_err(failed)?, &self.dir)?;
        std::fs::remove_file(self.dir.join(NAME)).map_err(failed)?;
        // Other files in the directory stay, and the directory with them.
        drop(std::fs::remove_dir(&self.dir));
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.identity)?;
        // The old content is truncated last: the disk may be full.
        self.file.rewind()?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_all()
    }
}

/// Removes segments, unless another process is writing to one.
fn remove(segments: &[PathBuf], dir: &Path) -> Result<(), ClaimError> {
    for path in segments {
        let failed = |source| ClaimError::File { path: path.clone(), source };
        match File::open(path).map_err(failed)?.try_lock() {
            Ok(()) => std::fs::remove_file(path).map_err(failed)?,
            Err(TryLockError::WouldBlock) => return Err(ClaimError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    Ok(())
}

/// Whether a file is a segment, by its name.
pub(super) fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(run: &str, input: &str, setting: &str) -> Identity {
        Identity::new(run.to_owned(), vec![input.to_owned()], vec![setting.to_owned()])
    }

    fn segment(dir: &Path) -> PathBuf {
        dir.join(format!("{PREFIX}00000{SUFFIX}"))
    }

    #[test]
    fn a_spool_of_other_inputs_or_settings_is_refused_and_the_difference_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(Claim::take(dir.path(), identity("files", "a.json", "x = 1"), true).expect("it is new"));
        for (other, named) in [
            (identity("r1", "a.json", "x = 1"), "it is run files, and this is run r1"),
            (identity("files", "b.json", "x = 1"), "other inputs: it has `a.json` and this run has `b.json`"),
            (identity("files", "a.json", "x = 2"), "other settings: it has `x = 1` and this run has `x = 2`"),
        ] {
            let error = Claim::take(dir.path(), other, true).expect_err("another run's").to_string();
            assert!(error.contains(named) && error.contains("remove this one"), "{error}");
        }
    }

    #[test]
    fn the_same_run_begins_anew_or_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let take = |anew| Claim::take(dir.path(), identity("r", "a", "x"), anew).expect("its own");
        assert!(take(true).is_fresh());
        std::fs::write(segment(dir.path()), b"samples").expect("a file");
        assert!(!take(false).is_fresh());
        assert!(segment(dir.path()).exists(), "what is there stays");
        assert!(take(true).is_fresh());
        assert!(!segment(dir.path()).exists(), "it begins anew");
    }

    #[test]
    fn a_complete_run_that_is_asked_again_stays_complete_until_it_begins_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let take = |anew| Claim::take(dir.path(), identity("r", "a", "x"), anew).expect("its own");
        let is_complete = || Identity::read(dir.path()).expect("readable").is_some_and(|identity| identity.complete);
        take(true).complete().expect("it can be written");
        drop(take(false));
        assert!(is_complete());
        drop(take(true));
        assert!(!is_complete());
    }

    #[test]
    fn segments_that_nobody_has_claimed_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(segment(dir.path()), b"samples").expect("a file");
        // A run that was refused once continues the second time.
        for anew in [true, false] {
            let unknown = Claim::take(dir.path(), identity("r", "a", "x"), anew);
            assert!(matches!(unknown, Err(ClaimError::Unknown(_))), "{unknown:?}");
            assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing is left behind");
        }
    }

    #[test]
    fn what_another_process_writes_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Claim::take(dir.path(), identity("r", "a", "x"), true).expect("it is new");
        let second = Claim::take(dir.path(), identity("r", "a", "x"), true);
        assert!(matches!(second, Err(ClaimError::InUse(_))), "{second:?}");
        drop(held);
        let writer = File::create(segment(dir.path())).expect("a file");
        writer.lock().expect("no other process has it");
        let third = Claim::take(dir.path(), identity("r", "a", "x"), true);
        assert!(matches!(third, Err(ClaimError::InUse(_))), "{third:?}");
    }

    #[test]
    fn a_spool_that_is_removed_leaves_what_is_not_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("a.spool");
        let mut claim = Claim::take(&inner, identity("r", "a", "x"), true).expect("it is new");
        claim.complete().expect("it can be written");
        assert!(Identity::read(&inner).expect("readable").is_some_and(|identity| identity.complete));
        std::fs::write(segment(&inner), b"samples").expect("a file");
        claim.remove().expect("no other process has it");
        assert!(!inner.exists());
        let claim = Claim::take(&inner, identity("r", "a", "x"), true).expect("it is new");
        std::fs::write(inner.join("notes"), b"mine").expect("a file");
        claim.remove().expect("no other process has it");
        assert_eq!(std::fs::read_dir(&inner).expect("a directory").count(), 1);
    }
}
