//! Source partitions whose next delta record does not come to a shard: when to ask for it, and when to log it.
//!
//! A delta record that is ahead of the next one means that something before it is missing. Mostly its sender knows that
//! and is about to send both again. If not, the deltas topic has lost it. Nothing at all from a source that holds the
//! others back may mean the same, or that no worker owns it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A source partition: topic and number.
pub(super) type Source = (String, i32);

/// How often the sources are checked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a delta record may be ahead before the shard asks for what is missing.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// The same for a source from which nothing comes.
const ASK_SILENT_AFTER: Duration = Duration::from_secs(20);
/// When to ask again; the interval doubles, up to the maximum.
const ASK_AGAIN: Duration = Duration::from_secs(10);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(300);
/// A gap that lasts for longer is logged, and the worker is not ready.
pub(super) const LASTS: Duration = Duration::from_secs(30);

/// The sources that a shard waits for.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    open: BTreeMap<Source, Gap>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Gap {
    since: Instant,
    /// A later delta record has come.
    ahead: bool,
    /// When to ask for it, and the interval after that.
    ask: (Instant, Duration),
    /// That it lasts has been logged.
    said: bool,
}

// === impl Gaps ===

impl Gaps {
    /// Whether it is time to look again.
    pub(super) fn is_due(&mut self, present: Instant) -> bool {
        let due = self.looked.is_none_or(|at| present.saturating_duration_since(at) >= LOOK_EVERY);
        if due {
            self.looked = Some(present);
        }
        due
    }

    /// A delta record of the source has come whose predecessor has not.
    pub(super) fn ahead(&mut self, source: &Source, present: Instant) {
        match self.open.get_mut(source) {
            Some(gap) if gap.ahead => {}
            _ => drop(self.open.insert(source.clone(), Gap::new(true, present))),
        }
    }

    /// The next delta record of the source has come. Returns whether the gap has been logged.
    pub(super) fn moved(&mut self, source: &Source) -> bool {
        !self.open.is_empty() && self.open.remove(source).is_some_and(|gap| gap.said)
    }

    /// No worker reads these sources any more, so what they miss does not come. Returns those whose gap has been
    /// logged.
    pub(super) fn give_up<'a>(&mut self, sources: &'a [Source]) -> Vec<&'a Source> {
        sources.iter().filter(|source| self.moved(source)).collect()
    }

    /// These sources hold the others back silently.
    pub(super) fn silent(&mut self, behind: &[Source], present: Instant) {
        self.open.retain(|source, gap| gap.ahead || behind.contains(source));
        for source in behind {
            if !self.open.contains_key(source) {
                self.open.insert(source.clone(), Gap::new(false, present));
            }
        }
    }

    /// The sources to be asked now.
    pub(super) fn due_to_ask(&mut self, present: Instant) -> Vec<Source> {
        let due = self.open.iter_mut().filter(|(_, gap)| gap.ask.0 <= present);
        due.map(|(source, gap)| {
            let (_, wait) = gap.ask;
            gap.ask = (present + wait, (2 * wait).min(ASK_AGAIN_AT_MOST));
            source.clone()
        })
        .collect()
    }

    /// The sources that have been missing for too long since the last call.
    pub(super) fn due_to_say(&mut self, present: Instant) -> Vec<Source> {
        let lasts = |gap: &Gap| gap.ahead && present.saturating_duration_since(gap.since) >= LASTS;
        let new = self.open.iter_mut().filter(|(_, gap)| !gap.said && lasts(gap));
        new.map(|(source, gap)| {
            gap.said = true;
            source.clone()
        })
        .collect()
    }

    /// How many are missing for too long.
    pub(super) fn lasting(&self) -> u64 {
        self.open.values().filter(|gap| gap.said).count() as u64
    }
}

// === impl Gap ===

impl Gap {
    fn new(ahead: bool, present: Instant) -> Self {
        let after = if ahead { ASK_AFTER } else { ASK_SILENT_AFTER };
        Self { since: present, ahead, ask: (present + after, ASK_AGAIN), said: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(partition: i32) -> Source {
        ("spans".to_owned(), partition)
    }

    #[test]
    fn a_gap_is_asked_for_said_when_it_lasts_and_forgotten_when_it_closes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut gaps = Gaps::default();
        gaps.ahead(&source(0), start);
        gaps.ahead(&source(0), at(1));
        assert_eq!([gaps.due_to_ask(at(1)), gaps.due_to_say(at(1))], [vec![], vec![]]);
        assert_eq!(gaps.due_to_ask(at(2)), [source(0)]);
        let asked: Vec<u64> = (3..100).filter(|s| !gaps.due_to_ask(at(*s)).is_empty()).collect();
        assert_eq!(asked, [12, 32, 72], "less and less often");
        assert_eq!(gaps.due_to_say(at(29)), []);
        assert_eq!((gaps.due_to_say(at(30)), gaps.due_to_say(at(31)), gaps.lasting()), (vec![source(0)], vec![], 1));
        assert!(gaps.moved(&source(0)) && !gaps.moved(&source(0)));
        assert_eq!(gaps.lasting(), 0);
    }

    #[test]
    fn what_a_source_misses_that_nobody_reads_any_more_is_given_up() {
        let start = Instant::now();
        let mut gaps = Gaps::default();
        [0, 1].into_iter().for_each(|partition| gaps.ahead(&source(partition), start));
        assert_eq!(gaps.due_to_say(start + LASTS).len(), 2);
        gaps.ahead(&source(2), start + LASTS);
        assert_eq!(gaps.give_up(&[source(0), source(2), source(3)]), [&source(0)]);
        assert_eq!((gaps.lasting(), gaps.due_to_ask(start + 2 * LASTS)), (1, vec![source(1)]));
    }

    #[test]
    fn a_source_that_holds_the_others_back_is_asked_and_not_complained_about() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut gaps = Gaps::default();
        gaps.silent(&[source(0), source(1)], start);
        gaps.silent(&[source(1)], at(19));
        assert_eq!(gaps.due_to_ask(at(19)), []);
        assert_eq!((gaps.due_to_ask(at(20)), gaps.due_to_say(at(100))), (vec![source(1)], vec![]));
        gaps.ahead(&source(1), at(100));
        assert_eq!((gaps.due_to_say(at(129)), gaps.due_to_say(at(130))), (vec![], vec![source(1)]));
        gaps.silent(&[], at(130));
        assert_eq!(gaps.lasting(), 1);
    }
}
