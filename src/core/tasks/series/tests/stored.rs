//! Journals of a series task as they were written once, kept as bytes, with the delta records that belong to them: an
//! owner that reads them starts from their snapshot and sends what was sent then.

use super::version_1::{Sample, bytes, read, sample, texts};
use super::*;
use crate::core::deltas::DeltaRecord;
use crate::core::journal::{Frame, FrameKind, Ignored, JournalError, Ruling, SeriesFold, SeriesState};

/// As [`super::version_1`] has it, with delta records and a snapshot of version 2.
const TODAY: &str = include_str!("stored/version_2.txt");
/// Records of a journal, one per line, in hex, from offset 0 on: a claim, marks, a snapshot in many records that a second
/// claim tears, its end as a zombie's, the second owner's snapshot in many records, further marks. The offsets of the deltas
/// topic are the numbers of the delta records. The snapshot in the first one is of version 2, in the second of version 1.
const JOURNALS: [&str; 2] = [include_str!("stored/journal_2.txt"), include_str!("stored/journal_1.txt")];

fn stored() -> [(Vec<Vec<u8>>, Sample); 2] {
    let records = |journal: &str| journal.lines().map(bytes).collect();
    [(records(JOURNALS[0]), read(TODAY)), (records(JOURNALS[1]), sample())]
}

fn fold(mut fold: SeriesFold, records: &[Vec<u8>], from: usize) -> Result<(Vec<Ruling>, SeriesState), JournalError> {
    let stretch = (0..).zip(records).skip(from);
    let rulings = stretch.map(|(offset, record)| fold.apply(offset, record)).collect::<Result<_, _>>()?;
    Ok((rulings, fold.into_state()?))
}

/// Takes over as a worker does: the snapshot, the delta records after it, every mark at its offset.
fn take_over(state: &SeriesState, delta_records: &[Vec<u8>]) -> Vec<ClosedStep> {
    let snapshot = state.snapshot.as_ref().expect("a snapshot");
    let mut task = SeriesTask::restore(settings(), &snapshot.body).expect("its own bytes");
    let (mut at, mut closed) = (snapshot.deltas_offset as usize, Vec::new());
    for (to, mark) in &state.marks {
        for delta_record in &delta_records[at..*to as usize] {
            assert_eq!(task.apply(delta_record).expect("a delta record").lost, 0);
        }
        at = *to as usize;
        closed.push(task.close_without(mark.step, &mark.left_out));
    }
    closed
}

#[test]
fn a_stored_journal_says_again_what_it_said() {
    for (records, sample) in stored() {
        let (_, state) = fold(SeriesFold::new(), &records, 0).expect("a whole journal");
        let closed = take_over(&state, &sample.delta_records);
        let after = sample.snapshot.1;
        assert!(closed.len() > 2);
        assert_eq!(texts(&closed), sample.steps[after..after + closed.len()]);
        assert_eq!(state.acknowledged, Some(sample.steps[after - 1].0));
        assert_eq!(state.next, state.marks.last().map(|(to, _)| *to));
        assert_eq!(state.next_commit_number as usize, after + closed.len());
    }
}

#[test]
fn a_snapshot_that_was_torn_does_not_count_and_the_next_one_does() {
    for (records, _) in stored() {
        let (rulings, state) = fold(SeriesFold::new(), &records, 0).expect("a whole journal");
        let headers: Vec<_> = records.iter().map(|r| Frame::decode(r).expect("a frame").header).collect();
        let snapshots = |owner| {
            let of =
                headers.iter().zip(&rulings).filter(move |(h, _)| h.kind == FrameKind::Snapshot && h.owner == owner);
            of.map(|(_, ruling)| *ruling).collect::<Vec<_>>()
        };
        let (first, second) = (headers[0].owner, state.owner.expect("an owner"));
        let torn = snapshots(first);
        assert!(torn.len() > 3 && torn.first() == Some(&Ruling::Part));
        assert_eq!(torn.last(), Some(&Ruling::Ignored(Ignored::NotOwner)));
        let whole = snapshots(second);
        assert!(whole.len() > 3 && whole.last() == Some(&Ruling::Snapshot));
    }
}

#[test]
fn a_stored_journal_may_lose_what_is_before_its_snapshot_and_no_more() {
    for (records, _) in stored() {
        let (_, state) = fold(SeriesFold::new(), &records, 0).expect("a whole journal");
        let needed = state.oldest_needed.expect("a snapshot") as usize;
        assert_eq!(fold(SeriesFold::after_cut(), &records, needed).expect("all that is needed").1, state);
        for from in needed + 1..records.len() {
            let cut = fold(SeriesFold::after_cut(), &records, from);
            assert!(matches!(cut, Err(JournalError::Cut { .. })), "from {from}");
        }
    }
}

#[test]
fn a_stored_journal_that_ends_early_starts_from_the_marks_before() {
    for (records, sample) in stored() {
        let (_, state) = fold(SeriesFold::new(), &records, 0).expect("a whole journal");
        let needed = state.oldest_needed.expect("a snapshot") as usize;
        // In the middle of the snapshot: as if it had never begun.
        let (_, early) = fold(SeriesFold::new(), &records[..needed + 2], 0).expect("a journal");
        assert_eq!((early.snapshot, early.marks.len()), (None, sample.snapshot.1));
        assert_eq!(early.marks.last().map(|(_, mark)| mark.step), Some(sample.steps[sample.snapshot.1 - 1].0));
    }
}

#[test]
fn workers_are_replaced_one_after_the_other_and_no_series_is_split_or_counted_twice() {
    let (_, sample) = stored().into_iter().next().expect("two");
    let at = sample.snapshot.0;
    assert!(
        sample
            .delta_records
            .iter()
            .all(|delta_record| DeltaRecord::decode(delta_record).expect("a delta record").has_old_names())
    );
    let mut task = SeriesTask::new(settings());
    let mut known = std::collections::BTreeSet::new();
    for record in &sample.delta_records[..at] {
        assert_eq!(task.apply(record).expect("a delta record").lost, 0);
        let mut delta_record = DeltaRecord::decode(record).expect("a delta record");
        while let Some(set) = delta_record.next_set().expect("a set") {
            let spelled = set.spelled.map(|(tenant, block)| (tenant.to_owned(), block.to_vec()));
            known.extend(spelled.map(|spelled| (spelled, delta_record.layouts[set.layout].family() as u8)));
        }
    }
    let sets = task.label_sets();
    // A span task of today counts the same label sets, and so does a shard of today that has acquired the task.
    let mut again = SeriesTask::restore(settings(), &task.snapshot()).expect("our own snapshot");
    let mut source = Source::new(77, settings().stale_after);
    let mut seen = 0;
    for ((tenant, block), family) in &known {
        let labels: Vec<_> = crate::core::model::labels::iter(block).collect();
        let ([("service", service)], true) = (&*labels, *family == Family::SpanMetrics as u8) else { continue };
        let tenant = if tenant == "t" { "t" } else { "acme" };
        source.see(&Seen { tenant, ..span(service, 5) });
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
    let told = source.cut(60 * W, 60 * W);
    for task in [&mut task, &mut again] {
        for record in &told {
            assert_eq!(task.apply(record).expect("a delta record").lost, 0);
        }
        assert_eq!(task.label_sets(), sets, "none is new");
        // The old worker continues, and sends by ID what it has sent in full before.
        for record in &sample.delta_records[at..] {
            let applied = task.apply(record).expect("a delta record");
            assert_eq!((applied.lost, applied.first_lost), (0, None));
        }
    }
    assert_eq!(again.label_sets(), task.label_sets());
}
