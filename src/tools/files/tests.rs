use std::io::{self, BufRead, Read};

use proptest::prelude::*;

use super::*;
use crate::core::formats::to_proto;
use crate::core::model::wire::put_u64;

/// A reader that hands out a few bytes at a time.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl BufRead for Slow<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(&self.0[..self.0.len().min(3)])
    }

    fn consume(&mut self, n: usize) {
        self.0 = &self.0[n..];
    }
}

/// Everything in a file, as text.
fn all(file: &[u8], framing: Framing) -> Vec<String> {
    let mut frames = Frames::new(Slow(file), framing);
    let mut out = Vec::new();
    while let Some((place, message)) = frames.read().expect("memory can be read") {
        let text = message.map_or_else(|flaw| format!("{flaw}"), |m| String::from_utf8_lossy(m).into_owned());
        out.push(format!("{place}: {text}"));
    }
    assert!(frames.read().expect("memory can be read").is_none(), "the end stays the end");
    out
}

fn sized(messages: &[&[u8]]) -> Vec<u8> {
    messages.iter().flat_map(|m| [&(m.len() as u32).to_be_bytes(), *m].concat()).collect()
}

#[test]
fn lines_are_counted_and_empty_ones_passed_over() {
    let file = b"\xef\xbb\xbf{1}\n\n  \r\n{2}\r\n\n{3}";
    assert_eq!(all(file, Framing::Lines), ["line 1: {1}", "line 4: {2}\r", "line 6: {3}"]);
    assert!(all(b"", Framing::Lines).is_empty() && all(b"\n\n", Framing::Lines).is_empty());
}

#[test]
fn sized_messages_are_told_by_their_bytes_and_a_torn_one_is_the_last() {
    let file = sized(&[b"one", b"", b"three"]);
    assert_eq!(all(&file, Framing::Sized), ["byte 0: one", "byte 7: ", "byte 11: three"]);
    let torn = |cut: usize| all(&file[..file.len() - cut], Framing::Sized).pop().expect("the torn one");
    assert_eq!(torn(1), "byte 11: the file ends inside a message: only 4 of 5 bytes are present");
    assert_eq!(torn(5), "byte 11: the file ends inside a message: only 0 of 5 bytes are present");
    assert_eq!(torn(6), "byte 11: the file ends inside a message: only 3 of 4 bytes are present");
    assert_eq!(torn(9), "byte 7: ", "the file ends behind a message");
}

#[test]
fn objects_over_several_lines_end_with_their_brace() {
    let file = b"{\n \"a\": \"}\\\"{\", \"b\": [{}]\n}\n\n{\n}{}\n  {\"torn";
    let found = all(file, Framing::Objects);
    let whole = ["line 1: {\n \"a\": \"}\\\"{\", \"b\": [{}]\n}", "line 5: {\n}", "line 6: {}", "line 7: {\"torn"];
    assert_eq!(found, whole);
    assert!(all(b" \n\n", Framing::Objects).is_empty());
    let endless = io::repeat(b'[').take(2 * MAX_MESSAGE as u64);
    let mut frames = Frames::new(io::BufReader::new(endless), Framing::Objects);
    let flaw = frames.read().expect("memory can be read").expect("a message").1.map(<[u8]>::len);
    assert_eq!(flaw, Err(Flaw::LongObject));
    assert!(frames.read().expect("memory can be read").is_none());
}

#[test]
fn a_huge_length_ends_the_file_and_takes_no_memory() {
    let file = [sized(&[b"one"]), u32::MAX.to_be_bytes().to_vec(), b"and more".to_vec()].concat();
    let found = all(&file, Framing::Sized);
    assert_eq!(found.len(), 2);
    assert!(found[1].starts_with("byte 7: a message of 4294967295 bytes would be longer"), "{found:?}");
    let announced = [&(MAX_MESSAGE as u32).to_be_bytes()[..], b"little"].concat();
    let mut frames = Frames::new(&announced[..], Framing::Sized);
    let flaw = frames.read().expect("memory can be read").expect("a message").1.map(<[u8]>::len);
    assert_eq!(flaw, Err(Flaw::CutOff { left: 6, of: MAX_MESSAGE }));
}

#[test]
fn a_line_that_never_ends_is_passed_over_without_being_kept() {
    let endless = io::repeat(b'x').take(3 * MAX_MESSAGE as u64).chain(&b"\n{}\n"[..]);
    let mut frames = Frames::new(io::BufReader::new(endless), Framing::Lines);
    let (place, flaw) = frames.read().expect("memory can be read").expect("a line");
    assert_eq!((place, flaw), (FilePosition::Line(1), Err(Flaw::LongLine)));
    assert_eq!(frames.read().expect("memory can be read"), Some((FilePosition::Line(2), Ok(&b"{}"[..]))));
}

