//! The types of endpoints: which keys belong to which, and what each of them needs.

use super::Config;
use super::draft::Draft;
use super::keys::find;
use super::layers::Layers;
use super::problem::Location;
use super::settings::{OutputType, RemoteWrite};
use super::syntax;
use super::value::show;

const URL: &str = "remote_write.url";
const TYPE: &str = "remote_write.type";

/// Why there is no such key.
pub(super) const TEMPORALITY: &str = "temporality is always cumulative: a delta would be lost or counted twice where a receiver \
     does not show whether it has stored a request; convert with the cumulativetodelta processor of the Collector";

/// Keys that not every type has, by their beginnings, and which types have them.
const FITS: &[(&str, &[OutputType])] = {
    use OutputType::{File, Kafka, OtlpGrpc, OtlpHttp, RemoteWrite};
    const HTTP: &[OutputType] = &[RemoteWrite, OtlpHttp, OtlpGrpc];
    &[
        ("remote_write.url", HTTP),
        ("remote_write.headers", HTTP),
        ("remote_write.tenant_header", HTTP),
        ("remote_write.auth.", HTTP),
        ("remote_write.tls.", HTTP),
        ("remote_write.on_status", HTTP),
        ("remote_write.enable_http2", &[RemoteWrite, OtlpHttp]),
        ("remote_write.quarantine", HTTP),
        ("remote_write.protocol", &[RemoteWrite]),
        ("remote_write.metadata_interval", &[RemoteWrite]),
        ("remote_write.preflight", &[RemoteWrite]),
        ("remote_write.otlp.", &[OtlpHttp, OtlpGrpc, Kafka, File]),
        ("remote_write.kafka.", &[Kafka]),
        ("remote_write.file.", &[File]),
    ]
};

// === impl OutputType ===

impl OutputType {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RemoteWrite => "remote_write",
            Self::OtlpHttp => "otlp_http",
            Self::OtlpGrpc => "otlp_grpc",
            Self::Kafka => "kafka",
            Self::File => "file",
        }
    }

    /// Whether requests go over HTTP.
    #[must_use]
    pub fn is_http(self) -> bool {
        !matches!(self, Self::Kafka | Self::File)
    }
}

// === impl RemoteWrite ===

impl RemoteWrite {
    /// Where its samples go, as a URL.
    #[must_use]
    pub fn address(&self) -> String {
        match self.kind {
            OutputType::Kafka => format!("kafka:{}", self.kafka.topic),
            OutputType::File => {
                format!("file:{}", self.file.path.as_deref().unwrap_or("".as_ref()).to_string_lossy())
            }
            OutputType::RemoteWrite | OutputType::OtlpHttp | OutputType::OtlpGrpc => self.url.clone(),
        }
    }
}

// === impl Layers ===

