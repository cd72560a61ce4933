use std::collections::BTreeMap;

use super::*;

const WINDOW: Millis = 8_000;

fn seen(most: usize) -> SeenSpans {
    SeenSpans::new(&Duplicates { window: WINDOW, max_spans: most }, Seed::default()).expect("a window")
}

fn span(trace: &[u8], id: &[u8], kind: i32, ordinal: u32) -> Span<'static> {
    let bytes: &'static [u8] = Box::leak(record(trace, id, kind).into_boxed_slice());
    let mut batch = crate::core::otlp::Batch::new();
    batch.decode(bytes).expect("a request");
    let batch: &'static crate::core::otlp::Batch = Box::leak(Box::new(batch));
    let mut span = batch.resources(bytes).next().expect("a resource").spans().next().expect("a span");
    span.ordinal = ordinal;
    span
}

/// A request with one span.
fn record(trace: &[u8], id: &[u8], kind: i32) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let mut own = [field(1, trace), field(2, id)].concat();
    own.extend([6 << 3, kind as u8]);
    field(1, &field(2, &field(2, &own)))
}

fn ordinary(n: u8) -> Span<'static> {
    span(&[7; 16], &[n; 8], 2, 0)
}

fn look(seen: &mut SeenSpans, offset: i64, time: Millis, tenant: &str, span: &Span<'_>) -> Sighting {
    seen.turn_to(offset, time);
    let tenant = seen.tenant(tenant);
    seen.see(tenant, span, offset)
}

#[test]
fn the_same_span_is_that_of_tenant_trace_id_and_kind() {
    let mut all = seen(100);
    let mut look = |tenant, span: &Span<'_>| look(&mut all, 1, 0, tenant, span);
    assert_eq!(look("a", &ordinary(1)), Sighting::New);
    assert_eq!(look("a", &ordinary(1)), Sighting::Again);
    assert_eq!(look("b", &ordinary(1)), Sighting::New);
    assert_eq!(look("a", &span(&[7; 16], &[1; 8], 3, 0)), Sighting::New, "the other side of a call may have the ID");
    assert_eq!(look("a", &span(&[8; 16], &[1; 8], 2, 0)), Sighting::New);
    for (trace, id) in
        [(&[][..], &[1; 8][..]), (&[0; 16], &[1; 8]), (&[7; 16], &[]), (&[7; 16], &[0; 8]), (&[7; 15], &[1; 8])]
    {
        let nameless = span(trace, id, 2, 0);
        assert_eq!([look("a", &nameless), look("a", &nameless)], [Sighting::Nameless; 2]);
    }
}

#[test]
fn a_span_is_remembered_for_the_window_at_least_and_a_slot_longer_at_most() {
    for (pause, found) in [(WINDOW, Sighting::Again), (WINDOW + WINDOW / PARTS, Sighting::New)] {
        for start in 0..40 {
            let (mut all, start) = (seen(100), start * 100);
            assert_eq!(look(&mut all, 1, start, "a", &ordinary(1)), Sighting::New);
            assert_eq!(look(&mut all, 2, start + pause, "a", &ordinary(1)), found, "{start} {pause}");
        }
    }
    // Each time counts.
    let mut all = seen(100);
    for n in 1..50 {
        let expected = if n == 1 { Sighting::New } else { Sighting::Again };
        assert_eq!(look(&mut all, n, n * WINDOW, "a", &ordinary(1)), expected);
    }
    assert_eq!((all.len(), all.is_empty()), (1, false));
    // Whatever the gap.
    assert_eq!(look(&mut all, 60, 1 << 50, "a", &ordinary(1)), Sighting::New);
}

#[test]
fn what_has_no_room_is_named_until_the_next_slot() {
    let mut all = seen(2);
    let mut look = |time, n| look(&mut all, time, time, "a", &ordinary(n));
    assert_eq!(
        [look(0, 1), look(0, 2), look(0, 3), look(0, 3)],
        [Sighting::New, Sighting::New, Sighting::Forgotten, Sighting::Forgotten]
    );
    assert_eq!(look(999, 1), Sighting::Again);
    // As if it had come for the last time at 0: nothing was remembered behind the first that had no room.
    assert_eq!([look(9_000, 1), look(9_000, 3)], [Sighting::New; 2]);
    assert_eq!(all.len(), 2);
}

