//! The meaning of an answer: a pure table from status codes to verdicts.
//!
//! *In:* a status code, a `Retry-After` header, what is known of earlier attempts, the user's choices. *Out:* a
//! [`Verdict`]. *Never:* a rejected sample that could be stored later, or that may be new. *Next:* the shard senders of
//! `export` act on it.
//!
//! | status | fresh | unanswered before | resent | why |
//! |---|---|---|---|---|
//! | 2xx | acknowledged | acknowledged | acknowledged | stored |
//! | 400 | split | split | already there, see below | some series cannot be stored |
//! | 409 | split | already there | already there | Thanos answers so to what it has, and stores the rest |
//! | 413 | split | split | split | the request is too large |
//! | 422 | split | split | split | some series cannot be stored |
//! | 429, 5xx | wait | wait | wait | busy, or broken |
//! | 401, 403, 407 | wait | wait | wait | a credential has expired, or is not there yet |
//! | 404, 405, 3xx | wait | wait | wait | the address is wrong, or the receiver is not set up yet |
//! | 408, 425 | wait | wait | wait | this attempt failed, without information about the samples |
//! | 415 | wait | wait | wait | the receiver takes another version of remote write |
//! | else | wait | wait | wait | no information about the samples, so they may be stored later |
//!
//! Only an answer that rejects the samples themselves loses samples. Every other answer is handled like an outage, for
//! as long as Kafka keeps the spans. `remote_write.on_status` changes that, status by status: it also waits after a
//! rejection, or rejects instead of waiting.
//!
//! Receivers of remote write 2.0 store what they can of a request and report how much that was. A 400 that names all
//! samples as stored is about exemplars only, see [`Verdict::in_view_of`]. They may report less than is true, but not
//! more, about requests of one sample per series.
//!
//! The text of an answer is for users, and decides in one case only: a *resent* request that is refused. There it saves
//! requests, and distinguishes samples that are there already from those that are too old by now; see [`hint`]. Without
//! such a text, halving decides.

use std::time::{Duration, SystemTime};

/// A receiver cannot ask for a longer pause than this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// What to do with a request after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Stored.
    Acknowledged,
    /// Send the same bytes again, not before `after` if the receiver asks for that.
    Wait {
        /// The pause that the receiver asks for, greater than zero.
        after: Option<Duration>,
    },
    /// Refused because of a part: halve it, and reject what is still refused in the end.
    Split,
    /// The same of a resent request: what is still refused in the end was probably stored before.
    SplitResent,
    /// Refused because it was stored before, all of it.
    AlreadyThere,
    /// The receiver has samples that are newer: so the step was settled before, as a whole.
    Overtaken,
    /// Rejected: the user does not want to wait for a better answer.
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

/// The information about the samples in the text of a refusal, if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Nothing that is known.
    Nothing,
    /// There are newer ones in the same series.
    Newer,
    /// There is one with the same timestamp and another value.
    SameTime,
    /// They are older than the receiver takes.
    TooOld,
}

/// The user's choice for one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// To wait for a better answer.
    Wait,
    /// To give the samples up.
    Reject,
}

/// Exponential back-off with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The upper end of the first pause.
    pub min: Duration,
    /// The upper end of every pause.
    pub max: Duration,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverAnswer<'a> {
    /// Its status.
    pub status: u16,
    /// Its `Retry-After` header: seconds or an HTTP date.
    pub retry_after: Option<&'a str>,
    /// Its text.
    pub text: &'a str,
}

/// What a receiver of remote write 2.0 reports as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Samples, floats and histograms.
    pub samples: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// Judges one answer. A date in its header is compared with `now`; `choice` is the user's choice for its status.
#[must_use]
pub fn judge(said: &ReceiverAnswer<'_>, now: SystemTime, past: Past, choice: Option<Choice>) -> Verdict {
    let wait = || Verdict::Wait { after: said.retry_after.and_then(|h| pause(h, now)) };
    match (said.status, past, choice) {
        (200..=299, ..) => Verdict::Acknowledged,
        // What is there needs no better answer.
        (400 | 409, Past::Resent, _) if hint(said.text) == Hint::Newer => Verdict::Overtaken,
        (409, Past::Resent | Past::Unanswered, _) => Verdict::AlreadyThere,
        (400, Past::Resent, _) if hint(said.text) == Hint::SameTime => Verdict::SplitResent,
        (_, _, Some(Choice::Wait)) => wait(),
        (400, Past::Resent, _) if hint(said.text) != Hint::TooOld => Verdict::SplitResent,
        (400 | 409 | 413 | 422, ..) => Verdict::Split,
        (_, _, Some(Choice::Reject)) => Verdict::Rejected,
        _ => wait(),
    }
}

