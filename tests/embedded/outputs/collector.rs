//! A receiver of OTLP metrics over HTTP and over gRPC, which answers as it is told.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message as _;
use spanmill::config::settings::{OutputType, RemoteWrite};

use crate::otlp_metrics_as_samples::{Flat, of_otlp};

const PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// An answer to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    /// Stored.
    Stored,
    /// Stored, and no answer.
    StoredInSilence,
    /// Stored but for so many points.
    Partial(i64),
    /// Not stored: the status of HTTP, that of gRPC, and the seconds until it may come again.
    Refused(u16, i32, Option<u8>),
    /// Refused if it holds a service of this name, and stored otherwise.
    RefusedWith(&'static str),
}

/// What it has got.
#[derive(Default)]
pub(super) struct Inbox {
    says: VecDeque<Say>,
    /// The answer when none is left.
    usual: Option<Say>,
    pub(super) headers: Vec<HeaderMap>,
    pub(super) stored: Vec<ExportMetricsServiceRequest>,
    pub(super) refused: usize,
}

pub(super) struct Collector {
    pub(super) kind: OutputType,
    addr: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    pub(super) fn start(kind: OutputType) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("an address");
        let inbox = Arc::<Mutex<Inbox>>::default();
        let own = Arc::clone(&inbox);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            if kind == OutputType::OtlpHttp {
                let app = axum::Router::new().route("/v1/metrics", axum::routing::post(over_http)).with_state(own);
                drop(axum::serve(listener, app).await);
                return;
            }
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(over_grpc(socket, Arc::clone(&own)));
            }
        });
        Self { kind, addr, inbox, _runtime: runtime }
    }

    pub(super) fn settings(&self) -> RemoteWrite {
        let path = if self.kind == OutputType::OtlpHttp { "/v1/metrics" } else { "" };
        let url = format!("http://{}{path}", self.addr);
        RemoteWrite { kind: self.kind, url, min_backoff: 1, max_backoff: 20, ..RemoteWrite::default() }
    }

    pub(super) fn say(&self, says: &[Say]) {
        self.inbox.lock().expect("no panic").says.extend(says);
    }

    pub(super) fn usually(&self, say: Option<Say>) {
        self.inbox.lock().expect("no panic").usual = say;
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&Inbox) -> T) -> T {
        look(&self.inbox.lock().expect("no panic"))
    }

    /// Every sample, and that no two of a series and time differ.
    pub(super) fn samples(&self) -> Flat {
        self.with(|inbox| all_samples(&inbox.stored))
    }
}

/// Every sample of these requests, of which some may have come twice.
pub(super) fn all_samples<'a>(requests: impl IntoIterator<Item = &'a ExportMetricsServiceRequest>) -> Flat {
    let mut all = Flat::new();
    for request in requests {
        for (key, (value, start)) in of_otlp(request).0 {
            let before = all.insert(key.clone(), (value.clone(), start));
            assert!(before.is_none_or(|before| before.0 == value), "{key:?} has two values");
        }
    }
    all
}

fn inflated(gzip: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut out).expect("gzip");
    out
}

fn take(inbox: &Mutex<Inbox>, headers: HeaderMap, body: &[u8]) -> Say {
    let request = ExportMetricsServiceRequest::decode(&*inflated(body)).expect("a message");
    let mut inbox = inbox.lock().expect("no panic");
    let say = inbox.says.pop_front().or(inbox.usual).unwrap_or(Say::Stored);
    let say = match say {
        Say::RefusedWith(service) if format!("{request:?}").contains(service) => Say::Refused(400, 3, None),
        Say::RefusedWith(_) => Say::Stored,
        other => other,
    };
    inbox.headers.push(headers);
    match say {
        Say::Refused(..) => inbox.refused += 1,
        _ => inbox.stored.push(request),
    }
    say
}

fn response(say: Say) -> Vec<u8> {
    let Say::Partial(rejected_data_points) = say else { return Vec::new() };
    let error_message = "too many\nattributes".to_owned();
    let partial_success = Some(ExportMetricsPartialSuccess { rejected_data_points, error_message });
    ExportMetricsServiceResponse { partial_success }.encode_to_vec()
}

async fn over_http(State(inbox): State<Arc<Mutex<Inbox>>>, headers: HeaderMap, body: Bytes) -> Response {
    match take(&inbox, headers, &body) {
        Say::Refused(status, _, after) => {
            let status = StatusCode::from_u16(status).expect("legal");
            match after {
                Some(after) => (status, [("retry-after", after.to_string())], "busy").into_response(),
                None => (status, "bad").into_response(),
            }
        }
        Say::StoredInSilence => (StatusCode::BAD_GATEWAY, "gone").into_response(),
        say => ([("content-type", "application/x-protobuf")], response(say)).into_response(),
    }
}

async fn over_grpc(socket: tokio::net::TcpStream, inbox: Arc<Mutex<Inbox>>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    let mut calls = tokio::task::JoinSet::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let inbox = Arc::clone(&inbox);
        calls.spawn(async move {
            let (parts, mut body) = request.into_parts();
            assert_eq!(parts.uri.path(), PATH);
            let mut bytes = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                drop(body.flow_control().release_capacity(data.len()));
                bytes.extend_from_slice(&data);
            }
            assert_eq!(
                (bytes[0], u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize),
                (1, bytes.len() - 5)
            );
            let say = take(&inbox, parts.headers, &bytes[5..]);
            let head = axum::http::Response::builder().status(200).header("content-type", "application/grpc");
            if say == Say::StoredInSilence {
                return respond.send_reset(h2::Reason::INTERNAL_ERROR);
            }
            if let Say::Refused(_, code, after) = say {
                let mut head = head.header("grpc-status", code).header("grpc-message", "busy%20now");
                if let Some(after) = after {
                    head = head.header("grpc-status-details-bin", retry_info(after));
                }
                drop(respond.send_response(head.body(()).expect("legal"), true));
                return;
            }
            let Ok(mut out) = respond.send_response(head.body(()).expect("legal"), false) else { return };
            let message = response(say);
            let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
            drop(out.send_data(framed.into(), false));
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("legal"));
            drop(out.send_trailers(trailers));
        });
    }
}

/// `google.rpc.Status` with a `RetryInfo`, by hand.
fn retry_info(seconds: u8) -> String {
    use base64::Engine as _;
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let any = [&[0x0a, url.len() as u8][..], url, &[0x12, 4, 0x0a, 2, 0x08, seconds]].concat();
    let status = [&[0x08, 8, 0x1a, any.len() as u8][..], &any].concat();
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(status)
}
