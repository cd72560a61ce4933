//! One value of the tree, or of the environment, into its slot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ReadFile;
use super::draft::DraftField;
use super::problem::quoted;
use super::settings::Secret;
use super::value::{boolean, bound, duration, fraction, show_duration, show_size, size, whole};
use super::yaml::{self, Body, MapEntry, Node, Pos, Style};

/// The result of reading one value.
#[derive(Default)]
pub(super) struct Reading {
    /// The values that were read: the value itself has no suffix, an item has `[0]`, an entry of a map `.name`.
    pub(super) found: Vec<Found>,
    /// The problems; the slot keeps its value.
    pub(super) wrong: Vec<Wrong>,
}

/// A value that was read.
pub(super) struct Found {
    pub(super) suffix: String,
    pub(super) start: Pos,
}

/// A value that was not read; without a message, the problem was reported before.
pub(super) struct Wrong {
    pub(super) suffix: String,
    pub(super) at: Pos,
    pub(super) message: Option<String>,
}

/// Reads `node` into `slot`.
pub(super) fn read(slot: DraftField<'_>, node: &Node, read_file: &ReadFile<'_>) -> Reading {
    let mut reading = Reading::default();
    let put = match slot {
        DraftField::List(items) => list(node, "", &mut reading).map(|texts| *items = texts),
        DraftField::Buckets(bounds) => buckets(node, "", &mut reading).map(|read| *bounds = read),
        DraftField::Items(items) => items.read(node, &mut reading).then_some(()),
        DraftField::Labels(labels) => entries(node, &mut reading, line).map(|read| labels.extend(read)),
        DraftField::Secrets(secrets) => {
            entries(node, &mut reading, |value| secret_of(value, read_file)).map(|read| secrets.extend(read))
        }
        slot => {
            let put = scalar(slot, node);
            match put {
                Ok(()) => Some(()),
                Err(message) => {
                    reading.wrong(String::new(), node.start, message);
                    None
                }
            }
        }
    };
    if put.is_some() {
        reading.found(String::new(), node.start);
    }
    reading
}

/// Text from the environment or a flag as a node. Lists may be written `a,b`, maps as `{a: b}`.
pub(super) fn node_of(slot: &DraftField<'_>, text: &str) -> Result<Node, String> {
    match slot {
        DraftField::List(_) | DraftField::Buckets(_) if !text.trim_start().starts_with('[') => Ok(names(text)),
        DraftField::Items(items) if items.plain() && !text.trim_start().starts_with(['[', '{']) => Ok(names(text)),
        DraftField::Items(items) => match yaml::parse(text) {
            (Some(node), complaints) if complaints.is_empty() && matches!(node.body, Body::List(_)) => Ok(node),
            _ => Err(format!("must be {}", items.form())),
        },
        DraftField::List(_) | DraftField::Buckets(_) | DraftField::Labels(_) | DraftField::Secrets(_) => {
            match yaml::parse(text) {
                (Some(node), complaints)
                    if complaints.is_empty() && matches!(node.body, Body::List(_) | Body::Map(_)) =>
                {
                    Ok(node)
                }
                _ if matches!(slot, DraftField::List(_) | DraftField::Buckets(_)) => {
                    Err("must be a list such as `a,b`".to_owned())
                }
                _ => Err("must be a map such as `{name: value}`".to_owned()),
            }
        }
        _ => Ok(node(Body::Scalar(text.to_owned(), Style::Quoted))),
    }
}

/// A value that stands in no file.
fn node(body: Body) -> Node {
    let at = Pos { line: 1, column: 1 };
    Node { start: at, end: at, body }
}

/// `a,b` as a list.
fn names(text: &str) -> Node {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    node(Body::List(items.map(|item| node(Body::Scalar(item.to_owned(), Style::Plain))).collect()))
}

/// The content of a secret's file, without the line break at its end.
pub(super) fn secret_file(path: &Path, read_file: &ReadFile<'_>) -> Result<Secret, String> {
    let text = readable(path, read_file)?;
    let secret = Secret::in_text(&text);
    if secret.is_empty() {
        return Err(format!("file {} is empty; put the secret into it", quoted(&path.to_string_lossy())));
    }
    Ok(Secret::of_file(secret, path))
}

