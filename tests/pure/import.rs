//! `spanmill import`: what the settings of Tempo and of the Collector become, and that nothing of them is passed over.
//!
//! Where the tables of `config/MIGRATION.md` differ from the code, a test writes them again and names the file.

#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]

use std::path::Path;

use spanmill::config::settings::{Auth, Secret, Start, TenantSource};
use spanmill::config::{Loaded, Sources, load};
use spanmill::core::settings::{Dimension, Encoding, HistogramMode, LatencyUnit, PolicyValue, Profile, SanitizeMode};
use spanmill::tools::import::{Fate, Finding, Imported, Input, Product, Request, document_tables, import};

mod reports;

const DOCUMENT: &str = include_str!("../../config/MIGRATION.md");
/// What must never come out again.
const SECRET: &str = "hunter2";

const TEMPO: &str = include_str!("../import/tempo.yaml");
const TEMPO_OVERRIDES: &str = include_str!("../import/tempo-overrides.yaml");
const LEGACY: &str = include_str!("../import/tempo-legacy.yaml");
const LEGACY_OVERRIDES: &str = include_str!("../import/tempo-legacy-overrides.yaml");
const SMALL: &str = include_str!("../import/tempo-small.yaml");
const COLLECTOR: &str = include_str!("../import/collector.yaml");
const NEW_NAMES: &str = include_str!("../import/collector-new.yaml");
const EDGES: &str = include_str!("../import/collector-edges.yaml");
const VALID_AND_NOT: &str = include_str!("../import/collector-valid-and-not.yaml");

fn request<'a>(text: &'a str, overrides: Option<&'a str>) -> Request<'a> {
    Request {
        file: Input { name: "in.yaml", text },
        overrides: overrides.map(|text| Input { name: "tenants.yaml", text }),
        kind: None,
        overrides_path: Some("overrides.yaml"),
    }
}

fn imported(text: &str, overrides: Option<&str>) -> Imported {
    import(&request(text, overrides)).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Loads what came out, with every file that it names in place.
fn loaded(imported: &Imported) -> Loaded {
    let overrides = imported.overrides.clone().unwrap_or_default();
    let read_file =
        |path: &Path| Ok(if path == Path::new("overrides.yaml") { overrides.clone() } else { "kept\n".to_owned() });
    let sources = Sources { file: Some(("out.yaml", &imported.config)), env: &[], set: &[], read_file: &read_file };
    load(&sources).unwrap_or_else(|problems| panic!("{problems}\n{}\n{overrides}", imported.config))
}

fn run(text: &str, overrides: Option<&str>) -> (Imported, Loaded) {
    let imported = imported(text, overrides);
    let loaded = loaded(&imported);
    (imported, loaded)
}

fn found<'a>(imported: &'a Imported, key: &str) -> &'a Finding {
    let found = imported.list.iter().find(|finding| finding.key == key);
    found.unwrap_or_else(|| panic!("{key} is not in the list:\n{}", imported.render_list(false)))
}

fn dimensions(dimensions: &[Dimension]) -> Vec<(&str, Option<&str>)> {
    dimensions.iter().map(|dimension| (dimension.name.as_str(), dimension.default.as_deref())).collect()
}

#[test]
fn the_settings_of_tempo_become_ours() {
    let (_, loaded) = run(TEMPO, Some(TEMPO_OVERRIDES));
    let config = loaded.config;
    assert_eq!(config.kafka.brokers, "kafka-1:9092");
    assert_eq!(config.kafka.topics, ["tempo-ingest"]);
    assert_eq!(config.kafka.group, "generators-spanmill");
    let property = |name: &str| config.kafka.properties.get(name).map(|value| value.reveal().to_owned());
    assert_eq!(property("security.protocol").as_deref(), Some("SASL_SSL"));
    assert_eq!(property("sasl.mechanism").as_deref(), Some("SCRAM-SHA-512"));
    assert_eq!(property("sasl.password").as_deref(), Some("kept"));
    assert_eq!(config.tenant, TenantSource::Key);
    assert_eq!(config.core.time.step.ms(), 30_000);
    let spans = &config.core.span_metrics;
    assert_eq!(dimensions(&spans.dimensions), [("http.method", None)]);
    assert_eq!(spans.bounds_ns, [10_000_000, 100_000_000, 1_000_000_000]);
    assert!(!spans.intrinsic.span_kind && spans.intrinsic.status_message && spans.intrinsic.service);
    assert_eq!(spans.dimension_mappings[0].source_labels, ["service.namespace", "service.name"]);
    assert!(spans.target_info && spans.tracestate_multiplier && spans.enabled && spans.size);
    let policy = spans.filter_policies[0].include.as_ref().expect("the first includes");
    assert_eq!(policy.attributes[1].value, PolicyValue::Int(200));
    assert_eq!(policy.attributes[2].value, PolicyValue::Text("0123".to_owned()), "what stood in quotes is text");
    let edges = &config.core.service_graphs;
    assert_eq!((edges.wait, edges.max_items, edges.client_server_prefix), (20_000, 50_000, true));
    assert_eq!(edges.bounds_ns, [100_000_000, 800_000_000, 3_200_000_000], "sorted, as Tempo sorts them");
    assert_eq!(edges.database_name_attributes, ["db.namespace", "db.name"]);
    assert_eq!((config.core.histograms.mode, config.core.histograms.native_max_buckets), (HistogramMode::Both, 80));
    assert_eq!(config.core.span_names.mode, SanitizeMode::Enabled);
    assert_eq!(config.core.limits.max_active_series, 60_000);
    assert_eq!((config.core.series.stale_after, config.core.series.forget_after), (7_200_000, 7_200_000));
    assert_eq!(config.core.series.tenant_label, "tenant");
    assert_eq!(config.core.series.external_labels.keys().collect::<Vec<_>>(), ["cluster"]);
    assert_eq!(config.remote_write.url, "https://mimir.example.com/api/v1/push");
    assert!(matches!(&config.remote_write.auth, Auth::Basic { username, .. } if username == "tempo"));
    assert_eq!((config.remote_write.timeout, config.remote_write.max_samples), (10_000, 1_000));
}

