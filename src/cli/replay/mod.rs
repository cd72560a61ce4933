//! `spanmill replay`: where its samples go besides remote write, and what is asked before.

pub mod diff;
pub mod finish;
pub mod preflight;
pub mod sink;
