//! Turns a spool into files that others read: a file per window and tenant.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::super::produce::duration;
use super::diff::DiffArgs;
use crate::core::model::Millis;
use crate::core::model::text::ShownAs;
use crate::core::settings::SINGLE_TENANT;
use crate::tools::archive::{Collected, FormatError, Series, Written, openmetrics, table, victoria};
use crate::tools::spool::{Reader, SpoolError};

/// The window of a file, and the time that a block of Prometheus covers: 2 hours.
pub const WINDOW: Millis = 7_200_000;

/// Where samples go besides remote write.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SinkArgs {
    /// Send no samples: store them in this directory, in crash-safe segments. They are converted or compared at the
    /// end, or later with `spanmill spool`
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// How long to retry writes to a full disk; then the run ends and reports what is missing
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub spool_patience: Duration,
    /// Into which files.
    #[command(flatten)]
    pub files: FileArgs,
}

/// Into which files.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FileArgs {
    /// Convert the samples to files of this format instead of sending them
    #[arg(long, value_name = "FORMAT", requires = "out")]
    pub convert: Option<Format>,
    /// Output directory; must not exist
    #[arg(long, value_name = "DIR", requires = "convert")]
    pub out: Option<PathBuf>,
}

/// What a spool can be turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Text for `promtool tsdb create-blocks-from openmetrics`.
    OpenMetrics,
    /// JSON lines for `/api/v1/import` of VictoriaMetrics.
    VictoriaMetrics,
    /// Parquet, for analysis.
    Parquet,
}

/// Why a spool cannot be turned into files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// There is something already where the files would go.
    #[error("{0}: exists already; use a new directory, or remove it")]
    Occupied(PathBuf),
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file or the directory.
        path: PathBuf,
        /// Why.
        source: FormatError,
    },
}

/// The result of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Conversion {
    /// Files written.
    pub files: u64,
    /// What is in them.
    pub written: Written,
    /// Samples that were in the spool more than once, because their step was sent again after a crash.
    pub repeated: u64,
}

// === impl SinkArgs ===

impl SinkArgs {
    /// The directory that keeps the samples of the run `id`: as the arguments ask, or else beside the files, or else in
    /// the working directory; `None` when they are to be sent.
    #[must_use]
    pub fn dir(&self, diff: &DiffArgs, id: &str) -> Option<PathBuf> {
        let beside = || self.files.out.as_deref().map(|out| beside(out, ".spool"));
        let here = || diff.url.is_some().then(|| PathBuf::from(format!("{id}.spool")));
        self.spool.clone().or_else(beside).or_else(here)
    }
}

// === impl Format ===

impl Format {
    /// Whether it can hold native histograms. With one that cannot, [`convert`] fails when it meets some.
    #[must_use]
    pub fn carries_native_histograms(self) -> bool {
        matches!(self, Self::Parquet)
    }

