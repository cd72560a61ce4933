//! Logs: to standard error, as text or JSON, filtered.
//!
//! Messages and fields contain foreign text: names, answers, errors. All of it goes through `Escaped` or `EscapedJson`,
//! so that an event is one line whatever it contains, and no control sequence reaches a terminal.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::settings::LogFormat;
use crate::core::model::text::{Shown, ShownLines};

/// Verbose libraries. The user's filter takes precedence.
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
        /// The problem.
        source: ParseError,
    },
    /// A word that is no level and names no target.
    #[error("log.level: {0:?} is not a level; use off, error, warn, info, debug or trace, or target=level")]
    Level(String),
    /// Logs have been set up before.
    #[error("logs are set up already: {0}")]
    Again(#[from] tracing_subscriber::util::TryInitError),
}

/// Formats message and fields on one line.
#[derive(Debug, Default)]
struct Escaped(DefaultFields);

/// Escapes what JSON lets pass.
#[derive(Debug)]
struct EscapedJson<W>(W);

impl<'w> FormatFields<'w> for Escaped {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        // Without colors: the colors of foreign text would look like those of the log.
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        write!(writer, "{}", Shown(&text))
    }
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for EscapedJson<W> {
    type Writer = EscapedJson<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        EscapedJson(self.0.make_writer())
    }
}

impl<W: Write> Write for EscapedJson<W> {
    /// An event is written in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(ShownLines(&String::from_utf8_lossy(event)).to_string().as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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
    subscriber(filter(level)?, format, writer, std::io::stderr().is_terminal()).try_init()?;
    Ok(())
}

fn subscriber<W>(filter: EnvFilter, format: LogFormat, writer: W, colors: bool) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // The reader of the log may close the pipe; reporting that on the same pipe would panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => {
            Box::new(builder.with_writer(writer).fmt_fields(Escaped::default()).with_ansi(colors).finish())
        }
        LogFormat::Json => Box::new(builder.with_writer(EscapedJson(writer)).json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Kept {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn an_event_is_one_line_and_gives_no_orders_whatever_others_have_put_into_it() {
        const EVIL: &str = "a\n2026-11-30T00:00:00Z ERROR spanmill: forged\r\u{1b}[2J\u{9b}1m\u{7f}\u{202e}\u{2028}b";
        let error = io::Error::other(EVIL);
        for format in [LogFormat::Text, LogFormat::Json] {
            let kept = Kept::default();
            let log = subscriber(filter("info").expect("a level"), format, kept.clone(), false);
            tracing::subscriber::with_default(log, || {
                tracing::warn!(tenant = EVIL, topic = %EVIL, names = ?[EVIL], %error, "{EVIL}");
                tracing::error!(error = &error as &dyn std::error::Error, "failed");
            });
            let text = String::from_utf8(kept.0.lock().expect("no panic").clone()).expect("UTF-8");
            assert_eq!(text.lines().count(), 2, "{text:?}");
            assert!(text.ends_with('\n') && text.contains("forged"), "{text:?}");
            let shown = text.lines().all(|line| line.chars().all(crate::core::model::text::shows_itself));
            assert!(shown, "{text:?}");
            if matches!(format, LogFormat::Json) {
                let first: serde_json::Value =
                    serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
                assert_eq!(first["tenant"], EVIL);
            }
        }
    }

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
