//! Source topics: which there are, by name and by regular expression, and what is different about some of them.

use regex::Regex;
use serde_json::{Value, json};

use super::draft::Choice;
use super::items::{Item, Parts, no_regex};
use super::problem::quoted;
use super::read::Reading;
use super::schema;
use super::settings::{Config, Kafka, Start, TenantSource, TopicSettings};
use super::syntax::{self, by_trace_topic};
use super::value::show_text;
use super::yaml::Node;
use crate::core::model::Namer;
use crate::core::model::text::is_tenant;
use crate::core::settings::Encoding;

/// What an entry begins with that is a regular expression and no name.
const EXPRESSION: char = '^';

/// The endings of the names of internal topics, of every group: a regular expression never takes one of them for a source,
/// whether its group is known here or not, and also before the rest of its topics is there.
const INTERNAL: [&str; 4] = ["-journal", ".journal", "-deltas", "-by-trace"];

/// The source topics of a group, to be asked which these are.
#[derive(Debug, Clone, Default)]
pub struct SourceTopics {
    named: Vec<String>,
    expressions: Vec<Regex>,
    group: String,
    dead_letters: String,
    /// Whether these are the topics that source topics are repartitioned to.
    by_trace: bool,
}

/// Whether an entry is a regular expression.
pub(super) fn is_expression(entry: &str) -> bool {
    entry.starts_with(EXPRESSION)
}

/// That an entry is the name of a topic, or a regular expression.
pub(super) fn entry(text: &str) -> Result<(), String> {
    if is_expression(text) {
        Regex::new(text).map(drop).map_err(|error| no_regex(text, &error))
    } else {
        syntax::topic(text).map_err(|message| format!("{} {message}", quoted(text)))
    }
}

/// Whether a topic is no source for a regular expression: internal topics of spanmill, and those of Kafka.
fn is_internal(topic: &str) -> bool {
    let is_plan = topic.contains(Namer::REPLAY) && topic.ends_with("-plan");
    // The topics of shards have the number of a later sharding behind their names.
    let topic = match topic.rsplit_once('.') {
        Some((name, "sharding")) => name,
        Some((name, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => topic,
    };
    topic.starts_with("__") || is_plan || INTERNAL.iter().any(|ending| topic.ends_with(ending))
}

// === impl SourceTopics ===

impl SourceTopics {
    /// Those that span tasks read: the topics of the settings, or those to which these are repartitioned.
    #[must_use]
    pub fn new(kafka: &Kafka) -> Self {
        let upstream = Self::upstream(kafka);
        if !kafka.repartition {
            return upstream;
        }
        let named = upstream.named.iter().map(|topic| by_trace_topic(&kafka.group, topic)).collect();
        Self { named, by_trace: true, ..upstream }
    }

    /// Those that the settings name, also where they are repartitioned first.
    #[must_use]
    pub fn upstream(kafka: &Kafka) -> Self {
        let (expressions, named): (Vec<_>, Vec<_>) = kafka.topics.iter().cloned().partition(|e| is_expression(e));
        Self {
            named,
            // The check of the settings has refused what is none.
            expressions: expressions.iter().filter_map(|entry| Regex::new(entry).ok()).collect(),
            group: kafka.group.clone(),
            dead_letters: kafka.dead_letter_topic.clone(),
            by_trace: false,
        }
    }

    /// The topics that are named.
    #[must_use]
    pub fn named(&self) -> &[String] {
        &self.named
    }

    /// The regular expressions, as they are written; empty if all topics are named.
    #[must_use]
    pub fn expressions(&self) -> Vec<&str> {
        self.expressions.iter().map(Regex::as_str).collect()
    }

    /// Whether a regular expression makes `topic` a source. Internal topics and the topic of dead letters never are, nor is one
    /// whose journal could have no name.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if self.by_trace {
            let source = syntax::by_trace_source(&self.group, topic);
            return source.is_some_and(|source| Self { by_trace: false, ..self.clone() }.matches(source));
        }
        let may_be = !is_internal(topic) && topic != self.dead_letters;
        may_be && self.expressions.iter().any(|e| e.is_match(topic)) && syntax::journal(&self.group, topic).is_ok()
    }

    /// Whether `topic` is a source.
    #[must_use]
    pub fn contains(&self, topic: &str) -> bool {
        self.named.iter().any(|named| named == topic) || self.matches(topic)
    }

    /// Whether source topics are repartitioned to these.
    #[must_use]
    pub fn are_by_trace(&self) -> bool {
        self.by_trace
    }
}

// === impl TopicSettings ===

impl TopicSettings {
    /// Whether it speaks of `topic`.
    fn is_of(&self, topic: &str) -> bool {
        if is_expression(&self.topic) {
            Regex::new(&self.topic).is_ok_and(|expression| expression.is_match(topic))
        } else {
            self.topic == topic
        }
    }
}

