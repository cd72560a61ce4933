//! Everything that a worker needs, in one process: a broker, a receiver, and the workers themselves.
//!
//! *Out:* their state. *Owner:* the demo. *Never:* a shortcut: workers meet the broker and the receiver over sockets,
//! as they do elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::{DemoArgs, DemoError};
use crate::cli::ui::{edge_delay, serve};
use crate::config::{Config, Tenants};
use crate::core::model::{Counter, Ledger, StepWidth};
use crate::tools::loadgen::Bound;
use crate::tools::map::{Map, MapSettings};
use crate::tools::receiver::Receiver;
use crate::tools::ui::follow::Follow;
use crate::tools::ui::{Page, PageSettings, SharedMap};
use crate::worker::kafka::TopicNames;
use crate::worker::telemetry::{Samples, TaskId, TaskKind, Telemetry};
use crate::worker::{Worker, WorkerError};

/// The source topic and its partitions.
pub(super) const TOPIC: &str = "otlp_spans";
const PARTITIONS: i32 = 4;
const SHARDS: u32 = 4;

/// Milliseconds of a point of the map's history.
const POINT: i64 = 2_000;
/// Its points; a demo has no more.
const POINTS: usize = 450;
/// Bytes for the map.
const MEMORY: usize = 256 << 20;

/// The buckets of edges: finer than the default, so that the quantiles of a fast shop can be distinguished.
pub(super) const EDGE_BOUNDS: [Bound; 12] = [
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (400_000_000, "0.4"),
    (800_000_000, "0.8"),
    (1_600_000_000, "1.6"),
    (3_200_000_000, "3.2"),
    (6_400_000_000, "6.4"),
    (12_800_000_000, "12.8"),
];

/// The running parts.
pub(super) struct House {
    pub(super) receiver: Receiver,
    workers: Vec<Worker>,
    /// One per worker; it outlives its worker.
    telemetry: Vec<Telemetry>,
    /// The newest ledger of every source partition, from whichever worker owns it.
    ledgers: BTreeMap<TaskId, Ledger>,
    pub(super) page: Page,
    /// What fills the page's map.
    _follow: Follow,
    /// Lives as long as the workers need it.
    cluster: MockCluster<'static, DefaultProducerContext>,
}

// === impl House ===

impl House {
    /// Starts everything.
    pub(super) fn start(args: &DemoArgs) -> Result<Self, DemoError> {
        let cluster = MockCluster::new(1).map_err(DemoError::Broker)?;
        let receiver = Receiver::start("127.0.0.1:0").map_err(DemoError::Receiver)?;
        let config = config(args, cluster.bootstrap_servers(), receiver.url());
        let (names, shards) = (TopicNames::new(&config.kafka.group), SHARDS.cast_signed());
        let topics = [
            (TOPIC.to_owned(), PARTITIONS),
            (names.journal(TOPIC), PARTITIONS),
            (names.deltas(), shards),
            (names.series_journal(), shards),
        ];
        for (topic, partitions) in topics {
            cluster.create_topic(&topic, partitions, 1).map_err(DemoError::Broker)?;
        }
        let (page, follow) = page(args, &config)?;
        let (workers, telemetry, ledgers) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut house = Self { receiver, workers, telemetry, ledgers, page, _follow: follow, cluster };
        for _ in 0..args.workers {
            let telemetry = Telemetry::new();
            house.workers.push(Worker::start(config.clone(), telemetry.clone())?);
            house.telemetry.push(telemetry);
        }
        Ok(house)
    }

    /// Where the broker listens.
    pub(super) fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Whether every worker still works.
    pub(super) fn alive(&self) -> bool {
        self.workers.iter().all(Worker::alive)
    }

    /// The sum of the ledgers so far.
    pub(super) fn ledger(&mut self) -> Ledger {
        let statuses = self.telemetry.iter().flat_map(|telemetry| telemetry.tasks().snapshot());
        for (id, status) in statuses.filter(|(id, _)| id.kind == TaskKind::Span) {
            let known = self.ledgers.entry(id).or_default();
            // A partition on its way from worker to worker may be on two task registries.
            if status.ledger.get(Counter::RecordsRead) >= known.get(Counter::RecordsRead) {
                *known = status.ledger;
            }
        }
        let mut sum = Ledger::default();
        self.ledgers.values().for_each(|ledger| sum.merge(ledger));
        sum
    }

    /// The workers' own account of their samples.
    pub(super) fn samples(&self) -> Samples {
        let mut sum = Samples::default();
        for telemetry in &self.telemetry {
            let samples = telemetry.samples();
            sum.built += samples.built;
            sum.acknowledged += samples.acknowledged;
            sum.already_there += samples.already_there;
            sum.rejected += samples.rejected;
            sum.abandoned += samples.abandoned;
            sum.pending += samples.pending;
        }
        sum
    }

    /// Stops the workers gracefully.
    pub(super) fn stop(&mut self) -> Result<(), DemoError> {
        // Keeps the ledgers: a worker's task registry ends with the worker.
        self.ledger();
        // All at once, so that no worker acquires tasks that another one closes.
        let workers: Vec<Worker> = self.workers.drain(..).collect();
        let ended = std::thread::scope(|scope| {
            let stopping: Vec<_> = workers.into_iter().map(|worker| scope.spawn(|| worker.stop())).collect();
            let died = |_| Err(WorkerError::Fatal("a worker died during shutdown".to_owned()));
            stopping.into_iter().map(|s| s.join().unwrap_or_else(died)).fold(Ok(()), Result::and)
        });
        Ok(ended?)
    }
}

/// The page, and what fills it: it follows the topics of the workers as `spanmill ui` does.
fn page(args: &DemoArgs, config: &Config) -> Result<(Page, Follow), DemoError> {
    let settings = MapSettings {
        step: config.core.time.step.ms(),
        resolution: POINT,
        history: None,
        points: POINTS,
        memory: MEMORY,
        whole: false,
    };
    let map = SharedMap::new(Map::new(settings));
    let settings =
        PageSettings { source: "demo".to_owned(), edge_delay: edge_delay(config), ..PageSettings::default() };
    let page = serve(&args.listen, &map, settings)?;
    let tenants = Arc::new(Tenants::from(config.clone()));
    let follow = Follow::start(tenants, map, 0).map_err(DemoError::Output)?;
    Ok((page, follow))
}

/// The defaults, but for a graph that shows up in seconds.
fn config(args: &DemoArgs, brokers: String, url: String) -> Config {
    let mut config = Config::default();
    config.kafka.brokers = brokers;
    config.kafka.topics = vec![TOPIC.to_owned()];
    config.kafka.group = "spanmill-demo".to_owned();
    config.kafka.shards = SHARDS;
    config.kafka.replication = 1;
    config.core.time.step = StepWidth::new(1_000).expect("1 s is positive");
    config.core.time.idle = 1_000;
    // The parts of a trace are at most 2 s apart; the rest is for a machine that is busy elsewhere.
    config.core.service_graphs.wait = 5_000;
    config.core.service_graphs.bounds_ns = EDGE_BOUNDS.iter().map(|&(ns, _)| ns).collect();
    let traces = &mut config.core.traces;
    (traces.duration, traces.critical_path, traces.errors, traces.span_metrics) =
        (args.traces, args.traces, args.traces, args.traces);
    traces.idle = config.core.service_graphs.wait;
    config.remote_write.url = url;
    config.worker.shutdown_timeout = 10_000;
    config.admin.listen = String::new();
    config
}
