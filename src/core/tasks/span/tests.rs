use super::*;
use crate::config::Config;
use crate::core::deltas::DeltaRecord;
use crate::core::journal::Event;
use crate::core::model::wire::put_bytes;

/// The value of a record that makes the code panic, which takes a bug that only tests have: an OTLP request with a field that
/// is not known.
pub(crate) const POISON: &[u8] = b"\x7a\x13a record that hurts";

/// The bug.
pub(super) fn hurt(record: &Record<'_>) {
    assert!(record.value != POISON, "met a record that hurts");
}

const NOW: Millis = 1 << 50;

/// Nothing is so far ahead here that it is doubted.
fn settings() -> SpanSettings {
    SpanSettings { max_future: 3_600_000, ..SpanSettings::from(&Config::default()) }
}

fn new_task(settings: &SpanSettings, restored: Restored) -> SpanTask {
    SpanTask::new(settings, "spans".into(), 4, restored).expect("a sound journal")
}

pub(super) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    put_bytes(&mut out, bytes);
    out
}

/// A record of one service with a client span of each of the given IDs.
pub(super) fn clients(ids: &[u8]) -> Vec<u8> {
    let name = field(1, &[field(1, b"service.name"), field(2, &field(1, b"web"))].concat());
    let span = |&id: &u8| field(2, &[field(1, &[7; 16]), field(2, &[id; 8]), vec![6 << 3, 3]].concat());
    let spans: Vec<u8> = ids.iter().flat_map(span).collect();
    field(1, &[field(1, &name), field(2, &spans)].concat())
}

fn record(offset: i64, timestamp: Millis, value: &[u8]) -> Record<'_> {
    Record { offset, timestamp, tenant: Some("one"), value }
}

fn take(task: &mut SpanTask, record: &Record<'_>) {
    assert!(matches!(task.offer(record, NOW), Offer::Taken));
}

fn cut_first(task: &mut SpanTask, record: &Record<'_>) -> StepCut {
    match task.offer(record, NOW) {
        Offer::CutFirst { cut } => *cut,
        Offer::Taken => panic!("it was taken"),
    }
}

pub(super) fn restored(cut: StepCut) -> Restored {
    Restored {
        next: Some(cut.to),
        next_commit_number: cut.commit_number + 1,
        stream_time: Some(cut.stream_time),
        step: Some(cut.step),
        reread_from: cut.reread_from,
        live: cut.live,
        ledger: cut.ledger,
    }
}

#[test]
fn a_record_of_a_later_step_ends_the_open_one_before_it_is_taken() {
    let (mut task, value) = (new_task(&settings(), Restored::default()), clients(&[1]));
    assert_eq!(task.start_offset(), None);
    take(&mut task, &record(5, 1_000, &value));
    take(&mut task, &record(6, 14_999, &value));
    let next = record(9, 31_000, &value);
    let cut = cut_first(&mut task, &next);
    assert_eq!((cut.from, cut.to, cut.commit_number, cut.tick), (5, 9, 0, false));
    assert_eq!((cut.step, cut.stream_time), (15_000, 24_999), "where the wait of a pending edge ends");
    assert_eq!((cut.ledger.get(Counter::RecordsRead), task.position()), (2, Some(9)));
    let cut = cut_first(&mut task, &next);
    assert_eq!((cut.from, cut.to, cut.commit_number, cut.step, cut.stream_time), (9, 9, 1, 30_000, 31_000));
    take(&mut task, &next);
    let cut = task.cut().expect("a record was taken");
    assert_eq!((cut.from, cut.to, cut.commit_number, cut.step, cut.stream_time), (9, 10, 2, 45_000, 31_000));
    assert!(task.cut().is_none(), "nothing was read since");
}

#[test]
fn every_delta_record_says_what_the_cut_says() {
    let (mut task, value) = (new_task(&settings(), Restored::default()), clients(&[1]));
    take(&mut task, &record(5, 1_000, &value));
    let cut = task.tick(16_000).expect("the step is over");
    assert_eq!(cut.delta_records.len(), 16);
    for part in cut.delta_records.iter().flatten() {
        let head = DeltaRecord::decode(part).expect("a delta record").head;
        assert_eq!((head.topic.as_str(), head.partition, head.commit_number), ("spans", 4, cut.commit_number));
        assert_eq!((head.step, head.stream_time), (15_000, 16_000));
    }
}

