//! Attribute metrics: counters, sums and histograms of numbers that spans carry, and of spans.

use super::{Dimension, FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue};

/// One entry of `attribute_metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributeMetric {
    /// `name` of the metric; for a histogram without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// `description` for receivers; empty: what follows from the others.
    pub description: String,
    /// `unit` for receivers; empty: none.
    pub unit: String,
    /// `type`. Default `counter` without a `value`, `sum` with one.
    pub kind: AttributeMetricKind,
    /// `match`: the spans that count, as `span_metrics.filter_policies`; none: all.
    pub matching: Vec<FilterPolicy>,
    /// `value`: the number that a span has. Only a counter may do without.
    pub value: Option<MetricValue>,
    /// `buckets` of a histogram: upper bounds in billionths of the unit of the value, strictly ascending; none for other types.
    pub bounds: Vec<u64>,
    /// `labels`: attributes, `service`, `span_name`, `span_kind` and `status_code`. Default `[service]`.
    pub labels: Vec<Dimension>,
}

/// `type:` of an attribute metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeMetricKind {
    /// `counter`: how many spans match, and have the value if one is named.
    Counter,
    /// `sum`: what their values add up to.
    Sum,
    /// `histogram`: how their values are distributed.
    Histogram,
}

/// `value:` of an attribute metric.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// `attribute`: of the first of these attributes that there is.
    Attribute(Vec<String>, ValueScope),
    /// `intrinsic: duration`: how long the span took, in seconds.
    Duration,
}

/// `scope:` where an attribute is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueScope {
    /// `any`: in the order in which labels look for theirs.
    Any,
    /// `span`
    Span,
    /// `resource`
    Resource,
}

/// One entry of `attribute_metrics_presets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeMetricsPreset {
    /// `genai`: tokens of calls to language models.
    Genai,
    /// `http`: sizes of requests and responses of HTTP servers.
    Http,
    /// `messaging`: messages, and their sizes.
    Messaging,
}

// === impl AttributeMetric ===

impl AttributeMetric {
    /// Billionths: what values are counted in.
    pub const ONE: u64 = 1_000_000_000;
    /// What is a label without being an attribute.
    pub const INTRINSICS: [&str; 4] = [Self::SERVICE, Self::SPAN_NAME, Self::SPAN_KIND, Self::STATUS_CODE];
    /// The label `service` among `labels`.
    pub const SERVICE: &str = "service";
    /// The label `span_name` among `labels`.
    pub const SPAN_NAME: &str = "span_name";
    /// The label `span_kind` among `labels`.
    pub const SPAN_KIND: &str = "span_kind";
    /// The label `status_code` among `labels`.
    pub const STATUS_CODE: &str = "status_code";

    /// The labels that there are unless others are named.
    #[must_use]
    pub fn default_labels() -> Vec<Dimension> {
        vec![dimension(&[Self::SERVICE])]
    }

    /// The help text for receivers: its description, or what follows from its type and value.
    #[must_use]
    pub fn help(&self) -> String {
        if !self.description.is_empty() {
            return self.description.clone();
        }
        let of = match &self.value {
            None => return "Number of spans.".to_owned(),
            Some(MetricValue::Duration) => "the duration of spans".to_owned(),
            Some(MetricValue::Attribute(names, _)) => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                format!("the attribute {} of spans", names.join(" or "))
            }
        };
        match self.kind {
            AttributeMetricKind::Counter => format!("Number of spans that have {}.", of.trim_end_matches(" of spans")),
            AttributeMetricKind::Sum => format!("Sum of {of}."),
            AttributeMetricKind::Histogram => format!("Distribution of {of}."),
        }
    }

    /// The unit for receivers.
    #[must_use]
    pub fn shown_unit(&self) -> &str {
        match (&self.value, self.kind) {
            (Some(MetricValue::Duration), AttributeMetricKind::Sum | AttributeMetricKind::Histogram)
                if self.unit.is_empty() =>
            {
                "seconds"
            }
            _ => &self.unit,
        }
    }
}

// === impl AttributeMetricsPreset ===

impl AttributeMetricsPreset {
    /// Every preset.
    pub const ALL: [Self; 3] = [Self::Genai, Self::Http, Self::Messaging];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Genai => "genai",
            Self::Http => "http",
            Self::Messaging => "messaging",
        }
    }

    /// The entries that it stands for.
    #[must_use]
    pub fn entries(self) -> Vec<AttributeMetric> {
        match self {
            Self::Genai => genai(),
            Self::Http => http(),
            Self::Messaging => messaging(),
        }
    }
}

