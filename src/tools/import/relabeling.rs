//! Prometheus' `write_relabel_configs`: the rules are spanmill's, so they are read, checked and written again, all or none.
//! A rule that is missing would change what the rules after it do.

use super::Fate;
use super::draft::YamlValue;
use super::table::At;
use super::tree::Tree;
use super::walk::Importer;
use crate::config::{relabel_action, relabel_modulus, show_rule};
use crate::core::remotewrite::relabel::{RelabelAction, RelabelRule};

/// The case of expressions with classes, which Rust reads as Unicode.
const CLASSES: &str = "(regex)";
/// The case of rules that cannot be read.
const UNREAD: &str = "(a variable, or no valid rule)";

/// The rules of a receiver.
pub(super) fn rules(importer: &mut Importer, at: &At<'_>) {
    let mut shown = Vec::new();
    for (i, item) in at.tree.items().iter().enumerate() {
        match rule(item) {
            Ok(rule) => shown.push(show_rule(&rule)),
            Err(why) => {
                importer.find(&format!("{}[{i}]", at.key), item.line, at.row.ours, Fate::Refused, &why);
                return importer.said_case(at, UNREAD);
            }
        }
    }
    if at.tree.items().iter().any(|item| text(item, "regex").is_some_and(|regex| regex.contains('\\'))) {
        importer.said_case(at, CLASSES);
    } else {
        importer.said(at);
    }
    importer.set(at.row.ours, YamlValue::Items(shown), at);
}

fn text<'t>(item: &'t Tree, key: &str) -> Option<&'t str> {
    item.get(key).and_then(Tree::text)
}

fn rule(item: &Tree) -> Result<RelabelRule, String> {
    // Prometheus reads it in any case.
    let word = text(item, "action").map_or_else(|| "replace".to_owned(), str::to_ascii_lowercase);
    let action = relabel_action(&word)?;
    let mut rule = RelabelRule { action, ..RelabelRule::default() };
    for entry in item.entries() {
        let value =
            || entry.tree.text().map(ToOwned::to_owned).ok_or_else(|| format!("{} is not one text", entry.name));
        match entry.name.as_str() {
            "action" => {}
            "source_labels" => {
                let names = entry.tree.items().iter().map(|name| name.text().map(ToOwned::to_owned));
                rule.source_labels = names.collect::<Option<_>>().ok_or("source_labels is not a list of texts")?;
            }
            "separator" => rule.separator = value()?,
            "regex" => rule.regex = value()?,
            "target_label" => rule.target_label = value()?,
            "replacement" => rule.replacement = value()?,
            "modulus" => rule.modulus = relabel_modulus(&value()?)?,
            other => return Err(format!("unknown key {other:?}")),
        }
    }
    let regex = RelabelRule::expression(&rule.regex).map_err(|_| "regex is not valid in Rust's syntax".to_owned())?;
    if matches!(action, RelabelAction::Replace | RelabelAction::LabelMap) {
        let is_group = |name: &str| name.parse::<usize>().is_ok() || regex.capture_names().flatten().any(|n| n == name);
        let templates = [&rule.replacement, &rule.target_label];
        if templates.into_iter().any(|template| braced(template).any(|name| !is_group(name))) {
            return Err("a variable of the environment".to_owned());
        }
    }
    Ok(rule)
}

/// The names in `${...}`.
fn braced(template: &str) -> impl Iterator<Item = &str> {
    template.split("${").skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}
