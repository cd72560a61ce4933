//! Splits a file into its messages.

use std::io::{self, BufRead};

use crate::core::formats::{MAX_UNWRAPPED, is_gzip, is_zstd};

/// The most bytes of one message, before and after decompression. The Collector's own limits are far below.
pub const MAX_MESSAGE: usize = MAX_UNWRAPPED;

/// How messages follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One per line.
    Lines,
    /// One after the other, each over several lines, as in pretty-printed JSON; or the elements of an array.
    Objects,
    /// Each with its length before it.
    Sized,
}

/// Where in a file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FilePosition {
    /// A line, from 1.
    Line(u64),
    /// A byte of the decompressed file, from 0.
    Byte(u64),
}

/// A message that cannot be taken out of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// A line above [`MAX_MESSAGE`]; the next one is fine again.
    #[error("the line is longer than {MAX_MESSAGE} bytes")]
    LongLine,
    /// An object above [`MAX_MESSAGE`], or one that never ends.
    #[error(
        "the object is longer than {MAX_MESSAGE} bytes, and the rest of the file cannot be read; check for a \
             missing brace"
    )]
    LongObject,
    /// The file ends inside an array of messages.
    #[error("the file ends inside an array: the rest is missing")]
    OpenArray,
    /// A length above [`MAX_MESSAGE`]. Where the next message begins is unknown.
    #[error(
        "a message of {0} bytes would be longer than {MAX_MESSAGE}, and the rest of the file cannot be read; \
             check that the file is OTLP"
    )]
    Length(u32),
    /// The file ends inside a message.
    #[error("the file ends inside a message: only {left} of {of} bytes are present")]
    CutOff {
        /// The bytes that are there.
        left: usize,
        /// The bytes that should be.
        of: usize,
    },
}

/// Takes the messages out of a file, one after the other.
#[derive(Debug)]
pub struct Frames<R> {
    input: R,
    framing: Framing,
    /// Bytes before the next message.
    at: u64,
    line: u64,
    message: Vec<u8>,
    /// Arrays around the present message.
    arrays: u32,
    ended: bool,
}

/// Whether bytes begin a text in UTF-16.
#[must_use]
pub fn is_utf16(head: &[u8]) -> bool {
    head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff])
}

/// How the messages of a file follow each other, by its first bytes: 8 are enough, unless it begins with blanks. `None`
/// when they cannot be determined.
#[must_use]
pub fn framing(head: &[u8]) -> Option<Framing> {
    let text = head.strip_prefix(&BOM).unwrap_or(head).trim_ascii_start();
    if let Some(inside) = text.strip_prefix(b"{") {
        let broken = inside.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) == Some(&b'\n');
        return Some(if broken { Framing::Objects } else { Framing::Lines });
    }
    if text.starts_with(b"[") {
        return Some(Framing::Objects);
    }
    let (length, message) = head.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    // A request is a list of resources, which are field 1, or JSON.
    let begins = message.is_empty() || message[0] == 0x0a || message[0] == b'{' || is_zstd(message) || is_gzip(message);
    (length > 0 && length <= MAX_MESSAGE && begins).then_some(Framing::Sized)
}

/// The mark that some editors put before UTF-8.
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

// === impl FilePosition ===

impl std::fmt::Display for FilePosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Byte(byte) => write!(f, "byte {byte}"),
        }
    }
}

// === impl Frames ===

impl<R: BufRead> Frames<R> {
    /// The messages of a file, from its first byte on.
    pub fn new(input: R, framing: Framing) -> Self {
        Self { input, framing, at: 0, line: 0, message: Vec::new(), arrays: 0, ended: false }
    }

    /// The next message and its place; lines are without their end, and empty ones are skipped. `None` at the end.
    ///
    /// # Errors
    /// Those of the input, after which nothing more can be read.
    pub fn read(&mut self) -> io::Result<Option<(FilePosition, Result<&[u8], Flaw>)>> {
        let read = match self.framing {
            _ if self.ended => return Ok(None),
            Framing::Lines => self.line(),
            Framing::Objects => self.object(),
            Framing::Sized => self.sized(),
        };
        self.ended |= !matches!(read, Ok(Some(_)));
        Ok(read?.map(|(place, flaw)| (place, flaw.map_or(Ok(self.message.as_slice()), Err))))
    }