#[test]
fn a_tenant_of_tempo_replaces_the_defaults_and_ours_says_what_that_means() {
    let (imported, loaded) = run(TEMPO, Some(TEMPO_OVERRIDES));
    let of = |tenant: &str| loaded.tenants.of(tenant);
    for tenant in ["nothing", "headers-only"] {
        let config = of(tenant);
        assert!(
            !config.core.span_metrics.enabled && !config.core.service_graphs.enabled,
            "{tenant} has no processors in Tempo"
        );
    }
    let headers = &of("headers-only").remote_write;
    assert_eq!(headers.headers.get("X-Scope-OrgID").map(Secret::reveal), Some("somebody-else"));
    assert_eq!(headers.tenant_header, "", "one header names the tenant");
    let parts = of("parts");
    assert!(parts.core.span_metrics.calls && parts.core.span_metrics.latency && !parts.core.span_metrics.size);
    assert!(
        parts.core.service_graphs.connection_info
            && !parts.core.service_graphs.requests
            && !parts.core.service_graphs.latency
    );
    assert!(parts.core.service_graphs.client_server_prefix, "an override does not switch it off in Tempo");
    assert!(parts.core.service_graphs.dimensions.is_empty(), "an empty list replaces");
    assert!(parts.core.host_info.enabled && !parts.core.series.write && parts.core.span_metrics.intrinsic.span_kind);
    assert_eq!((parts.core.limits.max_active_series, parts.core.series.interval), (100, 60_000));
    assert_eq!(parts.core.span_metrics.bounds_ns.len(), 3, "the buckets of the file are kept");
    assert_eq!(parts.core.histograms.mode, HistogramMode::Classic, "the mode does not fall back to the defaults");
    assert_eq!(parts.core.histograms.native_max_buckets, 80, "this one does");
    assert_eq!(parts.core.span_names.mode, SanitizeMode::Enabled, "and this one");
    let legacy = of("legacy");
    assert!(
        !legacy.core.span_metrics.enabled
            && legacy.core.service_graphs.enabled
            && !legacy.core.span_metrics.target_info
    );
    assert_eq!(legacy.core.service_graphs.bounds_ns, [1_000_000_000, 2_000_000_000]);
    assert!(!legacy.core.span_metrics.intrinsic.service && !legacy.core.span_metrics.intrinsic.span_kind);
    assert_eq!((legacy.core.limits.max_active_series, legacy.core.limits.max_cardinality_per_label), (0, 50));
    let odd = found(&imported, "overrides.odd: collection_interval");
    assert_eq!((odd.fate, odd.line), (Fate::Refused, 23), "20 s are no multiple of 30 s");
}

#[test]
fn the_entry_for_everybody_stands_before_the_defaults() {
    let (imported, loaded) = run(LEGACY, Some(LEGACY_OVERRIDES));
    let config = &loaded.config;
    assert!(config.core.span_metrics.size && !config.core.span_metrics.calls && !config.core.span_metrics.latency);
    assert!(config.core.service_graphs.enabled && config.core.span_metrics.dimensions.is_empty());
    assert_eq!(config.core.histograms.native_max_buckets, 60, "falls back to the defaults");
    assert_eq!(config.core.time.step.ms(), 10_000);
    assert!(matches!(config.remote_write.auth, Auth::Bearer(_)));
    let one = loaded.tenants.of("one");
    assert!(one.core.span_metrics.calls && one.core.span_metrics.latency && !one.core.service_graphs.enabled);
    assert_eq!(found(&imported, "overrides.metrics_generator_processors").fate, Fate::Ignored);
    let url = found(&imported, "metrics_generator.storage.remote_write[0].url");
    assert_eq!(url.fate, Fate::Refused, "a variable is the other program's");
    assert!(imported.config.contains("# url: ${REMOTE_WRITE_URL}"), "{}", imported.config);
}

