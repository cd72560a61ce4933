//! Acquiring a task: claim its journal, fold it, restore its state.

use super::claim::{Claim, stake_claim};
use super::error::{Remedy, TakeoverError};
use super::evidence::{self, Found};
use super::means::Means;
use super::{refold, reset};
use crate::config::settings::Start;
use crate::core::journal::{
    DeltaRecords, EmitCause, Identity, JournalWriter, Regained, SeriesFold, SpanFold, SpanState,
};
use crate::core::remotewrite::StepBatch;
use crate::core::tasks::series::{SeriesSettings, SnapshotError, Terms};
use crate::core::tasks::span::{Restored, SpanTask};
use crate::worker::kafka::{KafkaError, LogReader};
use crate::worker::task::{Held, Part, TakenSeries, TakenSpan};
use crate::worker::telemetry::{TaskId, TaskState};

pub(super) fn take_span(means: &Means, reader: &LogReader, id: &TaskId) -> Result<TakenSpan, TakeoverError> {
    let journal = means.clients.names.journal(&id.topic);
    let topic_id = match reader.topic_id(&id.topic, id.partition, &means.stop) {
        // Fetched records reveal it, and a quota may keep them back. Then only the witness record identifies the topic.
        Err(KafkaError::Timeout { .. }) => {
            tracing::warn!(task = %id, "the brokers do not report topic IDs; a re-created topic is not detected by \
                                        its ID");
            None
        }
        told => told?,
    };
    let identity = Identity { topic: Some(id.topic.clone()), topic_id, ..means.clients.identity() };
    let claim = stake_claim(means, reader, &journal, id.partition, identity, means.clients.names.sharding())?;
    means.clients.telemetry.tasks().update(id, |s| s.state = TaskState::Restoring);
    let state = claim.state::<SpanFold>(means, reader)?;
    let needed = state.oldest_needed;
    let regained = regain(means, reader, id, &claim, &state)?;
    let taken = TakenSpan { regained, ..restore_span(means, reader, id, &claim, state)? };
    // Not earlier: a damaged journal stays as it is.
    needed.into_iter().for_each(|offset| means.offsets.note_trim(&journal, id.partition, offset));
    Ok(taken)
}

fn restore_span(
    means: &Means,
    reader: &LogReader,
    id: &TaskId,
    claim: &Claim<'_>,
    state: SpanState,
) -> Result<TakenSpan, TakeoverError> {
    let said = evidence::group_offset(means, id)?;
    evidence::has_its_end(means, reader, claim, state.next, said)?;
    evidence::has_all_commits(means, reader, id, claim, &state)?;
    let (low, high) = reader.bounds(&id.topic, id.partition)?;
    means.clients.telemetry.tasks().update_known(id, |s| s.end_offset = high);
    let found = evidence::compare(means, reader, id, claim, &state, (low, high))?;
    let instruction =
        said.filter(|_| means.mode.obeys_resets()).and_then(|said| reset::instruction(said, id, (low, high)));
    let mut restored = restored(&state);
    let writer = JournalWriter::new(claim.owner, claim.offset, state.next, state.next_commit_number)
        .named(&claim.identity)
        .in_sharding(claim.sharding);
    if let Some(instruction) = instruction {
        if state.next != Some(instruction.to()) || found != Found::Same {
            instruction.prepare(&mut restored);
            return follow(means, id, writer, state, restored, &instruction);
        }
        // The position is there already, or the journal has followed the instruction and nothing has happened since.
        instruction.confirm(means)?;
    }
    let remedy = Remedy::Reset.or_another_run(&means.mode);
    let (topic, partition) = (id.topic.clone(), id.partition);
    found.same(id, remedy)?;
    // Otherwise the next commit would drop the topic ID from the journal.
    let writer = writer.named(&claim.identity.knowing(state.topic_id.clone()));
    let in_force = means.tenants.in_force();
    let settings = means.tenants.span_settings(&in_force.tenants, &id.topic);
    let mut task = SpanTask::new(&settings, id.topic.clone(), id.partition, restored)?;
    task.doubt_first();
    if state.next.is_none() {
        task.set_start(
            match (means.mode.range(&id.topic, id.partition), means.clients.config.kafka.start_of_sources()) {
                (Some(range), _) => range.from,
                (None, Start::Latest) if !means.sources.has_grown(&id.topic, id.partition) => high,
                (None, Start::Earliest | Start::Latest) => low,
            },
        );
    }
    match task.position() {
        Some(next) if next < low && !task.has_ended() => lost_below(id, &mut task, next, low),
        Some(next) if next > high && !task.has_ended() => {
            return Err(TakeoverError::Shrunk { topic, partition, high, next, remedy });
        }
        _ => {}
    }
    let start = task.start_offset().unwrap_or(low).clamp(low, high.max(low));
    // Records below `low` are deleted and cannot be read again.
    task.reached(start);
    let (generation, SpanState { forwarded, unforwarded, needs, witness, ledger, .. }) = (in_force.generation, state);
    let (unforwarded, regained, journaled) = (unforwarded.into(), Vec::new(), ledger);
    Ok(TakenSpan { task, generation, writer, start, forwarded, unforwarded, regained, needs, witness, journaled })
}

