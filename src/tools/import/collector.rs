//! The Collector: which of its components count, and how its keys are converted.

use super::Fate;
use super::derived;
use super::draft::YamlValue;
use super::filters;
use super::kafka::secure;
use super::otlp;
use super::specials::{auth_type, ends_after};
use super::table::{At, Table};
use super::tables::{
    BASIC_AUTH, BEARER_AUTH, COMPONENTS, EXPORTER, OAUTH2_AUTH, RECEIVER, SCRAPED_EXPORTER, SERVICE_GRAPH, SIGV4_AUTH,
    SPAN_METRICS,
};
use super::tree::{Tree, TreeEntry, TreeValue as Theirs};
use super::values::{duration, flow, list, names, show_duration, whole};
use super::walk::{Fact, Importer};
use crate::config::show_text;

/// The pseudo-key of values that depend on other keys.
const CARDINALITY: &str = "@cardinality";
const PREFIX: &str = "@prefix";
const AUTH: &str = "@auth";

const SPAN_METRICS_TYPES: [&str; 2] = ["span_metrics", "spanmetrics"];
const SERVICE_GRAPH_TYPES: [&str; 2] = ["service_graph", "servicegraph"];
const EXPORTER_TYPES: [&str; 2] = ["prometheus_remote_write", "prometheusremotewrite"];
const SCRAPED_TYPE: &str = "prometheus";

/// The parts of the file that are imported.
struct Parts<'a> {
    spans: Option<&'a TreeEntry>,
    edges: Option<&'a TreeEntry>,
    exporter: Option<&'a TreeEntry>,
    /// The exporter that is scraped, if there is no other for the connectors' metrics.
    scraped: Option<&'a TreeEntry>,
    receiver: Option<&'a TreeEntry>,
    /// The exporters that send the connectors' metrics over OTLP.
    outputs: Vec<&'a TreeEntry>,
}

/// Reads the file.
pub(super) fn import(importer: &mut Importer, file: &Tree) -> Result<(), Vec<String>> {
    let exporters = file.get("exporters").map(Tree::entries).unwrap_or_default().iter();
    let over_otlp =
        |entry: &&TreeEntry| otlp::table_of(kind(&entry.name)).is_some() && takes_metrics(file, &entry.name);
    let outputs: Vec<&TreeEntry> = exporters.filter(over_otlp).collect();
    // It may be there for other metrics.
    let remote_write = first(file, "exporters", &EXPORTER_TYPES)
        .filter(|entry| outputs.is_empty() || takes_metrics(file, &entry.name));
    let parts = Parts {
        spans: first(file, "connectors", &SPAN_METRICS_TYPES),
        edges: first(file, "connectors", &SERVICE_GRAPH_TYPES),
        exporter: remote_write,
        scraped: first(file, "exporters", &[SCRAPED_TYPE]).filter(|_| remote_write.is_none() && outputs.is_empty()),
        receiver: first(file, "receivers", &["kafka"]),
        outputs,
    };
    let others = derived_of(file);
    if parts.spans.is_none() && parts.edges.is_none() && others.is_empty() {
        let name = &importer.file;
        return Err(vec![format!(
            "{name}: has neither a connector span_metrics nor service_graph; use the file that has one"
        )]);
    }
    facts(importer, &parts);
    connectors(importer, &parts);
    for (entry, table) in others {
        derived::read(importer, table, entry, parts.spans.is_some());
    }
    filters(importer, &parts, file);
    receiver(importer, &parts);
    exporter(importer, &parts, file);
    for section in file.entries() {
        for entry in section.tree.entries() {
            rest(importer, &parts, file, (&section.name, entry));
        }
        if section.tree.entries().is_empty()
            || COMPONENTS.row(&format!("{}.x", section.name)).is_none() && section.name != "service"
        {
            importer.walk(&COMPONENTS, &section.name, &section.name, section.line, &section.tree);
        }
    }
    Ok(())
}

/// The connectors that become attribute metrics.
fn derived_of(file: &Tree) -> Vec<(&TreeEntry, &'static Table)> {
    let entries = file.get("connectors").map(Tree::entries).unwrap_or_default();
    entries.iter().filter_map(|entry| Some((entry, derived::table_of(kind(&entry.name))?))).collect()
}

