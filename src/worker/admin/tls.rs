//! The certificate of a server: it is read again when its files change.

#![allow(clippy::disallowed_methods, reason = "an edge: how often files are read is a matter of the clock")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::settings::ServerTls;

/// How often files are looked at, at most, while there are connections.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}; use a PEM file of a {what}")]
pub struct CertificateError {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub problem: String,
    /// What it should hold.
    pub what: &'static str,
}

/// A certificate and its key, as their files are now.
pub struct Certificate {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    /// What was read last, whether it could be used or not.
    read: (Vec<u8>, Vec<u8>),
    looked: Instant,
    config: Arc<ServerConfig>,
}

// === impl Certificate ===

impl Certificate {
    /// The certificate of these files; `None` without files.
    ///
    /// # Errors
    /// When a file cannot be read, or is no certificate, or no key of it.
    pub fn of(tls: &ServerTls) -> Result<Option<Arc<Self>>, CertificateError> {
        let (Some(cert_file), Some(key_file)) = (&tls.cert_file, &tls.key_file) else { return Ok(None) };
        let read = (read(cert_file, "certificate chain")?, read(key_file, "private key")?);
        let config = Arc::new(config(&read, (cert_file, key_file))?);
        let current = Mutex::new(Current { read, looked: Instant::now(), config });
        Ok(Some(Arc::new(Self { cert_file: cert_file.clone(), key_file: key_file.clone(), current })))
    }

    /// What the next connection uses. Files that cannot be used leave it as it was.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            self.look(&mut current);
        }
        Arc::clone(&current.config)
    }

    fn look(&self, current: &mut Current) {
        let both =
            read(&self.cert_file, "certificate chain").and_then(|c| Ok((c, read(&self.key_file, "private key")?)));
        let new = match both {
            Ok(both) if both == current.read => return,
            Ok(both) => {
                let new = config(&both, (&self.cert_file, &self.key_file));
                // Between the replacements of the two files they do not fit; what is wrong is logged once per content.
                current.read = both;
                new
            }
            Err(error) => {
                let nothing = (Vec::new(), Vec::new());
                if current.read == nothing {
                    return;
                }
                current.read = nothing;
                Err(error)
            }
        };
        match new {
            Ok(config) => {
                current.config = Arc::new(config);
                tracing::info!(file = %self.cert_file.display(), "reloaded the certificate of the server");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot reload the certificate of the server, keeping the previous one");
            }
        }
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("cert_file", &self.cert_file).finish_non_exhaustive()
    }
}

fn read(file: &Path, what: &'static str) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(file).map_err(|error| wrong(file, error.to_string(), what))
}

fn wrong(file: &Path, problem: String, what: &'static str) -> CertificateError {
    CertificateError { file: file.display().to_string(), problem, what }
}

fn config(
    (chain, key): &(Vec<u8>, Vec<u8>),
    (cert_file, key_file): (&Path, &Path),
) -> Result<ServerConfig, CertificateError> {
    let certificate = |problem: String| wrong(cert_file, problem, "certificate chain");
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|e| certificate(e.to_string()))?;
    if certificates.is_empty() {
        return Err(certificate("there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| wrong(key_file, e.to_string(), "private key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| certificate(e.to_string()))?.with_no_client_auth();
    let mut config = builder.with_single_cert(certificates, key).map_err(|e| certificate(e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renew(tls: &ServerTls) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(tls.cert_file.as_ref().expect("a path"), certificate.pem()).expect("a file");
        std::fs::write(tls.key_file.as_ref().expect("a path"), key.serialize_pem()).expect("a file");
    }

    #[test]
    fn a_certificate_follows_its_files_and_stays_while_they_are_wrong() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name| Some(dir.path().join(name));
        let tls = ServerTls { cert_file: file("cert.pem"), key_file: file("key.pem") };
        assert!(Certificate::of(&ServerTls::default()).expect("no files").is_none());
        assert!(Certificate::of(&tls).is_err());
        renew(&tls);
        let certificate = Certificate::of(&tls).expect("a certificate").expect("there are files");
        let now = || {
            certificate.current.lock().expect("a lock").looked -= LOOK_EVERY;
            certificate.current()
        };
        let first = now();
        assert!(Arc::ptr_eq(&first, &now()), "nothing has changed");
        std::fs::write(tls.key_file.as_ref().expect("a path"), "no key").expect("a file");
        assert!(Arc::ptr_eq(&first, &now()), "the key is none");
        std::fs::remove_file(tls.key_file.as_ref().expect("a path")).expect("it was there");
        assert!(Arc::ptr_eq(&first, &now()) && Arc::ptr_eq(&first, &now()), "the key is gone");
        renew(&tls);
        let second = now();
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &now()));
    }
}
