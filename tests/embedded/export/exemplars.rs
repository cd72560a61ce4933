//! Exemplars, and receivers that store none.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spanmill::config::settings::SendExemplars;
use spanmill::core::model::Exemplar;
use spanmill::core::model::labels::cuts;
use spanmill::core::remotewrite::decode;
use spanmill::core::remotewrite::encode::{Point, SeriesLabels, SeriesWriter, name_label};

use super::*;

/// A server that answers as one of the family of VictoriaMetrics.
struct Family {
    address: SocketAddr,
    state: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Exemplars by request.
    exemplars: Mutex<Vec<usize>>,
    asked: AtomicU64,
    stop: AtomicBool,
}

impl Family {
    /// `app` is the version that its metrics show.
    fn start(app: &'static str) -> Self {
        let (listener, state) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::<Seen>::default());
        let (address, seen) = (listener.local_addr().unwrap(), Arc::clone(&state));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if seen.stop.load(Ordering::Relaxed) {
                    return;
                }
                seen.answer(socket, app);
            }
        });
        Self { address, state }
    }

    fn exemplars(&self) -> Vec<usize> {
        self.state.exemplars.lock().unwrap().clone()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

impl Seen {
    fn answer(&self, socket: TcpStream, app: &str) {
        let mut reader = BufReader::new(socket);
        let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
        reader.read_line(&mut first).unwrap();
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = text.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (status, text) = if first.starts_with("GET /metrics ") {
            self.asked.fetch_add(1, Ordering::Relaxed);
            ("200 OK", format!("vm_app_version{{version=\"{app}\", short_version=\"\"}} 1\n"))
        } else {
            let series = decode::body(&body).unwrap();
            self.exemplars.lock().unwrap().push(series.timeseries.iter().map(|s| s.exemplars.len()).sum());
            ("204 No Content", String::new())
        };
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nX-Server-Hostname: vm\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        );
        reader.into_inner().write_all(answer.as_bytes()).unwrap();
    }
}

fn with_exemplars(step: i64) -> StepBatch {
    let mut writer = SeriesWriter::new(100, 1 << 20, "traceID");
    for name in ["a", "b"] {
        let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &name_label(name), le: &[] };
        let exemplar = Exemplar { at: step - 1, trace_id: [7; 16], value_ns: 5 };
        writer.push(&labels, Point { start: None, at: step, value: 1.0 }, Some(&exemplar));
    }
    batch(step, writer.finish())
}

fn sent(to: &Family, wanted: SendExemplars) -> (Vec<usize>, u64) {
    let h = house_with(|c| {
        c.url = format!("http://{}/api/v1/write", to.address);
        c.exemplars = wanted;
        c.metadata_interval = 0;
    });
    let before = to.exemplars().len();
    for step in 1..=3 {
        assert_eq!(h.send(with_exemplars(step * 15_000)).acknowledged, 2);
    }
    (to.exemplars().split_off(before), h.metric("spanmill_exemplars_withheld_total"))
}

#[test]
fn a_receiver_that_stores_no_exemplars_gets_none_once_it_has_shown_what_it_is() {
    let vm = Family::start("victoria-metrics-20260101-000000-tags-v1.151.0-0-g0");
    assert_eq!(sent(&vm, SendExemplars::Auto), (vec![2, 0, 0], 4));
    assert_eq!(vm.state.asked.load(Ordering::Relaxed), 1, "it is asked once");
    assert_eq!(sent(&vm, SendExemplars::On), (vec![2, 2, 2], 0));
    assert_eq!(sent(&vm, SendExemplars::Off), (vec![0, 0, 0], 6));
    assert_eq!(vm.state.asked.load(Ordering::Relaxed), 1, "and only if the settings leave it open");
}

#[test]
fn a_proxy_of_the_same_family_decides_nothing() {
    let proxy = Family::start("vmauth-20260101-000000-tags-v1.151.0-0-g0");
    assert_eq!(sent(&proxy, SendExemplars::Auto), (vec![2, 2, 2], 0));
}

#[test]
fn other_receivers_get_exemplars_and_are_asked_nothing() {
    let h = house();
    let d = h.send(with_exemplars(15_000));
    assert_eq!((d.acknowledged, h.receiver.totals().requests), (2, 1));
    assert_eq!(h.metric("spanmill_exemplars_withheld_total"), 0);
}
