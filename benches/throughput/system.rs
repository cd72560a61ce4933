//! What Linux says about processes and the machine.

use std::collections::BTreeMap;
use std::fs::read_to_string;

/// Clock ticks per second, as Linux shows them to programs on every architecture that matters here.
const TICKS: f64 = 100.0;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Seconds in its own code.
    pub user: f64,
    /// Seconds in the kernel.
    pub system: f64,
    /// Pages that it got from the kernel.
    pub faults: f64,
}

impl Usage {
    /// Seconds of CPU time.
    pub fn cpu(self) -> f64 {
        self.user + self.system
    }
}

/// What a running process has used.
pub fn usage(pid: u32) -> Usage {
    let stat = read_to_string(format!("/proc/{pid}/stat")).expect("the process runs, and this is Linux");
    let field = fields(&stat);
    Usage { user: field[11] / TICKS, system: field[12] / TICKS, faults: field[7] }
}

/// CPU seconds of a process by the names of its threads, without their numbers.
pub fn threads(pid: u32) -> BTreeMap<String, f64> {
    let mut by_name = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").flatten() {
        // A thread may end between the two looks.
        let Ok(stat) = read_to_string(task.path().join("stat")) else { continue };
        let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(name, _)| name);
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
        let field = fields(&stat);
        *by_name.entry(name).or_insert(0.0) += (field[11] + field[12]) / TICKS;
    }
    by_name
}

/// The most memory that a process has had at once, in bytes, and what it has now.
pub fn memory(pid: u32) -> (f64, f64) {
    let status = read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().expect("a number of kB")
    };
    (kilobytes("VmHWM:") * 1024.0, kilobytes("VmRSS:") * 1024.0)
}

/// CPU seconds that the whole machine has been busy, and the load average of the last minute.
pub fn machine() -> (f64, f64) {
    let stat = read_to_string("/proc/stat").expect("this is Linux");
    let all: Vec<f64> = stat.lines().next().unwrap_or_default().split(' ').flat_map(str::parse).collect();
    let idle: f64 = all[3..5].iter().sum();
    let load = read_to_string("/proc/loadavg").expect("this is Linux");
    let load = load.split(' ').next().and_then(|l| l.parse().ok()).unwrap_or_default();
    ((all[..8].iter().sum::<f64>() - idle) / TICKS, load)
}

/// The fields of a `stat` file after the name, which may contain anything.
fn fields(stat: &str) -> Vec<f64> {
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').map(|field| field.trim().parse().unwrap_or_default()).collect()
}
