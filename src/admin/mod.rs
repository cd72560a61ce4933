//! The admin server: `/healthz`, `/readyz`, `/metrics`, `/tenants`, `/offenders`, and `/` to
//! find them.
//!
//! *In:* the board, the registry, two probes. *Out:* HTTP answers. *Owner:* the process; it runs on a thread of its own.
//! *Never:* a change to anything: all it does is look.

mod ready;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::config::settings;
use crate::model::Millis;
use crate::telemetry::Telemetry;

/// How long a stop waits for answers that are being written.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

const INDEX: &str = "spanmill\n\n\
    /healthz  200 while the process works\n\
    /readyz   200 while everything it owns is restored, running and not far behind; 503 with the reasons otherwise\n\
    /metrics  its own metrics, in the Prometheus text format\n\
    /tenants  the tenants with settings of their own, and the version of these, as JSON\n\
    /offenders  when limits refuse label sets: the services and labels with the most values, as JSON\n";

/// Why the admin server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error(
        "admin.listen: cannot listen on {address:?}: {source}; choose a free host:port, or \"\" for no admin server"
    )]
    Listen {
        /// What the configuration says.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// No thread for it.
    #[error("admin: cannot start its thread: {0}")]
    Thread(std::io::Error),
}

/// How the server learns what the board does not say.
pub struct Probes {
    /// Whether the main loop still turns.
    pub alive: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether the worker is a member of its consumer group.
    pub joined: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A running admin server. Dropping it stops it at once.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinSet<()>,
    runtime: Option<Runtime>,
}

struct Shared {
    telemetry: Telemetry,
    probes: Probes,
    max_lag: Millis,
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
    /// When the address cannot be listened on.
    pub fn start(cfg: &settings::Admin, telemetry: Telemetry, probes: Probes) -> Result<Option<Self>, AdminError> {
        if cfg.listen.is_empty() {
            return Ok(None);
        }
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
        let shared = Arc::new(Shared { telemetry, probes, max_lag: cfg.ready_max_lag });
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = JoinSet::new();
        let socket = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(socket).map_err(listen)?
        };
        server.spawn_on(
            async move {
                let serve = axum::serve(socket, router(shared)).with_graceful_shutdown(async { drop(stopped.await) });
                if let Err(error) = serve.await {
                    tracing::error!(%error, "the admin server has stopped");
                }
            },
            runtime.handle(),
        );
        tracing::info!(%addr, "admin server listens");
        Ok(Some(Self { addr, stop: Some(stop), server, runtime: Some(runtime) }))
    }

    /// The address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no new connection, finishes the answers that are being written, and ends.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(runtime) = &self.runtime {
            let server = &mut self.server;
            let ended = runtime.block_on(async { tokio::time::timeout(STOP_TIMEOUT, server.join_next()).await });
            if ended.is_err() {
                tracing::debug!("an admin client keeps its connection; it is cut");
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

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(async || plain(StatusCode::OK, INDEX.to_owned())))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/tenants", get(tenants))
        .route("/offenders", get(offenders))
        .with_state(shared)
}

async fn healthz(State(s): State<Arc<Shared>>) -> Response {
    if (s.probes.alive)() {
        plain(StatusCode::OK, "ok\n".to_owned())
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, "the main loop has not turned for too long\n".to_owned())
    }
}

async fn tenants(State(s): State<Arc<Shared>>) -> Response {
    let o = s.telemetry.overrides();
    let json = serde_json::json!({ "version": o.version, "refused": o.refused, "tenants": o.tenants });
    (StatusCode::OK, [(CONTENT_TYPE, "application/json")], format!("{json}\n")).into_response()
}

async fn offenders(State(s): State<Arc<Shared>>) -> Response {
    let mut refused = 0;
    let mut labels = Vec::new();
    for (_, status) in s.telemetry.board().snapshot() {
        refused += status.limits.refused;
        labels.extend(status.limits.offenders);
    }
    // A service lies in one shard, so no label comes twice.
    labels.sort_by_key(|label| std::cmp::Reverse(label["values"].as_u64()));
    let json = serde_json::json!({ "label_sets_refused": refused, "labels": labels });
    (StatusCode::OK, [(CONTENT_TYPE, "application/json")], format!("{json}\n")).into_response()
}

async fn readyz(State(s): State<Arc<Shared>>) -> Response {
    let reasons = ready::reasons((s.probes.joined)(), &s.telemetry.board().snapshot(), s.max_lag);
    if reasons.is_empty() {
        plain(StatusCode::OK, "ready\n".to_owned())
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", reasons.join("\n")))
    }
}

async fn metrics(State(s): State<Arc<Shared>>) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (StatusCode::OK, kind, s.telemetry.render()).into_response()
}

fn plain(status: StatusCode, text: String) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}
