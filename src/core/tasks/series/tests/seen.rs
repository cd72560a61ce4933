//! When edges were seen.

use super::lifecycle::One;
use super::*;
use crate::core::series::EDGE_MEMORY;

const FIRST: &str = r#"t traces_service_graph_edge_first_seen_timestamp_seconds{service="a"}"#;
const LAST: &str = r#"t traces_service_graph_edge_last_seen_timestamp_seconds{service="a"}"#;

const NEW: &str = r#"t traces_service_graph_new_edges_total{service="a"}"#;

fn edge(service: &str) -> Seen {
    Seen { family: Family::EdgeSeen, counts: [1, 0], ns: Vec::new(), ..span(service, 0) }
}

/// The samples of an edge in each of the closed steps: time, first, last; markers as `None`.
fn times(closed: &[(Millis, BTreeMap<String, Said>)]) -> Vec<(Millis, Option<[f64; 2]>)> {
    let of = |(step, said): &(Millis, BTreeMap<String, Said>)| {
        let (first, last) = (said.get(FIRST)?, said.get(LAST)?);
        assert_eq!((first.0.len(), last.0.len()), (1, 1), "no sample precedes the first value of a gauge");
        let is_stale = first.0[0].1 == decode::STALE_MARKER;
        Some((*step, (!is_stale).then(|| [first, last].map(|said| f64::from_bits(said.0[0].1)))))
    };
    closed.iter().filter_map(of).collect()
}

#[test]
fn an_edge_shows_the_steps_of_its_first_and_last_call_and_ends_as_every_series() {
    let mut one = One::new(settings());
    let closed: Vec<_> = [(10, 1), (11, 0), (12, 1), (13, 0), (14, 0), (15, 0), (16, 0)]
        .into_iter()
        .flat_map(|(step, calls)| one.step(step * W, &vec![edge("a"); calls]))
        .collect();
    let expected = [
        (10, Some([10.0, 10.0])),
        (11, Some([10.0, 10.0])),
        (12, Some([10.0, 12.0])),
        (13, Some([10.0, 12.0])),
        (14, Some([10.0, 12.0])),
        (15, None),
    ];
    assert_eq!(times(&closed), expected.map(|(step, times)| (step * W, times)));
}

/// The samples of the counter of new edges, each with its time; markers as `None`.
fn counted(closed: &[(Millis, BTreeMap<String, Said>)]) -> Vec<(Millis, Option<f64>)> {
    let samples = closed.iter().filter_map(|(_, said)| said.get(NEW)).flat_map(|(samples, ..)| samples);
    samples.map(|&(at, bits)| (at, (bits != decode::STALE_MARKER).then(|| f64::from_bits(bits)))).collect()
}

#[test]
fn the_counter_of_new_edges_grows_when_an_edge_is_new_and_not_when_it_comes_again() {
    let mut one = One::new(settings());
    let mut closed: Vec<_> = [(10, 1), (11, 1), (16, 0)]
        .into_iter()
        .flat_map(|(step, calls)| one.step(step * W, &vec![edge("a"); calls]))
        .collect();
    let (again, forgotten) = (20 * W, 21 * W + EDGE_MEMORY);
    for step in [again, forgotten] {
        closed.extend(one.step(step, &[edge("a")]));
        one.task = SeriesTask::restore(settings(), &one.task.snapshot()).expect("our own snapshot");
    }
    let counted = counted(&closed);
    let values = |from: Millis, to: Millis| -> Vec<_> {
        counted.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, value)| *value).collect()
    };
    assert_eq!(values(0, 12 * W), [Some(0.0), Some(1.0), Some(1.0)], "new: from zero on");
    assert_eq!(values(12 * W, again - W), [Some(1.0), Some(1.0), None], "it ends as every series does");
    assert_eq!(values(again - W, again + 1), [Some(1.0), Some(1.0)], "it comes again: not new");
    assert_eq!(values(forgotten - W, forgotten + 1), [Some(0.0), Some(1.0)], "forgotten: new again");
}