#[test]
fn a_tick_counts_only_when_it_passes_a_step() {
    let (mut task, value) = (new_task(&settings(), Restored::default()), clients(&[1]));
    assert!(task.tick(20_000).is_none(), "the position of the partition is unknown");
    take(&mut task, &record(5, 1_000, &value));
    assert!(task.tick(14_999).is_none());
    assert_eq!(task.stream_time(), Some(1_000), "a time that no journal knows decides nothing");
    let cut = task.tick(15_000).expect("the step is over");
    assert!(cut.tick);
    assert_eq!((cut.from, cut.to, cut.step, cut.stream_time), (5, 6, 15_000, 15_000));
    assert_eq!(task.pending_edges(), 0, "14 s are longer than the wait");
    let cut = task.tick(77_000).expect("more steps are over");
    assert_eq!((cut.from, cut.to, cut.step, cut.stream_time), (6, 6, 30_000, 77_000));
    assert_eq!(cut.ledger.get(Counter::EdgesExpiredClient), 1);
    assert!(task.tick(70_000).is_none(), "time does not go back");
}

#[test]
fn an_empty_partition_ticks_from_where_it_starts() {
    let mut task = new_task(&settings(), Restored::default());
    task.set_start(42);
    task.set_start(43);
    let cut = task.tick(20_000).expect("its stream time becomes known");
    assert_eq!((cut.from, cut.to, cut.step, cut.stream_time), (42, 42, 15_000, 20_000));
    assert!(task.tick(29_999).is_none());
    assert!(task.tick(30_000).is_some());
}

#[test]
fn a_big_stretch_is_cut_within_its_step() {
    let settings = SpanSettings { max_commit_bytes: 1, ..settings() };
    let (mut task, value) = (new_task(&settings, Restored::default()), clients(&[1]));
    take(&mut task, &record(0, 1_000, &value));
    let next = record(1, 2_000, &value);
    let cut = cut_first(&mut task, &next);
    assert_eq!((cut.from, cut.to, cut.step, cut.stream_time), (0, 1, 15_000, 1_000));
    take(&mut task, &next);
    let nothing = SpanSettings { max_commit_bytes: 0, ..settings };
    take(&mut new_task(&nothing, Restored::default()), &next);
}

#[test]
fn half_edges_come_back_and_the_records_in_between_are_read_only_for_them() {
    let mut task = new_task(&settings(), Restored::default());
    take(&mut task, &record(5, 1_000, &clients(&[1, 2, 3])));
    take(&mut task, &record(6, 2_000, b"garbage"));
    let cut = task.cut().expect("records were taken");
    assert_eq!((cut.reread_from, cut.to), (5, 7));
    let mut next = new_task(&settings(), restored(cut));
    assert_eq!((next.start_offset(), next.rebuilding()), (Some(5), true));
    assert!(next.tick(60_000).is_none(), "not before the pending edges are back");
    take(&mut next, &record(5, 1_000, &clients(&[1, 2, 3])));
    assert_eq!(next.start_offset(), Some(6));
    assert!(next.cut().is_none());
    take(&mut next, &record(6, 2_000, b"garbage"));
    assert!(!next.rebuilding(), "the last record before the commit was read");
    assert_eq!((next.pending_edges(), next.start_offset()), (3, Some(7)));
    assert_eq!(next.ledger(), task.ledger());
    take(&mut next, &record(6, 2_000, b"garbage"));
    assert_eq!(next.ledger(), task.ledger(), "what a commit covers is not read twice");
}

