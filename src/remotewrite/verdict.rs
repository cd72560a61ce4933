//! What an answer means: a pure table from status codes to what happens next.
//!
//! *In:* a status code, a `Retry-After` header, what is known of earlier attempts. *Out:* a [`Verdict`]. *Never:* the
//! text of an answer: it is logged, not interpreted. *Next:* the lanes of `export` act on it.
//!
//! | status | fresh | unanswered before | resent |
//! |---|---|---|---|
//! | 2xx | acknowledged | acknowledged | acknowledged |
//! | 429, 5xx | retry | retry | retry |
//! | 400 | split | split | already there |
//! | 409 | split | already there | already there |
//! | 413, 422 | split | split | split |
//! | else | rejected | rejected | rejected |

use std::time::{Duration, SystemTime};

/// A receiver cannot ask for a longer pause than this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// What to do with a request after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Stored.
    Acknowledged,
    /// Send the same bytes again, not before `after` if the receiver said so.
    Retry {
        /// The pause that the receiver asks for, greater than zero.
        after: Option<Duration>,
    },
    /// Refused because of a part: halve it, and set aside what is still refused in the end.
    Split,
    /// Refused because it was stored before. A part may be new all the same, so it is halved a few times as well.
    AlreadyThere,
    /// Refused for good: sending it again, whole or in parts, cannot help.
    Rejected,
}

/// What is known about earlier attempts to deliver the same samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// They cannot have arrived.
    Fresh,
    /// An attempt of this very request got no answer; it may have arrived.
    Unanswered,
    /// The step may have been delivered before the task started.
    Resent,
}

/// Exponential back-off with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The upper end of the first pause.
    pub min: Duration,
    /// The upper end of every pause.
    pub max: Duration,
}

/// Judges one answer. `retry_after` is the header of that name: seconds or an HTTP date, which is compared with `now`.
#[must_use]
pub fn judge(status: u16, retry_after: Option<&str>, now: SystemTime, past: Past) -> Verdict {
    match (status, past) {
        (200..=299, _) => Verdict::Acknowledged,
        (429 | 500..=599, _) => Verdict::Retry { after: retry_after.and_then(|h| pause(h, now)) },
        (400, Past::Resent) | (409, Past::Resent | Past::Unanswered) => Verdict::AlreadyThere,
        (400 | 409 | 413 | 422, _) => Verdict::Split,
        _ => Verdict::Rejected,
    }
}

/// Under which reason refused samples are counted.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        400 | 409 | 422 => "bad_data",
        401 | 403 => "unauthorized",
        404 | 405 => "wrong_url",
        413 => "too_large",
        300..=399 => "redirect",
        _ => "other",
    }
}

/// What the operator can do about refused samples.
#[must_use]
pub fn remedy(status: u16) -> &'static str {
    match status {
        400 | 409 | 422 => "see the receiver's message; its limits or its out-of-order window may be too narrow",
        401 | 403 => "check remote_write.auth, remote_write.headers and the tenant",
        404 | 405 => "check the path of remote_write.url and that the receiver accepts remote write",
        413 => "lower remote_write.max_bytes",
        300..=399 => "set remote_write.url to the address that the receiver redirects to",
        415 => "the receiver must accept remote write 1.0 (application/x-protobuf, snappy)",
        _ => "see the receiver's message",
    }
}

fn pause(header: &str, now: SystemTime) -> Option<Duration> {
    let pause = match header.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(header.trim()).ok()?.duration_since(now).ok()?,
    };
    (!pause.is_zero()).then(|| pause.min(MAX_RETRY_AFTER))
}

// === impl Verdict ===

impl Verdict {
    /// How often one request may be halved on this verdict, in all its parts together. It bounds the requests that a
    /// receiver sees which refuses everything, and is enough to find several poisoned series among thousands.
    #[must_use]
    pub fn splits(self) -> u32 {
        match self {
            Self::Split => 128,
            Self::AlreadyThere => 16,
            Self::Acknowledged | Self::Retry { .. } | Self::Rejected => 0,
        }
    }
}

// === impl Backoff ===

impl Backoff {
    /// The pause before attempt `attempt` (the first retry is 1): uniform in 1 ms to `min * 2^(attempt-1)`, at most `max`.
    #[must_use]
    pub fn delay(self, attempt: u32, random: u64) -> Duration {
        let factor = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let top = self.min.saturating_mul(factor).min(self.max).as_micros().min(u128::from(u64::MAX));
        let scaled = (top * u128::from(random)) >> 64;
        Duration::from_micros(scaled as u64).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn every_answer_has_its_verdict() {
        use Past::{Fresh, Resent, Unanswered};
        let retry = Verdict::Retry { after: None };
        let table: &[(&[u16], [Verdict; 3])] = &[
            (&[200, 202, 204, 299], [Verdict::Acknowledged; 3]),
            (&[429, 500, 501, 502, 503, 504, 529, 599], [retry; 3]),
            (&[400], [Verdict::Split, Verdict::Split, Verdict::AlreadyThere]),
            (&[409], [Verdict::Split, Verdict::AlreadyThere, Verdict::AlreadyThere]),
            (&[413, 422], [Verdict::Split; 3]),
            (&[100, 301, 302, 307, 401, 403, 404, 405, 408, 415, 431, 499, 600], [Verdict::Rejected; 3]),
        ];
        for (statuses, verdicts) in table {
            for &status in *statuses {
                for (past, verdict) in [Fresh, Unanswered, Resent].into_iter().zip(verdicts) {
                    assert_eq!(judge(status, None, NOW, past), *verdict, "{status} {past:?}");
                }
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_unbounded() {
        let after = |h| match judge(503, Some(h), NOW, Past::Fresh) {
            Verdict::Retry { after } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(after("Thu, 01 Jan 1970 00:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(after("99999999999"), Some(MAX_RETRY_AFTER));
        for useless in ["0", "-1", "soon", "", "Wed, 31 Dec 1969 23:59:59 GMT"] {
            assert_eq!(after(useless), None, "{useless}");
        }
    }

    #[test]
    fn a_refusal_names_its_reason_and_its_remedy() {
        assert_eq!(reason(401), "unauthorized");
        assert!(remedy(403).contains("remote_write.auth"));
        assert!(remedy(308).contains("remote_write.url"));
        assert_eq!(reason(418), "other");
    }

    #[test]
    fn pauses_grow_up_to_the_maximum_and_never_vanish() {
        let b = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };
        for (attempt, top_ms) in
            [(1, 100), (2, 200), (3, 400), (7, 6_400), (8, 10_000), (40, 10_000), (u32::MAX, 10_000)]
        {
            assert_eq!(b.delay(attempt, 0), Duration::from_millis(1));
            let top = b.delay(attempt, u64::MAX);
            assert!(
                top <= Duration::from_millis(top_ms) && top >= Duration::from_millis(top_ms - 1),
                "{attempt}: {top:?}"
            );
            let half = b.delay(attempt, u64::MAX / 2).as_millis() as u64;
            assert!(half.abs_diff(top_ms / 2) <= 1, "{attempt}: {half}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_and_no_number_panics(status: u16, header: String, attempt: u32, random: u64, min: u64, max: u64) {
            let verdict = judge(status, Some(&header), NOW, Past::Fresh);
            proptest::prop_assert_ne!(verdict, Verdict::Retry { after: Some(Duration::ZERO) });
            let backoff = Backoff { min: Duration::from_millis(min), max: Duration::from_millis(max) };
            proptest::prop_assert!(!backoff.delay(attempt, random).is_zero());
        }
    }
}