#[test]
fn an_edge_that_comes_again_within_eight_days_is_not_new_and_after_them_it_is() {
    for (silent, first) in [(EDGE_MEMORY, 10 * W), (EDGE_MEMORY + W, 11 * W + EDGE_MEMORY)] {
        let mut one = One::new(settings());
        one.step(10 * W, &[edge("a"), span("a", 1)]);
        // Long after the spans of the service have been forgotten, a new owner continues.
        one.step(5_000 * W, &[span("b", 1)]);
        assert_eq!(one.task.label_sets(), 2, "the edge, and the other service");
        one.task = SeriesTask::restore(settings(), &one.task.snapshot()).expect("our own snapshot");
        let again = 10 * W + silent;
        let closed = one.step(again, &[edge("a")]);
        assert_eq!(times(&closed), [(again, Some([first, again].map(|ms| ms as f64 / 1e3)))]);
    }
}

#[test]
fn an_edge_is_freed_when_it_would_be_new() {
    let mut one = One::new(settings());
    one.step(10 * W, &[edge("a")]);
    one.step(10 * W + EDGE_MEMORY, &[span("b", 1)]);
    assert_eq!(one.task.label_sets(), 2);
    one.step(12 * W + EDGE_MEMORY, &[span("b", 1)]);
    assert_eq!(one.task.label_sets(), 1);
}

#[test]
fn steps_that_close_together_keep_the_time_of_each() {
    let mut task = SeriesTask::new(settings());
    let mut sources = [Source::new(0, 3 * W), Source::new(1, 3 * W)];
    for (source, step) in [(1, 12), (0, 11), (0, 13)] {
        sources[source].see(&edge("a"));
        for record in sources[source].cut(step * W, step * W) {
            task.apply(&record).expect("a delta record");
        }
    }
    let closed = task.close(13 * W);
    assert_eq!(times(&[(closed.step, said(&closed))]), [(13 * W, Some([11.0, 13.0]))]);
}

proptest::proptest! {
    #[test]
    fn whatever_the_order_of_records_and_the_owners_the_times_are_those_of_the_steps(
        calls in proptest::collection::vec((1_i64..12, proptest::bool::ANY), 1..20),
        flips in proptest::collection::vec(proptest::bool::ANY, 40),
    ) {
        let patient = SeriesSettings { stale_after: 1_000 * W, ..settings() };
        let mut sources = [Source::new(0, 1_000 * W), Source::new(1, 1_000 * W)];
        let mut records = [Vec::new(), Vec::new()];
        for step in 1..=12 {
            for (p, source) in sources.iter_mut().enumerate() {
                let mine = calls.iter().filter(|(at, odd)| *at == step && usize::from(*odd) == p);
                mine.for_each(|_| source.see(&edge("a")));
                records[p].extend(source.cut(step * W, step * W));
            }
        }
        let mut task = SeriesTask::new(patient.clone());
        let mut queues = records.map(|records| records.into_iter().collect::<std::collections::VecDeque<_>>());
        let (mut flips, mut closed) = (flips.into_iter().cycle(), Vec::new());
        while queues.iter().any(|queue| !queue.is_empty()) {
            let at = usize::from(flips.next().unwrap_or_default());
            let Some(record) = queues[at].pop_front().or_else(|| queues[1 - at].pop_front()) else { break };
            closed.extend(run(&mut task, 2, &[record]).iter().map(|closed| (closed.step, said(closed))));
            if flips.next().unwrap_or_default() {
                task = SeriesTask::restore(patient.clone(), &task.snapshot()).expect("our own snapshot");
            }
        }
        let of = |step: i64| {
            let until = || calls.iter().map(|(at, _)| *at).filter(|at| *at <= step);
            Some((step * W, Some([until().min()? as f64, until().max()? as f64])))
        };
        proptest::prop_assert_eq!(times(&closed), (1..=12).filter_map(of).collect::<Vec<_>>());
    }
}