/// The type of a component, without its own name.
fn kind(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// The first component of a type that a pipeline uses, or else the first.
fn first<'a>(file: &'a Tree, section: &str, types: &[&str]) -> Option<&'a TreeEntry> {
    let entries = file.get(section)?.entries();
    let ours = || entries.iter().filter(|entry| types.contains(&kind(&entry.name)));
    let pipelines =
        file.get("service").and_then(|service| service.get("pipelines")).map(Tree::entries).unwrap_or_default();
    let used = |entry: &TreeEntry| {
        let lists = pipelines.iter().flat_map(|pipeline| pipeline.tree.entries());
        lists.flat_map(|list| list.tree.items()).any(|item| item.text() == Some(&entry.name))
    };
    ours().find(|entry| used(entry)).or_else(|| ours().next())
}

fn filters(importer: &mut Importer, parts: &Parts<'_>, file: &Tree) {
    let connectors = [parts.spans, parts.edges].map(|entry| entry.map(|entry| entry.name.as_str()));
    let processors = file.get("processors").map(Tree::entries).unwrap_or_default();
    for entry in processors.iter().filter(|entry| kind(&entry.name) == "filter") {
        filters::read(importer, file, entry, connectors);
    }
}

/// Whether an exporter receives the metrics of a connector for spans or edges.
fn takes_metrics(file: &Tree, exporter: &str) -> bool {
    let pipelines =
        file.get("service").and_then(|service| service.get("pipelines")).map(Tree::entries).unwrap_or_default();
    let lists = |pipeline: &Tree, list: &str, wanted: &dyn Fn(&str) -> bool| {
        pipeline.get(list).map(Tree::items).unwrap_or_default().iter().filter_map(Tree::text).any(wanted)
    };
    let ours = |name: &str| SPAN_METRICS_TYPES.contains(&kind(name)) || SERVICE_GRAPH_TYPES.contains(&kind(name));
    let mut pipelines = pipelines.iter().map(|entry| &entry.tree);
    pipelines.any(|pipeline| {
        lists(pipeline, "receivers", &ours) && lists(pipeline, "exporters", &|name: &str| name == exporter)
    })
}

fn at<'a>(entry: Option<&'a TreeEntry>, path: &[&str]) -> Option<&'a Tree> {
    path.iter().try_fold(&entry?.tree, |tree, name| tree.get(name))
}

fn facts(importer: &mut Importer, parts: &Parts<'_>) {
    // The presence of these two is enough.
    let spans_native = at(parts.spans, &["histogram", "exponential"]).is_some();
    let spans_explicit = at(parts.spans, &["histogram", "explicit"]).is_some();
    let size = at(parts.edges, &["exponential_histogram_max_size"]).and_then(Tree::text);
    let edges_native = size.is_some_and(|text| text != "0");
    let edges_explicit = at(parts.edges, &["latency_histogram_buckets"]).is_some_and(|tree| !tree.is_empty());
    let disabled = at(parts.spans, &["histogram", "disable"]).and_then(Tree::text) == Some("true");
    let delta = at(parts.spans, &["aggregation_temporality"]).and_then(Tree::text);
    let both = parts.spans.is_some() && parts.edges.is_some() && !disabled;
    for (fact, holds) in [
        (Fact::TwoFormsOfSpans, spans_native && spans_explicit),
        (Fact::TwoFormsOfEdges, edges_native && edges_explicit),
        (Fact::MixedForms, both && spans_native != edges_native),
        (Fact::Delta, delta == Some("AGGREGATION_TEMPORALITY_DELTA")),
    ] {
        if holds {
            importer.facts.insert(fact);
        }
    }
}

fn connectors(importer: &mut Importer, parts: &Parts<'_>) {
    let off = YamlValue::Flow("false".to_owned());
    for (entry, table, case, enabled) in [
        (parts.spans, &SPAN_METRICS, "(no span_metrics)", "span_metrics.enabled"),
        (parts.edges, &SERVICE_GRAPH, "(no service_graph)", "service_graphs.enabled"),
    ] {
        let Some(entry) = entry else {
            importer.case(&COMPONENTS, "connectors.*", case, "connectors", 0);
            let finding = importer.last();
            importer.draft.put(enabled, off.clone(), "no such connector", finding);
            continue;
        };
        component(importer, table, "connectors", entry);
    }
    for (entry, table) in [(parts.spans, &SPAN_METRICS), (parts.edges, &SERVICE_GRAPH)] {
        if entry.is_some() {
            importer.defaults(table);
        }
    }
    settle_namespace_and_limits(importer);
}

