//! (being built)

pub mod produce;
