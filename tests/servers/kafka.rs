//! Apache Kafka: one process that is broker and controller (KRaft).

use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::daemon::{Daemon, free_ports, setting, start};

/// Small and quick to start: the test machine has two cores.
const JVM: [&str; 4] = ["-Xms128m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// How long it may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A broker for one test.
pub struct RealKafka {
    /// `host:port`.
    pub brokers: String,
    daemon: Daemon,
}

impl RealKafka {
    /// Formats a data directory, starts the broker, waits until it answers a metadata request.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with further lines of `server.properties`.
    pub fn start_with(properties: &str) -> Self {
        let launch = |dir: &TempDir| launch(dir, properties);
        let (daemon, brokers) = start("kafka", Duration::from_secs(90), launch, |brokers| answers(brokers));
        Self { brokers, daemon }
    }

    /// The partitions of a topic; 0 while there is none.
    pub fn partitions(&self, topic: &str) -> usize {
        let metadata = probe(&self.brokers).fetch_metadata(Some(topic), Duration::from_secs(5));
        metadata.map_or(0, |m| m.topics().iter().find(|t| t.name() == topic).map_or(0, |t| t.partitions().len()))
    }

    /// Where a partition begins and ends.
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        probe(&self.brokers).fetch_watermarks(topic, partition, ANSWERS_WITHIN).expect("the broker answers")
    }

    /// Where a partition ends; 0 while there is none.
    pub fn end(&self, topic: &str, partition: i32) -> i64 {
        let bounds = probe(&self.brokers).fetch_watermarks(topic, partition, Duration::from_secs(5));
        bounds.map_or(0, |(_, end)| end)
    }

    /// Runs one of Kafka's console tools, `org.apache.kafka.tools.<class>`, and returns what it says.
    pub fn tool(&self, class: &str, args: &[&str]) -> String {
        self.run(&format!("org.apache.kafka.tools.{class}"), args)
    }

    /// The same of the older ones, `kafka.admin.<class>`.
    pub fn admin(&self, class: &str, args: &[&str]) -> String {
        self.run(&format!("kafka.admin.{class}"), args)
    }

    fn run(&self, class: &str, args: &[&str]) -> String {
        let output =
            java().arg(class).args(["--bootstrap-server", &self.brokers]).args(args).output().expect("java runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{class} {args:?}: {said}{errors}\n{}", self.daemon.tail());
        said
    }
}

fn java() -> Command {
    let mut command = Command::new("java");
    command.args(JVM).args(["-cp", &format!("{}/*", setting("TEST_KAFKA_JARS"))]);
    command
}

fn launch(dir: &TempDir, more: &str) -> (Command, String) {
    let [port, controller] = free_ports();
    let brokers = format!("127.0.0.1:{port}");
    let properties = dir.path().join("server.properties");
    std::fs::write(&properties, server_properties(&brokers, controller, dir) + more).expect("a file can be written");
    let formatted = java()
        .args(["kafka.tools.StorageTool", "format", "--standalone", "-t", "c3Bhbm1pbGwtdGVzdHMtMQ", "-c"])
        .arg(&properties)
        .output()
        .expect("java runs");
    assert!(formatted.status.success(), "kafka format: {}", String::from_utf8_lossy(&formatted.stderr));
    let mut command = java();
    command.arg("-Dorg.apache.logging.log4j.level=WARN").arg("kafka.Kafka").arg(&properties);
    (command, brokers)
}

fn server_properties(brokers: &str, controller: u16, dir: &TempDir) -> String {
    let data = dir.path().join("data");
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://{brokers},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{brokers}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=true
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
",
        data.display()
    )
}

fn probe(brokers: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    // A probe that comes before the broker is nothing to log.
    config.set("bootstrap.servers", brokers).set("log_level", "0");
    config.create().expect("a consumer can be created")
}

fn answers(brokers: &str) -> Result<(), String> {
    match probe(brokers).fetch_metadata(None, Duration::from_secs(1)) {
        Ok(metadata) if !metadata.brokers().is_empty() => Ok(()),
        Ok(_) => Err("no broker is registered yet".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}