    /// How to use the files.
    #[must_use]
    pub fn what_next(self, out: &Path) -> String {
        let out = out.display();
        match self {
            Self::OpenMetrics => format!(
                "for file in {out}/*.openmetrics; do promtool tsdb create-blocks-from openmetrics $file \
                 PROMETHEUS_DATA_DIRECTORY; done"
            ),
            Self::VictoriaMetrics => {
                format!("for file in {out}/*.jsonl; do curl -T $file http://VICTORIA:8428/api/v1/import; done")
            }
            Self::Parquet => format!("duckdb -c \"SELECT metric, count(*) FROM '{out}/**/*.parquet' GROUP BY ALL\""),
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::OpenMetrics => "openmetrics",
            Self::VictoriaMetrics => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    fn write(self, series: &[Series], path: &Path) -> Result<Written, FormatError> {
        let mut out = BufWriter::new(File::create(path)?);
        let written = match self {
            Self::OpenMetrics => openmetrics::write(series, &mut out)?,
            Self::VictoriaMetrics => victoria::write(series, &mut out)?,
            Self::Parquet => table::write(series, &mut out)?,
        };
        out.flush()?;
        Ok(written)
    }
}

// === impl Conversion ===

impl Conversion {
    /// The same as text.
    #[must_use]
    pub fn text(&self, format: Format, out: &Path) -> String {
        let w = &self.written;
        let mut text = format!(
            "{} files in {}: {} samples, {} exemplars; {} resent samples are counted once\n",
            self.files,
            ShownAs(out.display()),
            w.samples,
            w.exemplars,
            self.repeated
        );
        if w.markers_left + w.exemplars_left > 0 {
            let (markers, exemplars) = (w.markers_left, w.exemplars_left);
            text.push_str(&format!("not in this format: {markers} stale markers, {exemplars} exemplars\n"));
        }
        if self.files == 0 {
            return text + "no samples, so no files were written\n";
        }
        text + &format!("next: {}\n", format.what_next(out))
    }
}

/// Writes everything in the spool `dirs` to files of `format` below `out`, which must not be there or be empty: one per
/// window of `width` and tenant. Nothing is at `out` before all is written. `progress` is called with how many samples
/// are done.
///
/// # Errors
/// When the spool cannot be read or contradicts itself, when the format cannot carry its series, or files cannot be
/// written.
pub fn convert(
    dirs: &[PathBuf],
    format: Format,
    out: &Path,
    width: Millis,
    progress: &mut dyn FnMut(u64),
) -> Result<Conversion, ConvertError> {
    vacant(out)?;
    let reader = Reader::open(dirs, width)?;
    let part = beside(out, ".part");
    let failed = |source: io::Error| ConvertError::Write { path: part.clone(), source: source.into() };
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(failed)?;
    }
    std::fs::create_dir_all(&part).map_err(failed)?;
    let mut done = Conversion::default();
    reader.windows(|from, window| {
        done.repeated += window.repeated;
        let samples = window.samples();
        write_window(format, &part, from, &window, &mut done)?;
        progress(samples);
        Ok::<(), ConvertError>(())
    })?;
    std::fs::rename(&part, out).map_err(failed)?;
    Ok(done)
}

/// Checks that nothing is at `out`.
///
/// # Errors
/// When something is there.
pub(super) fn vacant(out: &Path) -> Result<(), ConvertError> {
    // Removing fails, as it should, for everything but an empty directory.
    if out.exists() && std::fs::remove_dir(out).is_err() {
        return Err(ConvertError::Occupied(out.to_owned()));
    }
    Ok(())
}

/// A path beside `out`.
fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    out.with_file_name(name)
}

fn write_window(
    format: Format,
    dir: &Path,
    from: Millis,
    window: &Collected,
    done: &mut Conversion,
) -> Result<(), ConvertError> {
    for series in window.series.chunk_by(|a, b| a.tenant == b.tenant) {
        let dir = series.first().map_or_else(|| dir.to_owned(), |one| dir.join(tenant_dir(&one.tenant)));
        let path = dir.join(format!("{}.{}", name(from), format.suffix()));
        let made = std::fs::create_dir_all(&dir).map_err(FormatError::from);
        let written = made.and_then(|()| format.write(series, &path));
        done.written += written.map_err(|source| ConvertError::Write { path, source })?;
        done.files += 1;
    }
    Ok(())
}

/// The directory of a tenant: none where there are no tenants. Characters that a file system may not accept are
/// percent-encoded as in a URL.
fn tenant_dir(tenant: &str) -> String {
    if tenant == SINGLE_TENANT {
        return String::new();
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let signs = tenant.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") });
    format!("tenant={}", signs.collect::<String>())
}

/// A time as a file name that sorts.
fn name(at: Millis) -> String {
    Timestamp::from_millisecond(at)
        .map_or_else(|_| at.to_string(), |time| time.strftime("%Y-%m-%dT%H%M%S%.fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_tenants_cannot_leave_the_directory() {
        assert_eq!(name(1_700_000_000_000), "2023-11-14T221320Z");
        assert_eq!(name(1_700_000_000_500), "2023-11-14T221320.5Z");
        assert_eq!(tenant_dir("../a b"), "tenant=%2E%2E%2Fa%20b");
        assert_eq!(tenant_dir(SINGLE_TENANT), "");
    }
}
