//! `spanmill dashboards`: dashboards for Grafana and rules for Prometheus.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::core::model::text::ShownAs;
use crate::tools::dashboards::files;

/// Where to put them.
#[derive(Debug, clap::Args)]
pub struct DashboardsArgs {
    /// The folder to write the files to; it is created if it is missing. Without one, the files are only listed.
    #[arg(value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; check the path and its permissions", ShownAs(.path.display()))]
pub struct DashboardsError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the files, and lists them.
///
/// # Errors
/// When a file, the folder or `out` cannot be written.
pub fn run(args: &DashboardsArgs, out: &mut dyn Write) -> Result<(), DashboardsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DashboardsError { path, source }
    };
    if let Some(directory) = &args.directory {
        std::fs::create_dir_all(directory).map_err(failed(directory))?;
    }
    for file in files() {
        if let Some(directory) = &args.directory {
            let path = directory.join(file.name);
            std::fs::write(&path, &file.text).map_err(failed(&path))?;
        }
        writeln!(out, "{:32} {}", file.name, file.purpose).map_err(failed(Path::new("standard output")))?;
    }
    Ok(())
}
