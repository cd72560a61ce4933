//! The output of the demo: on a terminal each picture replaces the one before, elsewhere it is written line by line.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use console::Term;
use signal_hook::consts::SIGWINCH;

use super::view::{StyledLine, paint};

/// The size of a terminal that does not report its own.
const USUAL: Size = Size { rows: 24, columns: 80 };
/// Where there is no terminal nothing has to be cut.
const ENDLESS: Size = Size { rows: usize::MAX, columns: usize::MAX };

/// What fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Standard output. Dropping it gives the cursor back.
#[derive(Debug)]
pub(super) struct Screen {
    live: bool,
    colors: bool,
    size: Size,
    resized: Arc<AtomicBool>,
    /// Lines that the next picture is drawn over.
    drawn: usize,
    hidden: bool,
    /// The terminal was resized and has moved the picture.
    moved: bool,
}

// === impl Screen ===

impl Screen {
    /// Looks at standard output.
    pub(super) fn new() -> io::Result<Self> {
        let live = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let resized = Arc::new(AtomicBool::new(live));
        if live {
            signal_hook::flag::register(SIGWINCH, Arc::clone(&resized))?;
        }
        Ok(Self { live, colors: live && !no_color, size: ENDLESS, resized, drawn: 0, hidden: false, moved: false })
    }

    /// Whether pictures are drawn over each other.
    pub(super) fn live(&self) -> bool {
        self.live
    }

    /// What fits now.
    pub(super) fn size(&mut self) -> Size {
        if self.resized.swap(false, Ordering::Relaxed) {
            self.size = ask_terminal().unwrap_or(USUAL);
            self.moved = self.drawn > 0;
        }
        self.size
    }

    /// Draws a picture over the last one; what does not fit is cut. One write, so that nothing flickers.
    pub(super) fn draw(&mut self, lines: &[StyledLine]) -> io::Result<()> {
        let size = self.size();
        let mut out = String::from("\x1b[?2026h\x1b[?25l");
        self.hidden = true;
        self.over_the_last(&mut out);
        let shown = &lines[..lines.len().min(size.rows.saturating_sub(1))];
        for line in shown {
            out.push_str(&paint(line, size.columns, self.colors));
            out.push_str("\x1b[K\n");
        }
        out.push_str("\x1b[J\x1b[?2026l");
        self.drawn = shown.len();
        put(&out)
    }

    /// Writes lines that stay, in place of the picture.
    pub(super) fn write(&mut self, lines: &[StyledLine]) -> io::Result<()> {
        let size = self.size();
        let mut out = String::new();
        if self.live {
            self.over_the_last(&mut out);
            out.push_str("\x1b[J");
        }
        for line in lines {
            out.push_str(paint(line, size.columns, self.colors).trim_end());
            out.push('\n');
        }
        self.drawn = 0;
        put(&out)?;
        self.show_cursor()
    }

    /// Gives the cursor back until the next picture.
    pub(super) fn show_cursor(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.hidden) { put("\x1b[?25h") } else { Ok(()) }
    }

    fn over_the_last(&mut self, out: &mut String) {
        out.push('\r');
        if std::mem::take(&mut self.moved) {
            out.push_str("\x1b[H\x1b[2J");
        } else if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn).expect("a String takes everything");
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no cursor.
        self.show_cursor().unwrap_or_default();
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Asks the terminal for its size.
fn ask_terminal() -> Option<Size> {
    Term::stdout().size_checked().and_then(known)
}

fn known((rows, columns): (u16, u16)) -> Option<Size> {
    (rows > 0 && columns > 0).then(|| Size { rows: rows.into(), columns: columns.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_does_not_know_its_size_has_the_usual_one() {
        assert_eq!(known((40, 120)), Some(Size { rows: 40, columns: 120 }));
        assert_eq!(known((0, 0)), None);
    }
}
