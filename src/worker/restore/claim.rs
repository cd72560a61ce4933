//! Claiming a journal, and the evidence that it belongs to another group or topic.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Unknown;
use rdkafka::message::{BorrowedMessage, Message as _};

use super::error::TakeoverError;
use super::means::Means;
use crate::core::journal::frame::claim_as;
use crate::core::journal::{Frame, Identity, JournalError, Owner, is_contested};
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::{JournalFold, JournalLog, KafkaError, LogReader};
use crate::worker::telemetry::flood;

/// How long a claim may take to be acknowledged.
pub(super) const CLAIM_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a claim is repeated when its offset is unknown.
const CLAIM_TRIES: u32 = 5;

/// The claim of a journal.
#[derive(Debug, Clone)]
pub(crate) struct Claim<'a> {
    pub(super) journal: &'a str,
    pub(super) partition: i32,
    pub(crate) owner: Owner,
    /// Whose journal it must be.
    pub(super) identity: Identity,
    /// The sharding that it is made for.
    pub(super) sharding: u32,
    /// Where it lies in the journal.
    pub(crate) offset: i64,
}

// === impl Claim ===

impl Claim<'_> {
    /// The journal up to and including the claim.
    pub(super) fn journal<'a>(&'a self, means: &'a Means, reader: &'a LogReader) -> JournalLog<'a> {
        let (topic, partition, to) = (self.journal, self.partition, Some(self.offset + 1));
        JournalLog { reader, topic, partition, to, stop: &means.stop }
    }

    /// The state in the journal, if the journal is whole and belongs to this group. If the journal is cut and another
    /// worker has claimed it since, that worker has only trimmed it.
    pub(super) fn state<F: JournalFold>(&self, means: &Means, reader: &LogReader) -> Result<F::State, TakeoverError> {
        let fold: F = self.journal(means, reader).fold(|e| self.damaged(e))?;
        let folded = fold.state();
        if let Err(JournalError::Cut { .. }) = folded {
            self.is_still_ours(means, reader)?;
        }
        let state = folded.map_err(|e| self.damaged(e))?;
        let (owner, identity) = F::owner(&state);
        let (topic, partition, found) = (self.journal.to_owned(), self.partition, F::sharding(&state));
        if found > self.sharding {
            let shardings = means.clients.names.shardings();
            return Err(TakeoverError::Resharded { topic, partition, shardings, found });
        }
        if owner != Some(self.owner) {
            return Err(self.overtaken());
        }
        self.is_of_ours(identity)?;
        Ok(state)
    }

    /// Checks that no other worker has claimed the journal since. If one has, missing records are not a loss.
    pub(super) fn is_still_ours(&self, means: &Means, reader: &LogReader) -> Result<(), TakeoverError> {
        let (topic, partition) = (self.journal, self.partition);
        let (low, high) = reader.bounds(topic, partition)?;
        let stretch = Stretch { topic, partition, from: low.max(self.offset + 1), to: high };
        reader.read(stretch, &means.stop, &mut |offset, record| {
            let later = std::iter::once((offset, record));
            let contested = is_contested(self.owner, self.sharding, later).map_err(|e| self.damaged(e))?;
            if contested { Err(self.overtaken()) } else { Ok(()) }
        })
    }

    /// Checks that the journal does not belong to another group or topic, which may have claimed it at the same moment.
    fn is_of_ours(&self, owner: Option<&Identity>) -> Result<(), TakeoverError> {
        is_ours(self.journal, self.partition, &self.identity, owner)
    }

    /// The journal cannot be read.
    pub(super) fn damaged(&self, source: JournalError) -> TakeoverError {
        TakeoverError::Journal { topic: self.journal.to_owned(), partition: self.partition, source }
    }

    /// Another worker has claimed the journal.
    fn overtaken(&self) -> TakeoverError {
        TakeoverError::Overtaken { topic: self.journal.to_owned(), partition: self.partition }
    }
}

/// Appends a claim of a fresh owner and waits for its offset. An unknown outcome means: claim again. A journal that
/// begins with the frames of another group or topic is not claimed: a claim would take it from that group.
pub(super) fn stake_claim<'a>(
    means: &Means,
    reader: &LogReader,
    topic: &'a str,
    partition: i32,
    identity: Identity,
    sharding: u32,
) -> Result<Claim<'a>, TakeoverError> {
    begins_as_ours(means, reader, topic, partition, &identity)?;
    let note = format!("{} pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let mut last = None;
    for _ in 0..CLAIM_TRIES {
        if means.stop.load(Ordering::Relaxed) {
            return Err(KafkaError::Stopping.into());
        }
        let owner = Owner(rand::random());
        let claim = claim_as(owner, &note, &identity, sharding);
        match means.clients.appender.append_and_wait(topic, partition, &claim, CLAIM_TIMEOUT) {
            Ok(Some(offset)) => return Ok(Claim { journal: topic, partition, owner, identity, sharding, offset }),
            Ok(None) => tracing::debug!(topic, partition, "claim acknowledged without an offset, claiming again"),
            Err(error) => {
                if matches!(error.code(), Some(Unknown::UnknownPartition | Unknown::UnknownTopicOrPartition)) {
                    means.clients.appender.look_up(topic)?;
                }
                if let Some(held_back) = flood::may_say(&format!("claim {}", flood::gist(&error.to_string()))) {
                    tracing::info!(topic, partition, %error, held_back, "claim not acknowledged, claiming again");
                }
                last = Some(error);
            }
        }
    }
    let timeout = KafkaError::Timeout { what: format!("claim {topic}[{partition}]"), seconds: CLAIM_TIMEOUT.as_secs() };
    Err(last.unwrap_or(timeout).into())
}

/// Checks that a journal does not begin with the frames of another group or topic. Frames of an earlier version do not
/// name them, and an empty journal has none.
fn begins_as_ours(
    means: &Means,
    reader: &LogReader,
    topic: &str,
    partition: i32,
    ours: &Identity,
) -> Result<(), TakeoverError> {
    let (low, high) = reader.bounds(topic, partition)?;
    if low == high {
        return Ok(());
    }
    let stretch = Stretch { topic, partition, from: low, to: low + 1 };
    let identity = |record: &BorrowedMessage<'_>| {
        // Bytes that are no frame are reported when the whole journal is read.
        let frame = Frame::decode(record.payload().unwrap_or_default()).ok()?;
        Identity::decode(frame.identity).ok().flatten()
    };
    let owner = reader.first(stretch, &means.stop, identity)?.flatten();
    is_ours(topic, partition, ours, owner.as_ref())
}

fn is_ours(topic: &str, partition: i32, ours: &Identity, owner: Option<&Identity>) -> Result<(), TakeoverError> {
    match owner {
        Some(owner) if !owner.owns_the_same(ours) => {
            Err(TakeoverError::Foreign { journal: topic.to_owned(), partition, owner: owner.clone() })
        }
        _ => Ok(()),
    }
}
