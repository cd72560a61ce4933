//! What happens to a spool when it is complete: it is turned into files, or compared with a server.

use std::path::PathBuf;

use super::diff::{self, DiffArgs, DiffError};
use super::sink::{Conversion, ConvertError, FileArgs, WINDOW, convert};
use crate::archive::compare::Report;
use crate::config::settings::RemoteWrite;

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

/// What has become of the spool.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Finished {
    /// As files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
    /// Beside the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<Report>,
    /// The same for people.
    #[serde(skip)]
    pub text: String,
}

/// Does with the complete spool `dirs` what the arguments say. `progress` is told how many of its samples have been read; the
/// spool is read once for files, and once for a comparison.
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
}
