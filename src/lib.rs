//! spanmill turns trace streams into metrics.
//!
//! Workers of one Kafka consumer group read OTLP span batches from topics partitioned by trace ID, derive span metrics
//! and service graphs, and remote-write the series to Prometheus or a compatible receiver.
//!
//! # The map of the house
//!
//! Data walks one way, and so do the imports: a wing uses only those above it in this table.
//!
//! | wing | what it is |
//! |---|---|
//! | [`core`] | what spanmill computes, pure: from the bytes of records to the bytes of remote-write requests |
//! | [`config`] | the file, its check, its secrets |
//! | `worker` | what runs: Kafka, threads, tasks, the sender, telemetry, the admin server |
//! | [`tools`] | what stands around a worker: import, replay, files, scenarios, plans, loads |
//! | `cli` | the commands |
//!
//! `core`, `config` and most of `tools` are pure and build alone with `cargo check --lib --no-default-features`; the rest sits
//! behind the features `kafka`, `http` and `replay`.
#![deny(unsafe_code)]

#[cfg(all(feature = "http", feature = "kafka", feature = "replay"))]
#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod core;
#[forbid(unsafe_code)]
pub mod tools;
#[cfg(all(feature = "http", feature = "kafka"))]
pub mod worker;
