//! `spanmill check`: reports all problems of the settings, or the effective values, their sources and what looks odd;
//! or whether scenarios have their expected results under these settings; or what a topic would cost under them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::connect;
use super::expected::{self, ExpectedArgs};
use super::survey::{self, AgainstError};
use crate::config::settings::Secret;
use crate::config::{self, Loaded, Tenants, ValueOrigin, hints, load_from, render_effective};
use crate::core::model::text::{Shown, ShownAs};
use crate::tools::cases::{Case, CaseError, Failure, Owners};
use crate::worker::kafka;

/// Properties of Kafka that are paths.
const FILES: [&str; 5] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.crl.location", "ssl.key.location", "ssl.keystore.location"];

/// The exit code for settings that are wrong, `EX_USAGE` of sysexits.
const WRONG: u8 = 64;
/// The exit code for a scenario with another result.
const FAILED: u8 = 1;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration file, as with --config.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// Print only values that differ from the defaults.
    #[arg(long, conflicts_with_all = ["cases", "against"])]
    only_changed: bool,
    #[command(flatten)]
    config: super::ConfigArgs,
    /// Run these scenarios with the settings (in the language of tests/cases) and print failed expectations.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    cases: Vec<PathBuf>,
    /// Read a topic with these settings and report how many series its records produce, which labels cause them, and
    /// which span names the sanitizer would merge. Sends no samples and joins no group.
    #[arg(long, value_name = "TOPIC", conflicts_with = "cases")]
    against: Option<String>,
    /// Also check brokers and receivers: connectivity, topics, access rights, record keys, and whether the receiver
    /// would keep what a worker sends. Changes nothing.
    #[arg(long, conflicts_with_all = ["cases", "against", "only_changed"])]
    connect: bool,
    #[command(flatten)]
    expected: ExpectedArgs,
    /// Print the JSON Schema of the configuration file or of a file of overrides, for editors, and check nothing.
    #[arg(long, value_enum, value_name = "FILE", num_args = 0..=1, default_missing_value = "config",
          conflicts_with_all = ["cases", "against", "connect", "only_changed"])]
    schema: Option<SchemaOf>,
    /// Number of the latest records of the topic to read.
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "against")]
    records: u64,
}

/// The file that a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SchemaOf {
    /// The configuration file.
    Config,
    /// The file of overrides.
    Overrides,
}

/// Checks the settings, and runs the scenarios if there are any. Returns the exit code: 0 if all is well, 64 if the
/// settings are wrong, 1 if a scenario has another result or a server has other series.
///
/// # Errors
/// Only those of writing to `out`.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> io::Result<u8> {
    if let Some(of) = args.schema {
        let schema = if of == SchemaOf::Config { config::schema() } else { config::overrides_schema() };
        return out.write_all(schema.as_bytes()).map(|()| 0);
    }
    let file = args.file.as_deref().or(args.config.config.as_deref());
    let loaded = match load_from(file, &args.config.set) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(out, "{problems}")?;
            return Ok(WRONG);
        }
    };
    if let Err(error) = kafka::client::check(&loaded.config.kafka) {
        writeln!(out, "{error}")?;
        return Ok(WRONG);
    }
    if let Some(missing) = missing(&loaded) {
        writeln!(out, "{missing}")?;
        return Ok(WRONG);
    }
    if let Some(equal) = expected::compare(&args.expected, &loaded.config, out) {
        return Ok(if equal? { 0 } else { FAILED });
    }
    if args.connect {
        return Ok(if connect::connect(&loaded, out)? { 0 } else { FAILED });
    }
    if let Some(topic) = &args.against {
        return match survey::against(&loaded.tenants, topic, args.records, out) {
            Ok(()) => Ok(0),
            Err(AgainstError::Write(error)) => Err(error),
            Err(error) => {
                writeln!(out, "{error}")?;
                let code = if let AgainstError::Kafka(error) = &error { error.code() } else { None };
                if let Some(remedy) = kafka::client::unreachable(code, &loaded.config.kafka.brokers) {
                    writeln!(out, "{remedy}")?;
                }
                Ok(FAILED)
            }
        };
    }
    if args.cases.is_empty() {
        let hints = hints(&loaded.tenants);
        out.write_all(shown(loaded, args.only_changed).as_bytes())?;
        for (i, hint) in hints.iter().enumerate() {
            let blank = if i == 0 { "\n" } else { "" };
            writeln!(out, "{blank}hint: {hint}")?;
        }
        return Ok(0);
    }
    let mut good = true;
    for file in &args.cases {
        good &= play(file, &loaded.tenants, out)?;
    }
    Ok(if good { 0 } else { FAILED })
}

/// The files of Kafka's properties that cannot be read: librdkafka looks for them only where it speaks TLS. Those of receivers
/// are read with the configuration.
pub(super) fn missing(loaded: &Loaded) -> Option<String> {
    let named = |(key, value): (&String, &Secret)| {
        let path = value.reveal();
        let several = key == "ssl.ca.location" && path == "probe";
        let error = std::fs::File::open(path).err().filter(|_| FILES.contains(&&**key) && !several)?;
        let path = Shown(path);
        Some(format!("kafka.properties.{key}: cannot read {path}: {error}; check the path and its permissions"))
    };
    let found: Vec<String> = loaded.config.kafka.properties.iter().filter_map(named).collect();
    (!found.is_empty()).then(|| found.join("\n"))
}

/// The active settings, or only those that the configuration sets.
fn shown(mut loaded: Loaded, only_changed: bool) -> String {
    if only_changed {
        loaded.effective.retain(|one| one.origin != ValueOrigin::Default);
    }
    if loaded.effective.is_empty() && loaded.overridden.is_empty() {
        return "all values are defaults\n".to_owned();
    }
    render_effective(&loaded)
}

/// Runs one scenario; returns whether all its expectations hold.
fn play(file: &Path, tenants: &Tenants, out: &mut dyn Write) -> io::Result<bool> {
    let name = ShownAs(file.display());
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            writeln!(out, "{name}: cannot be read: {error}; check the path and its permissions")?;
            return Ok(false);
        }
    };
    let case = match Case::parse_over(&text, tenants) {
        Ok(case) => case,
        Err(CaseError { line, message }) => {
            writeln!(out, "{name}:{line}: {message}")?;
            return Ok(false);
        }
    };
    let report = case.run(Owners::One);
    for Failure { line, message } in &report.failures {
        writeln!(out, "{name}:{line}: {message}")?;
    }
    if report.checks == 0 {
        writeln!(out, "{name}: has no expectation; add a line such as `expect SERIES VALUE`")?;
    } else if report.failures.is_empty() {
        writeln!(out, "{name}: {} expectations met", report.checks)?;
    }
    Ok(report.checks > 0 && report.failures.is_empty())
}
