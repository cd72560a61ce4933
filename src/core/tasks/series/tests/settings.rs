//! Workers whose settings differ, and sources that are gone.

use super::*;
use crate::core::journal::{Change, EmitCause, EmitMark};

#[test]
fn a_shard_that_forgets_early_keeps_what_its_sources_still_name() {
    // The sender spells after 15 steps of silence; the shard forgets after 7. A rare job runs every 12 steps, others always.
    let mut source = Source::new(0, 15 * W);
    let mut task = SeriesTask::new(settings());
    let mut lost = 0;
    for step in 10..71 {
        source.see(&span("busy", 1));
        if (step - 10) % 12 == 0 {
            source.see(&span("rare", 1));
        }
        for record in source.cut(step * W, step * W) {
            lost += task.apply(&record).expect("a delta record").lost;
        }
        while let Some(step) = task.closable(&sources(1)) {
            task.close(step);
        }
    }
    assert_eq!(lost, 0, "of 6 spans of the rare job");
}

/// The only source that is left has another new label set in this step; the sources that are closed, and after which step.
fn go_on_with(kept: &mut Source, task: &mut SeriesTask, step: Millis) -> Vec<((String, i32), Millis)> {
    kept.see(&span(&format!("version-{step}"), 1));
    task.apply(&kept.cut(step * W, step * W)[0]).expect("a delta record");
    let mut left = Vec::new();
    while let Some(step) = task.closable(&sources(1)) {
        let gone = task.gone(&sources(1), step);
        task.let_go(&gone);
        left.extend(gone.into_iter().map(|source| (source, step / W)));
        task.close(step);
    }
    left
}

#[test]
fn memory_is_freed_although_a_topic_was_removed_from_the_configuration() {
    let mut removed = Source { topic: "removed", ..Source::new(0, 3 * W) };
    let mut kept = Source::new(0, 3 * W);
    let mut task = SeriesTask::new(settings());
    removed.see(&span("old", 1));
    kept.see(&span("new", 1));
    for record in removed.cut(10 * W, 10 * W).iter().chain(&kept.cut(10 * W, 10 * W)) {
        task.apply(record).expect("a delta record");
    }
    // From here on, no worker reads the other topic.
    let left: Vec<_> = (11..200).flat_map(|step| go_on_with(&mut kept, &mut task, step)).collect();
    assert_eq!(left, [(("removed".to_owned(), 0), 18)], "once, when 3 and 4 steps are over");
    assert!(task.label_sets() < 12, "{} label sets of 190 are kept", task.label_sets());
    // It is configured again.
    removed.see(&span("old", 1));
    let applied = task.apply(&removed.cut(12 * W, 12 * W)[0]).expect("a delta record");
    assert_eq!(applied.verdict, ChainVerdict::Accepted { complete: true }, "its chain goes on");
}

#[test]
fn memory_is_freed_although_a_topic_was_removed_in_the_middle_of_its_first_delta_record_also_over_a_restart() {
    for restart_at in [None, Some(11), Some(30)] {
        let mut removed = Source { topic: "removed", ..Source::new(0, 3 * W) };
        let mut kept = Source::new(0, 3 * W);
        let mut task = SeriesTask::new(settings());
        // Of two steps, so in two parts.
        removed.see(&span("old", 1));
        removed.table.turn_to(W);
        removed.see(&span("old", 1));
        let parts = removed.cut(9 * W, 10 * W);
        assert_eq!(parts.len(), 2);
        kept.see(&span("new", 1));
        for record in [&parts[0], &kept.cut(10 * W, 10 * W)[0]] {
            task.apply(record).expect("a delta record");
        }
        let mut left = Vec::new();
        // The rest does not come: from here on, no worker reads the other topic.
        for step in 11..200 {
            left.extend(go_on_with(&mut kept, &mut task, step));
            if restart_at == Some(step) {
                task = SeriesTask::restore(settings(), &task.snapshot()).expect("our own snapshot");
            }
        }
        assert_eq!(left, [(("removed".to_owned(), 0), 18)], "once, restarted at {restart_at:?}");
        assert!(
            task.label_sets() < 12,
            "{} label sets of 190 are kept, restarted at {restart_at:?}",
            task.label_sets()
        );
        // It is configured again.
        assert!(task.closable(&[("removed".to_owned(), 0)]).is_none(), "its delta record is not complete");
        let applied = task.apply(&parts[1]).expect("a delta record");
        assert_eq!(applied.verdict, ChainVerdict::Accepted { complete: true }, "its chain goes on");
    }
}

