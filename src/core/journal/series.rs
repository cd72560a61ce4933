//! The journal of a series task: which steps were closed at which deltas offset, and snapshots.

mod endpoints;

use std::collections::BTreeSet;

pub use self::endpoints::EndpointMark;
use super::chain::DeltaChain;
use super::fold::{Fold, FrameVerdict, Ruling};
use super::frame::Owner;
use super::identity::Identity;
use super::span::{option, put_option};
use super::{FrameStart, JournalError, decode_at};
use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

/// Tags before undelivered batches, before settings, before sources that join and before batches of single endpoints, in a
/// snapshot that has some. A state begins with its version, which is another byte.
const UNDELIVERED: u8 = 0xff;
const SETTINGS: u8 = 0xfe;
const JOINING: u8 = 0xfd;
const APART: u8 = 0xfc;

/// Why a step was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EmitCause {
    /// Every source partition had passed it.
    Watermark = 0,
    /// The grace time was over; the step was closed without some source partition.
    Forced = 1,
    /// No step: every source has ended, everything is closed and acknowledged.
    End = 2,
}

/// The body of a series task's commit: one closed step. The commit's `to` is the deltas offset up to which the step's
/// values count the deltas; several steps may close at one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitMark {
    /// The end of the step.
    pub step: Millis,
    /// Why it was closed.
    pub cause: EmitCause,
    /// The receivers have acknowledged all samples of all steps up to this one, but those that the latest snapshot holds.
    pub acknowledged: Option<Millis>,
    /// The tenants that the step was not written for, because their receiver is down. An owner that closes it again
    /// skips them as well.
    pub left_out: Vec<String>,
    /// The sources that the step was closed without: on stall timeout, or because they join the shard and have not caught up.
    /// A mark of an earlier version names none.
    pub behind: Vec<Behind>,
    /// What the step's values count. A mark of an earlier version does not hold it; its `to` is used instead.
    pub basis: Option<Basis>,
    /// What changes with the step; nothing does with a mark of an earlier version.
    pub change: Change,
}

/// What a step changes about a shard, so that an owner that closes it again does so, too; and what it reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The settings that are active from the next step on; opaque, and empty when they stay. The first mark of a journal
    /// has those by which it was closed itself.
    pub settings: Vec<u8>,
    /// Sources that the shard no longer keeps label sets for.
    pub gone: Vec<Source>,
    /// How far each endpoint is, where a tenant has several: in order of their names. Empty where no tenant has.
    pub endpoints: Vec<EndpointMark>,
}

/// A source: its topic and its partition.
type Source = (String, i32);

/// What the values of a step count, independent of later changes to the deltas topic. An owner that closes the step
/// again counts the same delta records, wherever they lie by then, or does not close it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// Of every source, the first delta record that is not counted.
    pub chain: DeltaChain,
    /// Of all delta records that were counted: see [`Basis::add`].
    pub digest: u64,
}

/// How far a source was when a step was closed without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The source topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The first commit of the source whose delta record was not counted yet.
    pub commit_number: u64,
    /// How many parts of that delta record were counted all the same: the source was sending it.
    pub part: u32,
}

/// The body of a series task's snapshot. Its writer guarantees that the receivers have acknowledged every step up to
/// `step`, except for the batches in `undelivered`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeriesSnapshot {
    /// The state; opaque.
    pub body: Vec<u8>,
    /// Reading continues here: deltas below this offset are in the state, or will be sent again. In a topic that has
    /// lost its end, that may be below the last mark's `to`.
    pub deltas_offset: i64,
    /// The last step that was closed.
    pub step: Millis,
    /// Batches of earlier steps whose receiver is down, to be sent again; opaque.
    pub undelivered: Vec<u8>,
    /// The active settings; opaque, and empty in a snapshot of an earlier version.
    pub settings: Vec<u8>,
    /// The sources that join the shard: no step waits for them.
    pub joining: BTreeSet<Source>,
    /// As `undelivered`, of tenants with several endpoints; opaque.
    pub apart: Vec<u8>,
}

