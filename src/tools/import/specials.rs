//! Keys that are converted to several keys, or not one to one.

use super::Fate;
use super::draft::{Draft, YamlValue};
use super::table::{At, How, Level};
use super::tables::REMOTE_WRITE;
use super::tree::Tree;
use super::values::{boolean, convert, duration, names, show_duration};
use super::walk::Importer;
use crate::config::show_text;

const ORG_ID: &str = "x-scope-orgid";
/// The parts of a processor: their names in Tempo, and spanmill's keys.
const SPAN_PARTS: [(&str, &str); 3] = [
    ("span-metrics-count", "span_metrics.calls"),
    ("span-metrics-latency", "span_metrics.latency"),
    ("span-metrics-size", "span_metrics.size"),
];
const EDGE_PARTS: [(&str, &str); 2] =
    [("service-graphs-request", "service_graphs.requests"), ("service-graphs-latency", "service_graphs.latency")];
const CONNECTION_INFO: &str = "service-graphs-connection-info";
const HOST_INFO: &str = "host-info";

/// Tempo's list of processors.
pub(super) fn processors(importer: &mut Importer, at: &At<'_>) {
    let Ok(listed) = names(at.tree) else {
        importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not a list of names");
        return;
    };
    importer.said(at);
    let has = |name: &str| listed.iter().any(|listed| listed == name);
    let (spans, edges) = (has("span-metrics"), has("service-graphs"));
    let mut put = |path: &str, on: bool| importer.set(path, YamlValue::Flow(on.to_string()), at);
    let any_span = spans || SPAN_PARTS.iter().any(|(name, _)| has(name));
    let any_edge = edges || has(CONNECTION_INFO) || EDGE_PARTS.iter().any(|(name, _)| has(name));
    put("span_metrics.enabled", any_span);
    put("service_graphs.enabled", any_edge);
    put("host_info.enabled", has(HOST_INFO));
    // The parts of a processor that is off have no effect.
    for (name, path) in SPAN_PARTS.iter().filter(|_| any_span) {
        put(path, spans || has(name));
    }
    for (name, path) in EDGE_PARTS.iter().filter(|_| any_edge) {
        put(path, edges || has(name));
    }
    if any_edge {
        put("service_graphs.connection_info", has(CONNECTION_INFO));
    }
    if any_span && !spans {
        importer.said_case(at, "(only parts of span-metrics)");
    }
    for (i, name) in listed.iter().enumerate() {
        let item = at.tree.items().get(i).map_or(at.line, |item| item.line);
        let key = format!("{}[{i}] {name}", at.key);
        let span_part = SPAN_PARTS.iter().any(|(part, _)| part == name);
        let edge_part = EDGE_PARTS.iter().any(|(part, _)| part == name);
        if (span_part && spans) || (edge_part && edges) {
            importer.case(at.table, "processors", "(a part beside its whole)", &key, item);
        } else if !span_part
            && !edge_part
            && !["span-metrics", "service-graphs", CONNECTION_INFO, HOST_INFO].contains(&name.as_str())
        {
            importer.case(at.table, "processors", "(an unknown name)", &key, item);
        }
    }
}

/// Switches off every processor, as Tempo has them without a list.
pub(super) fn no_processors(draft: &mut Draft, from: &str) {
    for path in ["span_metrics.enabled", "service_graphs.enabled", "host_info.enabled"] {
        draft.put(path, YamlValue::Flow("false".to_owned()), from, None);
    }
}

/// A switch that an override of Tempo's can only turn on.
pub(super) fn flag_on_only(importer: &mut Importer, at: &At<'_>) {
    let on = at.tree.text().map(boolean);
    let was = importer.draft.text(at.row.ours).is_some_and(|text| text == "true");
    match on {
        Some(Ok(false)) if importer.level == Level::Tenant && was => importer.said_case(at, "(off over on)"),
        Some(Ok(on)) => {
            importer.said(at);
            importer.set(at.row.ours, YamlValue::Flow(on.to_string()), at);
        }
        _ => importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is neither true nor false"),
    }
}

/// Filter policies.
pub(super) fn policies(importer: &mut Importer, at: &At<'_>) {
    if uses_regex(at.tree) {
        importer.said_case(at, "(regex)");
    } else {
        importer.said(at);
    }
    if let Ok(value) = convert(How::Literal, at.tree) {
        importer.set(at.row.ours, value, at);
    }
}

fn uses_regex(tree: &Tree) -> bool {
    tree.get("match_type").and_then(Tree::text) == Some("regex")
        || tree.items().iter().any(uses_regex)
        || tree.entries().iter().any(|entry| uses_regex(&entry.tree))
}

/// When a series ends. An ended one must not be forgotten before.
pub(super) fn stale(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text().map(duration) {
        Some(Ok(ns)) if ns > 0 => {
            importer.said(at);
            ends_after(importer, at, ns);
        }
        _ => {
            importer.find(
                at.key,
                at.line,
                at.row.ours,
                Fate::Refused,
                "is not a duration above zero; write it manually",
            );
        }
    }
}

