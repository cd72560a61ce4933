//! A small remote-write receiver inside the process: `spanmill demo` sends to it, and so do the tests.
//!
//! *In:* remote write 1.0 and 2.0 at `/api/v1/write`. *Out:* the last sample of every series, and every contradiction
//! that it has seen (see [`Memory`]). *Owner:* the caller that started it; it runs on a thread of its own. A test can
//! make it misbehave in the ways in which receivers and networks do. It remembers every sample, so it is not for days
//! of data.

mod memory;
mod wire;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::core::remotewrite::decode;
use crate::core::remotewrite::decode::proto::{MetricMetadata, TimeSeries, WriteRequest};
use crate::core::remotewrite::{custom_buckets, v2};

pub use memory::{Memory, SeriesState};
use wire::{Listener, Peer};

/// The path that requests are sent to.
pub const PATH: &str = "/api/v1/write";
/// The number of the latest requests that are kept with their headers.
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
    /// Stores everything and answers with this status; to a request in 2.0, reports so many samples and exemplars as
    /// written.
    StoreAndSay(u16, u64, u64),
}

/// Which versions of remote write a receiver supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speech {
    /// Both.
    #[default]
    Both,
    /// 1.0; answers 415 to anything else, as a Prometheus without 2.0 does.
    First,
    /// 1.0; treats a request in 2.0 as an empty one and answers 204, as Prometheus 2 and `VictoriaMetrics` do.
    FirstDeaf,
    /// 2.0; answers 415 to anything else, as the Collector's receiver does.
    Second,
}

/// What has arrived so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests, whatever their result, without version probes and without requests of metadata.
    pub requests: u64,
    /// Requests in 2.0 without series: version probes.
    pub probes: u64,
    /// Requests in 1.0 that say what metrics are about, and hold no samples.
    pub metadata: u64,
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
pub struct SeenRequest {
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
    /// Lasting faults, by tenant.
    tenants: BTreeMap<String, Fault>,
    poison: Option<Poison>,
    /// Refuses everything with this text.
    refuse_with: Option<String>,
    /// A header that every request must have.
    expected: Option<(String, String)>,
    watcher: Option<Watcher>,
    refuse_old: bool,
    refuse_custom: bool,
    delay: Duration,
    /// Answers 503 to what is more at a time.
    overload: Option<usize>,
    at_a_time: usize,
    most_at_a_time: usize,
    speech: Speech,
    probes: u64,
    metadata: u64,
    refuse_metadata: bool,
    /// The metadata of metrics, by tenant and name.
    descriptions: BTreeMap<(String, String), MetricMetadata>,
    requests: u64,
    refused: u64,
    seen: VecDeque<SeenRequest>,
}

#[derive(Default)]
struct ReceiverState {
    inside: Mutex<Inside>,
    changed: Condvar,
}

/// A running receiver. Dropping it stops it.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<ReceiverState>,
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
        let shared = Arc::new(ReceiverState::default());
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

    /// Behaves correctly again: forgets the faults that are still to come, those of tenants included.
    pub fn mend(&self) {
        let mut inside = self.inside();
        inside.faults.clear();
        inside.tenants.clear();
    }

    /// Misbehaves at every request of one tenant, until [`Receiver::mend_tenant`].
    pub fn fault_tenant(&self, tenant: &str, fault: Fault) {
        self.inside().tenants.insert(tenant.to_owned(), fault);
    }

    /// Behaves correctly again toward one tenant.
    pub fn mend_tenant(&self, tenant: &str) {
        self.inside().tenants.remove(tenant);
    }

    /// From now on refuses, with status 400 and as a whole, every request that holds a series which `bad` picks by its
    /// text (see [`decode::text`]).
    pub fn poison(&self, bad: impl Fn(&str) -> bool + Send + 'static) {
        self.inside().poison = Some(Box::new(bad));
    }

    /// From now on refuses everything with status 400 and this text.
    pub fn refuse_with(&self, text: &str) {
        self.inside().refuse_with = Some(text.to_owned());
    }

    /// From now on refuses requests that say what metrics are about.
    pub fn refuse_metadata(&self) {
        self.inside().refuse_metadata = true;
    }

    /// From now on answers 401 to every request that has not this header.
    pub fn expect_header(&self, name: &str, value: &str) {
        self.inside().expected = Some((name.to_owned(), value.to_owned()));
    }

    /// From now on supports these versions of remote write.
    pub fn speak(&self, speech: Speech) {
        self.inside().speech = speech;
    }

    /// From now on refuses, as Prometheus does without an out-of-order window, every request that holds a sample older
    /// than the newest one of its series.
    pub fn refuse_old(&self) {
        self.inside().refuse_old = true;
    }

    /// From now on refuses, with status 400 and as a whole, every request that holds a native histogram with custom buckets.
    pub fn refuse_custom_buckets(&self) {
        self.inside().refuse_custom = true;
    }

    /// From now on answers after a while.
    pub fn delay(&self, delay: Duration) {
        self.inside().delay = delay;
    }

    /// From now on answers 503 to requests beyond so many at a time.
    pub fn overload_beyond(&self, at_a_time: usize) {
        self.inside().overload = Some(at_a_time);
    }

    /// The most requests that were there at a time, among those that were not too many.
    #[must_use]
    pub fn most_at_a_time(&self) -> usize {
        self.inside().most_at_a_time
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

    /// The metadata that remote write 1.0 has brought, by tenant and name.
    #[must_use]
    pub fn descriptions(&self) -> BTreeMap<(String, String), MetricMetadata> {
        self.inside().descriptions.clone()
    }

    /// The contradictions seen so far; the first hundred of them.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.inside().memory.violations().to_vec()
    }

    /// The latest requests, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<SeenRequest> {
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
    let (requests, probes, metadata, refused) = (inside.requests, inside.probes, inside.metadata, inside.refused);
    Totals { requests, probes, metadata, refused, ..inside.memory.totals() }
}

