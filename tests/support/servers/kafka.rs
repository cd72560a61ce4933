//! Apache Kafka: one process that is broker and controller (KRaft), and two more brokers on request.

pub mod old;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::daemon::{Daemon, free_ports, setting, start};
use super::wait_until;

/// Small and quick to start: the test machine has two cores.
const JVM: [&str; 4] = ["-Xms128m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// How long it may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// How long a login holds on the guarded listener.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(4);

/// A broker for one test.
pub struct RealKafka {
    /// `host:port`.
    pub brokers: String,
    daemon: Daemon,
    /// More brokers of the cluster.
    others: Vec<Daemon>,
}

impl RealKafka {
    /// Formats a data directory, starts the broker, waits until it answers a metadata request.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with further lines of `server.properties`.
    pub fn start_with(properties: &str) -> Self {
        let launch = |dir: &TempDir| launch(dir, properties);
        let (daemon, brokers) = start("kafka", Duration::from_secs(90), launch, |brokers| answers(brokers, 1));
        Self { brokers, daemon, others: Vec::new() }
    }

    /// Three brokers, one of which is the controller. A topic has three copies by default.
    pub fn start_three() -> Self {
        let [controller] = free_ports();
        // The later line of a file counts.
        let shared = format!(
            "default.replication.factor=3
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
"
        );
        let listens = |brokers: &str| {
            format!(
                "listeners=PLAINTEXT://{brokers},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{brokers},CONTROLLER://127.0.0.1:{controller}
"
            )
        };
        let launch =
            |dir: &TempDir| launch_with(&java, dir, &["--standalone"], |brokers| shared.clone() + &listens(brokers));
        let (daemon, brokers) = start("kafka", Duration::from_secs(90), launch, |brokers| answers(brokers, 1));
        let mut cluster = Self { brokers, daemon, others: Vec::new() };
        for node in 2..=3 {
            let own = |brokers: &str| {
                format!(
                    "process.roles=broker
node.id={node}
listeners=PLAINTEXT://{brokers}
advertised.listeners=PLAINTEXT://{brokers}
"
                )
            };
            let launch = |dir: &TempDir| {
                launch_with(&java, dir, &["--no-initial-controllers"], |brokers| shared.clone() + &own(brokers))
            };
            let ready = |_: &String| answers(&cluster.brokers, node);
            let (daemon, _) = start("kafka", Duration::from_secs(90), launch, ready);
            cluster.others.push(daemon);
        }
        cluster
    }

    /// Kills the broker, lets `damage` change its data directory, and starts it again.
    pub fn damage(&mut self, damage: impl FnOnce(&Path)) {
        self.daemon.kill();
        let data = self.daemon.dir().join("data");
        damage(&data);
        forget_checkpoints(&data);
        let properties = self.daemon.dir().join("server.properties");
        self.daemon.respawn(&mut serve(java(), &properties));
        wait_until("kafka is back", ANSWERS_WITHIN, || answers(&self.brokers, 1));
    }

    /// A broker with a second listener that wants a name, a password (SCRAM-SHA-256, asked for again every
    /// [`ASKED_AGAIN_AFTER`]) and rights. Returns that listener's address, too. Who comes in by the first one may do
    /// everything.
    pub fn start_guarded() -> (Self, String) {
        Self::start_with_listener(&format!(
            "sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.guarded.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.guarded.scram-sha-256.connections.max.reauth.ms={}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
",
            ASKED_AGAIN_AFTER.as_millis()
        ))
    }

    /// A broker with a second listener that wants a token (OAUTHBEARER, unsecured, asked for again every
    /// [`ASKED_AGAIN_AFTER`]). Returns that listener's address, too.
    pub fn start_with_tokens() -> (Self, String) {
        Self::start_with_listener(&format!(
            "sasl.enabled.mechanisms=OAUTHBEARER
listener.name.guarded.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
listener.name.guarded.oauthbearer.connections.max.reauth.ms={}
",
            ASKED_AGAIN_AFTER.as_millis()
        ))
    }

    /// A broker with a second listener where everyone of `users` comes in with his name as the password (PLAIN), and may do
    /// what ACLs grant. Returns that listener's address, too. Who comes in by the first one may do everything.
    pub fn start_with_users(users: &[&str]) -> (Self, String) {
        let users: String = users.iter().map(|user| format!(" user_{user}=\"{user}\"")).collect();
        Self::start_with_listener(&format!(
            "sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required{users};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"
        ))
    }

    /// A broker with a second listener that speaks TLS, and wants a certificate of an authority in `trusted`, which is read when
    /// the broker starts. `own` are its own certificate and key. Returns that listener's address, too.
    pub fn start_with_tls(own: &Path, trusted: &Path) -> (Self, String) {
        Self::start_with_listener(&format!(
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SSL
listener.name.guarded.ssl.keystore.type=PEM
listener.name.guarded.ssl.keystore.location={}
listener.name.guarded.ssl.truststore.type=PEM
listener.name.guarded.ssl.truststore.location={}
listener.name.guarded.ssl.client.auth=required
",
            own.display(),
            trusted.display()
        ))
    }

    fn start_with_listener(login: &str) -> (Self, String) {
        let guarded = std::cell::RefCell::new(String::new());
        let launch = |dir: &TempDir| {
            let [port, controller, guard] = free_ports();
            guarded.replace(format!("127.0.0.1:{guard}"));
            let properties = guard_properties(port, controller, guard) + login;
            launch_on(&java, dir, &format!("127.0.0.1:{port}"), controller, &["--standalone"], &properties)
        };
        let (daemon, brokers) = start("kafka", Duration::from_secs(90), launch, |brokers| answers(brokers, 1));
        (Self { brokers, daemon, others: Vec::new() }, guarded.into_inner())
    }

    /// Sends the broker's process a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.daemon.signal(name);
    }

    /// The partitions of a topic; 0 while there is none.
    pub fn partitions(&self, topic: &str) -> usize {
        let metadata = probe(&self.brokers).fetch_metadata(Some(topic), Duration::from_secs(5));
        metadata.map_or(0, |m| m.topics().iter().find(|t| t.name() == topic).map_or(0, |t| t.partitions().len()))
    }

    /// Where a partition begins and ends. It may have no leader for a moment.
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        let probe = probe(&self.brokers);
        wait_until("the partition has a leader", ANSWERS_WITHIN, || {
            probe.fetch_watermarks(topic, partition, ANSWERS_WITHIN).map_err(|error| error.to_string())
        })
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
    launch_with(&java, dir, &["--standalone"], |_| more.to_owned())
}

