//! Rules of the protocol, switched off in a real worker: `tests/chaos` proves with them that it detects the violation.
//!
//! Only a build with the feature `sabotage` has this file, and a build without debug assertions refuses the feature: no
//! released program can contain a switch. Without the feature, the callers of this module are not compiled.
//! `main` reads the environment variables `SABOTAGE` and `SABOTAGE_CLOCK` once; nothing else sets a switch.

use std::sync::atomic::{AtomicU8, Ordering};

use super::fold::Judge;
use super::frame::{FrameKind, Header};

#[cfg(not(debug_assertions))]
compile_error!("the feature `sabotage` is for the tests of a debug build");

/// A rule that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// Only the latest claimer's frames count. Without it every worker owns the journal, and no worker notices a claim.
    Claim = 1,
    /// A commit counts only where the last one ended, under the next number. Without it holes seem to be closed.
    Contiguity = 2,
    /// A shard accepts only the next delta record of a source. Without it, any delta record.
    Chain = 3,
    /// No sample leaves before its step-close record counts. Without it, at once.
    Emit = 4,
}

static OFF: AtomicU8 = AtomicU8::new(0);

/// Switches a rule off by its name, for the rest of the process; false if there is no rule of that name.
pub fn switch_off(name: &str) -> bool {
    let rule = match name {
        "claim" => Rule::Claim,
        "contiguity" => Rule::Contiguity,
        "chain" => Rule::Chain,
        "emit" => Rule::Emit,
        _ => return false,
    };
    OFF.store(rule as u8, Ordering::Relaxed);
    true
}

/// Whether a rule is switched off.
pub(crate) fn is_off(rule: Rule) -> bool {
    OFF.load(Ordering::Relaxed) == rule as u8
}

/// The header as a reader of the journal sees it.
pub(super) fn read(judge: &mut Judge, mut header: Header) -> Header {
    let (owner, next, next_commit_number) = judge.place();
    if is_off(Rule::Claim) && owner != Some(header.owner) && header.kind != FrameKind::Claim {
        judge.rule(&Header { kind: FrameKind::Claim, part: 0, parts: 1, ..header });
    }
    if is_off(Rule::Contiguity) && owner == Some(header.owner) && header.kind == FrameKind::Commit {
        header.commit_number = next_commit_number;
        header.from = next.unwrap_or(header.from);
    }
    header
}
