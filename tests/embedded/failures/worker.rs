//! The program under test, as a child process that can be killed, stopped, continued and asked.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::daemon::Daemon;
use super::scene::{PARTITIONS, SHARDS};
use super::{PATIENCE, wait_until};

/// A running worker.
pub struct Worker {
    name: String,
    daemon: Daemon,
}

// === impl Worker ===

impl Worker {
    /// Starts `spanmill run` with this configuration, and with settings of the environment.
    pub fn start(name: &str, config: &Path, settings: &[(&str, &str)]) -> Self {
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
        command.args(["run", "--config"]).arg(config).envs(settings.iter().copied());
        Self { name: name.to_owned(), daemon: Daemon::spawn(name, &mut command, dir) }
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.must_run();
        self.daemon.kill();
    }

    /// Sends a signal by its name.
    pub fn signal(&mut self, name: &str) {
        self.must_run();
        self.daemon.signal(name);
    }

    /// Sends SIGTERM; it must end well within that time.
    pub fn stop(&mut self, within: Duration) {
        self.must_run();
        let status = self.daemon.terminate(within);
        assert_eq!(status.code(), Some(0), "{}", self.tail());
    }

    /// Fails when it has ended.
    pub fn must_run(&mut self) {
        if let Some(status) = self.daemon.exited() {
            panic!("it ended with {status}:\n{}", self.tail());
        }
        assert!(!self.tail().contains("panicked"), "{}", self.tail());
    }

    /// Waits until it runs tasks of both stages.
    pub fn works(&mut self) {
        self.runs(|spans, shards| spans > 0 && shards > 0);
    }

    /// Waits until it runs every task that there is.
    pub fn works_alone(&mut self) {
        let all = [PARTITIONS, SHARDS].map(|n| u64::from(n.unsigned_abs()));
        self.runs(|spans, shards| [spans, shards] == all);
    }

    fn runs(&mut self, enough: impl Fn(u64, u64) -> bool) {
        let what = format!("{} runs enough tasks", self.name);
        wait_until(&what, PATIENCE, || {
            self.must_run();
            let running = |kind| self.metric(&format!("spanmill_tasks{{kind=\"{kind}\",state=\"running\"}}"));
            let (spans, shards) = (running("span")?, running("series")?);
            if enough(spans, shards) { Ok(()) } else { Err(format!("{spans} and {shards}\n{}", self.tail())) }
        });
    }

    /// A value of its own metrics: the sum over all lines that start so.
    pub fn metric(&self, series: &str) -> Result<u64, String> {
        let text = self.metrics()?;
        let lines = text.lines().filter_map(|l| l.strip_prefix(series));
        let values = lines.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }

    /// Whether it says that it is ready, and all that it says.
    pub fn ready(&self) -> Result<(bool, String), String> {
        let text = self.get("/readyz")?;
        Ok((text.starts_with("HTTP/1.1 200"), text))
    }

    /// Waits until it is not ready because of this condition; what it says.
    pub fn lacks(&mut self, condition: &str) -> String {
        let what = format!("{} lacks {condition}", self.name);
        wait_until(&what, PATIENCE, || {
            self.must_run();
            match self.ready()? {
                (false, text) if text.contains(&format!("\n{condition}: ")) => Ok(text),
                (_, text) => Err(format!("{text}\n{}", self.tail())),
            }
        })
    }

    /// Waits until it is ready.
    pub fn gets_ready(&mut self) {
        let what = format!("{} is ready", self.name);
        wait_until(&what, PATIENCE, || {
            self.must_run();
            match self.ready()? {
                (true, _) => Ok(()),
                (false, text) => Err(format!("{text}\n{}", self.tail())),
            }
        });
    }

    /// All its own metrics.
    pub fn metrics(&self) -> Result<String, String> {
        self.get("/metrics")
    }

    /// A metric of the ledgers of the partitions that it owns.
    pub fn owned(&self, metric: &str) -> Result<BTreeMap<String, u64>, String> {
        let (metrics, name) = (self.metrics()?, format!("{metric}{{"));
        let rows = metrics.lines().filter_map(|line| line.strip_prefix(&name));
        let own = rows.filter(|row| row.contains("state=\"owned\""));
        let values = own.filter_map(|row| {
            let (labels, value) = row.rsplit_once(' ')?;
            let partition = labels.split(',').find(|label| label.starts_with("partition="))?;
            Some((partition.to_owned(), value.parse::<f64>().ok()? as u64))
        });
        Ok(values.collect())
    }

    fn get(&self, path: &str) -> Result<String, String> {
        let log = self.log();
        let (_, rest) = log.split_once("admin server listening addr=").ok_or("no admin server yet")?;
        let address = rest.split_whitespace().next().ok_or("no address")?.to_owned();
        let mut socket = TcpStream::connect(&address).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut text = String::new();
        socket.read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok(text)
    }

    /// Resident memory in KiB; `None` where the system does not say.
    pub fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Whether its log has these words.
    pub fn says(&self, words: &str) -> bool {
        self.log().contains(words)
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        self.daemon.tail()
    }
}
