//! What Zipkin's tags and annotations mean: some are the resource, the scope, the status or links of a span in OTLP, and events
//! are written into annotations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{Attributes, Value};
use crate::core::formats::{hex, write};

/// The tag that names the attribute that the service's name comes from.
pub(super) const NAME_SOURCE: &[u8] = b"otlp.service.name.source";
/// What stands for a missing service name in what the Collector writes.
pub(super) const NO_SERVICE: &[u8] = b"OTLPResourceNoServiceName";
/// So many links a span has at most in tags.
const MAX_LINKS: usize = 128;
const HTTP_STATUS: [&[u8]; 2] = [b"http.status_code", b"http.response.status_code"];
const FUNCTION: [&[u8]; 2] = [b"faas.id", b"cloud.resource_id"];
const SCOPE_NAME: [&[u8]; 2] = [b"otel.scope.name", b"otel.library.name"];
const SCOPE_VERSION: [&[u8]; 2] = [b"otel.scope.version", b"otel.library.version"];

/// Tags that describe the resource, in order.
const RESOURCE: [&str; 88] = [
    "aws.ecs.cluster.arn",
    "aws.ecs.container.arn",
    "aws.ecs.launchtype",
    "aws.ecs.task.arn",
    "aws.ecs.task.family",
    "aws.ecs.task.revision",
    "aws.eks.cluster.arn",
    "aws.log.group.arns",
    "aws.log.group.names",
    "aws.log.stream.arns",
    "aws.log.stream.names",
    "cloud.account.id",
    "cloud.availability_zone",
    "cloud.platform",
    "cloud.provider",
    "cloud.region",
    "cloud.resource_id",
    "container.id",
    "container.image.name",
    "container.image.tag",
    "container.name",
    "container.runtime",
    "deployment.environment",
    "device.id",
    "device.manufacturer",
    "device.model.identifier",
    "device.model.name",
    "faas.id",
    "faas.instance",
    "faas.max_memory",
    "faas.name",
    "faas.version",
    "host.arch",
    "host.id",
    "host.image.id",
    "host.image.name",
    "host.image.version",
    "host.name",
    "host.type",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.container.restart_count",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.deployment.name",
    "k8s.deployment.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.node.uid",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "opencensus.exporterversion",
    "opencensus.resourcetype",
    "opencensus.starttime",
    "os.description",
    "os.name",
    "os.type",
    "os.version",
    "otlp.service.name.source",
    "process.command",
    "process.command_args",
    "process.command_line",
    "process.executable.name",
    "process.executable.path",
    "process.owner",
    "process.pid",
    "process.runtime.description",
    "process.runtime.name",
    "process.runtime.version",
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
    "telemetry.auto.version",
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
    "webengine.description",
    "webengine.name",
    "webengine.version",
];

/// The tags of a span that have no other meaning so far.
pub(super) struct Tags<'a> {
    all: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    taken: BTreeSet<&'a [u8]>,
}

/// Attributes that were read from a text.
#[derive(Debug, Default)]
pub(super) struct ReadAttributes(Vec<(Vec<u8>, ReadValue)>);

#[derive(Debug)]
enum ReadValue {
    Text(Vec<u8>),
    Bool(bool),
    Int(i64),
    Double(f64),
}

/// A link that was read from a tag.
#[derive(Debug)]
pub(super) struct Linked<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) trace_state: &'a [u8],
    pub(super) attributes: ReadAttributes,
    pub(super) dropped: u32,
}

/// An event that was read from an annotation.
#[derive(Debug)]
pub(super) struct Annotated<'a> {
    pub(super) name: &'a [u8],
    pub(super) attributes: ReadAttributes,
    pub(super) dropped: u32,
}

// === impl Tags ===

impl<'a> Tags<'a> {
    pub(super) fn new(all: &'a BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        Self { all, taken: BTreeSet::new() }
    }

    fn get(&self, key: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (key, value) = self.all.get_key_value(key)?;
        (!self.taken.contains(key.as_slice())).then_some((key, value))
    }

