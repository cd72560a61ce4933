use super::super::chain::DeltaChain;
use super::super::frame::claim;
use super::super::writer::JournalWriter;
use super::*;
use proptest::prelude::{ProptestConfig, any, prop, proptest};

const ME: Owner = Owner(1);

fn mark(step: i64, acknowledged: Option<i64>) -> EmitMark {
    let (left_out, behind, change) = (Vec::new(), Vec::new(), Change::default());
    EmitMark { step, cause: EmitCause::Watermark, acknowledged, left_out, behind, basis: None, change }
}

/// A source that was left behind.
fn behind(partition: i32, commit_number: u64, part: u32) -> Behind {
    Behind { topic: "spans".to_owned(), partition, commit_number, part }
}

fn fold(mut fold: SeriesFold, start: i64, records: &[Vec<u8>]) -> Result<SeriesState, JournalError> {
    for (offset, record) in (start..).zip(records) {
        fold.apply(offset, record)?;
    }
    fold.into_state()
}

/// A claim at 0, marks at 1 and 2, a snapshot at 3 and 4 that has read on to offset 25, marks at 5 and 6.
fn journal() -> Vec<Vec<u8>> {
    let mut records = vec![claim(ME, "")];
    let mut w = JournalWriter::new(ME, 0, None, 0).with_max_part(32);
    records.extend(w.commit(0, 10, &mark(15, None).encode()));
    records.extend(w.commit(10, 20, &mark(30, Some(15)).encode()));
    records.extend(w.snapshot(
        &SeriesSnapshot { body: vec![9; 40], deltas_offset: 25, step: 30, ..SeriesSnapshot::default() }.encode(),
    ));
    records.extend(w.commit(20, 26, &mark(45, Some(30)).encode()));
    records.extend(w.commit(26, 26, &EmitMark { cause: EmitCause::Forced, ..mark(60, Some(30)) }.encode()));
    assert_eq!(records.len(), 7);
    records
}

#[test]
fn bodies_survive_the_round_trip() {
    let left_out = vec!["a".to_owned(), String::new()];
    let all = vec![behind(0, 0, 0), behind(i32::MAX, u64::MAX, 3)];
    let (cause, acknowledged, change) = (EmitCause::Forced, Some(i64::MIN), Change::default());
    let forced = EmitMark { step: -15, cause, acknowledged, left_out, behind: all.clone(), basis: None, change };
    let nobody_left_out = EmitMark { left_out: Vec::new(), ..forced.clone() };
    let settings = Change { settings: b"settings".to_vec(), gone: Vec::new(), endpoints: Vec::new() };
    let gone = vec![("old".to_owned(), 0), (String::new(), i32::MAX)];
    let gone = Change { settings: Vec::new(), gone, endpoints: Vec::new() };
    let changes =
        [EmitMark { change: settings.clone(), ..mark(15, None) }, EmitMark { change: gone, ..forced.clone() }];
    let known = [mark(15, None), EmitMark { behind: Vec::new(), ..forced.clone() }, forced, nobody_left_out];
    let mut chain = DeltaChain::new();
    chain.accept("spans", 0, 0, 0, 2);
    let with_basis = EmitMark { basis: Some(Basis { chain, digest: u64::MAX }), ..mark(15, None) };
    let with_all = EmitMark { change: settings, ..with_basis.clone() };
    let endpoints = [("", -15), ("mimir", i64::MAX)].map(|(name, lacks)| EndpointMark { name: name.to_owned(), lacks });
    let change = Change { endpoints: endpoints.to_vec(), ..Change::default() };
    let with_endpoints = EmitMark { change: change.clone(), ..mark(15, None) };
    let with_everything = EmitMark { change, ..with_all.clone() };
    for mark in known.into_iter().chain(changes).chain([with_basis, with_all, with_endpoints, with_everything]) {
        assert_eq!(EmitMark::decode(&mark.encode()), Ok(mark));
    }
    let snapshot = SeriesSnapshot { body: b"state".to_vec(), deltas_offset: 25, step: 30, ..SeriesSnapshot::default() };
    let with_batches = SeriesSnapshot { undelivered: b"batches".to_vec(), ..snapshot.clone() };
    let with_settings = SeriesSnapshot { settings: b"settings".to_vec(), ..snapshot.clone() };
    let with_both = SeriesSnapshot { settings: b"settings".to_vec(), body: vec![UNDELIVERED], ..with_batches.clone() };
    let marked = SeriesSnapshot { body: vec![SETTINGS, 1, 2], ..snapshot.clone() };
    let joining = BTreeSet::from([("new".to_owned(), 0), (String::new(), i32::MAX)]);
    let with_joining = SeriesSnapshot { joining: joining.clone(), ..snapshot.clone() };
    let with_joining_last = SeriesSnapshot { joining, body: vec![JOINING], ..with_settings.clone() };
    let apart = SeriesSnapshot { apart: b"batches".to_vec(), ..with_batches.clone() };
    let body_as_tag = SeriesSnapshot { body: vec![APART, 1], ..snapshot.clone() };
    let with_tags = [with_batches, with_settings, with_both, marked, with_joining, with_joining_last];
    for snapshot in with_tags.into_iter().chain([snapshot, apart, body_as_tag]) {
        assert_eq!(snapshot.clone().into_bytes(), snapshot.encode());
        assert_eq!(SeriesSnapshot::decode(&snapshot.encode()), Ok(snapshot));
    }
}