#[test]
fn a_small_file_gives_a_small_configuration_and_names_the_defaults_that_matter() {
    let (imported, loaded) = run(SMALL, None);
    assert!(loaded.config.core.span_metrics.enabled && loaded.config.core.service_graphs.enabled);
    let role = "arn:aws:iam::123456789012:role/metrics";
    assert!(matches!(&loaded.config.remote_write.auth,
        Auth::SigV4 { region, role_arn, .. } if region == "eu-central-1" && role_arn.as_deref() == Some(role)));
    assert_eq!(imported.config.lines().count(), 9, "only what differs:\n{}", imported.config);
    for (key, fate) in [("metrics_generator.codec", Fate::Better), ("metrics_generator.processors", Fate::Different)] {
        let found = found(&imported, key);
        assert_eq!((found.fate, found.line), (fate, 0), "{key}");
    }
}

#[test]
fn the_settings_of_the_collector_become_ours() {
    let (imported, loaded) = run(COLLECTOR, None);
    let config = loaded.config;
    assert_eq!((config.kafka.brokers.as_str(), config.kafka.start), ("kafka-1:9092,kafka-2:9092", Start::Earliest));
    assert_eq!(config.kafka.topics, ["otlp_traces"]);
    assert_eq!((config.core.naming.profile, config.core.naming.unit), (Profile::Otel, LatencyUnit::Seconds));
    assert_eq!(config.core.naming.namespace, "eu.shop", "the exporter's namespace, then the connector's");
    assert_eq!(config.core.time.step.ms(), 30_000);
    let spans = &config.core.span_metrics;
    assert_eq!(dimensions(&spans.dimensions), [("http.method", Some("GET")), ("http.status_code", None)]);
    assert_eq!(dimensions(&spans.calls_dimensions), [("user.tier", None)]);
    assert_eq!(dimensions(&spans.latency_dimensions), [("region", None)]);
    assert_eq!(dimensions(&spans.event_dimensions), [("exception.type", None)]);
    assert_eq!(spans.bounds_ns, [100_000_000, 250_000_000, 1_400_000_000]);
    assert_eq!(spans.scopes, ["express"]);
    assert!(spans.events && !spans.size && !spans.intrinsic.status_code && spans.intrinsic.service);
    assert!(spans.target_info && !spans.instance_label && spans.tracestate_multiplier);
    assert_eq!(
        config.core.limits.max_active_series_per_service, 800,
        "100 times calls, events, 3 bounds, +Inf, sum, count"
    );
    assert!(config.core.series.exemplars && config.core.series.exemplars_on_counters);
    assert_eq!(config.core.series.exemplar_label, "trace_id");
    assert_eq!(config.core.series.stale_after, 600_000, "series_expiration is the sharper one");
    let edges = &config.core.service_graphs;
    assert_eq!(dimensions(&edges.dimensions), [("db.system", None), ("messaging.system", None)]);
    assert_eq!((edges.wait, edges.max_items), (5_000, 5_000));
    assert!(edges.client_server_prefix && edges.virtual_node_label);
    assert_eq!(edges.peer_attributes, ["peer.service"]);
    assert_eq!(edges.database_name_attributes, ["db.name"], "its default is not ours");
    assert_eq!(config.remote_write.tenant_header, "");
    assert!(matches!(&config.remote_write.auth, Auth::Basic { username, .. } if username == "shop"));
    assert_eq!((config.remote_write.min_backoff, config.remote_write.max_backoff), (200, 20_000));
    for (key, fate) in [
        ("connectors.spanmetrics/second", Fate::Refused),
        ("connectors.spanmetrics/first.histogramm", Fate::Unknown),
        ("connectors.spanmetrics/first.dimensions[2].glob", Fate::Refused),
        ("connectors.servicegraph.metrics_flush_interval", Fate::Different),
        ("connectors.servicegraph.metrics_timestamp_offset", Fate::Different),
        ("processors.filter/health.traces.span[0]", Fate::Better),
        ("extensions.basicauth/mimir.client_auth.password", Fate::Refused),
    ] {
        assert_eq!(found(&imported, key).fate, fate, "{key}");
    }
}

