//! The byte-level parts of spanmill's own formats (frames, delta records, snapshots): varints, strings, a checksum.
//!
//! Integers are LEB128 varints as in protobuf; signed ones are zigzag-coded first. A [`Reader`] never panics: running
//! out of bytes is an error value.

/// Bytes ended too early, or a value is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes: {0}")]
pub struct Malformed(pub &'static str);

/// How many bytes a varint takes at least.
#[inline]
#[must_use]
pub fn varint_len(v: u64) -> usize {
    (u64::BITS - (v | 1).leading_zeros()).div_ceil(7) as usize
}

/// Appends an unsigned varint.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v as u8 & 0x7f) | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends an unsigned varint of up to 128 bits.
pub fn put_u128(out: &mut Vec<u8>, mut v: u128) {
    while v >= 0x80 {
        out.push((v as u8 & 0x7f) | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends a signed varint (zigzag).
pub fn put_i64(out: &mut Vec<u8>, v: i64) {
    put_u64(out, ((v << 1) ^ (v >> 63)).cast_unsigned());
}

/// Appends a length-prefixed byte string.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, v: &[u8]) {
    put_u64(out, v.len() as u64);
    out.extend_from_slice(v);
}

/// Appends the checksum of everything in `out` from `start` on.
pub fn put_checksum(out: &mut Vec<u8>, start: usize) {
    let sum = xxhash_rust::xxh3::xxh3_64(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// The trailing checksum of bytes that have one.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.last_chunk().map_or(0, |sum| u64::from_le_bytes(*sum))
}

/// Splits the trailing checksum off and verifies it.
///
/// # Errors
/// When the bytes are too short or the checksum does not match.
pub fn verify_checksum(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let (body, sum) = bytes.split_last_chunk::<8>().ok_or(Malformed("shorter than its checksum"))?;
    if xxhash_rust::xxh3::xxh3_64(body) == u64::from_le_bytes(*sum) {
        Ok(body)
    } else {
        Err(Malformed("checksum mismatch"))
    }
}

/// Reads what the `put_*` functions wrote.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed("ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed("ends too early"))?;
        self.0 = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// An unsigned varint.
    ///
    /// # Errors
    /// When it is cut off or longer than 64 bits.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        // Most numbers are small.
        if let Some((&b, rest)) = self.0.split_first()
            && b < 0x80
        {
            self.0 = rest;
            return Ok(b.into());
        }
        let mut v = 0u64;
        for (i, &b) in self.0.iter().enumerate().take(10) {
            if i == 9 && b > 1 {
                return Err(Malformed("varint longer than 64 bits"));
            }
            v |= u64::from(b & 0x7f) << (7 * i);
            if b < 0x80 {
                self.0 = &self.0[i + 1..];
                return Ok(v);
            }
        }
        Err(Malformed("varint cut off"))
    }

    /// An unsigned varint of up to 128 bits.
    ///
    /// # Errors
    /// When it is cut off or longer than 128 bits.
    pub fn u128(&mut self) -> Result<u128, Malformed> {
        let mut v = 0u128;
        for (i, &b) in self.0.iter().enumerate().take(19) {
            if i == 18 && b > 3 {
                return Err(Malformed("varint longer than 128 bits"));
            }
            v |= u128::from(b & 0x7f) << (7 * i);
            if b < 0x80 {
                self.0 = &self.0[i + 1..];
                return Ok(v);
            }
        }
        Err(Malformed("varint cut off"))
    }

    /// An unsigned varint that must fit the target type.
    ///
    /// # Errors
    /// As [`Reader::u64`], and when the value does not fit.
    pub fn uint<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.u64()?).map_err(|_| Malformed("number out of range"))
    }

    /// A signed varint.
    ///
    /// # Errors
    /// As [`Reader::u64`].
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        let v = self.u64()?;
        Ok((v >> 1).cast_signed() ^ -(v & 1).cast_signed())
    }

    /// A length-prefixed byte string.
    ///
    /// # Errors
    /// When it is cut off.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.uint::<usize>()?;
        self.take(n)
    }

    /// A length-prefixed UTF-8 string.
    ///
    /// # Errors
    /// When it is cut off or not UTF-8.
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_the_round_trip() {
        for v in [0, 1, 127, 128, 16_384, u64::MAX] {
            let mut out = Vec::new();
            put_u64(&mut out, v);
            assert_eq!(Reader::new(&out).u64(), Ok(v));
            assert_eq!(Reader::new(&out).u128(), Ok(v.into()));
        }
        for v in [0, 1 << 64, u128::MAX] {
            let mut out = Vec::new();
            put_u128(&mut out, v);
            assert_eq!(Reader::new(&out).u128(), Ok(v));
            assert!(Reader::new(&out[..out.len() - 1]).u128().is_err());
        }
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_i64(&mut out, v);
            assert_eq!(Reader::new(&out).i64(), Ok(v));
        }
    }

    #[test]
    fn a_cut_varint_is_an_error_and_not_a_panic() {
        assert!(Reader::new(&[0x80, 0x80]).u64().is_err());
        assert!(Reader::new(&[0xff; 11]).u64().is_err());
        assert!(Reader::new(&[0xff; 20]).u128().is_err());
        assert!(Reader::new(&[5, b'a']).bytes().is_err());
    }

    #[test]
    fn a_flipped_bit_fails_the_checksum() {
        let mut out = b"frame".to_vec();
        put_checksum(&mut out, 0);
        assert_eq!(verify_checksum(&out), Ok(&b"frame"[..]));
        out[2] ^= 1;
        assert!(verify_checksum(&out).is_err());
        assert!(verify_checksum(b"short").is_err());
    }
}
