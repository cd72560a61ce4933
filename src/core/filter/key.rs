//! The keys of conditions, as TraceQL writes them.

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConditionKey {
    /// The kind of the span.
    Kind,
    /// The name of the span.
    Name,
    /// The status of the span.
    Status,
    /// An attribute of the span.
    Span(Box<[u8]>),
    /// An attribute of the resource.
    Resource(Box<[u8]>),
}

const REMEDY: &str = "write `span.NAME`, `resource.NAME`, `kind`, `name` or `status`";

impl ConditionKey {
    /// Reads a key; the error holds the problem and the remedy.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        match text {
            "" => return Err(format!("the key is empty; {REMEDY}")),
            "kind" | "span:kind" => return Ok(Self::Kind),
            "name" | "span:name" => return Ok(Self::Name),
            "status" | "span:status" => return Ok(Self::Status),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("span.") {
            return Ok(Self::Span(name(rest)?));
        }
        if let Some(rest) = text.strip_prefix("resource.") {
            return Ok(Self::Resource(name(rest)?));
        }
        match text.split_once(['.', ':']) {
            Some(("", _)) => Err(format!("the key has no scope; {REMEDY}")),
            Some((scope, _)) => Err(format!("the scope `{scope}` is not supported in filters; {REMEDY}")),
            None => Err(format!("`{text}` is not supported in filters; {REMEDY}")),
        }
    }
}

/// The name of an attribute; parts of it may stand in double quotes, with `\"` and `\\` in them.
fn name(text: &str) -> Result<Box<[u8]>, String> {
    let mut name = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted(&mut chars, &mut name)?,
            '{' | '}' | '(' | ')' | '=' | '~' | '!' | '<' | '>' | '&' | '|' | '^' | ',' => return Err(unquoted(c)),
            c if c.is_whitespace() => return Err(unquoted(c)),
            c => name.push(c),
        }
    }
    if name.is_empty() {
        return Err(format!("the key names no attribute; {REMEDY}"));
    }
    Ok(name.into_bytes().into())
}

fn quoted(chars: &mut std::str::Chars<'_>, name: &mut String) -> Result<(), String> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next() {
                Some(c @ ('"' | '\\')) => name.push(c),
                _ => return Err("a backslash in quotes must stand before `\"` or `\\`; double it".to_owned()),
            },
            Some(c) => name.push(c),
            None => return Err("a quote is not closed; add `\"`".to_owned()),
        }
    }
}

fn unquoted(c: char) -> String {
    format!("{c:?} must be quoted; put the name of the attribute in double quotes")
}
