use super::*;

#[test]
fn ids_may_lack_leading_zeros_and_nothing_else() {
    assert_eq!(hex::<8>(b"1f"), Some([0, 0, 0, 0, 0, 0, 0, 0x1f]));
    assert_eq!(hex::<8>(b"1122334455667788"), Some([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]));
    assert_eq!(hex::<2>(b"Abc"), Some([0x0a, 0xbc]));
    for wrong in [&b""[..], b"11223344556677889", b"1g", b"-1"] {
        assert_eq!(hex::<8>(wrong), None, "{wrong:?}");
    }
    assert_eq!(padded(&[7; 8]).map(|id| (id[7], id[8])), Some((0, 7)));
    assert_eq!((padded(&[7; 16]), padded(&[7; 15]), padded(&[])), (Some([7; 16]), None, None));
}

#[test]
fn json_is_told_by_the_first_key_that_tells() {
    for (text, kind) in [
        (r#"{"resourceSpans":[]}"#, JsonKind::Otlp),
        (r#"{"trace":{"resourceSpans":[]}}"#, JsonKind::Otlp),
        (r#"{"resourceLogs":[]}"#, JsonKind::Otlp),
        ("{}", JsonKind::Otlp),
        ("nothing", JsonKind::Otlp),
        (r#"{"traceId":"a","spanId":"b","operationName":"c"}"#, JsonKind::JaegerModel),
        (r#"{"name":[{"id":1}],"startTime":"x"}"#, JsonKind::JaegerModel),
        (r#"{"traceID":"a"}"#, JsonKind::JaegerApi),
        (r#"{"data":[{"id":1}]}"#, JsonKind::JaegerApi),
        (r#"[{"traceId":"a","id":"b"}]"#, JsonKind::Zipkin),
        (r#"{"traceId":"a","name":"n","tags":{"spans":"x"},"localEndpoint":{}}"#, JsonKind::Zipkin),
        ("[]", JsonKind::List),
        ("[1]", JsonKind::List),
        ("\u{feff} [{\"id\":\"b\"}]", JsonKind::Zipkin),
    ] {
        assert_eq!(json_kind(text.as_bytes()), kind, "{text}");
    }
}

#[test]
fn what_begins_with_a_line_feed_is_protobuf_unless_json_is_named() {
    assert!(is_otlp_proto(Encoding::Auto, b"\n{\"resourceSpans\":[]}"));
    for text in
        [&b"{\"resourceSpans\":[{}]}"[..], b" \n{\"resourceSpans\":[{}]}", b"\xef\xbb\xbf{\"resourceSpans\":[{}]}"]
    {
        let mut out = Vec::new();
        assert_eq!(to_otlp(Encoding::Auto, text, &mut out), Ok(true));
        assert_eq!(out, b"\x0a\x00");
    }
    let mut out = Vec::new();
    assert_eq!(to_otlp(Encoding::OtlpJson, b"\n{\"resourceSpans\":[{}]}", &mut out), Ok(true));
    assert_eq!(out, b"\x0a\x00");
}

#[test]
fn nothing_is_wrapped_that_only_begins_so() {
    for value in [&b""[..], b"\0", b"\0\0\0\0\0", b"\x1f", b"\x1f\x8c", b"\x28", b"\x28\x01", b"\x28\xb5\x2f"] {
        assert!(is_otlp_proto(Encoding::OtlpProto, value), "{value:?}");
    }
    assert!(!is_otlp_proto(Encoding::OtlpProto, b"\0\0\0\0\0\0"));
}

#[test]
fn a_record_that_begins_like_tempos_and_holds_no_trace_is_refused_unless_it_is_excluded() {
    for garbage in [&b"\x1a\x03abc"[..], b"\x28\x00", b"\x1a\x00\x28\x00"] {
        let mut out = Vec::new();
        let refused = to_otlp(Encoding::Auto, garbage, &mut out);
        assert_eq!(refused, Err(FormatError::Proto("Tempo's push-bytes")), "{garbage:?}");
    }
    assert_eq!(to_otlp(Encoding::Auto, b"\x28\x01", &mut Vec::new()), Ok(false));
    assert_eq!(to_otlp(Encoding::TempoPushBytes, b"", &mut Vec::new()), Ok(true), "an empty request");
}
