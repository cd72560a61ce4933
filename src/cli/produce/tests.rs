use clap::Parser as _;

use super::args::duration;
use super::*;

#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    produce: ProduceArgs,
}

fn args(line: &str) -> ProduceArgs {
    let words = std::iter::once("produce").chain(line.split_whitespace());
    Cli::try_parse_from(words).expect("arguments that are legal").produce
}

#[test]
fn durations_have_a_unit() {
    assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
    assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
    for bad in ["", "5", "s", "1.5s", "-1s", "99999999999999999999h", "18446744073709551615h"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_flat_out_load_from_now_on_ends_now() {
    let options = options(&args("--rate 0 --spans 20000 --virtual-rate 1000"), 3, 100_000).expect("legal");
    assert_eq!((options.start, options.rate, options.spans), (80_000, 1_000, Some(20_000)));
    let options = super::options(&args("--rate 0 --duration 30s --virtual-rate 1000"), 3, 100_000).expect("legal");
    assert_eq!((options.start, options.spans), (70_000, Some(30_000)));
}

#[test]
fn a_paced_load_begins_now_and_may_be_endless() {
    let options = options(&args("--rate 500 --group partition"), 3, 100_000).expect("legal");
    assert_eq!((options.start, options.rate, options.spans), (100_000, 500, None));
    assert_eq!(options.group, Group::Partition(3));
}

#[test]
fn a_flat_out_load_without_an_end_is_refused() {
    assert!(matches!(options(&args("--rate 0"), 3, 0), Err(ProduceError::NoEnd)));
}

#[test]
fn the_values_of_properties_are_not_printed() {
    let args = args("--property sasl.password=hunter2 --property a=b=c");
    assert!(!format!("{args:?}").contains("hunter2"));
    assert_eq!(args.properties[1].value.reveal(), "b=c");
}