#[test]
fn both_generations_of_names_and_the_defaults_of_the_collector_are_known() {
    let (imported, loaded) = run(NEW_NAMES, None);
    let config = loaded.config;
    assert_eq!(config.kafka.topics, ["spans-a", "spans-b"]);
    assert_eq!((config.kafka.start, config.core.time.step.ms()), (Start::Latest, 60_000));
    assert_eq!(config.core.histograms.mode, HistogramMode::Both, "one connector is exponential, the other explicit");
    assert_eq!(config.core.histograms.native_max_buckets, 120);
    assert_eq!((config.core.span_metrics.bounds_ns.len(), config.core.service_graphs.bounds_ns.len()), (16, 16));
    assert!(!config.core.series.exemplars);
    assert_eq!(config.remote_write.url, "http://prometheus:9090/api/v1/write");
    assert!(matches!(&config.remote_write.auth, Auth::Basic { username, .. } if username == "user"));
    assert!(imported.config.contains("# brokers: ${env:BROKERS}"), "{}", imported.config);
    let (_, loaded) = run(EDGES, None);
    assert!(!loaded.config.core.span_metrics.enabled && loaded.config.core.service_graphs.enabled);
    assert_eq!(loaded.config.core.histograms.mode, HistogramMode::Native);
    assert!(matches!(loaded.config.remote_write.auth, Auth::SigV4 { .. }));
}

#[test]
fn the_client_of_a_token_endpoint_is_imported_without_its_secret() {
    let tempo = "metrics_generator:
  storage:
    remote_write:
      - url: https://metrics.example.com/api/v1/write
        oauth2:
          client_id: mill
          client_secret: hunter2
          token_url: https://login.example.com/token
          scopes: [write, read]
          endpoint_params: {audience: metrics}
          tls_config: {insecure_skip_verify: true}
";
    let collector = "connectors: {spanmetrics: {}}
exporters:
  prometheusremotewrite: {endpoint: 'https://metrics.example.com/api/v1/write', auth: {authenticator: oauth2client/x}}
extensions:
  oauth2client/x:
    client_id: mill
    client_secret: hunter2
    token_url: https://login.example.com/token
    scopes: [write, read]
    endpoint_params: {audience: [metrics]}
    tls: {insecure_skip_verify: true}
service:
  extensions: [oauth2client/x]
  pipelines:
    metrics: {receivers: [spanmetrics], exporters: [prometheusremotewrite]}
";
    for text in [tempo, collector] {
        let (imported, loaded) = run(text, None);
        assert!(!imported.config.contains("hunter2"), "{}", imported.config);
        let Auth::OAuth2(endpoint) = &loaded.config.remote_write.auth else { panic!("{}", imported.config) };
        assert_eq!((endpoint.client_id.as_str(), endpoint.scope.as_str()), ("mill", "write read"));
        assert_eq!(endpoint.url, "https://login.example.com/token");
        assert_eq!(endpoint.params, [("audience".to_owned(), "metrics".to_owned())]);
        assert!(endpoint.client_secret.file().is_some() && endpoint.tls.insecure_skip_verify);
    }
}

#[test]
fn no_line_of_an_input_is_passed_over() {
    for (name, text, overrides) in samples() {
        let imported = imported(text, overrides);
        for (file, text) in [("in.yaml", Some(text)), ("tenants.yaml", overrides)] {
            for (i, line) in text.unwrap_or_default().lines().enumerate() {
                // A key with a value on its line is a key of its own, or lies in a value that has a line in the list.
                let key = line.trim_start().trim_start_matches("- ");
                let leaf = key.split_once(": ").is_some_and(|(key, _)| !key.starts_with('#'));
                let listed = imported.list.iter().any(|found| found.file == file && found.line == i + 1);
                assert!(
                    !leaf || listed || inside(&imported, file, text.unwrap_or_default(), i),
                    "{name}:{} {line}",
                    i + 1
                );
            }
        }
    }
}

/// Whether line `i` is indented below a line that has its own place in the list.
fn inside(imported: &Imported, file: &str, text: &str, i: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut depth = indent(lines[i]);
    for above in (0..i).rev() {
        let other = indent(lines[above]);
        let item = lines[above].trim_start().starts_with('-') && other < depth;
        if other < depth || item {
            depth = other;
            if imported.list.iter().any(|found| found.file == file && found.line == above + 1) {
                return true;
            }
        }
    }
    false
}

#[test]
fn no_secret_of_an_input_comes_out() {
    for (name, text, overrides) in samples() {
        let imported = imported(text, overrides);
        let out = format!("{}{}{:?}", imported.config, imported.render_list(false), imported.overrides);
        assert!(!out.contains(SECRET), "{name} prints a secret:\n{out}");
    }
}

