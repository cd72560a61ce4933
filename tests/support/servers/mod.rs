//! Real servers for tests: Apache Kafka, Prometheus and VictoriaMetrics, each a child process on loopback with its own
//! temporary directory.
//!
//! *In:* `TEST_KAFKA_JARS`, `TEST_KAFKA_OLD_JARS`, `TEST_PROMETHEUS`, `TEST_VICTORIAMETRICS`, which `tests/run` sets. *Out:* addresses.
//! *Never:* a fixed port, a wait without a condition, a child that outlives its owner.

pub mod api;
#[path = "../child.rs"]
pub mod child;
pub mod daemon;
pub mod kafka;
pub mod metrics;
pub mod series;
pub mod spanmill;
#[path = "../wait.rs"]
mod wait;

pub use self::wait::wait_until;
