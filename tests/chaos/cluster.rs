//! Apache Kafka as it stands in production, but small: three processes that are broker and controller, every topic on
//! all three, two of which must have a record before it counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::Metadata;
use serde::Serialize;

use crate::process::Process;
use crate::proxy::Link;
use crate::schedule::BROKERS;
use crate::servers::daemon::{free_ports, setting};
use crate::servers::kafka::{cut_end, forget_checkpoints};
use crate::servers::wait_until;

/// A broker that has been silent for this long is left out.
pub const BROKER_SESSION: Duration = Duration::from_secs(6);
/// Small and quick to start: the test machine has two cores.
const JVM: [&str; 4] = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
/// How long a cluster may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(180);
/// How long a broker may take to answer a question.
const QUESTION: Duration = Duration::from_secs(2);
const CLUSTER_ID: &str = "c3Bhbm1pbGwtY2hhb3MtMQ";

/// The cluster. Clients reach it in two ways: straight, or through a link per broker.
pub struct Cluster {
    brokers: Vec<Broker>,
    straight: String,
    probe: BaseConsumer,
    dir: PathBuf,
    /// Records that were cut off the ends of topics.
    pub records_lost: i64,
}

/// What a topic takes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Size {
    pub ever: i64,
    pub left: i64,
    pub bytes: u64,
}

struct Broker {
    link: Link,
    properties: PathBuf,
    process: Option<Process>,
    /// It was asked to stop.
    stopping: bool,
}

struct Ports {
    controller: u16,
    /// For the other brokers and for clients without trouble.
    straight: u16,
    /// Behind the link.
    linked: u16,
}

// === impl Cluster ===

impl Cluster {
    /// Formats three data directories in `dir` and starts the brokers.
    pub fn start(dir: &Path) -> Self {
        let ports: Vec<Ports> = free_ports::<{ 3 * BROKERS }>()
            .chunks(3)
            .map(|p| Ports { controller: p[0], straight: p[1], linked: p[2] })
            .collect();
        let voters: Vec<String> = (0..).zip(&ports).map(|(id, p)| format!("{id}@127.0.0.1:{}", p.controller)).collect();
        let straight: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{}", p.straight)).collect();
        let straight = straight.join(",");
        let mut brokers = Vec::new();
        let mut formats = Vec::new();
        for (id, ports) in ports.iter().enumerate() {
            let link = Link::start(SocketAddr::from(([127, 0, 0, 1], ports.linked)));
            let properties = dir.join(format!("broker-{id}.properties"));
            let text = server_properties(id, ports, &voters.join(","), link.addr(), dir);
            std::fs::write(&properties, text).expect("a file can be written");
            let mut format = java();
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(&properties);
            formats.push(Process::start(&format!("format-{id}"), &mut format, dir));
            brokers.push(Broker { link, properties, process: None, stopping: false });
        }
        for format in &mut formats {
            let status = wait_until("the storage is formatted", STARTS_WITHIN, || {
                format.exited().ok_or_else(|| "it still runs".to_owned())
            });
            assert!(status.success(), "{}", format.tail(40));
        }
        let mut config = ClientConfig::new();
        // Brokers that go down are nothing to log here.
        config.set("bootstrap.servers", &straight).set("log_level", "0").set("group.id", "chaos-probe");
        let probe = config.create().expect("a consumer can be created");
        let mut cluster = Self { brokers, straight, probe, dir: dir.to_owned(), records_lost: 0 };
        (0..BROKERS).for_each(|id| cluster.launch(id));
        wait_until("three brokers answer", STARTS_WITHIN, || {
            cluster.tend();
            cluster.is_whole()
        });
        cluster
    }

    /// Bootstrap servers without trouble.
    pub fn straight(&self) -> &str {
        &self.straight
    }

    /// Bootstrap servers behind the links.
    pub fn linked(&self) -> String {
        let addrs: Vec<String> = self.brokers.iter().map(|b| b.link.addr().to_string()).collect();
        addrs.join(",")
    }

    /// The link to a broker.
    pub fn link(&self, id: usize) -> &Link {
        &self.brokers[id].link
    }

