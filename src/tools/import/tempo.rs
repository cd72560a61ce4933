//! Tempo: its file, and the one with settings per tenant.

use super::Fate;
use super::Input;
use super::draft::YamlValue;
use super::kafka::secure;
use super::table::{At, Level};
use super::tables::{GENERATOR, INGEST, TOP};
use super::tenants::{self, Tenant};
use super::tree::Tree;
use super::values::{duration, show_duration};
use super::walk::Importer;

/// The pseudo-key of the interval until all are known: spanmill has a step, and multiples of it.
pub(super) const INTERVAL: &str = "@interval";

/// Reads both files. The defaults are left in the importer, those of single tenants are returned.
pub(super) fn import(importer: &mut Importer, file: &Tree, overrides: Option<(&Tree, Input<'_>)>) -> Vec<Tenant> {
    for entry in file.entries() {
        match entry.name.as_str() {
            "metrics_generator" => importer.children(&GENERATOR, "", &entry.name, &entry.tree),
            "overrides" if entry.tree.entries().is_empty() => importer.hollow("overrides", entry.line, &entry.tree),
            "ingest" => ingest(importer, entry.line, &entry.tree),
            "overrides" => {}
            name => importer.walk(&TOP, name, name, entry.line, &entry.tree),
        }
    }
    secure(importer, false);
    let tenants = tenants::read(importer, file.get("overrides"), overrides);
    importer.level = Level::Static;
    importer.defaults(&GENERATOR);
    if tenants.is_empty() && !importer.seen.iter().any(|(_, path)| path == "processors") {
        let on = |path: &str| path.ends_with(".enabled");
        importer.draft.sets.retain(|set| !on(&set.path));
    }
    tenants
}

fn ingest(importer: &mut Importer, line: usize, tree: &Tree) {
    for entry in tree.entries() {
        if entry.name == "kafka" {
            importer.children(&INGEST, "", "ingest.kafka", &entry.tree);
        } else if entry.name == "enabled" {
            importer.find("ingest.enabled", entry.line, "", Fate::Ignored, "spans always come from Kafka");
        } else {
            let key = format!("ingest.{}", entry.name);
            importer.find(&key, entry.line, "", Fate::Unknown, "unknown key; check its spelling");
        }
    }
    if tree.entries().is_empty() {
        importer.hollow("ingest", line, tree);
    }
}

/// How often series are sent, in the file or of tenants.
pub(super) fn interval(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text().map(duration) {
        Some(Ok(ns)) if ns > 0 => {
            importer.said(at);
            importer.set(INTERVAL, YamlValue::Flow(show_duration(ns)), at);
        }
        _ => {
            importer.find(
                at.key,
                at.line,
                at.row.ours,
                Fate::Refused,
                "is not a duration above zero; write it manually",
            );
        }
    }
}
