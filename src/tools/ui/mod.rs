//! The page of the service map: `spanmill ui`, `demo` and `replay --files --ui` serve it.
//!
//! * *In:* a [`Map`] that others fill. *Out:* the page, and the JSON API beneath it (`docs/openapi.yaml`). *Owner:* the
//!   command; it runs on a thread of its own. *Never:* a change to anything; a request to anywhere else.
//!
//! A client that reaches the port sees all tenants: it listens on the loopback interface by default, and answers
//! there only to names of this machine, so that no foreign page can read it through a browser.

mod answer;
mod assets;
pub mod follow;
mod routes;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::config::settings::{Secret, ServerTls};
use crate::core::model::Millis;
use crate::tools::map::Map;
use crate::worker::admin::guard::{self, Guard};
use crate::worker::admin::serve;
use crate::worker::admin::tls::Certificate;

pub use routes::PATHS;

/// In a link to a trace, this stands for its ID.
pub const TRACE_ID: &str = "{trace_id}";

/// A map that one thread fills and others query.
#[derive(Debug, Clone)]
pub struct SharedMap(Arc<Mutex<Map>>);

/// What a page receives besides the map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageSettings {
    /// The source of the map, as text.
    pub source: String,
    /// The address of a trace, with [`TRACE_ID`] in it.
    pub trace_url: Option<String>,
    /// How long an edge may take to appear: the wait for a peer, and two steps.
    pub edge_delay: Millis,
    /// Nothing more will come.
    pub finished: bool,
    /// Who is answered, and how.
    pub access: Access,
}

/// Who is answered, and how: without any of it, every client, without TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// What requests must bring; empty: nothing.
    pub token: Secret,
    /// The certificate of the page.
    pub tls: ServerTls,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Page {
    addr: SocketAddr,
    is_encrypted: bool,
    stop: Option<oneshot::Sender<()>>,
    server: JoinSet<()>,
    runtime: Option<Runtime>,
}

// === impl SharedMap ===

impl SharedMap {
    /// Shares a map.
    #[must_use]
    pub fn new(map: Map) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    /// The map, locked.
    pub fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl PageSettings ===

impl PageSettings {
    /// Checks the template of a link to a trace.
    ///
    /// # Errors
    /// When it is no such link.
    pub fn check_trace_url(url: &str) -> Result<String, String> {
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err("is no http:// or https:// URL".to_owned());
        }
        if !url.contains(TRACE_ID) {
            return Err(format!("does not contain {TRACE_ID}, which stands for the ID of the trace"));
        }
        Ok(url.to_owned())
    }
}

// === impl Page ===

impl Page {
    /// Serves the page at `listen`, such as `127.0.0.1:0`. Call it outside of any async runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the certificate cannot be used.
    pub fn start(listen: &str, map: SharedMap, settings: PageSettings) -> std::io::Result<Self> {
        let certificate = Certificate::of(&settings.access.tls).map_err(std::io::Error::other)?;
        let is_encrypted = certificate.is_some();
        let guard = Guard::new(&settings.access.token, &[]);
        let socket = TcpListener::bind(listen)?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("page").enable_all().build()?;
        let socket = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(socket)?
        };
        guard::warn_if_open(addr, &guard, "use --token-file, or keep the port inside of a trusted network");
        let router = routes::router(map, settings, addr, guard);
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = JoinSet::new();
        server.spawn_on(serve::serve(socket, router, certificate, stopped), runtime.handle());
        Ok(Self { addr, is_encrypted, stop: Some(stop), server, runtime: Some(runtime) })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http{}://{}/", if self.is_encrypted { "s" } else { "" }, self.addr)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.server.abort_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
