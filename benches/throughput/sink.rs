//! A receiver of remote write that stores nothing.

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::runtime::Runtime;

/// A running receiver, with one thread.
pub struct Sink {
    /// Where to send to.
    pub url: String,
    _runtime: Runtime,
}

impl Sink {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("loopback has a free port");
        let url = format!("http://{}/api/v1/write", listener.local_addr().expect("it is bound"));
        let take = |body: Bytes| async move {
            drop(body);
            StatusCode::NO_CONTENT
        };
        let app = Router::new().route("/api/v1/write", post(take)).layer(DefaultBodyLimit::disable());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, _runtime: runtime }
    }
}