fn component(importer: &mut Importer, table: &'static Table, section: &str, entry: &TreeEntry) {
    let key = format!("{section}.{}", entry.name);
    if entry.tree.is_empty() {
        importer.find(&key, entry.line, "", Fate::Same, "");
    } else {
        importer.children(table, "", &key, &entry.tree);
    }
}

/// Settings that depend on several keys.
fn settle_namespace_and_limits(importer: &mut Importer) {
    let Some(set) = importer.draft.sets.iter().find(|set| set.path == CARDINALITY).cloned() else { return };
    importer.draft.remove(CARDINALITY);
    let text = |path: &str| importer.draft.text(path);
    let bounds = text("span_metrics.histogram_buckets").map_or(0, |list| list.split(',').count() as u64);
    let per = match (text("span_metrics.latency").as_deref(), text("histograms.mode").as_deref()) {
        (Some("false"), _) => 1,
        (_, Some("native")) => 2,
        (_, Some("both")) => bounds + 5,
        _ => bounds + 4,
    };
    let per = per + u64::from(text("span_metrics.events.enabled").as_deref() == Some("true"));
    let limit = set.value.flow().parse::<u64>().unwrap_or(0).saturating_mul(per);
    let ours = "limits.max_active_series_per_service";
    importer.draft.put(ours, YamlValue::Flow(limit.to_string()), &set.from, set.finding);
}

fn receiver(importer: &mut Importer, parts: &Parts<'_>) {
    let Some(entry) = parts.receiver else {
        importer.case(&RECEIVER, "(no receiver)", "(none)", "receivers.kafka", 0);
        return;
    };
    component(importer, &RECEIVER, "receivers", entry);
    importer.defaults(&RECEIVER);
    let tls = entry.tree.get("tls").or_else(|| at(parts.receiver, &["auth", "tls"]));
    let tls = tls.is_some_and(|tree| !matches!(tree.value, Theirs::Empty));
    secure(importer, tls);
}

fn exporter(importer: &mut Importer, parts: &Parts<'_>, file: &Tree) {
    if let Some(entry) = parts.scraped {
        component(importer, &SCRAPED_EXPORTER, "exporters", entry);
        importer.defaults(&SCRAPED_EXPORTER);
        prefix(importer, parts.spans.is_some());
    }
    let all: Vec<&TreeEntry> = parts.exporter.into_iter().chain(parts.outputs.iter().copied()).collect();
    if all.is_empty() {
        importer.case(&EXPORTER, "(no exporter)", "(none)", "exporters.prometheus_remote_write", 0);
        return;
    }
    let names: Vec<&str> = all.iter().map(|entry| entry.name.as_str()).collect();
    otlp::listed(importer, &names, |importer, i| {
        let Some(entry) = all.get(i) else { return };
        match otlp::table_of(kind(&entry.name)) {
            Some(table) => otlp::read(importer, entry, table),
            None => remote_write(importer, entry),
        }
        extension(importer, file);
        auth_type(importer);
    });
    prefix(importer, parts.spans.is_some());
}

/// Keys of HTTP may stand below `http`.
fn remote_write(importer: &mut Importer, entry: &TreeEntry) {
    let key = format!("exporters.{}", entry.name);
    if entry.tree.entries().is_empty() {
        importer.hollow(&key, entry.line, &entry.tree);
    }
    for inner in entry.tree.entries() {
        let inner_key = format!("{key}.{}", inner.name);
        if inner.name == "http" {
            importer.children(&EXPORTER, "", &inner_key, &inner.tree);
        } else {
            importer.walk(&EXPORTER, &inner.name, &inner_key, inner.line, &inner.tree);
        }
    }
    importer.defaults(&EXPORTER);
}

