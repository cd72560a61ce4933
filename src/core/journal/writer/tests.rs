use super::super::frame::claim;
use super::*;

const ME: Owner = Owner(1);
const OTHER: Owner = Owner(2);

/// A writer whose claim lies at 10, in a journal that has come to 100 with commit 6.
fn writer() -> JournalWriter {
    JournalWriter::new(ME, 10, Some(100), 7).with_max_part(4)
}

fn frame(commit_number: u64, from: i64, to: i64) -> AcceptedFrame {
    AcceptedFrame { kind: FrameKind::Commit, commit_number, from, to }
}

fn gap(writer: &mut JournalWriter, records: &[(i64, &[u8])]) -> AppendProgress {
    writer.gap_read(records.iter().copied()).expect("the records are frames")
}

/// A commit of the old owner, whom we have fenced.
fn zombie() -> Vec<u8> {
    JournalWriter::new(OTHER, 0, Some(100), 7).commit(100, 200, b"late").remove(0)
}

#[test]
fn contiguous_offsets_mean_accepted() {
    let mut w = writer();
    assert_eq!(w.commit(100, 110, b"one").len(), 1);
    assert_eq!(w.commit(110, 120, b"two").len(), 1);
    assert_eq!((w.in_flight(), w.next(), w.next_commit_number()), (2, Some(120), 9));
    assert_eq!(w.acknowledged(Some(11)), AppendProgress::Accepted(vec![frame(7, 100, 110)]));
    assert_eq!(w.acknowledged(Some(12)), AppendProgress::Accepted(vec![frame(8, 110, 120)]));
    assert_eq!(w.in_flight(), 0);
}

#[test]
fn a_frame_is_accepted_with_its_last_part() {
    let mut w = writer();
    assert_eq!(w.commit(100, 110, b"123456789").len(), 3);
    assert_eq!(w.acknowledged(Some(11)), AppendProgress::Pending);
    assert_eq!(w.acknowledged(Some(12)), AppendProgress::Pending);
    assert_eq!(w.acknowledged(Some(13)), AppendProgress::Accepted(vec![frame(7, 100, 110)]));
}

#[test]
fn a_zombies_commit_in_the_gap_is_harmless() {
    let mut w = writer();
    w.commit(100, 110, b"12345678");
    assert_eq!(w.acknowledged(Some(11)), AppendProgress::Pending);
    assert_eq!(w.acknowledged(Some(13)), AppendProgress::ReadGap { after: 11, before: 13 });
    assert_eq!(gap(&mut w, &[(12, &zombie())]), AppendProgress::Accepted(vec![frame(7, 100, 110)]));
}

#[test]
fn a_gap_without_records_is_harmless() {
    let mut w = writer();
    w.commit(100, 110, b"one");
    assert_eq!(w.acknowledged(Some(15)), AppendProgress::ReadGap { after: 10, before: 15 });
    assert_eq!(gap(&mut w, &[]), AppendProgress::Accepted(vec![frame(7, 100, 110)]));
}

#[test]
fn a_foreign_claim_in_the_gap_fences_for_good() {
    let mut w = writer();
    w.commit(100, 110, b"one");
    assert_eq!(w.acknowledged(Some(12)), AppendProgress::ReadGap { after: 10, before: 12 });
    assert_eq!(gap(&mut w, &[(11, &claim(OTHER, "takes over"))]), AppendProgress::Fenced);
    w.commit(110, 120, b"two");
    assert_eq!(w.acknowledged(Some(13)), AppendProgress::Fenced);
}

#[test]
fn a_claim_outside_the_gap_is_none_of_its_business() {
    let mut w = writer();
    w.commit(100, 110, b"one");
    assert_eq!(w.acknowledged(Some(12)), AppendProgress::ReadGap { after: 10, before: 12 });
    let foreign = claim(OTHER, "");
    let progress = gap(&mut w, &[(9, &foreign), (11, &zombie()), (13, &foreign)]);
    assert_eq!(progress, AppendProgress::Accepted(vec![frame(7, 100, 110)]));
}

