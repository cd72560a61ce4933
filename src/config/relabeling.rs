//! `remote_write.write_relabel_configs`: the rules of a valid one. Keys and defaults are those of Prometheus.

use serde_json::{Value, json};

use super::draft::Choice;
use super::items::{Item, Parts, no_regex};
use super::problem::quoted;
use super::read::Reading;
use super::schema;
use super::value::{show_quoted, show_text, show_texts};
use super::yaml::Node;
use crate::core::remotewrite::relabel::{RelabelAction, RelabelRule, is_label_name};

const KEYS: [&str; 7] = ["source_labels", "separator", "regex", "target_label", "replacement", "modulus", "action"];

/// Which keys an action reads, besides `action`.
fn reads(action: RelabelAction) -> &'static [&'static str] {
    match action {
        RelabelAction::Replace => &["source_labels", "separator", "regex", "target_label", "replacement"],
        RelabelAction::Keep | RelabelAction::Drop => &["source_labels", "separator", "regex"],
        RelabelAction::KeepEqual | RelabelAction::DropEqual => &["source_labels", "separator", "target_label"],
        RelabelAction::HashMod => &["source_labels", "separator", "target_label", "modulus"],
        RelabelAction::Lowercase | RelabelAction::Uppercase => &["source_labels", "separator", "target_label"],
        RelabelAction::LabelMap => &["regex", "replacement"],
        RelabelAction::LabelDrop | RelabelAction::LabelKeep => &["regex"],
    }
}

/// Which of them it needs.
fn needs(action: RelabelAction) -> &'static [&'static str] {
    match action {
        RelabelAction::Replace => &["target_label"],
        RelabelAction::Keep | RelabelAction::Drop => &["source_labels"],
        RelabelAction::KeepEqual | RelabelAction::DropEqual => &["source_labels", "target_label"],
        RelabelAction::HashMod => &["source_labels", "target_label", "modulus"],
        RelabelAction::Lowercase | RelabelAction::Uppercase => &["source_labels", "target_label"],
        RelabelAction::LabelMap | RelabelAction::LabelDrop | RelabelAction::LabelKeep => &["regex"],
    }
}

/// The action of this name.
///
/// # Errors
/// When there is none.
pub fn relabel_action(word: &str) -> Result<RelabelAction, String> {
    let mut action = RelabelAction::Replace;
    if action.choose(word) {
        return Ok(action);
    }
    let words: Vec<String> = action.words().iter().map(|word| format!("`{word}`")).collect();
    let words = words.join(", ");
    Err(format!("{} is unknown; write one of {words}", quoted(word)))
}

/// The modulus of a rule.
///
/// # Errors
/// When it is no number above zero.
pub fn relabel_modulus(text: &str) -> Result<u64, String> {
    let modulus = text.parse().ok().filter(|modulus| *modulus > 0);
    modulus.ok_or_else(|| format!("{} is not a whole number above 0", quoted(text)))
}

fn expression(text: &str) -> Result<(), String> {
    RelabelRule::expression(text).map(drop).map_err(|error| no_regex(text, &error))
}

/// A name of a label; that of a rule that replaces may hold groups.
fn target(action: RelabelAction, text: &str) -> Result<(), String> {
    if is_label_name(text) || action == RelabelAction::Replace && text.contains('$') {
        return Ok(());
    }
    Err(format!("{} is not the name of a label; write letters, digits and `_`, no digit first", quoted(text)))
}

// === impl Item ===

impl Item for RelabelRule {
    const FORM: &'static str = "a list such as `[{source_labels: [__name__], regex: 'traces_.*', action: keep}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let parts = Parts::of(node, &KEYS, at, reading)?;
        let word = parts.text_if("action", reading, |word| relabel_action(word).map(drop))?;
        let action =
            word.map_or(RelabelAction::Replace, |word| relabel_action(&word).unwrap_or(RelabelAction::Replace));
        let before = reading.wrong.len();
        for key in KEYS.into_iter().filter(|key| *key != "action" && !reads(action).contains(key)) {
            if let Some(node) = parts.get(key) {
                let message = format!("is not read by `action: {}`; remove it", action.word());
                reading.wrong(parts.path(key), node.start, Some(message));
            }
        }
        for key in needs(action) {
            parts.need(key, reading);
        }
        let usual = Self::default();
        let sources = parts.list("source_labels", reading);
        let separator = parts.text_if("separator", reading, |_| Ok(()));
        let regex = parts.text_if("regex", reading, expression);
        let target = parts.text_if("target_label", reading, |text| target(action, text));
        let replacement = parts.text_if("replacement", reading, |_| Ok(()));
        let modulus = parts.text_if("modulus", reading, |text| relabel_modulus(text).map(drop));
        (reading.wrong.len() == before).then_some(())?;
        Some(Self {
            source_labels: sources?,
            separator: separator?.unwrap_or(usual.separator),
            regex: regex?.unwrap_or(usual.regex),
            target_label: target?.unwrap_or_default(),
            replacement: replacement?.unwrap_or(usual.replacement),
            modulus: modulus?.and_then(|text| relabel_modulus(&text).ok()).unwrap_or(usual.modulus),
            action,
        })
    }

    fn schema() -> Value {
        let map = json!({
            "source_labels": schema::texts(),
            "separator": schema::text(),
            "regex": schema::text(),
            "target_label": schema::text(),
            "replacement": schema::text(),
            "modulus": { "type": "integer", "minimum": 1 },
            "action": { "enum": RelabelAction::Replace.words() },
        });
        schema::parts(&map, &[])
    }

    fn show(&self) -> String {
        show_rule(self)
    }
}

/// A rule as it would stand in the file, without what it does not read.
#[must_use]
pub fn show_rule(rule: &RelabelRule) -> String {
    let usual = RelabelRule::default();
    let mut shown = Vec::new();
    for key in reads(rule.action) {
        let (value, default) = match *key {
            "source_labels" => {
                let sources = &rule.source_labels;
                shown.extend((!sources.is_empty()).then(|| format!("source_labels: {}", show_texts(sources))));
                continue;
            }
            "modulus" => {
                shown.push(format!("modulus: {}", rule.modulus));
                continue;
            }
            "separator" => (&rule.separator, &usual.separator),
            "regex" => (&rule.regex, &usual.regex),
            "target_label" => (&rule.target_label, &usual.target_label),
            _ => (&rule.replacement, &usual.replacement),
        };
        if value != default || needs(rule.action).contains(key) {
            // `1` would be a number for other readers of the file.
            let text = if *key == "target_label" { show_text(value) } else { show_quoted(value) };
            shown.push(format!("{key}: {text}"));
        }
    }
    shown.push(format!("action: {}", rule.action.word()));
    format!("{{{}}}", shown.join(", "))
}