/// The meaning of a text of Prometheus, Mimir, Cortex or Thanos.
///
/// Only an out-of-order error proves that newer samples are there. A duplicate is about its own timestamp, and an
/// exemplar is kept apart from the samples: neither proves anything about the rest of a step.
#[must_use]
pub fn hint(text: &str) -> Hint {
    let text = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&EXEMPLARS) {
        Hint::Nothing
    } else if says(&["out of bounds", "out-of-bounds", "too old", "too-old"]) {
        Hint::TooOld
    } else if says(&["duplicate sample", "duplicate timestamp", "duplicate-timestamp"]) {
        Hint::SameTime
    } else if says(&["out of order", "out-of-order"]) {
        Hint::Newer
    } else {
        Hint::Nothing
    }
}

/// How refusals of exemplars are worded. Not the word alone: a refusal repeats the labels of a series.
const EXEMPLARS: [&str; 4] =
    ["out of order exemplar", "duplicate exemplar", "exemplar timestamp", "err-mimir-exemplar"];
/// How refusals of a timestamp are worded that will not be one later.
const FUTURE: [&str; 2] = ["in the future", "in-future"];

/// Whether the refusal of a single series is about the series, and not about this sample: then its next sample is refused, too.
#[must_use]
pub fn blames_series(status: u16, text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let passes = EXEMPLARS.iter().chain(&FUTURE).any(|words| lower.contains(words));
    matches!(status, 400 | 422) && !passes && hint(text) == Hint::Nothing
}

/// All values that [`reason`] returns.
pub const REASONS: [&str; 9] = [
    "too_old",
    "bad_data",
    "unauthorized",
    "not_found",
    "too_large",
    "rate_limited",
    "redirect",
    "server_error",
    "other",
];

/// The reason that refused or waiting samples are counted under.
#[must_use]
pub fn reason(status: u16, text: &str) -> &'static str {
    match status {
        400 | 409 | 422 if hint(text) == Hint::TooOld => "too_old",
        400 | 409 | 422 => "bad_data",
        401 | 403 | 407 => "unauthorized",
        404 | 405 => "not_found",
        413 => "too_large",
        429 => "rate_limited",
        300..=399 => "redirect",
        500..=599 => "server_error",
        _ => "other",
    }
}

/// What receivers say to a cause that is known, in lower case, and what to do about it.
const CAUSES: [(&str, &str); 4] = [
    ("web.enable-remote-write-receiver", "start Prometheus with --web.enable-remote-write-receiver"),
    (
        "native histograms are disabled",
        "start Prometheus with --enable-feature=native-histograms, or set histograms.mode: classic",
    ),
    ("no org id", "the receiver needs a tenant: set tenant.name, or X-Scope-OrgID in remote_write.headers"),
    (
        "label-names-per-series",
        "the series has more labels than the receiver takes: raise its limit for the tenant, or remove dimensions",
    ),
];

