//! The types that every room shares: time, labels, layouts, exemplars, the ledger.
//!
//! *In/Out:* plain values. *Owner:* none; everything here is copied or borrowed. *Never:* a clock, I/O, a float before
//! a sample is written.

pub mod duration;
pub mod exemplar;
pub mod hash;
pub mod labels;
pub mod layout;
pub mod ledger;
pub mod names;
pub mod sketch;
pub mod span;
pub mod text;
pub mod time;
pub mod weight;
pub mod wire;

pub use exemplar::Exemplar;
pub use hash::Seed;
pub use labels::{LabelBuilder, Namer, SetName, Spelling};
pub use layout::{Family, Layout, Naming, Native, NativeTotal, Natives, Numbers, Owner, Shape, Spec, Unit};
pub use ledger::{Counter, Ledger};
pub use names::{NameId, Names};
pub use sketch::Sketch;
pub use time::{MAX_TIME, Millis, StepWidth};
pub use weight::Weight;
