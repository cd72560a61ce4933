//! Sources that join a shard at work: a topic or a partition that was made when steps had been closed already.
//!
//! What such a source has for closed steps counts in the oldest open one, whenever it comes. So no step waits for it until it
//! has passed the closed steps for the first time, which may take hours if it has a history; from then on it is one of those
//! that every step waits for. The step-close records name it as long as it is not waited for, and the first commit of it that
//! had not been counted: a replay can repeat that.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::model::Millis;
use crate::core::tasks::series::SeriesTask;
use crate::worker::task::SourceList;

/// Which of the sources a shard waits for.
#[derive(Debug, Default)]
pub(super) struct Joining {
    /// The sources at the last look; before the first one, none.
    all: SourceList,
    /// Those that join; before the first look, those that did so when the last owner closed steps.
    joining: BTreeSet<(String, i32)>,
    /// The others.
    awaited: SourceList,
}

// === impl Joining ===

impl Joining {
    /// For an owner that knows from the journal which sources are `joining`.
    pub(super) fn carry(joining: BTreeSet<(String, i32)>) -> Self {
        Self { joining, ..Self::default() }
    }

    /// There are `all` these sources. Returns those that steps wait for.
    pub(super) fn look(&mut self, all: SourceList, task: &SeriesTask) -> SourceList {
        let changed = !Arc::ptr_eq(&all, &self.all);
        if changed {
            // Before the first step, every source is waited for: nothing of them can be too late.
            if let Some(closed) = task.closed() {
                // A new owner of the shard knows those that join from the journal. It waits for the others that it has heard
                // of: one that is behind was left behind on a stall timeout. One that comes back was not waited for.
                let comes_back = |at: Millis| !self.all.is_empty() && at < closed;
                let joins = |source: &&(String, i32)| task.time_of(source).is_none_or(comes_back);
                let new = all.iter().filter(|source| self.all.binary_search(source).is_err());
                self.joining.extend(new.filter(joins).cloned());
            }
            self.joining.retain(|source| all.binary_search(source).is_ok());
            self.all = all;
        }
        let before = self.joining.len();
        if before > 0 {
            let closed = task.closed().unwrap_or(Millis::MIN);
            self.joining.retain(|source| task.time_of(source).is_none_or(|at| at < closed));
        }
        if changed || self.joining.len() < before {
            self.awaited = self.of(|source| !self.joining.contains(source));
        }
        Arc::clone(&self.awaited)
    }

    /// Those that a step is closed without.
    pub(super) fn behind(&self, step: Millis, task: &SeriesTask) -> Vec<(String, i32)> {
        self.joining.iter().filter(|source| task.time_of(source).is_none_or(|at| at < step)).cloned().collect()
    }

    fn of(&self, wanted: impl Fn(&(String, i32)) -> bool) -> SourceList {
        Arc::new(self.all.iter().filter(|source| wanted(source)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Tenants};
    use crate::core::tasks::series::SeriesSettings;
    use crate::core::tasks::span::{Restored, SpanSettings, SpanTask};

    /// The width of a step.
    const STEP: Millis = 15_000;

    fn source(partition: i32) -> (String, i32) {
        ("spans".to_owned(), partition)
    }

    /// A shard, and the source partitions that tell it the time.
    struct Scene {
        shard: SeriesTask,
        sources: Vec<SpanTask>,
    }

    impl Scene {
        fn new() -> Self {
            let mut config = Config::default();
            config.kafka.shards = 1;
            let tenants = Tenants::from(config);
            let begin = |partition| {
                let settings = SpanSettings::from(&tenants);
                let mut task = SpanTask::new(&settings, "spans".to_owned(), partition, Restored::default());
                task.iter_mut().for_each(|task| task.set_start(0));
                task.expect("nothing to restore")
            };
            Self { shard: SeriesTask::new(SeriesSettings::from(&tenants)), sources: (0..3).map(begin).collect() }
        }

        /// A source is at `time`.
        fn passes(&mut self, partition: usize, time: Millis) {
            while let Some(cut) = self.sources[partition].tick(time) {
                for record in &cut.delta_records[0] {
                    self.shard.apply(record).expect("a share");
                }
            }
        }
    }

    #[test]
    fn a_shard_waits_for_a_source_that_joins_once_that_has_passed_what_is_closed() {
        let (mut scene, mut joining) = (Scene::new(), Joining::default());
        let first: SourceList = Arc::new(vec![source(0), source(1)]);
        assert_eq!(joining.look(Arc::clone(&first), &scene.shard), first, "nothing is closed: all are waited for");
        scene.passes(0, 10 * STEP);
        assert_eq!(joining.look(Arc::clone(&first), &scene.shard), first);
        scene.passes(1, 10 * STEP);
        scene.shard.close(9 * STEP);

        let grown: SourceList = Arc::new(vec![source(0), source(1), source(2)]);
        assert_eq!(joining.look(Arc::clone(&grown), &scene.shard), first);
        assert_eq!(joining.behind(10 * STEP, &scene.shard), [source(2)]);
        // It has a history, and steps are closed meanwhile.
        scene.passes(2, 4 * STEP);
        assert_eq!(joining.look(Arc::clone(&grown), &scene.shard), first);
        scene.shard.close(10 * STEP);
        scene.passes(2, 9 * STEP);
        assert_eq!(joining.look(Arc::clone(&grown), &scene.shard), first);
        scene.passes(2, 10 * STEP);
        assert_eq!(joining.look(Arc::clone(&grown), &scene.shard), grown);
        scene.shard.close(11 * STEP);
        assert_eq!(joining.look(Arc::clone(&grown), &scene.shard), grown, "from then on, it is one of them");
        assert!(joining.behind(12 * STEP, &scene.shard).is_empty());
    }

    #[test]
    fn a_new_owner_of_a_shard_waits_for_no_source_that_joins_until_that_has_caught_up() {
        let mut scene = Scene::new();
        scene.passes(0, 10 * STEP);
        scene.passes(1, 5 * STEP);
        scene.passes(2, 5 * STEP);
        scene.shard.close(9 * STEP);
        let all: SourceList = Arc::new((0..3).map(source).collect());
        let mut joining = Joining::carry(BTreeSet::from([source(2), source(7)]));
        let awaited = joining.look(Arc::clone(&all), &scene.shard);
        assert_eq!(*awaited, [source(0), source(1)], "one was left behind, one joins, and one is no source any more");
        assert_eq!(joining.behind(10 * STEP, &scene.shard), [source(2)]);
        scene.passes(2, 10 * STEP);
        assert_eq!(joining.look(Arc::clone(&all), &scene.shard), all, "it has caught up");
    }

    #[test]
    fn a_new_owner_of_a_shard_waits_for_the_sources_that_it_has_heard_of() {
        let mut scene = Scene::new();
        scene.passes(0, 10 * STEP);
        scene.passes(1, 5 * STEP);
        scene.shard.close(9 * STEP);
        let all: SourceList = Arc::new((0..3).map(source).collect());
        let mut joining = Joining::default();
        let awaited = joining.look(Arc::clone(&all), &scene.shard);
        assert_eq!(*awaited, [source(0), source(1)], "one was left behind, and one has never been heard of");
        let fewer: SourceList = Arc::new(vec![source(0)]);
        assert_eq!(joining.look(Arc::clone(&fewer), &scene.shard), fewer);
        assert!(joining.behind(10 * STEP, &scene.shard).is_empty(), "it is no source any more");
        assert_eq!(*joining.look(all, &scene.shard), [source(0)], "both come back, and are behind");
    }
}