/// Reads again, from the journal, the delta records that some shards lack although all delta records were sent.
fn regain(
    means: &Means,
    reader: &LogReader,
    id: &TaskId,
    claim: &Claim<'_>,
    state: &SpanState,
) -> Result<Vec<(u64, DeltaRecords)>, TakeoverError> {
    let lacked = state.needs.to_send_again(state.forwarded);
    let Some(first) = lacked.values().min().copied() else { return Ok(Vec::new()) };
    let (topic, partition) = (&id.topic, id.partition);
    if let Some(there) = state.needs.first().filter(|there| first < *there) {
        tracing::error!(
            topic,
            partition,
            ?lacked,
            first_there = there,
            "shards lack delta records that the journal no longer has: the deltas topic and a journal of this group \
             have lost records. Counts are not exact any more; restore the topics, or start again with another \
             kafka.group"
        );
    }
    tracing::warn!(topic, partition, shards = ?lacked, to = state.forwarded,
        "shards lack delta records that were stored: the deltas topic has lost its end or its beginning. Sending \
         them again, no counts are lost; check min.insync.replicas and unclean.leader.election.enable of the \
         internal topics");
    let mut regained = None;
    claim.journal(means, reader).read(&mut |cut, offset, record| {
        let regained = regained.get_or_insert_with(|| Regained::new(lacked.clone(), state.forwarded, cut));
        regained.apply(offset, record).map_err(|e| claim.damaged(e))
    })?;
    let regained = regained.map(|r| r.delta_records).unwrap_or_default();
    means.clients.telemetry.sent_again(regained.len() as u64);
    Ok(regained)
}

/// The state that a task starts from, by its journal.
fn restored(state: &SpanState) -> Restored {
    Restored {
        next: state.next,
        next_commit_number: state.next_commit_number,
        stream_time: state.stream_time,
        step: state.step,
        reread_from: state.reread_from.or(state.next).unwrap_or(0),
        live: state.live.clone(),
        ledger: state.ledger.clone(),
    }
}

/// Retention has deleted records that were not read.
fn lost_below(id: &TaskId, task: &mut SpanTask, next: i64, low: i64) {
    tracing::error!(
        topic = id.topic,
        partition = id.partition,
        from = next,
        to = low,
        "unread records were deleted by topic retention; increase the topic's retention"
    );
    task.lost_below(low);
}

/// Restores a task whose partition an operator has moved.
fn follow(
    means: &Means,
    id: &TaskId,
    mut writer: JournalWriter,
    state: SpanState,
    restored: Restored,
    instruction: &reset::Instruction,
) -> Result<TakenSpan, TakeoverError> {
    let mut unforwarded: Vec<_> = state.unforwarded.into();
    let in_force = means.tenants.in_force();
    let settings = means.tenants.span_settings(&in_force.tenants, &id.topic);
    let mut task = SpanTask::new(&settings, id.topic.clone(), id.partition, restored)?;
    unforwarded.push(instruction.journal(means, &mut task, &mut writer, state.forwarded)?);
    instruction.confirm(means)?;
    let start = task.position().unwrap_or_default();
    let generation = in_force.generation;
    let (forwarded, journaled) = (state.forwarded, task.ledger().clone());
    // Earlier records need not be in this topic.
    let (needs, regained) = (state.needs, Vec::new());
    Ok(TakenSpan { task, generation, writer, start, forwarded, unforwarded, regained, needs, witness: None, journaled })
}

pub(super) fn take_series(
    means: &Means,
    reader: &LogReader,
    id: &TaskId,
    held: &mut Held,
) -> Result<TakenSeries, TakeoverError> {
    take_series_in(means, reader, id, held, means.clients.names.sharding())
}

/// The same of a journal that may be reserved for a later sharding than the one whose topics these are.
pub(super) fn take_series_in(
    means: &Means,
    reader: &LogReader,
    id: &TaskId,
    held: &mut Held,
    sharding: u32,
) -> Result<TakenSeries, TakeoverError> {
    let journal = means.clients.names.series_journal();
    let claim = stake_claim(means, reader, &journal, id.partition, means.clients.identity(), sharding)?;
    means.clients.telemetry.tasks().update(id, |s| s.state = TaskState::Restoring);
    let state = claim.state::<SeriesFold>(means, reader)?;
    evidence::has_its_end(means, reader, &claim, state.next, evidence::group_offset(means, id)?)?;
    let snapshot = state.snapshot.as_ref().map_or(0, |s| s.body.len() + s.undelivered.len() + s.apart.len());
    held.set(Part::Readers, reader.memory() + snapshot);
    let writer = JournalWriter::new(claim.owner, claim.offset, state.next, state.next_commit_number)
        .named(&claim.identity)
        .in_sharding(claim.sharding);
    let in_force = means.tenants.in_force();
    let settings_error = |source| TakeoverError::Settings { shard: id.partition, source };
    let own = means.tenants.series_settings(&in_force.tenants);
    let journaled =
        state.settings().map(|bytes| SeriesSettings::decode(bytes, &own)).transpose().map_err(settings_error)?;
    let terms = Terms::new(journaled.is_some());
    let settings = journaled.unwrap_or(own);
    let (task, start, resend) = refold::refold(means, reader, id, &state, settings)?;
    if let Some(offset) = state.oldest_needed {
        means.offsets.note_trim(&journal, id.partition, offset);
    }
    let undelivered = state.snapshot.as_ref().map_or(Ok(Vec::new()), |s| {
        let mut all = StepBatch::decode_all(&s.undelivered)?;
        all.append(&mut StepBatch::decode_apart(&s.apart)?);
        Ok(all)
    });
    let undelivered = undelivered
        .map_err(|e| TakeoverError::Snapshot { shard: id.partition, source: SnapshotError::Malformed(e) })?;
    let endpoints = state.endpoints().to_vec();
    let ended = state.marks.last().is_some_and(|(_, mark)| mark.cause == EmitCause::End);
    Ok(TakenSeries {
        task,
        generation: in_force.generation,
        writer,
        start,
        acknowledged: state.acknowledged,
        snapshot: state.snapshot.map(|s| s.step),
        resend,
        undelivered,
        endpoints,
        joining: state.joining,
        terms,
        ended,
    })
}
