//! What a take-over costs a real receiver: steps that it has already come once more.

use std::sync::mpsc;

use prost::Message as _;
use spanmill::config::settings::RemoteWrite;
use spanmill::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::worker::sender::{Delivered, Exporter, ShardSender};
use spanmill::worker::telemetry::Telemetry;

use crate::servers::api::now;
use crate::servers::metrics::RealPrometheus;
use crate::{PATIENCE, rows};

const STEP: i64 = 15_000;
/// Series in a request.
const SERIES: i64 = 500;

/// A sender, and what it reports to its shard.
struct Sender {
    exporter: Exporter,
    sender: ShardSender,
    telemetry: Telemetry,
    done: mpsc::Receiver<Delivered>,
}

// === impl Sender ===

impl Sender {
    fn start(prometheus: &RealPrometheus) -> Self {
        let cfg = RemoteWrite { url: prometheus.api.write_url(), ..RemoteWrite::default() };
        let telemetry = Telemetry::new();
        let exporter = Exporter::start(&cfg, telemetry.clone()).expect("an exporter");
        let (sender, done) = mpsc::channel();
        let sender = exporter.open(0, Box::new(move |d| drop(sender.send(d))));
        Self { exporter, sender, telemetry, done }
    }

    fn send(&self, batch: StepBatch) -> Delivered {
        self.sender.try_send(batch).expect("the lane is free");
        self.done.recv_timeout(PATIENCE).expect("it is settled")
    }

    /// Answers of a class so far.
    fn answers(&self, class: &str) -> u64 {
        let text = self.telemetry.render();
        let name = format!("spanmill_remote_write_requests_total{{class=\"{class}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&name)).map_or(0, |v| v.parse().expect("a number"))
    }
}

/// A request of series `from` and on. Those from `new` on begin: a zero stands before their value.
fn request(from: i64, new: i64, step: i64) -> Request {
    let label = |name: &str, value: String| Label { name: name.to_owned(), value };
    let series = |i: i64| {
        let zero = (i >= new).then_some(Sample { value: 0.0, timestamp: step - 1 });
        let value = Sample { value: (step + i) as f64, timestamp: step };
        TimeSeries {
            labels: vec![label("__name__", "resent_total".to_owned()), label("series", format!("{i:05}"))],
            samples: zero.into_iter().chain([value]).collect(),
            exemplars: Vec::new(),
            histograms: Vec::new(),
        }
    };
    let message = WriteRequest { timeseries: (from..from + SERIES).map(series).collect() };
    let samples = message.timeseries.iter().map(|s| s.samples.len() as u32).sum();
    Request::compress(&message.encode_to_vec(), SERIES as u32, samples, 0, &mut snap::raw::Encoder::new())
}

/// Two requests for 1,000 series. All begin at the first step, and the last 100 once more at the fourth.
fn batch(first: i64, i: i64) -> StepBatch {
    let step = first + i * STEP;
    let new = match i {
        0 => 0,
        3 => 2 * SERIES - 100,
        _ => 2 * SERIES,
    };
    let requests = vec![request(0, new, step), request(SERIES, new, step)];
    StepBatch { tenant: SINGLE_TENANT.into(), endpoint: None, step, resend: false, requests }
}

#[test]
fn a_step_that_prometheus_has_is_settled_by_one_or_two_requests_and_what_is_new_is_stored() {
    let prometheus = RealPrometheus::start();
    let first = ((now() * 1e3) as i64 / STEP - 20) * STEP;
    let before = Sender::start(&prometheus);
    for i in 0..4 {
        assert_eq!(before.send(batch(first, i)).rejected, 0);
    }
    // Of the fifth step, the first request arrives, and then the worker dies.
    let whole = batch(first, 4);
    before.send(StepBatch { requests: vec![whole.requests[0].clone()], ..whole.clone() });

    let after = Sender::start(&prometheus);
    let mut refused = Vec::new();
    for i in [0, 1, 2, 3, 4] {
        let (bad, good) = (after.answers("4xx"), after.answers("2xx"));
        let d = after.send(StepBatch { resend: true, ..batch(first, i) });
        assert_eq!(d.rejected, 0);
        refused.push((after.answers("4xx") - bad, after.answers("2xx") - good));
    }
    println!("refused and taken, step by step: {refused:?}");
    let after_that = after.send(batch(first, 5));
    assert_eq!((after_that.acknowledged, after_that.rejected), (2 * SERIES as u64, 0));

    // Every series has a sample of every step, and what stands before its values.
    let counted = rows(&prometheus.api, "count_values(\"n\", count_over_time(resent_total[1h]))");
    let counted: Vec<(&str, f64)> = counted.iter().map(|(series, n)| (series.labels["n"].as_str(), *n)).collect();
    assert_eq!(counted, [("7", 900.0), ("8", 100.0)]);
    // One request says that a later step is there; one more for each request that holds what stands before values.
    assert_eq!(refused, [(3, 0), (1, 0), (1, 0), (2, 0), (0, 2)]);
    before.exporter.stop(PATIENCE);
    after.exporter.stop(PATIENCE);
}
