//! The HTTP client of a receiver. It is rebuilt when a file of its TLS settings has changed, so that a certificate that is
//! renewed is used by the next attempt.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use reqwest::Url;

use crate::config::settings::RemoteWrite;

use super::ExportError;
use super::client::http;

/// Makes clients.
pub(super) struct Connector {
    cfg: RemoteWrite,
    url: Url,
    current: Mutex<(Stamp, reqwest::Client)>,
}

/// The state of the files: time of the last change, and length.
type Stamp = Vec<Option<(SystemTime, u64)>>;

// === impl Connector ===

impl Connector {
    pub(super) fn new(cfg: &RemoteWrite, url: &Url) -> Result<Self, ExportError> {
        // Checked first: the next attempt sees a change that happens meanwhile.
        let stamp = stamp(cfg);
        let current = Mutex::new((stamp, http(cfg, url)?));
        Ok(Self { cfg: cfg.clone(), url: url.clone(), current })
    }

    /// The client for the next attempt. Files that cannot be used leave it as it was.
    pub(super) fn client(&self) -> reqwest::Client {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.cfg);
        if stamp != current.0 {
            match http(&self.cfg, &self.url) {
                Ok(client) => {
                    tracing::info!(receiver = self.url.host_str(), "reloaded the TLS files of remote_write");
                    current.1 = client;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot reload the TLS files of remote_write, keeping the previous ones");
                }
            }
            current.0 = stamp;
        }
        current.1.clone()
    }
}

fn stamp(cfg: &RemoteWrite) -> Stamp {
    let files: [&Option<PathBuf>; 3] = [&cfg.tls.ca_file, &cfg.tls.cert_file, &cfg.tls.key_file];
    let looked = files.into_iter().flatten().map(std::fs::metadata);
    looked.map(|file| file.ok().and_then(|file| Some((file.modified().ok()?, file.len())))).collect()
}
