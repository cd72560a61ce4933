//! The calculator, held against what was measured and against itself.

use super::*;

fn load() -> Load {
    Load {
        spans_per_second: 100_000.0,
        spans_per_record: 100.0,
        bytes_per_span: 620.0,
        codec: Codec::Lz4,
        partitions: 12.0,
        shards: 16.0,
        label_sets: 5_000.0,
        edges: 500.0,
        series_per_label_set: 19.0,
        series_per_edge: 24.0,
        step: 15.0,
        touched: None,
        half_edges: 50_000.0,
        exemplars: true,
        stale_after: 900.0,
        snapshot_every: 300.0,
    }
}

const FLEET: Fleet = Fleet { cores_per_worker: 2.0, busy: 0.5, least_workers: 2.0, fetch_memory: 8e6 };

fn plan(load: &Load) -> CapacityPlan {
    CapacityPlan::new(load, &FLEET, &Coefficients::measured().expect("the measured costs are whole"))
}

/// Parts that are named after their sum.
fn parts(plan: &CapacityPlan, prefix: &str) -> f64 {
    plan.lines.iter().filter(|line| line.name.starts_with(prefix)).map(|line| line.value).sum()
}

#[test]
fn the_parts_add_up_and_every_cost_in_the_plan_has_a_source() {
    let (plan, measured) = (plan(&load()), Coefficients::measured().expect("the measured costs are whole"));
    assert!((parts(&plan, "cores_") / plan.value("cores") - 1.0).abs() < 1e-9, "{plan:?}");
    assert!((parts(&plan, "kafka_out_") / plan.value("kafka_out") - 1.0).abs() < 1e-9, "{plan:?}");
    let memory = parts(&plan, "memory_") - plan.value("memory_per_worker");
    assert!((memory / plan.value("memory_per_worker") - 1.0).abs() < 1e-9, "{plan:?}");
    for name in plan.lines.iter().flat_map(|line| &line.from) {
        let cost = measured.get(name).unwrap_or_else(|| panic!("{name} was not measured"));
        assert!(cost.source.contains("run"), "{name}: {cost:?}");
    }
}

#[test]
fn each_part_grows_with_its_own_cause_and_with_nothing_else() {
    let base = load();
    let before = plan(&base);
    let cases: [(&str, Load, &[&str]); 4] = [
        ("records", Load { spans_per_record: 50.0, ..base }, &["cores_records"]),
        ("bytes", Load { bytes_per_span: 1_240.0, ..base }, &["cores_spans"]),
        ("series", Load { series_per_label_set: 38.0, ..base }, &["cores_samples"]),
        ("steps", Load { step: 7.5, ..base }, &["cores_deltas", "cores_commits", "cores_samples"]),
    ];
    for (cause, load, grows) in cases {
        let after = plan(&load);
        for part in ["cores_spans", "cores_records", "cores_deltas", "cores_commits", "cores_samples"] {
            let grew = after.value(part) > before.value(part) * 1.01;
            assert_eq!(grew, grows.contains(&part), "{cause}: {part} {} {}", before.value(part), after.value(part));
        }
    }
}

#[test]
fn shards_cost_bytes_and_memory_and_exemplars_cost_both() {
    let base = load();
    let before = plan(&base);
    let grown = |load: Load, part: &str| plan(&load).value(part) / before.value(part);
    let shards = Load { shards: 64.0, ..base };
    assert!((grown(shards, "kafka_out_delta_records") - 4.0).abs() < 1e-9 && grown(shards, "kafka_out") > 1.0);
    assert!((grown(shards, "memory_shards") - 4.0).abs() < 0.01);
    assert!(plan(&shards).warnings.iter().any(|warning| warning.contains("kafka.shards")));
    let without = Load { exemplars: false, ..base };
    for part in ["kafka_out", "remote_write", "memory_known"] {
        assert!(grown(without, part) < 0.95, "{part}");
    }
    assert_eq!(plan(&without).value("kafka_out_exemplars").to_bits(), 0);
    // A partition that sees a few spans in all this time knows a few label sets.
    let rare = Load { spans_per_second: 1.0, ..base };
    assert!(grown(rare, "memory_known") < 0.05);
}

#[test]
fn a_partition_touches_neither_more_label_sets_than_there_are_nor_more_than_it_has_spans() {
    let deltas = |load: &Load| plan(load).value("cores_deltas");
    let base = load();
    let few = deltas(&Load { spans_per_second: 1.0, ..base });
    assert!(few < deltas(&base) / 10.0, "a step with a few spans touches a few label sets: {few}");
    // 100,000 spans of a step and partition cannot touch more than the 5,500 label sets, however many come.
    let (much, more) = (Load { spans_per_second: 1e7, ..base }, Load { spans_per_second: 1e9, ..base });
    assert!((deltas(&more) / deltas(&much) - 1.0).abs() < 1e-6);
}

