//! Tempo's overrides. An entry there replaces the defaults as a whole, while spanmill's are merged: keys that a
//! tenant's entry omits are written explicitly.

use super::draft::Draft;
use super::specials::no_processors;
use super::table::Level;
use super::tables::{GENERATOR, OVERRIDES};
use super::tree::{Tree, TreeEntry};
use super::walk::Importer;
use super::{Fate, Input};

/// The keys of one tenant, in full.
pub(super) struct Tenant {
    pub(super) name: String,
    pub(super) draft: Draft,
}

/// The keys for which a tenant's entry falls back to the defaults.
const FALLING_BACK: [&str; 3] = ["histograms.native_bucket_factor", "histograms.native_max_buckets", "span_names.mode"];
const FLAT: &str = "metrics_generator_";
const EVERYBODY: &str = "*";

/// Reads the overrides of both files. The settings of tenants without an entry are left in the importer.
pub(super) fn read(importer: &mut Importer, inline: Option<&Tree>, file: Option<(&Tree, Input<'_>)>) -> Vec<Tenant> {
    let base = std::mem::take(&mut importer.draft);
    importer.level = Level::Tenant;
    importer.draft = base.clone();
    let everybody = file.and_then(|(tree, _)| tree.get("overrides")).and_then(|all| all.get(EVERYBODY));
    if let Some(inline) = inline {
        defaults(importer, inline);
    }
    if importer.draft.get("span_metrics.enabled").is_none() {
        no_processors(&mut importer.draft, "Tempo enables no processor by itself");
    }
    if everybody.is_some() {
        beside(importer);
    }
    let defaults = std::mem::take(&mut importer.draft);
    let mut main = None;
    let mut tenants = Vec::new();
    if let Some((tree, input)) = file {
        let main_file = std::mem::replace(&mut importer.file, input.name.to_owned());
        others(importer, tree);
        for entry in tree.get("overrides").map(Tree::entries).unwrap_or_default() {
            importer.draft = base.clone();
            for path in FALLING_BACK {
                if let Some(set) = defaults.sets.iter().find(|set| set.path == path) {
                    importer.draft.sets.push(set.clone());
                }
            }
            tenant(importer, entry);
            let draft = std::mem::take(&mut importer.draft);
            if entry.name == EVERYBODY {
                importer.case(&OVERRIDES, "(an entry for *)", "", "overrides.*", entry.line);
                main = Some(draft);
            } else {
                tenants.push(Tenant { name: entry.name.clone(), draft });
            }
        }
        importer.file = main_file;
    }
    importer.draft = main.unwrap_or(defaults);
    tenants
}

/// `overrides` of the main file: the defaults, in either spelling, and the keys around them.
fn defaults(importer: &mut Importer, inline: &Tree) {
    for entry in inline.entries() {
        let key = format!("overrides.{}", entry.name);
        if entry.name == "defaults" && entry.tree.entries().is_empty() {
            importer.hollow(&key, entry.line, &entry.tree);
        } else if entry.name == "defaults" {
            for inner in entry.tree.entries() {
                scoped(importer, &format!("{key}.{}", inner.name), inner);
            }
        } else if entry.name.starts_with(FLAT) {
            flat(importer, &key, entry);
        } else {
            around(importer, &entry.name, &key, entry);
        }
    }
}

/// One tenant's entry.
fn tenant(importer: &mut Importer, entry: &TreeEntry) {
    for inner in entry.tree.entries() {
        let key = format!("overrides.{}.{}", entry.name, inner.name);
        if inner.name.starts_with(FLAT) {
            flat(importer, &key, inner);
        } else {
            scoped(importer, &key, inner);
        }
    }
    if entry.tree.entries().is_empty() {
        let key = format!("overrides.{}", entry.name);
        importer.find(&key, entry.line, "", Fate::Ignored, "it is empty, and still replaces the defaults");
    }
    if importer.draft.get("span_metrics.enabled").is_none() {
        no_processors(&mut importer.draft, "an entry without processors has none");
    }
}

fn scoped(importer: &mut Importer, key: &str, entry: &TreeEntry) {
    if entry.name == "metrics_generator" {
        importer.children(&GENERATOR, "", key, &entry.tree);
    } else if OVERRIDES.row(&entry.name).is_some() {
        around(importer, &entry.name, key, entry);
    } else {
        around(importer, &format!("defaults.{}", entry.name), key, entry);
    }
}

/// A flat key: the path with `_` for dots.
fn flat(importer: &mut Importer, key: &str, entry: &TreeEntry) {
    let name = entry.name.strip_prefix(FLAT).unwrap_or(&entry.name);
    let paths = GENERATOR.rows.iter().filter(|row| row.when.is_empty()).flat_map(|row| {
        let ends = row.path.match_indices('.').map(|(end, _)| end).chain([row.path.len()]);
        ends.filter_map(|end| row.path.get(..end))
    });
    let path = paths.into_iter().find(|path| path.replace('.', "_") == name);
    match path {
        Some(path) => importer.walk(&GENERATOR, path, key, entry.line, &entry.tree),
        None => importer.find(key, entry.line, "", Fate::Unknown, "unknown key; check its spelling"),
    }
}

fn around(importer: &mut Importer, path: &str, key: &str, entry: &TreeEntry) {
    let level = std::mem::replace(&mut importer.level, Level::Static);
    importer.walk(&OVERRIDES, path, key, entry.line, &entry.tree);
    importer.level = level;
}

/// The other content of the file of overrides.
fn others(importer: &mut Importer, tree: &Tree) {
    for entry in tree.entries().iter().filter(|entry| entry.name != "overrides") {
        importer.find(&entry.name, entry.line, "", Fate::Unknown, "tenants belong below overrides");
    }
}

/// The entry for all tenants hides the defaults.
fn beside(importer: &mut Importer) {
    let row = OVERRIDES.case("(an entry for *)", "(defaults beside it)").expect("the case has a row");
    let defaults = importer.list.iter_mut().filter(|finding| {
        let flat = finding.key.starts_with("overrides.metrics_generator_");
        flat || finding.key.starts_with("overrides.defaults.metrics_generator")
    });
    for finding in defaults.filter(|finding| !FALLING_BACK.contains(&finding.ours.as_str())) {
        finding.fate = row.verdict.fate();
        row.verdict.why().clone_into(&mut finding.why);
        finding.ours.clear();
    }
}
