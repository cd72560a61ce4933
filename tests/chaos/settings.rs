//! The programs that a run starts: the load, and the settings of the workers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::args::Args;
use crate::process::Process;
use crate::proxy::Link;
use crate::schedule::{SESSION, TENANTS};

/// The source topic.
pub const TOPIC: &str = "spans";
/// The step of the workers, in milliseconds.
pub const STEP: i64 = 2_000;
/// The header of a record that names its tenant.
const HEADER: &str = "tenant";
/// `time.max_future`. Three producers write into one partition, and each may be cut off for longer than the default of 10 s (a
/// broker that refuses, and one that is silent): then what the others have sent meanwhile is ahead of it, and is right.
const DISORDER: &str = "30s";
/// Most of the load is one tenant's; the others have other services.
pub const LOADS: [Tenant; TENANTS] = [
    Tenant { name: "acme", percent: 80, topology: &["--topology", "shop"] },
    Tenant { name: "globex", percent: 10, topology: &SMALL },
    Tenant { name: "initech", percent: 10, topology: &SMALL },
];
const SMALL: [&str; 6] = ["--topology", "scaled", "--services", "6", "--operations", "24"];

/// A tenant and its part of the load.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    pub name: &'static str,
    percent: u64,
    topology: &'static [&'static str],
}

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
    /// Whether records name their tenant.
    pub tenants: bool,
}

/// A load.
#[derive(Debug, Clone)]
pub struct Produced<'a> {
    /// The topic, which is made if it is not there.
    pub topic: &'a str,
    /// How long it lasts, unless it is ended before.
    pub seconds: u64,
    /// Of all tenants together.
    pub rate: u64,
    /// Each has a producer of its own. Without any, there is one, without a tenant.
    pub tenants: &'a [Tenant],
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
            wait: "60s",
            timeout: "2s",
            tenants: false,
        }
    }
}

/// Starts a steady load, straight to the brokers. It writes the expected counts to `expect`.
pub fn produce(
    args: &Args,
    what: &Produced<'_>,
    tenant: Option<&Tenant>,
    brokers: &str,
    expect: &Path,
    dir: &Path,
) -> Process {
    let mut command = Command::new(&args.program);
    command.args(["produce", "--brokers", brokers, "--spans-per-record", "20", "--print-every", "0s"]);
    if args.repartition {
        // Whatever the key is: the records of a trace are in many partitions.
        command.args(["--property", "partitioner=random"]);
    }
    let seed = args.seed.unwrap_or_default();
    let (name, rate, seed) = match tenant {
        Some(Tenant { name, percent, topology }) => {
            command.args(["--header", &format!("{HEADER}={name}")]).args(*topology);
            // Producers with one seed would have the same traces.
            let seed = seed.wrapping_mul(100).wrapping_add(*percent).wrapping_add(u64::from(name.as_bytes()[0]));
            (format!("produce-{name}"), (what.rate * percent / 100).max(1), seed)
        }
        None => ("produce".to_owned(), what.rate, seed),
    };
    if args.has_whole_traces() {
        command.arg("--expect-traces");
    }
    for (flag, value) in [
        ("--topic", what.topic.to_owned()),
        ("--create-partitions", args.partitions.to_string()),
        ("--rate", rate.to_string()),
        ("--duration", format!("{}s", what.seconds)),
        ("--seed", seed.to_string()),
        ("--expect", expect.display().to_string()),
    ] {
        command.args([flag, &value]);
    }
    Process::start(&name, &mut command, dir)
}

/// What is off by default: more state of partitions and shards, more series.
const EVERYTHING: &str = "\
traces: {duration: true, critical_path: true, errors: true, calls: true, quality: true, span_metrics: true, branch_labels: [{name: entry_route, from: root, key: http.route}, {name: store, from: descendant, key: db.system}]}
duplicates: {window: 20s}
slos: [{name: fast, good: {latency: 100ms}}, {name: whole, of: traces, good: {latency: 1s}}, {name: calls, of: edges, good: {latency: 50ms}}]
attribute_metrics_presets: [genai, http, messaging]
host_info: {enabled: true}
";
/// What the load can tell in advance of whole traces. As pending edges, they stay open for longer than any trouble of the load.
const WHOLE_TRACES: &str = "duration: true, critical_path: true, errors: true, span_metrics: true";
const EVERYTHING_OF_GRAPHS: &str = ", ancestors: any, operations: true, topology: true";

/// The workers' configuration. Everything is short, so that much happens; only pending edges wait for longer than any trouble
/// of the load itself, because the expectation is that all of them meet.
pub fn settings(args: &Args, group: &Group<'_>, brokers: &str, door: &Link) -> String {
    let Group { name, topic, threads, patience, session, commit, wait, timeout, tenants } = group;
    let tenant = if *tenants { format!("tenant: {{source: header, header: {HEADER}}}\n") } else { String::new() };
    format!(
        r#"kafka:
  brokers: "{brokers}"
  topics: [{topic}]
  group: {name}
  shards: {shards}
  replication: 3
  repartition: {repartition}
  properties:
    session.timeout.ms: "{session}"
    heartbeat.interval.ms: "700"
    socket.timeout.ms: "6000"
    message.timeout.ms: "5000"
    reconnect.backoff.max.ms: "1000"
    topic.metadata.refresh.interval.ms: "5000"
{tenant}time: {{step: {STEP}ms, idle: {patience}, stall_grace: {patience}, max_future: {DISORDER}}}
service_graphs: {{wait: {wait}{graphs}}}
{everything}series: {{snapshot_every: 10s}}
remote_write: {{url: "http://{door}/api/v1/write", timeout: {timeout}, min_backoff: 50ms, max_backoff: 1s, max_samples: 400, quarantine: 3s}}
worker: {{threads: {threads}, max_commit_bytes: {commit}, shutdown_timeout: 20s}}
# A control reads there how often each task has failed; a line for all of them does not tell.
log: {{level: "info,spanmill::worker::group::thread=debug"}}
admin: {{listen: "127.0.0.1:0"}}
"#,
        shards = args.shards,
        graphs = if args.everything { EVERYTHING_OF_GRAPHS } else { "" },
        everything = if args.everything {
            EVERYTHING.to_owned()
        } else if args.has_whole_traces() {
            format!("traces: {{{WHOLE_TRACES}, idle: {wait}, max_age: 10m}}\n")
        } else {
            String::new()
        },
        repartition = args.repartition,
        session = session.as_millis(),
        door = door.addr(),
    )
}
