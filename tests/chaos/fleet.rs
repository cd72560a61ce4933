//! The workers: real processes of the program under test.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::Process;

/// A graceful stop may take this long: what the configuration allows, and a moment for a busy machine.
const STOPS_WITHIN: Duration = Duration::from_secs(45);
/// How many errors of the logs are shown.
const SHOWN: usize = 5;
/// What a log must not hold, whatever happens to a worker.
const FORBIDDEN: [&str; 4] = ["panicked", "please report", "is not a delta record", "were deleted"];

/// All workers of one group.
pub struct Fleet {
    slots: Vec<Slot>,
    program: PathBuf,
    config: PathBuf,
    dir: PathBuf,
    started: usize,
    sabotage: Option<&'static str>,
    /// Workers that ended by themselves, and why.
    pub exits: Vec<String>,
    /// Workers that did not stop as they should.
    pub stuck: Vec<String>,
    /// How long graceful stops took.
    pub stops: Vec<Duration>,
}

#[derive(Default)]
struct Slot {
    process: Option<Process>,
    stopping: Option<Instant>,
    /// Whether it has got the signal.
    asked: bool,
    /// When the last one here was killed, or had stopped after a signal.
    stopped: Option<Instant>,
    /// How many milliseconds the clock of a worker that starts here is ahead.
    ahead: i64,
}

/// What the logs of all workers tell.
#[derive(Debug, Default)]
pub struct Told {
    pub fenced: u64,
    pub forced: u64,
    pub errors: u64,
    /// Some of them. A receiver that refuses a series for good is an error, rightly.
    pub first_errors: Vec<String>,
    /// Lines that must not be there.
    pub forbidden: Vec<String>,
}

// === impl Fleet ===

