//! Real servers for tests: Apache Kafka, Prometheus and VictoriaMetrics, each a child process on loopback with its own
//! temporary directory.
//!
//! *In:* `TEST_KAFKA_JARS`, `TEST_PROMETHEUS`, `TEST_VICTORIAMETRICS`, which `tests/run` sets. *Out:* addresses.
//! *Never:* a fixed port, a wait without a condition, a child that outlives its owner.

pub mod api;
#[path = "../child.rs"]
pub mod child;
pub mod daemon;
pub mod kafka;
pub mod metrics;
pub mod series;
pub mod spanmill;

use std::time::{Duration, Instant};

/// Polls until `probe` has an answer.
///
/// # Panics
/// When the deadline passes; the message carries the last reason.
pub fn wait_until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(answer) => return answer,
            Err(reason) if start.elapsed() > within => panic!("{what}: not within {within:?}: {reason}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