    /// Takes a tag, so that it is no attribute.
    pub(super) fn take(&mut self, key: &[u8]) -> Option<&'a [u8]> {
        let (key, value) = self.get(key)?;
        self.taken.insert(key);
        Some(value)
    }

    /// Takes the first of two; both are no attributes.
    fn take_either(&mut self, keys: [&[u8]; 2]) -> Option<&'a [u8]> {
        let [newer, older] = keys.map(|key| self.take(key));
        newer.or(older)
    }

    pub(super) fn take_scope(&mut self) -> Vec<u8> {
        let (name, version) = (self.take_either(SCOPE_NAME), self.take_either(SCOPE_VERSION));
        match name.filter(|name| !name.is_empty()) {
            Some(name) => write::scope(name, version.unwrap_or_default()),
            None => Vec::new(),
        }
    }

    /// Takes the tags of the resource.
    pub(super) fn take_resource(&mut self) -> Vec<(&'a [u8], &'a [u8])> {
        let is_of_resource = |key: &[u8]| RESOURCE.binary_search_by(|known| known.as_bytes().cmp(key)).is_ok();
        let own: Vec<_> =
            self.all.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).filter(|(k, _)| is_of_resource(k)).collect();
        self.taken.extend(own.iter().map(|(key, _)| *key));
        let renamed = |(key, value)| (if key == FUNCTION[0] { FUNCTION[1] } else { key }, value);
        own.into_iter().map(renamed).collect()
    }

    /// Takes the status: its code and its description.
    pub(super) fn take_status(&mut self) -> (u64, &'a [u8]) {
        let (mut code, mut message): (u64, &[u8]) = (0, &[]);
        if let Some(told) = self.take(b"otel.status_code") {
            code = match told {
                b"STATUS_CODE_OK" | b"Ok" => write::OK,
                b"STATUS_CODE_ERROR" | b"Error" => write::ERROR,
                _ => 0,
            };
            message = self.take(b"otel.status_description").unwrap_or_default();
        }
        // Whatever its text: Zipkin's `error` tag holds the message.
        if let Some((_, text)) = self.get(b"error") {
            code = write::ERROR;
            if text == b"true" {
                self.take(b"error");
            }
        }
        (code, message)
    }

    /// Takes the links.
    pub(super) fn take_links(&mut self) -> Vec<Linked<'a>> {
        let mut links = Vec::new();
        for number in 0..MAX_LINKS {
            let key = format!("otlp.link.{number}");
            let Some((_, text)) = self.get(key.as_bytes()) else { break };
            if let Some(link) = Linked::read(text) {
                links.push(link);
                self.take(key.as_bytes());
            }
        }
        links
    }

    /// What is left.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        let mut attributes = Attributes::default();
        for (key, value) in self.all.iter().filter(|(key, _)| !self.taken.contains(key.as_slice())) {
            let key = if key == HTTP_STATUS[0] { HTTP_STATUS[1] } else { key.as_slice() };
            attributes.text(key, value);
        }
        attributes
    }
}

// === impl Linked ===

impl<'a> Linked<'a> {
    /// Trace, span, state, attributes in JSON, number of dropped ones, with bars between them.
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut parts = text.splitn(4, |byte| *byte == b'|');
        let (trace, span, trace_state, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (attributes, dropped) = attributes_and_number(rest)?;
        let full = |id: &[u8], digits: usize| id.is_empty() || id.len() == digits;
        if !full(trace, 32) || !full(span, 16) {
            return None;
        }
        let trace_id = if trace.is_empty() { [0; 16] } else { hex(trace)? };
        let span_id = if span.is_empty() { [0; 8] } else { hex(span)? };
        Some(Self { trace_id, span_id, trace_state, attributes, dropped })
    }
}

// === impl Annotated ===

impl<'a> Annotated<'a> {
    /// Name, attributes in JSON, number of dropped ones, with bars between them; or a name alone.
    pub(super) fn read(text: &'a [u8]) -> Self {
        let whole = || Self { name: text, attributes: ReadAttributes::default(), dropped: 0 };
        let Some(bar) = text.iter().position(|byte| *byte == b'|') else { return whole() };
        match attributes_and_number(&text[bar + 1..]) {
            Some((attributes, dropped)) => Self { name: &text[..bar], attributes, dropped },
            None => whole(),
        }
    }
}

/// Attributes in JSON, a bar, and a number.
fn attributes_and_number(text: &[u8]) -> Option<(ReadAttributes, u32)> {
    let bar = text.iter().rposition(|byte| *byte == b'|')?;
    let Json::Object(object) = serde_json::from_slice(&text[..bar]).ok()? else { return None };
    let dropped = std::str::from_utf8(&text[bar + 1..]).ok()?.parse().ok()?;
    let value = |value: Json| match value {
        Json::String(text) => Some(ReadValue::Text(text.into_bytes())),
        Json::Bool(value) => Some(ReadValue::Bool(value)),
        Json::Number(number) => number.as_i64().map(ReadValue::Int).or_else(|| number.as_f64().map(double)),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    };
    let pairs = object.into_iter().filter_map(|(key, json)| Some((key.into_bytes(), value(json)?)));
    Some((ReadAttributes(pairs.collect()), dropped))
}

/// A number that is whole is an integer.
fn double(value: f64) -> ReadValue {
    if value.fract() == 0.0 && value.abs() < 9e18 { ReadValue::Int(value as i64) } else { ReadValue::Double(value) }
}

// === impl ReadAttributes ===

impl ReadAttributes {
    pub(super) fn borrow(&self) -> Attributes<'_> {
        let mut attributes = Attributes::default();
        for (key, value) in &self.0 {
            let value = match value {
                ReadValue::Text(text) => Value::Text(text.into()),
                ReadValue::Bool(value) => Value::Bool(*value),
                ReadValue::Int(value) => Value::Int(*value),
                ReadValue::Double(value) => Value::Double(*value),
            };
            attributes.set(key, value);
        }
        attributes
    }
}
