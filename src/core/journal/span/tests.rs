use super::super::frame::claim;
use super::super::writer::JournalWriter;
use super::super::{Cause, FrameError};
use super::*;
use crate::core::model::Counter;
use proptest::prelude::{ProptestConfig, any, prop, proptest};

const ME: Owner = Owner(1);

fn commit(step: i64, forwarded: u64) -> SpanCommit {
    let mut ledger = Ledger::default();
    ledger.add(Counter::SpansRead, step.unsigned_abs());
    SpanCommit {
        cause: Cause::Records,
        step,
        stream_time: Some(step - 1),
        forwarded,
        reread_from: step - 10,
        live: vec![1, 2],
        ledger,
        delta_records: vec![vec![vec![7; 9], vec![8]], vec![vec![]]],
        witness: Some(Witness::of(step - 15, Some(step - 2), b"spans")),
    }
}

/// Numbers the records from `start` on.
fn apply(fold: &mut SpanFold, start: i64, records: &[Vec<u8>]) -> Result<(), JournalError> {
    (start..).zip(records).try_for_each(|(offset, record)| fold.apply(offset, record).map(|_| ()))
}

/// A claim at 0 and three commits of two records each; delta records below 2 are forwarded.
fn journal() -> Vec<Vec<u8>> {
    let mut records = vec![claim(ME, "")];
    let bodies = [(0, 0), (20, 1), (40, 2)].map(|(from, forwarded)| (from, commit(from + 100, forwarded).encode()));
    let longest = bodies.iter().map(|(_, body)| body.len()).max().unwrap_or_default();
    let mut writer = JournalWriter::new(ME, 0, None, 0).with_max_part(longest.div_ceil(2));
    for (from, body) in bodies {
        records.extend(writer.commit(from, from + 20, &body));
    }
    assert_eq!(records.len(), 7);
    records
}

#[test]
fn a_commit_survives_the_round_trip() {
    for (cause, stream_time) in [(Cause::Records, Some(-5)), (Cause::Tick, None), (Cause::Reset, Some(0))] {
        let commit = SpanCommit { cause, stream_time, ..commit(15_000, 3) };
        assert_eq!(SpanCommit::decode(&commit.encode()), Ok(commit.clone()));
        let nobody = SpanCommit { witness: None, ..commit };
        assert_eq!(SpanCommit::decode(&nobody.encode()), Ok(nobody));
    }
}

#[test]
fn a_new_owner_starts_where_the_last_accepted_commit_ended() {
    let mut fold = SpanFold::new();
    apply(&mut fold, 0, &journal()).expect("frames");
    let state = fold.into_state().expect("whole");
    let last = commit(140, 2);
    let expected = SpanState {
        sharding: 0,
        identity: None,
        topic_id: None,
        owner: Some(ME),
        next: Some(60),
        next_commit_number: 3,
        stream_time: last.stream_time,
        step: Some(140),
        reread_from: Some(130),
        live: last.live,
        ledger: last.ledger,
        witness: last.witness,
        forwarded: 2,
        unforwarded: VecDeque::from([(2, last.delta_records)]),
        needs: state.needs.clone(),
        // No snapshot holds anything yet.
        oldest_needed: Some(1),
    };
    assert_eq!(state, expected);
}

fn notice(shard: u32, what: What, commit_number: u64) -> Vec<u8> {
    Notice { shard, what, commit_number }.encode()
}

/// The journal, and the notices of both shards that their snapshots hold what came before a commit.
fn held(first: u64, second: u64) -> Vec<Vec<u8>> {
    let notices = [notice(0, What::Holds, first), notice(1, What::Holds, second)];
    journal().into_iter().chain(notices).collect()
}

#[test]
fn what_is_not_needed_may_be_deleted() {
    let state = |mut fold: SpanFold, at: usize| {
        apply(&mut fold, at as i64, &held(9, 2)[at..]).expect("frames");
        fold.into_state().expect("whole")
    };
    let (whole, cut) = (state(SpanFold::new(), 0), state(SpanFold::after_cut(), 5));
    assert_eq!((whole.oldest_needed, cut.oldest_needed), (Some(5), Some(5)));
    assert_eq!(SpanState { needs: whole.needs.clone(), ..cut }, whole);
}

#[test]
fn a_commit_stays_until_the_snapshots_of_all_shards_hold_it() {
    let oldest = |records: &[Vec<u8>]| {
        let mut fold = SpanFold::new();
        apply(&mut fold, 0, records).expect("frames");
        fold.into_state().expect("whole").oldest_needed
    };
    assert_eq!([oldest(&held(2, 0)), oldest(&held(2, 1)), oldest(&held(3, 3))], [Some(1), Some(3), Some(5)]);
    let unheard: Vec<_> = journal().into_iter().chain([notice(0, What::Holds, 2)]).collect();
    assert_eq!(oldest(&unheard), Some(1), "one shard has said nothing");
}

