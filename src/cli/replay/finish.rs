//! What happens to a spool when it is complete: it is turned into files, or compared with a server.

use std::path::PathBuf;

use super::diff::{self, DiffArgs, DiffError};
use super::sink::{Conversion, ConvertError, FileArgs, WINDOW, convert};
use crate::config::settings::RemoteWrite;
use crate::core::model::text::{Shown, ShownAs};
use crate::tools::archive::compare::Report;
use crate::tools::spool::Claim;

/// Why the end of a run failed. The spool is complete all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError {
    /// It cannot be turned into files.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// It cannot be compared.
    #[error(transparent)]
    Diff(#[from] DiffError),
}

/// The result of the spool.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Finished {
    /// As files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
    /// Beside the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<Report>,
    /// Why the end of the run failed. The spool is complete all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The run of the spool, if something of it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// The spool, if it is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
    /// The same as text.
    #[serde(skip)]
    pub text: String,
}

/// Converts or compares the complete spool `dirs`, as the arguments ask. `progress` is called with how many of its
/// samples have been read; the spool is read once for files, and once for a comparison.
///
/// # Errors
/// When the spool cannot be read, files cannot be written, or the server does not answer.
pub fn finish(
    dirs: &[PathBuf],
    files: &FileArgs,
    diff: &DiffArgs,
    cfg: &RemoteWrite,
    progress: &mut dyn FnMut(u64),
) -> Result<Finished, FinishError> {
    let mut done = Finished::default();
    if let (Some(format), Some(out)) = (files.convert, &files.out) {
        let conversion = convert(dirs, format, out, WINDOW, progress)?;
        done.text.push_str(&conversion.text(format, out));
        done.conversion = Some(conversion);
    }
    if let Some(url) = &diff.url {
        let report = diff::diff(dirs, url, diff, cfg, progress)?;
        done.text.push_str(&diff::text(&report));
        done.diff = Some(report);
    }
    Ok(done)
}

// === impl Finished ===

impl Finished {
    /// Whether nothing has been compared, or everything is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.diff.as_ref().is_none_or(Report::is_equal)
    }

    /// Whether everything has been done, and what was compared is equal.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failed.is_none() && self.is_equal()
    }

    /// The result of a complete run, and what becomes of its spool. A spool that is neither `named` nor `shared` with
    /// other workers is removed as soon as it is not needed any more.
    pub(super) fn of(done: Result<Self, FinishError>, mut claim: Claim, (named, shared): (bool, bool)) -> Self {
        let mut done = done.unwrap_or_else(|error| Self { failed: Some(error.to_string()), ..Self::default() });
        let dir = claim.dir().to_owned();
        // Others have the rest of the samples: together they are read again.
        let needed = named || shared || !done.is_good();
        let left = if needed { claim.complete() } else { claim.remove() };
        if let Err(error) = left {
            done.failed.get_or_insert_with(|| error.to_string());
        }
        if let Some(why) = &done.failed {
            done.text.push_str(&format!("failed: {}\n", Shown(why)));
        }
        if needed {
            let shown = ShownAs(dir.display());
            done.text.push_str(&format!("the samples are stored in {shown}; `spanmill spool {shown}` reads them\n"));
            if shared {
                let more = "other workers had a part of this run: pass all of their spools at once";
                done.text.push_str(&format!("{more}, as in `spanmill spool {shown} THEIRS`\n"));
            }
            done.spool = Some(dir);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::spool::Identity;

    #[test]
    fn a_spool_that_nobody_has_named_goes_unless_other_workers_have_a_part_of_its_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let of = |name: &str, shared| {
            let spool = dir.path().join(name);
            let identity = Identity::new("r".to_owned(), vec!["a".to_owned()], Vec::new());
            let claim = Claim::take(&spool, identity, true).expect("it is new");
            (Finished::of(Ok(Finished::default()), claim, (false, shared)), spool)
        };
        let (alone, spool) = of("alone", false);
        assert!(alone.spool.is_none() && !spool.exists());
        let (part, spool) = of("part", true);
        assert!(part.text.contains("other workers had a part of this run"), "{}", part.text);
        assert_eq!(part.spool.as_deref(), Some(&*spool));
        assert!(Identity::read(&spool).expect("readable").is_some_and(|identity| identity.complete));
    }
}
