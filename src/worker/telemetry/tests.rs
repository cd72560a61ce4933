use super::*;
use crate::core::model::{Counter, Ledger};
use crate::core::remotewrite::verdict::reason;

fn span_task(partition: i32) -> TaskId {
    TaskId { kind: TaskKind::Span, topic: "otlp_spans".to_owned(), partition }
}

#[test]
fn a_task_that_leaves_takes_its_series_along() {
    let t = Telemetry::new();
    let mut ledger = Ledger::default();
    ledger.add(Counter::SpansRead, 7);
    t.tasks().confirm(TaskKind::Span, true);
    t.tasks().update(&span_task(3), |s| {
        s.state = TaskState::Running;
        (s.journaled, s.shown) = (Some(ledger), true);
        s.lag_millis = 1_500;
    });
    let text = t.render();
    let spans_read = r#"spanmill_spans_read_total{partition="3",state="owned",topic="otlp_spans"} 7"#;
    assert!(text.contains(spans_read), "{text}");
    assert!(text.contains(r#"spanmill_lag_seconds{partition="3",state="owned",topic="otlp_spans"} 1.5"#), "{text}");
    assert!(text.contains(r#"spanmill_tasks{kind="span",state="running"} 1"#), "{text}");
    t.tasks().remove(&span_task(3));
    let text = t.render();
    assert!(!text.contains(r#"partition="3""#), "{text}");
    assert!(text.contains(r#"spanmill_tasks{kind="span",state="running"} 0"#), "{text}");
}

#[test]
fn rows_stay_with_their_last_value_and_say_what_it_is_worth() {
    let t = Telemetry::new();
    let id = span_task(3);
    let row =
        |state: &str| format!("spanmill_lag_records{{partition=\"3\",state=\"{state}\",topic=\"otlp_spans\"}} 12\n");
    t.tasks().update(&id, |s| s.lag_records = 5);
    assert!(!t.render().contains("spanmill_lag_records{"), "nothing is known yet");
    t.tasks().update(&id, |s| {
        (s.state, s.shown, s.lag_records) = (TaskState::Running, true, 12);
        s.journaled = Some(Ledger::default());
    });
    assert!(t.render().contains(&row("unconfirmed")), "it is not confirmed");
    t.tasks().confirm(TaskKind::Span, true);
    assert!(t.render().contains(&row("owned")));
    t.tasks().confirm(TaskKind::Span, false);
    assert!(t.render().contains(&row("unconfirmed")));
    t.tasks().update(&id, |s| s.state = TaskState::Claiming);
    assert!(t.render().contains(&row("restoring")));
    t.tasks().lost(&id);
    assert!(t.render().contains(&row("lost")));
    assert!(!t.render().contains("state=\"owned\""), "{}", t.render());
    t.tasks().forget_lost(TaskKind::Series, Duration::ZERO);
    t.tasks().forget_lost(TaskKind::Span, Duration::from_secs(3_600));
    assert!(t.render().contains(&row("lost")), "who has it is not known yet");
    t.tasks().forget_lost(TaskKind::Span, Duration::ZERO);
    assert!(!t.render().contains("partition=\"3\""));
}

#[test]
fn what_alerts_count_is_there_before_it_happens_and_no_other_label_appears_when_it_does() {
    let t = Telemetry::new();
    let rows = |t: &Telemetry| -> Vec<String> {
        let text = t.render();
        text.lines().filter_map(|line| line.split_once("} ").map(|(series, _)| series.to_owned())).collect()
    };
    let before = rows(&t);
    for kind in [TaskKind::Span, TaskKind::Series] {
        t.panicked(kind);
        t.fenced(kind);
        t.commit(kind);
    }
    [Rebalance::Assigned, Rebalance::Revoked, Rebalance::Lost].into_iter().for_each(|event| t.rebalance(event));
    [Cause::Watermark, Cause::Forced].into_iter().for_each(|cause| t.step_closed(cause));
    [true, false].into_iter().for_each(|stored| t.dead_letter(stored));
    let refused = [300, 400, 401, 404, 413, 418, 429, 500].map(|status| reason(status, ""));
    for reason in refused.into_iter().chain(["too_old", ILLEGAL_TENANT, QUARANTINED, SAME_LABELS, MAX_SAMPLE_AGE]) {
        t.export().rejected.with_label_values(&[reason]).inc();
    }
    for status in [0, 204, 302, 400, 429, 503] {
        t.export().requests.with_label_values(&[class_of(status)]).inc();
    }
    assert_eq!(rows(&t), before);
}

#[test]
fn every_name_in_the_list_is_exposed() {
    let t = Telemetry::new();
    t.rebalance(Rebalance::Assigned);
    t.commit(TaskKind::Span);
    t.tick();
    t.fenced(TaskKind::Series);
    t.restored(TaskKind::Span, Duration::from_millis(20));
    t.step_closed(Cause::Forced);
    t.dead_letter(true);
    t.panicked(TaskKind::Span);
    t.memory_held("series", 1);
    t.admin_request_failed("delete_records");
    t.topics_at_risk("one_copy", 1);
    t.memory_reserved("fetch", 1);
    t.overrides_loaded("v1".to_owned(), Vec::new());
    t.settings_in_force(1, "");
    t.export().rejected.with_label_values(&["bad_data"]).inc();
    let receiver = t.receivers().add("http://r/".to_owned(), &"a".into());
    t.receivers().waits(receiver, "unauthorized", "check the token");
    t.export().requests.with_label_values(&["2xx"]).inc();
    t.endpoint_settled("mimir", ["acknowledged", "duplicate", "rejected", "filtered"].map(|result| (result, 1)));
    t.endpoint_dropped("mimir", EndpointDrop::Backlog, 1);
    t.in_flight("mimir").limit_changes(4);
    let shard = TaskId { kind: TaskKind::Series, topic: "spanmill-deltas".to_owned(), partition: 0 };
    for id in [&span_task(0), &shard] {
        t.tasks().update(id, |s| {
            s.stream_time = Some(15_000);
            s.closed_step = Some(15_000);
            s.endpoints = [("mimir".into(), EndpointStatus::default())].into();
            (s.journaled, s.shown) = (Some(Ledger::default()), true);
        });
    }
    let text = t.render();
    for m in names::ALL.iter().chain(names::LEDGER) {
        assert!(text.contains(&format!("# HELP {} ", m.name)), "{} is not exposed", m.name);
    }
}

#[test]
fn an_update_changes_only_what_it_names() {
    let statuses = TaskRegistry::default();
    statuses.update(&span_task(1), |s| s.position = 5);
    statuses.update(&span_task(1), |s| s.restored = true);
    statuses.update(&span_task(0), |s| s.position = 9);
    let all = statuses.snapshot();
    assert_eq!(all.iter().map(|(id, s)| (id.partition, s.position)).collect::<Vec<_>>(), [(0, 9), (1, 5)]);
    assert!(statuses.get(&span_task(1)).expect("known").restored);
}
