//! The Kafka edge: clients, internal topics, log reading and appending, fetching, group membership.
//!
//! *In:* settings, commands of the worker. *Out:* records, acknowledgements, assignments. *Owner:* the worker.
//! *Never:* what a record means.
//!
//! Membership and fetching are separate consumers. The group only assigns partitions: its consumer never fetches. Each
//! worker thread fetches with a consumer of its own, assigned by hand at the offsets that the journals name. So a
//! rebalance cannot leak records into the wrong queue, and takes no longer than its callback.

#![allow(clippy::disallowed_methods, reason = "an edge: it waits for brokers by the clock")]

pub mod appender;
mod assignment;
pub mod broker_clock;
pub mod client;
pub mod deadletter;
pub(crate) mod fed;
pub mod fetch;
pub(crate) mod files;
pub mod follow;
pub mod inspect;
mod journal;
pub mod members;
mod polled;
pub mod positions;
mod pulse;
pub mod reader;
pub mod samples;
pub mod scan;
pub mod tenant;
pub(crate) mod tokens;
mod topic_ids;
pub mod topics;
pub mod transactions;
mod trouble;
pub mod witness;

pub use appender::Appender;
pub use broker_clock::{BrokerClock, Now};
pub use client::KafkaError;
pub use deadletter::DeadLetters;
pub use fetch::Fetcher;
pub use follow::Follower;
pub use journal::{JournalFold, JournalLog};
pub use pulse::Pulse;
pub use reader::LogReader;
pub use samples::SampleTopic;
pub use topics::TopicNames;
