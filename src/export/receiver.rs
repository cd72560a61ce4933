//! A small remote-write receiver inside the process: `spanmill demo` sends to it, and so do the tests.
//!
//! *In:* remote write 1.0 at `/api/v1/write`. *Out:* the last sample of every series, and every contradiction that it has
//! seen (see [`Memory`]). *Owner:* whoever started it; it runs on a thread of its own. It can be told to misbehave in the
//! ways in which receivers and networks do. It remembers every sample, so it is not for days of data.

mod memory;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::remotewrite::decode;
use crate::remotewrite::decode::proto::TimeSeries;

pub use memory::{Memory, SeriesState};
use wire::{Listener, Peer};

/// The path that requests are sent to.
pub const PATH: &str = "/api/v1/write";
/// So many of the latest requests are remembered with their headers.
const MAX_SEEN: usize = 256;

/// A way to misbehave, for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status, stores nothing.
    Status(u16),
    /// Answers with this status and a `Retry-After` header, stores nothing.
    RetryAfter(u16, String),
    /// Cuts the connection, stores nothing.
    Reset,
    /// Stores everything and cuts the connection: the answer is lost.
    StoreAndReset,
    /// Never answers, stores nothing.
    Hang,
}

/// What has arrived so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Requests that were not stored.
    pub refused: u64,
    /// Samples stored, resent ones included.
    pub samples: u64,
    /// Samples that were there already, with the same value.
    pub resent: u64,
    /// Exemplars stored.
    pub exemplars: u64,
    /// Series seen.
    pub series: u64,
    /// Contradictions.
    pub violations: u64,
}

/// One request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its headers, names in lower case. Values may be secret.
    pub headers: BTreeMap<String, String>,
    /// Its body, compressed.
    pub body: Bytes,
    /// The answer; 0 when there was none.
    pub status: u16,
}

type Poison = Box<dyn Fn(&str) -> bool + Send>;
type Watcher = Box<dyn FnMut(&str, &TimeSeries) + Send>;

#[derive(Default)]
struct Inside {
    memory: Memory,
    faults: VecDeque<Fault>,
    poison: Option<Poison>,
    watcher: Option<Watcher>,
    refuse_old: bool,
    requests: u64,
    refused: u64,
    seen: VecDeque<Seen>,
}

#[derive(Default)]
struct Shared {
    inside: Mutex<Inside>,
    changed: Condvar,
}

/// A running receiver. Dropping it stops it.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinSet<()>,
    runtime: Option<Runtime>,
}

// === impl Receiver ===

