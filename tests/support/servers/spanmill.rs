//! The program under test, as a child process.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::daemon::Daemon;

/// Starts `spanmill` with these arguments.
pub fn spanmill(name: &str, args: &[&str]) -> Daemon {
    let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
    Daemon::spawn(name, Command::new(env!("CARGO_BIN_EXE_spanmill")).args(args), dir)
}

/// How long pending edges wait. A load, its broker or the machine may stand still for as long, and every edge is still counted.
pub const PATIENT: &str = "12s";

/// Writes the configuration of a worker whose steps are short enough for a test, and whose pending edges `wait`.
pub fn worker_config(dir: &Path, brokers: &str, topic: &str, write_url: &str, wait: &str) -> PathBuf {
    let text = format!(
        r#"kafka:
  brokers: "{brokers}"
  topics: [{topic}]
  group: {topic}-group
  shards: 4
  replication: 1
time:
  step: 1s
  idle: 2s
service_graphs:
  wait: {wait}
series:
  snapshot_every: 3s
remote_write:
  url: "{write_url}"
admin:
  listen: ""
"#
    );
    let path = dir.join("spanmill.yaml");
    std::fs::write(&path, text).expect("a file can be written");
    path
}