fn samples() -> Vec<(&'static str, &'static str, Option<&'static str>)> {
    vec![
        ("tempo", TEMPO, Some(TEMPO_OVERRIDES)),
        ("tempo-legacy", LEGACY, Some(LEGACY_OVERRIDES)),
        ("tempo-small", SMALL, None),
        ("collector", COLLECTOR, None),
        ("collector-new", NEW_NAMES, None),
        ("collector-edges", EDGES, None),
    ]
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_place() {
    let wrong = |text: &str| import(&request(text, None)).expect_err(text).join("\n");
    assert!(wrong("a: 1\n").contains("neither a configuration of Tempo"));
    assert!(wrong("connectors: {x: {}}\n").contains("neither a connector span_metrics nor service_graph"));
    let tag = wrong("metrics_generator: !reference {}\n");
    assert!(tag.starts_with("in.yaml:1:") && tag.contains("tags are not supported"), "{tag}");
    let alloy = wrong("// spans\notelcol.connector.spanmetrics \"default\" {\n}\n");
    assert!(alloy.starts_with("in.yaml:2: ") && alloy.contains("Alloy"), "{alloy}");
    let laughs: String =
        (1..9).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "))).collect();
    assert!(wrong(&format!("a0: &a0 x\n{laughs}")).contains("aliases expand to too much"));
    let several = "a: {connectors: {spanmetrics: {}}}\nb: {metrics_generator: {codec: otlp}}\n";
    assert!(wrong(several).contains("several configurations, at a and at b"));
    assert!(wrong("metrics_generator: {codec: otlp, codec: otlp}\n").contains("codec appears twice, first on line 1"));
    let forced = Request { kind: Some(Product::Tempo), ..request("a: 1\n", None) };
    assert_eq!(found(&import(&forced).expect("forced"), "a").fate, Fate::Unknown);
}

#[test]
fn a_value_that_spanmill_does_not_take_stands_as_a_comment_and_is_refused() {
    let text = "metrics_generator:\n  processor: {span_metrics: {histogram_buckets: [0]}}\n";
    let (imported, loaded) = run(text, None);
    assert_eq!(loaded.config.core.span_metrics.bounds_ns.len(), 14);
    let found = found(&imported, "metrics_generator.processor.span_metrics.histogram_buckets");
    assert_eq!(found.fate, Fate::Refused, "{found}");
    assert!(imported.config.contains("# histogram_buckets: [0]"), "{}", imported.config);
}

#[test]
fn one_wrong_entry_costs_only_itself() {
    let text = "metrics_generator:\n  processor:\n    \
         span_metrics: {histogram_buckets: [0, 1, 2], dimensions: [a.b, c, a_b, \"${X}\", a.b]}\n    \
         service_graphs: {dimensions: [client, region, region, server]}\n";
    let (imported, loaded) = run(text, None);
    assert_eq!(loaded.config.core.span_metrics.bounds_ns, [1_000_000_000, 2_000_000_000]);
    assert_eq!(dimensions(&loaded.config.core.span_metrics.dimensions), [("a.b", None), ("c", None)]);
    assert_eq!(dimensions(&loaded.config.core.service_graphs.dimensions), [("region", None)]);
    let of = "metrics_generator.processor";
    for (key, line, fate) in [
        ("span_metrics.histogram_buckets: 0", 3, Fate::Refused),
        ("span_metrics.dimensions: a_b", 3, Fate::Refused),
        ("span_metrics.dimensions[3]", 3, Fate::Refused),
        ("span_metrics.dimensions: a.b", 3, Fate::Ignored),
        ("service_graphs.dimensions: client", 4, Fate::Refused),
        ("service_graphs.dimensions: region", 4, Fate::Ignored),
    ] {
        let found = found(&imported, &format!("{of}.{key}"));
        assert_eq!((found.fate, found.line), (fate, line), "{found}");
    }
    assert!(
        imported.config.contains("dimensions: [region]  # ") && imported.config.contains("skipped: client, server")
    );
}

#[test]
fn what_needs_a_decision_stands_first_and_in_color_on_a_terminal() {
    let (imported, _) = run(COLLECTOR, None);
    let list = imported.render_list(false);
    let fates = ["unsupported", "changed", "unknown", "improved", "ignored", "same"];
    let place = |line: &str| fates.iter().position(|fate| line.contains(&format!(": {fate}"))).expect(line);
    let places: Vec<usize> = list.lines().take(imported.list.len()).map(place).collect();
    assert!(places.is_sorted() && places.first() == Some(&0), "{list}");
    assert!(!list.contains('\x1b'));
    let colored = imported.render_list(true);
    assert!(colored.starts_with("\x1b[31m") && colored.contains("\x1b[33m"), "{colored}");
}

#[test]
fn no_key_of_a_file_gives_orders_to_a_terminal() {
    let (imported, _) = run("connectors: {spanmetrics: {\"evil\\e]0;x\\a\": 1}}\n", None);
    let list = imported.render_list(false);
    assert!(list.contains("evil\\u001b]0;x\\u0007") && !list.contains('\x1b'), "{list}");
}

#[test]
fn what_the_connector_itself_does_not_start_with_is_refused_with_a_reason() {
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in VALID_AND_NOT.lines() {
        match line.strip_suffix(':').filter(|name| name.starts_with("spanmetrics/")) {
            Some(name) => entries.push((name.to_owned(), String::new())),
            None => {
                if let Some((_, body)) = entries.last_mut() {
                    body.push_str(&format!("    {line}\n"));
                }
            }
        }
    }
    assert!(entries.len() > 10, "{entries:?}");
    for (name, body) in entries {
        let (imported, _) = run(&format!("connectors:\n  {name}:\n{body}"), None);
        let refused = imported.list.iter().find(|found| found.line > 0 && found.fate == Fate::Refused);
        assert_eq!(refused.is_some(), name.contains("/refused_"), "{name}: {refused:?}");
        assert!(refused.is_none_or(|found| !found.why.is_empty()), "{name}");
        assert!(imported.list.iter().all(|found| found.fate != Fate::Unknown), "{name}");
    }
}

#[cfg(all(feature = "kafka", feature = "http", feature = "replay"))]
#[test]
fn the_command_writes_what_it_is_told_and_ends_with_64_only_if_it_cannot_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("tempo.yaml"), TEMPO).expect("written");
    std::fs::write(path("tenants.yaml"), TEMPO_OVERRIDES).expect("written");
    let spanmill = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_spanmill"))
            .arg("import")
            .args(args)
            .output()
            .expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (tempo, tenants, out, over) = (path("tempo.yaml"), path("tenants.yaml"), path("out.yaml"), path("over.yaml"));
    let (new, nowhere, link) = (path("new.yaml"), path("no/where.yaml"), path("link.yaml"));
    std::os::unix::fs::symlink(&out, &link).expect("linked");
    let (code, config, list) = spanmill(&[&tempo, "--overrides-file", &tenants]);
    assert_eq!(code, Some(0), "something is unsupported, and the list says so: {list}");
    assert!(
        config.contains("wait: 20s") && config.contains("# tenants:") && list.contains(": unsupported ("),
        "{config}"
    );
    let files = ["--overrides-file", &tenants, "--output", &out, "--overrides-output", &over];
    let (code, list, nothing) = spanmill(&[&[tempo.as_str()][..], &files].concat());
    assert_eq!((code, nothing.as_str()), (Some(0), ""));
    assert!(list.contains("96 keys: "), "{list}");
    let written = |path: &str| std::fs::read_to_string(path).expect("written");
    assert!(written(&over).contains("  parts:\n") && written(&out).contains("file: "), "{}", written(&out));
    assert_eq!(spanmill(&[&path("nowhere.yaml")]).0, Some(64));
    for (args, why) in [
        (vec!["--output", &out], "exists already"),
        (vec!["--output", &out, "--overrides-output", &over], "exists already"),
        (vec!["--output", &new, "--overrides-output", &new], "need different files"),
        (vec!["--output", &out, "--overrides-output", &out, "--force"], "need different files"),
        (vec!["--output", &link, "--overrides-output", &out, "--force"], "need different files"),
        (vec!["--output", &tempo, "--force"], "is an input file, so it is not overwritten"),
        (vec!["--output", &new, "--overrides-output", &nowhere], "cannot be written"),
    ] {
        let before = (written(&out), written(&tempo));
        let (code, _, said) = spanmill(&[&[tempo.as_str(), "--overrides-file", &tenants][..], &args].concat());
        assert!(code == Some(64) && said.contains(why), "{args:?}: {said}");
        assert_eq!((written(&out), written(&tempo)), before, "{args:?}");
        assert!(!Path::new(&new).exists(), "{args:?} leaves a file behind");
    }
    let (code, ..) = spanmill(&[&tempo, "--output", &link, "--force"]);
    assert_eq!(code, Some(0), "through a link as well");
    let (code, _, said) = spanmill(&[&tenants, "--from", "collector"]);
    assert!(code == Some(64) && said.contains("has neither a connector"), "{said}");
}

