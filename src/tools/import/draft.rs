//! The keys of spanmill while they are collected, and their text.

use std::fmt::Write as _;

use crate::config::show_text;

/// A value in spanmill's notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum YamlValue {
    /// On one line.
    Flow(String),
    /// A list, one item per line.
    Items(Vec<String>),
    /// A list on one line.
    List(Vec<String>),
    /// A value that cannot be converted: the key is written as a comment, followed by this.
    Note(String),
}

/// One key.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) path: String,
    pub(super) value: YamlValue,
    /// Where it comes from.
    pub(super) from: String,
    /// Its place in the list of findings.
    pub(super) finding: Option<usize>,
    /// Entries that were removed from a list.
    pub(super) lost: Vec<String>,
}

/// Keys that were set; each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) sets: Vec<Set>,
}

/// Text, and which key stands on which line.
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) lines: Vec<(usize, String)>,
}

/// Keys whose entries have names of their own, dots and all.
const MAPS: [&str; 4] =
    ["kafka.properties", "remote_write.headers", "remote_write.auth.oauth2.endpoint_params", "series.external_labels"];

/// The map that a path is an entry of, and the name of the entry.
pub(super) fn entry_of(path: &str) -> Option<(&'static str, &str)> {
    MAPS.iter().find_map(|map| Some((*map, path.strip_prefix(map)?.strip_prefix('.')?)))
}

// === impl YamlValue ===

impl YamlValue {
    /// On one line.
    pub(super) fn flow(&self) -> String {
        match self {
            Self::Flow(text) | Self::Note(text) => text.clone(),
            Self::Items(items) | Self::List(items) => format!("[{}]", items.join(", ")),
        }
    }

    /// The entries of a list.
    pub(super) fn entries(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Self::Items(items) | Self::List(items) => Some(items),
            Self::Flow(_) | Self::Note(_) => None,
        }
    }
}

// === impl Draft ===

impl Draft {
    /// Sets a key, in place of what was set before.
    pub(super) fn put(&mut self, path: &str, value: YamlValue, from: &str, finding: Option<usize>) {
        let set = Set { path: path.to_owned(), value, from: from.to_owned(), finding, lost: Vec::new() };
        match self.sets.iter_mut().find(|old| old.path == path) {
            Some(old) => *old = set,
            None => self.sets.push(set),
        }
    }

    /// What a key is set to.
    pub(super) fn get(&self, path: &str) -> Option<&YamlValue> {
        self.sets.iter().find(|set| set.path == path).map(|set| &set.value)
    }

    /// What a key is set to, on one line.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.get(path).filter(|value| !matches!(value, YamlValue::Note(_))).map(YamlValue::flow)
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.sets.retain(|set| set.path != path);
    }

    /// Sorts by the order of the reference file.
    pub(super) fn sort(&mut self, order: &[String]) {
        let place = |path: &str| {
            let path = entry_of(path).map_or(path, |(map, _)| map);
            let below =
                |key: &&String| key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            order.iter().position(|key| below(&key)).unwrap_or(order.len())
        };
        // Comments first: they must not stand between the entries of a map.
        let real = |set: &Set| !matches!(set.value, YamlValue::Note(_));
        self.sets.sort_by_cached_key(|set| (place(&set.path), real(set), set.path.clone()));
    }

    /// The keys as YAML below a section, if any; `line` counts the lines before it.
    pub(super) fn render(&self, around: &[&str], line: usize) -> Rendered {
        let mut out = Rendered { text: String::new(), lines: Vec::new() };
        let mut open: Vec<String> = Vec::new();
        for set in &self.sets {
            // A map of comments only would be no map.
            let path = entry_of(&set.path).filter(|_| !matches!(set.value, YamlValue::Note(_)));
            let mut sections: Vec<String> = around.iter().map(|name| show_text(name)).collect();
            let plain = path.map_or(set.path.as_str(), |(map, _)| map);
            sections.extend(plain.split('.').map(ToOwned::to_owned));
            if let (None, Some((map, entry))) = (path, entry_of(&set.path)) {
                sections.truncate(around.len());
                sections.extend(map.split('.').map(ToOwned::to_owned));
                let map = sections.pop().unwrap_or_default();
                sections.push(format!("{map}.{}", show_text(entry)));
            }
            let name = match path {
                Some((_, name)) => show_text(name),
                None => sections.pop().unwrap_or_default(),
            };
            let shared = open.iter().zip(&sections).take_while(|(a, b)| a == b).count();
            open.truncate(shared);
            for section in sections.iter().skip(shared) {
                let indent = "  ".repeat(open.len());
                writeln!(out.text, "{indent}{section}:").expect("a string takes everything");
                open.push(section.clone());
            }
            out.lines.push((line + out.text.lines().count() + 1, set.path.clone()));
            key(&mut out.text, &"  ".repeat(open.len()), &name, set);
        }
        out
    }
}

fn key(out: &mut String, indent: &str, name: &str, set: &Set) {
    let lost = if set.lost.is_empty() { String::new() } else { format!("; skipped: {}", set.lost.join(", ")) };
    let from = format!("{}{lost}", set.from);
    match &set.value {
        YamlValue::List(_) => writeln!(out, "{indent}{name}: {}  # {from}", set.value.flow()),
        YamlValue::Flow(value) => writeln!(out, "{indent}{name}: {value}  # {from}"),
        YamlValue::Note(note) => writeln!(out, "{indent}# {name}: {note}  # {from}"),
        YamlValue::Items(items) => {
            writeln!(out, "{indent}{name}:  # {from}").expect("a string takes everything");
            items.iter().try_for_each(|item| writeln!(out, "{indent}  - {item}"))
        }
    }
    .expect("a string takes everything");
}
