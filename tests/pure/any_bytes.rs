//! Everything that reads bytes from outside gets thousands of damaged inputs and must not panic. The same checks run
//! under a fuzzer: see `fuzz/`.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;

use crate::simulation::rng::Rng;
use spanmill::config::Config;
use spanmill::config::Tenants;
use spanmill::core::journal::frame::claim;
use spanmill::core::journal::{Cause, JournalWriter, Owner, SeriesSnapshot, SpanCommit, Witness};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::core::tasks::series::{SeriesSettings, SeriesTask};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use spanmill::tools::archive::Frame;
use spanmill::tools::archive::frame::MAGIC;
use spanmill::tools::loadgen::{Generator, Options, Topology};

const START: i64 = 1 << 42;
const CONFIGS: [&str; 2] =
    [include_str!("../../config/spanmill.yaml"), include_str!("../../config/good/everything.yaml")];
/// What others configure.
const IMPORTS: [&str; 4] = [
    include_str!("../import/tempo-small.yaml"),
    include_str!("../import/tempo-legacy.yaml"),
    include_str!("../import/tempo-overrides.yaml"),
    include_str!("../import/collector-new.yaml"),
];
/// A plan with two partitions, and all that can have happened to one.
const PLAN: &str = include_str!("../files/plan.json");
/// Rules, and names to which they are applied.
const RULES: [&str; 3] = [
    "^/users/([^/]+)\t/users/$1\n/users/42/orders\nGET /a/550e8400-e29b-41d4-a716-446655440000",
    "(?i)select .* from (?P<table>\\w+)\t${table}\nSELECT * FROM users WHERE id = 'x''y'\nfetch 2024-01-02T03:04:05Z",
    "[a-z]{2,5}|\\d+\tx\n10.0.0.1:8080 fe80::1 user@example.org\n\u{e9}\u{1f980}",
];

/// What a small shop sends.
fn records() -> Vec<Vec<u8>> {
    let options = Options { start: START, rate: 20, spans: Some(60), ..Options::default() };
    Generator::new(Topology::shop(1), 1, options).map(|record| record.value).collect()
}

/// What a span task makes of it.
fn cuts() -> Vec<StepCut> {
    let mut config = Config::default();
    config.kafka.shards = 1;
    let mut task =
        SpanTask::new(&SpanSettings::from(&config), "t".into(), 0, Restored::default()).expect("nothing to restore");
    let mut cuts = Vec::new();
    for (offset, value) in (0..).zip(&records()) {
        let record = Record { offset, timestamp: START + offset * 3_000, tenant: Some("t"), value };
        while let Offer::CutFirst { cut } = task.offer(&record, START * 2) {
            cuts.push(*cut);
        }
    }
    cuts.extend(task.cut());
    assert!(cuts.len() > 2 && cuts.iter().any(|cut| !cut.live.is_empty()), "the seeds are too tame");
    cuts
}

fn delta_records() -> Vec<Vec<u8>> {
    cuts().into_iter().flat_map(|cut| cut.delta_records.concat()).collect()
}

/// What a series task makes of that: its snapshot, and the batches that were not delivered.
fn shard() -> (Vec<u8>, Vec<u8>) {
    let mut task = SeriesTask::new(SeriesSettings::from(&Tenants::from(Config::default())));
    for delta_record in delta_records() {
        task.apply(&delta_record).expect("a delta record");
    }
    let mut batches = Vec::new();
    while let Some(step) = task.closable(&[("t".to_owned(), 0)]) {
        batches.extend(task.close(step).batches);
    }
    assert!(!batches.is_empty());
    (task.snapshot(), StepBatch::encode_all(batches.iter()))
}

