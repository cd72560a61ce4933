//! `tests/run` ends a stage that hangs, with everything that it has started and nothing else.
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What stands in for cargo: it starts a child, takes no SIGTERM, and never ends.
const HANGS: &str = "#!/bin/bash\ntrap '' TERM\nsleep 3600 &\necho $$ $! >\"$PIDS\"\nwhile :; do sleep 1; done\n";

#[test]
fn a_stage_that_hangs_fails_in_time_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let [cargo, pids] = ["cargo", "pids"].map(|name| dir.path().join(name));
    std::fs::write(&cargo, HANGS).expect("a file");
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).expect("its owner may");
    let path = format!("{}:{}", dir.path().display(), env!("PATH"));
    for verbose in [None, Some("--verbose")] {
        let begin = Instant::now();
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run"))
            .args(["--only", "fmt", "--limit", "1"])
            .args(verbose)
            .env("PATH", &path)
            .env("PIDS", &pids)
            .env("TEST_LOGS", dir.path())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("fmt      FAIL"), "{said}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
        let log = std::fs::read_to_string(dir.path().join("fmt.log")).expect("a log");
        assert!(log.contains("has not ended within 1 s"), "{log}");
        for pid in std::fs::read_to_string(&pids).expect("it has started").split_whitespace() {
            assert!(ends(pid), "{pid} lives: {}", state(pid));
        }
    }
}

/// Whether a process that was killed is gone, which takes the system a moment: it may have to be scheduled for that.
fn ends(pid: &str) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(30) {
        // A process that has ended may wait for its parent to take note.
        if matches!(state(pid).as_str(), "" | "Z") {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// The state of a process: one letter, and empty if there is none.
fn state(pid: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default().to_owned()
}
