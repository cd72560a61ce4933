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
        assert!(spanmill::core::journal::sabotage::switch_off(&rule), "SABOTAGE={rule}: unknown rule");
    }
    if let Ok(ahead) = std::env::var("SABOTAGE_CLOCK") {
        let parsed = ahead.parse();
        assert!(parsed.is_ok(), "SABOTAGE_CLOCK={ahead}: not a number of milliseconds");
        parsed.into_iter().for_each(spanmill::worker::kafka::broker_clock::set_clock);
    }
}
