//! The house rules that a compiler does not check: which room may use which, what the pure rooms never touch, and that
//! every setting is read by some code.
//!
//! A new edge between rooms starts in [`ROOMS`].
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real environment")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source::{SourceFile, room_names, rooms, settings_fields};

/// The wings, in the order in which data walks back up: each uses those before it only.
const WINGS: [&str; 5] = ["core", "config", "worker", "tools", "cli"];

/// One room of the house: a directory of a wing, or a wing that has none.
struct Room {
    name: &'static str,
    /// No clock, no I/O, no threads, no runtime.
    pure: bool,
    /// The rooms of its own wing that it may use, besides itself.
    uses: &'static [&'static str],
}

const fn pure(name: &'static str, uses: &'static [&'static str]) -> Room {
    Room { name, pure: true, uses }
}

const fn edge(name: &'static str, uses: &'static [&'static str]) -> Room {
    Room { name, pure: false, uses }
}

/// The import table, within wings. Between wings [`WINGS`] decides.
const ROOMS: [Room; 54] = [
    pure("core::model", &[]),
    pure("core::settings", &["model"]),
    pure("core::otlp", &["model"]),
    pure("core::formats", &["settings", "model"]),
    pure("core::repartition", &["settings", "model", "otlp", "formats"]),
    pure("core::filter", &["settings", "model", "otlp"]),
    pure("core::sampling", &["model", "otlp"]),
    pure("core::sanitize", &["settings"]),
    pure("core::spanmetrics", &["settings", "otlp", "filter", "sampling", "sanitize", "deltas", "model"]),
    pure("core::hostinfo", &["settings", "otlp", "deltas", "model"]),
    pure(
        "core::attribute_metrics",
        &["settings", "otlp", "filter", "sampling", "sanitize", "spanmetrics", "deltas", "model"],
    ),
    pure("core::slo", &["settings", "otlp", "filter", "sampling", "spanmetrics", "deltas", "model"]),
    pure("core::servicegraph", &["settings", "otlp", "filter", "sampling", "sanitize", "slo", "deltas", "model"]),
    pure("core::traces", &["settings", "otlp", "sanitize", "slo", "deltas", "model"]),
    pure("core::duplicates", &["settings", "otlp", "model"]),
    pure("core::deltas", &["model"]),
    pure("core::journal", &["model"]),
    pure("core::series", &["settings", "model", "deltas", "journal", "remotewrite"]),
    pure("core::remotewrite", &["model"]),
    pure(
        "core::tasks",
        &[
            "settings",
            "model",
            "otlp",
            "formats",
            "filter",
            "sampling",
            "sanitize",
            "spanmetrics",
            "hostinfo",
            "slo",
            "attribute_metrics",
            "servicegraph",
            "traces",
            "duplicates",
            "deltas",
            "journal",
            "series",
            "remotewrite",
        ],
    ),
    pure("config", &[]),
    edge("worker", &["group", "health", "identity", "kafka", "sender", "task", "telemetry"]),
    edge("worker::telemetry", &[]),
    edge("worker::identity", &[]),
    edge("worker::kafka", &["identity", "telemetry"]),
    edge("worker::sender", &["identity", "kafka", "telemetry"]),
    edge("worker::admin", &["identity", "telemetry"]),
    edge("worker::task", &["kafka", "sender", "telemetry"]),
    edge("worker::span_task", &["task", "kafka", "telemetry"]),
    edge("worker::series_task", &["task", "kafka", "sender", "telemetry"]),
    edge("worker::restore", &["task", "series_task", "kafka", "telemetry"]),
    edge("worker::reshard", &["group", "restore", "series_task", "task", "kafka", "sender", "telemetry"]),
    edge("worker::health", &["task", "kafka", "telemetry"]),
    edge("worker::repartition", &["task", "kafka", "telemetry"]),
    edge(
        "worker::group",
        &["task", "repartition", "span_task", "series_task", "restore", "health", "kafka", "sender", "telemetry"],
    ),
    pure("tools::import", &[]),
    pure("tools::files", &[]),
    pure("tools::dashboards", &[]),
    pure("tools::archive", &[]),
    pure("tools::totals", &[]),
    pure("tools::cases", &["totals"]),
    pure("tools::doctor", &["survey"]),
    pure("tools::explain", &[]),
    pure("tools::local", &[]),
    pure("tools::map", &[]),
    pure("tools::slos", &[]),
    pure("tools::survey", &["slos"]),
    pure("tools::plan", &[]),
    pure("tools::loadgen", &[]),
    edge("tools::receiver", &[]),
    edge("tools::spool", &["archive"]),
    edge("tools::replay", &[]),
    edge("tools::ui", &["map"]),
    edge("cli", &[]),
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
    assert_eq!(&table, room_names(), "the table (left) and the directories in src (right) differ");
    for room in &ROOMS {
        for used in room.uses {
            let used = format!("{}::{used}", wing(room.name));
            assert!(table.contains(&used), "{} may use {used}, which is no room", room.name);
        }
    }
}

#[test]
fn wings_use_only_the_wings_before_them() {
    let place = |room: &str| WINGS.iter().position(|name| *name == wing(room));
    let mut wrong = Vec::new();
    for file in rooms() {
        assert!(place(&file.room).is_some(), "{} is in no wing", file.path.display());
        for (line, used) in file.rooms_used().into_iter().filter(|(_, used)| place(used).is_some()) {
            if place(&used) > place(&file.room) {
                wrong.push(format!("{}:{line}: {} uses {used}", file.path.display(), file.room));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that run back up:\n{}", wrong.join("\n"));
}

/// Who reads a room must be able to do so without the rooms that use it.
#[test]
fn rooms_do_not_use_one_another_in_circles() {
    let mut left: Vec<&Room> = ROOMS.iter().collect();
    while !left.is_empty() {
        let names: BTreeSet<&str> = left.iter().map(|room| room.name).collect();
        let waits =
            |room: &Room| room.uses.iter().any(|used| names.contains(format!("{}::{used}", wing(room.name)).as_str()));
        let before = left.len();
        left.retain(|room| waits(room));
        assert!(left.len() < before, "each of these rooms uses another one of them: {names:?}");
    }
}

#[test]
fn rooms_use_only_the_rooms_in_their_row() {
    let mut wrong = Vec::new();
    for file in rooms() {
        let room = row(&file);
        let own = wing(room.name);
        let uses: Vec<String> = room.uses.iter().map(|used| format!("{own}::{used}")).collect();
        for (line, used) in file.rooms_used() {
            if wing(&used) == own && used != room.name && !uses.contains(&used) {
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

/// Where foreign keys are read, their place in memory must be a secret: the seed of a test is in the source.
#[test]
fn tasks_that_are_started_outside_of_tests_are_seeded_at_random() {
    let mut starts = 0;
    for file in
        rooms().iter().filter(|file| ["worker", "cli", "tools::replay"].iter().any(|room| file.room.starts_with(room)))
    {
        let text = std::fs::read_to_string(&file.path).expect("a source file");
        for (line, code) in (1..).zip(text.split("#[cfg(test)]").next().unwrap_or_default().lines()) {
            let settings = code.contains("SpanSettings::from(") || code.contains("SeriesSettings::from(");
            let tasks = code.contains("Survey::new(") || code.contains("Local::new(");
            let seeded = code.contains(".seeded(self.seed)") || code.contains("Seed::new(rand::random())");
            assert!(!(settings || tasks) || seeded, "{}:{line}: {code}", file.path.display());
            starts += usize::from(settings || tasks);
        }
    }
    assert!(starts >= 6, "{starts}");
}

/// What commands say goes through `cli/console.rs`, which escapes it, unless they draw or write for programs.
#[test]
fn commands_write_to_people_through_the_console() {
    const MAY: [&str; 7] = [
        "console.rs",
        "cli/mod.rs",
        "demo/screen.rs",
        "replay/terminal.rs",
        "cli/produce.rs",
        "cli/top.rs",
        "top/live.rs",
    ];
    let mut said = 0;
    for file in rooms().iter().filter(|file| file.room == "cli") {
        let text = std::fs::read_to_string(&file.path).expect("a source file");
        said += usize::from(text.contains("console::"));
        let raw = ["println!(", "print!(", "io::stdout()", "io::stderr()"];
        let may = MAY.iter().any(|may| file.path.ends_with(may));
        assert!(may || !raw.iter().any(|raw| text.contains(raw)), "{}", file.path.display());
    }
    assert!(said >= 5, "{said}");
}

#[test]
fn every_setting_is_read_outside_of_the_configuration() {
    // What a naming means for layouts is defined beside it, for all who make layouts; and so is which topics are
    // sources.
    let uses = |file: &SourceFile| match file.room.as_str() {
        "config" => ["config/tasks.rs", "config/topics.rs"].iter().any(|file_of| file.path.ends_with(file_of)),
        "core::settings" => !file.path.ends_with("settings/mod.rs"),
        _ => true,
    };
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
use crate::{core::model::{self, time::Millis}, config as c};
use std::{env, time::{Duration, Instant}};
pub(crate) fn f<'a>(x: &'a str) -> char { let _ = r"crate::raw \"; let _ = "crate::text \" crate::more"; '"' }
fn g() { crate::core::series::Registry::new(config.kafka.brokers, super::super::otlp::decode(1.5)); }
#[cfg(test)]
mod tests { use crate::worker; fn t() { if true { crate::cli::x(); } } }
#[cfg(test)]
use crate::worker::admin;
#[cfg(all(test, feature = "http"))]
mod model_check;
#[cfg(not(test))]
use crate::worker::sender;
"#;
    let file = SourceFile::parse("src/core/deltas/mine.rs".into(), text);
    let used: Vec<String> = file.rooms_used().into_iter().map(|(_, room)| room).collect();
    assert_eq!(used, ["core::model", "core::model", "config", "core::series", "core::otlp", "worker::sender"]);
    let paths: Vec<String> = file.paths().into_iter().map(|(_, path)| path).collect();
    for path in ["std::env", "std::time::Instant", "crate::core::model::time::Millis"] {
        assert!(paths.iter().any(|p| p == path), "{path} is not in {paths:?}");
    }
    assert!(begins("std::env::var", "std::env") && !begins("std::environment", "std::env"));
    assert_eq!(file.fields_read().collect::<Vec<_>>(), ["kafka", "brokers"]);
    assert_eq!(file.rooms_used()[0].0, 4, "the line of the first edge");
    assert_eq!(file.test_modules, [std::path::Path::new("src/core/deltas/mine/model_check")]);
}

/// The row of a file's room.
fn row(file: &SourceFile) -> &'static Room {
    let found = ROOMS.iter().find(|room| room.name == file.room);
    found.unwrap_or_else(|| panic!("{} is in no room of the table", file.path.display()))
}

/// The wing of a room.
fn wing(room: &str) -> &str {
    room.split("::").next().unwrap_or(room)
}

/// Whether `path` is `prefix` or lies below it.
fn begins(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The binaries of tests whose files are modules, each named in the binary's `main.rs`.
const BINARIES: [&str; 5] = ["pure", "embedded", "allocations", "real", "chaos"];

#[test]
fn every_file_of_tests_is_compiled() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let rust = |folder: &Path| {
        let paths = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect::<Vec<_>>()
    };
    // Cargo looks for no test by itself, see Cargo.toml: a file that no binary names would never run.
    assert_eq!(rust(&tests), Vec::<PathBuf>::new(), "a file of tests is a module in a folder of {BINARIES:?}");
    let manifest = include_str!("../../Cargo.toml");
    for binary in BINARIES {
        assert!(manifest.contains(&format!("path = \"tests/{binary}/main.rs\"")), "{binary} is not in Cargo.toml");
        let main = std::fs::read_to_string(tests.join(binary).join("main.rs")).expect("a binary");
        for path in rust(&tests.join(binary)).iter().filter(|path| !path.ends_with("main.rs")) {
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            // What only the schedule uses is its module.
            let named = main.contains(&format!("mod {name};")) || (binary, name) == ("chaos", "busy");
            assert!(named, "tests/{binary}/main.rs does not name {name}");
        }
    }
}
