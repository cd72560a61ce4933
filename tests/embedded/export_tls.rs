//! Remote write over TLS: an authority of one's own, and a client certificate.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use spanmill::config::settings::{Protocol, RemoteWrite, Tls};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::worker::sender::{Delivered, Exporter};
use spanmill::worker::telemetry::Telemetry;

const LONG: Duration = Duration::from_secs(60);

/// An authority, and the files that it has written.
pub(crate) struct House {
    dir: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl House {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self { dir, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.authority).unwrap();
        (cert, key)
    }

    /// A server that offers HTTP/2 before HTTP/1.1, and answers 204 to everything: its address, and the number of requests
    /// and of connections, in HTTP/2 and in HTTP/1.1.
    fn serve_both(&self) -> (SocketAddr, Arc<Mutex<[[u64; 2]; 2]>>) {
        let (cert, key) = self.issue("localhost");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let single = builder.unwrap().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
        let mut config = single.unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<[[u64; 2]; 2]>>::default());
        let counts = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((socket, _)) = listener.accept().await {
                    let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counts));
                    connections.spawn(async move {
                        if let Ok(tls) = acceptor.accept(socket).await {
                            answer_both(tls, &counts).await;
                        }
                    });
                }
            });
        });
        (addr, seen)
    }

    /// A server that answers 204 to everything it can read over TLS.
    pub(crate) fn serve(&self, client_certificate: bool) -> SocketAddr {
        let (cert, key) = self.issue("localhost");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.der().to_vec())).unwrap();
        let builder = if client_certificate {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.unwrap().with_client_cert_verifier(verifier)
        } else {
            builder.unwrap().with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                std::thread::spawn(move || answer(socket, config));
            }
        });
        addr
    }
}

/// A client that is refused goes away in the middle; that is no failure of the server.
fn answer(socket: TcpStream, config: Arc<ServerConfig>) {
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
    let mut request = [0; 4096];
    while tls.read(&mut request).is_ok_and(|n| n > 0) {
        if tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").and_then(|()| tls.flush()).is_err() {
            return;
        }
    }
}

async fn answer_both(tls: tokio_rustls::server::TlsStream<tokio::net::TcpStream>, counts: &Mutex<[[u64; 2]; 2]>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let second = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let count = |what: usize| counts.lock().unwrap()[usize::from(!second)][what] += 1;
    count(1);
    if !second {
        let (mut tls, mut request) = (tls, [0; 4096]);
        while tls.read(&mut request).await.is_ok_and(|n| n > 0) {
            count(0);
            drop(tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await);
            drop(tls.flush().await);
        }
        return;
    }
    // Of connections that begin at once, a client keeps one.
    let Ok(mut connection) = h2::server::handshake(tls).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        count(0);
        let answer = axum::http::Response::builder().status(204).body(()).unwrap();
        drop(respond.send_response(answer, true));
    }
}

#[test]
fn http_2_is_used_where_it_is_asked_for_and_offered_and_all_requests_share_a_connection() {
    let h = House::new();
    let (addr, seen) = h.serve_both();
    let deliver = |enable_http2: bool| {
        let tls = Tls { ca_file: Some(h.path("ca.pem")), ..Tls::default() };
        let url = format!("https://localhost:{}/api/v1/write", addr.port());
        let (protocol, metadata_interval) = (Protocol::V1, 0);
        let cfg = RemoteWrite { url, tls, enable_http2, protocol, metadata_interval, ..RemoteWrite::default() };
        let exporter = Exporter::start(&cfg, Telemetry::new()).unwrap();
        let (sender, done) = mpsc::channel();
        let senders: Vec<_> = (0..4)
            .map(|shard| {
                let sender = sender.clone();
                exporter.open(shard, Box::new(move |d| drop(sender.send(d))))
            })
            .collect();
        for step in (1..=4).map(|i| i * 15_000) {
            // The first step goes out alone: the others find its connection.
            let senders = if step == 15_000 { &senders[..1] } else { &senders[..] };
            for sender in senders {
                let request = Request::compress(&[0x0a, 0x02, 0x12, 0x00], 1, 1, 0, &mut snap::raw::Encoder::new());
                let requests = vec![request];
                sender
                    .try_send(StepBatch {
                        tenant: "single-tenant".into(),
                        step,
                        endpoint: None,
                        resend: false,
                        requests,
                    })
                    .unwrap();
            }
            for _ in senders {
                assert_eq!(done.recv_timeout(LONG).unwrap().acknowledged, 1);
            }
        }
    };
    deliver(false);
    let [second, first] = *seen.lock().unwrap();
    assert_eq!((second, first[0]), ([0, 0], 13), "not unless it is asked for");
    deliver(true);
    let [second, first] = *seen.lock().unwrap();
    assert_eq!((second, first[0]), ([13, 1], 13));
}