#[test]
fn what_a_delta_record_names_without_labels_waits_for_them_over_a_restart_and_is_counted_then() {
    let calls = r#"t traces_spanmetrics_calls_total{service="a"}"#;
    let mut source = Source::new(0, 3 * W);
    let mut task = SeriesTask::new(settings());
    // As if an earlier version had freed the set.
    source.see(&span("a", 1));
    source.cut(9 * W, 9 * W);
    source.commit_number = 0;
    for step in 10..13 {
        source.see(&span("a", 150));
        source.see(&span("busy", 1));
        let applied = task.apply(&source.cut(step * W, step * W)[0]).expect("a delta record");
        assert_eq!((applied.lost, task.unnamed()), (1, 1));
        let closed = said(&task.close(task.closable(&sources(1)).expect("it has passed")));
        assert!(!closed.contains_key(calls));
        task = SeriesTask::restore(settings(), &task.snapshot()).expect("our own snapshot");
    }
    // A new owner of the source spells everything.
    source.table = DeltaTable::new(3 * W);
    source.see(&span("a", 350));
    assert_eq!(task.apply(&source.cut(13 * W, 13 * W)[0]).expect("a delta record").lost, 0);
    let closed = said(&task.close(13 * W));
    assert_eq!((task.unnamed(), task.given_up()), (0, 0));
    assert_eq!(closed[calls].0, [(13 * W - 1, 0), (13 * W, 4f64.to_bits())]);
    let sum = &closed[r#"t traces_spanmetrics_latency_sum{service="a"}"#].0;
    assert_eq!(sum.last(), Some(&(13 * W, (800.0 / 1e9f64).to_bits())));
}

#[test]
fn what_waits_in_vain_for_its_labels_is_given_up_aloud() {
    let mut source = Source::new(0, 3 * W);
    let mut task = SeriesTask::new(settings());
    source.see(&span("a", 1));
    source.cut(9 * W, 9 * W);
    source.commit_number = 0;
    source.see(&span("a", 1));
    for step in 10..20 {
        source.see(&span("busy", 1));
        task.apply(&source.cut(step * W, step * W)[0]).expect("a delta record");
        task.close(step * W);
        assert_eq!((task.unnamed(), task.given_up()), if step > 17 { (0, 1) } else { (1, 0) }, "step {step}");
    }
}

#[test]
fn nothing_is_freed_while_a_source_does_not_say_for_how_long_it_names_sets() {
    let sample = version_1::sample();
    let mut task = SeriesTask::new(settings());
    sample.delta_records.iter().for_each(|delta_record| drop(task.apply(delta_record).expect("a delta record")));
    let known = task.label_sets();
    let (mut others, last) = (Source::new(7, 3 * W), 1_000_000 * W);
    for at in [last, last + 20 * W] {
        others.see(&span("new", 1));
        task.apply(&others.cut(at, at)[0]).expect("a delta record");
        task.close(at);
    }
    assert!(known > 3 && task.label_sets() == known + 1, "{} of {known}", task.label_sets());
    let last = last + 40 * W;
    // An owner of this version continues with the two sources.
    for partition in 0..2 {
        let next = sample.delta_records.iter().map(|s| DeltaRecord::decode(s).expect("a delta record").head);
        let next = next
            .filter(|head| head.partition == partition)
            .map(|head| head.commit_number + 1)
            .max()
            .expect("it has delta records");
        let mut source = Source { commit_number: next, ..Source::new(partition, 3 * W) };
        source.see(&span("new", 1));
        let applied = task.apply(&source.cut(last, last)[0]).expect("a delta record");
        assert_eq!(applied.verdict, ChainVerdict::Accepted { complete: true });
    }
    task.apply(&others.cut(last, last)[0]).expect("a delta record");
    task.close(last);
    assert_eq!(task.label_sets(), 1);
}

#[test]
fn a_step_is_closed_again_by_the_settings_by_which_it_was_closed_first() {
    // Its first owner ends series after 3 steps of silence, with steps of 1 s; its next one after 9 s, with steps of 2 s.
    let own = settings();
    let next = SeriesSettings { step: StepWidth::new(2 * W).expect("positive"), stale_after: 9 * W, ..settings() };
    let mut source = Source::new(0, 9 * W);
    let (mut task, mut terms) = (SeriesTask::new(own.clone()), Terms::new(false));
    let (mut log, mut marks, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for at in 10..40 {
        if at == 20 {
            terms.want(&mut task, next.clone());
        }
        source.see(&span(if at % 6 == 0 { "rare" } else { "busy" }, 1));
        for record in source.cut(at * W, at * W) {
            task.apply(&record).expect("a delta record");
            log.push(record);
        }
        while let Some(step) = task.closable(&sources(1)) {
            let closed = task.close(step);
            let (settings, changes) = terms.change(&mut task);
            assert_eq!(changes.len(), if step == 20 * W { 2 } else { 0 }, "{changes:?}");
            first.push(closed);
            marks.push((log.len(), mark(step, settings)));
        }
    }
    assert_eq!(marks.iter().filter(|(_, mark)| !mark.change.settings.is_empty()).count(), 2, "at first, and a change");
    // An owner that closes them by its own settings contradicts what was sent.
    let mut own_way = SeriesTask::new(next);
    let (mut at, mut contradicted) = (0, 0);
    for ((to, mark), closed) in marks.iter().zip(&first) {
        log[at..*to].iter().for_each(|record| drop(own_way.apply(record).expect("a delta record")));
        at = *to;
        contradicted += usize::from(own_way.close(mark.step) != *closed);
    }
    assert!(first.len() == 20 && contradicted > 0, "{contradicted} of {}", first.len());
    let mut again = SeriesTask::new(own);
    let (mut at, mut second) = (0, Vec::new());
    for (to, mark) in &marks {
        log[at..*to].iter().for_each(|record| drop(again.apply(record).expect("a delta record")));
        at = *to;
        second.push(again.close_again(mark).expect("readable settings"));
    }
    let differs = first.iter().zip(&second).find(|(a, b)| a != b).map(|(a, _)| a.step);
    assert_eq!((first.len(), differs), (second.len(), None));
    log[at..].iter().for_each(|record| drop(again.apply(record).expect("a delta record")));
    assert_eq!(task.snapshot(), again.snapshot());
}

fn mark(step: Millis, settings: Vec<u8>) -> EmitMark {
    let change = Change { settings, ..Change::default() };
    let (cause, left_out, behind) = (EmitCause::Watermark, Vec::new(), Vec::new());
    EmitMark { step, cause, acknowledged: None, left_out, behind, basis: None, change }
}
