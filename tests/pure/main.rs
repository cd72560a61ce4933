//! Tests that need no server, neither Kafka nor HTTP: `cargo test --no-default-features --test pure` builds without both.
//!
//! Every module stands for itself; what several of them use lies in `tests/support`.

mod ancestors;
mod any_bytes;
mod attribute_metrics;
mod cases;
mod chaos_schedule;
mod config_corpus;
mod conformance;
mod duplicates;
mod events;
mod features;
mod formats;
mod hostile;
mod import;
mod layering;
mod otlp_differential;
mod otlp_files;
mod otlp_metrics;
#[cfg(unix)]
mod runner;
mod simulation;
mod slos;
mod span_metrics;
mod span_task;
mod supply;
mod traces;

#[path = "../support/adversary.rs"]
mod adversary;
#[path = "../support/any_bytes.rs"]
mod checks;
#[path = "../support/graph.rs"]
mod graph;
#[path = "../support/naive.rs"]
mod naive;
#[allow(clippy::assertions_on_constants, reason = "it fails in words that name what differs")]
#[path = "../support/otlp_check.rs"]
mod otlp_check;
#[path = "../support/otlp_metrics.rs"]
mod otlp_metrics_as_samples;
#[path = "../support/formats.rs"]
mod samples;
#[path = "../support/scramble.rs"]
mod scramble;
#[path = "../support/source.rs"]
mod source;
#[path = "../support/streams.rs"]
mod streams;
#[path = "../support/variety.rs"]
mod variety;
#[path = "../support/world.rs"]
mod world;
