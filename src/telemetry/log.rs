//! Logs: to standard error, as text or JSON, filtered.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::settings::LogFormat;

/// Libraries that talk a lot. What the user says about them wins.
const QUIET: &str = "hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,h2=warn,aws_config=warn,\
    aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,aws_sdk_sts=warn,aws_sigv4=warn,librdkafka=warn,rdkafka=warn";

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter cannot be parsed.
    #[error(
        "log.level: {filter:?} is not a filter ({source}); write a level such as info, or warn,spanmill::worker=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// A word that is no level and names no target.
    #[error("log.level: {0:?} is not a level; use off, error, warn, info, debug or trace, or target=level")]
    Level(String),
    /// Logs have been set up before.
    #[error("logs are set up already: {0}")]
    Again(#[from] tracing_subscriber::util::TryInitError),
}

/// Parses `log.level`.
///
/// # Errors
/// When it is not a filter. A lone word must be a level, so that a typing error does not silence everything.
pub fn filter(level: &str) -> Result<EnvFilter, LogError> {
    for word in level.split(',').map(str::trim).filter(|w| !w.is_empty() && !w.contains(['=', ':', '['])) {
        if word.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(LogError::Level(word.to_owned()));
        }
    }
    EnvFilter::try_new(format!("{QUIET},{level}"))
        .map_err(|source| LogError::Filter { filter: level.to_owned(), source })
}

/// Sets up logs for the process, which go to `writer`: standard error in the end.
///
/// # Errors
/// When the filter is bad, or logs are set up already.
pub fn init<W>(level: &str, format: LogFormat, writer: W) -> Result<(), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(writer)
        // Whoever reads the log may go away; complaining about that on the same pipe would panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_filters() {
        for good in ["info", "warn,spanmill::worker=debug", "off", "spanmill=trace", "debug,hyper=debug", ""] {
            assert!(filter(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_typing_error_does_not_silence_everything() {
        assert!(matches!(filter("inof"), Err(LogError::Level(w)) if w == "inof"));
        assert!(matches!(filter("warn,spanmill=lots"), Err(LogError::Filter { .. })));
    }

    #[test]
    fn what_the_user_says_about_a_library_wins() {
        let said = filter("info,hyper=trace").expect("legal").to_string();
        assert!(said.contains("hyper=trace") && !said.contains("hyper=warn"), "{said}");
        assert!(said.contains("rustls=warn"), "{said}");
    }
}