/// The state of a series task that a new owner starts from. It reads the deltas from the snapshot on, closes the steps
/// of the marks at their offsets, and sends those above `acknowledged` again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeriesState {
    /// The latest claimer.
    pub owner: Option<Owner>,
    /// Whose journal it is; `None` if no frame names its owner.
    pub identity: Option<Identity>,
    /// The latest snapshot.
    pub snapshot: Option<SeriesSnapshot>,
    /// The marks after it, each with its deltas offset, in order.
    pub marks: Vec<(i64, EmitMark)>,
    /// The receivers have acknowledged all samples of all steps up to this one, but those that the snapshot holds.
    pub acknowledged: Option<Millis>,
    /// The deltas offset at which the next mark's commit starts; `None` before the first mark.
    pub next: Option<i64>,
    /// The sources that no step waited for, because they join the shard. Those of a stall timeout are not among them.
    pub joining: BTreeSet<Source>,
    /// The number of the next commit.
    pub next_commit_number: u64,
    /// The sharding of the latest claimer, by number.
    pub sharding: u32,
    /// The journal offset of the oldest record that a restore still needs: everything below may be deleted.
    pub oldest_needed: Option<i64>,
}

/// Folds the journal of a series task.
#[derive(Debug, Clone)]
pub struct SeriesFold {
    fold: Fold,
    start: FrameStart,
    state: SeriesState,
    /// The first marks are deleted, and no snapshot replaces them.
    headless: bool,
}

// === impl EmitMark ===

impl EmitMark {
    /// The commit's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.cause as u8];
        put_i64(&mut out, self.step);
        put_option(&mut out, self.acknowledged);
        // What follows is there only up to the last part that is not empty.
        let change = self.change != Change::default();
        let more = change || self.basis.is_some();
        if more || !self.left_out.is_empty() || !self.behind.is_empty() {
            put_u64(&mut out, self.left_out.len() as u64);
            self.left_out.iter().for_each(|tenant| put_bytes(&mut out, tenant.as_bytes()));
        }
        if more || !self.behind.is_empty() {
            put_u64(&mut out, self.behind.len() as u64);
            self.behind.iter().for_each(|source| source.encode(&mut out));
        }
        if more {
            out.push(u8::from(self.basis.is_some()));
            self.basis.iter().for_each(|basis| basis.encode(&mut out));
        }
        if change {
            self.change.encode(&mut out);
        }
        out
    }

    /// Reads a commit's body.
    ///
    /// # Errors
    /// When the bytes are not what [`EmitMark::encode`] writes.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let cause = match r.u8()? {
            0 => EmitCause::Watermark,
            1 => EmitCause::Forced,
            2 => EmitCause::End,
            _ => return Err(Malformed("unknown cause of a step-close record")),
        };
        let (step, acknowledged, mut left_out) = (r.i64()?, option(&mut r)?, Vec::new());
        let tenants = if r.is_empty() { 0 } else { r.u64()? };
        for _ in 0..tenants {
            left_out.push(r.str()?.to_owned());
        }
        let mut behind = Vec::new();
        let sources = if r.is_empty() { 0 } else { r.u64()? };
        for _ in 0..sources {
            behind.push(Behind::decode(&mut r)?);
        }
        let basis = if r.is_empty() || r.u8()? == 0 { None } else { Some(Basis::decode(&mut r)?) };
        let change = if r.is_empty() { Change::default() } else { Change::decode(&mut r)? };
        let mark = Self { cause, step, acknowledged, left_out, behind, basis, change };
        if r.is_empty() { Ok(mark) } else { Err(Malformed("bytes after the step-close record")) }
    }
}

// === impl SeriesState ===

impl SeriesState {
    /// The settings by which the task begins, if the journal knows any. The first that a mark has are those by which it was
    /// closed itself.
    #[must_use]
    pub fn settings(&self) -> Option<&[u8]> {
        let of_snapshot = self.snapshot.iter().map(|snapshot| &snapshot.settings);
        let of_marks = self.marks.iter().map(|(_, mark)| &mark.change.settings);
        of_snapshot.chain(of_marks).find(|settings| !settings.is_empty()).map(Vec::as_slice)
    }

