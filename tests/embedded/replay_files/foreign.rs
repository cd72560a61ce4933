//! Files as people have them: of other programs, of old versions, with times in another unit.

use super::*;

#[test]
fn a_sized_message_is_protobuf_whatever_the_length_of_its_first_resource() {
    let scene = Scene::new();
    let request = |bytes: usize| {
        let resource = |name: usize| {
            let text = one_span(1, &"x".repeat(name), NOON, NOON + 1);
            let request: ExportTraceServiceRequest = serde_json::from_str(&text).expect("a request");
            request.encode_to_vec()
        };
        (1..bytes).map(resource).find(|message| message.get(1) == Some(&(bytes as u8))).expect("a name that fits")
    };
    // A brace, a line's end, blanks.
    let lengths: Vec<usize> = (110..=127).collect();
    let file = sized(lengths.iter().map(|bytes| request(*bytes)));
    for (name, format) in [("a.pb", ""), ("b.bin", "--format otlp-proto"), ("c.pb", "")] {
        let bytes = if name == "c.pb" { zstd(&file) } else { file.clone() };
        scene.write(name, &bytes);
        let (code, summary) = scene.replay(&format!("--files {name} {format} --spool {name}.spool"));
        assert_eq!((code, number(&summary, "/spans")), (Some(0), lengths.len() as u64), "{name}: {summary}");
    }
}

#[test]
fn scopes_under_their_old_name_are_read() {
    let scene = Scene::new();
    let old = one_span(1, "old", NOON, NOON + 1).replace("scopeSpans", "instrumentationLibrarySpans");
    scene.write("old.json", old.as_bytes());
    let (code, summary) = scene.replay("--files old.json");
    assert_eq!((code, number(&summary, "/spans")), (Some(0), 1), "{summary}");
}

#[test]
fn times_in_another_unit_are_refused_and_spans_without_an_end_are_where_they_began() {
    let scene = Scene::new();
    let ms = NOON / 1_000_000;
    scene.write("ms.json", one_span(1, "s", ms, ms + 25).as_bytes());
    scene.write("us.json", one_span(1, "s", ms * 1_000, ms * 1_000 + 25).as_bytes());
    for (name, unit) in [("ms.json", "milliseconds"), ("us.json", "microseconds")] {
        let (code, summary) = scene.replay(&format!("--files {name}"));
        assert_eq!((code, number(&summary, "/samples/built")), (Some(1), 0), "{summary}");
        let what = summary["unreadable"]["first"][0]["what"].as_str().expect("told");
        assert!(what.contains(unit) && what.contains("span 0000000000000001"), "{what}");
    }
    let good = one_span(2, "s", NOON, NOON + 500_000_000);
    scene.write("first.json", format!("{}{good}", one_span(1, "s", NOON, 0)).as_bytes());
    scene.write("only.json", one_span(1, "s", NOON, 0).as_bytes());
    for (name, more) in [("first.json", ""), ("first.json", "--set time.source=record"), ("only.json", "")] {
        let (code, summary) = scene.replay(&format!("--files {name} --spool {name}{}.spool {more}", more.len()));
        assert_eq!((code, number(&summary, "/unfinished")), (Some(0), 1), "{summary}");
        assert!(number(&summary, "/times/0") >= START as u64, "{summary}");
        assert!(number(&summary, "/settled") > START as u64 - 60_000, "{summary}");
    }
}

