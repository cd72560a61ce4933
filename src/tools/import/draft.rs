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

/// The section of receivers, which may be a list.
const RECEIVERS: &str = "remote_write";

/// The map that a path is an entry of, and the name of the entry.
pub(super) fn entry_of(path: &str) -> Option<(&str, &str)> {
    let (index, plain) = receiver_of(path).map_or((0, path.to_owned()), |(_, plain)| (path.len() - plain.len(), plain));
    let map = MAPS.iter().find(|map| plain.strip_prefix(**map).is_some_and(|rest| rest.starts_with('.')))?;
    let end = index + map.len();
    Some((path.get(..end)?, path.get(end + 1..)?))
}

/// The place in a list of receivers, and the path without it.
pub(super) fn receiver_of(path: &str) -> Option<(usize, String)> {
    let (index, rest) = path.strip_prefix(RECEIVERS)?.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, format!("{RECEIVERS}{rest}")))
}

fn of_receiver(path: &str, index: usize) -> Option<String> {
    let rest = path.strip_prefix(RECEIVERS)?.strip_prefix('.')?;
    Some(format!("{RECEIVERS}[{index}].{rest}"))
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

    /// Takes what one receiver of several sets.
    pub(super) fn take_receiver(&mut self, index: usize, own: Self) {
        for set in own.sets {
            let path = of_receiver(&set.path, index).unwrap_or(set.path);
            self.put(&path, set.value, &set.from, set.finding);
        }
    }

    /// How many receivers there are in a list of several; 0 if there is none.
    pub(super) fn receivers(&self) -> usize {
        self.sets.iter().filter_map(|set| receiver_of(&set.path)).map(|(index, _)| index + 1).max().unwrap_or(0)
    }

    /// With a list of several receivers, what is set for the only one is set for each.
    pub(super) fn spread(&mut self) {
        let receivers = self.receivers();
        if receivers == 0 {
            return;
        }
        let is_of_all = |set: &Set| of_receiver(&set.path, 0).is_some();
        let (all, rest): (Vec<Set>, _) = std::mem::take(&mut self.sets).into_iter().partition(is_of_all);
        self.sets = rest;
        for set in all {
            for path in (0..receivers).filter_map(|index| of_receiver(&set.path, index)) {
                // A tenant's comes later than that of the receiver.
                self.put(&path, set.value.clone(), &set.from, set.finding);
            }
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
            let plain = receiver_of(path).map_or_else(|| path.to_owned(), |(_, plain)| plain);
            let path = entry_of(&plain).map_or(plain.as_str(), |(map, _)| map);
            let below =
                |key: &&String| key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            order.iter().position(|key| below(&key)).unwrap_or(order.len())
        };
        // Comments first: they must not stand between the entries of a map.
        let real = |set: &Set| !matches!(set.value, YamlValue::Note(_));
        self.sets.sort_by_cached_key(|set| {
            // Those of a list stand together, one receiver after the other.
            let receiver = receiver_of(&set.path).map(|(index, _)| index);
            let section = if receiver.is_some() { place("remote_write.url") } else { place(&set.path) };
            (section, receiver, real(set), place(&set.path), set.path.clone())
        });
    }

    /// The keys as YAML below a section, if any; `line` counts the lines before it.
    pub(super) fn render(&self, around: &[&str], line: usize) -> Rendered {
        let mut out = Rendered { text: String::new(), lines: Vec::new() };
        let mut open: Vec<String> = Vec::new();
        // Whether the next key is the first of an item of a list.
        let mut item = false;
        for set in &self.sets {
            // A map of comments only would be no map.
            let path = entry_of(&set.path).filter(|_| !matches!(set.value, YamlValue::Note(_)));
            let mut sections: Vec<String> = around.iter().map(|name| show_text(name)).collect();
            let plain = path.map_or(set.path.as_str(), |(map, _)| map);
            sections.extend(parts(plain));
            if let (None, Some((map, entry))) = (path, entry_of(&set.path)) {
                sections.truncate(around.len());
                sections.extend(parts(map));
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
                if section.starts_with('[') {
                    item = true;
                } else {
                    let indent = indent(open.len(), &mut item);
                    writeln!(out.text, "{indent}{section}:").expect("a string takes everything");
                }
                open.push(section.clone());
            }
            out.lines.push((line + out.text.lines().count() + 1, set.path.clone()));
            let mut comment = false;
            let first = if matches!(set.value, YamlValue::Note(_)) { &mut comment } else { &mut item };
            key(&mut out.text, &indent(open.len(), first), &name, set);
        }
        out
    }
}

/// The sections of a path, and its key; a place in a list is one of them.
fn parts(path: &str) -> Vec<String> {
    let split = |part: &str| match part.split_once('[') {
        Some((name, index)) if part.ends_with(']') => vec![name.to_owned(), format!("[{index}")],
        _ => vec![part.to_owned()],
    };
    path.split('.').flat_map(split).collect()
}

fn indent(depth: usize, item: &mut bool) -> String {
    let indent = "  ".repeat(depth);
    if std::mem::take(item) { format!("{}- ", indent.get(2..).unwrap_or_default()) } else { indent }
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
