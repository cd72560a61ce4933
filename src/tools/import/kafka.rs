//! The source of spans: topics, groups, and the authentication of the client.

use super::Fate;
use super::draft::YamlValue;
use super::table::At;
use super::values::{boolean, list, names};
use super::walk::Importer;
use crate::config::show_text;

const PROTOCOL: &str = "kafka.properties.security.protocol";
const MECHANISM: &str = "kafka.properties.sasl.mechanism";
const USERNAME: &str = "kafka.properties.sasl.username";
const TOKEN_URL: &str = "kafka.properties.sasl.oauthbearer.token.endpoint.url";
/// The mechanisms that need a user.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
/// Those that need none.
const OAUTHBEARER: &str = "OAUTHBEARER";
const MSK_IAM: &str = "AWS_MSK_IAM";

/// Tempo's topic: the keys of its records are tenants.
pub(super) fn tempo_topic(importer: &mut Importer, at: &At<'_>) {
    importer.said(at);
    let topic = at.tree.text().unwrap_or_default();
    importer.set("kafka.topics", YamlValue::Flow(format!("[{}]", show_text(topic))), at);
    importer.set("tenant.source", YamlValue::Flow("key".to_owned()), at);
}

/// The Collector's topics.
pub(super) fn topics(importer: &mut Importer, at: &At<'_>) {
    match names(at.tree) {
        Ok(topics) => {
            importer.said(at);
            importer.set("kafka.topics", list(&topics), at);
        }
        Err(why) => importer.find(at.key, at.line, at.row.ours, Fate::Refused, &why),
    }
}

/// The group: another one, named after it.
pub(super) fn group(importer: &mut Importer, at: &At<'_>) {
    let Some(text) = at.tree.text() else { return };
    importer.said(at);
    if !text.is_empty() {
        importer.set("kafka.group", YamlValue::Flow(show_text(&format!("{text}-spanmill"))), at);
    }
}

/// A mechanism of SASL.
pub(super) fn mechanism(importer: &mut Importer, at: &At<'_>) {
    match at.tree.text() {
        Some(text) if MECHANISMS.contains(&text) => {
            importer.said(at);
            importer.set(MECHANISM, YamlValue::Flow(text.to_owned()), at);
        }
        _ => importer.said_case(at, "(another)"),
    }
}

/// A file with a token.
pub(super) fn token_file(importer: &mut Importer, at: &At<'_>) {
    let Some(path) = at.tree.text().filter(|path| path.starts_with('/')) else {
        return importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is not an absolute path");
    };
    importer.said(at);
    importer.set(TOKEN_URL, YamlValue::Flow(show_text(&format!("file://{path}"))), at);
}

/// Whether TLS is used.
pub(super) fn tls(importer: &mut Importer, at: &At<'_>) {
    switch(importer, at, true);
}

/// Whether TLS is not used.
pub(super) fn tls_off(importer: &mut Importer, at: &At<'_>) {
    switch(importer, at, false);
}

fn switch(importer: &mut Importer, at: &At<'_>, means: bool) {
    match at.tree.text().map(boolean) {
        Some(Ok(said)) => {
            importer.said(at);
            let protocol = if said == means { "SSL" } else { "PLAINTEXT" };
            importer.set(PROTOCOL, YamlValue::Flow(protocol.to_owned()), at);
        }
        _ => importer.find(at.key, at.line, at.row.ours, Fate::Refused, "is neither true nor false"),
    }
}

/// Puts together the settings of single keys about security. `tls`: whether a TLS section enables TLS.
pub(super) fn secure(importer: &mut Importer, tls: bool) {
    let said = importer.draft.sets.iter().find(|set| set.path == PROTOCOL).cloned();
    let user = importer.draft.sets.iter().find(|set| set.path == USERNAME || set.path == MECHANISM).cloned();
    let used = importer.draft.sets.iter().find(|set| set.path == MECHANISM).map(|set| set.value.flow());
    // Amazon MSK takes its tokens with TLS only.
    let tls = used.as_deref() == Some(MSK_IAM) || said.as_ref().map_or(tls, |set| set.value.flow() == "SSL");
    if let Some(user) = &user
        && importer.draft.get(MECHANISM).is_none()
    {
        importer.draft.put(MECHANISM, YamlValue::Flow("PLAIN".to_owned()), &user.from, user.finding);
    }
    let tokens = used.as_ref().is_some_and(|used| *used == OAUTHBEARER || *used == MSK_IAM);
    // Without a user, these are not used.
    if !tokens && importer.draft.get(USERNAME).is_none() {
        importer.draft.remove(MECHANISM);
    }
    let sasl = tokens || importer.draft.get(USERNAME).is_some();
    let protocol = match (sasl, tls) {
        (true, true) => "SASL_SSL",
        (true, false) => "SASL_PLAINTEXT",
        (false, true) => "SSL",
        (false, false) => "",
    };
    importer.draft.remove(PROTOCOL);
    if !protocol.is_empty() {
        let (from, finding) = said.or(user).map_or_else(|| ("tls".to_owned(), None), |set| (set.from, set.finding));
        importer.draft.put(PROTOCOL, YamlValue::Flow(protocol.to_owned()), &from, finding);
    }
}
