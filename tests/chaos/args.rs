//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use crate::schedule::{self, Cast};
use crate::settings::{LOADS, Produced, TOPIC};

/// Exactness under chaos on real Kafka.
#[derive(Debug, Clone, Parser)]
#[command(name = "chaos")]
pub struct Args {
    /// How long the load lasts, the start, calm and chaos together. From 180 on every kind of trouble is certain to come
    #[arg(long, default_value_t = 190)]
    pub seconds: u64,
    /// Decides the load and everything that goes wrong; by default another one each time
    #[arg(long)]
    pub seed: Option<u64>,
    /// Workers; at times there is one more
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub workers: u64,
    /// Spans per second
    #[arg(long, default_value_t = 500)]
    pub rate: u64,
    /// Partitions of the source topic
    #[arg(long, default_value_t = 6)]
    pub partitions: u32,
    /// Partitions of the deltas topic
    #[arg(long, default_value_t = 4)]
    pub shards: u32,
    /// How long everything may take to settle at the end
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    pub settle: u64,
    /// Print what would go wrong, and when; run nothing
    #[arg(long)]
    pub plan: bool,
    /// One finished topic through several sets of workers: the streams must be the same, byte for byte
    #[arg(long)]
    pub compare: bool,
    /// With everything switched on that is off by default and adds to the state of a partition or a shard
    #[arg(long, requires = "compare")]
    pub everything: bool,
    /// Do what a rule of the protocol protects from, to a worker that keeps it and to one that does not: the first must stay
    /// exact, the second must be noticed. `all` takes one rule after the other
    #[arg(long, value_name = "RULE", value_parser = ["claim", "contiguity", "chain", "emit", "all"])]
    pub sabotage: Option<String>,
    /// The load is not partitioned by trace ID, and the workers repartition it
    #[arg(long, conflicts_with_all = ["compare", "sabotage"])]
    pub repartition: bool,
    /// The spanmill to test, instead of the one that was built with this test
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_spanmill"), hide_default_value = true)]
    pub program: PathBuf,
    /// An older spanmill, which all workers are at first; before the chaos they are replaced one after the other
    #[arg(long, value_name = "FILE")]
    pub older: Option<PathBuf>,
    /// Write the report here as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Be a worker that the group knows nothing of
    #[arg(long, value_name = "CONFIG", hide = true)]
    pub rogue: Option<PathBuf>,
    /// What `cargo test` may pass to every test
    #[arg(long, hide = true)]
    pub nocapture: bool,
}

// === impl Args ===

impl Args {
    /// Who there is for trouble to come to.
    pub fn cast(&self) -> Cast {
        // Another program may have no clock that can be set wrong.
        let own = self.program == Path::new(env!("CARGO_BIN_EXE_spanmill"));
        Cast { workers: self.places(), clocks: cfg!(feature = "sabotage") && own }
    }

    /// Whether workers compute metrics of whole traces, which an older program may not.
    pub fn has_whole_traces(&self) -> bool {
        !self.compare && self.older.is_none()
    }

    /// Workers, as a number of places.
    pub fn places(&self) -> usize {
        usize::try_from(self.workers).expect("few")
    }

    /// How long the load lasts.
    pub fn load(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long the chaos lasts. With the seed and the workers it is all that decides what goes wrong.
    pub fn chaos(&self) -> Duration {
        schedule::chaos(self.load())
    }

    /// The load.
    pub fn produced(&self) -> Produced<'static> {
        Produced { topic: TOPIC, seconds: self.seconds, rate: self.rate, tenants: &LOADS }
    }
}
