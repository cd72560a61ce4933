//! Spans of hours ago, and a Prometheus that would throw their samples away.

use std::process::Command;
use std::time::Duration;

use prost::Message as _;
use spanmill::core::remotewrite::decode::proto::WriteRequest;

use super::place::{Place, records, says, spans};
use super::sinks::series;
use crate::servers::api::now;
use crate::servers::metrics::RealPrometheus;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

const AGO: Duration = Duration::from_secs(3 * 3_600);
const CALLS: &str = "sum(max_over_time(traces_spanmetrics_calls_total[5h]))";

/// A Prometheus to which others write at this moment, with this configuration.
fn live(port: Option<u16>, config: &str) -> RealPrometheus {
    let prometheus = RealPrometheus::start_over(port, "exemplar-storage", config, |_| {});
    let at = (now() * 1e3) as i64;
    let sample = WriteRequest { timeseries: vec![series("up", &[("job", "others")], vec![(at, 1.0)])] };
    assert_eq!(prometheus.api.remote_write(&sample.encode_to_vec()), 204);
    prometheus
}

#[test]
fn old_spans_of_kafka_wait_while_prometheus_would_throw_their_samples_away_and_nothing_is_lost() {
    let place = Place::start("old", 1);
    let prometheus = live(None, "global: {}\n");
    let sent = records(AGO);
    place.send(sent.iter().map(|record| (0, record)));
    let url = format!("remote_write.url={}", prometheus.api.write_url());
    let settings = [&url, "series.exemplars.enabled=false", "service_graphs.enabled=false", "admin.listen=127.0.0.1:0"];
    let window = "storage.tsdb.out_of_order_time_window is 0s";

    // What it would come to is said beforehand.
    let file = place.file();
    let sets = settings.iter().flat_map(|set| ["--set", set]);
    let checked = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["check", "--connect", "--config"])
        .arg(&file)
        .args(sets)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    for known in [
        "ok: topic old has 1 partitions",
        "ok: topic old is readable",
        "partition_traces_by_id: true",
        "can be created",
    ] {
        assert!(said.contains(known), "{known}: {said}");
    }
    assert!(said.contains("ok: accepts a request without samples") && said.contains(window), "{said}");

    let mut worker = place.worker("worker", &settings);
    let log = says(&mut worker, "remote write is failing, retrying");
    assert!(log.contains("would_be_lost") && log.contains(window), "{log}");
    says(&mut worker, "not ready");
    assert_eq!(prometheus.api.instant(CALLS).expect("an answer").len(), 0, "nothing has been sent");

    let port = prometheus.port;
    drop(prometheus);
    let prometheus = live(Some(port), "storage: {tsdb: {out_of_order_time_window: 5h}}\n");
    wait_until("every span is counted", PATIENCE, || {
        crate::must_run(&mut worker);
        let rows = prometheus.api.instant(CALLS)?;
        let found = rows.first().map_or(0.0, |row| row.value);
        let all = found.to_bits() == spans(&sent).to_bits();
        if all { Ok(()) } else { Err(format!("{found} of {}\n{}", spans(&sent), worker.tail())) }
    });
    let log = says(&mut worker, "first samples stored");
    assert!(!log.contains("receiver rejected samples"), "{log}");
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
}
