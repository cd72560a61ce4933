//! Exactness under chaos: real workers on a real cluster of three Kafka brokers, with everything going wrong, and a
//! receiver that checks every sample.
//!
//! ```sh
//! tests/run --only chaos                                       # the short one, with everything that it needs
//! cargo test --features real-servers,sabotage --test chaos -- --seconds 300 --seed 7 --workers 3
//! cargo test --features real-servers,sabotage --test chaos -- --compare        # determinism, byte for byte
//! cargo test --features real-servers,sabotage --test chaos -- --sabotage all   # each rule is kept, and is needed
//! ```
//!
//! Without the feature `sabotage` no clock is set wrong.
//!
//! `TEST_KAFKA_JARS` names the jars of Kafka; `tests/run --only setup` says where it puts them. The seed decides the
//! load and what goes wrong when (`--plan` prints it), so a run can be repeated as far as two machines can do the same.
//! The exit code is 1 when something is not exact; the logs are kept then. So it is when something did not come that a
//! run of this length must have: see [`schedule`]. Nor may a trouble last for ever: a worker whose clock is wrong has
//! to report it, and while a tenant is refused, every series of the others has to continue.
//!
//! Journals lose no end here. A worker refuses a journal that did, until an operator restores it; that is in
//! `tests/real/ends.rs` and `tests/real/journals.rs`.
//!
//! ```text
//! 3 × produce, a tenant each ───────────▶ 3 brokers ◀── kill -9, SIGTERM, SIGSTOP; all at once, and deltas lose their end
//!                                            ▲            leaders move
//!               links: delay, cut, refuse, hold back
//!                                            ▼
//!  kill -9, SIGTERM, SIGSTOP, more ──▶ N × spanmill run ── link ──▶ receiver: 4xx, 5xx, resets, silence, for all tenants
//!  of them, clocks an hour off                                        or one; checks all
//! ```
#![allow(clippy::panic, clippy::print_stdout, reason = "tests and their helpers fail by panicking")]
#![allow(unreachable_pub, reason = "a test has no outside")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock and the real environment")]

mod args;
mod check;
mod cluster;
mod compare;
mod controls;
mod driver;
mod fleet;
mod leaders;
mod process;
mod proxy;
mod report;
mod rogue;
mod run;
mod samples;
mod schedule;
#[path = "../support/servers/mod.rs"]
#[allow(dead_code, reason = "shared with the tests that need more of it")]
mod servers;
mod settings;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser as _;

use args::Args;

fn main() -> ExitCode {
    let mut args = Args::parse();
    if let Some(config) = &args.rogue {
        rogue::run(config);
    }
    let seed = *args.seed.get_or_insert_with(|| wall_clock().unsigned_abs() % 1_000_000);
    if args.sabotage.is_some() && !cfg!(feature = "sabotage") {
        println!("--sabotage needs workers that can be sabotaged: add --features real-servers,sabotage");
        return ExitCode::from(2);
    }
    if args.plan {
        schedule::plan(seed, args.chaos(), args.cast()).iter().for_each(|event| println!("{event}"));
        println!("promised: {:?}", schedule::promised(args.chaos(), args.cast()));
        return ExitCode::SUCCESS;
    }
    println!("seed {seed}");
    process::end_together();
    if args.compare {
        let comparison = compare::compare(&args);
        println!("\n{comparison}");
        write(&args, &comparison);
        return verdict(comparison.violations.is_empty());
    }
    if let Some(rules) = &args.sabotage {
        let controls = controls::run(&args, rules);
        println!("\n{controls}");
        write(&args, &controls);
        return verdict(controls.are_good());
    }
    let report = run::chaos(&args);
    println!("\n{report}");
    write(&args, &report);
    verdict(report.violations.is_empty())
}

fn verdict(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes a report to where it was asked for.
fn write(args: &Args, report: &impl serde::Serialize) {
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(report).expect("a report is JSON");
        std::fs::write(path, json).expect("the report can be written");
    }
}

/// Milliseconds since the epoch.
pub fn wall_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as i64
}