    /// How far each endpoint was when the last step was closed; empty if that is not known.
    #[must_use]
    pub fn endpoints(&self) -> &[EndpointMark] {
        self.marks.last().map_or(&[], |(_, mark)| &mark.change.endpoints)
    }

    /// A step that was closed by watermark was closed without those sources only that join. One that was closed on stall
    /// timeout does not show which of them join, but that those which it does not name have caught up.
    fn note_joining(&mut self, mark: &EmitMark) {
        let without = mark.behind.iter().map(|source| (source.topic.clone(), source.partition)).collect();
        match mark.cause {
            EmitCause::Watermark => self.joining = without,
            EmitCause::Forced => self.joining.retain(|source| without.contains(source)),
            EmitCause::End => {}
        }
    }
}

// === impl Change ===

impl Change {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.settings);
        put_sources(out, &self.gone);
        if !self.endpoints.is_empty() {
            put_u64(out, self.endpoints.len() as u64);
            self.endpoints.iter().for_each(|endpoint| endpoint.encode(out));
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (settings, gone, mut endpoints) = (r.bytes()?.to_vec(), sources(r)?, Vec::new());
        let number = if r.is_empty() { 0 } else { r.u64()? };
        for _ in 0..number {
            endpoints.push(EndpointMark::decode(r)?);
        }
        Ok(Self { settings, gone, endpoints })
    }
}

// === impl Basis ===

impl Basis {
    /// The digest once a delta record is counted whose checksum is `sum`. Delta records of several sources come in any
    /// order, those of one source in the order of the chain: a sum distinguishes two sets of records.
    #[must_use]
    pub fn add(digest: u64, sum: u64) -> u64 {
        digest.wrapping_add(sum)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.chain.encode_short(out);
        out.extend_from_slice(&self.digest.to_le_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { chain: DeltaChain::decode_short(r)?, digest: u64::from_le_bytes(r.array()?) })
    }
}

// === impl Behind ===

impl Behind {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.topic.as_bytes());
        put_u64(out, u64::from(self.partition.unsigned_abs()));
        put_u64(out, self.commit_number);
        put_u64(out, self.part.into());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { topic: r.str()?.to_owned(), partition: r.uint()?, commit_number: r.u64()?, part: r.uint()? })
    }
}

// === impl SeriesSnapshot ===

impl SeriesSnapshot {
    /// The snapshot's body in the journal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head();
        out.extend_from_slice(&self.body);
        out
    }

    /// The same bytes, without a second copy of the body, which may be large.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let head = self.head();
        let mut out = self.body;
        out.splice(0..0, head);
        out
    }

    fn head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_i64(&mut out, self.deltas_offset);
        put_i64(&mut out, self.step);
        let marked = self.body.first().is_some_and(|first| [UNDELIVERED, SETTINGS, JOINING, APART].contains(first));
        if marked || !self.undelivered.is_empty() {
            out.push(UNDELIVERED);
            put_bytes(&mut out, &self.undelivered);
        }
        if marked || !self.settings.is_empty() {
            out.push(SETTINGS);
            put_bytes(&mut out, &self.settings);
        }
        if marked || !self.joining.is_empty() {
            let mut joining = Vec::new();
            put_sources(&mut joining, &self.joining);
            out.push(JOINING);
            put_bytes(&mut out, &joining);
        }
        if marked || !self.apart.is_empty() {
            out.push(APART);
            put_bytes(&mut out, &self.apart);
        }
        out
    }

    /// Reads a snapshot's body.
    ///
    /// # Errors
    /// When the bytes end too early.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let (deltas_offset, step) = (r.i64()?, r.i64()?);
        let undelivered = marked(UNDELIVERED, &mut r)?;
        let settings = marked(SETTINGS, &mut r)?;
        let joining = marked(JOINING, &mut r)?;
        let joining = if joining.is_empty() { Vec::new() } else { sources(&mut Reader::new(&joining))? };
        let joining = joining.into_iter().collect();
        let apart = marked(APART, &mut r)?;
        Ok(Self { body: r.rest().to_vec(), deltas_offset, step, undelivered, settings, joining, apart })
    }
}

