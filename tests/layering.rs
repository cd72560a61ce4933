//! The house rules that a compiler does not check: which room may use which, what the pure rooms never touch, and that
//! every setting is read by somebody.
//!
//! A new edge between rooms starts in [`ROOMS`].
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real environment")]

mod source;

use std::collections::BTreeSet;

use source::{SourceFile, room_names, rooms, settings_fields};

/// One room of the house.
struct Room {
    name: &'static str,
    /// No clock, no I/O, no threads, no runtime.
    pure: bool,
    /// The rooms that it may use, besides itself.
    uses: &'static [&'static str],
}

const fn pure(name: &'static str, uses: &'static [&'static str]) -> Room {
    Room { name, pure: true, uses }
}

const fn edge(name: &'static str, uses: &'static [&'static str]) -> Room {
    Room { name, pure: false, uses }
}

/// The import table.
const ROOMS: [Room; 26] = [
    pure("model", &[]),
    pure("config", &["model"]),
    pure("import", &["model", "config"]),
    pure("otlp", &["model"]),
    pure("files", &["model", "otlp"]),
    pure("filter", &["model", "config", "otlp"]),
    pure("sampling", &["model", "otlp"]),
    pure("sanitise", &["config"]),
    pure("spanmetrics", &["otlp", "filter", "sampling", "sanitise", "deltas", "model", "config"]),
    pure("hostinfo", &["otlp", "deltas", "model", "config"]),
    pure("servicegraph", &["otlp", "filter", "sampling", "deltas", "model", "config"]),
    pure("deltas", &["model"]),
    pure("journal", &["model"]),
    pure("series", &["model", "deltas", "journal", "remotewrite", "config"]),
    pure("remotewrite", &["model"]),
    pure("archive", &["model", "remotewrite"]),
    pure(
        "tasks",
        &[
            "model",
            "config",
            "otlp",
            "filter",
            "sampling",
            "sanitise",
            "spanmetrics",
            "hostinfo",
            "servicegraph",
            "deltas",
            "journal",
            "series",
            "remotewrite",
        ],
    ),
    pure("plan", &[]),
    pure("loadgen", &["model"]),
    edge("telemetry", &["model", "config"]),
    edge("kafka", &["config", "model", "telemetry"]),
    edge("export", &["remotewrite", "archive", "config", "telemetry", "model"]),
    edge(
        "worker",
        &[
            "model",
            "config",
            "otlp",
            "filter",
            "sampling",
            "sanitise",
            "spanmetrics",
            "servicegraph",
            "deltas",
            "journal",
            "series",
            "remotewrite",
            "tasks",
            "loadgen",
            "telemetry",
            "kafka",
            "export",
        ],
    ),
    edge("replay", &["model", "config", "journal", "kafka", "worker"]),
    edge("admin", &["telemetry", "config", "model"]),
    edge(
        "cli",
        &[
            "model",
            "config",
            "import",
            "otlp",
            "files",
            "filter",
            "sampling",
            "sanitise",
            "spanmetrics",
            "servicegraph",
            "deltas",
            "journal",
            "series",
            "remotewrite",
            "tasks",
            "plan",
            "loadgen",
            "telemetry",
            "kafka",
            "archive",
            "export",
            "worker",
            "replay",
            "admin",
        ],
    ),
];

/// What a pure room never names.
const FORBIDDEN: [&str; 14] = [
    "rdkafka",
    "tokio",
    "reqwest",
    "axum",
    "std::time::Instant",
    "std::time::SystemTime::now",
    "Instant::now",
    "SystemTime::now",
    "std::env",
    "std::thread",
    "std::fs",
    "std::net",
    "std::process",
    "std::io::stdin",
];

/// The edge of the pure half: the configuration is read from a file, from the environment, and from the machine.
const CONFIG_MAY: [&str; 3] = ["std::env", "std::fs", "std::thread::available_parallelism"];

#[test]
fn every_room_is_in_the_import_table() {
    let table: BTreeSet<String> = ROOMS.iter().map(|r| r.name.to_owned()).collect();
    assert_eq!(table, room_names(), "the table (left) and the directories in src (right) differ");
    for room in &ROOMS {
        for used in room.uses {
            assert!(table.contains(*used), "{} may use {used}, which is no room", room.name);
        }
    }
}

#[test]
fn rooms_use_only_the_rooms_in_their_row() {
    let mut wrong = Vec::new();
    for file in rooms() {
        let room = row(&file);
        for (line, used) in file.rooms_used() {
            if used != room.name && !room.uses.contains(&used.as_str()) {
                wrong.push(format!("{}:{line}: {} uses {used}", file.path.display(), room.name));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that are not in the import table:\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_name_no_clock_no_io_no_thread_and_no_runtime() {
    let mut wrong = Vec::new();
    for file in rooms().iter().filter(|file| row(file).pure) {
        for (line, path) in file.paths() {
            let config = file.room == "config" && CONFIG_MAY.iter().any(|allowed| begins(&path, allowed));
            if !config && FORBIDDEN.iter().any(|forbidden| begins(&path, forbidden)) {
                wrong.push(format!("{}:{line}: {path}", file.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "pure rooms that are not:\n{}", wrong.join("\n"));
}

#[test]
fn every_setting_is_read_outside_of_the_configuration() {
    // What a setting means for the layout of series is told beside it, for all who make layouts.
    let uses = |file: &SourceFile| file.room != "config" || file.path.ends_with("config/metrics.rs");
    let files: Vec<SourceFile> = rooms().into_iter().filter(uses).collect();
    let read: BTreeSet<&str> = files.iter().flat_map(SourceFile::fields_read).collect();
    let unread: Vec<String> = settings_fields()
        .into_iter()
        .filter(|(_, field)| !read.contains(field.as_str()))
        .map(|(owner, field)| format!("{owner}.{field}"))
        .collect();
    assert!(unread.is_empty(), "settings that nothing reads: {unread:?}");
}

#[test]
fn the_scanner_sees_what_it_has_to_see() {
    let text = r#"
//! use crate::hidden_in_a_comment;
/* crate::hidden /* nested */ crate::too */
use crate::{model::{self, time::Millis}, config as c};
use std::{env, time::{Duration, Instant}};
pub(crate) fn f<'a>(x: &'a str) -> char { let _ = r"crate::raw \"; let _ = "crate::text \" crate::more"; '"' }
fn g() { crate::series::Registry::new(config.kafka.brokers, super::super::otlp::decode(1.5)); }
#[cfg(test)]
mod tests { use crate::worker; fn t() { if true { crate::cli::x(); } } }
#[cfg(test)]
use crate::admin;
#[cfg(all(test, feature = "http"))]
mod model_check;
#[cfg(not(test))]
use crate::export;
"#;
    let file = SourceFile::parse("src/deltas/mine.rs".into(), text);
    let used: Vec<String> = file.rooms_used().into_iter().map(|(_, room)| room).collect();
    assert_eq!(used, ["model", "model", "config", "series", "otlp", "export"]);
    let paths: Vec<String> = file.paths().into_iter().map(|(_, path)| path).collect();
    for path in ["std::env", "std::time::Instant", "crate::model::time::Millis"] {
        assert!(paths.iter().any(|p| p == path), "{path} is not in {paths:?}");
    }
    assert!(begins("std::env::var", "std::env") && !begins("std::environment", "std::env"));
    assert_eq!(file.fields_read().collect::<Vec<_>>(), ["kafka", "brokers"]);
    assert_eq!(file.rooms_used()[0].0, 4, "the line of the first edge");
    assert_eq!(file.test_modules, [std::path::Path::new("src/deltas/mine/model_check")]);
}

/// The row of a file's room.
fn row(file: &SourceFile) -> &'static Room {
    let found = ROOMS.iter().find(|room| room.name == file.room);
    found.unwrap_or_else(|| panic!("{} is in no room of the table", file.path.display()))
}

/// Whether `path` is `prefix` or lies below it.
fn begins(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
