use std::io::Write as _;

use super::*;
use crate::core::settings::TimeSource;

#[derive(clap::Parser)]
struct Alone {
    #[command(flatten)]
    args: super::super::ReplayArgs,
}

fn parse(words: &str) -> Result<super::super::ReplayArgs, clap::Error> {
    let words = ["replay"].into_iter().chain(words.split_whitespace());
    <Alone as clap::Parser>::try_parse_from(words).map(|alone| alone.args)
}

#[test]
fn files_have_no_key_no_header_and_no_topic_to_name_a_tenant() {
    let fixed = TenantSource::Static("acme".to_owned());
    let attribute = TenantSource::Attribute { key: "k".to_owned(), fallback: "rest".to_owned() };
    assert_eq!(tenant(None, &fixed).expect("named"), "acme");
    assert_eq!(tenant(None, &attribute).expect("named"), "rest");
    for source in [TenantSource::Key, TenantSource::Topic, TenantSource::Header("h".to_owned())] {
        assert!(matches!(tenant(None, &source), Err(FilesError::NoTenant(_))));
        assert_eq!(tenant(Some("mine"), &source).expect("named"), "mine");
    }
}

#[test]
fn a_directory_stands_for_its_files_and_a_row_of_rotated_ones_is_one_stream() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = ["a.json", "a-2026-01-01T00-00-00.000.json.gz", "b.pb", ".hidden", "deeper/c.json"];
    std::fs::create_dir(dir.path().join("deeper")).expect("a directory");
    for name in names {
        std::fs::File::create(dir.path().join(name)).and_then(|mut f| f.write_all(b"12345")).expect("a file");
    }
    let inputs = Inputs::find(&[dir.path().to_owned(), dir.path().join("b.pb")], Encoding::Auto).expect("files");
    assert_eq!((inputs.files(), inputs.bytes()), (4, Some(25)));
    assert_eq!(inputs.streams(0, &Arc::default()).len(), 3);
    assert!(matches!(Inputs::find(&[dir.path().join("none")], Encoding::Auto), Err(FilesError::Path { .. })));
    let empty = tempfile::tempdir().expect("a directory");
    assert!(matches!(Inputs::find(&[empty.path().to_owned()], Encoding::Auto), Err(FilesError::NoFiles(_))));
}

#[test]
fn arguments_are_what_they_say_and_those_of_kafka_do_not_go_with_files() {
    let args = parse("--files a - b --format otlp-proto --tenant t --resend").expect("arguments").files;
    assert_eq!((args.files.len(), args.format), (3, Some(FileFormat::OtlpProto)));
    assert!(args.resend);
    assert!(parse("--files a --json --label replay=x --write-rate 5").is_ok());
    for wrong in ["--files a --id x", "--files a --from earliest", "--tenant t", "--resend", "--files"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn spans_tell_the_time_unless_a_flag_says_otherwise_and_labels_are_on_every_series() {
    let source = |set: &[&str]| {
        let config = ConfigArgs { config: None, set: set.iter().map(|&flag| flag.to_owned()).collect() };
        let target = TargetArgs { label: vec!["replay=monday".to_owned()], ..TargetArgs::default() };
        let loaded = load(&config, &target).expect("a configuration");
        assert_eq!(loaded.tenants.defaults().core.series.external_labels["replay"], "monday");
        loaded.tenants.defaults().core.time.source
    };
    assert_eq!(source(&["time.lateness=1m"]), TimeSource::SpanEnd);
    assert_eq!(source(&["time.source=record"]), TimeSource::Record);
}

#[test]
fn only_the_first_problems_are_told_and_all_are_counted() {
    let problem = |n: u64| Problem {
        file: "f".to_owned(),
        at: Some(crate::tools::files::FilePosition::Line(n)),
        what: "bad".to_owned(),
    };
    let (mut all, mut more) = (Problems::default(), Problems::default());
    (0..15).for_each(|n| all.add(problem(n)));
    (15..100).for_each(|n| more.add(problem(n)));
    all.merge(more);
    assert_eq!((all.count, all.first.len()), (100, 20));
    assert_eq!(all.first[19].to_string(), "f, line 19: bad");
}
