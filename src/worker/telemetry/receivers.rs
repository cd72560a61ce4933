//! The receivers of samples: one entry per receiver and tenant, with its state. The shard senders of `export` write it;
//! metrics and readiness read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::names;
use super::task_registry::gauges;

/// After so long, a receiver that does not accept samples is logged, and the worker is not ready if all are like that:
/// a restart takes less.
pub const WAITS_AT_LEAST: Duration = Duration::from_secs(30);

/// Names an entry.
pub(crate) type ReceiverId = u64;

/// The state of a tenant at a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverStatus {
    /// The address, without what may be secret in it.
    pub url: String,
    /// The tenant. Its name comes from outside: escape it.
    pub tenant: Arc<str>,
    /// When something was stored last.
    pub last_success: Option<SystemTime>,
    /// What the samples wait for.
    pub waiting: Option<Waiting>,
    /// Since when everything has been refused for its content.
    pub refused_since: Option<SystemTime>,
    /// How many series are in quarantine.
    pub quarantined: usize,
    /// Some of them.
    pub quarantine: Arc<[QuarantinedSeries]>,
}

/// A series that a receiver refuses for what it is, and that is not sent with others for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedSeries {
    /// The beginning of its labels. They come from spans: escape them.
    pub series: String,
    /// Since when.
    pub since: SystemTime,
    /// When it is retried.
    pub retry_at: SystemTime,
    /// The status with which it was refused.
    pub status: u16,
    /// The beginning of the answer of the receiver. Escape it.
    pub answer: String,
}

/// Samples wait until a receiver accepts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Since when.
    pub since: SystemTime,
    /// Why, in one word.
    pub reason: &'static str,
    /// What the operator can do.
    pub remedy: Arc<str>,
}

/// All of them. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Receivers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: DashMap<ReceiverId, ReceiverStatus>,
    next: AtomicU64,
}

/// Makes metrics from them.
pub(super) struct ReceiversCollector {
    receivers: Receivers,
    descs: Vec<Desc>,
}

// === impl Receivers ===