#[test]
fn acknowledgements_wait_while_a_gap_is_read() {
    let mut w = writer();
    w.commit(100, 110, b"one");
    w.commit(110, 120, b"two");
    w.commit(120, 130, b"tri");
    assert_eq!(w.acknowledged(Some(12)), AppendProgress::ReadGap { after: 10, before: 12 });
    assert_eq!(w.acknowledged(Some(13)), AppendProgress::Pending);
    assert_eq!(w.acknowledged(Some(15)), AppendProgress::Pending);
    assert_eq!(gap(&mut w, &[(11, &zombie())]), AppendProgress::ReadGap { after: 13, before: 15 });
    let all = vec![frame(7, 100, 110), frame(8, 110, 120), frame(9, 120, 130)];
    assert_eq!(
        gap(&mut w, &[(14, &zombie())]),
        AppendProgress::Accepted(all),
        "nothing is reported twice or forgotten"
    );
}

#[test]
fn an_acknowledgement_without_an_offset_is_never_guessed() {
    let mut w = writer();
    w.commit(100, 110, b"one");
    assert_eq!(w.acknowledged(None), AppendProgress::Unknown);
    assert_eq!(w.acknowledged(Some(11)), AppendProgress::Unknown);
    assert_eq!(w.in_flight(), 0);
}

#[test]
fn an_offset_that_cannot_be_is_never_guessed() {
    let mut w = writer();
    w.commit(100, 110, b"one");
    assert_eq!(w.acknowledged(Some(10)), AppendProgress::Unknown, "the log was cut back");
    assert_eq!(writer().acknowledged(Some(11)), AppendProgress::Unknown, "nothing was written");
}

#[test]
fn a_record_that_a_retry_has_stored_twice_counts_once() {
    let mut w = writer();
    let record = w.commit(100, 110, b"one").remove(0);
    assert_eq!(w.acknowledged(Some(12)), AppendProgress::ReadGap { after: 10, before: 12 });
    assert_eq!(gap(&mut w, &[(11, &record)]), AppendProgress::Accepted(vec![frame(7, 100, 110)]));
    w.commit(110, 120, b"two");
    assert_eq!(w.acknowledged(Some(13)), AppendProgress::Accepted(vec![frame(8, 110, 120)]));
}

#[test]
fn a_damaged_record_in_the_gap_is_named_and_stops_the_writer() {
    let mut w = writer();
    w.commit(100, 110, b"one");
    assert_eq!(w.acknowledged(Some(12)), AppendProgress::ReadGap { after: 10, before: 12 });
    let error = w.gap_read([(11, &b"rubbish"[..])].into_iter()).expect_err("no frame");
    assert!(error.to_string().starts_with("journal offset 11: "), "{error}");
    assert_eq!(w.acknowledged(Some(13)), AppendProgress::Unknown);
}

#[test]
fn snapshots_and_releases_are_accepted_like_commits() {
    let mut w = JournalWriter::new(ME, 0, None, 0);
    assert!(w.snapshot(b"state").is_empty(), "there is nothing to take a snapshot of");
    w.commit(40, 50, b"one");
    w.snapshot(b"state");
    w.release();
    assert_eq!(w.acknowledged(Some(1)), AppendProgress::Accepted(vec![frame(0, 40, 50)]));
    let snapshot = AcceptedFrame { kind: FrameKind::Snapshot, commit_number: 1, from: 50, to: 50 };
    assert_eq!(w.acknowledged(Some(2)), AppendProgress::Accepted(vec![snapshot]));
    let release = AcceptedFrame { kind: FrameKind::Release, ..snapshot };
    assert_eq!(w.acknowledged(Some(3)), AppendProgress::Accepted(vec![release]));
}

