//! Files that are read once, and whether their content has changed since.
//!
//! A change counts once the files look the same twice: a certificate and its key are replaced one after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Some files.
#[derive(Debug)]
pub(crate) struct Changes {
    all: BTreeMap<PathBuf, Watched>,
    looked: Instant,
}

/// The content of a file at several moments; `None` while it is empty or cannot be read.
#[derive(Debug, Default, Clone, Copy)]
struct Watched {
    /// When it was read.
    used: Option<blake3::Hash>,
    /// At the last look, and at the one before.
    found: Option<blake3::Hash>,
    before: Option<blake3::Hash>,
    /// What could not be used.
    refused: Option<blake3::Hash>,
}

fn content(path: &Path) -> Option<blake3::Hash> {
    std::fs::read(path).ok().filter(|bytes| !bytes.is_empty()).map(|bytes| blake3::hash(&bytes))
}

// === impl Watched ===

impl Watched {
    fn of(path: &Path) -> Self {
        let used = content(path);
        Self { used, found: used, before: used, refused: None }
    }

    fn look(&mut self, path: &Path) {
        (self.before, self.found) = (self.found, content(path));
    }

    fn is_settled(&self) -> bool {
        self.found == self.before && (self.found.is_some() || self.used.is_none())
    }

    fn is_new(&self) -> bool {
        self.found != self.used
    }
}

// === impl Changes ===

impl Changes {
    /// Files that are about to be read.
    pub(crate) fn new(paths: impl IntoIterator<Item = PathBuf>, present: Instant) -> Self {
        let watched = |path: PathBuf| (path.clone(), Watched::of(&path));
        Self { all: paths.into_iter().map(watched).collect(), looked: present }
    }

    /// The files that have other content now, once all have settled and have not been [refused](Self::refuse) like that.
    pub(crate) fn look(&mut self, present: Instant) -> Option<Vec<PathBuf>> {
        if present.saturating_duration_since(self.looked) < EVERY {
            return None;
        }
        self.looked = present;
        self.all.iter_mut().for_each(|(path, watched)| watched.look(path));
        let changed = self.all.iter().filter(|(_, watched)| watched.is_new());
        let fresh = self.all.values().any(|watched| watched.is_new() && watched.found != watched.refused);
        let settled = self.all.values().all(Watched::is_settled);
        (fresh && settled).then(|| changed.map(|(path, _)| path.clone()).collect())
    }

    /// The present content is used from now on.
    pub(crate) fn take(&mut self) {
        self.all.values_mut().for_each(|watched| watched.used = watched.found);
    }

    /// The present content cannot be used.
    pub(crate) fn refuse(&mut self) {
        self.all.values_mut().for_each(|watched| watched.refused = watched.found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_change_are_told_once_when_all_have_settled_and_again_when_what_was_refused_changes() {
        let dir = tempfile::TempDir::with_prefix("spanmill-test-").expect("a directory");
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("a file");
        write(&cert, "1");
        write(&key, "1");
        let mut present = Instant::now();
        let mut changes = Changes::new([cert.clone(), key.clone(), dir.path().join("absent")], present);
        let mut look = |changes: &mut Changes| {
            present += EVERY;
            changes.look(present)
        };
        assert_eq!(look(&mut changes), None);
        write(&cert, "2");
        assert_eq!(look(&mut changes), None, "the other one may follow");
        std::fs::remove_file(&key).expect("it was there");
        assert_eq!([look(&mut changes), look(&mut changes)], [None, None], "it is being replaced");
        write(&key, "2");
        assert_eq!(look(&mut changes), None);
        let both = Some(vec![cert.clone(), key.clone()]);
        assert_eq!(look(&mut changes), both);
        changes.refuse();
        assert_eq!(look(&mut changes), None, "nothing has changed since");
        write(&key, "3");
        assert_eq!([look(&mut changes), look(&mut changes)], [None, both]);
        changes.take();
        assert_eq!(look(&mut changes), None);
    }
}
