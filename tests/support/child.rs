//! Child processes that end with their test, and signals to them without another program.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Output};

use rustix::process::{Pid, Signal, kill_process};

/// A child that does not outlive its test: it would hold the pipes that the test runner reads to the end.
pub(crate) struct Guarded(Option<Child>);

// === impl Guarded ===

impl Guarded {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(Some(command.spawn().expect("the program starts")))
    }

    /// Waits for its end and for all that it says.
    pub(crate) fn output(mut self) -> Output {
        self.0.take().expect("it is taken once").wait_with_output().expect("it ends")
    }
}

impl Deref for Guarded {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().expect("it is taken at the end")
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is taken at the end")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Both fail only for a child that has ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Sends a signal by its name, such as `STOP`; returns whether there was a process to receive it.
///
/// # Panics
/// When it is none of those that tests send.
pub(crate) fn signal(pid: u32, name: &str) -> bool {
    let known = [("STOP", Signal::STOP), ("CONT", Signal::CONT), ("TERM", Signal::TERM), ("INT", Signal::INT)];
    let known = known.into_iter().chain([("KILL", Signal::KILL)]).find(|(known, _)| *known == name);
    let (_, signal) = known.expect("a signal that tests send");
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}
