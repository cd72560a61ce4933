//! Topics with a synthetic load.

use std::process::Command;
use std::time::Duration;

use futures_executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde::Serialize;

use crate::args::Args;
use crate::servers::kafka::RealKafka;

/// What is in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Spans, rounded up to whole traces.
    pub spans: u64,
    /// Partitions.
    pub partitions: i32,
    /// The most spans in a record.
    pub spans_per_record: u64,
    /// Compression of record batches.
    pub compression: &'static str,
    /// Spans per second of event time.
    pub virtual_rate: u64,
    /// Span names; there are three or so label sets to each.
    pub operations: u64,
    /// Topics that are the same but for their seeds.
    pub topics: u64,
}

/// A topic that is there.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its spans.
    pub spans: u64,
    /// Its records.
    pub records: u64,
    /// Bytes of all values.
    pub bytes: u64,
    /// Seconds that producing took.
    pub seconds: f64,
    /// Label sets that a worker makes of it.
    pub label_sets: f64,
    /// Their series.
    pub series: f64,
    /// Label sets that a partition touches in a step.
    pub touched: f64,
}

/// What of a load decides its cost; `spanmill plan` is held against it.
#[derive(Debug, Clone, Serialize)]
pub struct Shape {
    compression: &'static str,
    partitions: f64,
    /// Of event time.
    seconds: f64,
    /// Of span metrics.
    label_sets: f64,
    /// Of the service graph.
    edges: f64,
    shards: f64,
    exemplars: bool,
    /// Label sets that a partition touches in a step.
    touched: f64,
}

// === impl Load ===

impl Load {
    /// The reference load: 100 spans a record, 4 resources, 8 resource and 12 span attributes, 50 services.
    pub fn reference(spans: u64) -> Self {
        Self {
            spans,
            partitions: 4,
            spans_per_record: 100,
            compression: "lz4",
            virtual_rate: 200_000,
            operations: 500,
            topics: 1,
        }
    }

    /// Creates the topics and fills them.
    pub fn produce(&self, args: &Args, kafka: &RealKafka, name: &str) -> Vec<Topic> {
        (1..=self.topics).map(|seed| self.one(args, kafka, &format!("{name}-{seed}"), seed)).collect()
    }

    /// What decides its cost for workers with such settings.
    pub fn shape(&self, topics: &[Topic], shards: u32, exemplars: bool) -> Shape {
        let (sets, series) = topics.iter().fold((0.0, 0.0), |(n, m), t| (n + t.label_sets, m + t.series));
        // A label set of span metrics has 19 series with the default buckets, an edge has 24.
        let edges = (series - 19.0 * sets) / 5.0;
        Shape {
            compression: self.compression,
            partitions: f64::from(self.partitions) * topics.len() as f64,
            seconds: self.spans as f64 / self.virtual_rate as f64,
            label_sets: sets - edges,
            edges,
            shards: shards.into(),
            exemplars,
            touched: topics.iter().map(|topic| topic.touched).sum::<f64>() / topics.len() as f64,
        }
    }

    fn one(&self, args: &Args, kafka: &RealKafka, name: &str, seed: u64) -> Topic {
        eprintln!("producing {name}: {self:?}");
        self.create(kafka, name);
        let mut command = Command::new(&args.program);
        command
            .args(["produce", "--rate", "0", "--group", "partition", "--topology", "scaled", "--print-every", "0s"])
            .args(["--brokers", &kafka.brokers, "--topic", name, "--compression", self.compression]);
        let numbers = [
            ("--spans", self.spans),
            ("--virtual-rate", self.virtual_rate),
            ("--spans-per-record", self.spans_per_record),
            ("--operations", self.operations),
            ("--services", (self.operations / 10).clamp(1, 200)),
            ("--seed", seed),
        ];
        for (flag, number) in numbers {
            command.args([flag, &number.to_string()]);
        }
        let output = command.output().expect("spanmill starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let number = |key: &str| -> f64 {
            let line = said.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.trim().parse().unwrap_or_else(|_| panic!("no {key} in {said}"))
        };
        let [label_sets, series, touched] = survey(args, kafka, name);
        Topic {
            label_sets,
            series,
            touched,
            name: name.to_owned(),
            spans: number("spans ") as u64,
            records: number("records ") as u64,
            bytes: number("bytes ") as u64,
            seconds: number("seconds "),
        }
    }

    /// Records of 10,000 spans are larger than what a broker takes by default.
    fn create(&self, kafka: &RealKafka, name: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().expect("a client");
        let topic =
            NewTopic::new(name, self.partitions, TopicReplication::Fixed(1)).set("max.message.bytes", "67108864");
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
        for made in block_on(admin.create_topics(&[topic], &options)).expect("the broker answers") {
            made.expect("the topic is new");
        }
    }
}

/// The label sets and the series that a topic makes, and how many label sets a partition touches in a step, by
/// `spanmill check --against`.
fn survey(args: &Args, kafka: &RealKafka, topic: &str) -> [f64; 3] {
    let mut command = Command::new(&args.program);
    command.args(["check", "--against", topic, "--records", "1000000000", "--set", "log.level=error"]);
    let output =
        command.args(["--set", &format!("kafka.brokers={}", kafka.brokers)]).output().expect("spanmill starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // "tenant single-tenant: 1612 label sets, up to 30123 series, ...", "a partition touches 105.2 label sets in a step: ..."
    let numbers = |head: &str| -> Vec<f64> {
        let line =
            said.lines().find_map(|line| line.strip_prefix(head)).unwrap_or_else(|| panic!("no {head}in {said}"));
        line.split(' ').flat_map(str::parse).collect()
    };
    let (tenant, partition) = (numbers("tenant "), numbers("a partition touches "));
    [tenant[0], tenant[1], partition[0]]
}
