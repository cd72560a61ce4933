//! The `spanmill` program: parse, dispatch, exit code. Everything else is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "sabotage")]
    sabotage();
    spanmill::cli::main(std::env::args_os())
}

/// For `tests/chaos`, see `journal::sabotage`.
#[cfg(feature = "sabotage")]
#[expect(clippy::disallowed_methods, reason = "a build for one test")]
fn sabotage() {
    if let Ok(rule) = std::env::var("SABOTAGE") {
        assert!(spanmill::journal::sabotage::switch_off(&rule), "SABOTAGE={rule}: there is no such rule");
    }
}