impl Item for TopicSettings {
    const FORM: &'static str = "a list such as `[{topic: jaeger-spans, encoding: jaeger_json, tenant: team-a}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let parts = Parts::of(node, &["topic", "encoding", "tenant"], at, reading)?;
        let topic = parts.text("topic", reading, entry);
        let encoding = parts.text_if("encoding", reading, |word| encoding(word).map(drop));
        let tenant = parts.text_if("tenant", reading, tenant);
        let (topic, encoding, tenant) = (topic?, encoding?, tenant?);
        if encoding.is_none() && tenant.is_none() {
            let message = "sets nothing for the topic; write `encoding` or `tenant`".to_owned();
            reading.wrong(at.to_owned(), node.start, Some(message));
            return None;
        }
        Some(Self { topic, encoding: encoding.and_then(|word| self::encoding(&word).ok()), tenant })
    }

    fn schema() -> Value {
        let map = json!({ "topic": schema::text(), "encoding": { "enum": Encoding::Auto.words() }, "tenant": schema::text() });
        schema::parts(&map, &["topic"])
    }

    fn show(&self) -> String {
        let encoding = self.encoding.map(|encoding| format!(", encoding: {}", encoding.word())).unwrap_or_default();
        let tenant = self.tenant.as_ref().map(|tenant| format!(", tenant: {}", show_text(tenant))).unwrap_or_default();
        format!("{{topic: {}{encoding}{tenant}}}", show_text(&self.topic))
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        let earlier = before.iter().find(|other| other.topic == self.topic || other.is_of(&self.topic))?;
        let (own, earlier) = (quoted(&self.topic), quoted(&earlier.topic));
        Some(if own == earlier {
            format!("{own} appears twice; keep one")
        } else {
            format!("is never reached, because {earlier} before it matches {own}; put this one first")
        })
    }
}

fn encoding(word: &str) -> Result<Encoding, String> {
    let mut encoding = Encoding::Auto;
    if encoding.choose(word) {
        return Ok(encoding);
    }
    let words: Vec<String> = encoding.words().iter().map(|word| format!("`{word}`")).collect();
    Err(format!("{} is unknown; write one of {}", quoted(word), words.join(", ")))
}

fn tenant(name: &str) -> Result<(), String> {
    if !is_tenant(name) {
        return Err("is no tenant; write its name on one line, or leave it out".to_owned());
    }
    syntax::header_value(name)
}

// === impl Kafka ===

impl Kafka {
    /// What is different about a source topic: the first entry of `topic_settings` that speaks of it.
    fn settings_of(&self, topic: &str) -> Option<&TopicSettings> {
        self.topic_settings.iter().find(|settings| settings.is_of(topic))
    }

    /// The topic of which `topic` holds the records, repartitioned; `None` if it is a source topic itself.
    #[must_use]
    pub fn repartitioned<'a>(&self, topic: &'a str) -> Option<&'a str> {
        syntax::by_trace_source(&self.group, topic).filter(|_| self.repartition)
    }

    /// The format of the record values of a source topic, or of one that a source topic is repartitioned to.
    #[must_use]
    pub fn encoding_of(&self, topic: &str) -> Encoding {
        let written = |topic| self.settings_of(topic).and_then(|settings| settings.encoding).unwrap_or(self.encoding);
        match self.repartitioned(topic).map(written) {
            None => written(topic),
            // These are passed on as they are: what is not OTLP is what could not be read as the format that it should have.
            Some(encoding @ (Encoding::Auto | Encoding::OtlpProto)) => encoding,
            // As are records that are not for metrics.
            Some(Encoding::TempoPushBytes) => Encoding::Auto,
            Some(_) => Encoding::OtlpProto,
        }
    }

    /// Where a partition that span tasks read begins: what a source topic is repartitioned to is read from its beginning.
    #[must_use]
    pub fn start_of_sources(&self) -> Start {
        if self.repartition { Start::Earliest } else { self.start }
    }

    /// Whether an entry of `topic_settings` speaks of any source topic that there can be: one that is named, or one that a
    /// regular expression may match.
    pub(super) fn can_read(&self, settings: &TopicSettings) -> bool {
        let expressions = self.topics.iter().any(|entry| is_expression(entry));
        match is_expression(&settings.topic) {
            true => expressions || self.topics.iter().any(|named| settings.is_of(named)),
            false => SourceTopics::upstream(self).contains(&settings.topic),
        }
    }
}

// === impl Config ===

