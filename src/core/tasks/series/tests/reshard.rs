//! Another number of shards, as often as one likes, changes nothing in what is sent: the samples of all shards together are
//! those of a group with one shard that was never divided again.

use super::property::{Rng, SOURCES, how, seen};
use super::*;
use crate::core::deltas::Limited;
use crate::core::series::{DivideError, OVERFLOW_TENANT};

const BEGIN: Millis = 50 * W;
const STEPS: i64 = 40;

/// What a source commits: the step, the stream time, and what it saw.
struct Commit {
    source: usize,
    step: Millis,
    stream_time: Millis,
    seen: Vec<Seen>,
}

/// When the number of shards changes: before which commit, and to how many.
type Changes = BTreeMap<usize, u32>;

/// A group: all sources and all shards. What a shard has not read yet lies in its queue.
struct Group {
    settings: SeriesSettings,
    sources: Vec<Source>,
    shards: Vec<SeriesTask>,
    queues: Vec<Vec<Vec<u8>>>,
    /// What was sent, by step and series. A series that two shards send is a failure.
    sent: BTreeMap<Millis, BTreeMap<String, Said>>,
}

/// What the sources commit in turn, with pauses of all lengths, so that sets go cold, come back and are forgotten.
fn traffic(rng: &mut Rng) -> Vec<Commit> {
    let mut commits = Vec::new();
    let mut at = [BEGIN; SOURCES as usize];
    let width = settings().step;
    while let Some(source) = (0..at.len()).filter(|&i| at[i] < BEGIN + STEPS * W).min_by_key(|&i| at[i]) {
        let now = at[source];
        let seen = (0..rng.below(5)).map(|_| seen(rng, now)).collect();
        at[source] += 1 + [1, 400, 1_000, 1_000, 2_500, 9_000][rng.below(6) as usize];
        // A cut comes when stream time moves into another step.
        commits.push(Commit { source, step: width.end_of(now), stream_time: at[source] - 1, seen });
    }
    for source in 0..at.len() {
        let step = width.end_of(BEGIN + STEPS * W);
        commits.push(Commit { source, step, stream_time: BEGIN + 2 * STEPS * W, seen: Vec::new() });
    }
    commits
}

// === impl Group ===

impl Group {
    fn new(settings: SeriesSettings, how: &How) -> Self {
        let source = |p| Source { how: how.clone(), ..Source::new(p, settings.stale_after) };
        let shards = (0..settings.shards).map(|_| SeriesTask::new(settings.clone())).collect();
        let queues = (0..settings.shards).map(|_| Vec::new()).collect();
        Self { sources: (0..SOURCES).map(source).collect(), shards, queues, settings, sent: BTreeMap::new() }
    }

    fn keep(&mut self, closed: &ClosedStep) {
        let step = self.sent.entry(closed.step).or_default();
        for (key, line) in said(closed) {
            assert!(step.insert(key.clone(), line).is_none(), "two shards send {key} at {}", closed.step);
        }
    }

    /// A shard reads what lies in its queue, up to `most` records, and closes what can be closed.
    fn read(&mut self, shard: usize, most: usize, closes: bool) {
        let most = most.min(self.queues[shard].len());
        for record in self.queues[shard].drain(..most).collect::<Vec<_>>() {
            let applied = self.shards[shard].apply(&record).expect("a delta record");
            assert!(applied.lost == 0 && matches!(applied.verdict, ChainVerdict::Accepted { .. }), "{applied:?}");
            while let Some(step) = self.shards[shard].closable(&sources(SOURCES)).filter(|_| closes) {
                let closed = self.shards[shard].close(step);
                self.keep(&closed);
            }
        }
    }

    fn commit(&mut self, commit: &Commit) {
        let source = &mut self.sources[commit.source];
        commit.seen.iter().for_each(|seen| source.see(seen));
        let records = source.cut_for(self.settings.shards, commit.step, commit.stream_time);
        self.queues.iter_mut().zip(records).for_each(|(queue, records)| queue.extend(records));
    }

    /// What `spanmill reshard` does: all shards count everything, close what any of them has closed, and are divided again.
    fn reshard(&mut self, shards: u32) {
        (0..self.shards.len()).for_each(|shard| self.read(shard, usize::MAX, false));
        let last = self.shards.iter().filter_map(SeriesTask::closed).max();
        for shard in 0..self.shards.len() {
            while let Some(step) = last.and_then(|last| self.shards[shard].next_until(last)) {
                let closed = self.shards[shard].close(step);
                self.keep(&closed);
            }
        }
        self.settings = SeriesSettings { shards, ..self.settings.clone() };
        let live: u64 = self.shards.iter().map(SeriesTask::active_series).sum();
        let old = std::mem::take(&mut self.shards);
        self.shards = SeriesTask::reshard(old, &self.settings).expect("they stand at the same place");
        assert_eq!(self.shards.iter().map(SeriesTask::active_series).sum::<u64>(), live);
        // As every new owner does.
        for task in &mut self.shards {
            let snapshot = task.snapshot();
            *task = SeriesTask::restore(self.settings.clone(), &snapshot).expect("our own snapshot");
            assert_eq!(task.snapshot(), snapshot);
        }
        self.queues = (0..shards).map(|_| Vec::new()).collect();
        for source in &mut self.sources {
            source.table = DeltaTable::new(self.settings.stale_after);
            source.table.set_limited(limited());
        }
    }
}

/// All tenants have limits, as far as sources know.
fn limited() -> Limited {
    Limited { others: true, ..Limited::default() }
}

