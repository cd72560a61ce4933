//! Dashboards for Grafana and rules for Prometheus, from one list each.
//!
//! *In:* nothing, or the objectives of a configuration. *Out:* files: for the metrics that spanmill computes (services, service graph, traces) and for spanmill
//! itself (`names.rs` of the worker's telemetry). *Next:* `spanmill dashboards` writes them; those in `config/grafana`
//! are the same.

mod graph;
mod health;
mod panel;
mod rules;
mod services;
mod slos;
mod traces;

#[cfg(all(test, feature = "http", feature = "kafka"))]
mod tests;

pub use panel::{Dashboard, Panel, Query, Variable};
pub use rules::{ALERTS, Alert, RECORDS, Record, Severity, runbooks};
pub use slos::{SloRulesError, slo_dashboard, slo_rules};

/// A file and its purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The name, without a folder.
    pub name: &'static str,
    /// One line on what it shows.
    pub purpose: &'static str,
    /// The text.
    pub text: String,
}

/// The dashboards.
#[must_use]
pub fn dashboards() -> Vec<Dashboard> {
    vec![services::dashboard(), graph::dashboard(), traces::dashboard(), health::dashboard()]
}

/// All files.
#[must_use]
pub fn files() -> Vec<File> {
    let shown =
        |dashboard: Dashboard| File { name: dashboard.file, purpose: dashboard.description, text: dashboard.json() };
    let rules = File {
        name: "spanmill-rules.yaml",
        purpose: "Recording and alerting rules for Prometheus.",
        text: rules::yaml(),
    };
    dashboards().into_iter().map(shown).chain([rules]).collect()
}