    fn line(&mut self) -> io::Result<Option<(FilePosition, Option<Flaw>)>> {
        loop {
            let (fits, ended) = self.fill_line()?;
            self.line += 1;
            if self.line == 1 && self.message.starts_with(&BOM) {
                self.message.drain(..BOM.len());
            }
            if !fits {
                return Ok(Some((FilePosition::Line(self.line), Some(Flaw::LongLine))));
            }
            if !self.message.trim_ascii().is_empty() {
                return Ok(Some((FilePosition::Line(self.line), None)));
            }
            if ended {
                return Ok(None);
            }
        }
    }

    /// Reads to the end of the line. Returns whether it is short enough to be kept, and whether the file ends here.
    fn fill_line(&mut self) -> io::Result<(bool, bool)> {
        self.message.clear();
        let mut fits = true;
        loop {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return Ok((fits, true));
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            fits &= self.message.len() + piece.len() <= MAX_MESSAGE;
            if fits {
                self.message.extend_from_slice(piece);
            } else {
                self.message = Vec::new();
            }
            let used = piece.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                return Ok((fits, false));
            }
        }
    }

    /// Reads up to the brace that closes the first one. What surrounds the elements of an array belongs to none.
    fn object(&mut self) -> io::Result<Option<(FilePosition, Option<Flaw>)>> {
        self.message.clear();
        let (mut begins, mut depth, mut text, mut escaped) = (self.line + 1, 0_u32, false, false);
        loop {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                self.strip();
                self.ended = true;
                let flaw = (self.message.is_empty() && self.arrays > 0).then_some(Flaw::OpenArray);
                let something = !self.message.is_empty() || flaw.is_some();
                return Ok(something.then_some((FilePosition::Line(begins.min(self.line + 1)), flaw)));
            }
            let end = buffer.iter().position(|byte| {
                self.line += u64::from(*byte == b'\n');
                let inside = depth > 0;
                match byte {
                    _ if std::mem::take(&mut escaped) => {}
                    b'\\' => escaped = text,
                    b'"' => text = !text,
                    b'[' if !text && !inside => self.arrays += 1,
                    b']' if !text && !inside => self.arrays = self.arrays.saturating_sub(1),
                    b'{' | b'[' if !text => depth += 1,
                    b'}' | b']' if !text => depth = depth.saturating_sub(1),
                    b'\n' if !inside => begins = self.line + 1,
                    _ => {}
                }
                depth == 0 && matches!(byte, b'}' | b']') && !text && (inside || *byte == b'}')
            });
            let used = end.map_or(buffer.len(), |end| end + 1);
            if self.message.len() + used > MAX_MESSAGE {
                self.ended = true;
                return Ok(Some((FilePosition::Line(begins), Some(Flaw::LongObject))));
            }
            self.message.extend_from_slice(&buffer[..used]);
            self.input.consume(used);
            if end.is_some() {
                self.strip();
                return Ok(Some((FilePosition::Line(begins), None)));
            }
        }
    }

    /// Removes the bytes before an object.
    fn strip(&mut self) {
        let mark = if self.message.starts_with(&BOM) { BOM.len() } else { 0 };
        let between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'[' | b',' | b']');
        let before = self.message.iter().skip(mark).take_while(|byte| between(byte)).count();
        self.message.drain(..mark + before);
    }

    fn sized(&mut self) -> io::Result<Option<(FilePosition, Option<Flaw>)>> {
        let place = FilePosition::Byte(self.at);
        self.take(4)?;
        let Ok(length) = <[u8; 4]>::try_from(self.message.as_slice()) else {
            let left = self.message.len();
            self.ended = true;
            return Ok((left > 0).then_some((place, Some(Flaw::CutOff { left, of: 4 }))));
        };
        let length = u32::from_be_bytes(length);
        if length as usize > MAX_MESSAGE {
            self.ended = true;
            return Ok(Some((place, Some(Flaw::Length(length)))));
        }
        self.take(length as usize)?;
        let (left, of) = (self.message.len(), length as usize);
        self.ended = left < of;
        Ok(Some((place, self.ended.then_some(Flaw::CutOff { left, of }))))
    }

    /// Reads so many bytes, or fewer at the end. Memory grows with the bytes present, not with the announced length.
    fn take(&mut self, bytes: usize) -> io::Result<()> {
        self.message.clear();
        while self.message.len() < bytes {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                break;
            }
            let piece = &buffer[..buffer.len().min(bytes - self.message.len())];
            self.message.extend_from_slice(piece);
            let used = piece.len();
            self.input.consume(used);
        }
        self.at += self.message.len() as u64;
        Ok(())
    }
}

/// The next bytes of the input; nothing at its end.
fn fill<R: BufRead>(input: &mut R) -> io::Result<&[u8]> {
    while let Err(error) = input.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    input.fill_buf()
}
