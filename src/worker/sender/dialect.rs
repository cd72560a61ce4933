//! Which version of remote write is used for an endpoint.
//!
//! `remote_write.protocol: auto` probes an endpoint with a request in 2.0 that holds no series, so a receiver that does
//! not support it loses nothing. Receivers of 2.0 report in headers what they have written; one of 1.0 decodes a
//! request in 2.0 to nothing and answers 2xx without these headers, so such an answer is no success. The supported
//! version is remembered; an endpoint of 1.0 is probed again from time to time, because it may have been upgraded.
//!
//! A batch is kept in the form of 1.0 and is translated for each attempt, so the version may change while a request is
//! retried.
#![allow(clippy::disallowed_methods, reason = "when to ask again is a matter of the clock")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::settings::Protocol;
use crate::core::remotewrite::v2;

use super::client::{Answer, Client, Failure};

/// How long an endpoint that does not support 2.0 is not probed again.
const AGAIN: Duration = Duration::from_secs(3_600);
/// The same for one that has not shown yet whether it accepts it.
const SOON: Duration = Duration::from_secs(10);

/// A version of remote write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Version {
    /// 1.0
    #[default]
    First,
    /// 2.0
    Second,
    /// OTLP over HTTP, which is no remote write.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
}

/// What one endpoint supports.
#[derive(Debug)]
pub(super) struct Dialect {
    wanted: Protocol,
    state: Mutex<State>,
    /// Allows one probe at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    version: Version,
    /// The earliest time of the next probe; `None`: at once.
    ask_at: Option<Instant>,
    /// The version that was logged.
    said: Option<Version>,
}

/// The meaning of the answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Takes,
    Declines,
    Nothing,
}

// === impl Dialect ===