#[test]
fn half_edges_whose_records_are_gone_are_lost_by_name() {
    let mut task = new_task(&settings(), Restored::default());
    take(&mut task, &record(5, 1_000, &clients(&[1, 2])));
    take(&mut task, &record(6, 1_000, &clients(&[3])));
    let restored = restored(task.cut().expect("records were taken"));
    let mut next = new_task(&settings(), restored.clone());
    take(&mut next, &record(6, 1_000, &clients(&[3])));
    assert_eq!((next.ledger().get(Counter::EdgesLost), next.ledger().pending_edges()), (2, 1));
    assert_eq!(next.pending_edges(), 1);

    let mut next = new_task(&settings(), restored.clone());
    next.reached(6);
    assert!(next.rebuilding(), "one more may come");
    next.reached(7);
    assert_eq!((next.ledger().get(Counter::EdgesLost), next.ledger().pending_edges()), (3, 0));

    let mut off = Config::default();
    off.core.service_graphs.enabled = false;
    let next = new_task(&SpanSettings::from(&off), restored);
    assert_eq!((next.start_offset(), next.ledger().get(Counter::EdgesLost)), (Some(7), 3));
}

#[test]
fn lost_records_are_counted_once_however_often_the_task_is_taken_over() {
    let (settings, value) = (settings(), clients(&[1]));
    let mut task = new_task(&settings, Restored::default());
    take(&mut task, &record(5, 1_000, &value));
    let mut cut = task.cut().expect("a record was read");
    for _ in 0..3 {
        let mut task = new_task(&settings, restored(cut));
        task.lost_below(9);
        cut = task.tick(task.stream_time().expect("restored") + 15_000).expect("a step has passed");
        assert_eq!((cut.to, cut.ledger.get(Counter::RecordsLost)), (9, 3));
    }
}

#[test]
fn offsets_that_cannot_be_read_are_counted_once_and_waiting_half_edges_stay() {
    let (settings, value) = (settings(), clients(&[1]));
    let mut task = new_task(&settings, Restored::default());
    take(&mut task, &record(5, 1_000, &value));
    // Offset 6 is a hole, the batch begins behind it.
    task.unreadable(7, 10);
    let cut = task.cut().expect("there is something to commit");
    assert_eq!((cut.to, cut.ledger.get(Counter::RecordsUnreadable), cut.ledger.get(Counter::RecordsRead)), (10, 3, 1));
    let mut next = new_task(&settings, restored(cut));
    take(&mut next, &record(5, 1_000, &value));
    assert!(next.rebuilding());
    next.unreadable(7, 10);
    assert!(!next.rebuilding(), "what was read is read again");
    assert_eq!((next.ledger().get(Counter::RecordsUnreadable), next.ledger().get(Counter::EdgesLost)), (3, 0));
    assert_eq!(next.pending_edges(), 1);
    // Of a batch that a commit covers in part, the rest.
    next.unreadable(8, 12);
    assert_eq!((next.position(), next.ledger().get(Counter::RecordsUnreadable)), (Some(12), 5));
}

#[test]
fn what_the_settings_now_call_complete_is_emitted_after_the_rebuild() {
    let mut config = Config::default();
    let value = clients(&[1]);
    let mut task = new_task(&settings(), Restored::default());
    take(&mut task, &record(5, 1_000, &value));
    let restored = restored(task.cut().expect("a record was taken"));
    config.core.service_graphs.database_name_attributes.push("service.name".to_owned());
    let mut next = new_task(&SpanSettings::from(&config), restored);
    take(&mut next, &record(5, 1_000, &value));
    assert_eq!((next.ledger().get(Counter::EdgesCompleted), next.ledger().pending_edges()), (1, 0));
    assert_eq!(next.pending_edges(), 0);
}

#[test]
fn a_damaged_list_names_the_partition() {
    let bad = Restored { next: Some(7), live: vec![0x80], ..Restored::default() };
    let error = SpanTask::new(&settings(), "spans".into(), 4, bad).expect_err("damaged");
    assert!(error.to_string().contains("spans[4]"));
}

#[test]
fn timestamps_at_the_ends_of_time_are_harmless() {
    let (mut task, value) = (new_task(&settings(), Restored::default()), clients(&[1]));
    take(&mut task, &record(0, Millis::MIN, &value));
    assert_eq!(task.stream_time(), Some(0));
    for timestamp in [Millis::MAX, -1] {
        assert!(matches!(task.offer(&record(1, timestamp, &value), 20_000), Offer::Taken));
        assert_eq!(task.stream_time(), Some(0), "what is ahead of the present is not believed");
    }
    assert_eq!(task.ledger().get(Counter::RecordsFromFuture), 1);
    take(&mut new_task(&settings(), Restored::default()), &record(0, -1, &value));
}

