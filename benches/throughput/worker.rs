//! Workers: `spanmill run` as child processes, watched through their own metrics.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::servers::daemon::{Daemon, free_ports};

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// The program.
    pub program: &'a Path,
    /// The brokers.
    pub brokers: &'a str,
    /// The source topics.
    pub topics: Vec<String>,
    /// The group.
    pub group: String,
    /// Where samples go.
    pub url: &'a str,
    /// Other settings.
    pub set: Vec<String>,
}

/// A running worker.
pub struct Worker {
    daemon: Daemon,
    admin: String,
}

/// What a worker says about itself.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

// === impl Worker ===

impl Worker {
    /// Starts it.
    pub fn start(setup: &Setup<'_>) -> Self {
        let [port] = free_ports();
        let admin = format!("127.0.0.1:{port}");
        let mut command = Command::new(setup.program);
        command.arg("run");
        let ours = [
            format!("kafka.brokers={}", setup.brokers),
            format!("kafka.topics=[{}]", setup.topics.join(", ")),
            format!("kafka.group={}", setup.group),
            "kafka.replication=1".to_owned(),
            format!("remote_write.url={}", setup.url),
            format!("admin.listen={admin}"),
            "log.level=warn".to_owned(),
        ];
        for set in ours.iter().chain(&setup.set) {
            command.args(["--set", set]);
        }
        let dir = TempDir::with_prefix("spanmill-bench-").expect("a temporary directory");
        Self { daemon: Daemon::spawn("worker", &mut command, dir), admin }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What it says about itself; nothing while it starts.
    pub fn metrics(&mut self) -> Metrics {
        assert!(self.daemon.exited().is_none(), "{}", self.daemon.tail());
        let text = get(&self.admin, "/metrics").unwrap_or_default();
        let mut sums = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            *sums.entry(sum_of(series)).or_insert(0.0) += value.parse::<f64>().unwrap_or_default();
        }
        Metrics(sums)
    }

    /// Stops it gracefully.
    pub fn stop(mut self) {
        let status = self.daemon.terminate(Duration::from_secs(60));
        assert!(status.success(), "{}", self.daemon.tail());
    }
}

/// Partitions and shards are summed up; of the other labels the first value stays.
fn sum_of(series: &str) -> String {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}').split(',');
    let kept = labels.filter_map(|l| l.split_once('=')).find(|(key, _)| ["kind", "part"].contains(key));
    kept.map_or_else(|| name.to_owned(), |(_, value)| format!("{name}:{}", value.trim_matches('"')))
}

fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    Ok(text)
}

// === impl Metrics ===

impl Metrics {
    /// A sum; 0 while it is not there.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Spans read, also those that are not journaled yet.
    pub fn spans(&self) -> u64 {
        self.get("spanmill_process_spans_read_total") as u64
    }
}
