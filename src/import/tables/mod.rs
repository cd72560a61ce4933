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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::TABLES;
    use crate::config::{Sources, load};
    use crate::import::draft::entry_of;
    use crate::import::table::{How, Verdict};

    #[test]
    fn what_a_row_carries_over_goes_to_a_key_that_there_is() {
        let read_file = |_: &std::path::Path| Ok(String::new());
        let loaded = load(&Sources { file: None, env: &[], set: &[], read_file: &read_file }).expect("defaults load");
        let keys: BTreeSet<&str> = loaded.effective.iter().map(|one| one.path.as_str()).collect();
        for table in TABLES {
            for row in table.rows.iter().filter(|row| !matches!(row.how, How::Nothing | How::By(_))) {
                let known = keys.contains(row.ours) || entry_of(row.ours).is_some();
                assert!(known || row.ours.is_empty(), "{}: {} becomes {}", table.name, row.path, row.ours);
            }
        }
    }

    #[test]
    fn a_key_stands_in_its_table_once_and_whatever_is_not_the_same_has_a_reason() {
        for table in TABLES {
            let mut seen = BTreeSet::new();
            for row in table.rows {
                assert!(seen.insert((row.path, row.when)), "{}: {} {} stands twice", table.name, row.path, row.when);
                let whole = !row.verdict.why().ends_with('.') && !row.verdict.why().contains('\n');
                assert!(whole, "{}: {}", table.name, row.verdict.why());
                let reason = matches!(row.verdict, Verdict::Same) || !row.verdict.why().is_empty();
                assert!(reason, "{}: {} has no reason", table.name, row.path);
            }
        }
    }
}