/// The exporter's namespace stands before the connector's.
fn prefix(importer: &mut Importer, spans: bool) {
    let Some(set) = importer.draft.sets.iter().find(|set| set.path == PREFIX).cloned() else { return };
    importer.draft.remove(PREFIX);
    if !spans || set.value.flow().is_empty() {
        return;
    }
    let name = importer.draft.text("naming.namespace").unwrap_or_else(|| "traces.span.metrics".to_owned());
    let parts: Vec<String> =
        [set.value.flow(), name].into_iter().filter(|part| !part.is_empty() && part != "\"\"").collect();
    importer.draft.put("naming.namespace", YamlValue::Flow(show_text(&parts.join("."))), &set.from, set.finding);
}

/// The extension that authenticates the exporter.
fn extension(importer: &mut Importer, file: &Tree) {
    let Some(set) = importer.draft.sets.iter().find(|set| set.path == AUTH).cloned() else { return };
    importer.draft.remove(AUTH);
    let name = set.value.flow();
    let entry = file.get("extensions").map(Tree::entries).unwrap_or_default().iter().find(|entry| entry.name == name);
    let (Some(entry), Some(table)) = (entry, authentication(&name)) else { return };
    component(importer, table, "extensions", entry);
    if kind(&name).starts_with("sigv4") {
        importer.draft.put("remote_write.auth.type", YamlValue::Flow("sigv4".to_owned()), &set.from, set.finding);
    }
}

fn authentication(name: &str) -> Option<&'static Table> {
    match kind(name) {
        "basicauth" | "basic_auth" => Some(&BASIC_AUTH),
        "bearertokenauth" | "bearer_token_auth" => Some(&BEARER_AUTH),
        "oauth2client" | "oauth2_client" => Some(&OAUTH2_AUTH),
        "sigv4auth" | "sigv4_auth" => Some(&SIGV4_AUTH),
        _ => None,
    }
}

