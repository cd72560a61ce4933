//! The parts around a worker that `demo`, `produce`, `replay`, `check`, `import` and the tests use.
//!
//! | room | what it does |
//! |---|---|
//! | [`import`] | settings of Tempo and of the Collector → spanmill's, and the result for each key |
//! | [`files`] | files of OTLP traces → the bytes of records |
//! | [`archive`] | samples in files: frames of a spool, OpenMetrics, JSON lines, Parquet |
//! | [`dashboards`] | dashboards for Grafana, alerts and their runbooks |
//! | [`plan`] | a load and measured costs → workers, cores, memory, traffic |
//! | [`local`] | both tasks in one process, without Kafka |
//! | [`cases`] | scenarios: spans, and their expected results | | `doctor` | what the brokers report, and a sample of records → findings with a remedy | | [`explain`] | the spans of a trace → their series and edges, or the setting that decided against them |
//! | [`survey`] | the cost of a topic or a file in series |
//! | [`map`] | deltas → the service map over time, and the answers for a page |
//! | [`totals`] | deltas → plain sums, to compare two computations of the same numbers |
//! | `spool` | a directory that keeps remote-write requests, and its reader |
//! | `receiver` | a remote-write receiver in memory, for the demo and the tests |
//! | [`loadgen`] | seeded topologies and traces, and their expected counts |
//! | `ui` | the page of the service map: its server, and the follower that fills the map from Kafka |
//! | `replay` | a replay of Kafka topics: its range, its plan, its progress |

pub mod archive;
pub mod cases;
pub mod dashboards;
#[cfg(all(feature = "http", feature = "kafka"))]
pub mod doctor;
pub mod explain;
pub mod files;
pub mod import;
pub mod loadgen;
pub mod local;
pub mod map;
pub mod plan;
#[cfg(all(feature = "http", feature = "kafka"))]
pub mod receiver;
#[cfg(all(feature = "http", feature = "kafka", feature = "replay"))]
pub mod replay;
pub mod slos;
#[cfg(all(feature = "http", feature = "kafka"))]
pub mod spool;
pub mod survey;
pub mod totals;
#[cfg(all(feature = "http", feature = "kafka", feature = "replay"))]
pub mod ui;
