//! What Tempo's processors made of traces from a seeded generator, value by value: settings through the import, traces
//! through the span task. `tests/conformance/README.md` describes the files.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use spanmill::config::{Config, Sources, load};
use spanmill::core::formats::to_proto;
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};
use spanmill::tools::import::{Input, Request, import};
use spanmill::tools::totals::{Series, Totals};

const TENANT: &str = "single-tenant";

/// What Tempo made of a file.
struct Expected {
    values: BTreeMap<Series, f64>,
    /// The traces and values that an exemplar of a bucket may have.
    exemplars: BTreeMap<Series, BTreeSet<(String, u64)>>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Tempo's settings as ours.
fn config(folder: &Path) -> Config {
    let text = read(&folder.join("tempo.yaml"));
    let file = Input { name: "tempo.yaml", text: &text };
    let imported = import(&Request { file, overrides: None, kind: None, overrides_path: None }).expect("it is Tempo's");
    let read_file = |_: &Path| Ok(String::new());
    let sources =
        Sources { file: Some(("spanmill.yaml", &imported.config)), env: &[], set: &[], read_file: &read_file };
    load(&sources).expect("it loads").config
}

fn run(requests: &str, config: &Config) -> Totals {
    let settings = SpanSettings::from(config);
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
    let mut totals = Totals::default();
    let mut add = |cut: spanmill::core::tasks::span::StepCut| {
        cut.delta_records
            .iter()
            .flatten()
            .for_each(|delta_record| totals.add(delta_record).expect("delta records add up"));
    };
    for (offset, line) in (0..).zip(requests.lines()) {
        let value = to_proto(line.as_bytes()).expect("OTLP");
        let record = Record { offset, timestamp: 1_000, tenant: Some(TENANT), value: &value };
        assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    }
    for cut in [task.tick(200_000), task.cut()].into_iter().flatten() {
        add(cut);
    }
    assert_eq!((task.pending_edges(), task.ledger().unaccounted_spans(), task.ledger().pending_edges()), (0, 0, 0));
    totals
}

fn expected(path: &Path) -> Expected {
    let mut out = Expected { values: BTreeMap::new(), exemplars: BTreeMap::new() };
    for line in read(path).lines() {
        let series: Value = serde_json::from_str(line).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let bare = Series { name: text(&series["name"]), labels: Vec::new() };
        let labels = series["labels"].as_object().expect("labels").iter();
        let key = labels.fold(bare, |key, (name, value)| key.with(name, text(value)));
        for exemplar in series["exemplars"].as_array().into_iter().flatten() {
            let value = (exemplar["value"].as_f64().expect("a number") * 1e9).round() as u64;
            out.exemplars.entry(key.clone()).or_default().insert((text(&exemplar["traceID"]), value));
        }
        out.values.insert(key, series["value"].as_f64().expect("a number"));
    }
    out
}

/// Infos are there or not; how many resources or edges said so is no value.
fn is_info(series: &Series) -> bool {
    series.name.ends_with("_info")
}

fn compare(what: &str, totals: &Totals, expected: &Expected) -> (usize, usize) {
    let got = totals.values(TENANT);
    let missing: Vec<_> = expected.values.keys().filter(|series| !got.contains_key(*series)).take(5).collect();
    let more: Vec<_> = got.keys().filter(|series| !expected.values.contains_key(*series)).take(5).collect();
    assert!(missing.is_empty() && more.is_empty(), "{what}: missing {missing:#?}, too many {more:#?}");
    for (series, value) in &expected.values {
        let found = if is_info(series) { got[series].min(1.0) } else { got[series] };
        // A weight has 32 bits behind the point.
        assert!(
            (found - value).abs() <= 1e-9 * value.abs().max(1.0),
            "{what}: {series} is {found}, Tempo says {value}"
        );
    }
    let own = totals.exemplars(TENANT);
    for (series, known) in &expected.exemplars {
        let exemplar = own.get(series).unwrap_or_else(|| panic!("{what}: {series} has no exemplar"));
        let trace: String = exemplar.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            known.contains(&(trace.clone(), exemplar.value_ns)),
            "{what}: {series} has {trace} {}",
            exemplar.value_ns
        );
    }
    (expected.values.len(), expected.exemplars.len())
}

fn all_of(name: &str) -> (usize, usize) {
    let folder = folder(name);
    let config = config(&folder);
    let (mut values, mut exemplars) = (0, 0);
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(number) = file.strip_suffix(".jsonl").filter(|number| !number.ends_with(".tempo")) else { continue };
        let expected = expected(&folder.join(format!("{number}.tempo.jsonl")));
        let (more, seen) = compare(&format!("{name}/{number}"), &run(&read(&path), &config), &expected);
        (values, exemplars) = (values + more, exemplars + seen);
    }
    (values, exemplars)
}

#[test]
fn every_value_of_generated_traces_is_tempos() {
    let (mut values, mut exemplars) = (0, 0);
    for name in ["defaults", "everything", "filters", "weights"] {
        let (more, seen) = all_of(name);
        (values, exemplars) = (values + more, exemplars + seen);
    }
    assert_eq!(values, 13_902, "every series of every file");
    assert!(exemplars > 900, "only {exemplars} exemplars");
}
