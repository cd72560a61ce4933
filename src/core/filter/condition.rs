//! The conditions of a block, ready to be evaluated.

use regex::bytes::Regex;

use crate::core::otlp::{Attributes, Span, ValueKind};

/// A condition on one attribute.
#[derive(Debug)]
pub(super) struct AttributeTest {
    pub(super) key: Box<[u8]>,
    pub(super) wanted: Wanted,
}

/// What an attribute must be.
#[derive(Debug)]
pub(super) enum Wanted {
    Text(Box<[u8]>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Pattern(Regex),
}

/// A condition on a span.
#[derive(Debug)]
pub(super) enum SpanTest {
    Kind(EnumTest),
    Status(EnumTest),
    Name(Box<[u8]>),
    NamePattern(Regex),
    Attribute(AttributeTest),
}

/// Which numbers of an enum match: decided once, when the policy is compiled.
#[derive(Debug)]
pub(super) struct EnumTest {
    /// Bit `n` stands for number `n`.
    mask: u8,
    /// How many numbers have names.
    known: u8,
    /// Judges the decimal digits of numbers without a name.
    others: Option<Regex>,
}

// === impl AttributeTest ===

impl AttributeTest {
    pub(super) fn holds(&self, attributes: &Attributes<'_>) -> bool {
        let Some(value) = attributes.get(&self.key) else { return false };
        match &self.wanted {
            Wanted::Text(text) => value.as_str() == Some(text),
            Wanted::Pattern(pattern) => pattern.is_match(value.as_str().unwrap_or_default()),
            Wanted::Int(wanted) => matches!(value.kind(), ValueKind::Int(v) if v == *wanted),
            Wanted::Bool(wanted) => matches!(value.kind(), ValueKind::Bool(v) if v == *wanted),
            Wanted::Float(wanted) => {
                matches!(value.kind(), ValueKind::Double(v) if v.partial_cmp(wanted).is_some_and(std::cmp::Ordering::is_eq))
            }
        }
    }
}

// === impl SpanTest ===

impl SpanTest {
    pub(super) fn holds(&self, span: &Span<'_>) -> bool {
        match self {
            Self::Kind(test) => test.holds(span.kind),
            Self::Status(test) => test.holds(span.status_code),
            Self::Name(name) => span.name == &**name,
            Self::NamePattern(pattern) => pattern.is_match(span.name),
            Self::Attribute(test) => test.holds(&span.attributes),
        }
    }

    /// Whether it looks at an attribute.
    pub(super) fn is_attribute(&self) -> bool {
        matches!(self, Self::Attribute(_))
    }
}

// === impl EnumTest ===

impl EnumTest {
    /// The number with this name; `None` if none has it.
    pub(super) fn strict(names: &[&str], wanted: &str) -> Option<Self> {
        let at = names.iter().position(|name| *name == wanted)?;
        Some(Self { mask: 1 << at, known: names.len() as u8, others: None })
    }

    /// The numbers whose names match.
    pub(super) fn pattern(names: &[&str], pattern: Regex) -> Self {
        let bits = names.iter().enumerate().map(|(n, name)| u8::from(pattern.is_match(name.as_bytes())) << n);
        Self { mask: bits.sum(), known: names.len() as u8, others: Some(pattern) }
    }

    fn holds(&self, number: i32) -> bool {
        match u8::try_from(number) {
            Ok(n) if n < self.known => self.mask >> n & 1 == 1,
            _ => self.others.as_ref().is_some_and(|pattern| pattern.is_match(Decimal::of(number).text())),
        }
    }
}

/// A number in decimal, without an allocation.
struct Decimal {
    bytes: [u8; 11],
    from: usize,
}

impl Decimal {
    fn of(number: i32) -> Self {
        let mut decimal = Self { bytes: [0; 11], from: 11 };
        let mut rest = number.unsigned_abs();
        loop {
            decimal.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            decimal.push(b'-');
        }
        decimal
    }

    fn push(&mut self, byte: u8) {
        self.from -= 1;
        self.bytes[self.from] = byte;
    }

    fn text(&self) -> &[u8] {
        &self.bytes[self.from..]
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn numbers_are_written_in_decimal() {
        for n in [0, 7, -1, 120, i32::MAX, i32::MIN] {
            assert_eq!(Decimal::of(n).text(), n.to_string().as_bytes());
        }
    }
}
