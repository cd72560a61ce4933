//! Guesses the format of a record that is not OTLP protobuf, so that the user can find its producer.

/// How much of a record is shown.
const SHOWN: usize = 64;

/// The beginning of a record, on one line and without anything that is not ASCII.
#[must_use]
pub fn sample(value: &[u8]) -> String {
    let shown = &value[..value.len().min(SHOWN)];
    let more = if value.len() > SHOWN { "..." } else { "" };
    format!("{}{more}", shown.escape_ascii())
}

/// What the bytes look like, with what to do about it.
#[must_use]
pub fn looks_like(value: &[u8]) -> Option<&'static str> {
    const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\xff\x06\x00\x00sNaPpY"];
    let text = value.trim_ascii_start();
    if text.starts_with(b"{") || text.starts_with(b"[") {
        Some("looks like JSON: set kafka.encoding to auto, otlp_json, jaeger_json or zipkin_json")
    } else if COMPRESSED.iter().any(|begin| value.starts_with(begin)) {
        Some("looks compressed in itself: configure its producer to compress batches instead, with compression.type")
    } else if value.first() == Some(&0) {
        Some("looks like the framing of a schema registry, but what is inside is no OTLP")
    } else if value.starts_with(b"\x0a\x10") && value.get(18..20) == Some(b"\x12\x08") {
        Some("looks like a Jaeger span: set kafka.encoding to auto or jaeger_proto")
    } else if !value.is_empty() && value.iter().take(SHOWN).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        Some("looks like text")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_often_found_on_a_topic_of_spans_is_recognized() {
        let jaeger = [b"\x0a\x10".as_slice(), &[7; 16], b"\x12\x08", &[8; 8]].concat();
        let cases: [(&[u8], &str); 7] = [
            (b"{\"resourceSpans\":[]}", "JSON"),
            (b"\n [{\"traceId\":\"00\"}]", "JSON"),
            (b"\x1f\x8b\x08\x00", "compressed"),
            (b"\x28\xb5\x2f\xfd", "compressed"),
            (b"\x00\x00\x00\x00\x07\x00\x0a", "schema registry"),
            (&jaeger, "Jaeger"),
            (b"hello, world", "text"),
        ];
        for (value, what) in cases {
            assert!(looks_like(value).is_some_and(|text| text.contains(what)), "{what}");
        }
        assert_eq!(looks_like(b""), None);
        assert_eq!(looks_like(b"\xff\xfe\xfd"), None);
    }

    #[test]
    fn a_sample_is_short_and_stays_on_its_line() {
        assert_eq!(sample(b"a\n\x1b[31m\xffz"), "a\\n\\x1b[31m\\xffz");
        assert_eq!(sample(&[b'x'; 100]), format!("{}...", "x".repeat(SHOWN)));
        assert!(sample(&[0xff; 1_000]).len() <= 4 * SHOWN + 3);
    }
}