    /// Sends a signal to a broker.
    pub fn signal(&self, id: usize, name: &str) {
        if let Some(process) = &self.brokers[id].process {
            process.signal(name);
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: usize) {
        if let Some(mut process) = self.brokers[id].process.take() {
            process.kill();
        }
    }

    /// Kills all brokers at once. Then some partitions of a topic, so many from the first on, lose all records but so many
    /// percent, on every broker the same ones, as when all machines lose power before what they have acknowledged is on
    /// their disks. Every broker must be in sync.
    pub fn lose_ends(&mut self, topic: &str, (first, of): (usize, usize), kept: u64) -> Result<(), &'static str> {
        let all = self.partitions(topic);
        let mut cuts = Vec::new();
        for partition in (first..first + of.min(all)).map(|p| (p % all) as i32) {
            let bounds = self.probe.fetch_watermarks(topic, partition, QUESTION);
            let (low, high) = bounds.map_err(|_| "a leader does not tell where its partition ends")?;
            if high > low {
                cuts.push((partition, low + (high - low) * kept.cast_signed() / 100, high));
            }
        }
        if cuts.is_empty() {
            return Err("there is nothing that could be lost");
        }
        (0..BROKERS).for_each(|id| self.signal(id, "KILL"));
        (0..BROKERS).for_each(|id| self.kill(id));
        for id in 0..BROKERS {
            let data = self.dir.join(format!("data-{id}"));
            cuts.iter().for_each(|(partition, to, _)| cut_end(&data, topic, *partition, *to));
            forget_checkpoints(&data);
        }
        self.records_lost += cuts.iter().map(|(_, to, high)| high - to).sum::<i64>();
        Ok(())
    }

    /// Starts all brokers that do not run.
    pub fn launch_all(&mut self) {
        for id in 0..BROKERS {
            if self.brokers[id].process.is_none() {
                self.launch(id);
            }
        }
    }

    /// SIGTERM: it hands its leaderships over. Its process stays known until [`Cluster::relaunch`].
    pub fn terminate(&mut self, id: usize) {
        self.signal(id, "TERM");
        self.brokers[id].stopping = true;
    }

    /// Starts a broker that was killed or stopped; false while it still runs.
    pub fn relaunch(&mut self, id: usize) -> bool {
        if self.brokers[id].process.as_mut().is_some_and(|p| p.exited().is_none()) {
            return false;
        }
        self.launch(id);
        true
    }

    /// Starts what has ended by itself: a port may have been taken. Returns which.
    pub fn tend(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for id in 0..BROKERS {
            let Broker { process: Some(process), stopping: false, .. } = &mut self.brokers[id] else { continue };
            if let Some(status) = process.exited() {
                ended.push(format!("broker {id} ended by itself with {status}\n{}", process.tail(20)));
                assert!(ended.len() < BROKERS, "no broker stays alive:\n{}", ended.join("\n"));
                self.launch(id);
            }
        }
        ended
    }

    /// Whether all brokers are there and every partition is in sync everywhere.
    pub fn is_whole(&self) -> Result<(), String> {
        let metadata = self.probe.fetch_metadata(None, QUESTION).map_err(|e| e.to_string())?;
        if metadata.brokers().len() < BROKERS {
            return Err(format!("{} brokers", metadata.brokers().len()));
        }
        for topic in metadata.topics() {
            for p in topic.partitions() {
                if p.isr().len() < p.replicas().len() || p.leader() < 0 {
                    return Err(format!("{}[{}]: in sync {:?}, leader {}", topic.name(), p.id(), p.isr(), p.leader()));
                }
            }
        }
        Ok(())
    }

    /// The partitions of a topic; 0 while there is none.
    pub fn partitions(&self, topic: &str) -> usize {
        let metadata = self.probe.fetch_metadata(Some(topic), Duration::from_secs(5));
        metadata.map_or(0, |m| m.topics().iter().find(|t| t.name() == topic).map_or(0, |t| t.partitions().len()))
    }

