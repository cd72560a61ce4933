//! What the public compliance suites of remote-write senders assert, in our own words, on real output: spans of a shop, through
//! both stages, sent to a mock. `docs/internals/remote-write.md` has the list; what is about answers is in the modules beside.

use std::collections::{BTreeMap, BTreeSet};

use spanmill::core::model::Seed;
use spanmill::core::remotewrite::decode::{self, proto_v2};
use spanmill::core::remotewrite::v2;
use spanmill::core::settings::HistogramMode;
use spanmill::core::tasks::span::Record;
use spanmill::tools::loadgen::{Generator, Options, Topology};
use spanmill::tools::local::Local;

use super::*;

/// Milliseconds: seconds would be before 1971, and nanoseconds beyond the year 30000.
const START: i64 = 1_700_000_010_000;

/// Spans of some seconds, and of some seconds five minutes later, when the first series have ended.
fn steps(mode: HistogramMode) -> Vec<StepBatch> {
    let mut config = Config::default();
    config.kafka.shards = 1;
    config.core.series.stale_after = 60_000;
    config.core.histograms.mode = mode;
    config.core.series.exemplars_on_counters = true;
    let mut local = Local::new(&Tenants::from(config), "spans", 1, Seed::default()).unwrap();
    let (mut offset, mut batches) = (0, Vec::new());
    for start in [START, START + 300_000] {
        let options = Options { start, rate: 20, spans: Some(400), ..Options::default() };
        for record in Generator::new(Topology::shop(1), 1, options) {
            let record = Record { offset, timestamp: record.timestamp, tenant: Some("t"), value: &record.value };
            assert_eq!(local.offer(0, &record, START + 3_600_000).unwrap(), None);
            offset += 1;
            batches.extend(std::iter::from_fn(|| local.next_closed()).flat_map(|(_, closed)| closed.batches));
        }
    }
    local.finish().unwrap();
    batches.extend(std::iter::from_fn(|| local.next_closed()).flat_map(|(_, closed)| closed.batches));
    batches
}

/// Everything that the mock got, by one sender.
fn sent(protocol: Protocol, mode: HistogramMode) -> House {
    let h = house_with(|c| c.protocol = protocol);
    for batch in steps(mode) {
        let samples = batch.samples();
        assert_eq!(h.send(batch).acknowledged, samples);
    }
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    h
}

/// The requests with samples, in 1.0 terms.
fn requests(h: &House) -> Vec<WriteRequest> {
    let read = |seen: &SeenRequest| match header(seen, "content-type") {
        Some(v2::CONTENT_TYPE) => decode::v2::resolve(&decode::v2::request(&seen.body).unwrap()).unwrap(),
        _ => decode::body(&seen.body).unwrap(),
    };
    h.receiver.seen().iter().map(read).collect()
}

fn second(h: &House) -> Vec<proto_v2::Request> {
    h.receiver.seen().iter().map(|seen| decode::v2::request(&seen.body).unwrap()).collect()
}

const BOTH: [Protocol; 2] = [Protocol::V1, Protocol::V2];

