//! The health check of a worker: twice a second it checks everything that the worker needs, and reports what does not
//! hold.
//!
//! It runs on a thread of its own and sends no requests: it judges by what other threads have seen. So it continues
//! while brokers, receivers and all other threads stand still.
//!
//! *In:* the task registry, the conditions, the groups, and what the clients have counted. *Out:* conditions of being
//! ready. *Owner:* the thread `health`. *Never:* a question to a broker or a receiver. *Next:*
//! [`crate::worker::admin`], which answers by the conditions.

mod delivery;
mod liveness;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::delivery::Delivery;
pub(crate) use self::liveness::Liveness;
use self::records::Records;
use crate::core::model::Millis;
use crate::worker::kafka::files::Files;
use crate::worker::kafka::{client, fetch, tokens};
use crate::worker::task::{Clients, Groups, pause};
use crate::worker::telemetry::{Condition, Conditions, TaskId, TaskKind, TaskState, TaskStatus, WAITS_AT_LEAST};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A broker that is asked for records answers ten times a second, and librdkafka reports that every
/// [`fetch::TELL_EVERY`].
const SILENCE: Duration = Duration::from_secs(5 + fetch::TELL_EVERY.as_secs());
/// How long an append may wait for its acknowledgement.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// How long the rows of lost tasks stay after the group has this worker again. The reports of lost tasks come once a
/// second.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// How long a worker that starts may take to join its groups before that is a warning.
const JOINS_WITHIN: Duration = Duration::from_secs(30);

/// The state that the health check reads.
pub(crate) struct Watched {
    pub(crate) clients: Arc<Clients>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) liveness: Arc<Liveness>,
    /// Raised when the worker is to end.
    pub(crate) stop: Arc<AtomicBool>,
}

/// The state between two checks.
#[derive(Debug)]
struct Watch {
    files: Files,
    delivery: Delivery,
    records: Records,
    /// Since when the worker is in each group.
    back: BTreeMap<TaskKind, Instant>,
    began: Instant,
    /// Whether [`JOINS_WITHIN`] is over.
    is_late: bool,
}

/// What tasks lack, by condition and task.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lacks {
    tasks: BTreeMap<String, String>,
    fetch: BTreeMap<String, String>,
    lag: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

/// Runs before anything else: conditions that are not met yet at the start are no news.
pub(crate) fn begin(conditions: &Conditions) {
    // Of a worker before this one in the same process.
    conditions.report(Condition::Group, "stop", None);
    conditions.expect(Condition::Group, "start", "the worker has not joined its groups yet");
    conditions.expect_first(Condition::Tasks);
}

/// Starts to watch.
pub(crate) fn watch(watched: Watched) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("health".to_owned()).spawn(move || {
        let files = Files::new(&watched.clients.config.kafka, Instant::now());
        let (delivery, records, back) = (Delivery::default(), Records::default(), BTreeMap::new());
        let mut watch = Watch { files, delivery, records, back, began: Instant::now(), is_late: false };
        loop {
            watch.look(&watched, Instant::now());
            if !pause(&watched.stop, LOOK_EVERY) {
                break;
            }
        }
        watched.clients.telemetry.conditions().expect(Condition::Group, "stop", "the worker is stopping");
    })
}

// === impl Watch ===