/// What the handler does after counting the request.
enum Outcome {
    Answer(Reply),
    Cut,
    Hang,
}

struct Reply {
    status: StatusCode,
    text: String,
    headers: Vec<(&'static str, String)>,
}

async fn write(
    State(shared): State<Arc<ReceiverState>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (outcome, delay) = {
        let mut inside = shared.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.at_a_time += 1;
        let outcome = if inside.is_overloaded() {
            let outcome = refusal(503, "too many requests at a time", Vec::new());
            inside.note(&headers, body, &outcome);
            outcome
        } else if Inside::is_probe(&headers, &body) {
            inside.probes += 1;
            inside.store(&headers, &body)
        } else if let Some(said) = Inside::metadata_in(&headers, &body) {
            inside.metadata += 1;
            inside.describe(&headers, &body, said)
        } else {
            let outcome = inside.take(&headers, &body);
            inside.note(&headers, body, &outcome);
            outcome
        };
        (outcome, inside.delay)
    };
    shared.changed.notify_all();
    let _present = Present(&shared);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match outcome {
        Outcome::Answer(Reply { status, text, headers }) => {
            let mut response = (status, text).into_response();
            for (name, value) in headers {
                response
                    .headers_mut()
                    .extend(HeaderValue::from_str(&value).map(|value| (HeaderName::from_static(name), value)));
            }
            response
        }
        Outcome::Cut => {
            peer.cut();
            StatusCode::NO_CONTENT.into_response()
        }
        Outcome::Hang => std::future::pending().await,
    }
}

/// A request that is there; dropping it ends that.
struct Present<'a>(&'a ReceiverState);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner).at_a_time -= 1;
    }
}

// === impl Inside ===

impl Inside {
    /// Whether the present request is one too many.
    fn is_overloaded(&mut self) -> bool {
        let too_many = self.overload.is_some_and(|most| self.at_a_time > most);
        if !too_many {
            self.most_at_a_time = self.most_at_a_time.max(self.at_a_time);
        }
        too_many
    }

    fn take(&mut self, headers: &HeaderMap, body: &[u8]) -> Outcome {
        let tenant = tenant_of(headers);
        match self.tenants.get(&*tenant).cloned().or_else(|| self.faults.pop_front()) {
            Some(Fault::Status(status)) => refusal(status, "as configured", Vec::new()),
            Some(Fault::RetryAfter(status, after)) => refusal(status, "as configured", vec![("retry-after", after)]),
            Some(Fault::Reset) => Outcome::Cut,
            Some(Fault::Hang) => Outcome::Hang,
            Some(Fault::StoreAndReset) => {
                self.store(headers, body);
                Outcome::Cut
            }
            Some(Fault::StoreAndSay(status, samples, exemplars)) => {
                self.store(headers, body);
                let written = if is_second(headers) { written(samples, 0, exemplars) } else { Vec::new() };
                refusal(status, "as configured", written)
            }
            None => self.store(headers, body),
        }
    }

