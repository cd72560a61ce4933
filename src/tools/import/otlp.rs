//! The Collector's OTLP exporters behind the connectors: endpoints of the types `otlp_http` and `otlp_grpc`.

use super::draft::YamlValue;
use super::table::{At, Table};
use super::tables::{OTLP_GRPC, OTLP_HTTP};
use super::tree::{Tree, TreeEntry};
use super::values::boolean;
use super::walk::Importer;
use super::{Fate, specials};
use crate::config::show_text;

/// The table of an exporter by the type of the component, and the type of its endpoint.
pub(super) fn table_of(kind: &str) -> Option<(&'static Table, &'static str)> {
    match kind {
        "otlp_http" | "otlphttp" => Some((&OTLP_HTTP, "otlp_http")),
        "otlp_grpc" | "otlp" => Some((&OTLP_GRPC, "otlp_grpc")),
        _ => None,
    }
}

/// Reads one exporter into the settings of an endpoint, which the draft holds nothing of yet.
pub(super) fn read(importer: &mut Importer, entry: &TreeEntry, (table, kind): (&'static Table, &'static str)) {
    let key = format!("exporters.{}", entry.name);
    importer.case(table, "endpoint", "(form)", &key, entry.line);
    let finding = importer.last();
    importer.draft.put("remote_write.type", YamlValue::Flow(kind.to_owned()), &key, finding);
    if entry.tree.entries().is_empty() {
        importer.hollow(&key, entry.line, &entry.tree);
    }
    // The address of metrics counts more than that of all signals.
    let mut keys: Vec<&TreeEntry> = entry.tree.entries().iter().collect();
    keys.sort_by_key(|one| one.name != "metrics_endpoint");
    for one in keys {
        importer.walk(table, &one.name, &format!("{key}.{}", one.name), one.line, &one.tree);
    }
    plain(importer, &entry.tree, kind);
    if importer.draft.get("remote_write.url").is_none() {
        importer.find(&key, entry.line, "remote_write.url", Fate::Refused, "has no endpoint; write its address");
        let finding = importer.last();
        importer.draft.put("remote_write.url", YamlValue::Note("the receiver's address".to_owned()), &key, finding);
    }
}

/// gRPC without TLS has no place in an address that is only a host and a port.
fn plain(importer: &mut Importer, tree: &Tree, kind: &str) {
    let insecure = tree.get("tls").and_then(|tls| tls.get("insecure")).and_then(Tree::text).map(boolean);
    let is_plain = insecure == Some(Ok(true));
    let given = tree.get("endpoint").and_then(Tree::text).is_some_and(|text| text.starts_with("http://"));
    let Some(set) = importer.draft.sets.iter_mut().find(|set| set.path == "remote_write.url") else { return };
    if kind == "otlp_grpc" && (is_plain || given) {
        let YamlValue::Flow(url) = &mut set.value else { return };
        *url = url.replacen("https://", "http://", 1);
    }
}

/// Adds `/v1/metrics` to the address of all signals.
pub(super) fn http_endpoint(importer: &mut Importer, at: &At<'_>) {
    if importer.draft.get("remote_write.url").is_some() {
        importer.said_case(at, "(with metrics_endpoint)");
        return;
    }
    let Some(text) = at.tree.text() else {
        importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not one value");
        return;
    };
    let (address, query) = text.split_once('?').map_or((text, ""), |(address, query)| (address, query));
    let metrics = format!("{}/v1/metrics", address.trim_end_matches('/'));
    let all = if query.is_empty() { metrics } else { format!("{metrics}?{query}") };
    specials::url_of(importer, at, &all);
}

/// A host and a port; TLS is used unless `tls.insecure` is true.
pub(super) fn grpc_endpoint(importer: &mut Importer, at: &At<'_>) {
    let Some(text) = at.tree.text() else {
        importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not one value");
        return;
    };
    let host = ["https://", "http://", "dns:///"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    let host = host.unwrap_or(text).trim_end_matches('/');
    if host.contains(['@', '?', '/']) {
        importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not a host and a port; write it manually");
        return;
    }
    importer.said(at);
    importer.set(at.row.ours, YamlValue::Flow(show_text(&format!("https://{host}"))), at);
}

/// Whether TLS is used: the scheme of the URL, which is set at the end.
pub(super) fn insecure(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text().map(boolean) {
        Some(Ok(_)) => importer.said(at),
        _ => importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is neither true nor false"),
    }
}

/// Reads several exporters into a list of endpoints, each under the name that it has in the file.
pub(super) fn listed(importer: &mut Importer, names: &[&str], mut read: impl FnMut(&mut Importer, usize)) {
    if names.len() < 2 {
        read(importer, 0);
        return;
    }
    for (i, name) in names.iter().enumerate() {
        let before = std::mem::take(&mut importer.draft);
        importer.receiver = i;
        read(importer, i);
        let name = show_text(&name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_', "-"));
        let finding = importer.last();
        let own = std::mem::replace(&mut importer.draft, before);
        // What is no setting of an endpoint is one of all.
        importer.draft.take_receiver(i, own);
        let path = format!("remote_write[{i}].name");
        importer.draft.put(&path, YamlValue::Flow(name), "the name of the exporter", finding);
    }
    importer.receiver = 0;
}
