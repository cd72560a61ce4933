//! A client certificate that is replaced while a worker runs, on a Kafka that wants one: no restart, and exact.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

use super::place::{Place, says};
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Each has a name of its own: OpenSSL takes a certificate with the name of its authority for that.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> Authority {
    let mut params = named(name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A certificate and its key.
fn issue(by: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let cert = named(name).signed_by(&key, by).expect("signed");
    (cert.pem(), key.serialize_pem())
}

/// As programs do that renew certificates.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(&new, path).expect("on the same file system");
}

#[test]
fn a_worker_on_kafka_takes_a_new_client_certificate_over_without_a_restart_and_stays_exact_when_the_old_one_is_refused()
{
    let dir = TempDir::with_prefix("spanmill-test-").expect("a directory");
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let (of_server, old, new) = (authority("of-server"), authority("old"), authority("new"));
    let (cert, key) = issue(&of_server, "127.0.0.1");
    replace(&path("broker.pem"), &(key + &cert));
    replace(&path("trusted.pem"), &(old.pem() + &new.pem()));
    replace(&path("ca.pem"), &of_server.pem());
    let (cert, key) = issue(&old, "worker");
    replace(&path("cert.pem"), &cert);
    replace(&path("key.pem"), &key);
    let (kafka, guarded) = RealKafka::start_with_tls(&path("broker.pem"), &path("trusted.pem"));
    let mut place = Place::start_on(kafka, "rotated", 2);
    let property = |name: &str, file: &str| format!("kafka.properties.ssl.{name}.location={}", path(file).display());
    let settings = [
        format!("kafka.brokers={guarded}"),
        "kafka.properties.security.protocol=ssl".to_owned(),
        property("ca", "ca.pem"),
        property("certificate", "cert.pem"),
        property("key", "key.pem"),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut worker = place.worker("worker", &settings);
    let produce = place.produce(&["--rate", "300", "--seed", "3"]);
    wait_until("samples come", PATIENCE, || match place.calls() {
        calls if calls > 0.0 => Ok(()),
        _ => Err(worker.tail()),
    });

    let (cert, key) = issue(&new, "worker");
    replace(&path("cert.pem"), &cert);
    // A key of another certificate is not taken over, and the worker goes on.
    says(&mut worker, "cannot be used, keeping the former content; correct them");
    replace(&path("key.pem"), &key);
    says(&mut worker, "all clients are replaced");
    let before = place.calls();
    wait_until("samples come from the new clients", PATIENCE, || match place.calls() {
        calls if calls > before => Ok(()),
        _ => Err(worker.tail()),
    });
    // Now who does not have it cannot come back.
    replace(&path("trusted.pem"), &new.pem());
    place.kafka.damage(|_| ());
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
}
