//! The admin server: `/healthz`, `/readyz`, `/metrics`, `/settings`, `/tenants`, `/cardinality`, `/quarantine`, `/openapi.yaml`,
//! which describes them, and `/` to find them.
//!
//! *In:* the task registry, the registry, two probes. *Out:* HTTP answers. *Owner:* the process; it runs on a thread of
//! its own. *Never:* a change to anything: it only reads.

pub mod guard;
pub mod serve;
pub mod tls;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::guard::Guard;
use self::tls::{Certificate, CertificateError};
use crate::config::settings;
use crate::core::model::text::{Shown, ShownLines, shows_itself};
use crate::worker::telemetry::{QuarantinedSeries, Report, Telemetry, WAITS_AT_LEAST};

/// Conditions that were not checked for so long count as unknown.
const JUDGED_WITHIN: Duration = Duration::from_secs(10);
/// How long a stop waits for answers that are being written.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

const INDEX: &str = "spanmill\n\n\
    /healthz      200 while the process works\n\
    /readyz       200 while all readiness conditions are met, otherwise 503 with the reasons. ?format=json lists all conditions\n\
    /metrics      spanmill's own metrics, in the Prometheus text format\n\
    /settings     the counting settings of this worker, and the sources whose settings differ, as JSON\n\
    /tenants      the tenants with settings of their own, and the version of the overrides, as JSON\n\
    /cardinality  while label sets exceed a limit: the services and labels with the most values, as JSON\n\
    /quarantine   series that a receiver rejects by themselves, with its answer and when they are retried, as JSON\n\
    /openapi.yaml the description of all of these\n";
/// The description of the endpoints.
const OPENAPI: &str = include_str!("../../../docs/openapi-admin.yaml");
/// Probes bring no token.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];
const PROBES_AND_METRICS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Why the admin server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error(
        "admin.listen: cannot listen on {address:?}: {source}; choose a free host:port, or \"\" for no admin server"
    )]
    Listen {
        /// The configured address.
        address: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("admin.tls: {0}")]
    Certificate(#[from] CertificateError),
    /// No thread for it.
    #[error("admin: cannot start the admin server's thread: {0}")]
    Thread(std::io::Error),
}

/// What the server needs to know besides the task registry.
pub struct Probes {
    /// Whether the main loop makes progress.
    pub alive: Box<dyn Fn() -> bool + Send + Sync>,
    /// How long ago the readiness conditions were last checked.
    pub judged: Box<dyn Fn() -> Duration + Send + Sync>,
}

/// A running admin server. Dropping it stops it at once.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    is_encrypted: bool,
    stop: Option<oneshot::Sender<()>>,
    server: JoinSet<()>,
    runtime: Option<Runtime>,
}

struct AdminState {
    telemetry: Telemetry,
    probes: Probes,
}

// === impl Probes ===

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

// === impl Admin ===

impl Admin {
    /// Starts the server; `None` when `admin.listen` is empty. Call it outside of any async runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the certificate cannot be used.
    pub fn start(cfg: &settings::Admin, telemetry: Telemetry, probes: Probes) -> Result<Option<Self>, AdminError> {
        if cfg.listen.is_empty() {
            return Ok(None);
        }
        let certificate = Certificate::of(&cfg.tls)?;
        let is_encrypted = certificate.is_some();
        let open: &'static [&'static str] = if cfg.metrics_without_token { &PROBES_AND_METRICS } else { &PROBES };
        let guard = Guard::new(&cfg.token, open);
        let listen = |source| AdminError::Listen { address: cfg.listen.clone(), source };
        let socket = TcpListener::bind(&cfg.listen).map_err(listen)?;
        socket.set_nonblocking(true).map_err(listen)?;
        let addr = socket.local_addr().map_err(listen)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("admin")
            .enable_all()
            .build()
            .map_err(AdminError::Thread)?;
        let shared = Arc::new(AdminState { telemetry, probes });
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = JoinSet::new();
        let socket = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(socket).map_err(listen)?
        };
        guard::warn_if_open(addr, &guard, "set admin.token_file, or keep the port inside of a trusted network");
        let router = router(shared).layer(from_fn_with_state(guard, guard::guard));
        server.spawn_on(serve::serve(socket, router, certificate, stopped), runtime.handle());
        tracing::info!(%addr, tls = is_encrypted, "admin server listening");
        Ok(Some(Self { addr, is_encrypted, stop: Some(stop), server, runtime: Some(runtime) }))
    }

    /// The address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Accepts no new connections, finishes the answers that are being written, and ends.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(runtime) = &self.runtime {
            let server = &mut self.server;
            let ended = runtime.block_on(async { tokio::time::timeout(STOP_TIMEOUT, server.join_next()).await });
            if ended.is_err() {
                tracing::debug!("an admin client kept its connection open, closing it");
            }
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.server.abort_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Every path with what answers.
fn routes() -> [(&'static str, MethodRouter<Arc<AdminState>>); 9] {
    [
        ("/", get(async || plain(StatusCode::OK, INDEX))),
        ("/healthz", get(healthz)),
        ("/readyz", get(readyz)),
        ("/metrics", get(metrics)),
        ("/settings", get(settings_in_force)),
        ("/tenants", get(tenants)),
        ("/cardinality", get(cardinality)),
        ("/quarantine", get(quarantine)),
        (
            "/openapi.yaml",
            get(async || (StatusCode::OK, [(CONTENT_TYPE, "application/yaml")], OPENAPI).into_response()),
        ),
    ]
}

/// Every path that is served.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

fn router(shared: Arc<AdminState>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (path, answer)| router.route(path, answer));
    router.with_state(shared)
}