impl Receiver {
    /// Listens on `addr`, such as `127.0.0.1:0`. Call it outside of any async runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(addr: &str) -> std::io::Result<Self> {
        let socket = TcpListener::bind(addr)?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("receiver")
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared::default());
        let app = Router::new()
            .route(PATH, post(write))
            .layer(DefaultBodyLimit::max(decode::MAX_DECODED_BYTES))
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Peer>();
        let listener = {
            let _entered = runtime.enter();
            Listener(tokio::net::TcpListener::from_std(socket)?)
        };
        let mut server = JoinSet::new();
        server.spawn_on(async move { drop(axum::serve(listener, app).await) }, runtime.handle());
        Ok(Self { addr, shared, server, runtime: Some(runtime) })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL to send to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.addr)
    }

    /// Misbehaves for the next `times` requests, after the faults that were asked for before.
    pub fn fault(&self, fault: &Fault, times: usize) {
        self.inside().faults.extend(std::iter::repeat_n(fault.clone(), times));
    }

    /// Behaves again: forgets the faults that are still to come.
    pub fn mend(&self) {
        self.inside().faults.clear();
    }

    /// From now on refuses, with status 400 and as a whole, every request that holds a series which `bad` picks by its
    /// text (see [`decode::text`]).
    pub fn poison(&self, bad: impl Fn(&str) -> bool + Send + 'static) {
        self.inside().poison = Some(Box::new(bad));
    }

    /// From now on refuses, as Prometheus does without an out-of-order window, every request that holds a sample older
    /// than the newest one of its series.
    pub fn refuse_old(&self) {
        self.inside().refuse_old = true;
    }

    /// From now on calls `watcher` with the tenant and the content of every entry that is stored, resent ones included.
    pub fn watch(&self, watcher: impl FnMut(&str, &TimeSeries) + Send + 'static) {
        self.inside().watcher = Some(Box::new(watcher));
    }

    /// What has arrived so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        totals(&self.inside())
    }

    /// The last state of every series, by its text; a tenant stands before it as `tenant/`.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, SeriesState> {
        self.inside().memory.snapshot()
    }

    /// The newest native histogram of every series that has any, by its text as in [`Receiver::snapshot`].
    #[must_use]
    pub fn natives(&self) -> BTreeMap<String, decode::Native> {
        self.inside().memory.natives()
    }

    /// The contradictions seen so far; the first hundred of them.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.inside().memory.violations().to_vec()
    }

    /// The latest requests, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.inside().seen.iter().cloned().collect()
    }

    /// Waits until `enough` holds; false when `timeout` has passed before.
    #[must_use]
    pub fn wait(&self, timeout: Duration, mut enough: impl FnMut(&Totals) -> bool) -> bool {
        let waited = self.shared.changed.wait_timeout_while(self.inside(), timeout, |inside| !enough(&totals(inside)));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.shared.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("addr", &self.addr).field("totals", &self.totals()).finish_non_exhaustive()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn totals(inside: &Inside) -> Totals {
    Totals { requests: inside.requests, refused: inside.refused, ..inside.memory.totals() }
}

/// What the handler does after the bookkeeping.
enum Outcome {
    Answer(StatusCode, String, Option<String>),
    Cut,
    Hang,
}

async fn write(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let outcome = {
        let mut inside = shared.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = inside.take(&headers, &body);
        inside.note(&headers, body, &outcome);
        outcome
    };
    shared.changed.notify_all();
    match outcome {
        Outcome::Answer(status, text, None) => (status, text).into_response(),
        Outcome::Answer(status, text, Some(after)) => (status, [(header::RETRY_AFTER, after)], text).into_response(),
        Outcome::Cut => {
            peer.cut();
            StatusCode::NO_CONTENT.into_response()
        }
        Outcome::Hang => std::future::pending().await,
    }
}

// === impl Inside ===

impl Inside {
    fn take(&mut self, headers: &HeaderMap, body: &[u8]) -> Outcome {
        match self.faults.pop_front() {
            Some(Fault::Status(status)) => refusal(status, "as told", None),
            Some(Fault::RetryAfter(status, after)) => refusal(status, "as told", Some(after)),
            Some(Fault::Reset) => Outcome::Cut,
            Some(Fault::Hang) => Outcome::Hang,
            Some(Fault::StoreAndReset) => {
                self.store(headers, body);
                Outcome::Cut
            }
            None => self.store(headers, body),
        }
    }

    fn store(&mut self, headers: &HeaderMap, body: &[u8]) -> Outcome {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if text("content-encoding") != "snappy" || text("content-type") != "application/x-protobuf" {
            return refusal(415, "only application/x-protobuf and snappy are understood", None);
        }
        let request = match decode::body(body) {
            Ok(request) => request,
            Err(error) => return refusal(400, &error.to_string(), None),
        };
        // A tenant may be any UTF-8.
        let tenant =
            headers.get("x-scope-orgid").map_or_else(Default::default, |v| String::from_utf8_lossy(v.as_bytes()));
        for series in &request.timeseries {
            let name = decode::text(&series.labels);
            if self.poison.as_ref().is_some_and(|bad| bad(&name)) {
                return refusal(400, &format!("poisoned series {name}"), None);
            }
            if self.refuse_old && self.memory.is_old(&tenant, &name, series) {
                return refusal(400, &format!("out of order sample: {name}"), None);
            }
        }
        for series in &request.timeseries {
            self.memory.store(&tenant, series);
            if let Some(watcher) = &mut self.watcher {
                watcher(&tenant, series);
            }
        }
        Outcome::Answer(StatusCode::NO_CONTENT, String::new(), None)
    }

    fn note(&mut self, headers: &HeaderMap, body: Bytes, outcome: &Outcome) {
        let status = if let Outcome::Answer(status, ..) = outcome { status.as_u16() } else { 0 };
        self.requests += 1;
        self.refused += u64::from(!(200..300).contains(&status));
        let text = |v: &axum::http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let headers = headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect();
        self.seen.push_back(Seen { headers, body, status });
        if self.seen.len() > MAX_SEEN {
            self.seen.pop_front();
        }
    }
}

fn refusal(status: u16, text: &str, retry_after: Option<String>) -> Outcome {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Outcome::Answer(status, format!("{text}\n"), retry_after)
}
