//! Readable standard output and standard error: whatever a command writes, no foreign text can break its lines or
//! control the terminal. A command that draws, or writes for programs, uses the streams directly.

use std::fmt::Display;
use std::io::{self, StderrLock, StdoutLock, Write};

use crate::core::model::text::ShownLines;

/// Escapes what is written to it, apart from ends of lines.
#[derive(Debug)]
pub(super) struct Console<W>(W);

/// Standard output.
pub(super) fn out() -> Console<StdoutLock<'static>> {
    Console(io::stdout().lock())
}

/// Standard error.
pub(super) fn err() -> Console<StderrLock<'static>> {
    Console(io::stderr().lock())
}

/// Writes a line to standard error. A closed pipe there does not stop a command.
pub(super) fn say(what: &dyn Display) {
    drop(writeln!(err(), "{what}"));
}

// === impl Console ===

impl<W: Write> Write for Console<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        write!(self.0, "{}", ShownLines(&String::from_utf8_lossy(bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_a_terminal_are_shown_and_not_given() {
        let mut console = Console(Vec::new());
        let tenant = "a\u{1b}]0;owned\u{7}\rb";
        writeln!(console, "tenant {tenant}: größe").expect("memory takes everything");
        assert_eq!(console.0, "tenant a\\u001b]0;owned\\u0007\\rb: größe\n".as_bytes());
    }
}
