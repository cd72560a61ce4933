//! Remote write as values: samples → requests in 1.0, those in 2.0, requests → samples, answers → verdicts.
//!
//! *In:* encoded `timeseries` fields; bodies; status codes. *Out:* [`Request`]s, decoded messages, [`Verdict`]s.
//! *Owner:* a series task builds requests, a shard sender of `export` settles them. *Never:* a clock, a socket, a retry loop.
//! *Next:* `export`.

pub mod acceptance;
pub mod custom_buckets;
pub mod decode;
pub mod encode;
mod exemplars;
pub mod metadata;
pub mod native;
pub mod otlp;
mod phases;
pub mod relabel;
pub mod request;
pub mod separate;
mod start_times;
pub mod v2;
pub mod verdict;

pub use request::{Request, StepBatch};
pub use start_times::StartTimes;
pub use verdict::{Backoff, Choice, Past, ReceiverAnswer, Verdict};
