//! Which metrics a replay of files makes: objectives, attribute metrics, infos, idle series, whole traces.

use super::*;

/// Server spans, and those of them that neither failed nor took longer than `most` nanoseconds.
fn served(records: &[Record], most: u64) -> (u64, u64) {
    let requests =
        records.iter().map(|record| ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request"));
    let resources = requests.flat_map(|request| request.resource_spans);
    let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
    let servers: Vec<_> = spans.filter(|span| span.kind == 2).collect();
    let took = |span: &Span| span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    let good = |span: &&Span| took(span) <= most && span.status.as_ref().is_none_or(|status| status.code != 2);
    (servers.len() as u64, servers.iter().filter(|span| good(span)).count() as u64)
}

#[test]
fn a_replay_of_files_tells_whether_objectives_would_have_been_met() {
    let scene = Scene::new();
    let (records, _) = load(4_000);
    // A median of what the load has, so that some are good and some are not; it lies in no bucket's bound.
    let threshold = (1..).map(|ms| ms * 1_000_000).find(|most| {
        let (all, good) = served(&records, *most);
        good * 2 >= all
    });
    let threshold = threshold.expect("a threshold");
    let (events, good) = served(&records, threshold);
    assert!(good > 100 && events - good > 100, "{good} of {events}");
    scene.write("spans.json", &lines(&records));
    let servers = "[{include: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}]";
    let objective = |name, percent| {
        let latency = threshold / 1_000_000;
        format!("{{name: {name}, match: {servers}, good: {{latency: {latency}ms}}, objective: {percent}}}")
    };
    let slos = format!("slos: [{}, {}]\n", objective("low", "40"), objective("high", "99.9"));
    scene.write("slos.yaml", slos.as_bytes());
    let (code, summary) = scene.replay("--files spans.json --config slos.yaml");
    assert_eq!(code, Some(0), "{summary}");
    for (i, met) in [true, false].into_iter().enumerate() {
        let row = &summary["slos"][i];
        assert_eq!(
            (row["events"].as_f64(), row["good"].as_f64()),
            (Some(events as f64), Some(good as f64)),
            "{summary}"
        );
        assert_eq!(row["met"].as_bool(), Some(met), "{row}");
        assert!(row["budget_left"].as_f64().is_some_and(|left| (left >= 0.0) == met), "{row}");
    }
    // The receiver has the same, over all services.
    let found = scene.receiver.snapshot();
    let total = |metric: &str| {
        let all = found.iter().filter(|(series, _)| series.starts_with(metric) && series.contains("slo=\"high\""));
        all.map(|(_, state)| state.last_value).sum::<f64>()
    };
    assert_eq!((total("traces_slo_events_total"), total("traces_slo_good_total")), (events as f64, good as f64));
    let mut dry = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    dry.args(["replay", "--config", "slos.yaml", "--files", "spans.json", "--dry-run"]).current_dir(scene.dir.path());
    let output = dry.output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = text.lines().find(|line| line.starts_with("low ")).unwrap_or_else(|| panic!("no row in {text}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[1..3], [events.to_string(), good.to_string()], "{row}");
    assert!(row.contains(" met ") && output.status.success(), "{row}");
}

/// Server spans, how many of them have a status code, and what these add up to.
fn statuses(records: &[Record]) -> (u64, u64, u64) {
    let requests =
        records.iter().map(|record| ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request"));
    let resources = requests.flat_map(|request| request.resource_spans);
    let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
    let servers: Vec<_> = spans.filter(|span| span.kind == 2).collect();
    let codes = servers.iter().flat_map(|span| &span.attributes).filter(|one| one.key == "http.response.status_code");
    let number = |one: &KeyValue| match one.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::IntValue(code)) => u64::try_from(*code).expect("a status"),
        _ => 0,
    };
    let codes: Vec<u64> = codes.map(number).collect();
    (servers.len() as u64, codes.len() as u64, codes.iter().sum())
}

#[test]
fn attribute_metrics_reach_a_receiver_with_their_own_names() {
    let scene = Scene::new();
    let (records, _) = load(2_000);
    let (servers, coded, sum) = statuses(&records);
    assert!(servers > coded && coded > 100 && sum >= 200 * coded, "{servers} {coded} {sum}");
    scene.write("spans.json", &lines(&records));
    let matching = "match: [{include: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}]";
    let value = "value: http.response.status_code";
    let metrics = format!(
        "series: {{external_labels: {{cluster: c}}}}\n\
         attribute_metrics:\n  - {{name: my_servers_total, {matching}}}\n  - {{name: my_statuses_total, {matching}, {value}}}\n  \
         - {{name: my_status, type: histogram, {matching}, {value}, buckets: [299, 499]}}\n"
    );
    scene.write("metrics.yaml", metrics.as_bytes());
    let (code, summary) = scene.replay("--files spans.json --config metrics.yaml");
    assert_eq!(code, Some(0), "{summary}");
    let found = scene.receiver.snapshot();
    let total = |metric: &str| {
        let all = found.iter().filter(|(series, _)| series.starts_with(metric));
        all.map(|(_, state)| state.last_value).sum::<f64>()
    };
    assert_eq!((total("my_servers_total{"), total("my_statuses_total{")), (servers as f64, sum as f64));
    assert_eq!((total("my_status_count{"), total("my_status_sum{")), (coded as f64, sum as f64));
    let own: Vec<_> = found.keys().filter(|series| series.starts_with("my_")).collect();
    assert!(own.iter().all(|series| series.contains("cluster=") && !series.contains("__metric__")), "{own:?}");
}

#[test]
fn infos_are_infos_and_begin_with_no_zero() {
    let scene = Scene::new();
    scene.write("a.json", one_span(1, "s", NOON, NOON + 1_000_000).as_bytes());
    let infos = "--set span_metrics.enable_target_info=true --set host_info.enabled=true --set service_graphs.connection_info=true";
    let (code, summary) = scene.replay(&format!("--files a.json --convert openmetrics --out out {infos}"));
    assert_eq!(code, Some(0), "{summary}");
    let text = converted(&scene, "out");
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for family in ["traces_target", "traces_host", "traces_service_graph_connection"] {
        assert!(types.contains(&format!("{family} info").as_str()), "{family} in {types:?}");
    }
    assert!(types.contains(&"traces_spanmetrics_calls counter"), "{types:?}");
    for name in ["traces_target_info", "traces_host_info", "traces_service_graph_connection_info"] {
        let values: Vec<&str> =
            text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.split(' ').nth(1)).collect();
        assert!(!values.is_empty() && values.iter().all(|value| *value == "1"), "{name}: {values:?}");
    }
    assert!(text.lines().any(|line| line.starts_with("traces_spanmetrics_calls_total") && line.contains("} 0 ")));
}

#[test]
fn an_idle_series_is_sent_in_every_step_until_it_ends() {
    let scene = Scene::new();
    let later = NOON + 600_000_000_000;
    let lines = one_span(1, "s", NOON, NOON + 100_000_000) + &one_span(2, "later", later, later + 100_000_000);
    scene.write("a.json", lines.as_bytes());
    let set = "--set time.step=1s --set series.stale_after=5m";
    assert_eq!(scene.replay(&format!("--files a.json --convert openmetrics --out out {set}")).0, Some(0));
    let text = converted(&scene, "out");
    let idle = |line: &&str| line.starts_with("traces_spanmetrics_calls_total") && line.contains("service=\"s\"");
    let times: Vec<u64> = text
        .lines()
        .filter(idle)
        .filter_map(|line| line.split_once("} ")?.1.strip_prefix("1 ")?.split(' ').next()?.parse().ok())
        .collect();
    let first = NOON / 1_000_000_000 + 1;
    assert_eq!(times, (first..first + times.len() as u64).collect::<Vec<_>>(), "every second, without a gap");
    assert!((300..=301).contains(&times.len()), "five minutes: {}", times.len());
}

/// What traces must come to, by no line of the library: how many there are, their spans, how long their roots took, and how
/// many errors begin.
fn whole(records: &[Record]) -> [f64; 4] {
    let mut traces: std::collections::BTreeMap<Vec<u8>, Vec<Span>> = std::collections::BTreeMap::new();
    for record in records {
        let request = ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request");
        let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        spans.for_each(|span| traces.entry(span.trace_id.clone()).or_default().push(span));
    }
    let (mut root_ns, mut origins) = (0, 0);
    for spans in traces.values() {
        // The load has traces without their root, which have no critical path.
        let roots = spans.iter().filter(|span| span.parent_span_id.is_empty());
        let root = roots.min_by_key(|span| (span.start_time_unix_nano, std::cmp::Reverse(span.end_time_unix_nano)));
        root_ns += root.map_or(0, |root| root.end_time_unix_nano - root.start_time_unix_nano);
        let failed = |span: &&Span| span.status.as_ref().is_some_and(|status| status.code == 2);
        let hands_on = |span: &Span| spans.iter().filter(failed).any(|child| child.parent_span_id == span.span_id);
        origins += spans.iter().filter(failed).filter(|span| !hands_on(span)).count();
    }
    let spans: usize = traces.values().map(Vec::len).sum();
    [traces.len() as f64, spans as f64, root_ns as f64 / 1e9, origins as f64]
}

#[test]
fn a_replay_of_files_sends_the_metrics_of_whole_traces() {
    let scene = Scene::new();
    let (records, _) = load(4_000);
    let [traces, spans, seconds, origins] = whole(&records);
    assert!(traces > 100.0 && origins > 0.0, "{traces} {origins}");
    scene.write("spans.json", &lines(&records));
    scene.write("traces.yaml", b"traces: {duration: true, critical_path: true, errors: true}\n");
    let (code, summary) = scene.replay("--files spans.json --config traces.yaml");
    assert_eq!(code, Some(0), "{summary}");
    let found = scene.receiver.snapshot();
    let total = |metric: &str| {
        let all = found.iter().filter(|(series, _)| series.contains(metric));
        all.map(|(_, state)| state.last_value).sum::<f64>()
    };
    assert_eq!((total("traces_trace_duration_seconds_count"), total("traces_error_origin_total")), (traces, origins));
    assert_eq!((total("traces_trace_spans_count"), total("traces_trace_spans_sum")), (traces, spans));
    let path = total("traces_critical_path_seconds_total");
    assert!((path - seconds).abs() < 1e-6, "{path} {seconds}: a float per series");
}
