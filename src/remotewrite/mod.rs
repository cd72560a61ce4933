//! Remote write 1.0 as values: samples → requests, requests → samples, answers → verdicts.
//!
//! *In:* encoded `timeseries` fields; bodies; status codes. *Out:* [`Request`]s, decoded messages, [`Verdict`]s.
//! *Owner:* a series task builds requests, a lane of `export` settles them. *Never:* a clock, a socket, a retry loop.
//! *Next:* `export`.

pub mod acceptance;
pub mod decode;
pub mod encode;
pub mod native;
pub mod request;
pub mod verdict;

pub use request::{Request, StepBatch};
pub use verdict::{Backoff, Past, Verdict};
