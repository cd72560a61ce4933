//! Protobuf's wire format: keys, varints, lengths.

use super::DecodeError;

/// A field's payload, by wire type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    /// The field number, never zero.
    pub(super) number: u32,
    pub(super) payload: Payload<'a>,
    /// Whether key, varint and length are written as short as they can be.
    pub(super) minimal: bool,
}

/// Walks over the fields of one message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

// === impl Fields ===

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The bytes of the next field, if its key is this byte and its length minimal, of one or two bytes.
    #[inline(always)]
    pub(super) fn short(&mut self, key: u8) -> Option<&'a [u8]> {
        match self.rest {
            [first, tail @ ..] if *first == key => {
                let (bytes, rest) = short_bytes(tail)?;
                self.rest = rest;
                Some(bytes)
            }
            _ => None,
        }
    }

    /// The next field, `None` at the end of the message.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        let Some(&first) = self.rest.first() else { return Ok(None) };
        let (key, mut minimal) = if first < 0x80 {
            self.rest = &self.rest[1..];
            (u32::from(first), true)
        } else {
            let (key, minimal) = self.varint()?;
            (u32::try_from(key).map_err(|_| DecodeError::Key)?, minimal)
        };
        let number = key >> 3;
        if number == 0 {
            return Err(DecodeError::Key);
        }
        let payload = match key & 7 {
            0 => {
                let (v, short) = self.varint()?;
                minimal &= short;
                Payload::Varint(v)
            }
            1 => Payload::Fixed64(self.array()?),
            2 => {
                let (len, short) = self.varint()?;
                minimal &= short;
                Payload::Bytes(self.take(len)?)
            }
            3 | 4 => return Err(DecodeError::Group(number)),
            5 => Payload::Fixed32(self.array()?),
            _ => return Err(DecodeError::Key),
        };
        Ok(Some(Field { number, payload, minimal }))
    }

    #[inline]
    fn varint(&mut self) -> Result<(u64, bool), DecodeError> {
        let mut v = 0;
        for (i, &b) in self.rest.iter().enumerate().take(10) {
            if i == 9 && b > 1 {
                return Err(DecodeError::Varint);
            }
            v |= u64::from(b & 0x7f) << (7 * i);
            if b < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok((v, b != 0 || i == 0));
            }
        }
        Err(DecodeError::CutOff)
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(len).map_err(|_| DecodeError::CutOff)?;
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::CutOff)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::CutOff)?;
        self.rest = rest;
        Ok(*head)
    }
}

/// Splits a minimal length of one or two bytes off, and then that many bytes: what nearly every field needs. `None` for
/// anything else.
#[inline(always)]
pub(super) fn short_bytes(b: &[u8]) -> Option<(&[u8], &[u8])> {
    match *b {
        [len, ref rest @ ..] if len < 0x80 => rest.split_at_checked(usize::from(len)),
        [low, high, ref rest @ ..] if high.wrapping_sub(1) < 0x7f => {
            rest.split_at_checked(usize::from(low & 0x7f) | (usize::from(high) << 7))
        }
        _ => None,
    }
}