/// Formats the storage and prepares a broker; `more` makes further lines of its properties from its address.
fn launch_with(
    java: &dyn Fn() -> Command,
    dir: &TempDir,
    format: &[&str],
    more: impl Fn(&str) -> String,
) -> (Command, String) {
    let [port, controller] = free_ports();
    let brokers = format!("127.0.0.1:{port}");
    launch_on(java, dir, &brokers, controller, format, &more(&brokers))
}

fn launch_on(
    java: &dyn Fn() -> Command,
    dir: &TempDir,
    brokers: &str,
    controller: u16,
    format: &[&str],
    more: &str,
) -> (Command, String) {
    let properties = dir.path().join("server.properties");
    let text = server_properties(brokers, controller, dir) + more;
    std::fs::write(&properties, text).expect("a file can be written");
    let formatted = java()
        .args(["kafka.tools.StorageTool", "format", "-t", "c3Bhbm1pbGwtdGVzdHMtMQ"])
        .args(format)
        .arg("-c")
        .arg(&properties)
        .output()
        .expect("java runs");
    assert!(formatted.status.success(), "kafka format: {}", String::from_utf8_lossy(&formatted.stderr));
    (serve(java(), &properties), brokers.to_owned())
}

fn serve(mut java: Command, properties: &Path) -> Command {
    java.arg("-Dorg.apache.logging.log4j.level=WARN").arg("kafka.Kafka").arg(properties);
    java
}

/// Deletes what may speak of records that are gone. Without it, a broker looks through its logs.
pub fn forget_checkpoints(data: &Path) {
    for checkpoint in ["recovery-point-offset-checkpoint", "replication-offset-checkpoint", ".kafka_cleanshutdown"] {
        // What was not there need not go.
        drop(std::fs::remove_file(data.join(checkpoint)));
    }
}

/// Cuts the end off a partition whose broker is down: the batches that hold records at `to` or after it.
pub fn cut_end(data: &Path, topic: &str, partition: i32, to: i64) {
    let dir = data.join(format!("{topic}-{partition}"));
    for entry in std::fs::read_dir(&dir).expect("the partition is there") {
        let path = entry.expect("a directory can be read").path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("log") => {
                let bytes = std::fs::read(&path).expect("a segment can be read");
                let kept = bytes_before(&bytes, to);
                let file = std::fs::File::options().write(true).open(&path).expect("a segment can be written");
                file.set_len(kept as u64).expect("a segment can be cut");
            }
            // They are created again.
            Some("index" | "timeindex" | "snapshot") => std::fs::remove_file(&path).expect("an index can be deleted"),
            _ => {}
        }
    }
}

/// The bytes of the batches at the beginning of a segment that hold nothing at `to` or after it.
fn bytes_before(segment: &[u8], to: i64) -> usize {
    let mut at = 0;
    while let Some(head) = segment.get(at..at + 27) {
        let number = |from: usize| i32::from_be_bytes(head[from..from + 4].try_into().expect("four bytes"));
        let first = i64::from_be_bytes(head[..8].try_into().expect("eight bytes"));
        if first + i64::from(number(23)) >= to {
            break;
        }
        at += 12 + number(8).unsigned_abs() as usize;
    }
    at.min(segment.len())
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

fn guard_properties(port: u16, controller: u16, guard: u16) -> String {
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guard},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guard}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT
"
    )
}

fn probe(brokers: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    // A probe that comes before the broker is nothing to log.
    config.set("bootstrap.servers", brokers).set("log_level", "0");
    config.create().expect("a consumer can be created")
}

fn answers(brokers: &str, wanted: usize) -> Result<(), String> {
    match probe(brokers).fetch_metadata(None, Duration::from_secs(1)) {
        Ok(metadata) if metadata.brokers().len() >= wanted => Ok(()),
        Ok(metadata) => Err(format!("{} of {wanted} brokers are registered", metadata.brokers().len())),
        Err(e) => Err(e.to_string()),
    }
}
