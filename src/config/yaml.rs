//! YAML text to a tree with positions. The only file that knows the YAML crate.
//!
//! *In:* the text. *Out:* a [`Node`], and the problems that do not depend on the keys. Scalars stay text (and
//! remember their quotes): the table of keys determines how each is read, so `no`, `0123` and `1e3` never change their
//! meaning silently. *Never:* anchors, aliases and tags in a settings file, which is easier to review
//! without them. In foreign files, aliases are resolved.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

/// Deeper nesting than any valid file has; keeps hostile text from exhausting the stack.
const MAX_DEPTH: usize = 16;
/// Aliases never stand for more nodes than this in one text: a few lines could name millions.
const MAX_COPIED: usize = 100_000;

/// A place in the text; both numbers count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pos {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and the stretch `start..end` that it covers.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) start: Pos,
    pub(crate) end: Pos,
    pub(crate) body: Body,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar, and how it was written.
    Scalar(String, Style),
    List(Vec<Node>),
    Map(Vec<MapEntry>),
    /// A value whose problem was reported already.
    Refused,
}

/// How a scalar was written: where the reader decides on the type, `11` is a number and `"11"` is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
}

/// One `name: value` of a map, in the order of the file; names may repeat.
#[derive(Debug, Clone)]
pub(crate) struct MapEntry {
    pub(crate) name: String,
    pub(crate) start: Pos,
    pub(crate) end: Pos,
    pub(crate) value: Node,
}

/// A problem of the text itself.
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) at: Pos,
    pub(crate) message: String,
}

/// A map or list that is still open, and its anchor.
enum Frame {
    List { start: Pos, items: Vec<Node>, anchor: usize },
    Map { start: Pos, entries: Vec<MapEntry>, key: Option<OpenKey>, anchor: usize },
}

/// A key that waits for its value; without a name it was refused.
struct OpenKey {
    name: Option<String>,
    start: Pos,
    end: Pos,
}

/// Parses the text. There is no tree when the text is not YAML at all.
pub(crate) fn parse(text: &str) -> (Option<Node>, Vec<Complaint>) {
    build(text, None)
}

/// The same for a text that may have anchors.
pub(crate) fn parse_with_anchors(text: &str) -> (Option<Node>, Vec<Complaint>) {
    build(text, Some(Anchors::default()))
}

fn build(text: &str, anchors: Option<Anchors>) -> (Option<Node>, Vec<Complaint>) {
    let mut builder = Builder { open: Vec::new(), root: None, documents: 0, complaints: Vec::new(), anchors };
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(Complaint {
                at: pos(*error.marker()),
                message: format!("not valid YAML: {}; check indentation and quotes here", error.info()),
            }),
        };
        if let Err(complaint) = step {
            builder.complaints.push(complaint);
            return (None, builder.complaints);
        }
    }
    let nothing = || Node { start: Pos { line: 1, column: 1 }, end: Pos { line: 1, column: 1 }, body: Body::Null };
    (Some(builder.root.unwrap_or_else(nothing)), builder.complaints)
}

fn pos(marker: Marker) -> Pos {
    Pos { line: marker.line(), column: marker.col() + 1 }
}

/// Builds the tree from parser events without recursion.
struct Builder {
    open: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
    complaints: Vec<Complaint>,
    /// `None`: anchors are not allowed.
    anchors: Option<Anchors>,
}

/// What anchors name.
#[derive(Debug, Default)]
struct Anchors {
    nodes: BTreeMap<usize, Node>,
    copied: usize,
}

// === impl Node ===

impl Node {
    fn size(&self) -> usize {
        match &self.body {
            Body::List(items) => items.iter().map(Self::size).sum::<usize>() + 1,
            Body::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum::<usize>() + 1,
            Body::Null | Body::Scalar(..) | Body::Refused => 1,
        }
    }
}

// === impl Builder ===

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Complaint> {
        let (start, end) = (pos(span.start), pos(span.end));
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second document; keep one, without a line `---` after it".to_owned();
                    return Err(Complaint { at: start, message });
                }
            }
            Event::Alias(id) => {
                let node = self.named(id, start)?;
                self.close(node.unwrap_or(Node { start, end, body: Body::Refused }), 0);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let refused = self.plain(start, anchor, tag.is_some());
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                let null = style == Style::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let body = match (refused, null) {
                    (true, _) => Body::Refused,
                    (false, true) => Body::Null,
                    (false, false) => Body::Scalar(text.into_owned(), style),
                };
                self.close(Node { start, end, body }, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain(start, anchor, tag.is_some());
                self.descend(Frame::List { start, items: Vec::new(), anchor }, start)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.plain(start, anchor, tag.is_some());
                self.descend(Frame::Map { start, entries: Vec::new(), key: None, anchor }, start)?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Frame::List { start, items, anchor }) => {
                    self.close(Node { start, end, body: Body::List(items) }, anchor);
                }
                Some(Frame::Map { start, entries, anchor, .. }) => {
                    self.close(Node { start, end, body: Body::Map(entries) }, anchor);
                }
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn refuse(&mut self, at: Pos, message: &str) {
        self.complaints.push(Complaint { at, message: message.to_owned() });
    }

    /// The node that an alias refers to.
    fn named(&mut self, id: usize, at: Pos) -> Result<Option<Node>, Complaint> {
        let Some(anchors) = &mut self.anchors else {
            self.refuse(at, "an alias (`*name`); write the value out");
            return Ok(None);
        };
        let node = anchors.nodes.get(&id).cloned();
        anchors.copied += node.as_ref().map_or(0, Node::size);
        if anchors.copied > MAX_COPIED {
            return Err(Complaint { at, message: "aliases expand to too much; write the values out".to_owned() });
        }
        if node.is_none() {
            self.refuse(at, "an alias inside its own anchor; write the value out");
        }
        Ok(node)
    }

    /// Reports an anchor or a tag; returns whether there was one.
    fn plain(&mut self, at: Pos, anchor: usize, tag: bool) -> bool {
        let anchor = if self.anchors.is_some() { 0 } else { anchor };
        if anchor != 0 {
            self.refuse(at, "an anchor (`&name`); anchors are not supported, remove it");
        }
        if tag {
            self.refuse(at, "a tag (`!name`); tags are not supported, remove it or quote the value");
        }
        anchor != 0 || tag
    }

    fn descend(&mut self, frame: Frame, at: Pos) -> Result<(), Complaint> {
        self.open.push(frame);
        if self.open.len() > MAX_DEPTH {
            return Err(Complaint { at, message: "nested too deeply; no key is this deep".to_owned() });
        }
        Ok(())
    }

    /// Adds a finished node to the open node around it.
    fn close(&mut self, node: Node, anchor: usize) {
        if let Some(anchors) = self.anchors.as_mut().filter(|_| anchor != 0) {
            anchors.nodes.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => match key.take() {
                Some(OpenKey { name: Some(name), start, end }) => {
                    entries.push(MapEntry { name, start, end, value: node });
                }
                Some(OpenKey { name: None, .. }) => {}
                None => {
                    let (start, end) = (node.start, node.end);
                    let name = if let Body::Scalar(name, _) = node.body { Some(name) } else { None };
                    let named = name.is_some();
                    *key = Some(OpenKey { name, start, end });
                    if !named {
                        self.refuse(start, "a key must be plain text, as in `name: value`");
                    }
                }
            },
        }
    }
}
