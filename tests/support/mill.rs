//! A running worker's surroundings: an embedded broker with one partition of everything, and what is sent to it.

use std::time::{Duration, Instant, SystemTime};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use spanmill::config::Config;
use spanmill::config::settings::TenantSource;
use spanmill::core::model::StepWidth;
use spanmill::tools::loadgen::{Generator, Options, Record, Topology};
use spanmill::worker::kafka::TopicNames;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The source topic.
pub(crate) const TOPIC: &str = "spans";

pub(crate) fn create_topics(cluster: &MockCluster<'_, DefaultProducerContext>, config: &Config) {
    let names = TopicNames::new(&config.kafka.group);
    for topic in [TOPIC, &names.journal(TOPIC), &names.deltas(), &names.series_journal()] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
}

pub(crate) fn config(brokers: &str, url: &str, tenant: TenantSource) -> Config {
    let mut config = Config { tenant, ..Config::default() };
    brokers.clone_into(&mut config.kafka.brokers);
    config.kafka.topics = vec![TOPIC.to_owned()];
    config.kafka.shards = 1;
    config.core.time.step = StepWidth::new(1_000).expect("positive");
    config.core.time.idle = 500;
    config.core.service_graphs.wait = 2_000;
    url.clone_into(&mut config.remote_write.url);
    config.worker.threads = 1;
    config
}

pub(crate) fn records() -> Vec<Record> {
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let options = Options { start: start - 5_000, rate: 200, spans: Some(600), ..Options::default() };
    Generator::new(Topology::shop(1), 1, options).collect()
}

pub(crate) fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