#[test]
fn slots_are_forgotten_in_time_and_kept_for_what_else_is_read_again() {
    let mut all = seen(100);
    assert_eq!(all.list(0, None), None);
    for n in 0..30 {
        look(&mut all, 100 + n, n * 1_000, "a", &ordinary(n as u8 + 1));
    }
    let from = |all: &mut SeenSpans, time, needed| all.list(time, needed).map(|(from, _)| from);
    assert_eq!(from(&mut all, 29_000, Some(115)), Some(107), "eight slots before the needed one");
    assert_eq!(from(&mut all, 29_000, None), Some(121));
    assert_eq!(from(&mut all, 33_000, None), Some(125));
    assert_eq!(from(&mut all, 60_000, None), None);
    // What was remembered then takes no room from what follows.
    let mut all = seen(1);
    look(&mut all, 1, 0, "a", &ordinary(1));
    assert_eq!(all.list(60_000, None), None);
    assert_eq!(
        [look(&mut all, 2, 60_000, "a", &ordinary(2)), look(&mut all, 3, 60_000, "a", &ordinary(2))],
        [Sighting::New, Sighting::Again]
    );
}

/// What is remembered: the slot of each span.
fn held(all: &SeenSpans) -> BTreeMap<([u8; 24], u32), u32> {
    all.spans.iter().map(|seen| ((seen.id, seen.owner), seen.slot)).collect()
}

#[test]
fn the_next_owner_remembers_what_the_last_one_did_whatever_came() {
    let mut again = 0;
    for seed in 0..200u64 {
        // A linear congruential generator is enough here.
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut dice = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let most = [3, 10, 1_000][dice(3) as usize];
        let (mut all, mut time, mut records, mut least) = (seen(most), 0, Vec::new(), 0);
        for offset in 0..80i64 {
            time += [0, 0, 100, 700, 3_000, 20_000][dice(6) as usize];
            let ids: Vec<u8> = (0..1 + dice(4)).map(|_| 1 + dice(25) as u8).collect();
            let told: Vec<Sighting> = (0..)
                .zip(&ids)
                .map(|(ordinal, &n)| {
                    let one = span(&[7; 16], &[n; 8], 2, ordinal);
                    look(&mut all, offset, time, "a", &one)
                })
                .collect();
            again += told.iter().filter(|told| **told == Sighting::Again).count();
            records.push((ids, told));
            if dice(6) > 0 {
                continue;
            }
            // What waits is never older than what waited before.
            let needed = (dice(2) > 0).then(|| (offset - dice(15) as i64).max(least));
            least = needed.unwrap_or(offset + 1);
            let Some((from, list)) = all.list(time, needed) else { continue };
            let mut next = seen(most);
            next.begin_rebuild(from, &list).expect("a list");
            for (at, (ids, told)) in (0..).zip(&records).skip(from as usize) {
                next.turn_again(at);
                let tenant = next.tenant("a");
                for ((ordinal, &n), &told) in (0..).zip(ids).zip(told) {
                    let one = span(&[7; 16], &[n; 8], 2, ordinal);
                    let found = next.see(tenant, &one, at);
                    if needed.is_some_and(|needed| at >= needed) {
                        let is_again = |sighting| sighting == Sighting::Again;
                        assert_eq!(is_again(found), is_again(told), "seed {seed}, offset {at}");
                    }
                }
            }
            next.finish_rebuild();
            assert_eq!(held(&next), held(&all), "seed {seed}, offset {offset}");
            all = next;
        }
    }
    assert!(again > 1_000, "spans come again: {again}");
}

#[test]
fn without_a_window_there_is_nothing_and_a_remembered_span_takes_32_bytes() {
    assert!(SeenSpans::new(&Duplicates::default(), Seed::default()).is_none());
    assert_eq!(size_of::<Seen>(), 32);
    let mut all = seen(1_000);
    for n in 0..200 {
        look(&mut all, n, 0, "a", &ordinary(n as u8));
    }
    assert!(all.bytes() > 200 * 33, "{}", all.bytes());
    all.clear();
    assert!(all.is_empty());
}
