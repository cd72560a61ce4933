//! Guesses the format of a file that holds no OTLP traces, so that the user can find the right one.

/// The apparent format of a file, by its first bytes.
#[must_use]
pub fn looks_like(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        Some("it looks like UTF-16: convert it to UTF-8, as with `iconv -f UTF-16 -t UTF-8`")
    } else if head.starts_with(b"PAR1") {
        Some("it looks like Parquet, as in blocks of Tempo: request traces from Tempo's API, or replay from Kafka")
    } else if head.starts_with(b"PK") {
        Some("it looks like a zip archive: unpack it first")
    } else if head.starts_with(b"BZh") || head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Some("it looks compressed by bzip2 or xz: only gzip and zstd are supported")
    } else if head.get(257..262) == Some(b"ustar") {
        Some("it looks like a tar archive: unpack it first")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_often_taken_for_otlp_is_recognized() {
        let cases: [(&[u8], &str); 3] =
            [(b"\xff\xfe{\0\"\0", "UTF-16"), (b"PAR1\x15\x04", "Parquet"), (b"PK\x03\x04", "zip")];
        for (head, what) in cases {
            assert!(looks_like(head).is_some_and(|text| text.contains(what)), "{what}");
        }
        assert_eq!(looks_like(b"hello"), None);
    }
}