#[test]
fn every_frame_names_the_owner_of_its_journal_in_its_first_part() {
    let identity = Identity { group: "x".to_owned(), topic: Some("y-z".to_owned()), topic_id: None };
    let mut w = JournalWriter::new(ME, 0, None, 0).with_max_part(4).named(&identity);
    let frames = [w.commit(0, 5, b"123456789"), w.snapshot(b"state"), w.release()];
    for records in frames {
        for (part, record) in records.iter().enumerate() {
            let frame = Frame::decode(record).expect("just encoded");
            let named = Identity::decode(frame.identity).expect("just encoded");
            assert_eq!(named, Some(identity.clone()).filter(|_| part == 0));
        }
    }
}

#[test]
fn a_late_claim_of_the_same_producer_fences_the_later_one_and_nothing_of_it_counts_from_there_on() {
    // The first claim was given up for want of an answer; the second one was acknowledged at 10. Then the first one lands.
    let late = claim(OTHER, "given up");
    for at in [11, 12] {
        let mut w = writer();
        let mut log: Vec<(i64, Vec<u8>)> = vec![(10, claim(ME, ""))];
        let mut accepted = Vec::new();
        for (from, offset) in [(100, 11), (110, 12), (120, 13)] {
            let record = w.commit(from, from + 10, b"one").remove(0);
            let stored = if offset < at { offset } else { offset + 1 };
            log.push((stored, record));
            let progress = match w.acknowledged(Some(stored)) {
                AppendProgress::ReadGap { after, before } => {
                    assert_eq!((after, before), (at - 1, at + 1));
                    gap(&mut w, &[(at, &late)])
                }
                progress => progress,
            };
            match progress {
                AppendProgress::Accepted(frames) => {
                    accepted.extend(frames.into_iter().map(|frame| frame.commit_number));
                }
                progress => assert_eq!(progress, AppendProgress::Fenced, "at {at}, offset {stored}"),
            }
        }
        log.push((at, late.clone()));
        log.sort();
        // What every reader counts is what was reported.
        let mut judge = Judge::new(None, Some(100), 7);
        let counted = log.iter().filter(|(_, record)| {
            let header = Frame::decode(record).expect("a frame").header;
            judge.rule(&header) == Ruling::Commit
        });
        assert_eq!(counted.count(), accepted.len(), "at {at}");
        assert_eq!(accepted, (7..7 + (at - 11).unsigned_abs()).collect::<Vec<_>>(), "at {at}");
    }
}

mod epoch {
    //! A producer whose epoch was bumped sends again what was under way: records may be stored twice, and change places.

    use proptest::prelude::{ProptestConfig, any, prop, proptest};

    use super::*;

    /// Stores the records of one producer: each in its turn, but some twice, some behind the next one, some again at
    /// the end. Returns the log, and where each record was acknowledged, if the acknowledgement had an offset.
    fn store(records: &[Vec<u8>], troubles: &[u8]) -> (Vec<Vec<u8>>, Vec<Option<i64>>) {
        let mut order: Vec<usize> = (0..records.len()).collect();
        for (i, trouble) in troubles.iter().enumerate().take(records.len().saturating_sub(1)) {
            if trouble % 8 == 1 {
                order.swap(i, i + 1);
            }
        }
        let trouble = |i: usize| troubles.get(i).copied().unwrap_or_default() % 8;
        let (mut log, mut acks) = (vec![claim(ME, "")], vec![None; records.len()]);
        let mut again = Vec::new();
        for i in order {
            acks[i] = Some(log.len() as i64).filter(|_| trouble(i) != 2);
            log.push(records[i].clone());
            if trouble(i) == 3 {
                // The second one is acknowledged.
                acks[i] = Some(log.len() as i64);
                log.push(records[i].clone());
            }
            if trouble(i) == 4 {
                again.push(i);
            }
        }
        log.extend(again.into_iter().map(|i| records[i].clone()));
        (log, acks)
    }

