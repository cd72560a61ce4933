//! Journals of span tasks in past formats, kept as bytes: every later version must be able to read them.

use std::collections::VecDeque;

use super::{FrameKind, Ignored, JournalError, Notice, Owner, Ruling, SpanFold, SpanState, What, Witness};
use crate::core::journal::frame::Frame;
use crate::core::model::Counter;

/// One record per line, in hex, from offset 0 on: two owners that commit in several records, a frame that the second
/// one interrupts, the rest of it from a zombie, a release, a third owner.
const SPAN: &str = include_str!("stored/span.txt");

/// The same of version 2: one commit, which names a record that was read.
const SPAN_V2: &str = include_str!("stored/span_v2.txt");

const OWNERS: [Owner; 3] = [Owner(0xa), Owner(0xb), Owner(0xc)];

fn records() -> Vec<Vec<u8>> {
    parsed(SPAN)
}

fn parsed(text: &str) -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    text.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

/// Applies the records from offset `from` up to, not including, `to`.
fn fold(mut fold: SpanFold, from: usize, to: usize) -> Result<(Vec<Ruling>, SpanState), JournalError> {
    let stretch = (0..).zip(records()).take(to).skip(from);
    let rulings = stretch.map(|(offset, record)| fold.apply(offset, &record)).collect::<Result<_, _>>()?;
    Ok((rulings, fold.into_state()?))
}

fn all() -> (Vec<Ruling>, SpanState) {
    fold(SpanFold::new(), 0, records().len()).expect("a whole journal")
}

#[test]
fn every_record_of_a_stored_journal_is_judged_as_it_was() {
    let (rulings, _) = all();
    let expected = [
        Ruling::Claimed,
        Ruling::Part,
        Ruling::Part,
        Ruling::Commit,
        Ruling::Part,
        Ruling::Claimed,
        Ruling::Ignored(Ignored::NotOwner),
        Ruling::Part,
        Ruling::Commit,
        Ruling::Released,
        Ruling::Claimed,
        Ruling::Part,
        Ruling::Commit,
    ];
    assert_eq!(rulings, expected);
    let records = records();
    let frames: Vec<_> = records.iter().map(|r| Frame::decode(r).expect("a frame").header).collect();
    let claims = frames.iter().filter(|h| h.kind == FrameKind::Claim);
    assert_eq!(claims.map(|h| h.owner).collect::<Vec<_>>(), OWNERS);
    assert_eq!((frames[1].parts, frames[4].parts, frames[7].parts), (3, 2, 2));
}

#[test]
fn a_stored_journal_gives_the_state_that_it_gave() {
    let (_, state) = all();
    assert_eq!((state.owner, state.next, state.next_commit_number), (Some(OWNERS[2]), Some(60), 3));
    assert_eq!((state.stream_time, state.step, state.reread_from), (Some(44_999), Some(45_000), Some(35)));
    assert_eq!((state.live.as_slice(), state.ledger.get(Counter::SpansRead)), (&[3, 4][..], 45_000));
    // At that time, no shard had reported what its snapshots hold.
    assert_eq!((state.forwarded, state.oldest_needed), (1, Some(1)));
    let delta_record = |commit_number: u8| vec![vec![vec![commit_number; 40], vec![commit_number; 3]], vec![vec![]]];
    assert_eq!(state.unforwarded, VecDeque::from([(1, delta_record(1)), (2, delta_record(2))]));
    assert_eq!(state.witness, None, "version 1 has none");
}

#[test]
fn a_stored_journal_of_version_2_names_a_record_that_was_read() {
    let mut fold = SpanFold::new();
    let rulings: Vec<Ruling> =
        (0..).zip(parsed(SPAN_V2)).map(|(offset, record)| fold.apply(offset, &record).expect("a frame")).collect();
    assert_eq!(rulings, [Ruling::Claimed, Ruling::Commit]);
    let state = fold.into_state().expect("a whole journal");
    assert_eq!((state.owner, state.next, state.next_commit_number), (Some(OWNERS[0]), Some(20), 1));
    assert_eq!(state.witness, Some(Witness::of(12, Some(14_000), b"spans")));
}

#[test]
fn a_stored_journal_may_lose_its_beginning_up_to_what_is_needed_and_no_more() {
    let (_, mut state) = all();
    for shard in [0, 1] {
        state.needs.hear(Notice { shard, what: What::Holds, commit_number: 3 });
    }
    let needed = usize::try_from(state.needs.oldest(state.forwarded).expect("commits")).expect("an offset");
    assert_eq!(needed, 7);
    let from = |offset| fold(SpanFold::after_cut(), offset, records().len());
    let (_, rest) = from(needed).expect("all that is needed");
    let SpanState { needs, oldest_needed, .. } = state.clone();
    assert_eq!(SpanState { needs, oldest_needed, ..rest }, state);
    // The delta records of commit 1 begin there; at the end, there is no whole commit left.
    for offset in needed + 1..records().len() {
        assert!(matches!(from(offset), Err(JournalError::Cut { .. })), "from {offset}");
    }
}

#[test]
fn a_stored_journal_that_ends_early_is_what_it_was_then() {
    // In the middle of the last commit: as if it had never begun.
    let (_, torn) = fold(SpanFold::new(), 0, 12).expect("a journal");
    assert_eq!((torn.owner, torn.next, torn.next_commit_number), (Some(OWNERS[2]), Some(45), 2));
    let (_, released) = fold(SpanFold::new(), 0, 10).expect("a journal");
    assert_eq!((released.owner, released.next), (None, Some(45)));
    let (_, before) = fold(SpanFold::new(), 0, 6).expect("a journal");
    assert_eq!((before.owner, before.next, before.next_commit_number), (Some(OWNERS[1]), Some(20), 1));
}

#[test]
fn a_damaged_record_of_a_stored_journal_is_named() {
    for at in 0..records().len() {
        let mut fold = SpanFold::new();
        let outcome = (0..).zip(records()).try_for_each(|(offset, mut record)| {
            if offset == at as i64 {
                let middle = record.len() / 2;
                record[middle] ^= 0x10;
            }
            fold.apply(offset, &record).map(drop)
        });
        assert!(matches!(outcome, Err(JournalError::Frame { offset, .. }) if offset == at as i64), "{at}: {outcome:?}");
    }
}
