//! spanmill turns trace streams into metrics.
//!
//! Workers of one Kafka consumer group read OTLP span batches from topics partitioned by trace ID, derive span metrics
//! and service graphs, and remote-write the series to Prometheus or a compatible receiver.
//!
//! # The map of the house
//!
//! Data walks one way. Everything in the first list is pure: it takes bytes, time and randomness as arguments and
//! returns values; it builds alone with `cargo check --lib --no-default-features`.
//!
//! | room | what it does |
//! |---|---|
//! | [`model`] | the nouns: time, labels, layouts, exemplars, the ledger |
//! | [`config`] | the file, its check, its secrets |
//! | [`import`] | settings of Tempo and of the Collector → ours, and what became of each |
//! | [`otlp`] | record bytes → spans, borrowed |
//! | [`files`] | files of OTLP traces → the bytes of records |
//! | [`filter`] | policies → which spans are kept |
//! | [`sampling`] | trace state and attributes → how many spans one stands for |
//! | [`sanitise`] | span names → patterns of them |
//! | [`spanmetrics`] | spans → span-metric deltas |
//! | [`hostinfo`] | resources → hosts |
//! | [`servicegraph`] | spans → edges, paired in stream time → deltas |
//! | [`deltas`] | the open step of a span task; shares and their bytes |
//! | [`journal`] | frames, the fold, the writer's state machine |
//! | [`series`] | cumulative series of a shard: steps, staleness, snapshots |
//! | [`tasks`] | the pure halves of the span task and the series task, made of the rooms above |
//! | [`remotewrite`] | samples → bytes, answers → verdicts |
//! | [`archive`] | samples in files: frames of a spool, OpenMetrics, JSON lines, Parquet |
//! | [`plan`] | a load and measured costs → workers, cores, memory, traffic |
//! | [`loadgen`] | seeded topologies and traces, and what they must count to |
//!
//! The second list touches the world and sits behind the features `kafka` and `http`: `telemetry`, `kafka`, `export`,
//! `worker`, `replay`, `admin`, `cli`.
#![forbid(unsafe_code)]

pub mod archive;
pub mod config;
pub mod deltas;
pub mod files;
pub mod filter;
pub mod hostinfo;
pub mod import;
pub mod journal;
pub mod loadgen;
pub mod model;
pub mod otlp;
pub mod plan;
pub mod remotewrite;
pub mod sampling;
pub mod sanitise;
pub mod series;
pub mod servicegraph;
pub mod spanmetrics;
pub mod tasks;

#[cfg(feature = "http")]
pub mod admin;
#[cfg(all(feature = "http", feature = "kafka", feature = "replay"))]
pub mod cli;
#[cfg(feature = "http")]
pub mod export;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(all(feature = "http", feature = "kafka", feature = "replay"))]
pub mod replay;
#[cfg(feature = "http")]
pub mod telemetry;
#[cfg(all(feature = "http", feature = "kafka"))]
pub mod worker;
