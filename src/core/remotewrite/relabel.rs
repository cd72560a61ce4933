//! Relabeling as Prometheus does it in `write_relabel_configs`: which series go to a receiver, and under which labels.
//!
//! *In:* rules; the labels of a series, or a [`Request`](super::Request). *Out:* other labels, or that the series is not sent. *Owner:* the
//! sender, per endpoint: a request that waits is relabeled when it is sent, so it follows its endpoint. *Never:* a sum: two
//! series that get the same labels stay two, and only the first of a request is sent. *Next:* the sender.
//!
//! Semantics: `model/relabel/relabel.go` of Prometheus 3. Expressions are anchored, `.` matches a line break, and a label
//! with an empty value is no label. They use Rust's syntax, in which `\d`, `\w` and `\b` match Unicode.

mod md5;
mod wire;

use std::borrow::Cow;

use regex::Regex;

pub use wire::Relabeled;

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelabelAction {
    /// Sets the target label to the replacement, if the expression matches the source; an empty value removes it.
    Replace,
    /// Keeps only series whose source matches.
    Keep,
    /// Drops series whose source matches.
    Drop,
    /// Keeps only series whose source is the value of the target label.
    KeepEqual,
    /// Drops series whose source is the value of the target label.
    DropEqual,
    /// Copies the labels whose name matches to the names that the replacement gives.
    LabelMap,
    /// Removes the labels whose name matches.
    LabelDrop,
    /// Removes the labels whose name does not match.
    LabelKeep,
    /// Sets the target label to the remainder of a hash of the source.
    HashMod,
    /// Sets the target label to the source in lower case.
    Lowercase,
    /// Sets the target label to the source in upper case.
    Uppercase,
}

/// One rule, as it is configured. The fields have the names and defaults of Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelabelRule {
    /// The labels whose values are joined to the source. A label that is missing has an empty value.
    pub source_labels: Vec<String>,
    /// What stands between them.
    pub separator: String,
    /// The expression, anchored at both ends.
    pub regex: String,
    /// The label that is set, or compared.
    pub target_label: String,
    /// The new value, with `$1` or `${name}` for groups.
    pub replacement: String,
    /// What the hash is divided by.
    pub modulus: u64,
    /// What the rule does.
    pub action: RelabelAction,
}

/// Rules, ready for use.
#[derive(Debug)]
pub struct Relabeler {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    settings: RelabelRule,
    regex: Regex,
    /// Whether the expression is the default one, so that it need not be asked.
    matches_all: bool,
}

/// The labels of one series, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Labels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

// === impl RelabelRule ===

impl RelabelRule {
    /// The separator if none is configured.
    pub const SEPARATOR: &'static str = ";";
    /// The expression if none is configured.
    pub const REGEX: &'static str = "(.*)";
    /// The replacement if none is configured.
    pub const REPLACEMENT: &'static str = "$1";

    /// The expression as it is used.
    ///
    /// # Errors
    /// When it is none.
    pub fn expression(regex: &str) -> Result<Regex, regex::Error> {
        Regex::new(&format!("^(?s:{regex})$"))
    }
}

impl Default for RelabelRule {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: Self::SEPARATOR.to_owned(),
            regex: Self::REGEX.to_owned(),
            target_label: String::new(),
            replacement: Self::REPLACEMENT.to_owned(),
            modulus: 0,
            action: RelabelAction::Replace,
        }
    }
}

// === impl Relabeler ===

impl Relabeler {
    /// These rules, which apply one after the other; `None` if there are none.
    ///
    /// # Errors
    /// When an expression is none.
    pub fn new(rules: &[RelabelRule]) -> Result<Option<Self>, regex::Error> {
        let rule = |rule: &RelabelRule| {
            let regex = RelabelRule::expression(&rule.regex)?;
            Ok(Rule { settings: rule.clone(), regex, matches_all: rule.regex == RelabelRule::REGEX })
        };
        let rules = rules.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        Ok((!rules.is_empty()).then_some(Self { rules }))
    }

    /// Whether several series may get the same labels: rules that only choose among series leave them apart.
    #[must_use]
    pub fn may_merge(&self) -> bool {
        use RelabelAction::{Drop, DropEqual, Keep, KeepEqual};
        !self.rules.iter().all(|rule| matches!(rule.settings.action, Keep | Drop | KeepEqual | DropEqual))
    }

    /// Applies the rules to the labels of a series. Returns whether it is sent.
    fn apply(&self, labels: &mut Labels<'_>, source: &mut String) -> bool {
        self.rules.iter().all(|rule| rule.apply(labels, source)) && !labels.0.is_empty()
    }
}

// === impl Rule ===

impl Rule {
    /// Returns whether the series is kept. `source` is scratch memory.
    fn apply(&self, labels: &mut Labels<'_>, source: &mut String) -> bool {
        let settings = &self.settings;
        source.clear();
        for (i, name) in settings.source_labels.iter().enumerate() {
            if i > 0 {
                source.push_str(&settings.separator);
            }
            source.push_str(labels.get(name));
        }
        match settings.action {
            RelabelAction::Keep => return self.is_match(source),
            RelabelAction::Drop => return !self.is_match(source),
            RelabelAction::KeepEqual => return labels.get(&settings.target_label) == source,
            RelabelAction::DropEqual => return labels.get(&settings.target_label) != source,
            RelabelAction::Replace => self.replace(labels, source),
            RelabelAction::LabelMap => self.map(labels),
            RelabelAction::LabelDrop => labels.0.retain(|(name, _)| !self.is_match(name)),
            RelabelAction::LabelKeep => labels.0.retain(|(name, _)| self.is_match(name)),
            RelabelAction::HashMod => {
                let hash = md5::tail(source.as_bytes()).checked_rem(settings.modulus).unwrap_or(0);
                labels.set(&settings.target_label, hash.to_string());
            }
            RelabelAction::Lowercase => labels.set(&settings.target_label, source.to_lowercase()),
            RelabelAction::Uppercase => labels.set(&settings.target_label, source.to_uppercase()),
        }
        true
    }

    fn is_match(&self, text: &str) -> bool {
        self.matches_all || self.regex.is_match(text)
    }

    fn replace(&self, labels: &mut Labels<'_>, source: &str) {
        let Some(groups) = self.regex.captures(source) else { return };
        let (mut target, mut value) = (String::new(), String::new());
        groups.expand(&self.settings.target_label, &mut target);
        if is_label_name(&target) {
            groups.expand(&self.settings.replacement, &mut value);
            labels.set(&target, value);
        }
    }

    fn map(&self, labels: &mut Labels<'_>) {
        let matching = labels.0.iter().filter_map(|(name, value)| {
            let groups = self.regex.captures(name)?;
            let mut target = String::new();
            groups.expand(&self.settings.replacement, &mut target);
            Some((target, value.clone().into_owned()))
        });
        for (target, value) in matching.collect::<Vec<_>>() {
            if is_label_name(&target) {
                labels.set(&target, value);
            }
        }
    }
}

/// Whether every receiver takes a label of this name.
#[must_use]
pub fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

// === impl Labels ===

impl Labels<'_> {
    /// The value of a label; empty if there is none.
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Sets a label; an empty value removes it.
    fn set(&mut self, name: &str, value: String) {
        let place = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name));
        match (place, value.is_empty()) {
            (Ok(at), true) => drop(self.0.remove(at)),
            (Ok(at), false) => self.0[at].1 = Cow::Owned(value),
            (Err(_), true) => {}
            (Err(at), false) => self.0.insert(at, (Cow::Owned(name.to_owned()), Cow::Owned(value))),
        }
    }
}

#[cfg(test)]
mod tests;
