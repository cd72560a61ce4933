//! Older releases of Apache Kafka, each as one process beside those of the present release.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::super::daemon::{Daemon, free_ports, setting, start};
use super::{JVM, RealKafka, answers, launch_with, server_properties};

/// A release that people still run.
#[derive(Debug, Clone, Copy)]
pub enum Release {
    /// The oldest one that is supported; its metadata is in ZooKeeper.
    V2_8,
    /// The last one before Kafka 4.
    V3_9,
}

// === impl Release ===

impl Release {
    fn version(self) -> &'static str {
        match self {
            Self::V2_8 => "2.8.2",
            Self::V3_9 => "3.9.1",
        }
    }

    fn java(self, dir: &Path) -> Command {
        // Releases before 4 log through log4j 1, which is silent without a configuration.
        let logging = dir.join("log4j.properties");
        let text = "log4j.rootLogger=WARN,out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
                    log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n";
        std::fs::write(&logging, text).expect("a file can be written");
        let jars = PathBuf::from(setting("TEST_KAFKA_OLD_JARS")).join(self.version());
        let mut command = Command::new("java");
        command.args(JVM).args(["-cp", &format!("{}/*", jars.display())]);
        command.arg(format!("-Dlog4j.configuration=file:{}", logging.display()));
        command
    }
}

// === impl RealKafka ===

impl RealKafka {
    /// Starts a broker of an older release.
    pub fn start_release(release: Release) -> Self {
        match release {
            Release::V2_8 => Self::start_with_zookeeper(release),
            Release::V3_9 => {
                let launch = |dir: &TempDir| {
                    launch_with(&|| release.java(dir.path()), dir, &["--standalone"], |_| String::new())
                };
                let (daemon, brokers) = start("kafka", Duration::from_secs(90), launch, |brokers| answers(brokers, 1));
                Self { brokers, daemon, others: Vec::new() }
            }
        }
    }

    fn start_with_zookeeper(release: Release) -> Self {
        let (zookeeper, port) = zookeeper(release);
        let launch = |dir: &TempDir| {
            let [broker] = free_ports();
            let properties = dir.path().join("server.properties");
            let text = server_properties(&format!("127.0.0.1:{broker}"), 0, dir);
            let text = without_quorum(&text) + &format!("broker.id=1\nzookeeper.connect=127.0.0.1:{port}\n");
            std::fs::write(&properties, text).expect("a file can be written");
            let mut command = release.java(dir.path());
            command.arg("kafka.Kafka").arg(&properties);
            (command, format!("127.0.0.1:{broker}"))
        };
        let (daemon, brokers) = start("kafka", Duration::from_secs(90), launch, |brokers| answers(brokers, 1));
        Self { brokers, daemon, others: vec![zookeeper] }
    }
}

/// The properties of a broker without a controller of its own.
fn without_quorum(properties: &str) -> String {
    let of_quorum = |line: &&str| !["process.roles", "node.id", "controller."].iter().any(|key| line.starts_with(key));
    let lines = properties.lines().filter(of_quorum).map(|line| match line.split_once(",CONTROLLER") {
        Some((listeners, _)) => listeners,
        None => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

fn zookeeper(release: Release) -> (Daemon, u16) {
    let launch = |dir: &TempDir| {
        let [port] = free_ports();
        let mut command = release.java(dir.path());
        command
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(port.to_string())
            .arg(dir.path().join("data"));
        (command, port)
    };
    let listens = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).map(drop).map_err(|e| e.to_string());
    start("zookeeper", Duration::from_secs(90), launch, listens)
}