#[test]
fn a_filter_counts_for_the_connectors_that_it_stands_before() {
    let file = |pipelines: &str| {
        format!(
            "processors: {{filter/x: {{traces: {{span: ['name == \"a\"', 'attributes[\"n\"] > 1']}}}}, filter/late: {{metrics: {{}}}}}}\n\
             connectors: {{spanmetrics: {{}}, servicegraph: {{}}}}\nservice:\n  pipelines: {{{pipelines}}}\n"
        )
    };
    let both = "traces: {processors: [filter/x], exporters: [spanmetrics, servicegraph]}";
    let (imported, loaded) = run(&file(both), None);
    let counts = |loaded: &Loaded| {
        [&loaded.config.core.span_metrics.filter_policies, &loaded.config.core.service_graphs.filter_policies]
            .map(Vec::len)
    };
    assert_eq!(counts(&loaded), [1, 1]);
    let left = found(&imported, "processors.filter/x.traces.span[1]");
    assert!(left.fate == Fate::Refused && left.why.contains("`>` is not a comparison"), "{left}");
    let one = "a: {processors: [filter/x], exporters: [spanmetrics]}, b: {exporters: [servicegraph]}";
    assert_eq!(counts(&run(&file(one), None).1), [1, 0]);
    let part = "a: {processors: [filter/x], exporters: [spanmetrics, servicegraph]}, b: {exporters: [servicegraph]}";
    let (imported, loaded) = run(&file(part), None);
    assert_eq!(counts(&loaded), [1, 0]);
    assert_eq!(found(&imported, "processors.filter/x").fate, Fate::Refused, "edges have other ways in");
    let behind = "a: {exporters: [spanmetrics]}, m: {receivers: [spanmetrics], processors: [filter/x], exporters: []}";
    let (imported, loaded) = run(&file(behind), None);
    assert_eq!((counts(&loaded), found(&imported, "processors.filter/x").fate), ([0, 0], Fate::Refused));
}

