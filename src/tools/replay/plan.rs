//! The plan of a run: everything that its workers must agree upon.

use serde::{Deserialize, Serialize};

use crate::config::settings::MAX_SHARDS;
use crate::config::{Loaded, Reach, Sources, load, reach};
use crate::core::journal::Event;
use crate::core::model::Millis;
use crate::worker::{Replay, ReplayRange};

const VERSION: u32 = 1;

/// Keys that affect samples of live workers and not those of a run: it has topics of its own, begins at the offsets of
/// its plan, and has no ticks and no forced closes. Besides these, the workers of a run, and a run that continues, may
/// have other values of keys with the reach of a worker.
const FREE: [&str; 4] = ["kafka.group", "kafka.start", "time.idle", "time.stall_grace"];

/// What the workers of a run agree upon. The first one writes it, the others read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayPlan {
    /// The version of this format.
    pub version: u32,
    /// When it was made, in milliseconds since the epoch.
    pub made: Millis,
    /// The beginning and the end, as the user wrote them.
    pub from: Vec<String>,
    /// See `from`.
    pub to: Vec<String>,
    /// Every partition of the source topics.
    pub partitions: Vec<Planned>,
    /// Everything in the configuration that decides what is counted, as `key = value`.
    pub settings: Vec<String>,
}

/// The stretch of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset after the last one.
    pub to: i64,
    /// Whether `to` was the end of the partition.
    pub to_end: bool,
    /// Whether records before `from` had been deleted that the range asks for.
    pub cut: bool,
    /// The timestamp of the first record of the stretch, if it has one.
    pub begins: Option<Millis>,
    /// The events of the live group to repeat: ticks, and delta records that came too late for a forced close.
    #[serde(default, rename = "ticks", skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Event>,
}

/// The settings of a configuration that affect samples, one `key = value` each.
#[must_use]
pub fn settings_of(loaded: &Loaded) -> Vec<String> {
    let all = loaded.effective.iter().chain(&loaded.overridden);
    all.filter(|e| counts(of_tenant(loaded, &e.path))).map(|e| format!("{} = {}", e.path, e.value)).collect()
}

/// Whether a key affects samples of a run. A key without a declared reach does.
fn counts(path: &str) -> bool {
    !FREE.contains(&path) && reach(path).is_none_or(Reach::counts)
}

/// Whether two paths are about the same key: one may be an entry of the other.
fn is_same_key(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The path of a line `key = value`.
fn path_of(line: &str) -> &str {
    line.split_once(" = ").map_or(line, |(path, _)| path)
}

/// The settings if no source sets any.
fn defaults() -> Vec<String> {
    let nothing = Sources { file: None, env: &[], set: &[], read_file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    load(&nothing).map_or_else(|_| Vec::new(), |loaded| settings_of(&loaded))
}

/// The key that a path sets, as a default or for a tenant. The name of a tenant may hold dots.
fn of_tenant<'p>(loaded: &Loaded, path: &'p str) -> &'p str {
    let key = |name: &str| path.strip_prefix("tenants.")?.strip_prefix(name)?.strip_prefix('.');
    // Of two names that fit, the longer one is meant, so what is left is the shorter one.
    loaded.tenants.overridden().filter_map(|(name, _)| key(name)).min_by_key(|key| key.len()).unwrap_or(path)
}

// === impl ReplayPlan ===

impl ReplayPlan {
    /// A plan of this version.
    #[must_use]
    pub fn new(
        made: Millis,
        from: Vec<String>,
        to: Vec<String>,
        partitions: Vec<Planned>,
        settings: Vec<String>,
    ) -> Self {
        Self { version: VERSION, made, from, to, partitions, settings }
    }

    /// What the run reads, a line each.
    #[must_use]
    pub fn described(&self) -> Vec<String> {
        let one = |p: &Planned| format!("{}[{}] from {} to {}", p.topic, p.partition, p.from, p.to);
        self.partitions.iter().map(one).collect()
    }