impl Watch {
    fn look(&mut self, watched: &Watched, present: Instant) {
        let conditions = watched.clients.telemetry.conditions();
        let kinds = [TaskKind::Span, TaskKind::Series];
        let groups = kinds.map(|kind| (kind, self.look_at_group(watched, kind, present)));
        let statuses = watched.clients.telemetry.tasks().snapshot();
        // Why brokers do not answer, if librdkafka has reported it.
        let cause = client::cause();
        // Files that have changed are a reason only once brokers refuse what was in them.
        let files = self.files.look(present).filter(|_| cause.is_some());
        conditions.report(Condition::Credentials, "files", files);
        let lacks = lacks(&statuses, watched.clients.config.admin.ready_max_lag, present, cause.as_deref());
        conditions.report(Condition::Credentials, "kafka", tokens::missing(&watched.clients.config.kafka));
        conditions.report_all(Condition::Tasks, lacks.tasks);
        conditions.report_all(Condition::Fetch, lacks.fetch);
        conditions.report_all(Condition::Lag, lacks.lag);
        conditions.report_all(Condition::Labels, lacks.labels);
        let write = watched.clients.appender.troubles(UNACKNOWLEDGED).into_iter().map(|(topic, trouble)| {
            (topic, format!("{trouble}; check that its brokers are reachable and that this worker may write to it"))
        });
        conditions.report_all(Condition::Write, write.collect());
        if !statuses.iter().any(|(id, _)| id.kind == TaskKind::Series) {
            self.delivery.forget();
        }
        let receivers = watched.clients.telemetry.receivers();
        let mut samples = watched.clients.telemetry.samples();
        if receivers.some_answer() {
            // What waits is for a tenant or an endpoint whose receiver fails, while others get their steps.
            samples.pending = 0;
        }
        conditions.report(Condition::Export, "all", self.delivery.judge(samples, present));
        let waits = if receivers.all_wait() { receivers.complaints(WAITS_AT_LEAST) } else { Vec::new() };
        conditions.report(Condition::Export, "waiting", (!waits.is_empty()).then(|| waits.join("; ")));
        conditions.report_all(Condition::Records, self.records.judge(&statuses, present));
        let fetched: u64 = statuses.iter().map(|(_, status)| status.fetched).sum();
        watched.clients.memory.show(usize::try_from(fetched).unwrap_or(usize::MAX));
        // Last: a worker that has just joined its groups has tasks, which are not running yet.
        if !self.is_late && present.saturating_duration_since(self.began) > JOINS_WITHIN {
            self.is_late = true;
            // How a worker starts is no news, until it lasts.
            let lasting = groups.iter().filter_map(|(_, trouble)| trouble.as_ref());
            lasting.for_each(|reason| tracing::warn!(condition = Condition::Group.name(), reason, "not ready"));
        }
        for (kind, trouble) in groups {
            conditions.report(Condition::Group, kind.name(), trouble);
        }
        if kinds.iter().all(|kind| watched.groups.member(*kind).is_some()) {
            conditions.report(Condition::Group, "start", None);
        }
        watched.liveness.judged();
    }

    /// Why the worker is not known to be in a group.
    fn look_at_group(&mut self, watched: &Watched, kind: TaskKind, present: Instant) -> Option<String> {
        let telemetry = &watched.clients.telemetry;
        let Some(member) = watched.groups.member(kind) else {
            telemetry.tasks().confirm(kind, false);
            return None;
        };
        if member.observes() {
            telemetry.tasks().confirm(kind, false);
            return None;
        }
        let pulse = member.pulse();
        let trouble = pulse.trouble(member.group(), present);
        telemetry.tasks().confirm(kind, trouble.is_none() && pulse.is_of_now(present));
        if trouble.is_some() || !pulse.is_settled() {
            self.back.remove(&kind);
        } else if present.saturating_duration_since(*self.back.entry(kind).or_insert(present)) > FORGET_AFTER {
            // What was lost a moment ago: librdkafka has not reported yet that the member has lost its place, too.
            telemetry.tasks().forget_lost(kind, FORGET_AFTER);
        }
        trouble
    }
}

/// What the tasks on the task registry lack.
fn lacks(statuses: &[(TaskId, TaskStatus)], max_lag: Millis, present: Instant, cause: Option<&str>) -> Lacks {
    let mut out = Lacks::default();
    for (id, s) in statuses {
        let since = |at: Option<Instant>| at.map(|at| present.saturating_duration_since(at));
        let name = id.to_string();
        if s.state != TaskState::Running || !s.restored {
            let state = if s.state == TaskState::Running { "not restored yet" } else { s.state.name() };
            let why = s.trouble.as_ref().map_or(String::new(), |why| format!(": {why}"));
            let seconds = since(s.since).unwrap_or_default().as_secs();
            out.tasks.insert(name, format!("{id} is {state}, for {seconds} s{why}"));
            continue;
        }
        if let Some(trouble) = &s.trouble {
            out.tasks.insert(name.clone(), format!("{id}: {trouble}"));
        }
        // An answer from before a task was acquired again is no evidence of the present.
        let silent = since(s.heard.max(s.since)).filter(|silent| *silent > SILENCE);
        if let Some(trouble) = s.fetch_trouble.clone().or_else(|| silent.map(|silent| silence(id, silent, cause))) {
            out.fetch.insert(name.clone(), trouble);
        }
        if s.unnamed > 0 {
            let text = format!(
                "{id} does not know the labels of {} label sets, whose counts are held back; restart the workers one \
                 after the other, so that all labels are sent again",
                s.unnamed
            );
            out.labels.insert(name.clone(), text);
        }
        if s.lag_millis > max_lag {
            let seconds = |ms: Millis| ms as f64 / 1000.0;
            let (lag, max) = (seconds(s.lag_millis), seconds(max_lag));
            let records = s.lag_records;
            out.lag.insert(
                name,
                format!(
                    "{id} lags {lag} s ({records} records), more than admin.ready_max_lag of {max} s; if it does not \
                     catch up, start more workers"
                ),
            );
        }
    }
    out
}

