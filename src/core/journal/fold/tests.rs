use super::*;

const A: Owner = Owner(1);
const B: Owner = Owner(2);

fn frame(owner: Owner, kind: FrameKind, commit_number: u64, from: i64, to: i64) -> Frame<'static> {
    Frame {
        header: Header { owner, kind, seq: commit_number + 1, commit_number, from, to, part: 0, parts: 1, sharding: 0 },
        body: b"x",
        identity: &[],
    }
}

fn claim(owner: Owner) -> Frame<'static> {
    frame(owner, FrameKind::Claim, 0, 0, 0)
}

fn commit(owner: Owner, commit_number: u64, from: i64, to: i64) -> Frame<'static> {
    frame(owner, FrameKind::Commit, commit_number, from, to)
}

fn part(frame: Frame<'static>, part: u32, parts: u32) -> Frame<'static> {
    Frame { header: Header { part, parts, ..frame.header }, ..frame }
}

fn accepted(commit_number: u64, from: i64, to: i64) -> FrameVerdict {
    FrameVerdict::Commit { commit_number, from, to, body: b"x".to_vec() }
}

/// Applies all frames; the last one's verdict.
fn last(fold: &mut Fold, frames: &[Frame<'_>]) -> FrameVerdict {
    frames.iter().map(|f| fold.apply(f)).last().expect("some frames")
}

#[test]
fn the_first_commit_may_start_anywhere_and_the_next_one_only_where_it_ended() {
    let mut fold = Fold::new();
    assert_eq!(fold.next(), None);
    assert_eq!(last(&mut fold, &[claim(A), commit(A, 0, 40, 50)]), accepted(0, 40, 50));
    assert_eq!(fold.apply(&commit(A, 1, 51, 60)), FrameVerdict::Ignored(Ignored::NotContiguous));
    assert_eq!(fold.apply(&commit(A, 2, 50, 60)), FrameVerdict::Ignored(Ignored::NotContiguous));
    assert_eq!(fold.apply(&commit(A, 1, 50, 60)), accepted(1, 50, 60));
    assert_eq!((fold.owner(), fold.next(), fold.next_commit_number()), (Some(A), Some(60), 2));
}

#[test]
fn the_first_commit_of_a_journal_has_the_number_0() {
    assert_eq!(last(&mut Fold::new(), &[claim(A), commit(A, 1, 0, 5)]), FrameVerdict::Ignored(Ignored::NotContiguous));
}

#[test]
fn only_the_latest_claimer_counts() {
    let mut fold = Fold::new();
    assert_eq!(fold.apply(&commit(A, 0, 0, 5)), FrameVerdict::Ignored(Ignored::NotOwner));
    assert_eq!(last(&mut fold, &[claim(A), claim(B), commit(A, 0, 0, 5)]), FrameVerdict::Ignored(Ignored::NotOwner));
    assert_eq!(fold.apply(&commit(B, 0, 0, 5)), accepted(0, 0, 5));
    assert_eq!(last(&mut fold, &[claim(A), commit(A, 1, 5, 6)]), accepted(1, 5, 6));
}

#[test]
fn an_operator_may_turn_a_task_back() {
    let mut fold = Fold::new();
    assert_eq!(last(&mut fold, &[claim(A), commit(A, 0, 0, 50), commit(A, 1, 50, 10)]), accepted(1, 50, 10));
    assert_eq!(fold.next(), Some(10));
}

#[test]
fn nothing_counts_after_a_release_until_somebody_claims() {
    let mut fold = Fold::new();
    let release = frame(A, FrameKind::Release, 1, 5, 5);
    assert_eq!(last(&mut fold, &[claim(A), commit(A, 0, 0, 5), release]), FrameVerdict::Released);
    assert_eq!(fold.owner(), None);
    assert_eq!(fold.apply(&commit(A, 1, 5, 6)), FrameVerdict::Ignored(Ignored::NotOwner));
    assert_eq!(last(&mut fold, &[claim(B), commit(B, 1, 5, 6)]), accepted(1, 5, 6));
    assert_eq!(fold.apply(&release), FrameVerdict::Ignored(Ignored::NotOwner));
}

#[test]
fn a_frame_in_parts_counts_when_its_last_part_comes() {
    let mut fold = Fold::new();
    let c = commit(A, 0, 0, 5);
    assert_eq!(last(&mut fold, &[claim(A), part(c, 0, 3)]), FrameVerdict::Part);
    assert_eq!(fold.next(), None);
    let whole = FrameVerdict::Commit { commit_number: 0, from: 0, to: 5, body: b"xxx".to_vec() };
    assert_eq!(last(&mut fold, &[part(c, 1, 3), part(c, 2, 3)]), whole);
}

#[test]
fn a_zombies_record_between_the_parts_does_not_tear_the_frame() {
    let mut fold = Fold::new();
    let c = commit(B, 0, 0, 5);
    fold.apply(&claim(A));
    let zombie = [claim(B), part(c, 0, 2), commit(A, 0, 0, 9), part(commit(A, 0, 0, 9), 1, 2)];
    assert_eq!(last(&mut fold, &zombie), FrameVerdict::Ignored(Ignored::NotOwner));
    assert!(matches!(fold.apply(&part(c, 1, 2)), FrameVerdict::Commit { to: 5, .. }));
}

#[test]
fn a_claim_between_the_parts_tears_the_frame_even_if_the_owner_comes_back() {
    let c = commit(A, 0, 0, 5);
    let mut fold = Fold::new();
    let torn = [claim(A), part(c, 0, 2), claim(B), claim(A), part(c, 1, 2)];
    assert_eq!(last(&mut fold, &torn), FrameVerdict::Ignored(Ignored::Torn));
    assert_eq!(fold.next(), None);
}

#[test]
fn a_missing_or_doubled_part_is_noticed() {
    let c = commit(A, 0, 0, 5);
    let mut fold = Fold::new();
    assert_eq!(last(&mut fold, &[claim(A), part(c, 1, 3)]), FrameVerdict::Ignored(Ignored::Torn));
    assert_eq!(last(&mut fold, &[part(c, 0, 3), part(c, 2, 3)]), FrameVerdict::Ignored(Ignored::Torn));
    assert_eq!(last(&mut fold, &[part(c, 1, 3), part(c, 1, 3)]), FrameVerdict::Ignored(Ignored::Torn));
    assert!(matches!(fold.apply(&part(c, 2, 3)), FrameVerdict::Commit { body, .. } if body == b"xxx"));
}

#[test]
fn parts_of_two_frames_are_never_taken_for_one() {
    // Two snapshots at the same place; the end of the first and the beginning of the second got lost.
    let mut first = frame(A, FrameKind::Snapshot, 1, 5, 5);
    first.header.seq = 2;
    let mut second = first;
    second.header.seq = 3;
    let mut fold = Fold::new();
    let mixed = [claim(A), commit(A, 0, 0, 5), part(first, 0, 2), part(second, 1, 2)];
    assert_eq!(last(&mut fold, &mixed), FrameVerdict::Ignored(Ignored::Torn));
}

#[test]
fn a_snapshot_counts_only_where_its_writer_believed_the_journal_to_be() {
    let mut fold = Fold::new();
    assert_eq!(
        last(&mut fold, &[claim(A), frame(A, FrameKind::Snapshot, 0, 0, 0)]),
        FrameVerdict::Ignored(Ignored::NotContiguous),
        "before the first commit there is nothing to take a snapshot of"
    );
    let ahead = [commit(A, 0, 0, 5), frame(A, FrameKind::Snapshot, 2, 9, 9)];
    assert_eq!(last(&mut fold, &ahead), FrameVerdict::Ignored(Ignored::NotContiguous));
    let snapshot = frame(A, FrameKind::Snapshot, 1, 5, 5);
    assert_eq!(fold.apply(&snapshot), FrameVerdict::Snapshot { body: b"x".to_vec() });
    assert_eq!(fold.apply(&commit(A, 1, 5, 6)), accepted(1, 5, 6));
}

#[test]
fn a_cut_journal_goes_on_at_the_first_frame_that_is_left() {
    for first in [commit(A, 7, 40, 50), frame(A, FrameKind::Snapshot, 8, 50, 50)] {
        let mut fold = Fold::after_cut();
        fold.apply(&first);
        assert_eq!((fold.owner(), fold.next(), fold.next_commit_number()), (Some(A), Some(50), 8));
        assert_eq!(fold.apply(&commit(B, 8, 50, 60)), FrameVerdict::Ignored(Ignored::NotOwner));
        assert_eq!(fold.apply(&commit(A, 9, 50, 60)), FrameVerdict::Ignored(Ignored::NotContiguous));
        assert_eq!(last(&mut fold, &[claim(B), commit(B, 8, 50, 60)]), accepted(8, 50, 60));
    }
}

fn named(group: &str, topic_id: &str) -> Vec<u8> {
    let (group, topic) = (group.to_owned(), Some("spans".to_owned()));
    Identity { group, topic, topic_id: Some(topic_id.to_owned()) }.encode()
}

#[test]
fn a_journal_belongs_to_whom_its_first_claim_or_frame_that_counts_names() {
    let (x, y) = (named("x", "1"), named("y", "1"));
    let owner = |frames: &[Frame<'_>], mut fold: Fold| {
        frames.iter().for_each(|frame| drop(fold.apply(frame)));
        fold.identity().map(|identity| identity.group.clone())
    };
    let by = |identity, frame| Frame { identity, ..frame };
    let claims = [by(&x, claim(A)), by(&y, claim(B)), by(&y, commit(B, 0, 0, 5))];
    assert_eq!(owner(&claims, Fold::new()).as_deref(), Some("x"));
    // Frames of earlier versions name no owner, and a frame that does not count says nothing.
    let upgraded = [claim(A), commit(A, 0, 0, 5), by(&y, commit(B, 1, 5, 6)), by(&x, claim(B))];
    assert_eq!(owner(&upgraded, Fold::new()).as_deref(), Some("x"));
    assert_eq!(owner(&upgraded[..3], Fold::new()), None);
    // The claim has been trimmed away; a stranger's follows.
    let trimmed = [by(&x, commit(A, 7, 5, 6)), by(&y, claim(B))];
    assert_eq!(owner(&trimmed, Fold::after_cut()).as_deref(), Some("x"));
}

#[test]
fn the_topic_id_is_that_of_the_last_whole_frame_that_counts() {
    let (old, new) = (named("x", "old"), named("x", "new"));
    let by = |identity, frame| Frame { identity, ..frame };
    let mut fold = Fold::new();
    let begun = part(commit(B, 1, 5, 6), 0, 2);
    for frame in [by(&old, claim(A)), by(&old, commit(A, 0, 0, 5)), by(&new, claim(B)), by(&new, begun)] {
        fold.apply(&frame);
    }
    assert_eq!(fold.topic_id(), Some("old"));
    fold.apply(&part(commit(B, 1, 5, 6), 1, 2));
    assert_eq!(fold.topic_id(), Some("new"));
    fold.apply(&commit(B, 2, 6, 7));
    assert_eq!(fold.topic_id(), None, "an earlier version wrote it");
}

#[test]
fn a_topic_id_that_was_not_told_to_the_next_owner_is_known_after_his_commits() {
    let known = Identity { group: "x".to_owned(), topic: Some("spans".to_owned()), topic_id: Some("old".to_owned()) };
    let (untold, told) =
        (Identity { topic_id: None, ..known.clone() }, Identity { topic_id: Some("new".to_owned()), ..known.clone() });
    let (mut fold, bytes, silent) = (Fold::new(), known.encode(), untold.encode());
    let by = |identity, frame| Frame { identity, ..frame };
    for frame in [by(&bytes, claim(A)), by(&bytes, commit(A, 0, 0, 5)), by(&silent, claim(B))] {
        fold.apply(&frame);
    }
    let next = untold.knowing(fold.topic_id().map(str::to_owned)).encode();
    fold.apply(&by(&next, commit(B, 1, 5, 6)));
    assert_eq!(fold.topic_id(), Some("old"));
    assert_eq!(told.knowing(Some("old".to_owned())), told, "what the brokers say now is what counts");
}

#[test]
fn a_later_frame_between_the_parts_of_the_first_that_is_left_does_not_count() {
    // As a producer with a new epoch may store them: the second commit before the first one is whole.
    let (first, second) = (commit(A, 5, 50, 60), commit(A, 6, 60, 70));
    let log = [claim(A), commit(A, 4, 40, 50), part(first, 0, 2), second, part(first, 1, 2)];
    let (mut whole, mut cut) = (Fold::new(), Fold::after_cut());
    whole.judge.next_commit_number = 4;
    log.iter().for_each(|frame| drop(whole.apply(frame)));
    log[2..].iter().for_each(|frame| drop(cut.apply(frame)));
    assert_eq!((whole.next(), whole.next_commit_number()), (Some(60), 6));
    assert_eq!((cut.next(), cut.next_commit_number()), (Some(60), 6), "what is left tells the same");
}

fn sharded(frame: Frame<'static>, sharding: u32) -> Frame<'static> {
    Frame { header: Header { sharding, ..frame.header }, ..frame }
}

#[test]
fn behind_a_claim_of_a_later_sharding_nothing_of_an_earlier_one_counts_any_more() {
    let old = FrameVerdict::Ignored(Ignored::OldSharding);
    let mut fold = Fold::new();
    let reserved = [claim(A), commit(A, 0, 0, 5), sharded(claim(B), 2)];
    assert_eq!(last(&mut fold, &reserved), FrameVerdict::Claimed);
    assert_eq!((fold.sharding(), fold.next_commit_number()), (2, 1));
    for zombie in [claim(A), sharded(claim(A), 1), commit(A, 1, 5, 6), commit(B, 1, 5, 6)] {
        assert_eq!(fold.apply(&zombie), old);
    }
    assert_eq!((fold.owner(), fold.next()), (Some(B), Some(5)));
    assert_eq!(fold.apply(&sharded(frame(B, FrameKind::Release, 1, 5, 5), 2)), FrameVerdict::Released);
    assert_eq!(fold.apply(&claim(A)), old, "also while the journal has no owner");
    assert_eq!(last(&mut fold, &[sharded(claim(A), 2), sharded(commit(A, 1, 5, 6), 2)]), accepted(1, 5, 6));
    // The claim of the sharding may have been deleted, and frames name it all the same.
    let mut cut = Fold::after_cut();
    assert_eq!(last(&mut cut, &[sharded(commit(A, 1, 5, 6), 2), claim(B)]), old);
    assert_eq!((cut.owner(), cut.sharding()), (Some(A), 2));
}