#[test]
fn a_partition_that_ends_settles_its_half_edges_or_leaves_them_open_and_stays_ended() {
    for settle in [true, false] {
        let (mut task, value) = (new_task(&settings(), Restored::default()), clients(&[1]));
        take(&mut task, &record(5, 14_000, &value));
        let cuts = task.finish(settle);
        assert!(task.has_ended() && task.finish(settle).is_empty() && task.cut().is_none());
        assert_eq!(cuts.iter().map(|cut| (cut.from, cut.to)).next(), Some((5, 6)));
        // The wait of 10 s leads into the next step, and the expired half belongs there.
        let (steps, open): (Vec<_>, _) = (cuts.iter().map(|cut| cut.step).collect(), i128::from(!settle));
        assert_eq!(steps, if settle { vec![15_000, 30_000] } else { vec![15_000] });
        let last = cuts.into_iter().next_back().expect("the end is told");
        assert_eq!((last_step(last.stream_time), last.ledger.pending_edges()), (Some(last.step), open));

        let mut next = new_task(&settings(), restored(last.clone()));
        assert!(next.has_ended() && !next.rebuilding() && next.finish(settle).is_empty());
        take(&mut next, &record(6, 90_000, &value));
        assert!(next.cut().is_none() && !next.would_tick(NOW));
        assert_eq!(next.ledger(), &last.ledger);
    }
}

#[test]
fn an_empty_partition_ends_without_a_step() {
    let mut task = new_task(&settings(), Restored::default());
    task.set_start(3);
    let cuts = task.finish(true);
    assert_eq!(
        cuts.iter().map(|cut| (cut.from, cut.to, last_step(cut.stream_time))).collect::<Vec<_>>(),
        [(3, 3, Some(0))]
    );
}

/// A record with a span that ends at each of these times, in milliseconds.
fn ending(ends: &[u64]) -> Vec<u8> {
    let name = field(1, &[field(1, b"service.name"), field(2, &field(1, b"web"))].concat());
    let span = |end: &u64| field(2, &[vec![8 << 3 | 1], (end * 1_000_000).to_le_bytes().to_vec()].concat());
    let spans: Vec<u8> = ends.iter().flat_map(span).collect();
    field(1, &[field(1, &name), field(2, &spans)].concat())
}

fn by_span_end(lateness: Millis) -> SpanSettings {
    SpanSettings { lateness: Some(lateness), ..settings() }
}

/// How many spans the delta records of a cut count in each step.
pub(super) fn calls(cut: &StepCut) -> Vec<(Millis, u64)> {
    let mut calls = std::collections::BTreeMap::new();
    for part in cut.delta_records.iter().flatten() {
        let mut delta_record = DeltaRecord::decode(part).expect("a delta record");
        assert_eq!(
            (delta_record.head.stream_time, delta_record.head.commit_number),
            (cut.stream_time, cut.commit_number)
        );
        while let Some(set) = delta_record.next_set().expect("a delta record") {
            *calls.entry(delta_record.head.step).or_default() += set.cells[0].value;
        }
    }
    calls.into_iter().collect()
}

#[test]
fn a_record_has_the_time_of_its_spans_and_a_commit_holds_all_open_steps() {
    let mut task = new_task(&by_span_end(30_000), Restored::default());
    take(&mut task, &record(0, 7, &ending(&[100_000, 104_999, 105_000, 131_000])));
    assert_eq!(task.stream_time(), Some(70_000));
    take(&mut task, &record(1, 9, &ending(&[104_000])));
    let value = ending(&[106_000]);
    let next = record(2, 8, &value);
    let cut = cut_first(&mut task, &next);
    assert_eq!((cut.stream_time, cut.step, cut.tick), (76_000, 135_000, false));
    assert_eq!(calls(&cut), [(105_000, 3), (120_000, 1), (135_000, 1)]);
    take(&mut task, &next);
    let cut = task.cut().expect("a record was taken");
    assert_eq!((calls(&cut), cut.step), (vec![(120_000, 1)], 135_000), "the latest step of all");
}