fn put_sources<'a>(out: &mut Vec<u8>, sources: impl IntoIterator<Item = &'a Source, IntoIter: ExactSizeIterator>) {
    let sources = sources.into_iter();
    put_u64(out, sources.len() as u64);
    for (topic, partition) in sources {
        put_bytes(out, topic.as_bytes());
        put_u64(out, u64::from(partition.unsigned_abs()));
    }
}

fn sources(r: &mut Reader<'_>) -> Result<Vec<Source>, Malformed> {
    let mut sources = Vec::new();
    for _ in 0..r.u64()? {
        sources.push((r.str()?.to_owned(), r.uint()?));
    }
    Ok(sources)
}

/// The bytes behind `mark`, if that comes next.
fn marked(mark: u8, r: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    if r.rest().first() != Some(&mark) {
        return Ok(Vec::new());
    }
    r.u8()?;
    Ok(r.bytes()?.to_vec())
}

// === impl SeriesFold ===

impl Default for SeriesFold {
    fn default() -> Self {
        Self::new()
    }
}

impl SeriesFold {
    /// For a journal that is there from its first record on.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Fold::new())
    }

    /// For a journal whose beginning was deleted up to an earlier [`SeriesState::oldest_needed`].
    #[must_use]
    pub fn after_cut() -> Self {
        Self::with(Fold::after_cut())
    }

    fn with(fold: Fold) -> Self {
        Self { fold, start: FrameStart::default(), state: SeriesState::default(), headless: false }
    }

    /// The next record of the journal.
    ///
    /// # Errors
    /// When the record is no frame, or a frame counts whose body cannot be read. Both name the offset.
    pub fn apply(&mut self, offset: i64, record: &[u8]) -> Result<Ruling, JournalError> {
        let frame = decode_at(offset, record)?;
        let verdict = self.fold.apply(&frame);
        let counts =
            matches!(verdict, FrameVerdict::Part | FrameVerdict::Commit { .. } | FrameVerdict::Snapshot { .. });
        let start = self.start.follow(offset, &frame.header, counts);
        let damaged = |source| JournalError::Body { offset, source };
        Ok(match verdict {
            FrameVerdict::Claimed => Ruling::Claimed,
            FrameVerdict::Part => Ruling::Part,
            FrameVerdict::Released => Ruling::Released,
            FrameVerdict::Ignored(why) => Ruling::Ignored(why),
            FrameVerdict::Commit { commit_number, to, body, .. } => {
                let mark = EmitMark::decode(&body).map_err(damaged)?;
                self.headless |= self.state.oldest_needed.is_none() && commit_number > 0;
                self.state.acknowledged = self.state.acknowledged.max(mark.acknowledged);
                self.state.note_joining(&mark);
                self.state.marks.push((to, mark));
                self.state.oldest_needed.get_or_insert(start);
                Ruling::Commit
            }
            FrameVerdict::Snapshot { body } => {
                let snapshot = SeriesSnapshot::decode(&body).map_err(damaged)?;
                self.headless = false;
                self.state.acknowledged = self.state.acknowledged.max(Some(snapshot.step));
                self.state.marks.clear();
                self.state.joining.clone_from(&snapshot.joining);
                self.state.snapshot = Some(snapshot);
                self.state.oldest_needed = Some(start);
                Ruling::Snapshot
            }
        })
    }

    /// The state at the end of what was applied.
    ///
    /// # Errors
    /// [`JournalError::Cut`] when the first marks are gone, or all, and no snapshot replaces them; see
    /// [`super::is_contested`].
    pub fn into_state(mut self) -> Result<SeriesState, JournalError> {
        if self.headless || self.fold.is_hollow() {
            return Err(JournalError::Cut {
                missing: "its first step-close records are missing and no snapshot follows",
            });
        }
        self.state.owner = self.fold.owner();
        self.state.identity = self.fold.identity().cloned();
        self.state.next = self.fold.next();
        self.state.next_commit_number = self.fold.next_commit_number();
        self.state.sharding = self.fold.sharding();
        Ok(self.state)
    }
}

#[cfg(test)]
mod tests;