/// The document with the tables of the code in it.
fn written() -> String {
    let mut out = DOCUMENT.to_owned();
    for (name, table) in document_tables() {
        let (begin, end) = (format!("<!-- table: {name} -->\n"), "<!-- end -->");
        let (before, rest) = out.split_once(&begin).unwrap_or_else(|| panic!("the document has no table {name}"));
        let (_, after) = rest.split_once(end).unwrap_or_else(|| panic!("the table {name} has no end"));
        out = format!("{before}{begin}\n{table}\n{end}{after}");
    }
    out
}

#[test]
fn the_tables_of_the_document_are_those_of_the_code() {
    let written = written();
    if DOCUMENT != written {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("MIGRATION.md");
        std::fs::write(&path, written).expect("the document can be written");
        panic!("config/MIGRATION.md is not what the code says; take {} in its place", path.display());
    }
}

#[test]
fn encodings_of_the_collector_and_codecs_of_tempo_become_ours() {
    let encoding = |text: &str| {
        let (imported, loaded) = run(text, None);
        let fate = imported.list.iter().find(|f| f.key.ends_with("encoding") || f.key.ends_with("codec"));
        (loaded.config.kafka.encoding, loaded.config.tenant, fate.expect("it is said").fate)
    };
    let single = || TenantSource::Static("single-tenant".to_owned());
    for (name, ours, fate) in [
        ("otlp_json", Encoding::OtlpJson, Fate::Same),
        ("jaeger_proto", Encoding::JaegerProto, Fate::Same),
        ("zipkin_json", Encoding::ZipkinJson, Fate::Better),
        ("jaeger_encoding", Encoding::Auto, Fate::Better),
        ("zipkin_thrift", Encoding::Auto, Fate::Refused),
    ] {
        let text =
            format!("connectors: {{spanmetrics: {{}}}}\nreceivers: {{kafka: {{traces: {{encoding: {name}}}}}}}\n");
        assert_eq!(encoding(&text), (ours, single(), fate), "{name}");
    }
    for (codec, ours, fate) in [
        ("codec: otlp", Encoding::OtlpProto, Fate::Same),
        ("codec: push-bytes", Encoding::TempoPushBytes, Fate::Same),
        ("ring_mode: x", Encoding::Auto, Fate::Better),
    ] {
        let text = format!("metrics_generator: {{{codec}}}\ningest: {{kafka: {{topic: tempo}}}}\n");
        assert_eq!(encoding(&text), (ours, TenantSource::Key, fate), "{codec}");
    }
}

