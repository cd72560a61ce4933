//! A child process that dies with its owner, and whose log is shown when a test fails.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::{child, wait_until};

/// How many lines of a log are shown.
const TAIL: usize = 80;

/// A running child.
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    /// Its files live as long as the child.
    dir: TempDir,
}

/// Reads an environment variable that `tests/run` sets.
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start these tests with tests/run"))
}

/// `N` ports on loopback that were free a moment ago, and that no other test of this process gets. They lie below those that
/// connections are given: a server takes seconds to bind its port, and whoever has it meanwhile could answer in its place.
pub fn free_ports<const N: usize>() -> [u16; N] {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    [(); N].map(|()| {
        let mut ports = std::iter::repeat_with(|| rand::random_range(PORTS));
        ports.find(|port| is_free(port) && taken.insert(*port)).expect("loopback has free ports")
    })
}

/// Starts a server until it is ready. A free port may be taken before the server binds it, so there are three attempts.
pub fn start<T>(
    name: &str,
    within: Duration,
    launch: impl Fn(&TempDir) -> (Command, T),
    ready: impl Fn(&T) -> Result<(), String>,
) -> (Daemon, T) {
    let mut attempt = 1;
    loop {
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        let (mut command, info) = launch(&dir);
        let mut daemon = Daemon::spawn(name, &mut command, dir);
        let answered = wait_until(name, within, || match (ready(&info), daemon.exited()) {
            (Ok(()), None) => Ok(Ok(())),
            (_, Some(status)) => Ok(Err(status)),
            (Err(reason), None) => Err(format!("{reason}\n{}", daemon.tail())),
        });
        match answered {
            Ok(()) => return (daemon, info),
            Err(status) if attempt == 3 => panic!("{name} ended with {status}:\n{}", daemon.tail()),
            Err(_) => attempt += 1,
        }
    }
}

// === impl Daemon ===

impl Daemon {
    /// Starts `command` with its output in a log file inside `dir`.
    pub fn spawn(name: &str, command: &mut Command, dir: TempDir) -> Self {
        let log = dir.path().join("output.log");
        let out = File::create(&log).expect("the log can be created");
        let err = out.try_clone().expect("the log can be shared");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { name: name.to_owned(), child, log, dir }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        assert!(child::signal(self.pid(), name), "{} was gone before SIG{name}:\n{}", self.name, self.tail());
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("a child of ours can be waited for");
    }

    /// Starts `command` in its place, with the same files and log.
    pub fn respawn(&mut self, command: &mut Command) {
        let out = File::options().append(true).open(&self.log).expect("the log is there");
        let err = out.try_clone().expect("the log can be shared");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        self.child = child.unwrap_or_else(|e| panic!("{} does not start again: {e}", self.name));
    }

    /// The directory of its files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal("TERM");
        let what = format!("{} ends after SIGTERM", self.name);
        wait_until(&what, within, || self.exited().ok_or_else(|| "it still runs".to_owned()))
    }

    /// Waits for an end by itself.
    pub fn finish(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait_until(&what, within, || self.exited().ok_or_else(|| format!("it still runs\n{}", self.tail())))
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {}:\n{}", self.name, lines[lines.len().saturating_sub(TAIL)..].join("\n"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.tail());
        }
        // Both fail only for a child that has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
