//! Foreign text in a form that is safe to show: names of spans and tenants, answers of receivers, messages of brokers,
//! names of files.
//!
//! The writer of such a text could otherwise end a line and forge the next one, or send control sequences to a
//! terminal. So characters that are not visible are written as escape sequences of JSON, which are harmless as text and
//! mean the same in JSON.

use std::fmt::{self, Display, Formatter, Write};

/// Shows a text on one line.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

/// Shows a text of several lines.
#[derive(Debug, Clone, Copy)]
pub struct ShownLines<'a>(pub &'a str);

/// Shows all visible characters on one line.
#[derive(Debug, Clone, Copy)]
pub struct ShownAs<T>(pub T);

/// Whether a character is visible, and does not affect its surroundings: neither a control character, nor one that is
/// invisible, breaks the line, or turns the direction of writing.
#[must_use]
pub fn shows_itself(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a text can be a tenant's name: it goes into headers, logs and series as it is.
#[must_use]
pub fn is_tenant(name: &str) -> bool {
    !name.is_empty() && name.len() <= super::labels::MAX_VALUE && !name.contains(char::is_control)
}

/// Writes a text, escaped; characters that `keeps` accepts stay.
fn escape(out: &mut impl Write, text: &str, keeps: impl Fn(char) -> bool) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(|c| !shows_itself(c) && !keeps(c)) {
        let (before, behind) = rest.split_at(at);
        out.write_str(before)?;
        let mut behind = behind.chars();
        if let Some(c) = behind.next() {
            escape_char(out, c)?;
        }
        rest = behind.as_str();
    }
    out.write_str(rest)
}

fn escape_char(out: &mut impl Write, c: char) -> fmt::Result {
    match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        _ => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}")),
    }
}

/// Escapes the text that is written through it.
struct Escaping<'a, 'f>(&'a mut Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text, |_| false)
    }
}

// === impl Display ===

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        escape(f, self.0, |_| false)
    }
}

impl Display for ShownLines<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        escape(f, self.0, |c| c == '\n')
    }
}

impl<T: Display> Display for ShownAs<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_show_itself_is_told_as_json_tells_it() {
        let evil = "a\nERROR forged\r\t\u{1b}[2J\u{9b}31m\u{7f}\u{202e}gnp\u{2028}\u{feff}\u{e0041}é";
        let shown = Shown(evil).to_string();
        assert_eq!(shown, "a\\nERROR forged\\r\\t\\u001b[2J\\u009b31m\\u007f\\u202egnp\\u2028\\ufeff\\udb40\\udc41é");
        assert_eq!(serde_json::from_str::<String>(&format!("\"{shown}\"")).ok().as_deref(), Some(evil));
        assert!(shown.chars().all(shows_itself));
        assert_eq!(ShownAs(evil).to_string(), shown);
        assert_eq!(ShownLines("a\nb\u{7}").to_string(), "a\nb\\u0007");
    }

    #[test]
    fn what_shows_itself_stays() {
        let text = "GET /日本/{id}?a=\"b\\c\" — größe 🦀";
        assert_eq!(Shown(text).to_string(), text);
    }

    #[test]
    fn a_tenant_has_a_name_that_can_be_written_on_one_line() {
        assert!(is_tenant("acme") && is_tenant("größe") && is_tenant(&"x".repeat(2_048)));
        for name in ["", "a\nb", "a\u{1b}[2J", "\u{0}", "a\u{85}", &"x".repeat(2_049)] {
            assert!(!is_tenant(name), "{name:?}");
        }
    }
}
