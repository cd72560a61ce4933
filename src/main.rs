//! The `spanmill` program: parse, dispatch, exit code. Everything else is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    spanmill::cli::main(std::env::args_os())
}