#[test]
fn spans_without_an_end_or_in_another_unit_do_not_take_time_to_1970() {
    const NOON: Millis = 1_750_000_000_000;
    // No end; milliseconds and microseconds instead of nanoseconds.
    for ends in [vec![0], vec![NOON as u64 / 1_000_000, NOON as u64 / 1_000]] {
        let mut task = new_task(&by_span_end(30_000), Restored::default());
        take(&mut task, &record(0, NOON, &ending(&ends)));
        assert_eq!(task.stream_time(), Some(NOON - 30_000), "{ends:?}");
        assert_eq!(task.ledger().get(Counter::SpansLate), ends.len() as u64, "they are named");
        // The same when the first record is doubted.
        let mut wary = new_task(&by_span_end(30_000), Restored::default());
        wary.doubt_first();
        take(&mut wary, &record(0, NOON, &ending(&ends)));
        let last = wary.finish(true).pop().expect("the end is told");
        assert!(last.step > NOON - 60_000, "{ends:?}: {}", last.step);
    }
}

#[test]
fn a_tenth_of_the_spans_may_be_old_and_all_but_a_tenth_ahead() {
    let mut task = new_task(&by_span_end(0), Restored::default());
    let mut ends = [500_000; 20];
    ends[7] = 1_000;
    ends[11] = 2_000;
    take(&mut task, &record(0, 0, &ending(&ends)));
    assert_eq!(task.stream_time(), Some(500_000));
    assert_eq!(task.ledger().get(Counter::SpansLate), 2);
    let mut ends = [10_000_000; 9];
    ends[4] = 501_000;
    take(&mut task, &record(1, 0, &ending(&ends)));
    assert_eq!(task.stream_time(), Some(501_000));
}

#[test]
fn a_late_owner_knows_the_latest_step_when_the_partition_ends() {
    let mut task = new_task(&by_span_end(60_000), Restored::default());
    take(&mut task, &record(0, 0, &ending(&[100_000, 200_000])));
    let cut = task.cut().expect("a record was taken");
    let mut next = new_task(&by_span_end(60_000), restored(cut));
    take(&mut next, &record(1, 0, &ending(&[104_000])));
    let last = next.finish(true).pop().expect("the end is told");
    assert_eq!((last.step, last_step(last.stream_time)), (210_000, Some(210_000)));
    assert_eq!(calls(&last), [(105_000, 1)]);
}

#[test]
fn what_a_live_shard_had_closed_without_counts_later_and_the_end_tells_it() {
    let (mut settings, value) = (settings(), clients(&[1, 2, 3]));
    settings.shards = 2;
    let mut task = new_task(&settings, Restored::default());
    task.set_start(0);
    let missed = |shard, step| Event::Missed { offset: 1, shard, step, cut: true, passed: 1_001 };
    let mut repeat = Repeat::new([missed(0, 45_000), missed(1, 45_000)].into(), &mut task);
    assert_eq!(repeat.before(&mut task, 0), []);
    take(&mut task, &record(0, 1_000, &value));
    let mut cuts = repeat.before(&mut task, 1);
    take(&mut task, &record(1, 1_000, &value));
    cuts.extend(task.finish(false));
    let of_sets = |cut: &StepCut| -> Vec<Millis> {
        let delta_records = cut.delta_records.iter().flatten().map(|part| DeltaRecord::decode(part).expect("our own"));
        delta_records
            .filter_map(|mut delta_record| delta_record.next_set().expect("our own").map(|_| delta_record.head.step))
            .collect()
    };
    let steps: Vec<_> = cuts.iter().map(|cut| (cut.to, cut.step, of_sets(cut))).collect();
    assert_eq!(steps, [(1, 15_000, vec![15_000]), (2, 60_000, vec![60_000]), (2, 60_000, vec![])]);
    assert_eq!(last_step(cuts[2].stream_time), Some(60_000), "a shard closes no later step");
}