impl Config {
    /// Where the tenant of a record of a source topic comes from.
    #[must_use]
    pub fn tenant_of(&self, topic: &str) -> TenantSource {
        let source = self.kafka.repartitioned(topic);
        let fixed = self.kafka.settings_of(source.unwrap_or(topic)).and_then(|settings| settings.tenant.clone());
        match (fixed, source, &self.tenant) {
            (Some(tenant), ..) => TenantSource::Static(tenant),
            (None, Some(source), TenantSource::Topic) => TenantSource::Static(source.to_owned()),
            (None, ..) => self.tenant.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(topics: &[&str]) -> Kafka {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Kafka { topics, group: "mill".to_owned(), dead_letter_topic: "letters".to_owned(), ..Kafka::default() }
    }

    #[test]
    fn a_regular_expression_begins_with_a_caret_and_need_not_match_to_the_end() {
        let topics = SourceTopics::new(&kafka(&["spans", "^traces-.*", "^app[0-9]+$"]));
        assert_eq!(
            (topics.named(), topics.expressions()),
            (&["spans".to_owned()][..], vec!["^traces-.*", "^app[0-9]+$"])
        );
        for source in ["spans", "traces-", "traces-a.b", "app1"] {
            assert!(topics.contains(source), "{source}");
        }
        for other in ["spans-2", "my-traces-a", "app", "app1-x"] {
            assert!(!topics.contains(other), "{other}");
        }
        assert!(!topics.matches("spans"), "it is named");
    }

    #[test]
    fn no_internal_topic_of_any_group_and_no_dead_letter_is_a_source_for_a_regular_expression() {
        let topics = SourceTopics::new(&kafka(&["^.*"]));
        for (group, source) in [("mill", "traces-a"), ("other", "series"), ("mill-replay-r1", "traces-a")] {
            let [deltas, series, plan] = ["deltas", "series-journal", "plan"].map(|name| format!("{group}-{name}"));
            let journal = crate::config::journal_topic(group, source);
            let later = [format!("{deltas}.12"), format!("{series}.1"), format!("{series}.sharding")];
            for internal in [journal.as_str(), &deltas, &series].into_iter().chain(later.iter().map(String::as_str)) {
                assert!(!topics.matches(internal), "{internal}");
            }
            assert_eq!(topics.matches(&plan), !group.contains("-replay-"), "only a replay has one: {plan}");
        }
        for other in ["letters", "__consumer_offsets", "__transaction_state", &"t".repeat(240)] {
            assert!(!topics.matches(other), "{other}");
        }
        let named = SourceTopics::new(&kafka(&["my-journal", "^.*"]));
        assert!(named.contains("my-journal"), "who names a topic means it");
    }

    #[test]
    fn repartitioned_topics_stand_for_their_source_topics() {
        let mut config =
            Config { kafka: kafka(&["spans", "^traces-.*"]), tenant: TenantSource::Topic, ..Config::default() };
        config.kafka.encoding = Encoding::ZipkinJson;
        config.kafka.start = Start::Latest;
        let plain = SourceTopics::new(&config.kafka);
        assert!(!plain.are_by_trace() && !plain.contains("mill-spans-by-trace") && plain.contains("traces-a"));
        assert!(!SourceTopics::new(&kafka(&["^.*"])).contains("other-spans-by-trace"), "of no group");
        config.kafka.repartition = true;
        let topics = SourceTopics::new(&config.kafka);
        assert_eq!((topics.named(), topics.are_by_trace()), (&["mill-spans-by-trace".to_owned()][..], true));
        assert!(topics.contains("mill-traces-a-by-trace") && !topics.contains("traces-a") && !topics.contains("spans"));
        assert!(!topics.contains("mill-other-by-trace") && !topics.contains("x-traces-a-by-trace"));
        assert_eq!(SourceTopics::upstream(&config.kafka).named(), ["spans"]);
        assert_eq!(config.tenant_of("mill-traces-a-by-trace"), TenantSource::Static("traces-a".to_owned()));
        assert_eq!(config.kafka.encoding_of("mill-traces-a-by-trace"), Encoding::OtlpProto);
        assert_eq!(config.kafka.encoding_of("traces-a"), Encoding::ZipkinJson);
        assert_eq!(config.kafka.start_of_sources(), Start::Earliest);
        config.kafka.group = "mill-replay-r1".to_owned();
        assert_eq!(
            SourceTopics::new(&config.kafka).named(),
            ["mill-spans-by-trace"],
            "a replay reads those of its group"
        );
    }

    #[test]
    fn the_first_settings_that_speak_of_a_topic_count_and_a_tenant_of_a_topic_stands_for_every_source() {
        let settings = |topic: &str, encoding, tenant: Option<&str>| TopicSettings {
            topic: topic.to_owned(),
            encoding,
            tenant: tenant.map(str::to_owned),
        };
        let mut config = Config { kafka: kafka(&["^.*"]), tenant: TenantSource::Key, ..Config::default() };
        config.kafka.encoding = Encoding::OtlpProto;
        config.kafka.topic_settings = vec![
            settings("traces-z", None, Some("z")),
            settings("^traces-", Some(Encoding::ZipkinJson), None),
            settings("^.*-j$", Some(Encoding::JaegerJson), Some("j")),
        ];
        let of = |topic: &str| (config.kafka.encoding_of(topic), config.tenant_of(topic));
        assert_eq!(of("traces-z"), (Encoding::OtlpProto, TenantSource::Static("z".to_owned())));
        assert_eq!(of("traces-j"), (Encoding::ZipkinJson, TenantSource::Key));
        assert_eq!(of("spans-j"), (Encoding::JaegerJson, TenantSource::Static("j".to_owned())));
        assert_eq!(of("spans"), (Encoding::OtlpProto, TenantSource::Key));
    }
}