/// The content of a file that the settings name.
pub(super) fn readable(path: &Path, read_file: &ReadFile<'_>) -> Result<String, String> {
    read_file(path).map_err(|error| {
        format!("cannot read {}: {error}; check the path and its permissions", quoted(&path.to_string_lossy()))
    })
}

/// The problem; `None` if it was reported before.
pub(super) type Message = Option<String>;

fn scalar(slot: DraftField<'_>, node: &Node) -> Result<(), Message> {
    match slot {
        DraftField::Text(text) => *text = line(node)?,
        DraftField::Path(path) => *path = Some(line(node)?).filter(|text| !text.is_empty()).map(PathBuf::from),
        DraftField::Secret(secret) => *secret = Secret::new(text_of(node)?),
        DraftField::Bool(value) => *value = boolean(text_of(node)?)?,
        DraftField::Choice(choice) => {
            let word = text_of(node)?;
            if !choice.choose(word) {
                let words: Vec<String> = choice.words().iter().map(|word| format!("`{word}`")).collect();
                let remedy = if words.len() == 1 { "write" } else { "write one of" };
                return Err(Some(format!("{} is unknown; {remedy} {}", quoted(word), words.join(", "))));
            }
        }
        DraftField::Whole(number, range) => {
            let value = whole(text_of(node)?)?;
            if !range.contains(&value) || !number.set(value) {
                return Err(Some(format!("{value} is out of range; write {} to {}", range.start(), range.end())));
            }
        }
        DraftField::Fraction(number, above, most) => *number = fraction(text_of(node)?, above, most)?,
        DraftField::Size(bytes, range) => {
            let value = size(text_of(node)?)?;
            let Some(fits) = usize::try_from(value).ok().filter(|_| range.contains(&value)) else {
                let (least, most) = (show_size(*range.start()), show_size(*range.end()));
                return Err(Some(format!("{} is out of range; write {least} to {most}", show_size(value))));
            };
            *bytes = fits;
        }
        DraftField::Duration(ms, range) => {
            let value = duration(text_of(node)?)?;
            if !range.contains(&value) {
                let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
                return Err(Some(format!("{} is out of range; write {least} to {most}", show_duration(value))));
            }
            *ms = value;
        }
        // Read by `read` itself.
        DraftField::Buckets(_)
        | DraftField::List(_)
        | DraftField::Items(_)
        | DraftField::Labels(_)
        | DraftField::Secrets(_) => {}
    }
    Ok(())
}

pub(super) fn text_of(node: &Node) -> Result<&str, Message> {
    match &node.body {
        Body::Scalar(text, _) => Ok(text),
        Body::Null => Err(Some("has no value; write one, or remove the line for the default".to_owned())),
        Body::List(_) => Err(Some("must be one value, not a list".to_owned())),
        Body::Map(_) => Err(Some("must be one value, not a map".to_owned())),
        Body::Refused => Err(None),
    }
}

/// Text on one line.
pub(super) fn line(node: &Node) -> Result<String, Message> {
    let text = text_of(node)?;
    if text.contains(char::is_control) {
        return Err(Some("must be one line without control characters".to_owned()));
    }
    Ok(text.to_owned())
}

/// Text, or `{file: path}`.
fn secret_of(node: &Node, read_file: &ReadFile<'_>) -> Result<Secret, Message> {
    let Body::Map(entries) = &node.body else {
        return text_of(node).map(Secret::new);
    };
    match entries.as_slice() {
        [MapEntry { name, value, .. }] if name == "file" => {
            secret_file(Path::new(&line(value)?), read_file).map_err(Some)
        }
        _ => Err(Some(
            "must be text or `{file: path}`; a name with dots is one key, as in `sasl.username: me`".to_owned(),
        )),
    }
}

