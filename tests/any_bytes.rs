//! Everything that reads bytes from outside gets thousands of damaged inputs and must not panic. The same checks run
//! under a fuzzer: see `fuzz/`.
#![allow(clippy::expect_used, reason = "helpers of tests")]

#[path = "common/any_bytes.rs"]
mod any_bytes;
#[allow(dead_code, reason = "shared with the simulation")]
#[path = "simulation/rng.rs"]
mod rng;

use std::path::Path;

use rng::Rng;
use spanmill::archive::Frame;
use spanmill::archive::frame::MAGIC;
use spanmill::config::Config;
use spanmill::config::Tenants;
use spanmill::journal::frame::claim;
use spanmill::journal::{Cause, Owner, SeriesSnapshot, SpanCommit, Witness, Writer};
use spanmill::loadgen::{Generator, Options, Topology};
use spanmill::remotewrite::{Request, StepBatch};
use spanmill::tasks::series::{SeriesSettings, SeriesTask};
use spanmill::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};

const START: i64 = 1 << 42;
const CONFIGS: [&str; 2] = [include_str!("../config/spanmill.yaml"), include_str!("../config/good/everything.yaml")];
/// What others configure.
const IMPORTS: [&str; 4] = [
    include_str!("import/tempo-small.yaml"),
    include_str!("import/tempo-legacy.yaml"),
    include_str!("import/tempo-overrides.yaml"),
    include_str!("import/collector-new.yaml"),
];
/// A plan with two partitions, and all that can have happened to one.
const PLAN: &str = include_str!("files/plan.json");
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

fn shares() -> Vec<Vec<u8>> {
    cuts().into_iter().flat_map(|cut| cut.shares.concat()).collect()
}

/// What a series task makes of that: its snapshot, and the batches that were not delivered.
fn shard() -> (Vec<u8>, Vec<u8>) {
    let mut task = SeriesTask::new(SeriesSettings::from(&Tenants::from(Config::default())));
    for share in shares() {
        task.apply(&share).expect("a share");
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
    let mut writer = Writer::new(Owner(1), 0, None, 0);
    for cut in cuts() {
        let commit = SpanCommit {
            cause: Cause::Records,
            step: cut.step,
            stream_time: Some(cut.stream_time),
            forwarded: 0,
            reread_from: cut.reread_from,
            live: cut.live,
            ledger: cut.ledger,
            shares: cut.shares,
            witness: Some(Witness::of(cut.from, Some(cut.stream_time), b"spans")),
        };
        span.extend(writer.commit(cut.from, cut.to, &commit.encode()));
    }
    span.extend(writer.release());
    let mut series = vec![claim(Owner(2), "")];
    let mut writer = Writer::new(Owner(2), 0, None, 0);
    let (body, undelivered) = shard();
    let body = SeriesSnapshot { body, deltas_offset: 9, step: START, undelivered }.encode();
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
    run(&records(), 1_500, any_bytes::record);
}

#[test]
fn damaged_files_do_no_harm() {
    let json = include_str!("files/collector.jsonl");
    let sized = records().into_iter().take(3);
    let sized = sized.flat_map(|r| [&(r.len() as u32).to_be_bytes(), r.as_slice()].concat()).collect();
    let lines = json.lines().map(|line| line.as_bytes().to_vec());
    let name = b"traces-2026-01-02T03-04-05.678-size.json.gz".to_vec();
    let seeds: Vec<Vec<u8>> =
        lines.chain([json.replace(",", ",\n").replace('{', "{\n").into_bytes(), sized, name]).collect();
    run(&seeds, 4_000, any_bytes::file);
}

#[test]
fn damaged_shares_do_no_harm() {
    run(&shares(), 2_000, any_bytes::share);
}

#[test]
fn damaged_journals_do_no_harm() {
    run(&journals(), 3_000, any_bytes::journal);
}

#[test]
fn damaged_snapshots_do_no_harm() {
    let (snapshot, undelivered) = shard();
    run(&[snapshot, undelivered], 1_500, any_bytes::snapshot);
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
    run(&seeds, 1_000, any_bytes::segment);
}

#[test]
fn damaged_configurations_do_no_harm() {
    run(&CONFIGS.map(|text| text.as_bytes().to_vec()), 400, any_bytes::config);
}

#[test]
fn damaged_overrides_do_no_harm() {
    run(&[include_bytes!("../config/overrides.yaml").to_vec()], 1_000, any_bytes::overrides);
}

#[test]
fn damaged_settings_of_others_do_no_harm() {
    run(&IMPORTS.map(|text| text.as_bytes().to_vec()), 400, any_bytes::import);
}

#[cfg(feature = "replay")]
#[test]
fn damaged_plans_do_no_harm() {
    run(&[PLAN.as_bytes().to_vec()], 4_000, any_bytes::plan);
}

#[test]
fn damaged_rules_on_damaged_names_do_no_harm() {
    let spans = &records()[0];
    run(&RULES.map(|text| text.as_bytes().to_vec()), 2_000, |bytes| any_bytes::text_rules(bytes, spans));
}

/// What fuzzers have found. Each has been a panic, or was taken for something that it is not.
#[test]
fn what_fuzzers_have_found_does_no_harm() {
    // A step at the least of all numbers, which has no absolute value.
    any_bytes::share(include_bytes!("found/share-least-time"));
}

/// The fuzzers begin with whole inputs: `FUZZ_CORPUS=fuzz/corpus cargo test --test any_bytes seeds` writes them to where these
/// look. Without the variable they go where tests write.
#[test]
fn seeds_for_the_fuzzers_are_written_for_targets_that_there_are() {
    let (snapshot, undelivered) = shard();
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    let overrides = include_str!("../config/overrides.yaml");
    let corpus = std::env::var_os("FUZZ_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus"), std::path::PathBuf::from);
    for (target, seeds) in [
        ("otlp", records()),
        ("record", records()),
        ("share", shares()),
        ("journal", journals()),
        ("snapshot", vec![snapshot, undelivered]),
        ("config", texts(&CONFIGS)),
        ("overrides", texts(&[overrides])),
        ("import", texts(&IMPORTS)),
        ("plan", texts(&[PLAN])),
        ("text_rules", texts(&RULES)),
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
