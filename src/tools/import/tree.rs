//! The input as a tree with lines.

use super::Input;
use crate::config::yaml::{self, Body, Node, Style};

/// A value and its line.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) line: usize,
    pub(super) value: TreeValue,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum TreeValue {
    /// Nothing.
    Empty,
    /// Text, and whether it stood in quotes.
    Text(String, bool),
    List(Vec<Tree>),
    Map(Vec<TreeEntry>),
}

/// One `name: value`.
#[derive(Debug, Clone)]
pub(super) struct TreeEntry {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) tree: Tree,
}

// === impl Tree ===

impl Tree {
    /// Parses a file. A name that stands twice is an error, as in the other product.
    pub(super) fn parse(input: Input<'_>) -> Result<Self, Vec<String>> {
        let (root, complaints) = yaml::parse_with_anchors(input.text);
        let mut wrong: Vec<String> =
            complaints.iter().map(|c| format!("{}:{}:{}: {}", input.name, c.at.line, c.at.column, c.message)).collect();
        let tree = root.map(|root| from(root, input, &mut wrong));
        match tree {
            Some(tree) if wrong.is_empty() => Ok(tree),
            _ => Err(wrong),
        }
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.name == name).map(|entry| &entry.tree)
    }

    /// The entries of a map; none otherwise.
    pub(super) fn entries(&self) -> &[TreeEntry] {
        if let TreeValue::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; none otherwise.
    pub(super) fn items(&self) -> &[Self] {
        if let TreeValue::List(items) = &self.value { items } else { &[] }
    }

    /// The items, if it is a list at all.
    pub(super) fn list(&self) -> Option<&[Self]> {
        if let TreeValue::List(items) = &self.value { Some(items) } else { None }
    }

    /// Text.
    pub(super) fn text(&self) -> Option<&str> {
        if let TreeValue::Text(text, _) = &self.value { Some(text) } else { None }
    }

    /// Whether nothing is there.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            TreeValue::Empty => true,
            TreeValue::Text(text, _) => text.is_empty(),
            TreeValue::List(items) => items.is_empty(),
            TreeValue::Map(entries) => entries.is_empty(),
        }
    }

    fn is_map_or_maps(&self) -> bool {
        match &self.value {
            TreeValue::Map(_) => true,
            TreeValue::List(items) => items.iter().all(|item| matches!(item.value, TreeValue::Map(_))),
            TreeValue::Empty | TreeValue::Text(..) => false,
        }
    }

    /// The first text below that holds a variable such as `${env:NAME}`.
    pub(super) fn variable(&self) -> Option<&str> {
        match &self.value {
            TreeValue::Empty => None,
            TreeValue::Text(text, _) => Some(text.as_str()).filter(|text| text.contains("${")),
            TreeValue::List(items) => items.iter().find_map(Self::variable),
            TreeValue::Map(entries) => entries.iter().find_map(|entry| entry.tree.variable()),
        }
    }
}

fn from(node: Node, input: Input<'_>, wrong: &mut Vec<String>) -> Tree {
    let line = node.start.line;
    let value = match node.body {
        Body::Null | Body::Refused => TreeValue::Empty,
        Body::Scalar(text, style) => TreeValue::Text(text, style == Style::Quoted),
        Body::List(items) => TreeValue::List(items.into_iter().map(|item| from(item, input, wrong)).collect()),
        Body::Map(entries) => {
            let mut map: Vec<TreeEntry> = Vec::new();
            for entry in entries {
                let line = entry.start.line;
                if let Some(first) = map.iter().find(|other| other.name == entry.name) {
                    let first = first.line;
                    wrong.push(format!("{}:{line}: {} appears twice, first on line {first}", input.name, entry.name));
                }
                map.push(TreeEntry { name: entry.name, line, tree: from(entry.value, input, wrong) });
            }
            merge(&mut map);
            TreeValue::Map(map)
        }
    };
    Tree { line, value }
}

/// `<<` stands for the entries of maps elsewhere. Explicit entries take precedence, and of several merged ones the
/// first.
fn merge(map: &mut Vec<TreeEntry>) {
    while let Some(at) = map.iter().position(|entry| entry.name == "<<" && entry.tree.is_map_or_maps()) {
        let merged = map.remove(at).tree;
        let sources = if let TreeValue::List(items) = merged.value { items } else { vec![merged] };
        for entry in sources.iter().flat_map(Tree::entries) {
            if map.iter().all(|own| own.name != entry.name) {
                map.push(entry.clone());
            }
        }
    }
}
