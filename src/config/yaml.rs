//! YAML text to a tree with positions. The only file that knows the YAML crate.
//!
//! *In:* the text. *Out:* a [`Node`], and what is not acceptable whatever the keys mean. Scalars stay text (and
//! remember their quotes): the table of keys says how each is read, so `no`, `0123` and `1e3` never change their meaning
//! behind the reader's back. *Never:* anchors, aliases and tags; a settings file is easier to
//! trust without them.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

/// Deeper nesting than any valid file has; keeps hostile text from exhausting the stack.
const MAX_DEPTH: usize = 16;

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
    Map(Vec<Entry>),
    /// Something that was complained about already.
    Refused,
}

/// How a scalar was written: where the type is the reader's to tell, `11` is a number and `"11"` is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
}

/// One `name: value` of a map, in the order of the file; names may repeat.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) start: Pos,
    pub(crate) end: Pos,
    pub(crate) value: Node,
}

/// Something that is wrong with the text itself.
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) at: Pos,
    pub(crate) message: String,
}

/// A map or list that is still open.
enum Frame {
    List { start: Pos, items: Vec<Node> },
    Map { start: Pos, entries: Vec<Entry>, key: Option<Key> },
}

/// A key that waits for its value; without a name it was refused.
struct Key {
    name: Option<String>,
    start: Pos,
    end: Pos,
}

/// Parses the text. There is no tree when the text is not YAML at all.
pub(crate) fn parse(text: &str) -> (Option<Node>, Vec<Complaint>) {
    let mut builder = Builder { open: Vec::new(), root: None, documents: 0, complaints: Vec::new() };
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
            Event::Alias(_) => {
                self.refuse(start, "an alias (`*name`); write the value out");
                self.close(Node { start, end, body: Body::Refused });
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
                self.close(Node { start, end, body });
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain(start, anchor, tag.is_some());
                self.descend(Frame::List { start, items: Vec::new() }, start)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.plain(start, anchor, tag.is_some());
                self.descend(Frame::Map { start, entries: Vec::new(), key: None }, start)?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Frame::List { start, items }) => self.close(Node { start, end, body: Body::List(items) }),
                Some(Frame::Map { start, entries, .. }) => self.close(Node { start, end, body: Body::Map(entries) }),
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn refuse(&mut self, at: Pos, message: &str) {
        self.complaints.push(Complaint { at, message: message.to_owned() });
    }

    /// Complains about an anchor or a tag; true if it did.
    fn plain(&mut self, at: Pos, anchor: usize, tag: bool) -> bool {
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
            return Err(Complaint { at, message: "nested too deeply; no key lies this deep".to_owned() });
        }
        Ok(())
    }

    /// Hands a finished node to what is open around it.
    fn close(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => match key.take() {
                Some(Key { name: Some(name), start, end }) => entries.push(Entry { name, start, end, value: node }),
                Some(Key { name: None, .. }) => {}
                None => {
                    let (start, end) = (node.start, node.end);
                    let name = if let Body::Scalar(name, _) = node.body { Some(name) } else { None };
                    let named = name.is_some();
                    *key = Some(Key { name, start, end });
                    if !named {
                        self.refuse(start, "a key must be plain text, as in `name: value`");
                    }
                }
            },
        }
    }
}