#[test]
fn what_a_shard_lacks_is_sent_again_by_the_next_owner_and_by_nobody_after_it() {
    let mut records = journal();
    records.extend([notice(1, What::Lacks, 1), notice(1, What::Lacks, 0), notice(0, What::Lacks, 2), claim(ME, "")]);
    let state = |records: &[Vec<u8>]| {
        let mut fold = SpanFold::new();
        apply(&mut fold, 0, records).expect("frames");
        fold.into_state().expect("whole")
    };
    let asked = state(&records);
    let again = asked.needs.to_send_again(asked.forwarded);
    assert_eq!(again, BTreeMap::from([(1, 0)]), "shard 0 lacks what is sent again anyway");
    let mut regained = Regained::new(again, asked.forwarded, false);
    (0..).zip(&records).try_for_each(|(offset, record)| regained.apply(offset, record)).expect("frames");
    let expected: Vec<(u64, DeltaRecords)> =
        [0, 1].map(|commit_number| (commit_number, vec![vec![], vec![vec![]]])).into();
    assert_eq!(regained.delta_records, expected);
    let mut writer = JournalWriter::new(ME, 0, asked.next, asked.next_commit_number);
    records.extend(writer.commit(60, 80, &commit(160, 3).encode()));
    let after = state(&records);
    assert_eq!(after.needs.to_send_again(after.forwarded), BTreeMap::new());
}

#[test]
fn what_a_shard_holds_by_now_it_does_not_lack_whatever_it_said_before() {
    let mut records = journal();
    records.extend([notice(0, What::Lacks, 0), notice(1, What::Lacks, 1), notice(0, What::Holds, 2), claim(ME, "")]);
    let mut fold = SpanFold::new();
    apply(&mut fold, 0, &records).expect("frames");
    let state = fold.into_state().expect("whole");
    assert_eq!(state.needs.to_send_again(state.forwarded), BTreeMap::from([(1, 1)]));
}

#[test]
fn a_journal_that_was_cut_too_far_is_said_loudly() {
    let mut fold = SpanFold::after_cut();
    // The last commit still needs the delta records of the one before it.
    let mut records = vec![claim(ME, "")];
    records.extend(JournalWriter::new(ME, 0, Some(20), 1).commit(20, 40, &commit(120, 0).encode()));
    apply(&mut fold, 9, &records).expect("frames");
    assert!(matches!(fold.into_state(), Err(JournalError::Cut { .. })));
}

#[test]
fn an_empty_journal_is_a_task_that_never_ran() {
    let mut fold = SpanFold::new();
    apply(&mut fold, 0, &[claim(ME, "")]).expect("frames");
    assert_eq!(fold.into_state(), Ok(SpanState { owner: Some(ME), ..SpanState::default() }));
}

#[test]
fn damage_names_its_offset() {
    let mut fold = SpanFold::new();
    let error = fold.apply(42, b"rubbish").expect_err("no frame");
    assert_eq!(error, JournalError::Frame { offset: 42, source: FrameError::NotAFrame });
    let mut records = vec![claim(ME, "")];
    records.extend(JournalWriter::new(ME, 0, None, 0).commit(0, 1, b"rubbish"));
    let error = apply(&mut fold, 43, &records).expect_err("no commit");
    assert!(matches!(error, JournalError::Body { offset: 44, .. }));
}

#[test]
fn a_forwarded_mark_beyond_its_own_commit_is_damage() {
    let mut records = vec![claim(ME, "")];
    records.extend(JournalWriter::new(ME, 0, None, 0).commit(0, 1, &commit(15, 1).encode()));
    assert!(matches!(apply(&mut SpanFold::new(), 0, &records), Err(JournalError::Body { offset: 1, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(commit) = SpanCommit::decode(&bytes) {
            assert_eq!(SpanCommit::decode(&commit.encode()), Ok(commit));
        }
    }

    #[test]
    fn no_flipped_byte_makes_decoding_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = commit(15_000, 3).encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(commit) = SpanCommit::decode(&bytes) {
            assert_eq!(SpanCommit::decode(&commit.encode()), Ok(commit));
        }
    }
}

#[test]
fn another_sharding_begins_with_all_commits_so_far_and_owes_nothing_to_the_shards_before_it() {
    use super::super::frame::claim_as;
    let group = Identity { group: "g".to_owned(), topic: Some("spans".to_owned()), topic_id: None };
    let mut records = journal();
    records.extend([notice(1, What::Lacks, 0), notice(0, What::Holds, 1), claim_as(ME, "", &group, 4)]);
    // Shards of before that have not noticed yet.
    records.extend([notice(1, What::Lacks, 2), claim(Owner(9), "")]);
    let state = |records: &[Vec<u8>]| {
        let mut fold = SpanFold::new();
        apply(&mut fold, 0, records).expect("frames");
        fold.into_state().expect("whole")
    };
    let begun = state(&records);
    assert_eq!((begun.owner, begun.sharding), (Some(ME), 4));
    assert_eq!((begun.next, begun.next_commit_number, begun.forwarded), (Some(60), 3, 3));
    assert!(begun.unforwarded.is_empty() && begun.needs.to_send_again(3).is_empty());
    assert_eq!(begun.oldest_needed, None, "no shard has said what it holds");
    let first = SpanCommit { delta_records: vec![vec![vec![1]]; 3], ..commit(160, 3) };
    let mut writer = JournalWriter::new(ME, 9, begun.next, 3).in_sharding(4);
    records.extend(writer.commit(60, 80, &first.encode()));
    let after = state(&records);
    assert_eq!(after.unforwarded, [(3, first.delta_records)], "it goes to three shards");
    records.extend((0..3).map(|shard| notice(shard, What::Holds, 3)));
    assert_eq!(state(&records).oldest_needed, Some(12), "where it lies");
    // A reader that finds nothing of before comes to the same.
    let mut cut = SpanFold::after_cut();
    apply(&mut cut, 12, &records[12..]).expect("frames");
    let cut = cut.into_state().expect("whole");
    assert_eq!((cut.sharding, cut.forwarded, cut.next_commit_number), (4, 3, 4));
}
