//! Series that a receiver refuses for what they are, such as one with more labels than it takes.
//!
//! Such a series spoils every request that it travels in: it costs halvings at every step, and good series once those are
//! spent. So what halving has found is omitted from then on, and counted. Now and then it is retried, in a request of its own:
//! the receiver may take it by now. Its total has grown meanwhile, so nothing of what it counts is lost.
//!
//! A receiver that refuses everything has no bad series. So only what is refused while others of the same step are taken
//! is put here.
#![allow(clippy::disallowed_methods, reason = "when to try again is a matter of the clock")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::core::remotewrite::separate::{Separated, SeriesFate, text_of};
use crate::core::remotewrite::{Request, verdict};
use crate::worker::telemetry::{QuarantinedSeries, flood};

/// So many series are kept at most, and so many bytes of their labels. What does not fit is halved at every step.
const MOST: usize = 4_096;
const MOST_BYTES: usize = 4 << 20;
/// The longest pause until a series is retried, as a multiple of the first one.
const LONGEST: u32 = 12;
/// A series of which nothing has been seen for so long has ended: `series.interval` is an hour at most.
const UNUSED: Duration = Duration::from_secs(7_200);
const TIDY: Duration = Duration::from_secs(60);
/// So many are tried with one request, each in one of its own: few at first, twice as many with each that is taken.
const TRIALS: usize = 4;
const MOST_TRIALS: usize = 64;
/// So many are shown, with so many characters of their labels and of the answer.
const SHOWN: usize = 100;
const SHOWN_LABELS: usize = 512;
const SHOWN_ANSWER: usize = 256;

/// The series of one recipient.
#[derive(Debug)]
pub(super) struct Quarantine {
    /// The first pause; zero when series are not kept here at all.
    first: Duration,
    state: Mutex<State>,
    /// How many there are: most often none, and then no request is searched.
    len: AtomicUsize,
    /// Whether that has changed since the last time it was asked for.
    changed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// By their encoded labels.
    series: BTreeMap<Box<[u8]>, Quarantined>,
    /// Of all labels.
    bytes: usize,
    tidied: Option<Instant>,
    /// How many of the latest trials were taken, since one was refused.
    taken: u32,
}

#[derive(Debug)]
struct Quarantined {
    since: SystemTime,
    /// How often it was refused.
    refused: u32,
    not_before: Instant,
    seen: Instant,
    status: u16,
    answer: String,
}

/// A single series that was refused.
#[derive(Debug)]
pub(super) struct Suspect {
    /// Its encoded labels.
    pub(super) labels: Box<[u8]>,
    pub(super) status: u16,
    /// The answer of the receiver.
    pub(super) answer: String,
}

// === impl Quarantine ===

impl Quarantine {
    /// Tries a series again after pauses that grow from `first` on; zero keeps none.
    pub(super) fn new(first: Duration) -> Self {
        Self { first, state: Mutex::default(), len: AtomicUsize::new(0), changed: AtomicBool::new(false) }
    }