/// A journal of both kinds, each record with its length before it.
fn journals() -> Vec<Vec<u8>> {
    let mut span = vec![claim(Owner(1), "a note")];
    let mut writer = JournalWriter::new(Owner(1), 0, None, 0);
    for cut in cuts() {
        let commit = SpanCommit {
            cause: Cause::Records,
            step: cut.step,
            stream_time: Some(cut.stream_time),
            forwarded: 0,
            reread_from: cut.reread_from,
            live: cut.live,
            ledger: cut.ledger,
            delta_records: cut.delta_records,
            witness: Some(Witness::of(cut.from, Some(cut.stream_time), b"spans")),
        };
        span.extend(writer.commit(cut.from, cut.to, &commit.encode()));
    }
    span.extend(writer.release());
    let mut series = vec![claim(Owner(2), "")];
    let mut writer = JournalWriter::new(Owner(2), 0, None, 0);
    let (body, undelivered) = shard();
    let body =
        SeriesSnapshot { body, deltas_offset: 9, step: START, undelivered, ..SeriesSnapshot::default() }.encode();
    series.extend(writer.snapshot(&body));
    let packed = |records: Vec<Vec<u8>>| {
        let short = records.into_iter().filter(|record| record.len() <= usize::from(u16::MAX));
        short.flat_map(|r| [&(r.len() as u16).to_le_bytes(), r.as_slice()].concat()).collect()
    };
    vec![packed(span), packed(series)]
}

/// Damages a seed: bytes that are flipped, set, left out, doubled, or taken from elsewhere.
fn damaged(seed: &[u8], rng: &mut Rng) -> Vec<u8> {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'{', b'('];
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.below(6) {
        if bytes.is_empty() {
            return bytes;
        }
        let (at, other) = (rng.below(bytes.len()), rng.below(bytes.len()));
        let end = bytes.len().min(at + 1 + rng.below(16));
        match rng.below(7) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = TELLING[rng.below(TELLING.len())],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(other..other, piece);
            }
            5 => bytes[at..end].fill(0xff),
            _ => bytes.insert(at, rng.next() as u8),
        }
    }
    bytes
}

/// Runs a check on all seeds and on `times` damaged ones.
fn run(seeds: &[Vec<u8>], times: usize, check: impl Fn(&[u8])) {
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| check(seed));
    let mut rng = Rng::new(17);
    for _ in 0..times {
        check(&damaged(&seeds[rng.below(seeds.len())], &mut rng));
    }
}

#[test]
fn damaged_records_do_no_harm() {
    run(&records(), 1_500, crate::checks::record);
}

#[test]
fn damaged_files_do_no_harm() {
    let json = include_str!("../files/collector.jsonl");
    let sized = records().into_iter().take(3);
    let sized = sized.flat_map(|r| [&(r.len() as u32).to_be_bytes(), r.as_slice()].concat()).collect();
    let lines = json.lines().map(|line| line.as_bytes().to_vec());
    let name = b"traces-2026-01-02T03-04-05.678-size.json.gz".to_vec();
    let seeds: Vec<Vec<u8>> =
        lines.chain([json.replace(",", ",\n").replace('{', "{\n").into_bytes(), sized, name]).collect();
    run(&seeds, 4_000, crate::checks::file);
}

#[test]
fn damaged_records_of_other_formats_do_no_harm() {
    let seeds = other_formats();
    run(&seeds, 400, crate::checks::formats);
    run(&seeds, 100, crate::checks::record);
}

/// Records in all formats.
fn other_formats() -> Vec<Vec<u8>> {
    let spans = crate::samples::samples(START as u64 * 1_000);
    let mut seeds: Vec<Vec<u8>> = crate::samples::everything(&spans[..3]).into_iter().flat_map(|(_, _, r)| r).collect();
    seeds.extend(["client-error.jaeger.pb", "client-error.jaeger.json", "client.zipkin.pb", "client.zipkin.json"].map(
        |name| {
            std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/formats").join(name)).expect("a file")
        },
    ));
    seeds.push(crate::samples::gzip(&seeds[0]));
    seeds.push(crate::samples::zstd(&seeds[0]));
    seeds
}

#[test]
fn damaged_delta_records_do_no_harm() {
    run(&delta_records(), 2_000, crate::checks::delta_record);
}

#[test]
fn damaged_journals_do_no_harm() {
    run(&journals(), 3_000, crate::checks::journal);
}

#[test]
fn damaged_snapshots_do_no_harm() {
    let (snapshot, undelivered) = shard();
    let batches = StepBatch::decode_all(&undelivered).expect("batches").into_iter();
    let apart: Vec<_> = batches.map(|batch| StepBatch { endpoint: Some("a".into()), ..batch }).collect();
    let apart = StepBatch::encode_apart(apart.iter());
    run(&[snapshot, undelivered, apart], 1_500, crate::checks::snapshot);
}