impl Receivers {
    /// All receivers that samples were sent to, in order of address and tenant.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ReceiverStatus> {
        let mut all: Vec<ReceiverStatus> = self.0.known.iter().map(|entry| entry.value().clone()).collect();
        all.sort_unstable_by(|a, b| (&a.url, &a.tenant).cmp(&(&b.url, &b.tenant)));
        all
    }

    /// The receivers that samples have waited for at least `least`, a line per address and reason, with the remedy.
    #[must_use]
    pub fn complaints(&self, least: Duration) -> Vec<String> {
        let mut found: BTreeMap<(String, &'static str), (usize, Waiting)> = BTreeMap::new();
        for status in self.snapshot() {
            let waits = |waiting: &Waiting| waiting.since.elapsed().is_ok_and(|since| since >= least);
            let Some(waiting) = status.waiting.filter(waits) else { continue };
            let since = waiting.since;
            let (tenants, oldest) = found.entry((status.url, waiting.reason)).or_insert((0, waiting));
            *tenants += 1;
            oldest.since = oldest.since.min(since);
        }
        let line = |((url, reason), (tenants, waiting)): ((String, &str), (usize, Waiting))| {
            let seconds = waiting.since.elapsed().unwrap_or_default().as_secs();
            let remedy = waiting.remedy;
            format!("{url} has been failing for {seconds} s for {tenants} tenant(s): {reason}; {remedy}")
        };
        found.into_iter().map(line).collect()
    }

    /// Whether samples wait, and no receiver that has stored any accepts them now.
    #[must_use]
    pub fn all_wait(&self) -> bool {
        let mut waits = false;
        for status in self.snapshot() {
            match status.waiting {
                Some(_) => waits = true,
                // There may have been no samples for it.
                None if status.last_success.is_none() => {}
                None => return false,
            }
        }
        waits
    }

    /// Whether samples wait for a receiver that fails, while another one has stored some and does not fail.
    #[must_use]
    pub fn some_answer(&self) -> bool {
        let all = self.snapshot();
        let answers = |status: &ReceiverStatus| status.waiting.is_none() && status.last_success.is_some();
        all.iter().any(|status| status.waiting.is_some()) && all.iter().any(answers)
    }

    pub(crate) fn add(&self, url: String, tenant: &Arc<str>) -> ReceiverId {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let status = ReceiverStatus {
            url,
            tenant: Arc::clone(tenant),
            last_success: None,
            waiting: None,
            refused_since: None,
            quarantined: 0,
            quarantine: Arc::default(),
        };
        self.0.known.insert(id, status);
        id
    }

    pub(crate) fn remove(&self, id: ReceiverId) {
        self.0.known.remove(&id);
    }

    pub(crate) fn waits(&self, id: ReceiverId, reason: &'static str, remedy: &str) {
        self.change(id, |status| {
            let since = status.waiting.as_ref().map_or_else(now, |waiting| waiting.since);
            status.waiting = Some(Waiting { since, reason, remedy: remedy.into() });
        });
    }

    /// An answer has come; `over` when no sender waits any more.
    pub(crate) fn answers(&self, id: ReceiverId, stored: bool, over: bool) {
        self.change(id, |status| {
            if stored {
                status.last_success = Some(now());
            }
            if over {
                status.waiting = None;
            }
        });
    }

    pub(crate) fn rests(&self, id: ReceiverId) {
        self.change(id, |status| status.waiting = None);
    }

    pub(crate) fn refuses(&self, id: ReceiverId, refused: bool) {
        self.change(id, |status| {
            status.refused_since = refused.then(|| status.refused_since.unwrap_or_else(now));
        });
    }

    pub(crate) fn quarantines(&self, id: ReceiverId, number: usize, listed: Arc<[QuarantinedSeries]>) {
        self.change(id, |status| (status.quarantined, status.quarantine) = (number, listed));
    }

    fn change(&self, id: ReceiverId, change: impl FnOnce(&mut ReceiverStatus)) {
        if let Some(mut status) = self.0.known.get_mut(&id) {
            change(&mut status);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "when something was stored is shown to people")]
fn now() -> SystemTime {
    SystemTime::now()
}

// === impl ReceiversCollector ===

impl ReceiversCollector {
    pub(super) fn new(receivers: Receivers) -> Self {
        let all = [names::WAITING, names::REFUSED_WHOLE, names::QUARANTINED];
        let descs = all.into_iter().flat_map(|m| gauges(m).desc().into_iter().cloned().collect::<Vec<_>>()).collect();
        Self { receivers, descs }
    }
}

impl Collector for ReceiversCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (waiting, refused) = (gauges(names::WAITING), gauges(names::REFUSED_WHOLE));
        let of_refused = refused.with_label_values::<&str>(&[]);
        let quarantined = gauges(names::QUARANTINED);
        let in_quarantine = quarantined.with_label_values::<&str>(&[]);
        for status in self.receivers.snapshot() {
            if let Some(why) = status.waiting {
                waiting.with_label_values(&[why.reason]).inc();
            }
            if status.refused_since.is_some() {
                of_refused.inc();
            }
            in_quarantine.add(status.quarantined as f64);
        }
        let mut out = waiting.collect();
        out.extend(refused.collect());
        out.extend(quarantined.collect());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_said_by_address_and_reason_with_the_remedy() {
        let receivers = Receivers::default();
        let [a, b, c] = ["a", "b", "c"].map(|tenant| receivers.add("http://r/".to_owned(), &tenant.into()));
        assert!(!receivers.all_wait(), "nothing was said yet");
        receivers.waits(a, "unauthorized", "check the token");
        receivers.waits(b, "unauthorized", "check the token");
        receivers.answers(c, true, true);
        let said = receivers.complaints(Duration::ZERO);
        assert!(matches!(&said[..], [line] if line.contains("2 tenant(s): unauthorized; check the token")), "{said:?}");
        assert!(!receivers.all_wait() && receivers.some_answer(), "one is stored");
        receivers.remove(c);
        assert!(receivers.all_wait() && !receivers.some_answer());
        assert_eq!(receivers.complaints(Duration::from_secs(600)), Vec::<String>::new(), "not for so long");
        receivers.answers(a, true, true);
        receivers.rests(b);
        assert_eq!(receivers.complaints(Duration::ZERO), Vec::<String>::new());
        assert!(!receivers.all_wait());
    }

    #[test]
    fn what_is_refused_as_a_whole_is_known_until_something_is_taken() {
        let receivers = Receivers::default();
        let id = receivers.add("http://r/".to_owned(), &"a".into());
        receivers.refuses(id, true);
        let since = receivers.snapshot()[0].refused_since;
        receivers.refuses(id, true);
        assert!(since.is_some() && receivers.snapshot()[0].refused_since == since);
        receivers.refuses(id, false);
        assert_eq!(receivers.snapshot()[0].refused_since, None);
    }
}
