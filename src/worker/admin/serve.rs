//! Connections: a limited number, and none that holds an incomplete request.
//!
//! A client that reaches the port must not exhaust the file descriptors or the memory of the process, or keep a probe out. So a
//! handshake and a request must be complete within a timeout, a request is small, and when there are too many connections, the
//! oldest one is closed for the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::tls::Certificate;

/// The maximum number of connections.
const MAX_CONNECTIONS: usize = 64;
/// The timeout of the head of a request, and of an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of the head of a request.
const MAX_HEAD: usize = 16 << 10;
/// The most headers of a request.
const MAX_HEADERS: usize = 64;
/// The pause after an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stopped`, over TLS if there is a certificate; then finishes the answers that are being written.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    certificate: Option<Arc<Certificate>>,
    stopped: oneshot::Receiver<()>,
) {
    let (stop, _) = watch::channel(false);
    let mut connections = Connections { tasks: JoinSet::new(), oldest_first: VecDeque::new() };
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (router, stop) = (router.clone(), stop.subscribe());
                    match &certificate {
                        None => connections.add(connection(stream, router, stop)),
                        Some(certificate) => connections.add(encrypted(stream, Arc::clone(certificate), router, stop)),
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "admin server cannot accept a connection, retrying");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stopped => {}
    }
    drop(listener);
    stop.send_replace(true);
    while connections.tasks.join_next().await.is_some() {}
}

struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

// === impl Connections ===

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.oldest_first.retain(|task| !task.is_finished());
        if self.oldest_first.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        self.oldest_first.push_back(self.tasks.spawn(connection));
    }
}

async fn encrypted(stream: TcpStream, certificate: Arc<Certificate>, router: Router, stop: watch::Receiver<bool>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(certificate.current());
    match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, router, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake of a client failed"),
        Err(_) => tracing::debug!("TLS handshake of a client took too long"),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = async { drop(stop.wait_for(|stop| *stop).await) } => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection closed");
    }
}
