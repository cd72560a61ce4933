//! How often a request that is refused may be halved.
//!
//! A rejected series is found by halving, and the rest is stored. But a receiver that refuses everything, at every
//! step, must not be asked about every half at every step. So a request of which nothing has been taken yet gets a few
//! halvings only; and after one that has spent them all without success, the next ones are refused as they are, until a
//! pause is over, which grows. A small request starts no pause: its own series alone were bad, and the next one may
//! hold a single bad series among good ones. Nor does one of a step of which the receiver has taken another request: it
//! does not refuse everything. Until a part is taken, the smallest one comes next: with many bad series, only a small
//! part has none. After that the largest one comes next, so that what is left when the halvings are spent is small.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::remotewrite::Request;

use super::quarantine::Suspect;

/// Halvings of one request, in all its parts together, once a part of it has been taken: enough to find several rejected
/// series among thousands.
const MOST: u32 = 128;
/// The same while nothing of it has been taken.
const WITHOUT_SUCCESS: u32 = 16;
/// The first pause, and the longest.
const FIRST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(120);

/// Requests of a recipient that were refused as a whole, one after the other.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_a_row: u32,
    /// The earliest time of the next halving.
    not_before: Option<Instant>,
}

/// The parts of one request that are not settled.
pub(super) struct Halving {
    parts: VecDeque<Request>,
    halved: u32,
    /// Whether halving is useful now.
    allowed: bool,
    /// Whether the receiver has taken other requests of the same step.
    trusted: bool,
    taken: bool,
    /// Whether samples were rejected.
    refused: bool,
    /// Single series that were refused for what they are.
    suspects: Vec<Suspect>,
    /// Cuts a request in two.
    cut: Cut,
}

/// Cuts a request in two; `None` when it is too small.
type Cut = fn(&Request) -> Option<(Request, Request)>;

// === impl Refusals ===

impl Refusals {
    /// The parts of a request that is about to be sent. `trusted` is whether other requests of the same step were taken.
    pub(super) fn begin(&self, request: Request, trusted: bool, now: Instant) -> Halving {
        let allowed = trusted || self.not_before.is_none_or(|at| now >= at);
        let (parts, suspects) = (VecDeque::from([request]), Vec::new());
        Halving { parts, halved: 0, allowed, trusted, taken: false, refused: false, suspects, cut: Request::split }
    }

    /// A request is settled. Returns whether everything was refused (`true`) or something was accepted, if either is
    /// known.
    pub(super) fn end(&mut self, halving: &Halving, now: Instant) -> Option<bool> {
        if halving.taken {
            *self = Self::default();
            return Some(false);
        }
        if !halving.refused {
            return None;
        }
        if halving.allowed && !halving.trusted && halving.halved >= WITHOUT_SUCCESS {
            let factor = 1u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX);
            self.not_before = now.checked_add(FIRST.saturating_mul(factor).min(LONGEST));
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        Some(true)
    }
}

// === impl Halving ===

impl Halving {
    /// The next part.
    pub(super) fn next(&mut self) -> Option<Request> {
        // Halves are put behind what is there, so the front has the largest.
        if self.taken { self.parts.pop_front() } else { self.parts.pop_back() }
    }

    /// Has requests cut otherwise than between any two series.
    pub(super) fn cut_with(&mut self, cut: Cut) {
        self.cut = cut;
    }

    /// A part of it was accepted.
    pub(super) fn taken(&mut self) {
        self.taken = true;
    }

    /// Samples of it were rejected: they cannot be stored, and are not stored already.
    pub(super) fn rejected(&mut self) {
        self.refused = true;
    }

    /// Whether something of it was taken.
    pub(super) fn is_taken(&self) -> bool {
        self.taken
    }

    /// A single series was refused for what it is.
    pub(super) fn suspect(&mut self, suspect: Suspect) {
        self.suspects.push(suspect);
    }

    /// The series that were refused for what they are.
    pub(super) fn take_suspects(&mut self) -> Vec<Suspect> {
        std::mem::take(&mut self.suspects)
    }

    /// From now on, another receiver answers: the answers of the one before prove nothing.
    pub(super) fn forget(&mut self) {
        (self.taken, self.trusted) = (false, false);
        self.suspects.clear();
    }

    /// A part was refused for its content. Halves it; `false` when it stays as it is.
    pub(super) fn halve(&mut self, part: &Request) -> bool {
        let most = if self.taken || self.trusted { MOST } else { WITHOUT_SUCCESS };
        let halves = if self.allowed && self.halved < most { (self.cut)(part) } else { None };
        let Some((first, second)) = halves else { return false };
        self.halved += 1;
        self.parts.extend([second, first]);
        true
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;
    use crate::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};

    fn request(series: u32) -> Request {
        use prost::Message as _;
        let entry = |i: u32| TimeSeries {
            labels: vec![Label { name: "__name__".to_owned(), value: format!("s{i}") }],
            samples: vec![Sample { value: 1.0, timestamp: 1 }],
            ..TimeSeries::default()
        };
        let bytes = WriteRequest { timeseries: (0..series).map(entry).collect() }.encode_to_vec();
        Request::compress(&bytes, series, series, 0, &mut snap::raw::Encoder::new())
    }