impl Dialect {
    pub(super) fn new(wanted: Protocol) -> Self {
        Self { wanted, state: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// The version to send in now. Probes the endpoint if it is time.
    pub(super) async fn version(&self, client: &Client, tenant: &str) -> Version {
        match self.wanted {
            Protocol::V1 => return Version::First,
            Protocol::V2 => return Version::Second,
            Protocol::Auto => {}
        }
        if self.is_time()
            && let Ok(_asking) = self.asking.try_lock()
        {
            let answer = client.post(tenant, &v2::probe(), 0, Version::Second).await;
            self.learn(heard(&answer), &client.shown());
        }
        self.state().version
    }

    /// Whether the endpoint is known to take 1.0 only.
    pub(super) fn is_first_only(&self) -> bool {
        match self.wanted {
            Protocol::V1 => true,
            Protocol::V2 => false,
            Protocol::Auto => self.state().said == Some(Version::First),
        }
    }

    /// In which version samples are sent at the moment.
    pub(super) fn current(&self) -> Version {
        match self.wanted {
            Protocol::V1 => Version::First,
            Protocol::V2 => Version::Second,
            Protocol::Auto => self.state().version,
        }
    }

    /// An answer to samples has come. Returns whether they must be sent again in 1.0, and at once: the endpoint does
    /// not take 2.0.
    pub(super) fn falls_back(&self, answer: &Result<Answer, Failure>, url: &str) -> bool {
        let Ok(answer) = answer else { return false };
        if self.wanted != Protocol::Auto {
            return false;
        }
        match answer.version {
            Version::Second if answer.status == 415 || is_unread(answer) => {
                self.learn(Heard::Declines, url);
                true
            }
            Version::First if answer.status == 415 => {
                self.state().ask_at = None;
                false
            }
            _ => false,
        }
    }

    fn is_time(&self) -> bool {
        let state = self.state();
        state.version == Version::First && state.ask_at.is_none_or(|at| Instant::now() >= at)
    }

    fn learn(&self, heard: Heard, url: &str) {
        let mut state = self.state();
        let (version, pause) = match heard {
            Heard::Takes => (Version::Second, AGAIN),
            Heard::Declines => (Version::First, AGAIN),
            Heard::Nothing => {
                state.ask_at = Instant::now().checked_add(SOON);
                return;
            }
        };
        (state.version, state.ask_at) = (version, Instant::now().checked_add(pause));
        let news = state.said.replace(version) != Some(version);
        drop(state);
        match version {
            Version::Second if news => tracing::info!(url, "receiver accepts remote write 2.0"),
            Version::First if news => tracing::info!(url, "receiver does not accept remote write 2.0, sending 1.0"),
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a receiver of 1.0 has taken a request in 2.0 for an empty one.
pub(super) fn is_unread(answer: &Answer) -> bool {
    answer.version == Version::Second && (200..300).contains(&answer.status) && answer.written.is_none()
}

/// The answer, unless it is that of a receiver that has not understood the request.
pub(super) fn if_read(tried: Result<Answer, Failure>) -> Result<Answer, Failure> {
    tried.and_then(|answer| {
        let why = || format!("status {}, and no header reports what was written", answer.status);
        if is_unread(&answer) { Err(Failure::NotRead(why())) } else { Ok(answer) }
    })
}

pub(super) fn heard(answer: &Result<Answer, Failure>) -> Heard {
    match answer {
        Ok(answer) if (200..300).contains(&answer.status) && answer.written.is_some() => Heard::Takes,
        Ok(answer) if is_unread(answer) => Heard::Declines,
        // Refused because of its format. Any other refusal is about credentials, the address, or the moment.
        Ok(answer) if matches!(answer.status, 400 | 406 | 409 | 413 | 415 | 422 | 501) => Heard::Declines,
        _ => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::remotewrite::verdict::Written;

    fn answer(status: u16, written: Option<Written>) -> Result<Answer, Failure> {
        Ok(Answer { status, written, version: Version::Second, ..Answer::default() })
    }

    #[test]
    fn only_who_says_what_is_written_takes_2_0() {
        let written = Some(Written::default());
        for status in [200, 202, 204] {
            assert_eq!(heard(&answer(status, written)), Heard::Takes);
            assert_eq!(heard(&answer(status, None)), Heard::Declines);
        }
        for status in [400, 406, 409, 413, 415, 422, 501] {
            assert_eq!(heard(&answer(status, written)), Heard::Declines, "{status}");
        }
        for status in [302, 401, 403, 404, 405, 407, 408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(heard(&answer(status, None)), Heard::Nothing, "{status}");
        }
        assert_eq!(heard(&Err(Failure::NoAnswer(String::new()))), Heard::Nothing);
    }

    #[test]
    fn an_endpoint_falls_back_at_a_415_or_an_answer_that_does_not_say_what_is_written_and_at_nothing_else() {
        let auto = || Dialect {
            state: Mutex::new(State { version: Version::Second, ..State::default() }),
            ..Dialect::new(Protocol::Auto)
        };
        let written = Some(Written::default());
        for (status, written, expected) in [
            (415, None, true),
            (200, None, true),
            (204, None, true),
            (200, written, false),
            (204, written, false),
            (400, None, false),
            (401, None, false),
            (503, None, false),
        ] {
            let dialect = auto();
            assert_eq!(dialect.falls_back(&answer(status, written), "http://r/"), expected, "{status} {written:?}");
            let version = if expected { Version::First } else { Version::Second };
            assert_eq!(dialect.state().version, version, "{status} {written:?}");
            assert!(!Dialect::new(Protocol::V2).falls_back(&answer(status, written), "http://r/"), "the user decides");
        }
    }

    #[test]
    fn a_receiver_of_1_0_is_asked_again_later_and_one_that_refuses_1_0_at_once() {
        let dialect = Dialect::new(Protocol::Auto);
        assert!(dialect.is_time());
        dialect.learn(Heard::Nothing, "http://r/");
        assert!(!dialect.is_time());
        dialect.learn(Heard::Declines, "http://r/");
        assert!(!dialect.is_time());
        let refused = Ok(Answer { status: 415, ..Answer::default() });
        assert!(!dialect.falls_back(&refused, "http://r/"));
        assert!(dialect.is_time());
        dialect.learn(Heard::Takes, "http://r/");
        assert!(!dialect.is_time() && dialect.state().version == Version::Second);
    }
}