impl Layers<'_> {
    /// Checks the keys that belong to the type of an endpoint.
    pub(super) fn check_output(&mut self, draft: &Draft) {
        let remote = &draft.config.remote_write;
        let kind = remote.kind;
        let given = self.places.iter().filter(|(path, _)| misfit(path, kind) && !is_default(path, draft));
        let misfits: Vec<(String, Location)> = given.map(|(path, place)| (path.clone(), place.clone())).collect();
        for (path, place) in misfits {
            let kind = kind.name();
            let message = format!("does not belong to an endpoint of the type `{kind}`; remove it, or change `type`");
            self.problem(place, &path, message);
        }
        for key in remote.otlp.resource_attributes.keys().filter(|key| key.is_empty()) {
            self.broken(&["remote_write.otlp.resource_attributes"], format!("has an empty name {key:?}; write one"));
        }
        match remote.kind {
            OutputType::RemoteWrite => self.must(URL, syntax::url(&remote.url)),
            OutputType::OtlpHttp => {
                self.needs(URL, "the address of the receiver, as in `http://collector:4318/v1/metrics`");
                self.must(URL, syntax::otlp_url(&remote.url));
            }
            OutputType::OtlpGrpc => {
                self.needs(URL, "the address of the receiver, as in `http://collector:4317`");
                self.must(URL, syntax::grpc_url(&remote.url));
            }
            OutputType::Kafka => {
                self.needs("remote_write.kafka.topic", "the topic that samples go to");
                if !remote.kafka.topic.is_empty() {
                    self.must("remote_write.kafka.topic", syntax::topic(&remote.kafka.topic));
                    self.check_target(draft);
                }
                if !remote.kafka.bootstrap_servers.is_empty() {
                    self.must("remote_write.kafka.bootstrap_servers", syntax::brokers(&remote.kafka.bootstrap_servers));
                }
            }
            OutputType::File => self.needs("remote_write.file.path", "the file that samples go to"),
        }
    }

    /// A topic of samples is none that this group reads or keeps its state in.
    fn check_target(&mut self, draft: &Draft) {
        let (kafka, own) = (&draft.config.kafka, &draft.config.remote_write.kafka);
        let elsewhere = !own.bootstrap_servers.is_empty() && own.bootstrap_servers != kafka.brokers;
        if !elsewhere
            && (kafka.topics.contains(&own.topic) || syntax::is_internal_topic(&own.topic, &kafka.group, &kafka.topics))
        {
            let message = "is a topic that this group reads, or keeps its state in; write another one";
            self.broken(&["remote_write.kafka.topic"], message);
        }
    }

    fn needs(&mut self, path: &str, what: &str) {
        if !self.places.contains_key(path) {
            let message = format!("needs `{}`, {what}", path.trim_start_matches("remote_write."));
            self.broken(&[TYPE, path], message);
        }
    }
}

fn misfit(path: &str, kind: OutputType) -> bool {
    let belongs = |start: &str| match start.ends_with('.') {
        true => path.starts_with(start),
        false => path == start || path.strip_prefix(start).is_some_and(|rest| rest.starts_with('.')),
    };
    FITS.iter().any(|(start, kinds)| belongs(start) && !kinds.contains(&kind))
}

/// Whether a key has the value that it has without being written, as in a listing of all keys.
fn is_default(path: &str, draft: &Draft) -> bool {
    let (mut draft, mut usual) = (draft.clone(), Draft::default());
    find(path).is_some_and(|key| show(&(key.slot)(&mut draft)) == show(&(key.slot)(&mut usual)))
}

/// Fills in what endpoints in Kafka have of the section `kafka`.
pub(super) fn complete(config: &mut Config) {
    let kafka = &config.kafka;
    for remote in std::iter::once(&mut config.remote_write).chain(&mut config.more_endpoints) {
        if remote.kind != OutputType::Kafka {
            continue;
        }
        if remote.kafka.bootstrap_servers.is_empty() {
            remote.kafka.bootstrap_servers.clone_from(&kafka.brokers);
        }
        remote.kafka.properties.clone_from(&kafka.properties);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_types_that_read_it() {
        for (path, kind, wrong) in [
            ("remote_write.url", OutputType::Kafka, true),
            ("remote_write.url", OutputType::OtlpGrpc, false),
            ("remote_write.headers.X-A", OutputType::File, true),
            ("remote_write.headers.X-A", OutputType::OtlpHttp, false),
            ("remote_write.protocol", OutputType::OtlpHttp, true),
            ("remote_write.protocol", OutputType::RemoteWrite, false),
            ("remote_write.file.path", OutputType::RemoteWrite, true),
            ("remote_write.kafka.topic", OutputType::File, true),
            ("remote_write.otlp.resource_attributes.a", OutputType::RemoteWrite, true),
            ("remote_write.otlp.resource_attributes.a", OutputType::Kafka, false),
            ("remote_write.max_backlog", OutputType::File, false),
            ("remote_write.write_relabel_configs", OutputType::Kafka, false),
        ] {
            assert_eq!(misfit(path, kind), wrong, "{path} {kind:?}");
        }
    }
}
