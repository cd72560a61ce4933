//! Remote write 2.0: who is spoken to in it, and what its answers mean.

use spanmill::core::remotewrite::decode::{self, proto, proto_v2};
use spanmill::core::remotewrite::v2;
use spanmill::tools::receiver::Speech;
use spanmill::worker::sender::preflight;

use super::*;

fn auto() -> House {
    house_with(|c| c.protocol = Protocol::Auto)
}

/// The versions of all requests, by their content types.
fn versions(h: &House) -> Vec<&'static str> {
    let known = [("application/x-protobuf", "1.0"), (v2::CONTENT_TYPE, "2.0")];
    let version = |seen: &SeenRequest| {
        let said = header(seen, "content-type").unwrap().to_owned();
        known.iter().find(|(content_type, _)| *content_type == said).map_or("unknown", |(_, version)| version)
    };
    h.receiver.seen().iter().map(version).collect()
}

#[test]
fn a_receiver_of_2_0_is_asked_once_and_gets_2_0_from_then_on() {
    let h = auto();
    for step in [15_000, 30_000, 45_000] {
        let d = h.send(batch(step, vec![request(0..3, step), request(3..5, step)]));
        assert_eq!((d.acknowledged, d.rejected), (5, 0));
    }
    assert_eq!(versions(&h), ["2.0"; 6]);
    assert_eq!(h.receiver.totals().probes, 1);
    let seen = h.receiver.seen().remove(0);
    for (name, value) in [
        ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "2.0.0"),
    ] {
        assert_eq!(header(&seen, name), Some(value));
    }
    assert_eq!(h.receiver.snapshot()[r#"calls_total{service="s4"}"#].last_ts, 45_000);
    assert_eq!(h.metric("spanmill_remote_write_written_mismatches_total"), 0);
    h.assert_balanced();
}

#[test]
fn a_receiver_of_1_0_gets_1_0_however_it_answers_to_2_0() {
    for speech in [Speech::First, Speech::FirstDeaf] {
        let h = auto();
        h.receiver.speak(speech);
        for step in [15_000, 30_000] {
            let d = h.send(batch(step, vec![request(0..4, step)]));
            assert_eq!((d.acknowledged, d.rejected), (4, 0), "{speech:?}");
        }
        assert_eq!(versions(&h), ["1.0"; 2], "{speech:?}");
        assert_eq!(h.receiver.totals().samples, 8, "{speech:?}");
        h.assert_balanced();
    }
}

#[test]
fn a_receiver_of_2_0_alone_gets_2_0() {
    let h = auto();
    h.receiver.speak(Speech::Second);
    assert_eq!(h.send(batch(15_000, vec![request(0..4, 15_000)])).acknowledged, 4);
    assert_eq!(versions(&h), ["2.0"]);
}

#[test]
fn a_receiver_that_goes_back_to_1_0_loses_nothing() {
    for speech in [Speech::First, Speech::FirstDeaf] {
        let h = auto();
        assert_eq!(h.send(batch(15_000, vec![request(0..4, 15_000)])).acknowledged, 4);
        h.receiver.speak(speech);
        assert_eq!(h.send(batch(30_000, vec![request(0..4, 30_000)])).acknowledged, 4);
        assert_eq!(versions(&h), ["2.0", "2.0", "1.0"], "{speech:?}");
        assert_eq!(h.receiver.totals().samples, 8, "{speech:?}");
        h.assert_balanced();
    }
}

#[test]
fn a_receiver_that_goes_over_to_2_0_alone_is_followed() {
    let h = auto();
    h.receiver.speak(Speech::First);
    assert_eq!(h.send(batch(15_000, vec![request(0..4, 15_000)])).acknowledged, 4);
    h.receiver.speak(Speech::Second);
    assert_eq!(h.send(batch(30_000, vec![request(0..4, 30_000)])).acknowledged, 4);
    assert_eq!(versions(&h), ["1.0", "1.0", "2.0"]);
    assert_eq!(h.receiver.totals().samples, 8);
}

#[test]
fn the_version_that_the_user_asks_for_is_never_left() {
    let h = house_with(|c| c.protocol = Protocol::V1);
    assert_eq!(h.send(batch(15_000, vec![request(0..4, 15_000)])).acknowledged, 4);
    assert_eq!((versions(&h), h.receiver.totals().probes), (vec!["1.0"], 0));
    for speech in [Speech::First, Speech::FirstDeaf] {
        let h = house_with(|c| c.protocol = Protocol::V2);
        h.receiver.speak(speech);
        h.sender.as_ref().unwrap().try_send(batch(15_000, vec![request(0..4, 15_000)])).unwrap();
        assert!(h.receiver.wait(LONG, |t| t.requests >= 3), "it is waited for");
        h.receiver.speak(Speech::Both);
        assert_eq!(h.done.recv_timeout(LONG).unwrap().acknowledged, 4, "{speech:?}");
        assert!(versions(&h).iter().all(|version| *version == "2.0"));
        assert_eq!((h.receiver.totals().samples, h.receiver.totals().probes), (4, 0), "{speech:?}");
        h.assert_balanced();
    }
}

#[test]
fn poisoned_series_are_found_by_bisection_in_2_0_too() {
    let h = auto();
    h.receiver.poison(|series| series.contains("\"s137\"") || series.contains("\"s901\""));
    let d = h.send(batch(15_000, vec![request(0..1_000, 15_000)]));
    assert_eq!((d.acknowledged, d.rejected), (998, 2));
    assert!(versions(&h).iter().all(|version| *version == "2.0"));
    h.assert_balanced();
}

#[test]
fn every_temporary_fault_is_outlasted_in_2_0_with_the_same_bytes() {
    let h = auto();
    for fault in [500, 503, 401, 404, 302] {
        h.receiver.fault(&Fault::Status(fault), 1);
    }
    h.receiver.fault(&Fault::StoreAndReset, 1);
    assert_eq!(h.send(batch(15_000, vec![request(0..5, 15_000)])).acknowledged, 5);
    let seen = h.receiver.seen();
    assert_eq!(versions(&h), ["2.0"; 7]);
    assert!(seen.iter().all(|s| s.body == seen[0].body));
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn an_answer_that_says_that_less_is_written_is_no_fall_back_and_is_counted() {
    let h = auto();
    h.receiver.fault(&Fault::StoreAndSay(204, 3, 0), 1);
    let d = h.send(batch(15_000, vec![request(0..4, 15_000)]));
    assert_eq!((d.acknowledged, versions(&h)), (4, vec!["2.0"]));
    assert_eq!(h.metric("spanmill_remote_write_written_mismatches_total"), 1);
    h.receiver.fault(&Fault::StoreAndSay(204, 0, 0), 1);
    assert_eq!(h.send(batch(30_000, vec![request(0..4, 30_000)])).acknowledged, 4);
    assert_eq!(versions(&h), ["2.0"; 2]);
    assert_eq!(h.metric("spanmill_remote_write_written_mismatches_total"), 2);
}

#[test]
fn a_receiver_is_knocked_at_in_the_version_that_it_takes() {
    let receiver = Receiver::start("127.0.0.1:0").unwrap();
    let knock = |protocol, speech| {
        receiver.speak(speech);
        preflight::knock(&RemoteWrite { url: receiver.url(), protocol, ..quick() }, SINGLE_TENANT)
    };
    for (protocol, speech) in [
        (Protocol::Auto, Speech::Both),
        (Protocol::Auto, Speech::First),
        (Protocol::Auto, Speech::FirstDeaf),
        (Protocol::Auto, Speech::Second),
        (Protocol::V1, Speech::First),
        (Protocol::V2, Speech::Second),
    ] {
        let answer = knock(protocol, speech).unwrap();
        assert_eq!(answer.0, 204, "{protocol:?} {speech:?} {}", answer.1);
    }
    assert_eq!(knock(Protocol::V1, Speech::Second).unwrap().0, 415);
    let error = knock(Protocol::V2, Speech::FirstDeaf).unwrap_err();
    assert!(error.contains("set remote_write.protocol to auto or 1.0"), "{error}");
}

/// A series that begins: a zero, its first value, and an exemplar.
fn beginning(step: i64) -> Request {
    let label = |n: &str, v: &str| Label { name: n.to_owned(), value: v.to_owned() };
    let series = TimeSeries {
        labels: vec![label("__name__", "traces_spanmetrics_calls_total"), label("service", "a")],
        samples: vec![Sample { value: 0.0, timestamp: step - 1 }, Sample { value: 7.0, timestamp: step }],
        exemplars: vec![proto::Exemplar { labels: vec![label("traceID", "ab")], value: 0.5, timestamp: step }],
        histograms: Vec::new(),
    };
    let message = WriteRequest { timeseries: vec![series] };
    Request::compress(&message.encode_to_vec(), 1, 2, 1, &mut snap::raw::Encoder::new())
}

#[test]
fn a_series_that_begins_says_when_and_what_it_is() {
    let h = auto();
    assert_eq!(h.send(batch(15_000, vec![beginning(15_000)])).acknowledged, 2);
    let bodies: Vec<proto_v2::Request> =
        h.receiver.seen().iter().map(|seen| decode::v2::request(&seen.body).unwrap()).collect();
    assert_eq!(bodies.len(), 2, "two phases");
    let (zero, first) = (&bodies[0], &bodies[1]);
    assert_eq!(zero.timeseries[0].samples, [proto_v2::Sample { value: 0.0, timestamp: 14_999, start_timestamp: 0 }]);
    let series = &first.timeseries[0];
    assert_eq!(series.samples, [proto_v2::Sample { value: 7.0, timestamp: 15_000, start_timestamp: 14_999 }]);
    assert_eq!(series.exemplars.len(), 1, "with the sample");
    let metadata = series.metadata.unwrap();
    assert_eq!(metadata.r#type, proto_v2::metadata::MetricType::Counter as i32);
    assert_eq!(first.symbols[metadata.help_ref as usize], "Number of spans.");
}

#[test]
fn a_refusal_of_the_exemplars_alone_costs_no_sample_and_no_halves() {
    let h = auto();
    // The zero, then the value with its exemplar.
    h.receiver.fault(&Fault::StoreAndSay(204, 1, 0), 1);
    h.receiver.fault(&Fault::StoreAndSay(400, 1, 0), 1);
    let d = h.send(batch(15_000, vec![beginning(15_000)]));
    assert_eq!((d.acknowledged, d.rejected), (2, 0));
    assert_eq!(h.receiver.totals().requests, 2);
    assert_eq!(h.metric("spanmill_exemplars_rejected_total"), 1);
    h.assert_balanced();
}