#[test]
fn damaged_segments_do_no_harm() {
    let batches = StepBatch::decode_all(&shard().1).expect("batches");
    let requests = batches.iter().flat_map(|batch| &batch.requests);
    let raw = requests.map(|r| snap::raw::Decoder::new().decompress_vec(&r.body).expect("our own body"));
    let mut seeds: Vec<Vec<u8>> = raw.collect();
    let mut segment = MAGIC.to_vec();
    for batch in &batches {
        for Request { samples, body, .. } in &batch.requests {
            Frame { tenant: &batch.tenant, step: batch.step, samples: *samples, body }.put(&mut segment);
        }
    }
    seeds.push(segment);
    run(&seeds, 1_000, crate::checks::segment);
}

#[test]
fn damaged_configurations_do_no_harm() {
    run(&CONFIGS.map(|text| text.as_bytes().to_vec()), 400, crate::checks::config);
}

#[test]
fn damaged_overrides_do_no_harm() {
    run(&[include_bytes!("../../config/overrides.yaml").to_vec()], 1_000, crate::checks::overrides);
}

#[test]
fn damaged_settings_of_others_do_no_harm() {
    run(&IMPORTS.map(|text| text.as_bytes().to_vec()), 400, crate::checks::import);
}

#[cfg(feature = "replay")]
#[test]
fn damaged_plans_do_no_harm() {
    run(&[PLAN.as_bytes().to_vec()], 4_000, crate::checks::plan);
}

#[test]
fn damaged_rules_on_damaged_names_do_no_harm() {
    let spans = &records()[0];
    run(&RULES.map(|text| text.as_bytes().to_vec()), 2_000, |bytes| crate::checks::text_rules(bytes, spans));
}

/// Names that had one hash in one table or another, and such as differ in nothing but what is cut off.
fn chosen() -> Vec<Vec<u8>> {
    let zeros = |names: Vec<String>| names.join("\0").into_bytes();
    let traces = crate::adversary::traces_of_one_old_hash(200).concat();
    let long = (0..3).map(|n| format!("{}{n}", "x".repeat(2_048))).collect();
    vec![
        zeros(crate::adversary::texts_of_one_xxh3(50, 100, 600)),
        zeros(crate::adversary::names_of_one_old_hash("t", 200).1),
        traces,
        zeros(long),
    ]
}

#[test]
fn chosen_keys_count_as_often_as_they_come_whatever_the_seed() {
    run(&chosen(), 300, crate::checks::keys);
}

/// What fuzzers have found. Each has been a panic, or was taken for something that it is not.
#[test]
fn what_fuzzers_have_found_does_no_harm() {
    // A step at the least of all numbers, which has no absolute value.
    crate::checks::delta_record(include_bytes!("../found/share-least-time"));
}

/// The fuzzers begin with whole inputs: `FUZZ_CORPUS=fuzz/corpus cargo test --test pure any_bytes seeds` writes them to where
/// these look. Without the variable they go where tests write.
#[test]
fn seeds_for_the_fuzzers_are_written_for_targets_that_there_are() {
    let (snapshot, undelivered) = shard();
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    let overrides = include_str!("../../config/overrides.yaml");
    let corpus = std::env::var_os("FUZZ_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus"), std::path::PathBuf::from);
    for (target, seeds) in [
        ("otlp", records()),
        ("record", records()),
        ("formats", other_formats()),
        ("delta_record", delta_records()),
        ("journal", journals()),
        ("snapshot", vec![snapshot, undelivered]),
        ("config", texts(&CONFIGS)),
        ("overrides", texts(&[overrides])),
        ("import", texts(&IMPORTS)),
        ("plan", texts(&[PLAN])),
        ("text_rules", texts(&RULES)),
        ("keys", chosen()),
    ] {
        let code = format!("fuzz/fuzz_targets/{target}.rs");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&code).is_file(), "{code}");
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        for (i, seed) in seeds.iter().enumerate() {
            assert!(!seed.is_empty(), "{target}: seed {i}");
            std::fs::write(dir.join(format!("seed-{i}")), seed).expect("a file can be written");
        }
    }
}
