//! The `spanmill` program: parse, dispatch, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    spanmill::cli::run(spanmill::cli::Cli::parse())
}
