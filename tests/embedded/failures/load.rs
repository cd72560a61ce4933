//! A load with a known result, produced at a steady pace by a thread of the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::core::model::Millis;
use spanmill::tools::loadgen::{Expectation, Generator, Options, Topology};

use super::{PATIENCE, SOURCE};

/// Spans per second.
const RATE: u64 = 400;
/// The most spans of one load: the embedded broker silently forgets what a partition holds above 5 MiB.
const MOST: u64 = 24_000;

/// A load that is being produced.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Expectation>,
}

// === impl Load ===

impl Load {
    /// Starts producing, from now on until it is ended.
    pub fn start(brokers: &str, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            // Or a record that the broker refuses may be called delivered when the one behind it is taken.
            .set("max.in.flight.requests.per.connection", "1")
            .set("linger.ms", "5")
            // A record that is held up too long is late for its pending edges.
            .set("retry.backoff.max.ms", "100")
            .set("reconnect.backoff.max.ms", "200")
            .create()
            .expect("a producer");
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || produce(&producer, seed, &stopped));
        Self { stop, thread }
    }

    /// No further trace begins; what has begun is produced. Returns what it all must count to.
    pub fn end(self) -> Expectation {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load is produced")
    }
}

fn produce(producer: &BaseProducer, seed: u64, stop: &AtomicBool) -> Expectation {
    let (begin, start) = (Instant::now(), wall_clock());
    let options = Options { start, rate: RATE, spans: Some(MOST), spans_per_record: 20, ..Options::default() };
    let mut generator = Generator::new(Topology::shop(seed), seed, options);
    loop {
        if stop.load(Ordering::Relaxed) {
            generator.stop();
        }
        let Some(record) = generator.next() else { break };
        let due = begin + Duration::from_millis(record.timestamp.abs_diff(start));
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            producer.poll(Duration::ZERO);
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
        let message = BaseRecord::to(SOURCE).key(&record.key).payload(&record.value).timestamp(record.timestamp);
        producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    generator.expectation()
}

pub fn wall_clock() -> Millis {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as Millis
}