/// Sends one small batch; what became of it, or how often it was tried again within a while.
fn send(addr: SocketAddr, tls: Tls, patience: u64) -> Result<Delivered, String> {
    let url = format!("https://localhost:{}/api/v1/write", addr.port());
    let cfg = RemoteWrite { url, tls, min_backoff: 1, max_backoff: 5, ..RemoteWrite::default() };
    let telemetry = Telemetry::new();
    let exporter = Exporter::start(&cfg, telemetry.clone()).map_err(|e| e.to_string())?;
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(0, Box::new(move |d| drop(sender.send(d))));
    let request = Request::compress(&[0x0a, 0x02, 0x12, 0x00], 1, 1, 0, &mut snap::raw::Encoder::new());
    let batch = StepBatch {
        tenant: "single-tenant".into(),
        endpoint: None,
        step: 15_000,
        resend: false,
        requests: vec![request],
    };
    sender.try_send(batch).unwrap();
    loop {
        if let Ok(delivered) = done.recv_timeout(if patience == 0 { LONG } else { Duration::from_millis(5) }) {
            return Ok(delivered);
        }
        let text = telemetry.render();
        let tries = text.lines().find_map(|l| l.strip_prefix("spanmill_remote_write_retries_total ")).unwrap();
        if tries.parse::<u64>().unwrap() >= patience {
            return Err("no answer".to_owned());
        }
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let h = House::new();
    let addr = h.serve(false);
    let named = Tls { ca_file: Some(h.path("ca.pem")), ..Tls::default() };
    assert_eq!(send(addr, named, 0).unwrap().acknowledged, 1);
    let unchecked = Tls { insecure_skip_verify: true, ..Tls::default() };
    assert_eq!(send(addr, unchecked, 0).unwrap().acknowledged, 1);
    let other = House::new();
    let wrong = Tls { ca_file: Some(other.path("ca.pem")), ..Tls::default() };
    assert_eq!(send(addr, wrong, 3), Err("no answer".to_owned()), "a stranger gets no samples");
}

#[test]
fn a_client_certificate_opens_the_door() {
    let h = House::new();
    let addr = h.serve(true);
    let (cert, key) = h.issue("spanmill");
    let write = |name: &str, text: String| -> Option<PathBuf> {
        std::fs::write(h.path(name), text).unwrap();
        Some(h.path(name))
    };
    let ca_file = Some(h.path("ca.pem"));
    let bare = Tls { ca_file: ca_file.clone(), ..Tls::default() };
    assert_eq!(send(addr, bare, 3), Err("no answer".to_owned()));
    let (cert_file, key_file) = (write("cert.pem", cert.pem()), write("key.pem", key.serialize_pem()));
    let known = Tls { ca_file, cert_file, key_file, ..Tls::default() };
    assert_eq!(send(addr, known, 0).unwrap().acknowledged, 1);
}

#[test]
fn an_authority_and_a_client_certificate_that_are_renewed_in_their_files_are_used_by_the_next_attempt() {
    let (h, stranger) = (House::new(), House::new());
    let addr = h.serve(true);
    let write = |name: &str, text: &str| {
        std::fs::write(h.path(name), text).unwrap();
        Some(h.path(name))
    };
    let (cert, key) = stranger.issue("spanmill");
    let old = [stranger.authority.pem(), cert.pem(), key.serialize_pem()];
    let [ca_file, cert_file, key_file] =
        [("own-ca.pem", &old[0]), ("cert.pem", &old[1]), ("key.pem", &old[2])].map(|(name, text)| write(name, text));
    let tls = Tls { ca_file, cert_file, key_file, ..Tls::default() };
    let url = format!("https://localhost:{}/api/v1/write", addr.port());
    let cfg = RemoteWrite { url, tls, min_backoff: 1, max_backoff: 5, ..RemoteWrite::default() };
    let telemetry = Telemetry::new();
    let exporter = Exporter::start(&cfg, telemetry.clone()).unwrap();
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(0, Box::new(move |d| drop(sender.send(d))));
    let request = Request::compress(&[0x0a, 0x02, 0x12, 0x00], 1, 1, 0, &mut snap::raw::Encoder::new());
    sender
        .try_send(StepBatch {
            tenant: "single-tenant".into(),
            endpoint: None,
            step: 15_000,
            resend: false,
            requests: vec![request],
        })
        .unwrap();
    while telemetry.receivers().snapshot().first().is_none_or(|receiver| receiver.waiting.is_none()) {
        std::thread::yield_now();
    }
    let (cert, key) = h.issue("spanmill");
    for (name, text) in [("own-ca.pem", h.authority.pem()), ("cert.pem", cert.pem()), ("key.pem", key.serialize_pem())]
    {
        // Their length tells them from what was there, whatever the clock of the file system says.
        write(name, &format!("{text}\n"));
    }
    assert_eq!(done.recv_timeout(LONG).unwrap().acknowledged, 1);
}

/// Sends one small batch to `url`, which is not taken; why it waits, in one word, and what to do.
fn waits(url: String) -> (&'static str, Arc<str>) {
    let cfg = RemoteWrite { url, min_backoff: 1, max_backoff: 5, ..RemoteWrite::default() };
    let telemetry = Telemetry::new();
    let exporter = Exporter::start(&cfg, telemetry.clone()).unwrap();
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(0, Box::new(move |d| drop(sender.send(d))));
    let request = Request::compress(&[0x0a, 0x02, 0x12, 0x00], 1, 1, 0, &mut snap::raw::Encoder::new());
    sender
        .try_send(StepBatch {
            tenant: "single-tenant".into(),
            endpoint: None,
            step: 15_000,
            resend: false,
            requests: vec![request],
        })
        .unwrap();
    let mut tries = 0;
    loop {
        assert_eq!(
            done.recv_timeout(Duration::from_millis(10)),
            Err(mpsc::RecvTimeoutError::Timeout),
            "nothing is lost"
        );
        if let Some(waiting) = telemetry.receivers().snapshot().first().and_then(|receiver| receiver.waiting.clone()) {
            return (waiting.reason, waiting.remedy);
        }
        tries += 1;
        assert!(tries < 6_000, "it is not said");
    }
}

/// A server that says this to every request, without TLS.
pub(crate) fn says(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 4096];
            if socket.read(&mut request).is_ok() {
                drop(socket.write_all(answer.as_bytes()));
            }
        }
    });
    addr
}