/// Plays the commits, shards reading at random paces; a lone shard that never changes is the measure.
fn play(seed: u64, settings: &SeriesSettings, commits: &[Commit], changes: &Changes, how: &How) -> Group {
    let mut rng = Rng(seed ^ 0x5eed);
    let mut group = Group::new(settings.clone(), how);
    group.sources.iter_mut().for_each(|source| source.table.set_limited(limited()));
    for (i, commit) in commits.iter().enumerate() {
        if let Some(shards) = changes.get(&i) {
            group.reshard(*shards);
        }
        group.commit(commit);
        for shard in 0..group.shards.len() {
            group.read(shard, rng.below(4) as usize, true);
        }
    }
    (0..group.shards.len()).for_each(|shard| group.read(shard, usize::MAX, true));
    group.sent.retain(|_, series| !series.is_empty());
    group
}

fn changes(rng: &mut Rng, commits: usize) -> Changes {
    (0..1 + rng.below(3)).map(|_| (rng.below(commits as u64) as usize, 1 + rng.below(7) as u32)).collect()
}

#[test]
fn groups_that_were_divided_again_send_what_one_shard_sends() {
    for seed in 0..64 {
        let mut rng = Rng(seed);
        let (how, commits) = (how(seed), traffic(&mut rng));
        let changes = changes(&mut rng, commits.len());
        // Values that were not written yet, and those that are not written because nothing has changed, move, too.
        let settings = with(|config| match seed % 5 {
            1 => config.core.series.interval = 3 * W,
            2 => config.core.series.resend_unchanged = 5 * W,
            _ => {}
        });
        let of = |shards| SeriesSettings { shards, ..settings.clone() };
        // New owners of the sources send label sets in full again: the measure has them, too.
        let same = changes.keys().map(|at| (*at, 1)).collect();
        let one = play(seed, &of(1), &commits, &same, &how);
        let never = play(seed, &of(1), &commits, &Changes::new(), &how);
        let many = play(seed, &of(4), &commits, &changes, &how);
        assert!(one.sent.len() > 10 && one.sent == never.sent, "seed {seed}");
        assert!(one.sent == many.sent, "seed {seed}, {changes:?}");
    }
}

#[test]
fn limits_lose_nothing_and_no_series_gets_a_second_writer_or_a_reset() {
    for seed in 0..48 {
        let mut rng = Rng(seed);
        let commits = traffic(&mut rng);
        let changes = changes(&mut rng, commits.len());
        let limited = with(|config| {
            config.kafka.shards = 4;
            config.core.series.stale_after = 1_000 * W;
            match seed % 3 {
                0 => config.core.limits.max_tenants = 1,
                1 => config.core.limits.max_active_series = 20,
                _ => config.core.limits.max_active_series_per_service = 5,
            }
        });
        let group = play(seed, &limited, &commits, &changes, &CLASSIC);
        let mut last: BTreeMap<&str, f64> = BTreeMap::new();
        for (key, (samples, _)) in
            group.sent.values().flatten().filter(|(key, _)| key.contains(" traces_spanmetrics_calls_total"))
        {
            for value in samples.iter().map(|(_, bits)| f64::from_bits(*bits)).filter(|value| !value.is_nan()) {
                let before = last.insert(key, value);
                assert!(
                    before.is_none_or(|before| before <= value),
                    "seed {seed}: {key} falls from {before:?} to {value}"
                );
            }
        }
        let seen = commits.iter().flat_map(|commit| &commit.seen);
        let calls: u64 = seen.filter(|x| x.family == Family::SpanMetrics).map(|x| x.counts[0]).sum();
        assert_eq!(last.values().sum::<f64>() as u64, calls, "seed {seed}, {changes:?}");
        let others = last.keys().filter(|key| key.contains("metric_overflow")).count();
        assert!(others > 0, "seed {seed} has no limit that bites");
        let tenants = last.keys().filter(|key| key.starts_with(OVERFLOW_TENANT)).count();
        assert_eq!(tenants > 0, seed % 3 == 0, "seed {seed}");
    }
}

#[test]
fn shards_that_do_not_stand_at_the_same_place_are_not_divided() {
    let of = |shards| SeriesSettings { shards, ..settings() };
    let mut group = Group::new(of(2), &CLASSIC);
    group.commit(&Commit { source: 0, step: W, stream_time: W, seen: vec![span("a", 1)] });
    group.read(0, 1, true);
    let refused = SeriesTask::reshard(group.shards, &of(3)).expect_err("one lacks a delta record");
    assert_eq!(refused, ReshardError::Chains);
    assert_eq!(SeriesTask::reshard(Vec::new(), &of(3)).expect_err("none"), ReshardError::Nothing);
    let mut tasks: Vec<_> = (0..2).map(|_| SeriesTask::new(of(2))).collect();
    tasks[1].close(W);
    let refused = SeriesTask::reshard(tasks, &of(3)).expect_err("they have closed other steps");
    assert_eq!(refused, ReshardError::Divide(DivideError::Steps));
}

#[test]
fn deltas_without_labels_wait_before_shards_are_divided() {
    let mut source = Source::new(0, settings().stale_after);
    source.see(&span("a", 1));
    source.cut(W, W);
    source.see(&span("a", 1));
    source.commit_number = 0;
    let mut task = SeriesTask::new(SeriesSettings { shards: 1, ..settings() });
    assert_eq!(task.apply(&source.cut(W, W)[0]).expect("a delta record").lost, 1);
    let refused = SeriesTask::reshard(vec![task], &settings()).expect_err("its shard is not known");
    assert_eq!(refused, ReshardError::Divide(DivideError::Unnamed(1)));
}