    /// The bytes of a plan.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// The problem.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let plan: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if plan.version != VERSION {
            return Err(format!("it has version {}, this program reads {VERSION}", plan.version));
        }
        // A forged number would size an allocation.
        let shard = |event: &Event| match event {
            Event::Missed { shard, .. } if *shard >= MAX_SHARDS => Some(*shard),
            Event::Missed { .. } | Event::Tick(..) => None,
        };
        match plan.partitions.iter().flat_map(|p| &p.past).find_map(shard) {
            Some(shard) => Err(format!("it is damaged: it contains shard {shard}, but there are at most {MAX_SHARDS}")),
            None => Ok(plan),
        }
    }

    /// The differences between the settings of a worker and those of the plan, in the notation of the plan. A plan of
    /// an earlier version may have keys that do not count any more, and lacks those that came later: they must have
    /// their defaults.
    #[must_use]
    pub fn differences(&self, settings: &[String]) -> Vec<String> {
        let only = |these: &[String], others: &[String], sign: char| -> Vec<String> {
            these.iter().filter(|line| !others.contains(line)).map(|line| format!("{sign} {line}")).collect()
        };
        let counted =
            self.settings.iter().filter(|line| counts(path_of(line)) || path_of(line).starts_with("tenants."));
        let planned: Vec<String> = counted.cloned().collect();
        let defaults = defaults();
        let is_known = |line: &str| self.settings.iter().any(|known| is_same_key(path_of(known), path_of(line)));
        let came_later = |line: &String| defaults.contains(line) && !is_known(line);
        let settings: Vec<String> = settings.iter().filter(|line| !came_later(line)).cloned().collect();
        [only(&planned, &settings, '-'), only(&settings, &planned, '+')].concat()
    }

    /// The time of the first record, if there is one.
    #[must_use]
    pub fn begins(&self) -> Option<Millis> {
        self.partitions.iter().filter_map(|p| p.begins).min()
    }

    /// How many offsets the run covers.
    #[must_use]
    pub fn offsets(&self) -> u64 {
        let of = |p: &Planned| p.to.saturating_sub(p.from).max(0).unsigned_abs();
        self.partitions.iter().map(of).fold(0, u64::saturating_add)
    }

    /// The settings of a worker.
    #[must_use]
    pub fn replay(&self, lead: Millis, bytes_per_second: Option<u64>) -> Replay {
        let range = |p: &Planned| {
            let range = ReplayRange { from: p.from, to: p.to, settle: p.to_end, past: p.past.as_slice().into() };
            ((p.topic.clone(), p.partition), range)
        };
        let ranges = self.partitions.iter().map(range).collect();
        Replay { ranges, present: self.made, lead, bytes_per_second, watch: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(set: &[&str]) -> Loaded {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        load(&Sources { file: None, env: &[], set: &set, read_file: &|_| Ok(String::new()) }).expect("legal")
    }

    fn plan() -> ReplayPlan {
        let partition = Planned {
            topic: "spans".into(),
            partition: 3,
            from: 10,
            to: 40,
            to_end: true,
            cut: false,
            begins: Some(5),
            past: vec![
                Event::Tick(12, 30_000),
                Event::Missed { offset: 12, shard: 1, step: 45_000, cut: false, passed: 30_000 },
            ],
        };
        ReplayPlan::new(1, vec!["10".into()], Vec::new(), vec![partition], settings_of(&loaded(&[])))
    }

    #[test]
    fn a_plan_survives_its_topic_and_a_newer_one_is_refused() {
        let plan = plan();
        assert_eq!(ReplayPlan::decode(&plan.encode()), Ok(plan.clone()));
        let newer = ReplayPlan { version: VERSION + 1, ..plan };
        assert!(ReplayPlan::decode(&newer.encode()).expect_err("newer").contains("version 2"));
        assert!(ReplayPlan::decode(b"{}").is_err());
    }

    #[test]
    fn numbers_that_are_far_off_are_neither_believed_nor_added_up() {
        let mut plan = plan();
        (plan.partitions[0].from, plan.partitions[0].to) = (i64::MIN, i64::MAX);
        plan.partitions.extend([plan.partitions[0].clone(), plan.partitions[0].clone()]);
        assert_eq!(ReplayPlan::decode(&plan.encode()).expect("it reads").offsets(), u64::MAX);
        plan.partitions[1].past = vec![Event::Missed { offset: 0, shard: u32::MAX, step: 0, cut: false, passed: 0 }];
        assert!(ReplayPlan::decode(&plan.encode()).expect_err("damaged").contains("contains shard 4294967295"));
    }

    #[test]
    fn only_what_decides_the_numbers_must_be_the_same() {
        let plan = plan();
        let free =
            ["kafka.brokers=elsewhere:9092", "worker.threads=3", "remote_write.url=http://h/", "log.level=debug"];
        assert!(plan.differences(&settings_of(&loaded(&free))).is_empty());
        let other = settings_of(&loaded(&["time.step=30s", "series.external_labels={replay: r1}"]));
        let differences = plan.differences(&other).join("\n");
        assert!(
            differences.contains("- time.step = 15s") && differences.contains("+ time.step = 30s"),
            "{differences}"
        );
        assert!(differences.contains("+ series.external_labels.replay = r1"), "{differences}");
    }

    #[test]
    fn a_run_of_an_earlier_version_goes_on_with_the_defaults_of_keys_that_came_later() {
        let mut plan = plan();
        plan.settings.retain(|line| !line.starts_with("service_graphs.ancestors"));
        plan.settings.push("series.snapshot_every = 7m".to_owned());
        assert!(plan.differences(&settings_of(&loaded(&[]))).is_empty());
        let other = settings_of(&loaded(&["service_graphs.ancestors=true"]));
        assert_eq!(plan.differences(&other), ["+ service_graphs.ancestors = true"]);
        let more = settings_of(&loaded(&["series.external_labels={replay: r1}"]));
        let expected = ["- series.external_labels = {}", "+ series.external_labels.replay = r1"];
        assert_eq!(plan.differences(&more), expected);
    }

    #[test]
    fn where_a_tenants_samples_go_is_free_and_never_written_down() {
        let settings = |overrides: &'static str| {
            let set = ["overrides.file=o.yaml".to_owned()];
            let read_file = |_: &std::path::Path| Ok(overrides.to_owned());
            settings_of(&load(&Sources { file: None, env: &[], set: &set, read_file: &read_file }).expect("legal"))
        };
        let of = |overrides: &'static str| {
            settings(overrides).into_iter().filter(|line| line.starts_with("tenants.")).collect::<Vec<_>>()
        };
        const SECRET: &str = "
tenants:
  a.b:
    remote_write:
      url: http://h/?token=x
      headers:
        X: y
    series:
      write: false
";
        assert_eq!(of(SECRET), ["tenants.a.b.series.write = false"]);
    }

    #[test]
    fn a_worker_gets_its_ranges() {
        let replay = plan().replay(60_000, None);
        let range = &replay.ranges[&("spans".to_owned(), 3)];
        assert_eq!((range.from, range.to, range.settle, range.past.len()), (10, 40, true, 2));
        assert_eq!(plan().offsets(), 30);
    }
}