    /// The frames that every reader counts, by their number and kind.
    fn counted(log: &[Vec<u8>]) -> Vec<AcceptedFrame> {
        let mut judge = Judge::new(None, None, 0);
        let headers = log.iter().map(|record| Frame::decode(record).expect("a frame").header);
        let counts =
            |header: &Header| matches!(judge.rule(header), Ruling::Commit | Ruling::Snapshot | Ruling::Released);
        let counted: Vec<Header> = headers.filter(counts).collect();
        counted
            .iter()
            .map(|&Header { kind, commit_number, from, to, .. }| AcceptedFrame { kind, commit_number, from, to })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_reported_counts_for_every_reader_whatever_a_retry_stores_twice_or_behind_the_next(
            commits in prop::collection::vec(1_usize..12, 1..8),
            troubles in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            let mut w = JournalWriter::new(ME, 0, None, 0).with_max_part(4);
            let mut records = Vec::new();
            for (commit_number, bytes) in (0..).zip(&commits) {
                records.extend(w.commit(commit_number * 10, commit_number * 10 + 10, &vec![b'x'; *bytes]));
            }
            let (log, acks) = store(&records, &troubles);
            let mut reported = Vec::new();
            'acks: for ack in acks {
                let mut progress = w.acknowledged(ack);
                loop {
                    match progress {
                        AppendProgress::Pending => continue 'acks,
                        AppendProgress::Accepted(frames) => {
                            reported.extend(frames);
                            continue 'acks;
                        }
                        AppendProgress::ReadGap { after, before } => {
                            let stored = (0..).zip(log.iter().map(Vec::as_slice));
                            let between = stored.filter(|(offset, _)| (after + 1..before).contains(offset));
                            progress = w.gap_read(between).expect("frames");
                        }
                        // It claims again, and folds what there is.
                        AppendProgress::Unknown => break 'acks,
                        AppendProgress::Fenced => unreachable!("no other owner has claimed"),
                    }
                }
            }
            let counted = counted(&log);
            assert_eq!(reported, counted[..reported.len()], "of {counted:?}");
            let in_place = troubles.iter().all(|trouble| !matches!(trouble % 8, 1 | 2));
            if in_place && commits.iter().all(|bytes| *bytes <= 4) {
                assert_eq!(reported.len(), commits.len(), "duplicates of frames in one part cost nothing");
            }
        }
    }

    #[test]
    fn an_offset_that_is_taken_for_another_records_would_be_a_lie_which_the_order_of_acknowledgements_rules_out() {
        // Two commits change places, and so do their acknowledgements.
        let mut w = JournalWriter::new(ME, 0, None, 0);
        let records = [w.commit(0, 10, b"one").remove(0), w.commit(10, 20, b"two").remove(0)];
        let log = [claim(ME, ""), records[1].clone(), records[0].clone()];
        assert_eq!(counted(&log).len(), 1, "the second one came before its turn");
        // In the order of appending, the writer knows that.
        assert!(matches!(w.acknowledged(Some(2)), AppendProgress::ReadGap { after: 0, before: 2 }));
        assert_eq!(
            w.gap_read([(1, log[1].as_slice())].into_iter()).expect("frames"),
            AppendProgress::Accepted(vec![super::frame(0, 0, 10)])
        );
        assert_eq!(w.acknowledged(Some(1)), AppendProgress::Unknown);
    }
}

#[test]
fn a_claim_of_an_earlier_sharding_in_the_gap_is_harmless_and_one_of_a_later_one_fences() {
    use super::super::frame::claim_as;
    let group = Identity { group: "g".to_owned(), topic: None, topic_id: None };
    for (sharding, fences) in [(0, false), (1, false), (2, true), (3, true)] {
        let mut w = writer().in_sharding(2);
        let records = w.commit(100, 110, b"one");
        assert_eq!(Frame::decode(&records[0]).expect("a frame").header.sharding, 2);
        assert_eq!(w.acknowledged(Some(13)), AppendProgress::ReadGap { after: 10, before: 13 });
        let claim = claim_as(OTHER, "late", &group, sharding);
        let expected = if fences { AppendProgress::Fenced } else { AppendProgress::Accepted(vec![frame(7, 100, 110)]) };
        assert_eq!(gap(&mut w, &[(11, &claim), (12, &zombie())]), expected, "{sharding}");
    }
}
