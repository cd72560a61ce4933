//! What is measured: loads, and who reads them.

use clap::ValueEnum;

use crate::load::Load;

/// A question, and the cases that answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Experiment {
    /// The reference load through one thread, beside a reader
    Reference,
    /// Two threads of one worker beside two workers of one thread
    Threads,
    /// 1 to 512 partitions
    Partitions,
    /// Records of 1 to 10,000 spans
    Records,
    /// Every compression, and none
    Compression,
    /// The same spans over 1 to 300 steps of event time
    Steps,
    /// 500 to 100,000 span names
    Series,
    /// 4 and 64 shards, with and without exemplars: what the plan did not come from
    Shards,
}

/// One load and who reads it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name in the results.
    pub name: String,
    /// Where it stands on the axis of a plot.
    pub x: u64,
    /// What is read.
    pub load: Load,
    /// Who reads it.
    pub subjects: Vec<Subject>,
    /// `kafka.shards`
    pub shards: u32,
    /// `series.exemplars.enabled`
    pub exemplars: bool,
}

/// Who reads a load.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A consumer that adds up all bytes.
    Reader,
    /// A worker with so many threads, which reads all topics.
    Worker {
        /// `worker.threads`
        threads: u32,
    },
    /// A worker with one thread for each topic.
    WorkerPerTopic,
}

// === impl Experiment ===

impl Experiment {
    /// Its name on the command line and in the results.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Its cases, with so many spans each if that is given.
    pub fn cases(self, spans: Option<u64>) -> Vec<Case> {
        let usual = spans.unwrap_or(1_000_000);
        let load = Load::reference(usual);
        let case = |name: String, x: u64, load: Load| Case {
            name,
            x,
            load,
            subjects: vec![Subject::Reader, Subject::Worker { threads: 1 }],
            shards: 16,
            exemplars: true,
        };
        match self {
            Self::Reference => vec![case("lz4".to_owned(), 1, Load::reference(spans.unwrap_or(3_000_000)))],
            Self::Threads => {
                let load = Load { topics: 2, ..Load::reference(spans.unwrap_or(3_000_000)) };
                let subjects =
                    vec![Subject::Worker { threads: 1 }, Subject::Worker { threads: 2 }, Subject::WorkerPerTopic];
                vec![Case { subjects, ..case("2 topics".to_owned(), 2, load) }]
            }
            Self::Partitions => [1, 4, 16, 64, 128, 256, 512]
                .map(|n| case(n.to_string(), n, Load { partitions: n as i32, ..load.clone() }))
                .to_vec(),
            Self::Records => [1, 10, 100, 1_000, 10_000]
                .map(|n| case(n.to_string(), n, Load { spans_per_record: n, ..load.clone() }))
                .to_vec(),
            Self::Compression => ["none", "lz4", "snappy", "zstd", "gzip"]
                .map(|compression| case(compression.to_owned(), 1, Load { compression, ..load.clone() }))
                .to_vec(),
            Self::Steps => [1, 10, 100, 300]
                .map(|n| case(n.to_string(), n, Load { virtual_rate: (usual / 15 / n).max(1), ..load.clone() }))
                .to_vec(),
            Self::Series => [500, 2_000, 10_000, 40_000]
                .map(|n| case(n.to_string(), n, Load { operations: n, virtual_rate: usual / 150, ..load.clone() }))
                .to_vec(),
            Self::Shards => {
                // 60 steps, so that label sets are named most of the time.
                let virtual_rate = (usual / 900).max(1);
                let load = Load { operations: 2_000, partitions: 2, virtual_rate, ..load };
                let of = |(shards, exemplars): (u32, bool)| {
                    let name = format!("{shards}{}", if exemplars { "" } else { ", no exemplars" });
                    let subjects = vec![Subject::Worker { threads: 1 }];
                    Case { subjects, shards, exemplars, ..case(name, shards.into(), load.clone()) }
                };
                [(4, true), (4, false), (64, true), (64, false)].map(of).to_vec()
            }
        }
    }
}

// === impl Case ===

impl Case {
    /// The settings of its workers.
    pub fn settings(&self) -> [String; 2] {
        [format!("kafka.shards={}", self.shards), format!("series.exemplars.enabled={}", self.exemplars)]
    }
}

// === impl Subject ===

impl Subject {
    /// Its name in the results.
    pub fn name(&self) -> String {
        match self {
            Self::Reader => "reader".to_owned(),
            Self::Worker { threads: 1 } => "worker".to_owned(),
            Self::Worker { threads } => format!("worker, {threads} threads"),
            Self::WorkerPerTopic => "2 workers".to_owned(),
        }
    }
}