/// What the operator can do about refused samples, as far as the status and the text of the answer tell.
#[must_use]
pub fn remedy(status: u16, text: &str) -> &'static str {
    let text = text.to_ascii_lowercase();
    if let Some((_, remedy)) = CAUSES.iter().find(|(words, _)| text.contains(words)) {
        return remedy;
    }
    match status {
        400 | 409 | 422 => "see the receiver's message; its limits or its out-of-order window may be too narrow",
        401 | 403 | 407 => "check remote_write.auth, remote_write.headers and the tenant",
        404 | 405 => {
            "check port and path of remote_write.url (/api/v1/write for Prometheus and VictoriaMetrics, /api/v1/push for Mimir \
             and Cortex, /api/v1/receive for Thanos) and that the receiver accepts remote write"
        }
        413 => "lower remote_write.max_bytes",
        300..=399 => "set remote_write.url to the address that the receiver redirects to",
        415 => "set remote_write.protocol to what the receiver accepts, or to auto; it must accept snappy",
        429 => "raise the tenant's limits at the receiver",
        500..=599 => "see the receiver's own log",
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
    /// The verdict on a request of so many `samples`, if the receiver reports what it has stored.
    #[must_use]
    pub fn in_view_of(self, written: Option<Written>, samples: u32) -> Self {
        let all = written.is_some_and(|written| written.samples == u64::from(samples));
        match self {
            Self::Split | Self::SplitResent if all => Self::Acknowledged,
            other => other,
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

    fn said(status: u16, text: &str) -> ReceiverAnswer<'_> {
        ReceiverAnswer { status, retry_after: None, text }
    }

    #[test]
    fn every_answer_has_its_verdict() {
        use Past::{Fresh, Resent, Unanswered};
        let wait = Verdict::Wait { after: None };
        let table: &[(&[u16], [Verdict; 3])] = &[
            (&[200, 202, 204, 299], [Verdict::Acknowledged; 3]),
            (&[400], [Verdict::Split, Verdict::Split, Verdict::SplitResent]),
            (&[409], [Verdict::Split, Verdict::AlreadyThere, Verdict::AlreadyThere]),
            (&[413], [Verdict::Split; 3]),
            (&[422], [Verdict::Split; 3]),
            (&[429, 500, 501, 502, 503, 504, 529, 599], [wait; 3]),
            (&[401, 403, 407], [wait; 3]),
            (&[404, 405, 300, 301, 302, 303, 304, 307, 308], [wait; 3]),
            (&[408, 425], [wait; 3]),
            (&[415], [wait; 3]),
            (&[100, 402, 406, 410, 411, 412, 414, 416, 417, 418, 421, 426, 428, 431, 451, 499, 600], [wait; 3]),
        ];
        for (statuses, verdicts) in table {
            for &status in *statuses {
                for (past, verdict) in [Fresh, Unanswered, Resent].into_iter().zip(verdicts) {
                    assert_eq!(judge(&said(status, "no"), NOW, past, None), *verdict, "{status} {past:?}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_of_exemplars_alone_is_none_of_samples() {
        let written = |samples| Some(Written { samples, exemplars: 0 });
        for refused in [Verdict::Split, Verdict::SplitResent] {
            assert_eq!(refused.in_view_of(written(5), 5), Verdict::Acknowledged);
            assert_eq!(refused.in_view_of(written(4), 5), refused, "one sample is not stored");
            assert_eq!(refused.in_view_of(None, 5), refused, "remote write 1.0 does not say it");
        }
        for other in [Verdict::Acknowledged, Verdict::AlreadyThere, Verdict::Overtaken, Verdict::Wait { after: None }] {
            assert_eq!(other.in_view_of(written(0), 5), other);
            assert_eq!(other.in_view_of(written(5), 5), other);
        }
    }

    #[test]
    fn the_user_can_wait_at_every_refusal_and_give_up_at_every_other_answer() {
        let judged = |status, past, choice| judge(&said(status, "no"), NOW, past, Some(choice));
        for past in [Past::Fresh, Past::Unanswered, Past::Resent] {
            for status in [302, 400, 401, 404, 413, 422, 429, 503] {
                assert_eq!(judged(status, past, Choice::Wait), Verdict::Wait { after: None }, "{status} {past:?}");
            }
            for status in [302, 401, 404, 415, 429, 503] {
                assert_eq!(judged(status, past, Choice::Reject), Verdict::Rejected, "{status} {past:?}");
            }
            for status in [400, 409, 413, 422] {
                let usual = judge(&said(status, "no"), NOW, past, None);
                assert_eq!(judged(status, past, Choice::Reject), usual, "halved all the same: {status} {past:?}");
            }
            assert_eq!(judged(204, past, Choice::Reject), Verdict::Acknowledged);
        }
        let there = judge(&said(400, "out of order sample"), NOW, Past::Resent, Some(Choice::Wait));
        assert_eq!(there, Verdict::Overtaken, "nothing better will come");
        let there = judge(&said(400, "duplicate sample for timestamp"), NOW, Past::Resent, Some(Choice::Wait));
        assert_eq!(there, Verdict::SplitResent, "nor here; halves find what is new");
    }

    #[test]
    fn the_text_of_a_refusal_tells_what_is_there_from_what_is_too_old_and_only_of_what_is_resent() {
        let newer = [
            "out of order sample",
            "user=a: the sample has been rejected because another sample with a more recent timestamp has already been \
             ingested and out-of-order samples are not allowed (err-mimir-sample-out-of-order)",
            "add 3 samples: out of order sample",
        ];
        let too_old = [
            "out of bounds",
            "too old sample",
            "the sample has been rejected because its timestamp is too old (err-mimir-sample-timestamp-too-old)",
            "timestamp is too old for the out-of-order window",
        ];
        for status in [400, 409] {
            for text in newer {
                assert_eq!(judge(&said(status, text), NOW, Past::Resent, None), Verdict::Overtaken, "{text}");
                assert_eq!(judge(&said(status, text), NOW, Past::Fresh, None), Verdict::Split, "{text}");
            }
        }
        for text in too_old {
            assert_eq!(judge(&said(400, text), NOW, Past::Resent, None), Verdict::Split, "{text}");
            assert_eq!(reason(400, text), "too_old");
        }
        assert_eq!(hint("invalid label name"), Hint::Nothing);
        assert_eq!(judge(&said(422, "out of order sample"), NOW, Past::Resent, None), Verdict::Split);
    }

    #[test]
    fn a_refusal_blames_the_series_unless_it_is_about_a_time_an_exemplar_or_the_size() {
        for text in
            ["label name too long", "err-mimir-max-label-names-per-series", "", "rejected series exemplar_total"]
        {
            assert!(blames_series(400, text) && blames_series(422, text), "{text}");
        }
        for text in [
            "out of order sample",
            "out of bounds",
            "duplicate sample for timestamp",
            "out of order exemplar",
            "timestamp is too far in the future",
            "(err-mimir-too-far-in-future)",
        ] {
            assert!(!blames_series(400, text), "{text}");
        }
        assert!(![204, 401, 404, 409, 413, 429, 500].into_iter().any(|status| blames_series(status, "")));
    }

    #[test]
    fn a_series_whose_name_speaks_of_exemplars_is_judged_like_others() {
        let text = "out of bounds for series exemplar_requests_total";
        assert_eq!(judge(&said(400, text), NOW, Past::Resent, None), Verdict::Split);
        let text = "out of order sample; series=exemplar_requests_total";
        assert_eq!(judge(&said(400, text), NOW, Past::Resent, None), Verdict::Overtaken);
    }

    #[test]
    fn a_duplicate_and_an_exemplar_prove_nothing_about_the_rest_of_a_step() {
        let texts = [
            "duplicate sample for timestamp",
            "duplicate sample for timestamp 1; overrides not allowed: existing 1, new value 2",
            "the sample has been rejected because another sample with the same timestamp, but a different value, has already \
             been ingested (err-mimir-sample-duplicate-timestamp)",
            "out of order exemplar",
            "duplicate exemplar",
            "exemplar timestamp is too old",
        ];
        for text in texts {
            assert_eq!(judge(&said(400, text), NOW, Past::Resent, None), Verdict::SplitResent, "{text}");
            assert_eq!(judge(&said(400, text), NOW, Past::Fresh, None), Verdict::Split, "{text}");
            assert_eq!(reason(400, text), "bad_data", "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_unbounded() {
        let after = |h| match judge(&ReceiverAnswer { retry_after: Some(h), ..said(503, "") }, NOW, Past::Fresh, None) {
            Verdict::Wait { after } => after,
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
        assert_eq!(reason(401, ""), "unauthorized");
        assert!(remedy(403, "").contains("remote_write.auth"));
        assert!(remedy(308, "").contains("remote_write.url"));
        assert!(remedy(404, "page not found").contains("/api/v1/push"));
        let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        assert!(remedy(404, text).starts_with("start Prometheus with --web."));
        assert!(remedy(401, "No org ID").contains("tenant.name"));
        let text = "received a series whose number of labels exceeds the limit (err-mimir-max-label-names-per-series)";
        assert!(remedy(400, text).contains("more labels"), "{text}");
        assert_eq!(reason(418, ""), "other");
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
            let said = ReceiverAnswer { status, retry_after: Some(&header), text: &header };
            let verdict = judge(&said, NOW, Past::Resent, None);
            proptest::prop_assert_ne!(verdict, Verdict::Wait { after: Some(Duration::ZERO) });
            let backoff = Backoff { min: Duration::from_millis(min), max: Duration::from_millis(max) };
            proptest::prop_assert!(!backoff.delay(attempt, random).is_zero());
        }
    }
}
