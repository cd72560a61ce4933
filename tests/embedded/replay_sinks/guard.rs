//! Samples over an hour old wait while the receiver says that it would throw them away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use spanmill::config::settings::RemoteWrite;
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::worker::sender::{Delivered, Exporter, ShardSender};
use spanmill::worker::telemetry::Telemetry;

use super::{Asked, HOUR, LONG, Mock, STEP, batch, mock, not_found, request};

const WRITE: &str = "/api/v1/write";
const FLAGS: &str = "/api/v1/status/flags";

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A Prometheus that others write to, whose out-of-order window is ten hours once it is `wide`.
fn prometheus(wide: &Arc<AtomicBool>) -> Mock {
    let wide = Arc::clone(wide);
    mock(move |asked: &Asked| match asked.path.as_str() {
        FLAGS => {
            let flags = r#"{"data":{"storage.tsdb.path":"d","web.enable-remote-write-receiver":"true"}}"#;
            (200, flags.to_owned())
        }
        "/api/v1/status/config" => {
            let window = if wide.load(Ordering::Relaxed) { "10h" } else { "0s" };
            (200, format!(r#"{{"data":{{"yaml":"out_of_order_time_window: {window}\n"}}}}"#))
        }
        "/api/v1/status/tsdb" => (200, format!(r#"{{"data":{{"headStats":{{"maxTime":{}}}}}}}"#, now())),
        WRITE => (204, String::new()),
        _ => not_found(asked),
    })
}

struct Sender {
    exporter: Exporter,
    telemetry: Telemetry,
    sender: ShardSender,
    done: mpsc::Receiver<Delivered>,
}

fn sender(server: &Mock, preflight: bool) -> Sender {
    let url = format!("{}{WRITE}", server.url);
    let cfg = RemoteWrite { url, preflight, min_backoff: 1, max_backoff: 50, ..RemoteWrite::default() };
    let telemetry = Telemetry::new();
    let exporter = Exporter::start(&cfg, telemetry.clone()).unwrap();
    exporter.look_ahead(STEP, false);
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(0, Box::new(move |d| drop(sender.send(d))));
    Sender { exporter, telemetry, sender, done }
}

impl Sender {
    fn send(&self, ago: i64) {
        let step = (now() - ago) / STEP * STEP;
        self.sender.try_send(batch(SINGLE_TENANT, step, vec![request(0..3, &[step])])).unwrap();
    }
}

#[test]
fn what_a_prometheus_would_throw_away_waits_with_the_remedy_and_is_sent_once_it_is_taken() {
    let wide = Arc::<AtomicBool>::default();
    let server = prometheus(&wide);
    let s = sender(&server, true);
    s.send(5 * HOUR);
    let begin = Instant::now();
    let waiting = loop {
        let known = s.telemetry.receivers().snapshot();
        if let Some(waiting) = known.first().and_then(|receiver| receiver.waiting.clone()) {
            break waiting;
        }
        assert!(begin.elapsed() < LONG && s.done.try_recv().is_err());
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(waiting.reason, "would_be_lost");
    for words in
        ["storage.tsdb.out_of_order_time_window is 0s", "set it to 7h or more", "remote_write.preflight: false"]
    {
        assert!(waiting.remedy.contains(words), "{words}: {}", waiting.remedy);
    }
    assert_eq!(server.asked(WRITE).len(), 0, "nothing has been sent");
    // As long as it says so, it is asked now and then only.
    assert!(server.asked(FLAGS).len() <= 2, "{}", server.asked(FLAGS).len());
    wide.store(true, Ordering::Relaxed);
    let delivered = s.done.recv_timeout(LONG).unwrap();
    assert_eq!((delivered.acknowledged, delivered.rejected), (3, 0));
    // What comes behind it needs no question.
    let questions = server.asked(FLAGS).len();
    s.send(5 * HOUR - 2 * STEP);
    assert_eq!(s.done.recv_timeout(LONG).unwrap().acknowledged, 3);
    assert_eq!(server.asked(FLAGS).len(), questions);
    s.exporter.stop(LONG);
}

#[test]
fn samples_of_the_present_and_a_user_who_gives_up_old_ones_need_no_question() {
    let server = prometheus(&Arc::default());
    for (preflight, ago) in [(true, 10_000), (false, 5 * HOUR)] {
        let s = sender(&server, preflight);
        s.send(ago);
        assert_eq!(s.done.recv_timeout(LONG).unwrap().acknowledged, 3, "{preflight}");
        assert_eq!(server.asked(FLAGS).len(), 0);
        s.exporter.stop(LONG);
    }
}

#[test]
fn a_receiver_that_says_nothing_about_itself_gets_old_samples() {
    let server = mock(|asked: &Asked| if asked.path == WRITE { (204, String::new()) } else { not_found(asked) });
    let s = sender(&server, true);
    s.send(5 * HOUR);
    assert_eq!(s.done.recv_timeout(LONG).unwrap().acknowledged, 3);
    assert!(server.asked(WRITE).len() <= 2, "and no probe");
    s.exporter.stop(LONG);
}
