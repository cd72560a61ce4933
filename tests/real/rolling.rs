//! A rolling update as a Deployment does it, under load: three processes are replaced one after the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use spanmill::core::remotewrite::decode;
use spanmill::core::remotewrite::decode::proto::TimeSeries;

use super::place::Place;
use crate::servers::api::Api;
use crate::servers::daemon::{Daemon, free_ports};
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

const PARTITIONS: u32 = 6;
const WORKERS: usize = 3;
/// How long the calm is measured that the update is compared with.
const CALM: Duration = Duration::from_secs(2);
/// The greatest delay in seconds. Of a worker that ended without leaving its groups, they would learn after the session timeout
/// of 10 s, and its partitions would move a rebalance later.
const FRESH: f64 = 12.0;

/// When samples came for the first time, after the ends of their steps.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    /// The newest sample of each series.
    newest: BTreeMap<String, i64>,
    /// Milliseconds since the epoch when a sample came, and after the end of its step.
    delays: Vec<(i64, i64)>,
}

// === impl Arrivals ===

impl Arrivals {
    fn note(&self, entry: &TimeSeries) {
        let Some(at) = entry.samples.iter().map(|sample| sample.timestamp).max() else { return };
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = noted.newest.entry(decode::text(&entry.labels)).or_insert(i64::MIN);
        // A sample that is sent again came in time the first time.
        if at > *newest {
            *newest = at;
            noted.delays.push((now(), now() - at));
        }
    }

    /// The longest delay of what came from one moment to the next, in seconds, and how many samples came.
    fn longest(&self, from: i64, to: i64) -> (f64, usize) {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let delays: Vec<i64> = noted.delays.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, d)| *d).collect();
        (delays.iter().max().copied().unwrap_or_default() as f64 / 1e3, delays.len())
    }
}

/// A worker with the address at which its probes ask.
struct Pod {
    process: Daemon,
    admin: Api,
}

// === impl Pod ===

impl Pod {
    fn start(place: &Place, name: &str) -> Self {
        let [port] = free_ports();
        let listen = format!("admin.listen=127.0.0.1:{port}");
        // Kafka's settings are the defaults: heartbeats decide how fast partitions move.
        let process = place.worker(name, &[&listen, "service_graphs.wait=5s"]);
        Self { process, admin: Api::new(&format!("127.0.0.1:{port}")) }
    }

    /// The readiness probe of the Helm chart, more often than the kubelet asks.
    fn gets_ready(&mut self) {
        wait_until("the readiness probe succeeds", PATIENCE, || {
            crate::must_run(&mut self.process);
            match self.admin.status("/readyz")? {
                200 => Ok(()),
                status => Err(format!("{status}: {}", self.process.tail())),
            }
        });
    }

    /// What the kubelet does at the end of a pod.
    fn ends(mut self) {
        let status = self.process.terminate(STOPS_WITHIN);
        assert_eq!(status.code(), Some(0), "{}", self.process.tail());
    }
}

#[test]
fn three_workers_on_real_kafka_are_replaced_one_after_the_other_under_load_and_everything_stays_fresh_and_exact() {
    let place = Place::start("rolling", PARTITIONS);
    let arrivals = Arrivals::default();
    let noting = arrivals.clone();
    place.receiver.watch(move |_, entry| noting.note(entry));
    let mut pods: Vec<Pod> = (0..WORKERS).map(|n| Pod::start(&place, &format!("old {n}"))).collect();
    let produce = place.produce(&["--rate", "2000", "--seed", "7"]);
    pods.iter_mut().for_each(Pod::gets_ready);
    caught_up(&place);

    let calm = now();
    std::thread::sleep(CALM);
    let update = now();
    let began = Instant::now();
    // The strategy of the chart, `maxSurge: 1` and `maxUnavailable: 0`: the new one is ready before an old one is ended.
    for n in 0..WORKERS {
        let mut new = Pod::start(&place, &format!("new {n}"));
        new.gets_ready();
        pods.push(new);
        pods.remove(0).ends();
    }
    let took = began.elapsed();
    caught_up(&place);
    let end = now();
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    let ((before, _), (during, samples)) = (arrivals.longest(calm, update), arrivals.longest(update, end));
    println!(
        "{WORKERS} workers replaced in {:.1} s; samples at most {during:.2} s after the ends of their steps, of {samples}; \
         {before:.2} s before",
        took.as_secs_f64(),
    );
    assert!(during < FRESH, "{during} s");
    pods.into_iter().for_each(Pod::ends);
}

/// Waits until every series has a sample of a step that ends after now.
fn caught_up(place: &Place) {
    let begin = now();
    wait_until("all series go on", PATIENCE, || match place.slowest() {
        at if at >= begin => Ok(()),
        at => Err(format!("the slowest is {} ms behind", begin - at)),
    });
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}
