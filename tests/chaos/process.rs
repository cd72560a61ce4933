//! A child process that is killed, stopped, continued and ended, and that never outlives its owner.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::servers::child;

/// The children that have not been waited for.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A running child with its output in a file.
pub struct Process {
    pub name: String,
    child: Child,
    log: PathBuf,
}

/// From now on a signal that ends this process ends its children, too.
pub fn end_together() {
    let mut signals = Signals::new([SIGINT, SIGTERM]).expect("signals can be listened to");
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            for pid in children(std::mem::take) {
                child::signal(pid, "KILL");
            }
            std::process::exit(130);
        }
    });
}

fn children<T>(with: impl FnOnce(&mut Vec<u32>) -> T) -> T {
    with(&mut CHILDREN.lock().unwrap_or_else(PoisonError::into_inner))
}

// === impl Process ===

impl Process {
    /// Starts `command`; its output goes to `<dir>/<name>.log`.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("a log can be created");
        let err = out.try_clone().expect("a log can be shared");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        children(|all| all.push(child.id()));
        Self { name: name.to_owned(), child, log }
    }

    /// Sends a signal by its name. A child that has ended meanwhile does not mind.
    pub fn signal(&self, name: &str) {
        child::signal(self.child.id(), name);
    }

    /// `kill -9`, and waits until it is gone. Also ends a stopped process.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
        self.forget();
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("a child can be asked");
        if status.is_some() {
            self.forget();
        }
        status
    }

    /// It is gone, and another process may get its number.
    fn forget(&self) {
        children(|all| all.retain(|pid| *pid != self.child.id()));
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log.
    pub fn tail(&self, most: usize) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {}:\n{}", self.name, lines[lines.len().saturating_sub(most)..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        self.forget();
    }
}
