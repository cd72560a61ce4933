//! The pure halves of the two tasks: everything between a record and a commit, and between a delta record and a step's samples.
//!
//! *In:* records with their offsets, timestamps and the present time as arguments. *Out:* commits to journal, requests to
//! send. *Owner:* one OS thread of the worker, the simulation, a replay or a test. *Never:* Kafka, HTTP, a clock.

pub mod series;
pub mod span;