#[test]
fn a_new_owner_starts_from_the_snapshot_and_the_marks_after_it() {
    let state = fold(SeriesFold::new(), 0, &journal()).expect("whole");
    let expected = SeriesState {
        sharding: 0,
        identity: None,
        owner: Some(ME),
        snapshot: Some(SeriesSnapshot { body: vec![9; 40], deltas_offset: 25, step: 30, ..SeriesSnapshot::default() }),
        joining: BTreeSet::new(),
        marks: vec![(26, mark(45, Some(30))), (26, EmitMark { cause: EmitCause::Forced, ..mark(60, Some(30)) })],
        acknowledged: Some(30),
        next: Some(26),
        next_commit_number: 4,
        oldest_needed: Some(3),
    };
    assert_eq!(state, expected);
    assert_eq!(fold(SeriesFold::after_cut(), 3, &journal()[3..]), Ok(expected), "the rest may be deleted");
}

#[test]
fn sources_that_join_are_told_from_those_that_a_stall_timeout_left_behind() {
    let source = |partition| ("spans".to_owned(), partition);
    let without = |cause, step, partitions: &[i32]| {
        let behind = partitions.iter().map(|&partition| behind(partition, 7, 0)).collect();
        EmitMark { cause, behind, ..mark(step, None) }
    };
    let joining = |marks: &[EmitMark]| {
        let mut w = JournalWriter::new(ME, 0, None, 0);
        let mut records = vec![claim(ME, "")];
        marks.iter().for_each(|mark| records.extend(w.commit(0, 0, &mark.encode())));
        fold(SeriesFold::new(), 0, &records).expect("whole").joining
    };
    let (by_watermark, on_timeout) = (EmitCause::Watermark, EmitCause::Forced);
    assert_eq!(joining(&[without(on_timeout, 15, &[1])]), BTreeSet::new(), "it may have stalled");
    let both = [without(by_watermark, 15, &[1, 2]), without(on_timeout, 30, &[1, 2, 3])];
    assert_eq!(joining(&both), BTreeSet::from([source(1), source(2)]), "the third one stalled");
    let caught_up =
        [without(by_watermark, 15, &[1, 2]), without(on_timeout, 30, &[1, 3]), without(by_watermark, 45, &[])];
    assert_eq!(joining(&caught_up[..2]), BTreeSet::from([source(1)]), "the second one has caught up");
    assert_eq!(joining(&caught_up), BTreeSet::new());
}

#[test]
fn a_snapshot_replaces_the_marks_that_name_the_sources_that_join() {
    let joining = BTreeSet::from([("spans".to_owned(), 1)]);
    let mut w = JournalWriter::new(ME, 0, None, 0);
    let mut records = vec![claim(ME, "")];
    records.extend(w.commit(0, 0, &EmitMark { behind: vec![behind(2, 7, 0)], ..mark(15, None) }.encode()));
    let snapshot = SeriesSnapshot { step: 15, joining: joining.clone(), ..SeriesSnapshot::default() };
    records.extend(w.snapshot(&snapshot.encode()));
    assert_eq!(fold(SeriesFold::new(), 0, &records).expect("whole").joining, joining);
    assert_eq!(fold(SeriesFold::after_cut(), 2, &records[2..]).expect("cut").joining, joining);
}

#[test]
fn a_snapshot_says_that_its_steps_are_acknowledged() {
    let state = fold(SeriesFold::new(), 0, &journal()[..5]).expect("whole");
    assert_eq!((state.acknowledged, state.marks), (Some(30), vec![]));
}

#[test]
fn a_snapshot_of_a_topic_that_has_lost_its_end_reads_on_where_the_topic_ends() {
    let mut w = JournalWriter::new(ME, 0, None, 0);
    let mut records = vec![claim(ME, "")];
    records.extend(w.commit(0, 10, &mark(15, None).encode()));
    let snapshot = SeriesSnapshot { deltas_offset: 4, step: 15, ..SeriesSnapshot::default() };
    records.extend(w.snapshot(&snapshot.encode()));
    records.extend(w.commit(10, 10, &mark(30, None).encode()));
    let state = fold(SeriesFold::new(), 0, &records).expect("whole");
    assert_eq!(state.snapshot.map(|snapshot| snapshot.deltas_offset), Some(4));
    assert_eq!((state.next, state.marks.len()), (Some(10), 1));
}