impl Fleet {
    /// `slots` places for workers with this configuration; no worker runs yet.
    pub fn new(slots: usize, program: &Path, config: PathBuf, dir: &Path) -> Self {
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            program: program.to_owned(),
            config,
            dir: dir.to_owned(),
            started: 0,
            sabotage: None,
            exits: Vec::new(),
            stuck: Vec::new(),
            stops: Vec::new(),
        }
    }

    /// The same, but workers start with this rule of the protocol switched off.
    pub fn sabotaged(self, rule: Option<&'static str>) -> Self {
        Self { sabotage: rule, ..self }
    }

    /// Workers that start from now on run this program.
    pub fn upgrade(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Starts a worker in a place where none is.
    pub fn start(&mut self, slot: usize) {
        let mut command = Command::new(&self.program);
        command.args(["run", "--config"]).arg(&self.config);
        self.launch(slot, command);
    }

    /// Starts one whose clock is so many milliseconds ahead. It must be a build that can do that.
    pub fn start_with_clock(&mut self, slot: usize, ahead: i64) {
        self.slots[slot].ahead = ahead;
        self.start(slot);
    }

    /// Starts one that the group knows nothing of, see [`crate::rogue`].
    pub fn start_rogue(&mut self, slot: usize) {
        let config = self.config.clone();
        self.start_rogue_with(slot, &config);
    }

    /// The same, with a configuration of its own.
    pub fn start_rogue_with(&mut self, slot: usize, config: &Path) {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("--rogue").arg(config);
        self.launch(slot, command);
    }

    fn launch(&mut self, slot: usize, mut command: Command) {
        assert!(self.slots[slot].process.is_none(), "there is a worker in place {slot}");
        self.started += 1;
        if let Some(rule) = self.sabotage {
            command.env("SABOTAGE", rule);
        }
        if self.slots[slot].ahead != 0 {
            command.env("SABOTAGE_CLOCK", self.slots[slot].ahead.to_string());
        }
        let name = format!("worker-{slot}-{}", self.started);
        self.slots[slot].process = Some(Process::start(&name, &mut command, &self.dir));
    }

    /// Whether a worker runs there that was not asked to stop.
    pub fn runs(&self, slot: usize) -> bool {
        self.slots[slot].process.is_some() && self.slots[slot].stopping.is_none()
    }

    /// Whether the place is empty.
    pub fn is_free(&self, slot: usize) -> bool {
        self.slots[slot].process.is_none()
    }

    /// How long the place has been empty; none when there is a worker, or never was one.
    pub fn empty_for(&self, slot: usize) -> Option<Duration> {
        self.slots[slot].stopped.filter(|_| self.is_free(slot)).map(|since| since.elapsed())
    }

    /// Places.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// `kill -9`.
    pub fn kill(&mut self, slot: usize) {
        if let Some(mut process) = self.slots[slot].process.take() {
            process.kill();
        }
        self.slots[slot] = Slot { stopped: Some(Instant::now()), ..Slot::default() };
    }

    /// Sends a signal to the worker that runs there.
    pub fn signal(&self, slot: usize, name: &str) {
        if let Some(process) = &self.slots[slot].process {
            process.signal(name);
        }
    }

    /// Sends SIGTERM to the worker that runs there, as soon as it has begun: before, no program can stop gracefully. The place
    /// becomes free when the worker has ended.
    pub fn stop(&mut self, slot: usize) {
        if self.runs(slot) {
            self.slots[slot].stopping = Some(Instant::now());
            self.slots[slot].asked = false;
            self.ask_to_stop(slot);
        }
    }

    fn ask_to_stop(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        if let Some(process) = place.process.as_ref().filter(|process| !place.asked && !process.log().is_empty()) {
            process.signal("TERM");
            (place.stopping, place.asked) = (Some(Instant::now()), true);
        }
    }

    /// Looks after all processes. A worker that ends by itself is noted, and started again as an orchestrator does.
    pub fn tend(&mut self) {
        for at in 0..self.slots.len() {
            if self.slots[at].stopping.is_some() {
                self.ask_to_stop(at);
            }
            let slot = &mut self.slots[at];
            let Some(process) = &mut slot.process else { continue };
            match (process.exited(), slot.stopping) {
                (None, Some(since)) if since.elapsed() > STOPS_WITHIN => {
                    self.stuck.push(format!("no end after SIGTERM\n{}", process.tail(20)));
                    self.kill(at);
                }
                (None, _) => {}
                (Some(status), Some(since)) => {
                    if status.code() != Some(0) {
                        self.stuck.push(format!("a graceful stop ended with {status}\n{}", process.tail(20)));
                    }
                    self.stops.push(since.elapsed());
                    *slot = Slot { stopped: Some(Instant::now()), ..Slot::default() };
                }
                (Some(status), None) => {
                    self.exits.push(format!("ended by itself with {status}\n{}", process.tail(5)));
                    *slot = Slot { ahead: slot.ahead, ..Slot::default() };
                    self.start(at);
                }
            }
        }
    }

    /// The own metrics of every worker that answers.
    pub fn metrics(&self) -> Vec<String> {
        let running = self.slots.iter().filter_map(|s| s.process.as_ref());
        running.filter_map(|p| ask(&p.log(), "/metrics")).collect()
    }

    /// What the worker in this place says about being ready: status and text.
    pub fn readiness(&self, slot: usize) -> Option<String> {
        ask(&self.slots[slot].process.as_ref()?.log(), "/readyz")
    }

    /// The sum over all workers of the lines of a metric that start so.
    pub fn sum(&self, series: &str) -> u64 {
        let texts = self.metrics();
        let lines = texts.iter().flat_map(|t| t.lines()).filter_map(|l| l.strip_prefix(series));
        lines.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Reads the logs of all workers that ever ran.
    pub fn told(&self) -> Told {
        let mut told = Told::default();
        for entry in std::fs::read_dir(&self.dir).expect("a directory of ours").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("worker-") || !name.ends_with(".log") {
                continue;
            }
            let text = std::fs::read(entry.path()).unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines() {
                told.fenced += u64::from(line.contains("another worker has claimed its journal"));
                told.forced += u64::from(line.contains("closing a step without the stalled partitions"));
                if line.contains(" ERROR ") {
                    told.errors += 1;
                    if told.first_errors.len() < SHOWN {
                        told.first_errors.push(format!("{name}: {line}"));
                    }
                }
                // The rogue is in a consumer group of its own, which has no offsets: its repartition stage must refuse to begin.
                let refuses = line.contains("-repartition has no offsets of topic");
                if !refuses && FORBIDDEN.iter().any(|word| line.contains(word)) {
                    told.forbidden.push(format!("{name}: {line}"));
                }
            }
        }
        told
    }

    /// Where the logs are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The logs of all that run.
    pub fn logs(&self) -> String {
        self.slots.iter().filter_map(|s| s.process.as_ref()).map(Process::log).collect()
    }

    /// The last lines of the logs of all that run.
    pub fn tails(&self, most: usize) -> String {
        let running = self.slots.iter().filter_map(|s| s.process.as_ref());
        running.map(|p| p.tail(most)).collect::<Vec<_>>().join("\n")
    }
}

/// What the worker with this log answers to a request for a path, all of it.
fn ask(log: &str, path: &str) -> Option<String> {
    let (_, rest) = log.split_once("admin server listening addr=")?;
    let address = rest.split_whitespace().next()?;
    let mut socket = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(1)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    Some(text)
}
