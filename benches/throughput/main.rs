//! What a worker costs on a real Kafka, beside a consumer in the same run that only reads.
//!
//! ```sh
//! export TEST_KAFKA_JARS=...                       # tests/run --only setup says where it puts them
//! cargo bench --bench throughput -- reference      # five runs of the reference load
//! cargo bench --bench throughput -- --help         # the other experiments
//! ```
//!
//! Each experiment starts a broker, produces its load with `spanmill produce`, and lets its subjects read the same topic from
//! the beginning, each in a group of its own and in turns, so that a noisy neighbor meets all of them. A subject is a child
//! process; its CPU time, its threads and its memory are what Linux says of it at the moment when it has read everything.
//! Standard output gets one line of JSON per run, and one with the medians of each subject; standard error tells how far it is.
//!
//! ```text
//! spanmill produce ──▶ Kafka ──▶ reader: polls, adds up all bytes
//!                        └─────▶ N × spanmill run ──▶ a receiver that stores nothing
//! ```
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints, and fails by panicking"
)]
#![allow(clippy::expect_used, unreachable_pub, reason = "a benchmark has no outside")]
#![allow(clippy::disallowed_methods, reason = "a benchmark meets the real clock and the real environment")]

mod args;
mod experiments;
mod load;
mod measure;
mod reader;
mod report;
mod sink;
mod system;
mod worker;

#[path = "../../tests/support/servers/mod.rs"]
#[allow(dead_code, reason = "shared with the tests that need more of it")]
mod servers;

use clap::Parser as _;

use args::Args;

fn main() {
    let args = Args::parse();
    if let Some(job) = &args.read {
        reader::run(job, &args.property);
        return;
    }
    for experiment in args.experiments() {
        measure::run(&args, experiment);
    }
}