/// Sets when series end.
pub(super) fn ends_after(importer: &mut Importer, at: &At<'_>, ns: i128) {
    const HOUR: i128 = 3_600_000_000_000;
    importer.set("series.stale_after", YamlValue::Flow(show_duration(ns)), at);
    importer.draft.remove("series.forget_after");
    if ns > HOUR {
        importer.set("series.forget_after", YamlValue::Flow(show_duration(ns)), at);
    }
}

/// The address of a receiver. Parts of it that may be secret are removed.
pub(super) fn url(importer: &mut Importer, at: &At<'_>) {
    let Some(text) = at.tree.text() else {
        importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not one value");
        return;
    };
    url_of(importer, at, text);
}

/// The address of a receiver that a key leads to.
pub(super) fn url_of(importer: &mut Importer, at: &At<'_>, text: &str) {
    let (address, query) = text.split_once('?').map_or((text, false), |(address, _)| (address, true));
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    let (authority, path) =
        rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    importer.said(at);
    importer.set(at.row.ours, YamlValue::Flow(show_text(&format!("{scheme}://{host}{path}"))), at);
    if let Some(user) = user {
        importer.said_case(at, "(user and password)");
        let name = user.split(':').next().unwrap_or_default();
        importer.set("remote_write.auth.username", YamlValue::Flow(show_text(name)), at);
        importer.secret("remote_write.auth.password_file", "/etc/spanmill/remote-write-password", at);
    }
    if query {
        importer.said_case(at, "(a query)");
    }
}

/// Headers. Any may be a secret but the one that names a tenant.
pub(super) fn headers(importer: &mut Importer, at: &At<'_>) {
    if at.tree.entries().is_empty() {
        importer.said(at);
    }
    for entry in at.tree.entries() {
        let key = format!("{}.{}", at.key, entry.name);
        let at = At { key: &key, line: entry.line, tree: &entry.tree, ..*at };
        let ours = format!("remote_write.headers.{}", entry.name);
        let lower = entry.name.trim().to_ascii_lowercase();
        let text = entry.tree.text().unwrap_or_default();
        if lower == ORG_ID && !text.is_empty() && !text.contains("${") {
            importer.said_case(&at, "(X-Scope-OrgID)");
            importer.set(&ours, YamlValue::Flow(show_text(text)), &at);
            importer.set("remote_write.tenant_header", YamlValue::Flow("\"\"".to_owned()), &at);
        } else {
            importer.said(&at);
            let name: String = lower.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            importer.secret(&ours, &format!("/etc/spanmill/header-{name}"), &at);
        }
    }
}

/// `authorization.type`: only one is known by name.
pub(super) fn authorization(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text() {
        Some(text) if text.eq_ignore_ascii_case("bearer") => importer.said(at),
        _ => importer.said_case(at, "(not Bearer)"),
    }
}

/// Tempo's list of receivers: one is the section, several are a list as well.
pub(super) fn remote_write(importer: &mut Importer, at: &At<'_>) {
    if at.tree.is_empty() {
        importer.case(at.table, at.row.path, super::table::ABSENT, at.key, at.line);
    }
    let items = at.tree.items();
    let several = items.len() > 1;
    for (i, item) in items.iter().enumerate() {
        let key = format!("{}[{i}]", at.key);
        let before = several.then(|| std::mem::take(&mut importer.draft));
        importer.receiver = i;
        importer.children(&REMOTE_WRITE, "", &key, item);
        if let Some(sigv4) = item.get("sigv4") {
            let at = At { key: &format!("{key}.sigv4"), line: sigv4.line, ..*at };
            importer.said(&at);
            importer.set("remote_write.auth.type", YamlValue::Flow("sigv4".to_owned()), &at);
        }
        auth_type(importer);
        if let Some(before) = before {
            // What identifies it must not depend on its place.
            let name = format!("receiver-{}", i + 1);
            importer.said_case(&At { key: &key, line: item.line, ..*at }, "(several receivers)");
            importer.set_if_free("remote_write.name", &name, &At { key: &key, line: item.line, ..*at });
            let own = std::mem::replace(&mut importer.draft, before);
            importer.draft.take_receiver(i, own);
        }
    }
    importer.receiver = 0;
    if items.is_empty() {
        auth_type(importer);
    }
}

/// The kind of authentication follows from the keys that were given.
pub(super) fn auth_type(importer: &mut Importer) {
    let kinds = [
        ("username", "basic"),
        ("password_file", "basic"),
        ("token_file", "bearer"),
        ("oauth2.client_id", "oauth2"),
        ("oauth2.token_url", "oauth2"),
        ("region", "sigv4"),
    ];
    for (name, kind) in kinds {
        let path = format!("remote_write.auth.{name}");
        let found = importer.draft.sets.iter().find(|set| set.path == path).cloned();
        if let Some(set) = found.filter(|_| importer.draft.get("remote_write.auth.type").is_none()) {
            importer.draft.put("remote_write.auth.type", YamlValue::Flow(kind.to_owned()), &set.from, set.finding);
        }
    }
}
