//! `spanmill import`: settings of Tempo or of the Collector as spanmill's, and the result for each key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::USAGE;
use crate::core::model::text::{Shown, ShownAs};
use crate::tools::import::{Imported, Input, Product, Request, import};

/// The arguments of `spanmill import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// Configuration file of Tempo or of the Collector, values of a Helm chart, or a Kubernetes object that contains
    /// one.
    pub file: PathBuf,
    /// Source of the configuration, if it cannot be detected.
    #[arg(long, value_name = "WHOSE")]
    pub from: Option<Whose>,
    /// Tempo's file with settings per tenant.
    #[arg(long, value_name = "FILE")]
    pub overrides_file: Option<PathBuf>,
    /// Output file of the configuration; the report then goes to standard output, otherwise to standard error.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Output file of the settings per tenant; without it, they follow the configuration as comments.
    #[arg(long, value_name = "FILE")]
    pub overrides_output: Option<PathBuf>,
    /// Overwrite existing files.
    #[arg(long)]
    pub force: bool,
}

/// Source of the configuration.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Whose {
    /// Grafana Tempo.
    Tempo,
    /// The OpenTelemetry Collector.
    Collector,
}

/// A stream, and whether it shows colors.
pub struct Stream<'a> {
    /// Receives the report.
    pub to: &'a mut dyn Write,
    /// Whether it is a terminal that wants colors.
    pub colors: bool,
}

/// A file that will be written.
struct Output<'a> {
    path: &'a Path,
    file: File,
    /// It was not there before.
    fresh: bool,
}

/// Imports. Returns the exit code: 0 even if something was refused, which the list reports; 64 if the input cannot be
/// read, or a file that is there would be lost.
///
/// # Errors
/// Those of writing.
pub fn run(args: &ImportArgs, out: &mut Stream<'_>, err: &mut Stream<'_>) -> io::Result<u8> {
    let imported = match read(args) {
        Ok(imported) => imported,
        Err(problems) => {
            for problem in problems {
                writeln!(err.to, "{}", Shown(&problem))?;
            }
            return Ok(USAGE);
        }
    };
    let overrides = imported.overrides.as_ref().and(args.overrides_output.as_deref());
    let outputs = match open(args, args.output.as_deref(), overrides) {
        Ok(outputs) => outputs,
        Err(problem) => {
            writeln!(err.to, "{}", Shown(&problem))?;
            return Ok(USAGE);
        }
    };
    let mut config = imported.config.clone();
    if let (Some(overrides), None) = (&imported.overrides, &args.overrides_output) {
        config.push('\n');
        for line in overrides.lines() {
            config.push_str(&format!("# {line}\n"));
        }
    }
    let [config_to, overrides_to] = outputs;
    if let (Some(output), Some(overrides)) = (overrides_to, &imported.overrides) {
        output.write(overrides)?;
    }
    match config_to {
        Some(output) => {
            output.write(&config)?;
            out.to.write_all(imported.render_list(out.colors).as_bytes())?;
        }
        None => {
            out.to.write_all(config.as_bytes())?;
            err.to.write_all(imported.render_list(err.colors).as_bytes())?;
        }
    }
    Ok(0)
}

fn read(args: &ImportArgs) -> Result<Imported, Vec<String>> {
    let text = |path: &Path| {
        fs::read_to_string(path)
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
            Whose::Tempo => Product::Tempo,
            Whose::Collector => Product::Collector,
        }),
        overrides_path: overrides_path.as_deref(),
    })
}

/// Opens what will be written, all of it before anything is; a failure leaves no file behind.
fn open<'a>(
    args: &ImportArgs,
    config: Option<&'a Path>,
    overrides: Option<&'a Path>,
) -> Result<[Option<Output<'a>>; 2], String> {
    let config = config.map(|path| Output::open(path, args.force)).transpose()?;
    let overrides = match overrides.map(|path| Output::open(path, args.force)).transpose() {
        Ok(overrides) => overrides,
        Err(problem) => {
            // It is the configuration's own file if both have one name.
            let same = config.as_ref().is_some_and(|config| Some(config.path) == overrides);
            config.into_iter().for_each(Output::give_up);
            return Err(if same { both(overrides) } else { problem });
        }
    };
    let outputs = [config, overrides];
    let real = |path: &Path| path.canonicalize().ok();
    let written: Vec<Option<PathBuf>> = outputs.iter().flatten().map(|output| real(output.path)).collect();
    let read = [Some(args.file.as_path()), args.overrides_file.as_deref()];
    let problem = match written.as_slice() {
        [one, other] if one == other => Some(both(args.overrides_output.as_deref())),
        _ => read.into_iter().flatten().find(|path| written.contains(&real(path))).map(|path| {
            format!("{}: is an input file, so it is not overwritten; use another output file", path.display())
        }),
    };
    match problem {
        Some(problem) => {
            outputs.into_iter().flatten().for_each(Output::give_up);
            Err(problem)
        }
        None => Ok(outputs),
    }
}

fn both(path: Option<&Path>) -> String {
    let path = path.unwrap_or(Path::new("")).display();
    format!("{path}: the configuration and the settings of tenants need different files; use two names")
}

// === impl Stream ===

impl std::fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("colors", &self.colors).finish_non_exhaustive()
    }
}

// === impl Output ===

impl<'a> Output<'a> {
    fn open(path: &'a Path, force: bool) -> Result<Self, String> {
        let fresh = OpenOptions::new().write(true).create_new(true).open(path);
        let (file, fresh) = match fresh {
            Ok(file) => (Ok(file), true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && force => {
                (OpenOptions::new().write(true).open(path), false)
            }
            Err(error) => (Err(error), false),
        };
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{}: exists already; use another file, or --force", path.display())
            }
            _ => format!("{}: cannot be written: {error}; check the path", path.display()),
        })?;
        Ok(Self { path, file, fresh })
    }

    /// Removes a file that was created and is not needed.
    fn give_up(self) {
        if self.fresh {
            drop(fs::remove_file(self.path));
        }
    }

    fn write(mut self, text: &str) -> io::Result<()> {
        // A pipe or another special file has no length.
        let old = if self.file.metadata()?.is_file() { self.file.set_len(0) } else { Ok(()) };
        let written = old.and_then(|()| self.file.write_all(text.as_bytes()));
        let path = self.path.display();
        written.map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", ShownAs(path))))
    }
}
