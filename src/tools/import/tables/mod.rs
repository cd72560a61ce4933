//! The tables: one row per key. The list of an import and the tables of `config/MIGRATION.md` are made from them.

mod collector;
mod connectors;
mod derived;
mod exporter;
mod filter;
mod ingest;
mod otlp;
mod receiver;
mod remote_write;
mod scraped;
mod tempo;

pub(super) use collector::{BASIC_AUTH, BEARER_AUTH, COMPONENTS, GATES, OAUTH2_AUTH, SIGV4_AUTH};
pub(super) use connectors::{SERVICE_GRAPH, SPAN_METRICS};
pub(super) use derived::{COUNT, EXCEPTIONS, SIGNAL_TO_METRICS};
pub(super) use exporter::EXPORTER;
pub(super) use filter::FILTER;
pub(super) use ingest::INGEST;
pub(super) use otlp::{OTLP_GRPC, OTLP_HTTP};
pub(super) use receiver::RECEIVER;
pub(super) use remote_write::REMOTE_WRITE;
pub(super) use scraped::SCRAPED_EXPORTER;
pub(super) use tempo::{GENERATOR, OVERRIDES, TOP};

use super::table::Table;

/// All tables, in the order of the document.
pub(super) const TABLES: [&Table; 22] = [
    &GENERATOR,
    &OVERRIDES,
    &REMOTE_WRITE,
    &INGEST,
    &TOP,
    &SPAN_METRICS,
    &SERVICE_GRAPH,
    &SIGNAL_TO_METRICS,
    &COUNT,
    &EXCEPTIONS,
    &EXPORTER,
    &SCRAPED_EXPORTER,
    &OTLP_HTTP,
    &OTLP_GRPC,
    &BASIC_AUTH,
    &BEARER_AUTH,
    &OAUTH2_AUTH,
    &SIGV4_AUTH,
    &RECEIVER,
    &FILTER,
    &GATES,
    &COMPONENTS,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::TABLES;
    use crate::config::{Sources, load};
    use crate::tools::import::draft::entry_of;
    use crate::tools::import::table::{How, ImportResult};
    use crate::tools::import::{Input, Product, Request, import};

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

    /// A file with one key in it.
    fn file_of(path: &str, value: &str) -> String {
        let mut text = value.to_owned();
        for name in path.split('.').rev() {
            let name = if name.ends_with('*') { name.replace('*', "x") } else { name.to_owned() };
            text = match name.strip_suffix("[]") {
                Some(name) => format!("{{{name}: [{text}]}}"),
                None => format!("{{\"{name}\": {text}}}"),
            };
        }
        text
    }

    #[test]
    fn whatever_a_key_holds_it_is_listed_and_what_comes_out_loads() {
        let values =
            ["", "x", "-5", "0", "10s", "true", "\"${V}\"", "[]", "[a, b]", "{a: b}", "[{a: b}, 1]", "a?b@c:d"];
        let keys = TABLES.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
        for (table, row) in keys.filter(|(_, row)| row.when.is_empty() && !row.path.starts_with('(')) {
            let root = if table.root.is_empty() { String::new() } else { format!("{}.", table.root) };
            let path = format!("{root}{}", row.path);
            // What goes nowhere is not looked into.
            let tried = if matches!(row.how, How::Nothing) { 1 } else { values.len() };
            for value in values.iter().take(tried) {
                let tempo = file_of(&path, value);
                // The file needs a connector, and an exporter that uses an extension.
                let name = table.root.trim_start_matches("extensions.");
                let user = format!("{{exporters: {{prometheusremotewrite: {{auth: {{authenticator: {name}}}}}}}, ");
                let exporter = table.root.trim_start_matches("exporters.");
                let piped = format!(
                    "{{service: {{pipelines: {{m: {{receivers: [spanmetrics], exporters: [{exporter}]}}}}}}, connectors: \
                     {{spanmetrics: }}, "
                );
                let around = match table.root {
                    root if root.starts_with("exporters.otlp") => piped,
                    root if root.starts_with("connectors") => String::from("{"),
                    root if root.starts_with("extensions") => format!("{user}connectors: {{spanmetrics: }}, "),
                    _ => String::from("{connectors: {spanmetrics: }, "),
                };
                let beside = tempo.replacen("{\"connectors\": {", "{\"connectors\": {spanmetrics: , ", 1);
                let other = !table.root.is_empty() || beside == tempo;
                let collector = if other { tempo.replacen('{', &around, 1) } else { beside };
                let of_tempo = table.name.starts_with("Tempo");
                let (kind, text) = if of_tempo { (Product::Tempo, tempo) } else { (Product::Collector, collector) };
                let file = Input { name: "in.yaml", text: &text };
                let request = Request { file, overrides: None, kind: Some(kind), overrides_path: None };
                let imported = import(&request).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
                assert!(imported.list.iter().any(|found| found.line == 1), "{text} is not listed");
                let read_file = |_: &std::path::Path| Ok("later".to_owned());
                let file = Some(("out.yaml", imported.config.as_str()));
                let loaded = load(&Sources { file, env: &[], set: &[], read_file: &read_file });
                assert!(loaded.is_ok(), "{text} becomes\n{}\n{}", imported.config, loaded.expect_err("wrong"));
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
                let reason = matches!(row.verdict, ImportResult::Same) || !row.verdict.why().is_empty();
                assert!(reason, "{}: {} has no reason", table.name, row.path);
            }
        }
    }
}
