//! Tests of the running program and of its edges, on servers inside the test: librdkafka's embedded broker, and receivers of
//! remote write on loopback. Nothing has to be installed.
//!
//! Ports, directories and names of topics are each test's own: all of them run at the same time, in one process.

mod admin;
mod admin_access;
mod cli;
mod compose;
mod demo;
mod docs;
mod doctor;
mod endpoints;
mod explain;
mod export;
mod export_tls;
mod failures;
mod formats;
mod hardening;
mod outputs;
mod page;
mod produce;
mod replay_files;
mod replay_sinks;
mod tenants;
mod top;
mod topics;
mod traces;
mod words;
mod worker;

#[path = "../support/child.rs"]
mod child;
#[allow(clippy::disallowed_methods, reason = "tests meet the real clock")]
#[path = "../support/mill.rs"]
mod mill;
#[path = "../support/otlp_metrics.rs"]
mod otlp_metrics_as_samples;
#[path = "../support/formats.rs"]
mod samples;