    /// A request without the series that are kept here; `None` when it holds none of them. Some are retried if the
    /// request holds the values of a step.
    pub(super) fn separate(&self, request: &Request, values: bool, now: Instant) -> Option<Separated> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut state = self.state();
        state.tidy(now);
        self.count(&state);
        let mut trials = if values { state.trials() } else { 0 };
        request.separate(|labels| {
            let Some(kept) = state.series.get_mut(labels) else { return SeriesFate::Stay };
            kept.seen = now;
            if trials == 0 || now < kept.not_before {
                return SeriesFate::LeaveOut;
            }
            trials -= 1;
            // Whatever becomes of it, there is a pause.
            kept.not_before = now + self.pause(kept.refused);
            SeriesFate::Alone
        })
    }

    /// Keeps series that were refused while others were taken. Returns how many are new here.
    pub(super) fn keep(&self, suspects: Vec<Suspect>, now: Instant) -> usize {
        if self.first.is_zero() {
            return 0;
        }
        let mut state = self.state();
        state.tidy(now);
        let before = state.series.len();
        for suspect in suspects {
            state.refuse(suspect, now, |refused| now + self.pause(refused));
        }
        self.changed.store(true, Ordering::Relaxed);
        self.count(&state);
        state.series.len().saturating_sub(before)
    }

    /// As [`Self::keep`]; logs it, with the first of them.
    pub(super) fn keep_and_say(&self, suspects: Vec<Suspect>, url: &str, tenant: &str) {
        let Some(first) = suspects.first() else { return };
        let (labels, status, answer) =
            (head(&text_of(&first.labels), SHOWN_LABELS), first.status, first.answer.clone());
        let new = self.keep(suspects, Instant::now());
        if new == 0 {
            return;
        }
        // All shards may have such series.
        let Some(held_back) = flood::may_say(&format!("quarantine {url} {tenant:?}")) else { return };
        tracing::warn!(
            url,
            held_back,
            ?tenant,
            series = new,
            first = ?labels,
            status,
            remedy = verdict::remedy(status, &answer),
            answer,
            "receiver rejects series by themselves, not sending them except to retry them; /quarantine lists them"
        );
    }

    /// A series has been taken.
    pub(super) fn release(&self, labels: &[u8]) {
        let mut state = self.state();
        if state.series.remove(labels).is_some() {
            state.bytes = state.bytes.saturating_sub(labels.len());
            state.taken = state.taken.saturating_add(1);
        }
        self.count(&state);
    }

    /// How many there are, and the first of them for people, if that has changed since it was asked for.
    pub(super) fn news(&self, now: Instant) -> Option<(usize, Arc<[QuarantinedSeries]>)> {
        self.changed.swap(false, Ordering::Relaxed).then(|| self.shown(now))
    }

    fn pause(&self, refused: u32) -> Duration {
        let factor = 1u32.checked_shl(refused.saturating_sub(1)).unwrap_or(LONGEST);
        self.first.saturating_mul(factor.min(LONGEST))
    }

    fn count(&self, state: &State) {
        if self.len.swap(state.series.len(), Ordering::Relaxed) != state.series.len() {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    fn shown(&self, now: Instant) -> (usize, Arc<[QuarantinedSeries]>) {
        let state = self.state();
        let listed = state.series.iter().take(SHOWN).map(|(labels, kept)| kept.shown(labels, now));
        (state.series.len(), listed.collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// `again` computes when a series is retried that was refused so often.
    fn refuse(&mut self, suspect: Suspect, now: Instant, again: impl Fn(u32) -> Instant) {
        let Suspect { labels, status, answer } = suspect;
        let answer = head(&answer, SHOWN_ANSWER);
        self.taken = 0;
        if let Some(kept) = self.series.get_mut(&labels) {
            kept.refused = kept.refused.saturating_add(1);
            (kept.status, kept.answer) = (status, answer);
            (kept.seen, kept.not_before) = (now, again(kept.refused));
            return;
        }
        if self.series.len() >= MOST || self.bytes + labels.len() > MOST_BYTES {
            return;
        }
        self.bytes += labels.len();
        let (since, not_before) = (SystemTime::now(), again(1));
        self.series.insert(labels, Quarantined { since, refused: 1, not_before, seen: now, status, answer });
    }

    /// How many series the next request may try.
    fn trials(&self) -> usize {
        (TRIALS << self.taken.min(4)).min(MOST_TRIALS)
    }

    /// Forgets series that have ended, now and then.
    fn tidy(&mut self, now: Instant) {
        if self.tidied.is_some_and(|at| now.saturating_duration_since(at) < TIDY) {
            return;
        }
        self.tidied = Some(now);
        self.series.retain(|_, kept| now.saturating_duration_since(kept.seen) < UNUSED);
        self.bytes = self.series.keys().map(|labels| labels.len()).sum();
    }
}

// === impl Quarantined ===

impl Quarantined {
    fn shown(&self, labels: &[u8], now: Instant) -> QuarantinedSeries {
        QuarantinedSeries {
            series: head(&text_of(labels), SHOWN_LABELS),
            since: self.since,
            retry_at: SystemTime::now() + self.not_before.saturating_duration_since(now),
            status: self.status,
            answer: self.answer.clone(),
        }
    }
}

fn head(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};

    const FIRST: Duration = Duration::from_secs(300);

    fn series(i: usize) -> TimeSeries {
        TimeSeries {
            labels: vec![Label { name: "__name__".to_owned(), value: format!("s{i}") }],
            samples: vec![Sample { value: 1.0, timestamp: 1 }],
            ..TimeSeries::default()
        }
    }

    fn request(of: &[usize]) -> Request {
        let body = WriteRequest { timeseries: of.iter().map(|&i| series(i)).collect() }.encode_to_vec();
        let n = of.len() as u32;
        Request::compress(&body, n, n, 0, &mut snap::raw::Encoder::new())
    }

    fn suspect(i: usize) -> Suspect {
        let labels = request(&[i]).labels_of_one().expect("one series");
        Suspect { labels, status: 400, answer: "too many labels".to_owned() }
    }

    #[test]
    fn a_series_that_was_refused_is_left_out_and_tried_alone_after_pauses_that_grow() {
        let (quarantine, start) = (Quarantine::new(FIRST), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(quarantine.separate(&request(&[1, 2]), true, start), None);
        assert_eq!(quarantine.keep(vec![suspect(2)], start), 1);
        let left_out = Separated { rest: Some(request(&[1])), alone: Vec::new(), left_out: 1 };
        let tried = Separated { rest: Some(request(&[1])), alone: vec![request(&[2])], left_out: 0 };
        let separate = |values, seconds| quarantine.separate(&request(&[1, 2]), values, at(seconds));
        assert_eq!(separate(true, 299).as_ref(), Some(&left_out));
        assert_eq!(separate(false, 300).as_ref(), Some(&left_out), "a zero before its value is no trial");
        assert_eq!(separate(true, 300).as_ref(), Some(&tried));
        assert_eq!(separate(true, 301).as_ref(), Some(&left_out), "one trial at a time");
        assert_eq!(quarantine.keep(vec![suspect(2)], at(301)), 0, "it is there already");
        assert_eq!(separate(true, 900).as_ref(), Some(&left_out));
        assert_eq!(separate(true, 901).as_ref(), Some(&tried));
        assert_eq!(quarantine.separate(&request(&[1]), true, at(902)), None, "a request without it stays as it is");
        quarantine.release(&suspect(2).labels);
        assert_eq!(separate(true, 903), None);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_ends_with_its_series() {
        let (quarantine, start) = (Quarantine::new(FIRST), Instant::now());
        assert_eq!(quarantine.keep((0..MOST + 10).map(suspect).collect(), start), MOST);
        let (number, shown) = quarantine.news(start).expect("they are new");
        assert!(quarantine.news(start).is_none(), "once");
        assert_eq!((number, shown.len()), (MOST, SHOWN));
        assert_eq!((shown[0].series.as_str(), shown[0].status), ("s0", 400));
        drop(quarantine.separate(&request(&[7]), true, start + UNUSED / 2));
        drop(quarantine.separate(&request(&[1_000_000]), true, start + UNUSED));
        assert_eq!(quarantine.news(start).map(|(number, _)| number), Some(1), "only one is still sent");
    }

    #[test]
    fn a_pause_of_zero_keeps_no_series_and_no_pause_is_longer_than_twelve_times_the_first() {
        let (off, start) = (Quarantine::new(Duration::ZERO), Instant::now());
        assert_eq!(off.keep(vec![suspect(1)], start), 0);
        assert_eq!(off.separate(&request(&[1]), true, start), None);
        let pauses = [1, 2, 4, 5, 100].map(|refused| Quarantine::new(FIRST).pause(refused).as_secs() / 60);
        assert_eq!(pauses, [5, 10, 40, 60, 60]);
    }

    #[test]
    fn trials_have_a_bound_in_each_request() {
        let (quarantine, start) = (Quarantine::new(FIRST), Instant::now());
        quarantine.keep((0..10).map(suspect).collect(), start);
        let all: Vec<usize> = (0..10).collect();
        let parted = quarantine.separate(&request(&all), true, start + FIRST).expect("all of them are kept");
        assert_eq!((parted.rest, parted.alone.len(), parted.left_out), (None, TRIALS, 6));
    }

    #[test]
    fn a_receiver_that_takes_trials_is_sent_more_of_them_until_it_refuses_one() {
        let (quarantine, start) = (Quarantine::new(FIRST), Instant::now());
        quarantine.keep((0..500).map(suspect).collect(), start);
        let all: Vec<usize> = (0..500).collect();
        let tried = |at| quarantine.separate(&request(&all), true, start + at).expect("some are kept").alone.len();
        assert_eq!(tried(FIRST), TRIALS);
        (0..3).for_each(|i| quarantine.release(&suspect(i).labels));
        assert_eq!(tried(FIRST), 8 * TRIALS);
        (3..100).for_each(|i| quarantine.release(&suspect(i).labels));
        assert_eq!(tried(FIRST), MOST_TRIALS);
        quarantine.keep(vec![suspect(499)], start + FIRST);
        assert_eq!(tried(2 * FIRST), TRIALS);
    }
}
