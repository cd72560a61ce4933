//! Receivers of remote write: Prometheus and VictoriaMetrics.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::api::Api;
use super::daemon::{Daemon, free_ports, setting, start};

const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A Prometheus that scrapes nothing and takes remote write, exemplars and native histograms.
pub struct RealPrometheus {
    /// Its API.
    pub api: Api,
    /// Where it listens.
    pub port: u16,
    _daemon: Daemon,
}

/// A single-node VictoriaMetrics.
pub struct RealVictoria {
    /// Its API.
    pub api: Api,
    _daemon: Daemon,
}

// === impl RealPrometheus ===

impl RealPrometheus {
    /// Starts it with native histograms and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(None, "exemplar-storage,native-histograms")
    }

    /// Starts it with these features, on a port that was another one's if there is one.
    pub fn start_with(port: Option<u16>, features: &str) -> Self {
        Self::start_over(port, features, "global: {}\n", |_| {})
    }

    /// Starts it with this configuration over the data that `fill` puts into its directory.
    pub fn start_over(port: Option<u16>, features: &str, text: &str, fill: impl Fn(&Path)) -> Self {
        let (daemon, (port, api)) = start(
            "prometheus",
            STARTS_WITHIN,
            |dir| {
                let config = dir.path().join("prometheus.yml");
                std::fs::write(&config, text).expect("a file can be written");
                fill(&dir.path().join("data"));
                let port = port.unwrap_or_else(|| free_ports::<1>()[0]);
                let mut command = Command::new(setting("TEST_PROMETHEUS"));
                command
                    .arg(format!("--config.file={}", config.display()))
                    .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
                    .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                    .args(["--web.enable-remote-write-receiver", &format!("--enable-feature={features}")])
                    // An instant query then shows the last value of a series, however slow the machine.
                    .arg("--query.lookback-delta=1h");
                (command, (port, Api::new(&format!("127.0.0.1:{port}"))))
            },
            |(_, api)| ready(api, "/-/ready"),
        );
        Self { api, port, _daemon: daemon }
    }
}

// === impl RealVictoria ===

impl RealVictoria {
    /// Starts it and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with("100y")
    }

    /// Starts it; it keeps samples for so long.
    pub fn start_with(retention: &str) -> Self {
        let (daemon, api) = start(
            "victoriametrics",
            STARTS_WITHIN,
            |dir| {
                let [port] = free_ports();
                let mut command = Command::new(setting("TEST_VICTORIAMETRICS"));
                command
                    .arg(format!("-storageDataPath={}", dir.path().join("data").display()))
                    .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
                    .args([&format!("-retentionPeriod={retention}"), "-dedup.minScrapeInterval=1ms"])
                    // An instant query sees the newest sample, and an old one too.
                    .args(["-search.latencyOffset=0s", "-search.maxStalenessInterval=1h", "-search.disableCache"]);
                (command, Api::new(&format!("127.0.0.1:{port}")))
            },
            |api| ready(api, "/health"),
        );
        Self { api, _daemon: daemon }
    }

    /// Makes everything that was written visible to queries.
    pub fn flush(&self) {
        assert_eq!(self.api.status("/internal/force_flush"), Ok(200));
    }
}

fn ready(api: &Api, path: &str) -> Result<(), String> {
    match api.status(path)? {
        200 => Ok(()),
        status => Err(format!("{path} answers {status}")),
    }
}
