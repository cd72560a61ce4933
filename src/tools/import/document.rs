//! The tables of `config/MIGRATION.md`.

use std::fmt::Write as _;

use super::table::{ABSENT, Row, Table};
use super::tables::TABLES;

/// Every table: its name, and its rows in Markdown.
#[must_use]
pub fn document_tables() -> Vec<(&'static str, String)> {
    TABLES.iter().map(|table| (table.name, markdown(table))).collect()
}

fn markdown(table: &Table) -> String {
    let mut out = String::from("| key | becomes | verdict |\n|---|---|---|\n");
    for row in table.rows {
        let ours = if row.ours.is_empty() { "–".to_owned() } else { code(row.ours) };
        let why = row.verdict.why();
        let why = if why.is_empty() { String::new() } else { format!(": {}", cell(why)) };
        writeln!(out, "| {} | {ours} | {}{why} |", name(row), row.verdict.fate()).expect("a string takes everything");
    }
    out
}

fn name(row: &Row) -> String {
    let path = row.path.replace(".**", ".…");
    let name = if path.starts_with('(') { path.trim_matches(['(', ')']).to_owned() } else { format!("`{path}`") };
    match row.when {
        "" => name,
        ABSENT if row.path.starts_with('(') => name,
        when if row.path.starts_with('(') => format!("{name}: {}", when.trim_matches(['(', ')'])),
        when if when.starts_with('(') => format!("{name} {}", cell(when)),
        when => format!("`{path}: {when}`"),
    }
}

/// Formats keys as code, but not the text between them.
fn code(ours: &str) -> String {
    ours.split(", ").map(|part| format!("`{}`", cell(part))).collect::<Vec<_>>().join(", ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