    fn store(&mut self, headers: &HeaderMap, body: &[u8]) -> Outcome {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if self.expected.as_ref().is_some_and(|(name, value)| text(name) != value) {
            return refusal(401, "who are you?", Vec::new());
        }
        if let Some(why) = &self.refuse_with {
            return refusal(400, why, Vec::new());
        }
        let second = is_second(headers);
        let is_known = second || text("content-type") == "application/x-protobuf";
        let is_taken = match self.speech {
            Speech::Both | Speech::FirstDeaf => true,
            Speech::First => !second,
            Speech::Second => second,
        };
        if text("content-encoding") != "snappy" || !is_known || !is_taken {
            return refusal(415, "this version of remote write is not understood", Vec::new());
        }
        let says = second && self.speech != Speech::FirstDeaf;
        let request = match if says { second_body(body) } else { first_body(body) } {
            Ok(request) => request,
            Err(error) => return refusal(400, &error, Vec::new()),
        };
        let none = || if says { written(0, 0, 0) } else { Vec::new() };
        let is_custom = |series: &TimeSeries| series.histograms.iter().any(|h| h.schema == custom_buckets::SCHEMA);
        if (self.refuse_custom || !says) && request.timeseries.iter().any(is_custom) {
            return refusal(400, "native histograms with custom buckets are not supported", none());
        }
        let tenant = tenant_of(headers);
        for series in &request.timeseries {
            let name = decode::text(&series.labels);
            if self.poison.as_ref().is_some_and(|bad| bad(&name)) {
                return refusal(400, &format!("rejected series {name}"), none());
            }
            if self.refuse_old && self.memory.is_old(&tenant, &name, series) {
                return refusal(400, &format!("out of order sample: {name}"), none());
            }
        }
        for series in &request.timeseries {
            self.memory.store(&tenant, series);
            if let Some(watcher) = &mut self.watcher {
                watcher(&tenant, series);
            }
        }
        let sum = |count: fn(&TimeSeries) -> usize| request.timeseries.iter().map(count).sum::<usize>() as u64;
        let counts = [sum(|s| s.samples.len()), sum(|s| s.histograms.len()), sum(|s| s.exemplars.len())];
        let headers = if says { written(counts[0], counts[1], counts[2]) } else { Vec::new() };
        Outcome::Answer(Reply { status: StatusCode::NO_CONTENT, text: String::new(), headers })
    }

    /// Whether a request asks for the version.
    fn is_probe(headers: &HeaderMap, body: &[u8]) -> bool {
        is_second(headers) && decode::v2::request(body).is_ok_and(|request| request.timeseries.is_empty())
    }

    /// The metadata in a request, if it holds nothing else.
    fn metadata_in(headers: &HeaderMap, body: &[u8]) -> Option<Vec<MetricMetadata>> {
        let said = decode::metadata(body).ok().filter(|said| !is_second(headers) && !said.metadata.is_empty())?;
        first_body(body).is_ok_and(|request| request.timeseries.is_empty()).then_some(said.metadata)
    }

    fn describe(&mut self, headers: &HeaderMap, body: &[u8], said: Vec<MetricMetadata>) -> Outcome {
        if self.refuse_metadata {
            return refusal(400, "no metadata here", Vec::new());
        }
        let outcome = self.store(headers, body);
        if matches!(&outcome, Outcome::Answer(reply) if reply.status.is_success()) {
            let tenant = tenant_of(headers).into_owned();
            let named = said.into_iter().map(|said| ((tenant.clone(), said.metric_family_name.clone()), said));
            self.descriptions.extend(named);
        }
        outcome
    }

    fn note(&mut self, headers: &HeaderMap, body: Bytes, outcome: &Outcome) {
        let status = if let Outcome::Answer(reply) = outcome { reply.status.as_u16() } else { 0 };
        self.requests += 1;
        self.refused += u64::from(!(200..300).contains(&status));
        let text = |v: &axum::http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let headers = headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect();
        self.seen.push_back(SeenRequest { headers, body, status });
        if self.seen.len() > MAX_SEEN {
            self.seen.pop_front();
        }
    }
}

/// A tenant may be any UTF-8.
fn tenant_of(headers: &HeaderMap) -> Cow<'_, str> {
    headers.get("x-scope-orgid").map_or_else(Default::default, |v| String::from_utf8_lossy(v.as_bytes()))
}

fn refusal(status: u16, text: &str, headers: Vec<(&'static str, String)>) -> Outcome {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Outcome::Answer(Reply { status, text: format!("{text}\n"), headers })
}

/// Whether a request declares 2.0.
fn is_second(headers: &HeaderMap) -> bool {
    headers.get("content-type").is_some_and(|value| value == v2::CONTENT_TYPE)
}

fn first_body(body: &[u8]) -> Result<WriteRequest, String> {
    decode::body(body).map_err(|error| error.to_string())
}

fn second_body(body: &[u8]) -> Result<WriteRequest, String> {
    let request = decode::v2::request(body).map_err(|error| error.to_string())?;
    decode::v2::resolve(&request)
}

/// The headers of an answer in 2.0.
fn written(samples: u64, histograms: u64, exemplars: u64) -> Vec<(&'static str, String)> {
    vec![
        ("x-prometheus-remote-write-samples-written", samples.to_string()),
        ("x-prometheus-remote-write-histograms-written", histograms.to_string()),
        ("x-prometheus-remote-write-exemplars-written", exemplars.to_string()),
    ]
}