    /// Makes a topic as the internal ones must be, whose partitions are led by these brokers in turn.
    pub fn create(&self, topic: &str, partitions: usize, leaders: &[usize]) {
        let leader = |p: usize| leaders[p % leaders.len()];
        let place = |p: usize| (0..BROKERS).map(|i| ((leader(p) + i) % BROKERS) as i32).collect::<Vec<_>>();
        let places: Vec<Vec<i32>> = (0..partitions).map(place).collect();
        let places: Vec<&[i32]> = places.iter().map(Vec::as_slice).collect();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.straight);
        let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
        let new = NewTopic::new(topic, partitions as i32, TopicReplication::Variable(&places));
        let new = new.set("retention.ms", "-1").set("retention.bytes", "-1");
        let options = AdminOptions::new().operation_timeout(Some(STARTS_WITHIN));
        for made in block_on(admin.create_topics(&[new], &options)).expect("the cluster answers") {
            made.expect("the topic is new");
        }
    }

    /// Where the partitions of a topic end.
    pub fn ends(&self, topic: &str) -> Vec<i64> {
        let end = |p| self.probe.fetch_watermarks(topic, p as i32, Duration::from_secs(10)).map_or(0, |(_, end)| end);
        (0..self.partitions(topic)).map(end).collect()
    }

    /// By topic whose name begins so: records that ever were, records that are there, and bytes on the disk of one broker.
    pub fn sizes(&self, prefix: &str) -> BTreeMap<String, Size> {
        let metadata = self.probe.fetch_metadata(None, Duration::from_secs(10));
        let mut sizes = BTreeMap::<String, Size>::new();
        for topic in metadata.iter().flat_map(Metadata::topics).filter(|t| t.name().starts_with(prefix)) {
            let size = sizes.entry(topic.name().to_owned()).or_default();
            for p in topic.partitions() {
                let bounds = self.probe.fetch_watermarks(topic.name(), p.id(), Duration::from_secs(10));
                let (low, high) = bounds.unwrap_or_default();
                size.ever += high;
                size.left += high - low;
                // Not the indices: an empty one takes no space on the disk, and 10 MiB by its length.
                let files = std::fs::read_dir(self.dir.join(format!("data-0/{}-{}", topic.name(), p.id())));
                let files = files.into_iter().flatten().flatten();
                let logs = files.filter(|f| f.path().extension().is_some_and(|e| e == "log"));
                size.bytes += logs.filter_map(|f| Some(f.metadata().ok()?.len())).sum::<u64>();
            }
        }
        sizes
    }

    /// A consumer of straight records, assigned by hand.
    pub fn probe(&self) -> &BaseConsumer {
        &self.probe
    }

    fn launch(&mut self, id: usize) {
        let mut command = java();
        command.arg("-Dorg.apache.logging.log4j.level=WARN").arg("kafka.Kafka").arg(&self.brokers[id].properties);
        self.brokers[id].process = Some(Process::start(&format!("broker-{id}"), &mut command, &self.dir));
        self.brokers[id].stopping = false;
    }
}

fn java() -> Command {
    let mut command = Command::new("java");
    command.args(JVM).args(["-cp", &format!("{}/*", setting("TEST_KAFKA_JARS"))]);
    command
}

fn server_properties(id: usize, ports: &Ports, voters: &str, link: SocketAddr, dir: &Path) -> String {
    let Ports { controller, straight, linked } = ports;
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=STRAIGHT://127.0.0.1:{straight},LINKED://127.0.0.1:{linked},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=STRAIGHT://127.0.0.1:{straight},LINKED://{link}
controller.listener.names=CONTROLLER
inter.broker.listener.name=STRAIGHT
listener.security.protocol.map=STRAIGHT:PLAINTEXT,LINKED:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={dir}/data-{id}
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms={session}
broker.heartbeat.interval.ms=1000
replica.lag.time.max.ms=6000
controller.quorum.election.timeout.ms=1000
auto.leader.rebalance.enable=true
leader.imbalance.check.interval.seconds=10
leader.imbalance.per.broker.percentage=0
log.cleaner.dedupe.buffer.size=4194304
",
        dir = dir.display(),
        session = BROKER_SESSION.as_millis(),
    )
}
