//! The effective settings: every key with its value and source. Secrets print as `***`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::draft::{Draft, DraftField};
use super::endpoints::is_of_endpoint;
use super::keys::{self, ConfigKey};
use super::layers::Layers;
use super::problem::Location;
use super::value::{show, show_text};
use super::{Effective, Loaded, ValueOrigin};

/// librdkafka properties that help an operator and not an attacker. All others print as `***`, so that
/// a property that is missing here is not the one that leaks.
const HARMLESS: [&str; 17] = [
    "client.id",
    "client.rack",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.aws.region",
    "ssl.ca.location",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
    "broker.address.family",
    "group.instance.id",
    "session.timeout.ms",
    "max.poll.interval.ms",
    "linger.ms",
    "debug",
];

/// Beginnings of more of them: sizes, times and codecs.
const HARMLESS_GROUPS: [&str; 7] =
    ["compression.", "fetch.", "socket.", "queue.buffering.", "message.", "reconnect.backoff.", "topic.metadata."];

/// One line per key: `path = value   # origin`, aligned; then the overrides of each tenant.
#[must_use]
pub fn render_effective(loaded: &Loaded) -> String {
    let mut out = render(&loaded.effective);
    if !loaded.overridden.is_empty() {
        out.push('\n');
        out.push_str(&render(&loaded.overridden));
    }
    out
}

fn render(effective: &[Effective]) -> String {
    // Longer lines, such as bucket lists, exceed the column instead of widening it for all.
    const WIDEST: usize = 60;
    let paths = effective.iter().map(|e| e.path.chars().count()).max().unwrap_or(0).min(WIDEST);
    let width = |e: &Effective| e.value.chars().count();
    let values = effective.iter().map(width).filter(|width| *width <= WIDEST).max().unwrap_or(0);
    let mut out = String::new();
    for Effective { path, value, origin } in effective {
        let origin = match origin {
            ValueOrigin::Default => "default".to_owned(),
            ValueOrigin::File { name, line } => format!("{name}:{line}"),
            ValueOrigin::Env(name) => format!("env {name}"),
            ValueOrigin::Flag => "--set".to_owned(),
        };
        writeln!(out, "{path:paths$} = {value:values$}   # {origin}").expect("a string takes everything");
    }
    out
}

/// The value of a key of type text, fit for printing.
fn text(path: &str, value: &str) -> String {
    match value.split_once('?') {
        // Some receivers take a token in the query.
        Some((base, _)) if ["remote_write.url", "telemetry.traces.endpoint"].contains(&path) => {
            show_text(&format!("{base}?***"))
        }
        _ => show_text(value),
    }
}

fn harmless(property: &str) -> bool {
    HARMLESS.contains(&property) || HARMLESS_GROUPS.iter().any(|group| property.starts_with(group))
}

// === impl Layers ===

impl Layers<'_> {
    /// Every key, in the order of the table; maps entry by entry.
    pub(super) fn effective(&self) -> Vec<Effective> {
        let mut draft = self.draft.clone();
        if !self.has_several_endpoints() {
            return self.effective_of(keys::all(), &mut draft, &self.places);
        }
        let first = keys::all().position(|key| is_of_endpoint(key.path)).unwrap_or_default();
        let others = || keys::all().filter(|key| !is_of_endpoint(key.path));
        let mut all = self.effective_of(others().take(first), &mut draft, &self.places);
        all.extend(self.effective_endpoints());
        all.extend(self.effective_of(others().skip(first), &mut draft, &self.places));
        all
    }

    /// These keys, in a draft whose values come from these places.
    pub(super) fn effective_of(
        &self,
        keys: impl Iterator<Item = &'static ConfigKey>,
        draft: &mut Draft,
        places: &BTreeMap<String, Location>,
    ) -> Vec<Effective> {
        let mut all = Vec::new();
        for key in keys {
            let slot = (key.slot)(draft);
            let entries: Vec<(String, String)> = match &slot {
                DraftField::Labels(labels) => {
                    labels.iter().map(|(name, value)| (name.clone(), show_text(value))).collect()
                }
                DraftField::Secrets(values) => {
                    let open = |name: &str| key.path == "kafka.properties" && harmless(name);
                    let shown = |name: &str, value: &str| if open(name) { show_text(value) } else { "***".to_owned() };
                    values.iter().map(|(name, value)| (name.clone(), shown(name, value.reveal()))).collect()
                }
                _ => Vec::new(),
            };
            if entries.is_empty() {
                let value = if let DraftField::Text(value) = &slot { text(key.path, value) } else { show(&slot) };
                all.push(self.placed(key.path.to_owned(), value, places));
            }
            let named = |(name, value)| self.placed(format!("{}.{name}", key.path), value, places);
            all.extend(entries.into_iter().map(named));
        }
        all
    }

    pub(super) fn one(&self, path: String, value: String) -> Effective {
        self.placed(path, value, &self.places)
    }

    fn placed(&self, path: String, value: String, places: &BTreeMap<String, Location>) -> Effective {
        let origin = match places.get(&path) {
            Some(Location::File(at)) => ValueOrigin::File { name: self.file.to_owned(), line: at.line },
            Some(Location::Env(name)) => ValueOrigin::Env(name.clone()),
            Some(Location::Flag) => ValueOrigin::Flag,
            Some(Location::WholeFile) | None => ValueOrigin::Default,
        };
        Effective { path, value, origin }
    }
}