#[test]
fn fewer_partitions_than_workers_and_small_records_are_warned_of() {
    let tight = Load { spans_per_second: 1e8, partitions: 4.0, spans_per_record: 1.0, ..load() };
    let warnings = plan(&tight).warnings.join("\n");
    for word in ["partitions", "kafka.shards", "batch"] {
        assert!(warnings.contains(word), "{word}: {warnings}");
    }
    assert_eq!(plan(&load()).warnings, Vec::<String>::new());
}

#[test]
fn workers_carry_the_load_at_the_wished_rate_and_are_never_fewer_than_two() {
    assert_eq!(plan(&Load { spans_per_second: 1.0, ..load() }).value("workers") as u64, 2);
    let large = plan(&Load { spans_per_second: 1e7, partitions: 512.0, ..load() });
    let busy = large.value("cores") / (large.value("workers") * FLEET.cores_per_worker);
    assert!(busy <= FLEET.busy && busy > FLEET.busy * 0.8, "{busy}");
}

#[test]
fn costs_that_lack_a_number_or_have_a_senseless_one_are_refused() {
    let whole = include_str!("../../../benches/results/coefficients.json");
    let mut all: serde_json::Value = serde_json::from_str(whole).expect("JSON");
    all["cpu_ns_per_span"]["value"] = serde_json::json!(-1.0);
    let error = Coefficients::read(&all.to_string()).expect_err("a negative cost");
    assert!(error.to_string().contains("cpu_ns_per_span"), "{error}");
    assert!(Coefficients::read("{}").is_err() && Coefficients::read("[").is_err());
}

/// One line of the results of the benchmark.
fn number(line: &serde_json::Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("{name} is missing in {line}"))
}

#[test]
fn the_plan_tells_the_cpu_time_of_the_measurements_that_it_came_from() {
    let results = include_str!("../../../benches/results/throughput.jsonl");
    let lines = results.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    // Medians of fewer runs are drawn in the curves, and no cost is taken from them.
    let medians = lines.filter(|line| line["median_of"].as_u64() >= Some(3) && line["subject"] == "worker");
    let mut seen = 0;
    for line in medians {
        let shape = |name| number(&line["shape"], name);
        let (spans, seconds) = (number(&line, "spans"), shape("seconds"));
        let load = Load {
            spans_per_second: spans / seconds,
            spans_per_record: spans / number(&line, "records"),
            bytes_per_span: number(&line, "bytes_per_span"),
            codec: serde_json::from_value(line["shape"]["compression"].clone()).expect("a codec"),
            partitions: shape("partitions"),
            label_sets: shape("label_sets"),
            edges: shape("edges"),
            step: 15.0,
            ..load()
        };
        let told = plan(&load).value("cores") * seconds / spans * 1e6;
        // Only the benchmark keeps the admin server busy.
        let measured = (number(&line, "cpu_s") - number(&line, "thread_admin_s")) / spans * 1e6;
        assert!((0.6..1.6).contains(&(told / measured)), "told {told}, measured {measured}: {line}");
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} measurements");
}

#[test]
fn the_plan_tells_the_bytes_of_runs_with_other_shards_and_without_exemplars() {
    let results = include_str!("../../../benches/results/shards.jsonl");
    let lines = results.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let mut seen = 0;
    for line in lines.filter(|line| line["median_of"].is_number()) {
        let shape = |name| number(&line["shape"], name);
        let (spans, seconds) = (number(&line, "spans"), shape("seconds"));
        let load = Load {
            spans_per_second: spans / seconds,
            bytes_per_span: number(&line, "bytes_per_span"),
            partitions: shape("partitions"),
            shards: shape("shards"),
            exemplars: line["shape"]["exemplars"].as_bool().expect("on or off"),
            label_sets: shape("label_sets"),
            edges: shape("edges"),
            touched: Some(shape("touched")),
            half_edges: 0.0,
            ..load()
        };
        let plan = plan(&load);
        let told = (plan.value("kafka_out") - plan.value("kafka_out_snapshots")) * seconds * 1e6;
        let measured = number(&line, "journal_bytes") + number(&line, "deltas_bytes");
        assert!((0.75..1.35).contains(&(told / measured)), "told {told}, measured {measured}: {line}");
        let sent = number(&line, "sent_bytes") / number(&line, "sent_samples");
        let told = plan.value("remote_write") * 1e6 / plan.value("samples_per_second");
        assert!((0.75..1.35).contains(&(told / sent)), "told {told} bytes a sample, measured {sent}: {line}");
        seen += 1;
    }
    assert_eq!(seen, 4, "4 and 64 shards, with and without exemplars");
}