async fn healthz(State(s): State<Arc<AdminState>>) -> Response {
    if (s.probes.alive)() {
        plain(StatusCode::OK, "ok\n")
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, "the main loop has made no progress for 30 s\n")
    }
}

async fn settings_in_force(State(s): State<Arc<AdminState>>) -> Response {
    let own = s.telemetry.settings();
    let mut shards = Vec::new();
    for (id, status) in s.telemetry.tasks().snapshot().into_iter().filter(|(_, status)| status.settings.sources > 0) {
        let others = status.settings.others.into_iter();
        let others: BTreeMap<String, Vec<String>> =
            others.map(|(other, keys)| (format!("{other:016x}"), keys)).collect();
        shards.push(serde_json::json!({
            "topic": id.topic, "partition": id.partition, "sources": status.settings.sources, "differences": others,
        }));
    }
    let fingerprint = format!("{:016x}", own.fingerprint);
    let json = serde_json::json!({ "fingerprint": fingerprint, "settings": own.lines, "others": shards });
    self::json(StatusCode::OK, &json)
}

async fn tenants(State(s): State<Arc<AdminState>>) -> Response {
    let o = s.telemetry.overrides();
    let json = serde_json::json!({ "version": o.version, "last_reload_successful": !o.refused, "tenants": o.tenants });
    self::json(StatusCode::OK, &json)
}

async fn cardinality(State(s): State<Arc<AdminState>>) -> Response {
    let mut refused = 0;
    let mut labels = Vec::new();
    for (_, status) in s.telemetry.tasks().snapshot() {
        refused += status.limits.refused;
        labels.extend(status.limits.top_labels);
    }
    // A service lies in one shard, so no label comes twice.
    labels.sort_by_key(|label| std::cmp::Reverse(label["values"].as_u64()));
    let json = serde_json::json!({ "label_sets_over_limit": refused, "labels": labels });
    self::json(StatusCode::OK, &json)
}

async fn quarantine(State(s): State<Arc<AdminState>>) -> Response {
    let millis = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let series = |one: &QuarantinedSeries| {
        serde_json::json!({
            "series": one.series,
            "since_ms": millis(one.since),
            "retry_at_ms": millis(one.retry_at),
            "status": one.status,
            "answer": one.answer,
        })
    };
    let receivers = s.telemetry.receivers().snapshot().into_iter().filter(|status| status.quarantined > 0);
    let receivers = receivers.map(|status| {
        let listed: Vec<_> = status.quarantine.iter().map(series).collect();
        serde_json::json!({
            "url": status.url, "tenant": *status.tenant, "quarantined": status.quarantined, "series": listed,
        })
    });
    let json = serde_json::json!({ "receivers": receivers.collect::<Vec<_>>() });
    self::json(StatusCode::OK, &json)
}

async fn readyz(State(s): State<Arc<AdminState>>, RawQuery(query): RawQuery) -> Response {
    let (reports, judged) = (s.telemetry.conditions().reports(), (s.probes.judged)());
    let unknown = (judged > JUDGED_WITHIN).then(|| {
        format!("the conditions have not been checked for {} s; please report this with the log", judged.as_secs())
    });
    let ready = unknown.is_none() && reports.iter().all(|report| report.troubles.is_empty());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if query.as_deref() == Some("format=json") {
        return json(status, &listed(ready, unknown.as_deref(), &reports));
    }
    if ready {
        // One tenant's receiver does not make the worker unready, but it is reported.
        let waits = s.telemetry.receivers().complaints(WAITS_AT_LEAST);
        let notes: String = waits.iter().map(|line| format!("note: {line}\n")).collect();
        return plain(status, &format!("ready\n{notes}"));
    }
    let mut lines: Vec<String> = unknown.into_iter().collect();
    for report in reports {
        let line = |trouble| format!("{}: {trouble} (not met for {} s)", report.condition.name(), report.seconds);
        lines.extend(report.troubles.iter().map(line));
    }
    let lines: String = lines.iter().map(|line| format!("{}\n", Shown(line))).collect();
    plain(status, &format!("not ready\n{lines}"))
}

/// All conditions.
fn listed(ready: bool, unknown: Option<&str>, reports: &[Report]) -> serde_json::Value {
    let condition = |report: &Report| {
        serde_json::json!({
            "condition": report.condition.name(),
            "holds": report.condition.holds(),
            "met": report.troubles.is_empty(),
            "since_ms": report.since,
            "seconds": report.seconds,
            "troubles": report.troubles,
        })
    };
    let conditions: Vec<_> = reports.iter().map(condition).collect();
    serde_json::json!({ "ready": ready, "unknown": unknown, "conditions": conditions })
}

async fn metrics(State(s): State<Arc<AdminState>>) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (StatusCode::OK, kind, harmless(&s.telemetry.render())).into_response()
}

/// Replaces control characters: the text format has no escape for those that control a terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || shows_itself(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

fn json(status: StatusCode, json: &serde_json::Value) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    // Inside of JSON, an escape means what it stands for.
    (status, headers, format!("{}\n", Shown(&json.to_string()))).into_response()
}

fn plain(status: StatusCode, text: &str) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (status, headers, ShownLines(text).to_string()).into_response()
}
