//! The pure half: bytes, time and randomness come in as arguments, values go out.
//!
//! *In:* records of Kafka as bytes, settings as plain values. *Out:* deltas, journal frames, samples, remote-write
//! bodies. *Never:* a clock, a file, a socket, a thread, a runtime; the layering test proves it, and
//! `cargo check --lib --no-default-features` builds it alone.
//!
//! | room | what it does |
//! |---|---|
//! | [`model`] | the nouns: time, labels, layouts, exemplars, the ledger |
//! | [`settings`] | settings of the core |
//! | [`formats`] | records in other formats → OTLP bytes |
//! | [`otlp`] | record bytes → spans, borrowed |
//! | [`repartition`] | records → records of which each holds the spans of one partition |
//! | [`filter`] | policies → which spans are kept |
//! | [`sampling`] | trace state and attributes → how many spans one stands for |
//! | [`sanitize`] | span names → patterns of them |
//! | [`spanmetrics`] | spans → span-metric deltas |
//! | [`hostinfo`] | resources → hosts |
//! | [`attribute_metrics`] | spans → counters, sums and histograms of their numbers |
//! | [`slo`] | spans → events of service level objectives, and the good ones |
//! | [`servicegraph`] | spans → edges, paired in stream time → deltas |
//! | [`traces`] | spans → whole traces, closed in stream time → deltas |
//! | [`duplicates`] | spans → those that came before |
//! | [`deltas`] | the open step of a span task; delta records and their bytes |
//! | [`journal`] | frames, the fold, the writer's state machine |
//! | [`series`] | cumulative series of a shard: steps, staleness, snapshots |
//! | [`remotewrite`] | samples → bytes, answers → verdicts |
//! | [`tasks`] | the span task and the series task, made of the rooms above |

pub mod attribute_metrics;
pub mod deltas;
pub mod duplicates;
pub mod filter;
pub mod formats;
pub mod hostinfo;
pub mod journal;
pub mod model;
pub mod otlp;
pub mod remotewrite;
pub mod repartition;
pub mod sampling;
pub mod sanitize;
pub mod series;
pub mod servicegraph;
pub mod settings;
pub mod slo;
pub mod spanmetrics;
pub mod tasks;
pub mod traces;