#[test]
fn plain_http_to_a_port_for_tls_waits_and_says_to_write_https() {
    let text = "Client sent an HTTP request to an HTTPS server.\n";
    let answer = format!("HTTP/1.0 400 Bad Request\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let (reason, remedy) = waits(format!("http://{}/api/v1/write", says(answer.leak())));
    assert_eq!(reason, "unreachable");
    assert!(remedy.contains("https://"), "{remedy}");
}

#[test]
fn tls_to_a_port_for_plain_http_says_to_write_http() {
    let (reason, remedy) = waits(format!("https://{}/api/v1/write", says("HTTP/1.1 400 Bad Request\r\n\r\n")));
    assert_eq!(reason, "unreachable");
    assert!(remedy.contains("write http://"), "{remedy}");
}

#[test]
fn a_certificate_of_a_stranger_is_called_that() {
    let addr = House::new().serve(false);
    let (reason, remedy) = waits(format!("https://localhost:{}/api/v1/write", addr.port()));
    assert_eq!(reason, "unreachable");
    assert!(remedy.contains("remote_write.tls.ca_file"), "{remedy}");
}

#[test]
fn a_file_that_is_not_pem_is_named_with_its_key() {
    let h = House::new();
    std::fs::write(h.path("odd.pem"), "not a certificate").unwrap();
    let identity = Tls { cert_file: Some(h.path("odd.pem")), key_file: Some(h.path("odd.pem")), ..Tls::default() };
    let error = send(SocketAddr::from(([127, 0, 0, 1], 1)), identity, 1).unwrap_err();
    assert!(error.contains("remote_write.tls.cert_file") && error.contains("odd.pem"), "{error}");
    let empty = |p: &Path| Tls { ca_file: Some(p.to_owned()), ..Tls::default() };
    let error = send(SocketAddr::from(([127, 0, 0, 1], 1)), empty(&h.path("odd.pem")), 1).unwrap_err();
    assert!(error.contains("remote_write.tls.ca_file") && error.contains("odd.pem"), "{error}");
}