/// The items of the list at `at` of a value, which looks like `form`.
pub(super) fn items<'n>(node: &'n Node, at: &str, form: &str, reading: &mut Reading) -> Option<&'n [Node]> {
    let message = match &node.body {
        Body::List(items) => return Some(items),
        Body::Refused => None,
        Body::Null => Some(format!("has no value; write {form}, or `[]` for none")),
        Body::Scalar(..) | Body::Map(_) => Some(format!("must be {form}")),
    };
    reading.wrong(at.to_owned(), node.start, message);
    None
}

/// A list of texts at `at` of a value.
pub(super) fn list(node: &Node, at: &str, reading: &mut Reading) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    let mut seen = BTreeSet::new();
    let before = reading.wrong.len();
    for (i, item) in items(node, at, "a list such as `[a, b]`", reading)?.iter().enumerate() {
        match line(item) {
            Ok(text) if text.is_empty() => {
                reading.wrong(format!("{at}[{i}]"), item.start, Some("is empty; remove it".to_owned()));
            }
            Ok(text) if !seen.insert(text.clone()) => {
                reading.wrong(
                    format!("{at}[{i}]"),
                    item.start,
                    Some(format!("{} appears twice; keep one", quoted(&text))),
                );
            }
            Ok(text) => {
                reading.found(format!("{at}[{i}]"), item.start);
                texts.push(text);
            }
            Err(message) => reading.wrong(format!("{at}[{i}]"), item.start, message),
        }
    }
    (reading.wrong.len() == before).then_some(texts)
}

/// Histogram bounds at `at` of a value.
pub(super) fn buckets(node: &Node, at: &str, reading: &mut Reading) -> Option<Vec<u64>> {
    let mut bounds: Vec<u64> = Vec::new();
    let before = reading.wrong.len();
    for (i, item) in items(node, at, "a list such as `[0.1, 0.5]`", reading)?.iter().enumerate() {
        match text_of(item).and_then(|text| bound(text).map_err(Some)) {
            Ok(ns) if bounds.last().is_some_and(|last| *last >= ns) => {
                let message = "is not above the previous bound; write bounds in ascending order".to_owned();
                reading.wrong(format!("{at}[{i}]"), item.start, Some(message));
            }
            Ok(ns) => bounds.push(ns),
            Err(message) => reading.wrong(format!("{at}[{i}]"), item.start, message),
        }
    }
    if bounds.is_empty() && reading.wrong.len() == before {
        reading.wrong(at.to_owned(), node.start, Some("is empty; write at least one bound in seconds".to_owned()));
    }
    (reading.wrong.len() == before).then_some(bounds)
}

/// The valid entries of a map; invalid ones are recorded as problems.
fn entries<T>(
    node: &Node,
    reading: &mut Reading,
    value: impl Fn(&Node) -> Result<T, Message>,
) -> Option<Vec<(String, T)>> {
    let message = match &node.body {
        Body::Map(map) => {
            let mut read = Vec::new();
            let mut seen = BTreeSet::new();
            for entry in map {
                let suffix = format!(".{}", entry.name);
                if !seen.insert(entry.name.as_str()) {
                    reading.wrong(suffix, entry.start, Some("appears twice; keep one".to_owned()));
                    continue;
                }
                match value(&entry.value) {
                    Ok(value) => {
                        reading.found(suffix, entry.value.start);
                        read.push((entry.name.clone(), value));
                    }
                    Err(message) => reading.wrong(suffix, entry.value.start, message),
                }
            }
            return Some(read);
        }
        Body::Refused => None,
        Body::Null => Some("has no value; write `name: value` lines under it, or `{}` for none".to_owned()),
        Body::Scalar(..) | Body::List(_) => Some("must be a map of `name: value` lines".to_owned()),
    };
    reading.wrong(String::new(), node.start, message);
    None
}

// === impl Reading ===

impl Reading {
    pub(super) fn found(&mut self, suffix: String, start: Pos) {
        self.found.push(Found { suffix, start });
    }

    pub(super) fn wrong(&mut self, suffix: String, at: Pos, message: Message) {
        self.wrong.push(Wrong { suffix, at, message });
    }
}