#[test]
fn tokens_of_kafka_are_taken_over_from_a_file_from_amazon_and_by_the_name_of_the_mechanism() {
    let properties = |text: &str| {
        let (imported, loaded) = run(text, None);
        let all = loaded.config.kafka.properties.clone();
        let all: Vec<(String, String)> =
            all.into_iter().map(|(name, value)| (name, value.reveal().to_owned())).collect();
        (imported, loaded, all)
    };
    let tempo =
        |keys: &str| format!("ingest:\n  kafka:\n    address: k:9092\n    topic: t\n{keys}metrics_generator: {{}}\n");
    let file =
        "    sasl_mechanism: OAUTHBEARER\n    sasl_oauthbearer_file_path: /run/token.json\n    tls_enabled: true\n";
    let (imported, loaded, all) = properties(&tempo(file));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let url = "sasl.oauthbearer.token.endpoint.url";
    let expected = [
        pair("sasl.mechanism", "OAUTHBEARER"),
        pair(url, "file:///run/token.json"),
        pair("security.protocol", "SASL_SSL"),
    ];
    assert_eq!(all, expected);
    assert!(loaded.config.kafka.tokens().is_some());
    assert_eq!(found(&imported, "ingest.kafka.sasl_oauthbearer_file_path").fate, Fate::Different);

    let token = format!("    sasl_mechanism: OAUTHBEARER\n    sasl_oauthbearer_token: {SECRET}\n");
    let (imported, _, all) = properties(&tempo(&token));
    assert!(all.contains(&pair(url, "file:///etc/spanmill/kafka-token")), "{all:?}");
    assert!(all.contains(&pair("security.protocol", "SASL_PLAINTEXT")), "{all:?}");
    assert!(!imported.config.contains(SECRET));

    let iam = "    sasl_mechanism: AWS_MSK_IAM\n    sasl_msk_iam_access_key: A\n"
        .replace("    sasl_mechanism", "    client_id: c\n    sasl_mechanism");
    let msk = tempo(&iam).replace("k:9092", "b-1.x.y.c2.kafka.eu-west-1.amazonaws.com:9098");
    let (imported, loaded, all) = properties(&msk);
    assert!(all.contains(&pair("security.protocol", "SASL_SSL")), "{all:?}");
    assert!(loaded.config.kafka.tokens().is_some());
    assert_eq!(found(&imported, "ingest.kafka.sasl_msk_iam_access_key").fate, Fate::Refused);

    let collector = "receivers:
  kafka:
    brokers: [k:9092]
    auth: {sasl: {mechanism: AWS_MSK_IAM_OAUTHBEARER, aws_msk: {region: eu-west-1}}}
connectors: {spanmetrics: {}}
";
    let (_, loaded, all) = properties(collector);
    let expected = [
        pair("sasl.aws.region", "eu-west-1"),
        pair("sasl.mechanism", "AWS_MSK_IAM"),
        pair("security.protocol", "SASL_SSL"),
    ];
    assert_eq!(all, expected);
    assert!(loaded.config.kafka.tokens().is_some());
}

const SEVERAL: &str = r#"
metrics_generator:
  processor: {span_metrics: {}}
  storage:
    remote_write_add_org_id_header: false
    remote_write:
      - name: mimir
        url: https://mimir.example.com/api/v1/push
        basic_auth: {username: tempo, password: hunter2}
        write_relabel_configs:
          - {source_labels: [__name__], regex: .*_bucket, action: drop}
      - url: http://victoria:8428/api/v1/write
        remote_timeout: 5s
        headers: {X-Team: shop}
        bearer_token: hunter3
overrides:
  defaults: {metrics_generator: {processors: [span-metrics]}}
"#;

#[test]
fn a_list_of_receivers_becomes_a_list_and_a_tenants_headers_go_to_each() {
    let tenants = "overrides:\n  acme:\n    metrics_generator:\n      processors: [span-metrics]\n      \
                   remote_write_headers: {X-Scope-OrgID: other}\n  globex:\n    metrics_generator: {processors: [span-metrics]}\n";
    let (imported, loaded) = run(SEVERAL, Some(tenants));
    let shown = format!("{}---\n{}", imported.config, imported.overrides.clone().unwrap_or_default());
    let all: Vec<_> = loaded.config.endpoints().collect();
    let [mimir, second] = &all[..] else { panic!("{shown}") };
    assert_eq!((mimir.id(), second.id()), ("mimir".to_owned(), "receiver-2".to_owned()), "{shown}");
    assert!(matches!(&mimir.auth, Auth::Basic { username, .. } if username == "tempo"), "{shown}");
    assert!(matches!(&second.auth, Auth::Bearer(_)), "{shown}");
    assert!(shown.contains("remote-write-token-2") && !shown.contains("hunter"), "{shown}");
    assert_eq!((mimir.write_relabel_configs.len(), second.write_relabel_configs.len()), (1, 0));
    assert_eq!((mimir.timeout, second.timeout), (30_000, 5_000), "{shown}");
    assert!(all.iter().all(|one| one.tenant_header.is_empty()), "{shown}");
    let acme: Vec<_> = loaded.tenants.of("acme").endpoints().collect();
    assert_eq!(acme.iter().map(|one| &one.url).collect::<Vec<_>>(), [&mimir.url, &second.url], "{shown}");
    assert!(acme.iter().all(|one| one.headers.get("X-Scope-OrgID").map(Secret::reveal) == Some("other")), "{shown}");
    assert_eq!((acme[0].headers.len(), acme[1].headers.len()), (1, 2), "{shown}");
    assert_eq!(loaded.tenants.of("globex").endpoints().collect::<Vec<_>>(), all, "{shown}");
    assert_eq!(found(&imported, "metrics_generator.storage.remote_write[1]").fate, Fate::Better);
}
