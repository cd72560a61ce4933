//! Which series go to a receiver, and under which labels.

use std::sync::Arc;

use spanmill::core::remotewrite::relabel::{RelabelAction, RelabelRule};

use super::*;

fn rule(action: RelabelAction, source: &str, regex: &str) -> RelabelRule {
    let source_labels = [source].into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect();
    RelabelRule { source_labels, regex: regex.to_owned(), action, ..RelabelRule::default() }
}

fn renamed() -> RelabelRule {
    let (target_label, replacement) = ("team".to_owned(), "t$1".to_owned());
    RelabelRule { target_label, replacement, ..rule(RelabelAction::Replace, "service", "s([0-9]+)") }
}

#[test]
fn only_what_the_rules_keep_is_sent_under_the_labels_that_they_give_in_both_versions() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let h = house_with(|c| {
            c.protocol = protocol;
            c.write_relabel_configs = vec![rule(RelabelAction::Drop, "service", "s1|s2"), renamed()];
        });
        let d = h.send(batch(15_000, vec![request(0..4, 15_000), request(1..3, 15_000)]));
        assert_eq!((d.acknowledged, d.filtered, d.rejected), (2, 4, 0));
        let stored = h.receiver.snapshot();
        let names: Vec<&str> = stored.keys().map(String::as_str).collect();
        assert_eq!(names, [r#"calls_total{service="s0",team="t0"}"#, r#"calls_total{service="s3",team="t3"}"#]);
        assert_eq!(h.receiver.seen().len(), 1, "a request of which nothing is left is not sent");
        assert_eq!(h.metric("spanmill_samples_filtered_total"), 4);
        h.assert_balanced();
    }
}

#[test]
fn a_request_that_is_retried_or_halved_counts_every_sample_once() {
    let h = house_with(|c| c.write_relabel_configs = vec![rule(RelabelAction::Drop, "service", "s[0-3]")]);
    h.receiver.fault(&Fault::Status(503), 2);
    h.receiver.fault(&Fault::Status(413), 3);
    let d = h.send(batch(15_000, vec![request(0..64, 15_000)]));
    assert_eq!((d.acknowledged, d.filtered, d.rejected), (60, 4, 0));
    assert_eq!(h.receiver.snapshot().len(), 60);
    h.assert_balanced();
}

#[test]
fn a_rejected_series_among_dropped_ones_is_found_without_halvings_for_those_and_is_kept_in_quarantine() {
    let h = house_with(|c| c.write_relabel_configs = vec![rule(RelabelAction::Keep, "service", "s7|s9"), renamed()]);
    h.receiver.poison(|series| series.contains("t9"));
    let d = h.send(batch(15_000, vec![request(0..64, 15_000)]));
    assert_eq!((d.acknowledged, d.filtered, d.rejected), (1, 62, 1));
    assert_eq!(h.receiver.seen().len(), 3, "two series, and each alone");
    let d = h.send(batch(30_000, vec![request(0..64, 30_000)]));
    assert_eq!((d.acknowledged, d.filtered, d.rejected), (1, 62, 1));
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="quarantined"}"#), 1);
    h.assert_balanced();
}

#[test]
fn series_that_become_one_are_not_added_up_but_counted_as_rejected() {
    let h = house_with(|c| c.write_relabel_configs = vec![rule(RelabelAction::LabelDrop, "", "service")]);
    for step in [15_000, 30_000] {
        let d = h.send(batch(step, vec![request(7..10, step)]));
        assert_eq!((d.acknowledged, d.filtered, d.rejected), (1, 0, 2));
    }
    assert_eq!(h.receiver.snapshot().len(), 1);
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="same_labels"}"#), 4);
    h.assert_balanced();
}

#[test]
fn a_batch_that_waits_follows_the_rules_of_the_receiver_that_it_goes_to_in_the_end() {
    let h = house_with(|c| c.write_relabel_configs = vec![rule(RelabelAction::Drop, "service", "s0")]);
    h.receiver.fault(&Fault::Status(503), 1_000_000);
    h.sender.as_ref().unwrap().try_send(batch(15_000, vec![request(0..3, 15_000)])).unwrap();
    while h.metric("spanmill_remote_write_retries_total") < 1 {
        std::thread::yield_now();
    }
    let other = Receiver::start("127.0.0.1:0").unwrap();
    let remote_write = RemoteWrite { url: other.url(), write_relabel_configs: vec![renamed()], ..quick() };
    let moved = Config { remote_write, ..Config::default() };
    h.exporter.reroute(&Tenants::new(Arc::new(moved), std::collections::BTreeMap::new())).unwrap();
    let d = h.done.recv_timeout(LONG).unwrap();
    assert_eq!((d.acknowledged, d.filtered), (3, 0));
    assert!(other.snapshot().keys().all(|labels| labels.contains("team=")));
    h.assert_balanced();
}