/// A component that is not imported, or the second of its kind.
fn rest(importer: &mut Importer, parts: &Parts<'_>, file: &Tree, (section, entry): (&str, &TreeEntry)) {
    let key = format!("{section}.{}", entry.name);
    let taken = [parts.spans, parts.edges, parts.exporter, parts.receiver];
    let own = kind(&entry.name);
    let (types, table, path) = match section {
        "connectors" if SPAN_METRICS_TYPES.contains(&own) || SERVICE_GRAPH_TYPES.contains(&own) => {
            (true, &COMPONENTS, ("connectors.*", "(a second one)"))
        }
        "exporters" if EXPORTER_TYPES.contains(&own) => (true, &EXPORTER, ("(several receivers)", "(another)")),
        "receivers" if own == "kafka" => (true, &RECEIVER, ("(several receivers)", "(another)")),
        _ => (false, &COMPONENTS, ("", "")),
    };
    let found = importer
        .list
        .iter()
        .any(|finding| finding.key == key || finding.key.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.')));
    if types && !taken.iter().flatten().any(|part| std::ptr::eq(*part, entry)) {
        importer.case(table, path.0, path.1, &key, entry.line);
    } else if section == "exporters" && !found && own != "debug" && takes_metrics(file, &entry.name) {
        importer.case(&COMPONENTS, "exporters.*.**", "(of the connectors' metrics)", &key, entry.line);
    } else if !types
        && !found
        && ["receivers", "processors", "exporters", "connectors", "extensions", "service"].contains(&section)
    {
        importer.walk(&COMPONENTS, &format!("{section}.{own}"), &key, entry.line, &entry.tree);
    }
}

/// `dimensions` of span metrics: names, some with a default.
pub(super) fn dimensions(importer: &mut Importer, at: &At<'_>) {
    let mut items = Vec::new();
    if at.tree.list().is_none() {
        return;
    }
    importer.said(at);
    for (i, item) in at.tree.items().iter().enumerate() {
        let key = format!("{}[{i}]", at.key);
        if item.get("glob").is_some() {
            importer.case(&SPAN_METRICS, "dimensions", "(glob)", &format!("{key}.glob"), item.line);
            continue;
        }
        for entry in item.entries().iter().filter(|entry| entry.name != "name" && entry.name != "default") {
            let key = format!("{key}.{}", entry.name);
            importer.find(&key, entry.line, "", Fate::Unknown, "unknown key; check its spelling");
        }
        let name = item.get("name").or(Some(item)).and_then(Tree::text);
        match (name, item.get("default")) {
            (Some(name), None) => items.push(show_text(name)),
            (Some(name), Some(default)) => {
                items.push(format!("{{name: {}, default: {}}}", show_text(name), flow(default)));
            }
            (None, _) => importer.find(&key, item.line, "", Fate::Refused, "has no name"),
        }
    }
    importer.set(
        at.row.ours,
        if items.is_empty() { YamlValue::Flow("[]".to_owned()) } else { YamlValue::Items(items) },
        at,
    );
}

/// `exclude_dimensions`: built-in labels that are skipped.
pub(super) fn exclude(importer: &mut Importer, at: &At<'_>) {
    for (i, name) in names(at.tree).unwrap_or_default().iter().enumerate() {
        let key = format!("{}[{i}] {name}", at.key);
        let ours = match name.as_str() {
            "service.name" => "service",
            "span.name" => "span_name",
            "span.kind" => "span_kind",
            "status.code" | "otel.status_code" => "status_code",
            name => {
                let case = if name == "collector.instance.id" { name } else { "(another)" };
                importer.case(&SPAN_METRICS, "exclude_dimensions", case, &key, at.line);
                continue;
            }
        };
        let ours = format!("span_metrics.intrinsic_dimensions.{ours}");
        importer.find(&key, at.line, &ours, Fate::Same, "");
        importer.set(&ours, YamlValue::Flow("false".to_owned()), at);
    }
    if at.tree.is_empty() {
        importer.said(at);
    }
}

/// When a series, or all of a resource, ends.
pub(super) fn expiration(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text().map(duration) {
        Some(Ok(ns)) if ns < 0 => importer.said_case(at, "(negative)"),
        Some(Ok(0)) => importer.said_case(at, "(never)"),
        Some(Ok(ns)) => {
            importer.said(at);
            // That of a series is the sharper one.
            if at.row.path == "series_expiration" || importer.draft.get("series.stale_after").is_none() {
                ends_after(importer, at, ns);
            }
        }
        _ => importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not a duration"),
    }
}

/// How often the Collector sends.
pub(super) fn flush(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text().map(duration) {
        Some(Ok(ns)) if ns <= 0 => importer.said_case(at, "(negative)"),
        Some(Ok(ns)) => {
            let step = show_duration(ns);
            if importer.draft.text("time.step").is_some_and(|other| other != step) {
                importer.said_case(at, "(another step)");
            } else {
                importer.said(at);
                importer.set("time.step", YamlValue::Flow(step), at);
            }
        }
        _ => importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not a duration"),
    }
}

/// Exponential histograms of the default size: `exponential: {}`.
pub(super) fn exponential_as_it_is(importer: &mut Importer, at: &At<'_>) {
    const DEFAULT_SIZE: u64 = 160;
    native(importer, at, DEFAULT_SIZE);
}

/// Exponential histograms.
pub(super) fn exponential(importer: &mut Importer, at: &At<'_>) {
    let Some(Ok(size)) = at.tree.text().map(whole) else {
        let negative = at.tree.text().is_some_and(|text| text.starts_with('-'));
        if negative && at.row.path == "exponential_histogram_max_size" {
            importer.said_case(at, "(negative)");
        } else {
            importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not an integer above zero");
        }
        return;
    };
    native(importer, at, size);
}

fn native(importer: &mut Importer, at: &At<'_>, size: u64) {
    // Finer than 2^(2^-8), the exporter makes no native histogram.
    const FINEST: &str = "1.003";
    let table = at.table;
    let size_path = table.rows.iter().find(|row| row.when == "(beside explicit)").map_or(at.row.path, |row| row.path);
    let two = if std::ptr::eq(table, &SPAN_METRICS) { Fact::TwoFormsOfSpans } else { Fact::TwoFormsOfEdges };
    if importer.facts.contains(&two) {
        importer.case(table, size_path, "(beside explicit)", at.key, at.line);
        return;
    }
    let mixed = importer.facts.contains(&Fact::MixedForms);
    if mixed {
        importer.case(table, size_path, "(of one connector only)", at.key, at.line);
    } else {
        importer.said(at);
    }
    importer.set("histograms.mode", YamlValue::Flow(if mixed { "both" } else { "native" }.to_owned()), at);
    importer.set_if_free("histograms.native_max_buckets", &size.to_string(), at);
    importer.set_if_free("histograms.native_bucket_factor", FINEST, at);
}

/// The unit of durations.
pub(super) fn unit(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text() {
        Some(unit @ ("ms" | "s")) => {
            importer.said(at);
            importer.set(at.row.ours, YamlValue::Flow(unit.to_owned()), at);
        }
        _ => importer.said_case(at, "(another)"),
    }
}

/// The connector's namespace; it may be empty.
pub(super) fn namespace(importer: &mut Importer, at: &At<'_>) {
    let Some(name) = at.tree.text() else { return };
    importer.said(at);
    importer.set(at.row.ours, YamlValue::Flow(show_text(name)), at);
}

/// Which attributes identify resources.
pub(super) fn attributes(importer: &mut Importer, at: &At<'_>) {
    importer.said(at);
    let named = names(at.tree).unwrap_or_default();
    if !named.is_empty() && !named.iter().any(|name| name == "service.instance.id") {
        importer.set(at.row.ours, YamlValue::Flow("false".to_owned()), at);
    }
}

/// A limit of label sets; it becomes one of series once all is known.
pub(super) fn cardinality(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text().map(whole) {
        Some(Ok(limit)) => {
            importer.said(at);
            importer.set(CARDINALITY, YamlValue::Flow(limit.to_string()), at);
        }
        _ => importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not an integer"),
    }
}

/// `metric_timestamp_cache_size`: the Collector refuses none at all, for delta.
pub(super) fn timestamps(importer: &mut Importer, at: &At<'_>) {
    let none = at.tree.text().and_then(|text| whole(text).ok()).is_none_or(|size| size == 0);
    if none && importer.facts.contains(&Fact::Delta) {
        importer.said_case(at, "(not above zero)");
    } else {
        importer.said(at);
    }
}

/// Dimensions of edges: always of both sides.
pub(super) fn client_server(importer: &mut Importer, at: &At<'_>) {
    match names(at.tree) {
        Ok(named) => {
            importer.said(at);
            importer.set("service_graphs.dimensions", list(&named), at);
            importer.set("service_graphs.enable_client_server_prefix", YamlValue::Flow("true".to_owned()), at);
        }
        Err(why) => importer.find(at.key, at.line, at.row.ours, Fate::Refused, &why),
    }
}

/// Which extension authenticates.
pub(super) fn authenticator(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text() {
        Some(name) if authentication(name).is_some() => {
            importer.said(at);
            importer.set(AUTH, YamlValue::Flow(name.to_owned()), at);
        }
        _ => importer.said_case(at, "(another)"),
    }
}

/// The exporter's namespace.
pub(super) fn exporter_namespace(importer: &mut Importer, at: &At<'_>) {
    let Some(name) = at.tree.text() else { return };
    importer.said(at);
    importer.set(PREFIX, YamlValue::Flow(name.to_owned()), at);
}

/// `target_info`: it comes with the labels that join it.
pub(super) fn target_info(importer: &mut Importer, at: &At<'_>) {
    if at.tree.text() == Some("false") { importer.said_case(at, "(off)") } else { importer.said(at) }
}

/// Parameters of a token request: the Collector takes a list of values for each.
pub(super) fn params(importer: &mut Importer, at: &At<'_>) {
    if at.tree.entries().is_empty() {
        importer.said(at);
    }
    for entry in at.tree.entries() {
        let key = format!("{}.{}", at.key, entry.name);
        let one = At { key: &key, line: entry.line, tree: &entry.tree, ..*at };
        let value = match entry.tree.items() {
            [] => entry.tree.text(),
            [item] => item.text(),
            _ => None,
        };
        match value {
            Some(text) => {
                importer.said(&one);
                importer.set(&format!("{}.{}", at.row.ours, entry.name), YamlValue::Flow(show_text(text)), &one);
            }
            None => importer.said_case(&one, "(several values)"),
        }
    }
}

/// The scheme of a bearer token.
pub(super) fn scheme(importer: &mut Importer, at: &At<'_>) {
    let bearer = at.tree.text().is_some_and(|text| text.eq_ignore_ascii_case("bearer"));
    if bearer { importer.said(at) } else { importer.said_case(at, "(not Bearer)") }
}