/// Calls of a model are client spans whose operation asks a model for something. The spans around them, of agents and
/// frameworks, may carry the sums of what is inside, and have other operations or other kinds.
fn genai() -> Vec<AttributeMetric> {
    let calls = || {
        let operations = "^(chat|text_completion|generate_content|embeddings)$".to_owned();
        vec![client_spans(), include(MatchType::Regex, "span.gen_ai.operation.name", operations)]
    };
    let labels = [
        &["service"][..],
        &["gen_ai.provider.name", "gen_ai.system"],
        &["gen_ai.request.model"],
        &["gen_ai.operation.name"],
    ];
    let tokens =
        |name, description, attributes: &[&str]| entry(name, description, "tokens", attributes, &labels, calls());
    vec![
        tokens(
            "traces_gen_ai_input_tokens_total",
            "Number of tokens that calls of language models have sent.",
            &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"],
        ),
        tokens(
            "traces_gen_ai_output_tokens_total",
            "Number of tokens that calls of language models have received.",
            &["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"],
        ),
    ]
}

fn http() -> Vec<AttributeMetric> {
    let labels = [
        &["service"][..],
        &["http.request.method", "http.method"],
        &["http.route"],
        &["http.response.status_code", "http.status_code"],
    ];
    let servers = || vec![include(MatchType::Strict, "kind", "SPAN_KIND_SERVER".to_owned())];
    let size =
        |name, description, attributes: &[&str]| entry(name, description, "bytes", attributes, &labels, servers());
    vec![
        size(
            "traces_http_request_body_bytes_total",
            "Size of the bodies of requests to HTTP servers.",
            &["http.request.body.size", "http.request_content_length"],
        ),
        size(
            "traces_http_response_body_bytes_total",
            "Size of the bodies of responses of HTTP servers.",
            &["http.response.body.size", "http.response_content_length"],
        ),
    ]
}

fn messaging() -> Vec<AttributeMetric> {
    let labels = [
        &["service"][..],
        &["messaging.system"],
        &["messaging.destination.name", "messaging.destination"],
        &["messaging.operation.type", "messaging.operation"],
    ];
    vec![
        entry(
            "traces_messaging_batch_messages_total",
            "Number of messages in batches.",
            "messages",
            &["messaging.batch.message_count"],
            &labels,
            Vec::new(),
        ),
        entry(
            "traces_messaging_message_body_bytes_total",
            "Size of the bodies of messages.",
            "bytes",
            &["messaging.message.body.size", "messaging.message_payload_size_bytes"],
            &labels,
            Vec::new(),
        ),
    ]
}

/// A sum.
fn entry(
    name: &str,
    description: &str,
    unit: &str,
    attributes: &[&str],
    labels: &[&[&str]],
    matching: Vec<FilterPolicy>,
) -> AttributeMetric {
    let attributes = attributes.iter().map(|name| (*name).to_owned()).collect();
    AttributeMetric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        kind: AttributeMetricKind::Sum,
        matching,
        value: Some(MetricValue::Attribute(attributes, ValueScope::Span)),
        bounds: Vec::new(),
        labels: labels.iter().map(|names| dimension(names)).collect(),
    }
}

/// The first of these attributes.
fn dimension(names: &[&str]) -> Dimension {
    let mut names = names.iter().map(|name| (*name).to_owned());
    Dimension { name: names.next().unwrap_or_default(), or: names.collect(), default: None }
}

fn client_spans() -> FilterPolicy {
    include(MatchType::Strict, "kind", "SPAN_KIND_CLIENT".to_owned())
}

fn include(match_type: MatchType, key: &str, value: String) -> FilterPolicy {
    let attributes = vec![PolicyAttribute { key: key.to_owned(), value: PolicyValue::Text(value) }];
    FilterPolicy { include: Some(PolicyMatch { match_type, attributes }), include_any: None, exclude: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_a_preset_is_a_sum_with_a_name_of_its_own() {
        let all: Vec<_> = AttributeMetricsPreset::ALL.into_iter().flat_map(AttributeMetricsPreset::entries).collect();
        let mut names: Vec<_> = all.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|entry| entry.name.ends_with("_total") && entry.kind == AttributeMetricKind::Sum));
    }

    #[test]
    fn what_receivers_show_follows_from_type_and_value_unless_it_is_written() {
        let named = MetricValue::Attribute(vec!["a.b".to_owned(), "a_b".to_owned()], ValueScope::Any);
        let shown = |kind, value: Option<MetricValue>| {
            let entry = AttributeMetric { kind, value, ..AttributeMetricsPreset::Http.entries().remove(0) };
            let entry = AttributeMetric { description: String::new(), unit: String::new(), ..entry };
            (entry.help(), entry.shown_unit().to_owned())
        };
        use AttributeMetricKind::{Counter, Histogram, Sum};
        for (kind, value, help, unit) in [
            (Counter, None, "Number of spans.", ""),
            (Counter, Some(named.clone()), "Number of spans that have the attribute `a.b` or `a_b`.", ""),
            (Sum, Some(named), "Sum of the attribute `a.b` or `a_b` of spans.", ""),
            (Histogram, Some(MetricValue::Duration), "Distribution of the duration of spans.", "seconds"),
        ] {
            assert_eq!(shown(kind, value), (help.to_owned(), unit.to_owned()));
        }
        let own = AttributeMetricsPreset::Http.entries().remove(0);
        assert_eq!((own.help(), own.shown_unit()), (own.description.clone(), "bytes"));
    }
}