/// What people have in their files: the name, the bytes, the spans that are read, and what is said about the rest.
fn files_of_people() -> Vec<(&'static str, Vec<u8>, u64, Option<&'static str>)> {
    let good = one_span(1, "s", NOON, NOON + 1_000_000);
    let good = good.trim().to_owned();
    let inner = good.strip_prefix('{').and_then(|text| text.strip_suffix('}')).expect("an object");
    let value: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    let pretty = serde_json::to_string_pretty(&serde_json::json!([value, value])).expect("JSON");
    assert!(pretty.lines().count() > 40);
    let utf16 = |text: &str| [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let text = |text: String| text.into_bytes();
    let spans = crate::samples::samples(START as u64 * 1_000);
    let list = |name: &str| {
        let all = crate::samples::everything(&spans).into_iter().find(|(known, _, _)| *known == name);
        all.expect("a known format").2
    };
    let indented = |bytes: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        serde_json::to_vec_pretty(&value).expect("JSON")
    };
    let jaeger = r#"{"data":[{"traceID":"5b","spans":[{"traceID":"?","spanID":"ee"}]}]}"#;
    let alone = r#"{"traceId":"5b8efff798038103d269b633813fc700","spanId":"eee19b7ec3c1b100","name":"x"}"#;
    let mixed = format!("{good}\n{{\"resourceMetrics\":[]}}\n{{\"resourceLogs\":[]}}\nnot json\n{{}}\n\n{good}\n");
    vec![
        ("array.json", text(format!("[{good}, {good}]")), 2, None),
        ("array_pretty.json", text(pretty), 2, None),
        ("array_cut.json", text(format!("[{good},\n")), 1, Some("line 2: the file ends inside an array")),
        ("crlf.json", text(format!("{good}\r\n{good}\r\n")), 2, None),
        ("utf16.json", utf16(&good), 0, Some("UTF-16 text; convert it to UTF-8")),
        ("tempo_v1.json", text(good.replace("resourceSpans", "batches")), 1, None),
        ("tempo_v2.json", text(format!("{{\n \"trace\": {{\n{inner}}}\n}}")), 1, None),
        ("jaeger_v3.json", text(format!("{{\"result\": {good}}}")), 1, None),
        ("jaeger_ui.json", indented(&list("Jaeger's API")[0]), 18, None),
        ("jaeger_ui.json.gz", gzip(&list("Jaeger's API")[0]), 18, None),
        ("jaeger_bad.json", text(jaeger.to_owned()), 0, Some("a trace ID that is not hexadecimal")),
        ("jaeger_spans.jsonl", list("Jaeger JSON").join(&b'\n'), 18, None),
        ("jaeger.pb", sized(list("Jaeger protobuf").into_iter()), 18, None),
        ("zipkin.json", list("Zipkin JSON").remove(0), 18, None),
        ("zipkin_pretty.json", indented(&list("Zipkin JSON")[0]), 18, None),
        ("zipkin.pb.zst", zstd(&sized(list("Zipkin protobuf").into_iter())), 18, None),
        ("one_span.json", text(alone.to_owned()), 0, Some("it looks like a single span")),
        ("cut.json", text(format!("{good}\n{}", good.split_at(good.len() / 2).0)), 1, Some("line 2: ")),
        ("mixed_signals.json", text(mixed), 2, Some("line 2: it holds metrics, not traces")),
    ]
}

#[test]
fn files_as_people_have_them_are_read_or_refused_with_the_reason() {
    for (name, bytes, spans, said) in files_of_people() {
        let scene = Scene::new();
        scene.write(name, &bytes);
        let (code, summary) = scene.replay(&format!("--files {name}"));
        assert_eq!((code, number(&summary, "/spans")), (Some(i32::from(said.is_some())), spans), "{name}: {summary}");
        let first = &summary["unreadable"]["first"][0];
        let place = first["at"].get("line").map_or(String::new(), |line| format!("line {line}: "));
        let told = format!("{place}{}", first["what"].as_str().unwrap_or_default());
        assert!(said.is_none_or(|said| told.contains(said)), "{name}: {summary}");
    }
}

#[test]
fn a_span_in_1970_among_others_is_named_and_takes_nobody_with_it() {
    let scene = Scene::new();
    let good = one_span(1, "s", NOON, NOON + 1_000_000);
    let good: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    let mut both = good.clone();
    let spans = both["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().expect("spans");
    let mut odd = spans[0].clone();
    odd["spanId"] = "00000000000000ff".into();
    odd["startTimeUnixNano"] = (NOON / 1_000_000).to_string().into();
    odd["endTimeUnixNano"] = (NOON / 1_000_000 + 25).to_string().into();
    spans.insert(0, odd);
    scene.write("both.json", format!("{both}\n{good}\n").as_bytes());
    let (code, summary) = scene.replay("--files both.json");
    assert_eq!((code, number(&summary, "/spans"), number(&summary, "/odd_times/count")), (Some(0), 3, 1), "{summary}");
    let told = &summary["odd_times"]["first"][0];
    let what = told["what"].as_str().expect("told");
    assert!(what.starts_with("span 00000000000000ff: endTimeUnixNano is ") && what.contains("milliseconds"), "{what}");
    assert_eq!((told["file"].as_str(), number(told, "/at/line")), (Some("both.json"), 1));
    assert!(number(&summary, "/times/0") >= START as u64, "{summary}");
}
