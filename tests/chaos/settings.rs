//! The programs that a run starts: the load, and what the workers are told.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::args::Args;
use crate::process::Process;
use crate::proxy::Link;
use crate::schedule::SESSION;

/// The source topic.
pub const TOPIC: &str = "spans";
/// The step of the workers, in milliseconds.
pub const STEP: i64 = 2_000;

/// What differs between groups of workers.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    pub name: &'a str,
    /// The source topic.
    pub topic: &'a str,
    /// `worker.threads`
    pub threads: u32,
    /// `time.idle` and `time.stall_grace`: how long silence is believed.
    pub patience: &'a str,
    /// How long a silent worker stays in the group.
    pub session: Duration,
    /// `worker.max_commit_bytes`
    pub commit: &'a str,
    /// `service_graphs.wait`
    pub wait: &'a str,
    /// `remote_write.timeout`
    pub timeout: &'a str,
}

/// A load.
#[derive(Debug, Clone)]
pub struct Produced<'a> {
    /// The topic, which is made if it is not there.
    pub topic: &'a str,
    /// How long it lasts, unless it is ended before.
    pub seconds: u64,
    pub rate: u64,
}

// === impl Group ===

impl<'a> Group<'a> {
    /// The usual workers under this name.
    pub fn named(name: &'a str) -> Self {
        Self {
            name,
            topic: TOPIC,
            threads: 2,
            patience: "3s",
            session: SESSION,
            commit: "16KiB",
            wait: "30s",
            timeout: "2s",
        }
    }
}

/// Starts a steady load, straight to the brokers. It writes what it must count to to `expect`.
pub fn produce(args: &Args, what: &Produced<'_>, brokers: &str, expect: &Path, dir: &Path) -> Process {
    let mut command = Command::new(&args.program);
    command.args(["produce", "--brokers", brokers, "--spans-per-record", "20", "--print-every", "0s"]);
    for (flag, value) in [
        ("--topic", what.topic.to_owned()),
        ("--create-partitions", args.partitions.to_string()),
        ("--rate", what.rate.to_string()),
        ("--duration", format!("{}s", what.seconds)),
        ("--seed", args.seed.unwrap_or_default().to_string()),
        ("--expect", expect.display().to_string()),
    ] {
        command.args([flag, &value]);
    }
    Process::start("produce", &mut command, dir)
}

/// The workers' configuration. Everything is short, so that much happens; only half edges wait for longer than any trouble
/// of the load itself, because the expectation is that all of them meet.
pub fn settings(args: &Args, group: &Group<'_>, brokers: &str, door: &Link) -> String {
    let Group { name, topic, threads, patience, session, commit, wait, timeout } = group;
    format!(
        r#"kafka:
  brokers: "{brokers}"
  topics: [{topic}]
  group: {name}
  shards: {shards}
  replication: 3
  properties:
    session.timeout.ms: "{session}"
    heartbeat.interval.ms: "700"
    socket.timeout.ms: "6000"
    message.timeout.ms: "5000"
    reconnect.backoff.max.ms: "1000"
    topic.metadata.refresh.interval.ms: "5000"
time: {{step: {STEP}ms, idle: {patience}, stall_grace: {patience}}}
service_graphs: {{wait: {wait}}}
series: {{snapshot_every: 10s}}
remote_write: {{url: "http://{door}/api/v1/write", timeout: {timeout}, min_backoff: 50ms, max_backoff: 1s, max_samples: 400}}
worker: {{threads: {threads}, max_commit_bytes: {commit}, shutdown_timeout: 20s}}
log: {{level: "info"}}
admin: {{listen: "127.0.0.1:0"}}
"#,
        shards = args.shards,
        session = session.as_millis(),
        door = door.addr(),
    )
}
