//! Seeded topologies and traces, and their exact expected counts.
//!
//! * *In:* a [`Topology`], a seed, [`Options`].
//! * *Out:* [`Record`]s as the OpenTelemetry Collector would put them into Kafka, and the [`Expectation`]: every series
//!   that a correct worker with default settings derives from them.
//! * *Owner:* none; a [`Generator`] is a value. The same arguments give the same bytes.
//! * *Never:* a clock, I/O, or a line of the code that it checks: the expectation comes from the edges that
//!   the generator planned, not from reading spans back.
//! * *Next:* `produce` sends the records; `demo`, tests and benches feed them to the worker's rooms.

mod count;
mod dice;
mod expect;
mod generator;
mod hash;
mod pack;
mod plan;
mod scaled;
mod shop;
mod steps;
mod template;
mod topology;
mod whole;

pub use expect::{Bound, Expectation, ParseError};
pub use generator::{Generator, Group, Options, Record};
pub use hash::partition_of;
pub use scaled::Scale;
pub use steps::{StepValues, parse_steps, step_line};
pub use topology::Topology;

#[cfg(test)]
mod tests;
