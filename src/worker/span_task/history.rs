//! A span task that replays a stretch of its partition.

use std::time::{Duration, Instant};

use crate::core::model::Millis;
use crate::core::tasks::span::{Repeat, SpanTask, StepCut};
use crate::worker::task::{Mode, ReplayRange};
use crate::worker::telemetry::TaskId;

/// How often it is logged that the log ends too early.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What a task replays; nothing in a live worker.
pub(super) struct History(Option<Replayed>);

/// The range of a task that replays one.
struct Replayed {
    range: ReplayRange,
    /// What happened to the live group.
    repeat: Repeat,
    /// The stream time at which the task began on this worker.
    begun: Option<Millis>,
    /// Whether it waits for other partitions.
    waits: bool,
    /// Where the log ends, if that is too early, and when that was logged last.
    ends_early: Option<(i64, Instant)>,
}

/// The message about a partition that has lost records that a run was planned for.
fn lost_end(topic: &str, partition: i32, end: i64, planned: i64) -> String {
    format!(
        "{topic}[{partition}] ends at offset {end}, but the run was planned up to {planned}: the topic has lost its \
         end, or was re-created. The run waits; to replay the records that remain, start another run with another \
         --id"
    )
}

// === impl Replayed ===

impl Replayed {
    fn new(range: &ReplayRange, task: &mut SpanTask) -> Self {
        let repeat = Repeat::new(range.past.clone(), task);
        Self { range: range.clone(), repeat, begun: None, waits: false, ends_early: None }
    }

    /// Why the task cannot finish.
    fn trouble(&self, id: &TaskId) -> Option<String> {
        let (end, _) = self.ends_early?;
        Some(lost_end(&id.topic, id.partition, end, self.range.to))
    }
}

// === impl History ===

impl History {
    /// The range of a task that has been restored, if it replays one.
    pub(super) fn new(range: Option<&ReplayRange>, task: &mut SpanTask) -> Self {
        Self(range.map(|range| Replayed::new(range, task)))
    }

    /// Looks how far the task is; returns whether it has read all of its range.
    pub(super) fn is_over(&mut self, mode: &Mode, task: &SpanTask) -> bool {
        let (Some(replaying), Some(replayed)) = (mode.replaying(), &mut self.0) else { return false };
        replayed.waits = task.stream_time().is_some_and(|now| {
            let begun = *replayed.begun.get_or_insert(now);
            !task.has_ended() && replaying.is_ahead(begun, now)
        });
        let over = task.position().is_some_and(|position| position >= replayed.range.to);
        over && !task.rebuilding()
    }

    /// Whether the task has nothing to read now: it has finished, waits for other partitions, or is paced.
    pub(super) fn rests(&self, mode: &Mode, task: &SpanTask) -> bool {
        let Some(replaying) = mode.replaying().filter(|_| self.0.is_some()) else { return false };
        task.has_ended() || self.waits() || !replaying.may_read()
    }

    /// Whether the task waits for other partitions to catch up.
    pub(super) fn waits(&self) -> bool {
        self.0.as_ref().is_some_and(|replayed| replayed.waits)
    }

    /// Whether the record at `offset` lies past the end of the range.
    pub(super) fn is_past(&self, offset: i64) -> bool {
        self.0.as_ref().is_some_and(|replayed| offset >= replayed.range.to)
    }

    /// How far a log that ends at `end` is read.
    pub(super) fn within(&self, end: i64) -> i64 {
        self.0.as_ref().map_or(end, |replayed| end.min(replayed.range.to))
    }

    /// What is to be repeated before the record at `offset`, which is there.
    pub(super) fn before(&mut self, offset: i64) -> Option<impl FnOnce(&mut SpanTask) -> Vec<StepCut>> {
        let replayed = self.0.as_mut()?;
        replayed.ends_early = None;
        Some(move |task: &mut SpanTask| replayed.repeat.before(task, offset))
    }

    /// The rest, when the partition holds nothing more of the range.
    pub(super) fn finish(&mut self) -> Option<(i64, impl FnOnce(&mut SpanTask) -> Vec<StepCut>)> {
        let replayed = self.0.as_mut()?;
        // The last offsets may hold no record.
        let (to, settle) = (replayed.range.to, replayed.range.settle);
        replayed.ends_early = None;
        let rest = move |task: &mut SpanTask| {
            let mut cuts = replayed.repeat.before(task, to);
            cuts.extend(task.finish(settle));
            cuts
        };
        Some((to, rest))
    }

    /// The log ends at `end`, before the end of the range. Only an operator knows whether the missing records come
    /// back.
    pub(super) fn ends_early(&mut self, id: &TaskId, end: i64) {
        let Some(replayed) = &mut self.0 else { return };
        let said = replayed.ends_early.map(|(_, at)| at).filter(|at| at.elapsed() < SAY_EVERY);
        replayed.ends_early = Some((end, said.unwrap_or_else(Instant::now)));
        if let Some(trouble) = replayed.trouble(id).filter(|_| said.is_none()) {
            tracing::error!(error = trouble, "a partition ends before the range of the replay");
        }
    }

    /// Why the task cannot finish.
    pub(super) fn trouble(&self, id: &TaskId) -> Option<String> {
        self.0.as_ref()?.trouble(id)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::super::intake::tests::place;
    use super::*;
    use crate::core::model::Counter;
    use crate::tools::loadgen::{Generator, Options, Topology};
    use crate::worker::kafka::broker_clock::wall_clock;
    use crate::worker::sender::Exporter;
    use crate::worker::telemetry::{TaskKind, Telemetry};
    use crate::worker::{Replay, Worker};

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_replay_counts_the_records_of_its_range_and_is_done() {
        let (_cluster, config) = place();
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &config.kafka.brokers).create().expect("a producer");
        let options = Options { start: wall_clock() - 60_000, rate: 200, spans: Some(400), ..Options::default() };
        let records: Vec<_> = Generator::new(Topology::shop(1), 1, options).collect();
        for record in &records {
            let message = BaseRecord::<[u8], [u8]>::to("spans").payload(&record.value).timestamp(record.timestamp);
            producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
        }
        producer.flush(PATIENCE).expect("everything is delivered");
        let (from, to) = (3, records.len() as i64 - 5);
        let range = ReplayRange { from, to, settle: true, ..ReplayRange::default() };
        let replay = Replay {
            ranges: [(("spans".to_owned(), 0), range)].into(),
            present: wall_clock(),
            lead: 600_000,
            bytes_per_second: None,
            watch: None,
        };
        let telemetry = Telemetry::new();
        let exporter = Exporter::start(&config.remote_write, telemetry.clone()).expect("an exporter");
        let worker = Worker::replay(config, telemetry.clone(), exporter, replay).expect("a worker");
        let span = || telemetry.tasks().snapshot().into_iter().find(|(id, s)| id.kind == TaskKind::Span && s.done);
        let begin = Instant::now();
        let (_, status) = loop {
            assert!(begin.elapsed() < PATIENCE, "{}", telemetry.render());
            if let Some(done) = span() {
                break done;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(status.ledger.get(Counter::RecordsRead), (to - from).unsigned_abs());
        assert_eq!((status.position, status.trouble), (to, None));
        worker.stop().expect("a graceful stop");
    }
}
