//! The command line.
//!
//! *In:* arguments. *Out:* text and an exit code: 0 done, 1 failed, 64 the configuration or the arguments are wrong.
//! *Owner:* `main`. *Next:* one module per command.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]
#![allow(clippy::disallowed_methods, reason = "an edge: commands run by the clock")]

pub mod check;
mod connect;
mod console;
pub mod dashboards;
pub mod demo;
pub mod doctor;
mod expected;
pub mod explain;
pub mod import;
pub mod plan;
mod prepare;
pub mod produce;
pub mod replay;
pub mod reshard;
pub mod rules;
mod run;
pub mod spool;
mod survey;
pub mod top;
pub mod topics;
pub mod ui;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::settings::LogFormat;
use crate::worker::telemetry;

/// The exit code for a wrong configuration or wrong arguments (`EX_USAGE`).
pub const USAGE: u8 = 64;

/// spanmill turns OTLP trace streams in Kafka into exact span metrics and service graphs in Prometheus.
#[derive(Debug, Parser)]
#[command(version, long_version = version(), about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a worker: read spans from Kafka and remote-write metrics.
    Run(run::RunArgs),
    /// Recompute metrics from spans in Kafka or in files, with their original timestamps.
    Replay(Box<replay::ReplayArgs>),
    /// Validate the configuration and print the effective values with their sources; optionally run scenarios or
    /// report the cardinality of a topic.
    Check(check::CheckArgs),
    /// Produce a synthetic load with a known expected result.
    Produce(Box<produce::ProduceArgs>),
    /// Run a self-contained demo: load, worker and receiver in one process.
    Demo(demo::DemoArgs),
    /// Serve the service map of running workers as a page, beside them: it joins none of their groups.
    Ui(Box<ui::UiArgs>),
    /// Convert a Tempo or Collector configuration and report the result for every key.
    Import(import::ImportArgs),
    /// Change the number of shards of a group whose workers are stopped: series continue, nothing is counted twice or lost.
    Reshard(reshard::ReshardArgs),
    /// Show how far the workers of a group are, by partition: owner, lag, stream time, journals, and what is wrong.
    Topics(topics::TopicsArgs),
    /// Show services, edges, partitions and series of running workers in the terminal, live: it joins none of their groups.
    Top(Box<top::TopArgs>),
    /// Examine brokers, topics, a sample of the records and receivers, and report what is wrong with a remedy. Changes nothing.
    Doctor(doctor::DoctorArgs),
    /// Explain what became of the spans of a trace: their series, their edges, and the setting that decided.
    Explain(Box<explain::ExplainArgs>),
    /// Convert the samples in spool directories to files, or compare them with a server.
    Spool(spool::SpoolArgs),
    /// Estimate the workers, cores, memory and traffic that a load needs.
    Plan(Box<plan::PlanArgs>),
    /// Write dashboards for Grafana and rules for Prometheus.
    Dashboards(dashboards::DashboardsArgs),
    /// Print alerting rules for Prometheus, or a dashboard for Grafana, for the service level objectives of the configuration.
    Rules(rules::RulesArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where the configuration comes from.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file; without one, defaults and environment variables apply.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, for example --set kafka.brokers=kafka:9092; repeatable, overrides file and environment.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// The version with what a bug report needs: the commit if it is known, and the build target.
fn version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let commit = match env!("MILL_BUILD_COMMIT") {
            "" => String::new(),
            commit => format!("\ncommit: {commit}"),
        };
        let [version, target, profile] =
            [env!("CARGO_PKG_VERSION"), env!("MILL_BUILD_TARGET"), env!("MILL_BUILD_PROFILE")];
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        format!("{version}{commit}\ntarget: {target}\nprofile: {profile}\nlibrdkafka: {librdkafka}")
    })
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
        Command::Check(args) => match check::run(&args, &mut console::out()) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        Command::Produce(args) => produce(&args),
        Command::Demo(args) => demo(&args),
        Command::Ui(args) => ui::run(&args),
        Command::Import(args) => imports(&args),
        Command::Reshard(args) => resharding(&args),
        Command::Topics(args) => topics(&args),
        Command::Top(args) => top(&args),
        Command::Doctor(args) => match doctor::run(&args, &mut console::out()) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        Command::Explain(args) => match explain::run(&args, &mut console::out()) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        Command::Spool(args) => match spool::run(&args, &mut console::out()) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        Command::Plan(args) => match plan::run(&args, &mut console::out()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Command::Dashboards(args) => match dashboards::run(&args, &mut console::out()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Command::Rules(args) => match rules::run(&args, &mut console::out()) {
            Ok(code) => ExitCode::from(code),
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
    match produce::run(args, &stop, &mut console::out()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = fail(&error);
            if let Some(remedy) = error.remedy(args) {
                console::say(&remedy);
            }
            code
        }
    }
}

fn resharding(args: &reshard::ReshardArgs) -> ExitCode {
    let stop = match run::stop_signal() {
        Ok(stop) => stop,
        Err(error) => return fail(&error),
    };
    match reshard::run(args, &stop, &mut console::out()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn topics(args: &topics::TopicsArgs) -> ExitCode {
    let stop = match run::stop_signal() {
        Ok(stop) => stop,
        Err(error) => return fail(&error),
    };
    match topics::run(args, &stop, &mut console::out()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn top(args: &top::TopArgs) -> ExitCode {
    match top::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn imports(args: &import::ImportArgs) -> ExitCode {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let colors = [out.is_terminal(), err.is_terminal()].map(|terminal| terminal && !plain);
    let imported = import::run(
        args,
        &mut import::Stream { to: &mut out, colors: colors[0] },
        &mut import::Stream { to: &mut err, colors: colors[1] },
    );
    drop(err);
    match imported {
        Ok(code) => ExitCode::from(code),
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

/// Prints why a command failed.
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    console::say(&format_args!("spanmill: {error}"));
    ExitCode::FAILURE
}
