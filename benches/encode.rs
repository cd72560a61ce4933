//! Nanoseconds of CPU per series of remote-write encoding from cached label blocks, beside building and encoding `prost`
//! messages of the same series.
//!
//! `cargo bench --bench encode --no-default-features` prints one JSON line per case: the median of five runs, cases taking
//! turns so that a noisy neighbor meets all of them. Encoding is compared to encoding, and both with compression, which
//! is the same for both. The cases of remote write 2.0 and of OTLP are the whole way there: the requests in 1.0 and their translation. Beside
//! 2.0 stand `prost` messages of it with a table of symbols, plain and compressed; a translation starts from a compressed request
//! and has no plain case.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]

mod shard;

use std::hint::black_box;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;
use shard::{FIRST, label, layout, median, timed};
use spanmill::core::model::hash::{Map, Seed};
use spanmill::core::model::labels::{self, Cuts};
use spanmill::core::model::{Exemplar, LabelBuilder};
use spanmill::core::remotewrite::decode::proto::{self, Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::decode::proto_v2;
use spanmill::core::remotewrite::encode::{Point, SeriesLabels, SeriesWriter, le_label, name_label};
use spanmill::core::remotewrite::metadata::{Descriptions, describe};
use spanmill::core::remotewrite::{Request, otlp, v2};

const SETS: u64 = 5_000;
const RUNS: usize = 5;
/// What a request may hold, as by default.
const MAX_SAMPLES: usize = 2_000;
const MAX_BYTES: usize = 1 << 20;
/// When all series began to count, in remote write 2.0.
const BEGAN: i64 = FIRST - 1_000;
/// Of the trace ID of an exemplar.
const LABEL: &str = "traceID";
/// One series in so many has an exemplar.
const EXEMPLARS: usize = 19;

/// One kind of series: its name, its `le`, both as text and in wire form.
struct Kind {
    name: String,
    le: Option<String>,
    name_wire: Box<[u8]>,
    le_wire: Box<[u8]>,
}

struct Set {
    pairs: Vec<(String, String)>,
    block: Vec<u8>,
    cuts: Cuts,
}

fn main() {
    let (kinds, sets) = (kinds(), sets());
    let series = (kinds.len() * sets.len()) as f64;
    let mut times = [const { Vec::new() }; 9];
    let (mut wire, mut wire_2, mut wire_otlp) = (0, [0; 3], [0; 2]);
    let mut unlimited = SeriesWriter::new(usize::MAX, usize::MAX, LABEL);
    for _ in 0..RUNS {
        // What is compressed is not timed, but gives the writer its memory, as a step gives it to the next one.
        push_all(&mut unlimited, &kinds, &sets);
        unlimited.finish();
        times[0].push(timed(|| push_all(&mut unlimited, &kinds, &sets)).1);
        let raw = unlimited.finish().iter().map(raw_len).sum::<usize>();
        let (encoded, seconds) = timed(|| messages(&kinds, &sets, false));
        times[1].push(seconds);
        let (ours, seconds) = timed(|| requests(&kinds, &sets));
        times[2].push(seconds);
        let (plain, seconds) = timed(|| messages(&kinds, &sets, true));
        times[3].push(seconds);
        assert!(encoded == raw && plain == ours, "the same bytes: {raw} {encoded}, {ours} {plain}");
        wire = ours;
        let (ours, seconds) = timed(|| second(&kinds, &sets));
        times[4].push(seconds);
        let (plain, seconds) = timed(|| second_messages(&kinds, &sets, true));
        times[5].push(seconds);
        assert_eq!(plain, ours, "the same bytes");
        let (plain, seconds) = timed(|| second_messages(&kinds, &sets, false));
        times[6].push(seconds);
        wire_2 = [ours, ours, plain];
        for (at, gzip) in [(7, false), (8, true)] {
            let (bytes, seconds) = timed(|| otlp(&kinds, &sets, gzip));
            times[at].push(seconds);
            wire_otlp[at - 7] = bytes;
        }
    }
    let ns = times.map(|of| median(of) * 1e9 / series);
    let cases = ["cached label blocks", "prost"];
    let stages = [("", 0, 0, wire), ("", 1, 0, wire), (", compressed", 2, 2, wire), (", compressed", 3, 2, wire)];
    let second = [
        (", 2.0, compressed", 4, 4, wire_2[0]),
        (", 2.0, compressed", 5, 4, wire_2[1]),
        (", OTLP, plain", 7, 7, wire_otlp[0]),
        (", 2.0, plain", 6, 4, wire_2[2]),
        (", OTLP, gzip", 8, 8, wire_otlp[1]),
    ];
    for (i, (stage, at, base, wire)) in stages.into_iter().chain(second).enumerate() {
        let (it, ratio, case) = (ns[at], ns[at] / ns[base], format!("{}{stage}", cases[i % 2]));
        let bytes = wire as f64 / series;
        println!(
            r#"{{"bench":"encode","case":"{case}","ns_per_series":{it:.1},"times_ours":{ratio:.1},"bytes_on_the_wire":{bytes:.1}}}"#
        );
    }
}

fn kinds() -> Vec<Kind> {
    let kind = |name: String, bound: Option<Option<u64>>, le: Option<String>| Kind {
        name_wire: name_label(&name),
        le_wire: bound.map(le_label).unwrap_or_default(),
        name,
        le,
    };
    let layout = layout();
    let mut kinds: Vec<Kind> = (0..2).map(|c| kind(layout.counter_name(c), None, None)).collect();
    let base = layout.histogram_name(0);
    kinds.extend(["sum", "count"].map(|what| kind(format!("{base}_{what}"), None, None)));
    let bounds = layout.bounds(0).iter().map(|&b| Some(b)).chain([None]);
    kinds.extend(bounds.zip(layout.les(0)).map(|(bound, le)| kind(format!("{base}_bucket"), Some(bound), Some(le))));
    kinds
}

fn sets() -> Vec<Set> {
    let set = |i| {
        let mut builder = LabelBuilder::default();
        label(i, &mut builder);
        let block = builder.block();
        let pairs = labels::iter(&block).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Set { pairs, cuts: labels::cuts(&block), block }
    };
    let mut sets: Vec<Set> = (0..SETS).map(set).collect();
    sets.sort_by(|a, b| a.block.cmp(&b.block));
    sets
}

fn value(set: usize, kind: usize) -> f64 {
    // Never 0, which `prost` leaves out.
    (1 + set * 31 + kind * 7) as f64
}

fn exemplar(set: usize, kind: usize) -> Option<Exemplar> {
    let trace_id = shard::dice(set as u64);
    let trace_id = u128::from(trace_id) << 64 | u128::from(trace_id);
    let exemplar = Exemplar { at: FIRST, trace_id: trace_id.to_be_bytes(), value_ns: 2_000_000 };
    ((set + kind).is_multiple_of(EXEMPLARS)).then_some(exemplar)
}

/// Bytes of all requests.
fn requests(kinds: &[Kind], sets: &[Set]) -> usize {
    let mut writer = SeriesWriter::new(MAX_SAMPLES, MAX_BYTES, LABEL);
    push_all(&mut writer, kinds, sets);
    writer.finish().iter().map(|request| request.body.len()).sum()
}

fn push_all(writer: &mut SeriesWriter, kinds: &[Kind], sets: &[Set]) {
    for (s, set) in sets.iter().enumerate() {
        for (k, kind) in kinds.iter().enumerate() {
            let labels = SeriesLabels { block: &set.block, cuts: set.cuts, name: &kind.name_wire, le: &kind.le_wire };
            let point = Point { start: None, at: FIRST, value: value(s, k) };
            writer.since(BEGAN).push(&labels, point, exemplar(s, k).as_ref());
        }
    }
}

/// Bytes of all requests in 2.0.
fn second(kinds: &[Kind], sets: &[Set]) -> usize {
    let mut writer = SeriesWriter::new(MAX_SAMPLES, MAX_BYTES, LABEL);
    push_all(&mut writer, kinds, sets);
    let own = Descriptions::default();
    let translate = |request: &Request| v2::body(request, Seed::default(), &own).expect("our own request").len();
    writer.finish().iter().map(translate).sum()
}

/// Bytes of all requests in OTLP.
fn otlp(kinds: &[Kind], sets: &[Set], gzip: bool) -> usize {
    let mut writer = SeriesWriter::new(MAX_SAMPLES, MAX_BYTES, LABEL);
    push_all(&mut writer, kinds, sets);
    let own = Descriptions::default();
    let translate = |request: &Request| {
        let body = black_box(otlp::body(request, &[], &own).expect("our own request"));
        if !gzip {
            return body.len();
        }
        let mut out = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        out.write_all(&body).expect("a vector takes everything");
        out.finish().expect("a vector takes everything").len()
    };
    otlp::regroup(&writer.finish()).iter().map(translate).sum()
}

fn raw_len(request: &Request) -> usize {
    snap::raw::decompress_len(&request.body).expect("compressed")
}

/// The same with messages.
fn messages(kinds: &[Kind], sets: &[Set], compress: bool) -> usize {
    let (mut bytes, mut request) = (0, WriteRequest::default());
    for (s, set) in sets.iter().enumerate() {
        for (k, kind) in kinds.iter().enumerate() {
            if request.timeseries.len() == MAX_SAMPLES {
                bytes += send(&std::mem::take(&mut request), compress);
            }
            request.timeseries.push(message(set, kind, value(s, k), exemplar(s, k)));
        }
    }
    bytes + send(&request, compress)
}

/// The same with messages of 2.0.
fn second_messages(kinds: &[Kind], sets: &[Set], compress: bool) -> usize {
    let (mut bytes, mut symbols) = (0, Symbols::default());
    let mut series = Vec::new();
    for (s, set) in sets.iter().enumerate() {
        for (k, kind) in kinds.iter().enumerate() {
            if series.len() == MAX_SAMPLES {
                bytes += send_second(&mut symbols, &mut series, compress);
            }
            series.push(symbols.series(&message(set, kind, value(s, k), exemplar(s, k))));
        }
    }
    bytes + send_second(&mut symbols, &mut series, compress)
}

fn send_second(symbols: &mut Symbols, series: &mut Vec<proto_v2::TimeSeries>, compress: bool) -> usize {
    let symbols = std::mem::take(symbols).texts;
    let request = proto_v2::Request { symbols, timeseries: std::mem::take(series) };
    let bytes = black_box(request.encode_to_vec());
    if compress { snap::raw::Encoder::new().compress_vec(&bytes).expect("small").len() } else { bytes.len() }
}

struct Symbols {
    places: Map<String, u32>,
    texts: Vec<String>,
}

impl Default for Symbols {
    fn default() -> Self {
        Self { places: [(String::new(), 0)].into_iter().collect(), texts: vec![String::new()] }
    }
}

impl Symbols {
    fn of(&mut self, text: &str) -> u32 {
        if let Some(at) = self.places.get(text) {
            return *at;
        }
        let at = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.places.insert(text.to_owned(), at);
        at
    }

    fn refs(&mut self, labels: &[Label]) -> Vec<u32> {
        labels.iter().flat_map(|label| [self.of(&label.name), self.of(&label.value)]).collect()
    }

    fn series(&mut self, series: &TimeSeries) -> proto_v2::TimeSeries {
        let labels_refs = self.refs(&series.labels);
        let exemplar = |e: &proto::Exemplar| proto_v2::Exemplar {
            labels_refs: self.refs(&e.labels),
            value: e.value,
            timestamp: e.timestamp,
        };
        let exemplars = series.exemplars.iter().map(exemplar).collect();
        let name = series.labels.iter().find(|label| label.name == "__name__").map_or("", |label| &label.value);
        let own = Descriptions::default();
        let said = describe(name, false, &own);
        let (help_ref, unit_ref) = (self.of(said.help), self.of(said.unit));
        let sample = |s: &Sample| proto_v2::Sample { value: s.value, timestamp: s.timestamp, start_timestamp: BEGAN };
        proto_v2::TimeSeries {
            labels_refs,
            samples: series.samples.iter().map(sample).collect(),
            histograms: Vec::new(),
            exemplars,
            metadata: Some(proto_v2::Metadata { r#type: said.kind as i32, help_ref, unit_ref }),
        }
    }
}

fn message(set: &Set, kind: &Kind, value: f64, exemplar: Option<Exemplar>) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let mut labels = vec![label("__name__", &kind.name)];
    labels.extend(kind.le.iter().map(|le| label("le", le)));
    labels.extend(set.pairs.iter().map(|(name, value)| label(name, value)));
    labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let exemplar = exemplar.map(|e| proto::Exemplar {
        labels: vec![label(LABEL, &format!("{:032x}", u128::from_be_bytes(e.trace_id)))],
        value: e.value_ns as f64 / 1e9,
        timestamp: e.at,
    });
    TimeSeries {
        labels,
        samples: vec![Sample { value, timestamp: FIRST }],
        exemplars: exemplar.into_iter().collect(),
        histograms: Vec::new(),
    }
}

fn send(request: &WriteRequest, compress: bool) -> usize {
    let bytes = black_box(request.encode_to_vec());
    if compress { snap::raw::Encoder::new().compress_vec(&bytes).expect("small").len() } else { bytes.len() }
}