#[test]
fn marks_without_those_before_them_are_said_loudly() {
    let cut = |from: usize| fold(SeriesFold::after_cut(), 0, &journal()[from..]);
    assert!(matches!(cut(5), Err(JournalError::Cut { .. })));
    assert!(cut(2).is_ok(), "the snapshot makes up for what is gone");
    let nothing = fold(SeriesFold::after_cut(), 9, &[claim(ME, "")]);
    assert!(matches!(nothing, Err(JournalError::Cut { .. })), "a claim alone is no journal that never ran");
}

#[test]
fn damage_names_its_offset() {
    let mut w = JournalWriter::new(ME, 0, None, 0);
    let mut records = vec![claim(ME, "")];
    records.extend(w.commit(0, 10, &mark(15, None).encode()));
    records.extend(w.snapshot(&[0]));
    let error = fold(SeriesFold::new(), 0, &records).expect_err("the snapshot breaks off");
    assert!(matches!(error, JournalError::Body { offset: 2, .. }));
    assert!(matches!(fold(SeriesFold::new(), 5, &[vec![]]), Err(JournalError::Frame { offset: 5, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(mark) = EmitMark::decode(&bytes) {
            assert_eq!(EmitMark::decode(&mark.encode()), Ok(mark));
        }
        if let Ok(snapshot) = SeriesSnapshot::decode(&bytes) {
            assert_eq!(snapshot.clone().into_bytes(), snapshot.encode());
            assert_eq!(SeriesSnapshot::decode(&snapshot.encode()), Ok(snapshot));
        }
        if let Ok(chain) = DeltaChain::decode(&mut Reader::new(&bytes)) {
            let mut out = Vec::new();
            chain.encode(&mut out);
            assert_eq!(DeltaChain::decode(&mut Reader::new(&out)), Ok(chain));
        }
    }
}

#[test]
fn without_several_endpoints_a_mark_and_a_snapshot_have_the_bytes_that_they_had() {
    // Written by the version before: a step, its cause, what is acknowledged, no tenant, no source, no basis; settings.
    let old = [0x00, 0x1e, 0x00, 0x00, 0x00, 0x00, 0x01, b's', 0x00];
    let change = Change { settings: b"s".to_vec(), ..Change::default() };
    let mark = EmitMark { change, ..mark(15, None) };
    assert_eq!(EmitMark::decode(&old), Ok(mark.clone()), "{:02x?}", mark.encode());
    assert_eq!(mark.encode(), old);
    let snapshot = SeriesSnapshot { body: vec![3, 4], deltas_offset: 25, step: 30, ..SeriesSnapshot::default() };
    assert_eq!(snapshot.encode(), [50, 60, 3, 4]);
}

#[test]
fn a_mark_shows_which_steps_each_endpoint_may_lack() {
    let at = |name: &str, lacks| EndpointMark { name: name.to_owned(), lacks };
    assert_eq!(EndpointMark::lacks(&[], "a"), Some(i64::MIN), "a mark that names none");
    let named = [at("a", 45), at("b", 15)];
    assert_eq!(["a", "b", "c"].map(|name| EndpointMark::lacks(&named, name)), [Some(45), Some(15), None]);
    // One that was the only one of a tenant may now be one of several: it lacks what either did.
    let mixed = [at("", 30), at("a", 45), at("b", 15)];
    assert_eq!(["a", "b", "c", ""].map(|name| EndpointMark::lacks(&mixed, name)), [30, 15, 30, 30].map(Some));
}

#[test]
fn the_last_mark_after_a_snapshot_shows_how_far_the_endpoints_are() {
    let endpoints = vec![EndpointMark { name: "a".to_owned(), lacks: 30 }];
    let change = Change { endpoints: endpoints.clone(), ..Change::default() };
    let mut records = vec![claim(ME, "")];
    let mut w = JournalWriter::new(ME, 0, None, 0);
    records.extend(w.commit(0, 10, &EmitMark { change, ..mark(30, None) }.encode()));
    let state = fold(SeriesFold::new(), 0, &records).expect("a journal");
    assert_eq!(state.endpoints(), endpoints);
    records.extend(w.snapshot(&SeriesSnapshot { step: 30, ..SeriesSnapshot::default() }.encode()));
    let state = fold(SeriesFold::new(), 0, &records).expect("a journal");
    assert!(state.endpoints().is_empty(), "nothing was closed since the snapshot");
}