#[test]
fn headers_are_those_of_the_version_and_the_body_is_a_snappy_block() {
    for (protocol, content_type, version) in [
        (Protocol::V1, "application/x-protobuf", "0.1.0"),
        (Protocol::V2, "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    ] {
        let h = sent(protocol, HistogramMode::Classic);
        for seen in h.receiver.seen() {
            assert_eq!(header(&seen, "content-type"), Some(content_type));
            assert_eq!(header(&seen, "content-encoding"), Some("snappy"));
            assert_eq!(header(&seen, "x-prometheus-remote-write-version"), Some(version));
            assert!(header(&seen, "user-agent").is_some_and(|agent| agent.starts_with("spanmill/")));
            assert!(snap::raw::Decoder::new().decompress_vec(&seen.body).is_ok(), "a block, and no frame");
        }
    }
}

#[test]
fn labels_are_sorted_unique_and_not_empty_and_every_series_has_a_legal_name() {
    let legal = |name: &str, colon: bool| {
        let is = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
        !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.chars().all(is)
    };
    for protocol in BOTH {
        for series in requests(&sent(protocol, HistogramMode::Both)).iter().flat_map(|r| &r.timeseries) {
            assert!(series.labels.is_sorted_by(|a, b| a.name < b.name), "{:?}", series.labels);
            assert!(series.labels.iter().all(|l| !l.value.is_empty() && legal(&l.name, false)));
            let name = series.labels.iter().find(|l| l.name == "__name__");
            assert!(name.is_some_and(|l| legal(&l.value, true)));
        }
    }
}

#[test]
fn an_entry_has_samples_or_histograms_and_exemplars_only_beside_them() {
    for protocol in BOTH {
        let mut exemplars = 0;
        for series in requests(&sent(protocol, HistogramMode::Both)).iter().flat_map(|r| &r.timeseries) {
            assert!(series.samples.is_empty() != series.histograms.is_empty(), "{:?}", series.labels);
            exemplars += series.exemplars.len();
            for exemplar in &series.exemplars {
                let chars: usize = exemplar.labels.iter().map(|l| l.name.len() + l.value.len()).sum();
                assert!((1..=128).contains(&chars) && exemplar.timestamp > START - 60_000);
            }
        }
        assert!(exemplars > 0);
    }
}

#[test]
fn timestamps_are_milliseconds_and_ascend_within_a_series_over_all_requests() {
    for protocol in BOTH {
        let mut newest = BTreeMap::<String, i64>::new();
        for series in requests(&sent(protocol, HistogramMode::Both)).iter().flat_map(|r| &r.timeseries) {
            let times = series.samples.iter().map(|s| s.timestamp);
            for at in times.chain(series.histograms.iter().map(|h| h.timestamp)) {
                let last = newest.entry(decode::text(&series.labels)).or_insert(START - 60_000);
                assert!(at > *last && at < START + 600_000, "{at} after {last}");
                *last = at;
            }
        }
    }
}

#[test]
fn a_series_that_ends_gets_a_staleness_marker_and_nothing_after_it_until_it_begins_again() {
    for protocol in BOTH {
        let mut ended = BTreeSet::new();
        let mut marked = 0;
        for series in requests(&sent(protocol, HistogramMode::Both)).iter().flat_map(|r| &r.timeseries) {
            let values = series.samples.iter().map(|s| (s.timestamp, s.value));
            for (at, value) in values.chain(series.histograms.iter().map(|h| (h.timestamp, h.sum))) {
                let text = decode::text(&series.labels);
                if value.is_nan() {
                    assert_eq!(value.to_bits(), 0x7ff0_0000_0000_0002, "{text}");
                    assert!(ended.insert(text.clone()), "{text} ends once");
                    marked += 1;
                } else if ended.contains(&text) {
                    assert!(at >= START + 270_000, "{text} has a value at {at}");
                }
            }
        }
        assert!(marked > 20, "{marked}");
    }
}

#[test]
fn symbols_begin_with_the_empty_string_and_are_there_once_and_all_of_them_are_used() {
    for request in second(&sent(Protocol::V2, HistogramMode::Both)) {
        assert_eq!(request.symbols.first().map(String::as_str), Some(""));
        assert_eq!(request.symbols.iter().collect::<BTreeSet<_>>().len(), request.symbols.len());
        let mut used = BTreeSet::from([0]);
        for series in &request.timeseries {
            used.extend(&series.labels_refs);
            used.extend(series.exemplars.iter().flat_map(|e| &e.labels_refs));
            used.extend(series.metadata.iter().flat_map(|m| [m.help_ref, m.unit_ref]));
        }
        assert_eq!(used.into_iter().collect::<Vec<_>>(), (0..request.symbols.len() as u32).collect::<Vec<_>>());
    }
}

#[test]
fn metadata_goes_with_every_series_and_has_a_type_and_a_help_text() {
    for request in second(&sent(Protocol::V2, HistogramMode::Both)) {
        for series in &request.timeseries {
            let metadata = series.metadata.expect("metadata");
            let name =
                series.labels_refs.as_chunks::<2>().0.iter().find(|[n, _]| request.symbols[*n as usize] == "__name__");
            let name = &request.symbols[name.expect("a name")[1] as usize];
            let kind = match name {
                name if name.ends_with("_total") => 1,
                name if name.ends_with("_info") => 2,
                _ => 3,
            };
            assert_eq!(metadata.r#type, kind, "{name}");
            assert!(metadata.help_ref > 0, "{name}");
        }
    }
}

#[test]
fn every_value_of_a_counter_and_of_a_histogram_has_a_start_before_it_and_no_marker_has_one() {
    let mut starts = BTreeMap::<String, BTreeSet<i64>>::new();
    for request in second(&sent(Protocol::V2, HistogramMode::Both)) {
        let named = decode::v2::resolve(&request).unwrap();
        for (series, plain) in request.timeseries.iter().zip(&named.timeseries) {
            let gauge = series.metadata.is_some_and(|m| m.r#type == 2);
            let values = series.samples.iter().map(|s| (s.timestamp, s.start_timestamp, s.value));
            let histograms = series.histograms.iter().map(|h| (h.timestamp, h.start_timestamp, h.sum));
            for (at, start, value) in values.chain(histograms) {
                // A zero at which counting begins stands at the start itself.
                if gauge || value.is_nan() || (start == 0 && value == 0.0 && at % 15_000 != 0) {
                    assert_eq!(start, 0);
                } else {
                    assert!(start > START - 60_000 && start < at, "{start} {at} {}", decode::text(&plain.labels));
                    starts.entry(decode::text(&plain.labels)).or_default().insert(start);
                }
            }
        }
    }
    assert!(starts.values().all(|starts| (1..=2).contains(&starts.len())), "one, and one more for who was forgotten");
    assert!(starts.len() > 100);
}

#[test]
fn a_request_holds_at_most_ten_thousand_samples() {
    for protocol in BOTH {
        let most = |r: &WriteRequest| r.timeseries.iter().map(|s| s.samples.len() + s.histograms.len()).sum::<usize>();
        assert!(requests(&sent(protocol, HistogramMode::Classic)).iter().map(most).max() <= Some(10_000));
    }
    assert!(RemoteWrite::default().max_samples <= 10_000);
}
