//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::experiments::Experiment;

/// What a worker costs on a real Kafka, beside a consumer that only reads
#[derive(Debug, Clone, Parser)]
#[command(name = "throughput")]
pub struct Args {
    /// What to measure; several are measured one after the other
    #[arg(value_enum, default_value = "reference")]
    experiment: Vec<Experiment>,
    /// How often each subject is measured
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// How many spans are read in a run, if not as many as the experiment says
    #[arg(long)]
    pub spans: Option<u64>,
    /// Only the cases with these names
    #[arg(long, value_name = "CASE")]
    pub only: Vec<String>,
    /// A setting for every worker, in addition to those of the experiment
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A librdkafka setting for every reader
    #[arg(long, value_name = "KEY=VALUE")]
    pub property: Vec<String>,
    /// Another worker with these settings beside the others, comma separated, to compare settings
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub also_worker: Vec<String>,
    /// Another reader with these librdkafka settings beside the others, comma separated
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub also_reader: Vec<String>,
    /// Another program beside the others, such as an earlier build
    #[arg(long, value_name = "FILE")]
    pub also_program: Vec<PathBuf>,
    /// The spanmill to measure, instead of the one that was built with this benchmark
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_spanmill"), hide_default_value = true)]
    pub program: PathBuf,
    /// Be a reader: BROKERS/TOPIC/RECORDS
    #[arg(long, value_name = "JOB", hide = true)]
    pub read: Option<String>,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

// === impl Args ===

impl Args {
    /// What to measure.
    pub fn experiments(&self) -> impl Iterator<Item = Experiment> + '_ {
        self.experiment.iter().copied()
    }
}