#[test]
fn elements_of_an_array_are_messages_of_their_own() {
    let read = |file: &str| all(file.as_bytes(), Framing::Objects);
    assert_eq!(read("[{1}, {\n2}]"), ["line 1: {1}", "line 1: {\n2}"]);
    assert_eq!(read("[\n  {1},\n  {2}\n]\n"), ["line 2: {1}", "line 3: {2}"]);
    assert_eq!(read("\u{feff}[{1}]\n[{[2]}]\n"), ["line 1: {1}", "line 2: {[2]}"]);
    assert!(read("[]").is_empty() && read(" [ \n ] ").is_empty());
    let open = "the file ends inside an array: the rest is missing";
    assert_eq!(read("[{1},\n{2},\n"), ["line 1: {1}".to_owned(), "line 2: {2}".to_owned(), format!("line 3: {open}")]);
    assert_eq!(read("[{1},\n{2"), ["line 1: {1}", "line 2: {2"]);
    assert_eq!(read("{1} x {2}\n{3}"), ["line 1: {1}", "line 1: x {2}", "line 2: {3}"]);
}

#[test]
fn answers_of_tempo_and_jaeger_are_read_as_requests() {
    let span = |ids: &str| format!(r#"[{{"scopeSpans":[{{"spans":[{{{ids},"name":"x"}}]}}]}}]"#);
    let hex = span(r#""traceId":"5b8efff798038103d269b633813fc700","spanId":"eee19b7ec3c1b100""#);
    let base64 = span(r#""traceId":"W47/95gDgQPSabYzgT/HAA==","spanId":"7uGbfsPBsQA=""#);
    let plain = to_proto(format!(r#"{{"resourceSpans":{hex}}}"#).as_bytes()).expect("a request");
    for text in [
        format!(r#"{{"resourceSpans":{base64}}}"#),
        format!(r#"{{"batches":{base64}}}"#),
        format!(r#"{{"trace":{{"resourceSpans":{base64}}},"status":"COMPLETE"}}"#),
        format!(r#"{{"result":{{"resourceSpans":{hex}}}}}"#),
    ] {
        assert_eq!(to_proto(text.as_bytes()), Ok(plain.clone()), "{text}");
    }
    let bad = format!(r#"{{"batches":{}}}"#, span(r#""traceId":"W47/95gDgQPSabYzgT/H!A==""#));
    let error = to_proto(bad.as_bytes()).expect_err("no ID").to_string();
    assert!(error.starts_with("this ID is neither hexadecimal nor base64"), "{error}");
    assert!(to_proto(br#"{"trace":{"trace":{"resourceSpans":[]}}}"#).is_err(), "once is enough");
}

#[test]
fn the_first_bytes_tell_the_framing() {
    for lines in [&b"{\"resourceSpans\":[]}"[..], b"\n {", b"\xef\xbb\xbf{"] {
        assert_eq!(framing(lines), Some(Framing::Lines));
    }
    for objects in [&b"{\n"[..], b"\n{ \r\n", b"[{\"resourceSpans\":", b"\xef\xbb\xbf [\n", b"[]"] {
        assert_eq!(framing(objects), Some(Framing::Objects));
    }
    for message in [&b"\x0a\x05"[..], b"{\"", b"\x28\xb5\x2f\xfd\x04"] {
        assert_eq!(framing(&sized(&[message])), Some(Framing::Sized), "{message:?}");
    }
    for unclear in [&b""[..], b"x", b"# comment\n{}", b"\x0a\x93\x01\x0a\x10", &[0, 0, 0, 0], &[0, 0, 0, 9, b'?']] {
        assert_eq!(framing(unclear), None, "{unclear:?}");
    }
    assert_eq!([Encoding::ZipkinJson, Encoding::OtlpProto].map(framing_of), [Framing::Lines, Framing::Sized]);
}

#[test]
fn rotated_files_are_in_the_order_of_their_times_and_the_current_one_is_the_last() {
    let mut names = [
        "a-b.json",
        "a-b-2022-09-14T05-02-14.173.json",
        "a-b-2023-01-01T00-00-00.000-size.json.zst",
        "a-b-2022-09-14T05-02-14.172.json.gz",
    ];
    names.sort_by_key(|name| rotation(name));
    assert!(names.iter().all(|name| rotation(name).of == "a-b.json"));
    assert_eq!(names.map(|name| name.contains("172")), [true, false, false, false]);
    assert_eq!((names[2].contains("2023"), names[3]), (true, "a-b.json"));
    for single in ["x-2022-09-14.json", "2022", "-", "x-2022-09-14T05-02-14.17x.json", "\u{e9}-2022-09-14T05"] {
        assert_eq!(rotation(single).of, single);
    }
    assert_eq!(rotation("dir/file-2022-09-14T05-02-14.173").of, "dir/file");
}

#[test]
fn an_extension_is_a_hint() {
    let told = ["a.json", "b.JSONL.gz", "c.pb.zst", "d.zst", "e", "f.txt"].map(hint);
    assert_eq!(told, [Some(Framing::Lines), Some(Framing::Lines), Some(Framing::Sized), None, None, None]);
}

#[test]
fn a_message_is_json_if_it_begins_with_a_brace() {
    assert_eq!(value(b"\x0a\x00", Encoding::Auto), Ok(Cow::Borrowed(&b"\x0a\x00"[..])));
    assert_eq!(value(b"", Encoding::Auto), Ok(Cow::Borrowed(&b""[..])));
    assert_eq!(value(b"{\"resourceSpans\":[{}]}\r", Encoding::Auto), Ok(Cow::Owned(b"\x0a\x00".to_vec())));
    assert_eq!(value(b"{}", Encoding::Auto), Ok(Cow::Owned(Vec::new())));
}

#[test]
fn a_format_that_is_named_is_taken() {
    assert_eq!(value(b" {\"resourceSpans\":[{}]}", Encoding::OtlpJson), Ok(Cow::Owned(b"\x0a\x00".to_vec())));
    assert_eq!(value(b"{}", Encoding::OtlpProto), Ok(Cow::Borrowed(&b"{}"[..])));
    assert!(value(b"\x0a\x00", Encoding::OtlpJson).is_err());
}

/// A request whose first resource is `first` bytes long, all of them a schema's URL that reads like JSON.
fn request(first: usize) -> Vec<u8> {
    let url = |size: usize| {
        let mut field = vec![3 << 3 | 2];
        put_u64(&mut field, size as u64);
        field.extend(std::iter::repeat_n(b'"', size));
        field
    };
    let resource = (first.saturating_sub(6)..first)
        .map(url)
        .find(|field| field.len() == first)
        .unwrap_or_else(|| vec![2 << 3; first]);
    let mut request = vec![1 << 3 | 2];
    put_u64(&mut request, resource.len() as u64);
    [request, resource].concat()
}

proptest! {
    #[test]
    fn a_request_in_protobuf_is_read_as_it_is_whatever_the_length_of_its_first_resource(
        first in prop_oneof![0usize..0x300, Just(0x0a0a), Just(0x0d0a), 0usize..0x7fff],
        behind in proptest::collection::vec(0usize..300, 0..3),
    ) {
        let messages: Vec<Vec<u8>> = std::iter::once(first).chain(behind).map(request).collect();
        let file = sized(&messages.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(framing(&file[..file.len().min(64)]), Some(Framing::Sized));
        let mut frames = Frames::new(Slow(&file), Framing::Sized);
        for message in &messages {
            let (_, read) = frames.read().expect("memory can be read").expect("a message");
            let read = read.expect("it is whole");
            prop_assert_eq!(value(read, Encoding::Auto), Ok(Cow::Borrowed(message.as_slice())));
            prop_assert_eq!(value(read, Encoding::OtlpProto), Ok(Cow::Borrowed(message.as_slice())));
        }
    }
}

#[test]
fn a_first_resource_of_every_length_up_to_a_thousand_bytes_is_protobuf() {
    for first in 0..1_000 {
        let message = request(first);
        assert_eq!(value(&message, Encoding::Auto), Ok(Cow::Borrowed(message.as_slice())), "{first} bytes");
    }
}

#[test]
fn what_is_no_traces_is_named() {
    let error = |text: &str| to_proto(text.as_bytes()).expect_err("no traces").to_string();
    assert_eq!(error(r#"{"resourceMetrics":[{"a":[1,-2.5e3,true,null,"x"]}]}"#), "it holds metrics, not traces");
    assert_eq!(error(r#"{"resourceLogs":[]}"#), "it holds logs, not traces");
    assert_eq!(error(r#"{"other":[]}"#), "it has no resourceSpans; is it OTLP?");
    for (text, what) in [
        (r#"{"data":[{"traceID":"0"}]}"#, "it looks like Jaeger"),
        (r#"{"traceId":"1","spanId":"2","name":"x"}"#, "single span"),
        (r#"{"localEndpoint":{},"traceId":"00"}"#, "it looks like a Zipkin span"),
    ] {
        assert!(error(text).contains(what), "{text}: {}", error(text));
    }
    assert_eq!(error("[]"), "an object is expected, byte 0 of the message");
    assert_eq!(error("{} {}"), "unexpected text after the message, byte 3 of the message");
    assert_eq!(error(r#"{"resourceSpans":[{"#), "the text ends too early, byte 19 of the message");
    assert_eq!(error(r#"{"resourceSpans":{}}"#), "an array is expected, byte 17 of the message");
    let span = |inside: &str| error(&format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{inside}}}]}}]}}]}}"#));
    assert!(span(r#""traceId":"0g""#).starts_with("this ID is not hexadecimal, byte 54"));
    assert!(span(r#""traceId":"abc""#).starts_with("this ID is not hexadecimal"));
    assert!(span(r#""kind":"SPAN_KIND_QUEUE""#).starts_with("unknown value of this enum"));
    assert!(span(r#""startTimeUnixNano":-1"#).starts_with("this integer does not fit its field"));
    assert!(span(r#""startTimeUnixNano":1.5"#).starts_with("this integer does not fit its field"));
    assert!(span(r#""name":tru"#).starts_with("a text is expected"));
    assert!(span("\"name\":\"a\nb\"").starts_with("a control character inside a text"));
    assert!(span(r#""name":"\ud83d\u00"#).contains("hexadecimal digits"));
    assert!(span(r#""attributes":[{"key":"a","value":{"bytesValue":"a"}}]"#).contains("base64"));
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(error(&deep).starts_with("values are nested too deeply"));
}
