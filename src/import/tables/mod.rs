//! The tables: one row per key. The list of an import and the tables of `config/MIGRATION.md` are made from them.

mod collector;
mod connectors;
mod exporter;
mod ingest;
mod receiver;
mod remote_write;
mod tempo;

pub(super) use collector::{BASIC_AUTH, BEARER_AUTH, COMPONENTS, GATES, SIGV4_AUTH};
pub(super) use connectors::{SERVICE_GRAPH, SPAN_METRICS};
pub(super) use exporter::EXPORTER;
pub(super) use ingest::INGEST;
pub(super) use receiver::RECEIVER;
pub(super) use remote_write::REMOTE_WRITE;
pub(super) use tempo::{GENERATOR, OVERRIDES, TOP};

use super::table::Table;

/// All tables, in the order of the document.
pub(super) const TABLES: [&Table; 14] = [
    &GENERATOR,
    &OVERRIDES,
    &REMOTE_WRITE,
    &INGEST,
    &TOP,
    &SPAN_METRICS,
    &SERVICE_GRAPH,
    &EXPORTER,
    &BASIC_AUTH,
    &BEARER_AUTH,
    &SIGV4_AUTH,
    &RECEIVER,
    &GATES,
    &COMPONENTS,
];
