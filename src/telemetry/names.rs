//! Every metric that spanmill exposes about itself, in one place.

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets of observations.
    Histogram,
}

/// One metric: its name, its kind, its labels and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The full name.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The label names.
    pub labels: &'static [&'static str],
    /// The help text.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($konst:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $konst: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*

        /// All metrics.
        pub const ALL: &[Metric] = &[$($konst),*];
    };
}

metrics! {
    BUILD_INFO = Gauge "spanmill_build_info" ["version"]
        "Always 1; the version is in the label.";
    LEDGER = Counter "spanmill_ledger_total" ["tally", "topic", "partition"]
        "The ledger of a source partition since the beginning of its journal, shown by the worker that owns it.";
    EDGES_PENDING = Gauge "spanmill_edges_pending" ["topic", "partition"]
        "Half edges that wait for their other side.";
    LAG_RECORDS = Gauge "spanmill_lag_records" ["topic", "partition"]
        "Records of an owned source partition that have not been read yet.";
    LAG_SECONDS = Gauge "spanmill_lag_seconds" ["topic", "partition"]
        "How far an owned partition lies behind, in seconds.";
    STREAM_TIME = Gauge "spanmill_stream_time_seconds" ["kind", "topic", "partition"]
        "Stream time of a span task, watermark of a series task, in seconds since the epoch; its age is time() minus this.";
    CLOSED_STEP = Gauge "spanmill_closed_step_seconds" ["topic", "partition"]
        "The last step that a shard closed, named by its end, in seconds since the epoch.";
    ACTIVE_SERIES = Gauge "spanmill_active_series" ["topic", "partition"]
        "Active series of a shard.";
    REFUSED = Gauge "spanmill_label_sets_refused" ["topic", "partition"]
        "Label sets of a shard that a limit refuses; their counts go to overflow series. /offenders says who makes them.";
    TASKS = Gauge "spanmill_tasks" ["kind", "state"]
        "Tasks that this worker owns.";
    REBALANCES = Counter "spanmill_rebalances_total" ["event"]
        "Partitions assigned to, revoked from or lost by this worker, counted per rebalance.";
    COMMITS = Counter "spanmill_commits_total" ["kind"]
        "Commits (span tasks) and emit marks (series tasks) accepted by the journal.";
    TICKS = Counter "spanmill_ticks_total" []
        "Times that a silent source partition was advanced by the wall clock.";
    FENCED = Counter "spanmill_fenced_total" ["kind"]
        "Tasks given up because another worker had claimed their journal.";
    RESTORES = Histogram "spanmill_restore_seconds" ["kind"]
        "How long tasks took from claim to running.";
    DEAD_LETTERS = Counter "spanmill_dead_letters_total" ["outcome"]
        "Records that could not be read and were to be copied to the dead-letter topic, by whether the copy was stored.";
    PANICS = Counter "spanmill_panics_total" ["kind"]
        "Times that a task met a bug of spanmill and was taken over again; the log has its place.";
    STUCK = Counter "spanmill_partition_stuck_total" []
        "Times that an owned source partition had records and yielded none, so that it was fetched anew.";
    STORMS = Counter "spanmill_rebalance_storms_total" []
        "Minutes in which the group moved partitions of this worker again and again.";
    RESTS = Counter "spanmill_rests_total" []
        "Times that this worker left its group for a while because it had been thrown out again and again.";
    MEMORY = Gauge "spanmill_memory_bytes" ["part"]
        "What this worker holds, by its own account, which worker.memory_limit limits.";
    THROTTLED = Gauge "spanmill_memory_throttled" []
        "1 while more is held than worker.memory_limit says, so that spans wait in Kafka.";
    STEPS_CLOSED = Counter "spanmill_steps_closed_total" ["cause"]
        "Steps closed by shards, because the watermark passed or because a silent partition was left out.";
    STEPS_LEFT_OUT = Counter "spanmill_steps_left_out_total" []
        "Steps that were not written for a tenant because its receiver was down, counted per tenant; its totals come later.";
    SAMPLES_BUILT = Counter "spanmill_samples_built_total" []
        "Samples handed over for remote write; each ends as acknowledged, already there, rejected or abandoned.";
    SAMPLES_ACKNOWLEDGED = Counter "spanmill_samples_acknowledged_total" []
        "Samples that the receiver stored.";
    SAMPLES_ALREADY_THERE = Counter "spanmill_samples_already_there_total" []
        "Resent samples that the receiver refused because it had stored them before.";
    SAMPLES_REJECTED = Counter "spanmill_samples_rejected_total" ["reason"]
        "Samples that the receiver refused for good.";
    SAMPLES_ABANDONED = Counter "spanmill_samples_abandoned_total" []
        "Samples whose sending stopped because their task went away; the next owner sends them again.";
    SAMPLES_PENDING = Gauge "spanmill_samples_pending" []
        "Samples handed over and not settled yet.";
    REQUESTS = Counter "spanmill_remote_write_requests_total" ["class"]
        "Remote-write attempts by class of answer; `error` is an attempt without an answer.";
    RETRIES = Counter "spanmill_remote_write_retries_total" []
        "Remote-write attempts that repeated an earlier one.";
    BYTES = Counter "spanmill_remote_write_bytes_total" []
        "Compressed bytes of all remote-write attempts.";
    OVERRIDES = Gauge "spanmill_overrides_info" ["version"]
        "Always 1; the version of the tenants' settings that are in force is in the label. Absent without overrides.";
    OVERRIDES_TENANTS = Gauge "spanmill_overrides_tenants" []
        "Tenants with settings of their own.";
    OVERRIDES_REFUSED = Gauge "spanmill_overrides_refused" []
        "1 while the overrides file has changed and cannot be used, so that earlier settings stay in force; the log says why.";
    OVERRIDES_RELOADS = Counter "spanmill_overrides_reloads_total" ["result"]
        "Changes of the overrides file, by whether they came into force.";
    IN_FLIGHT = Gauge "spanmill_remote_write_in_flight" []
        "Remote-write requests that wait for their answer.";
    REQUEST_SECONDS = Histogram "spanmill_remote_write_seconds" []
        "How long remote-write attempts took.";
    PENDING_BATCHES = Gauge "spanmill_remote_write_pending_batches" []
        "Batches handed over and not settled yet.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for m in ALL {
            assert!(m.name.starts_with("spanmill_"), "{}", m.name);
            assert_eq!(m.name.ends_with("_total"), m.kind == Kind::Counter, "{}", m.name);
            assert!(m.help.ends_with('.'), "{}", m.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
