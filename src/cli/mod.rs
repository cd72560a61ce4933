//! The command line.
//!
//! *In:* arguments. *Out:* text and an exit code: 0 done, 1 failed, 64 the configuration or the arguments are wrong.
//! *Owner:* `main`. *Next:* one module per command.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]
#![allow(clippy::disallowed_methods, reason = "an edge: commands run by the clock")]

pub mod check;
pub mod demo;
pub mod import;
pub mod plan;
pub mod produce;
pub mod replay;
mod run;
pub mod spool;
mod survey;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::settings::LogFormat;
use crate::telemetry;

/// The exit code for a wrong configuration or wrong arguments (`EX_USAGE`).
pub const USAGE: u8 = 64;

/// spanmill turns OTLP trace streams in Kafka into exact span metrics and service graphs in Prometheus.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work: read spans from Kafka, remote-write the series.
    Run(ConfigArgs),
    /// Make the metrics of spans that Kafka still holds, or that are in files, at their own times.
    Replay(Box<replay::ReplayArgs>),
    /// Check a configuration: name every problem, or print what is in force and where it comes from; or play scenarios,
    /// or say what a topic would cost.
    Check(check::CheckArgs),
    /// Send a synthetic load whose result is known exactly.
    Produce(Box<produce::ProduceArgs>),
    /// Show it all in one process, without a server: traffic, the worker, the service graph, exact totals.
    Demo(demo::DemoArgs),
    /// Turn the settings of Tempo's metrics-generator or of the Collector's connectors into spanmill's, and say key by
    /// key what became of them.
    Import(import::ImportArgs),
    /// Turn what a replay has kept into files, or compare it with what a server has.
    Spool(spool::SpoolArgs),
    /// Say what a load will take: workers, cores, memory, Kafka traffic, samples per second.
    Plan(Box<plan::PlanArgs>),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where the configuration comes from.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file; without one, defaults and environment variables decide.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one key, for example --set kafka.brokers=kafka:9092; may be repeated, and wins over file and environment.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Parses the arguments, runs the command and returns its exit code.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => run(cli.command),
        Err(help) => {
            // Help and version are answers, everything else is a wrong argument.
            let code = if help.use_stderr() { USAGE } else { 0 };
            if help.print().is_err() { ExitCode::FAILURE } else { ExitCode::from(code) }
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay(&args),
        Command::Check(args) => match check::run(&args, &mut std::io::stdout().lock()) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        Command::Produce(args) => produce(&args),
        Command::Demo(args) => demo(&args),
        Command::Import(args) => match import::run(&args, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())
        {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        Command::Spool(args) => match spool::run(&args, &mut std::io::stdout().lock()) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        Command::Plan(args) => match plan::run(&args, &mut std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "spanmill", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn replay(args: &replay::ReplayArgs) -> ExitCode {
    match run::stop_signal().map_err(|e| e.to_string()).and_then(|s| replay::run(args, &s).map_err(|e| e.to_string())) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn produce(args: &produce::ProduceArgs) -> ExitCode {
    let stop = match run::stop_signal() {
        Ok(stop) => stop,
        Err(error) => return fail(&error),
    };
    match produce::run(args, &stop, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn demo(args: &demo::DemoArgs) -> ExitCode {
    // A live picture and log lines do not share a terminal; `2>FILE` keeps the logs.
    let live = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if !live && let Err(error) = telemetry::log::init("warn", LogFormat::Text, std::io::stderr) {
        return fail(&error);
    }
    let stop = match run::stop_signal() {
        Ok(stop) => stop,
        Err(error) => return fail(&error),
    };
    match demo::run(args, &stop) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

/// Says why a command failed.
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("spanmill: {error}");
    ExitCode::FAILURE
}