    #[test]
    fn what_a_receiver_took_or_refused_proves_nothing_of_the_next_one() {
        let mut halving = Refusals::default().begin(request(4), true, Instant::now());
        halving.taken();
        halving.suspect(Suspect { labels: Box::default(), status: 400, answer: String::new() });
        halving.forget();
        assert!(!halving.is_taken() && halving.take_suspects().is_empty());
    }

    /// Settles a request of which every part is refused but those that `takes` picks; returns how many were sent.
    fn settle(refusals: &mut Refusals, now: Instant, takes: impl Fn(&Request) -> bool) -> (u32, Option<bool>) {
        settle_of(1_000, refusals, now, takes)
    }

    fn settle_of(
        series: u32,
        refusals: &mut Refusals,
        now: Instant,
        takes: impl Fn(&Request) -> bool,
    ) -> (u32, Option<bool>) {
        let mut halving = refusals.begin(request(series), false, now);
        let mut sent = 0;
        while let Some(part) = halving.next() {
            sent += 1;
            if takes(&part) {
                halving.taken();
            } else if !halving.halve(&part) {
                halving.rejected();
            }
        }
        (sent, refusals.end(&halving, now))
    }

    #[test]
    fn who_refuses_everything_is_asked_about_halves_after_pauses_that_grow_to_an_end() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let sent: Vec<u32> =
            (0..1_000).map(|s| settle(&mut refusals, start + Duration::from_secs(s), |_| false).0).collect();
        let halved: Vec<usize> =
            sent.iter().enumerate().filter(|(_, sent)| **sent > 1).map(|(second, _)| second).collect();
        assert!(sent.iter().all(|sent| matches!(sent, 1 | 33)));
        assert_eq!(halved[..6], [0, 15, 45, 105, 225, 345]);
        assert_eq!(halved.len(), 11);
    }

    #[test]
    fn a_small_request_of_bad_series_does_not_cost_a_large_one_its_halves() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for series in [1, 2, 16] {
            assert_eq!(settle_of(series, &mut refusals, now, |_| false), (2 * series - 1, Some(true)));
        }
        assert_eq!(settle(&mut refusals, now, |part| part.series < 1_000), (3, Some(false)));
        // With one series more, every halving is spent.
        assert_eq!(settle_of(17, &mut refusals, now, |_| false), (33, Some(true)));
        assert_eq!(settle(&mut refusals, now, |_| false), (1, Some(true)));
    }

    #[test]
    fn what_is_there_already_is_not_refused_however_often_it_was_halved() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let mut halving = refusals.begin(request(1_000), false, now);
        while let Some(part) = halving.next() {
            halving.halve(&part);
        }
        assert_eq!(refusals.end(&halving, now), None);
        assert_eq!(settle(&mut refusals, now, |_| false), (33, Some(true)), "no pause");
    }

    /// Whether a part holds a series of which the number is a multiple of `every`.
    fn holds(part: &Request, every: u32) -> bool {
        let body = crate::core::remotewrite::decode::body(&part.body).expect("our own body");
        let number =
            |series: &TimeSeries| series.labels[0].value.trim_start_matches('s').parse::<u32>().expect("a number");
        body.timeseries.iter().any(|series| number(series) % every == 0)
    }

    #[test]
    fn bad_series_that_are_spread_over_a_request_do_not_look_like_a_receiver_that_refuses_everything() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let mut halving = refusals.begin(request(1_000), false, now);
        let mut stored = 0;
        while let Some(part) = halving.next() {
            if !holds(&part, 25) {
                halving.taken();
                stored += part.series;
            } else if !halving.halve(&part) {
                halving.rejected();
            }
        }
        assert_eq!(refusals.end(&halving, now), Some(false));
        assert!(stored > 600, "{stored} of 960 good series at the first time");
    }

    #[test]
    fn a_receiver_that_takes_other_requests_of_the_step_is_asked_about_all_halves_without_a_pause() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!(settle(&mut refusals, now, |_| false), (33, Some(true)), "a pause");
        let mut halving = refusals.begin(request(64), true, now);
        let mut sent = 0;
        while let Some(part) = halving.next() {
            sent += 1;
            if !halving.halve(&part) {
                halving.rejected();
            }
        }
        assert_eq!((sent, refusals.end(&halving, now)), (127, Some(true)));
        assert_eq!(refusals.in_a_row, 1, "no other pause");
    }

    #[test]
    fn something_that_is_taken_ends_the_pause() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!(settle(&mut refusals, now, |_| false), (33, Some(true)));
        assert_eq!(settle(&mut refusals, now, |_| false), (1, Some(true)));
        assert_eq!(settle(&mut refusals, now, |_| true), (1, Some(false)));
        assert_eq!(settle(&mut refusals, now, |part| part.series < 1_000), (3, Some(false)), "halves are taken");
    }
}
