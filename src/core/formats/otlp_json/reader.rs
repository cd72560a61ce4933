//! JSON, one value at a time. Numbers are read to the bit, texts as the bytes that they are.

use std::borrow::Cow;
use std::str::FromStr;

/// How deep values may lie in one another: deeper than any request that protobuf's own limit lets through.
const MAX_DEPTH: u32 = 160;

/// What is wrong with a text, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{why}, byte {at} of the message")]
pub struct JsonError {
    /// The byte at which it shows, from 0.
    pub at: usize,
    /// What it is.
    pub why: &'static str,
}

type Read<T> = Result<T, JsonError>;

/// Reads a text from its beginning to its end.
pub(in crate::core::formats) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: u32,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(in crate::core::formats) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn error<T>(&self, why: &'static str) -> Read<T> {
        Err(JsonError { at: self.at, why })
    }

    /// The first byte of the next token.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn next_is(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Read<()> {
        match self.peek() {
            Some(found) if found == byte => self.at += 1,
            Some(_) => return self.error(why),
            None => return self.error("the text ends too early"),
        }
        Ok(())
    }

    /// Checks that nothing follows.
    pub(in crate::core::formats) fn end(&mut self) -> Read<()> {
        if self.peek().is_none() { Ok(()) } else { self.error("unexpected text after the message") }
    }

    /// Reads an object; `field` is called behind each key and must read the value.
    pub(in crate::core::formats) fn object(&mut self, field: &mut dyn FnMut(&mut Self, &[u8]) -> Read<()>) -> Read<()> {
        self.expect(b'{', "an object is expected")?;
        self.deeper()?;
        if !self.next_is(b'}') {
            loop {
                let key = self.string()?;
                self.expect(b':', "a colon is expected")?;
                field(self, &key)?;
                if !self.next_is(b',') {
                    break;
                }
            }
            self.expect(b'}', "a comma or the end of the object is expected")?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array; `element` must read one element.
    pub(in crate::core::formats) fn array(&mut self, element: &mut dyn FnMut(&mut Self) -> Read<()>) -> Read<()> {
        self.expect(b'[', "an array is expected")?;
        self.deeper()?;
        if !self.next_is(b']') {
            loop {
                element(self)?;
                if !self.next_is(b',') {
                    break;
                }
            }
            self.expect(b']', "a comma or the end of the array is expected")?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn deeper(&mut self) -> Read<()> {
        self.depth += 1;
        if self.depth <= MAX_DEPTH { Ok(()) } else { self.error("values are nested too deeply") }
    }

    /// Skips any value.
    pub(in crate::core::formats) fn skip(&mut self) -> Read<()> {
        match self.peek() {
            Some(b'{') => self.object(&mut |r, _| r.skip()),
            Some(b'[') => self.array(&mut Self::skip),
            Some(b'"') => self.string().map(drop),
            Some(b't' | b'f') => self.boolean().map(drop),
            Some(b'n') if self.null()? => Ok(()),
            _ => self.number().map(drop),
        }
    }

    /// Reads `null`, if that comes next.
    pub(in crate::core::formats) fn null(&mut self) -> Read<bool> {
        if self.peek() == Some(b'n') { self.word(b"null").map(|()| true) } else { Ok(false) }
    }

    pub(in crate::core::formats) fn boolean(&mut self) -> Read<bool> {
        match self.peek() {
            Some(b't') => self.word(b"true").map(|()| true),
            Some(b'f') => self.word(b"false").map(|()| false),
            _ => self.error("true or false is expected"),
        }
    }

    fn word(&mut self, word: &[u8]) -> Read<()> {
        if !self.text[self.at..].starts_with(word) {
            return self.error("a value is expected");
        }
        self.at += word.len();
        Ok(())
    }

    /// A number as it is written.
    fn number(&mut self) -> Read<&'a str> {
        self.peek();
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let begins = matches!(rest.first(), Some(b'-' | b'0'..=b'9'));
        match std::str::from_utf8(&rest[..length]) {
            Ok(number) if begins => {
                self.at += length;
                Ok(number)
            }
            _ if rest.is_empty() => self.error("the text ends too early"),
            _ => self.error("a value is expected"),
        }
    }

    /// A number, also one that stands in quotes.
    fn digits(&mut self) -> Read<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return self.number().map(Cow::Borrowed);
        }
        let at = self.at;
        match self.string()? {
            Cow::Borrowed(text) => std::str::from_utf8(text).map(Cow::Borrowed).ok(),
            Cow::Owned(text) => String::from_utf8(text).map(Cow::Owned).ok(),
        }
        .ok_or(JsonError { at, why: "a number is expected" })
    }

    /// An integer; also one such as `1e3` or `"5"`.
    pub(in crate::core::formats) fn integer<T: FromStr + TryFrom<i128>>(&mut self) -> Read<T> {
        let at = self.at;
        let digits = self.digits()?;
        let whole = |v: &f64| v.fract() == 0.0 && v.abs() < 1e20;
        let odd = || digits.parse().ok().filter(whole).and_then(|v: f64| T::try_from(v as i128).ok());
        digits.parse().ok().or_else(odd).ok_or(JsonError { at, why: "this integer does not fit its field" })
    }

    /// A number with a point, `"NaN"`, `"Infinity"` or `"-Infinity"`.
    pub(in crate::core::formats) fn double(&mut self) -> Read<f64> {
        let at = self.at;
        match &*self.digits()? {
            "NaN" => Ok(f64::NAN),
            digits => digits.parse().map_err(|_| JsonError { at, why: "a number is expected" }),
        }
    }

    /// The number of an enum's value, by name or as it is.
    pub(in crate::core::formats) fn choice(&mut self, names: &[&str]) -> Read<i32> {
        if self.peek() != Some(b'"') {
            return self.integer();
        }
        let at = self.at;
        let name = self.string()?;
        let known = names.iter().position(|known| known.as_bytes() == &*name);
        let number = || std::str::from_utf8(&name).ok()?.parse().ok();
        known.map(|n| n as i32).or_else(number).ok_or(JsonError { at, why: "unknown value of this enum" })
    }

    pub(in crate::core::formats) fn text(&mut self) -> Read<Cow<'a, [u8]>> {
        self.string()
    }

    /// Whether an array comes next.
    pub(in crate::core::formats) fn is_array(&mut self) -> bool {
        self.peek() == Some(b'[')
    }

    /// Ends reading here, because enough is known.
    pub(in crate::core::formats) fn stop(&self) -> Read<()> {
        self.error("enough is known")
    }

    /// Whether an object comes next.
    pub(in crate::core::formats) fn is_object(&mut self) -> bool {
        self.peek() == Some(b'{')
    }

    /// An ID: in hexadecimal, or in base64 as Tempo answers. Padding distinguishes them: both IDs have some.
    pub(in crate::core::formats) fn hex(&mut self) -> Read<Vec<u8>> {
        let at = self.at;
        let text = self.string()?;
        if matches!(text.len(), 12 | 24) && text.ends_with(b"=") {
            return base64(&text).ok_or(JsonError { at, why: "this ID is neither hexadecimal nor base64" });
        }
        let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        let bytes: Option<Vec<u8>> =
            text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
        bytes.ok_or(JsonError { at, why: "this ID is not hexadecimal" })
    }

    /// Base64 in either alphabet, padded or not.
    pub(in crate::core::formats) fn base64(&mut self) -> Read<Vec<u8>> {
        let at = self.at;
        let text = self.string()?;
        base64(&text).ok_or(JsonError { at, why: "these bytes are not base64" })
    }

    fn string(&mut self) -> Read<Cow<'a, [u8]>> {
        self.expect(b'"', "a text is expected")?;
        let start = self.at;
        let rest = &self.text[start..];
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) else {
            self.at = self.text.len();
            return self.error("the text ends too early");
        };
        self.at += length;
        if rest[length] == b'"' {
            self.at += 1;
            return Ok(Cow::Borrowed(&rest[..length]));
        }
        self.escaped(rest[..length].to_vec()).map(Cow::Owned)
    }

    /// The rest of a text that has an escape in it.
    fn escaped(&mut self, mut out: Vec<u8>) -> Read<Vec<u8>> {
        loop {
            let Some(byte) = self.text.get(self.at).copied() else { return self.error("the text ends too early") };
            self.at += 1;
            match byte {
                b'"' => return Ok(out),
                b'\\' => self.escape(&mut out)?,
                0..0x20 => return self.error("a control character inside a text"),
                byte => out.push(byte),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Read<()> {
        let Some(byte) = self.text.get(self.at).copied() else { return self.error("the text ends too early") };
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c = self.unicode()?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.error("unknown escape"),
        });
        Ok(())
    }

    /// A character by its number; halves of a pair that lack the other one become the replacement character.
    fn unicode(&mut self) -> Read<char> {
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let behind = self.at;
        if self.text[behind..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.unit()?;
            if (0xdc00..0xe000).contains(&second) {
                let c = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = behind;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn unit(&mut self) -> Read<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let unit = digits.and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let Some(unit) = unit else { return self.error("four hexadecimal digits are expected") };
        self.at += 4;
        Ok(unit)
    }
}

/// The bytes of a text in base64.
pub(in crate::core::formats) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.chunks(4) {
        let bits = chunk.iter().try_fold(0_u32, |bits, byte| Some(bits << 6 | sextet(*byte)?));
        let bits = bits.filter(|_| chunk.len() > 1)?;
        let bytes = (bits << (6 * (4 - chunk.len()))).to_be_bytes();
        out.extend_from_slice(&bytes[1..chunk.len()]);
    }
    Some(out)
}

fn sextet(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    }))
}