fn silence(id: &TaskId, silent: Duration, cause: Option<&str>) -> String {
    let cause = cause.unwrap_or("check that it is reachable and accepts the credentials in kafka.properties");
    let (topic, partition, seconds) = (&id.topic, id.partition, silent.as_secs());
    format!("the broker of {topic}[{partition}] has not answered for {seconds} s, so reading is blocked; {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_LAG: Millis = 1_000;

    fn task(partition: i32, present: Instant, change: impl FnOnce(&mut TaskStatus)) -> (TaskId, TaskStatus) {
        let mut s = TaskStatus {
            state: TaskState::Running,
            restored: true,
            heard: Some(present),
            since: Some(present),
            ..TaskStatus::default()
        };
        change(&mut s);
        (TaskId { kind: TaskKind::Span, topic: "spans".to_owned(), partition }, s)
    }

    #[test]
    fn every_reason_names_its_task() {
        let start = Instant::now();
        let present = start + SILENCE + Duration::from_secs(1);
        let statuses = [
            task(0, present, |_| {}),
            task(1, present, |s| s.state = TaskState::Restoring),
            task(2, present, |s| s.restored = false),
            task(3, present, |s| (s.lag_millis, s.lag_records) = (1_001, 12)),
            task(4, present, |s| s.lag_millis = MAX_LAG),
            task(5, present, |s| (s.heard, s.since) = (Some(start), Some(start))),
            task(6, present, |s| s.fetch_trouble = Some("spans[6] cannot be read".to_owned())),
            task(7, present, |s| (s.heard, s.since) = (None, Some(start))),
            task(10, present, |s| s.heard = Some(start)),
            task(9, present, |s| s.unnamed = 7),
            task(8, start, |s| (s.state, s.trouble) = (TaskState::Claiming, Some("no rights".to_owned()))),
        ];
        let lacks = lacks(&statuses, MAX_LAG, present, None);
        let lines = |what: &BTreeMap<String, String>| what.values().cloned().collect::<Vec<_>>();
        assert_eq!(
            lines(&lacks.tasks),
            [
                "span task spans[1] is restoring, for 0 s",
                "span task spans[2] is not restored yet, for 0 s",
                "span task spans[8] is claiming, for 8 s: no rights"
            ]
        );
        let lag = "span task spans[3] lags 1.001 s (12 records), more than admin.ready_max_lag of 1 s; if it does not catch up, \
                   start more workers";
        assert_eq!(lines(&lacks.lag), [lag]);
        assert!(
            lacks.labels.len() == 1 && lines(&lacks.labels)[0].contains("spans[9] does not know the labels of 7 label")
        );
        assert_eq!(lacks.fetch.len(), 3);
        for (line, what) in lines(&lacks.fetch).iter().zip(["spans[5] has not", "spans[6] cannot", "spans[7] has not"])
        {
            assert!(line.contains(what), "{line}");
        }
    }

    #[test]
    fn a_broker_that_does_not_answer_is_named_with_the_cause_where_that_is_known() {
        let id = TaskId { kind: TaskKind::Span, topic: "spans".to_owned(), partition: 3 };
        let said = |cause| silence(&id, Duration::from_secs(8), cause);
        assert!(said(None).ends_with(
            "for 8 s, so reading is blocked; check that it is reachable and accepts the credentials in kafka.properties"
        ));
        assert!(
            said(Some("the broker rejects the password"))
                .ends_with("reading is blocked; the broker rejects the password")
        );
    }
}
