//! `spanmill import`: settings of Tempo or of the Collector as spanmill's, and what became of each key.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::USAGE;
use crate::import::{Imported, Input, Kind, Request, import};

/// The arguments of `spanmill import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The configuration file of Tempo or of the Collector.
    pub file: PathBuf,
    /// Whose it is, if that does not show.
    #[arg(long, value_name = "WHOSE")]
    pub from: Option<Whose>,
    /// Tempo's file with settings per tenant.
    #[arg(long, value_name = "FILE")]
    pub overrides_file: Option<PathBuf>,
    /// Where the configuration goes; the list goes to standard output then, otherwise to standard error.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where the settings of single tenants go; without it, they follow the configuration as comments.
    #[arg(long, value_name = "FILE")]
    pub overrides_output: Option<PathBuf>,
}

/// Whose settings.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Whose {
    /// Grafana Tempo.
    Tempo,
    /// The OpenTelemetry Collector.
    Collector,
}

/// Imports. Returns the exit code: 0 also if something was refused, the list says so; 64 if the input cannot be read.
///
/// # Errors
/// Those of writing.
pub fn run(args: &ImportArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let imported = match read(args) {
        Ok(imported) => imported,
        Err(problems) => {
            for problem in problems {
                writeln!(err, "{problem}")?;
            }
            return Ok(USAGE);
        }
    };
    let mut config = imported.config.clone();
    match (&imported.overrides, &args.overrides_output) {
        (Some(overrides), Some(path)) => write(path, overrides)?,
        (Some(overrides), None) => {
            config.push('\n');
            for line in overrides.lines() {
                config.push_str(&format!("# {line}\n"));
            }
        }
        (None, _) => {}
    }
    let list = imported.render_list();
    match &args.output {
        Some(path) => {
            write(path, &config)?;
            out.write_all(list.as_bytes())?;
        }
        None => {
            out.write_all(config.as_bytes())?;
            err.write_all(list.as_bytes())?;
        }
    }
    Ok(0)
}

fn read(args: &ImportArgs) -> Result<Imported, Vec<String>> {
    let text = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| vec![format!("{}: cannot be read: {error}; check the path", path.display())])
    };
    let file = text(&args.file)?;
    let overrides = args.overrides_file.as_deref().map(text).transpose()?;
    let name = args.file.to_string_lossy();
    let overrides_name = args.overrides_file.as_deref().map(Path::to_string_lossy).unwrap_or_default();
    let overrides_path = args.overrides_output.as_deref().map(Path::to_string_lossy);
    import(&Request {
        file: Input { name: &name, text: &file },
        overrides: overrides.as_deref().map(|text| Input { name: &overrides_name, text }),
        kind: args.from.map(|from| match from {
            Whose::Tempo => Kind::Tempo,
            Whose::Collector => Kind::Collector,
        }),
        overrides_path: overrides_path.as_deref(),
    })
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
}
