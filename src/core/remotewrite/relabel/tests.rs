use prost::Message;

use super::*;
use crate::core::remotewrite::Request;
use crate::core::remotewrite::StartTimes;
use crate::core::remotewrite::decode;
use crate::core::remotewrite::decode::proto::{Exemplar, Label, Sample, TimeSeries, WriteRequest};
use crate::core::remotewrite::separate::SeriesFate;

fn rule(action: RelabelAction, sources: &[&str], regex: &str) -> RelabelRule {
    let source_labels = sources.iter().map(|name| (*name).to_owned()).collect();
    RelabelRule { source_labels, regex: regex.to_owned(), action, ..RelabelRule::default() }
}

fn set(sources: &[&str], regex: &str, target: &str, replacement: &str) -> RelabelRule {
    let (target_label, replacement) = (target.to_owned(), replacement.to_owned());
    RelabelRule { target_label, replacement, ..rule(RelabelAction::Replace, sources, regex) }
}

/// `name=value` pairs after the rules; `None` when the series is dropped.
fn relabel(rules: &[RelabelRule], labels: &str) -> Option<String> {
    let relabeler = Relabeler::new(rules).expect("expressions").expect("rules");
    let pairs = labels.split(' ').map(|pair| pair.split_once('=').expect("a pair"));
    let mut labels = Labels(pairs.map(|(name, value)| (name.into(), value.into())).collect());
    relabeler.apply(&mut labels, &mut String::new()).then(|| {
        let shown: Vec<String> = labels.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        shown.join(" ")
    })
}

#[test]
fn series_are_kept_and_dropped_by_the_whole_of_their_joined_labels() {
    use RelabelAction::{Drop, Keep};
    let cases = [
        (rule(Drop, &["__name__"], "calls_.*"), None),
        (rule(Drop, &["__name__"], "calls"), Some("__name__=calls_total job=a")),
        (rule(Keep, &["__name__", "job"], "calls_total;a"), Some("__name__=calls_total job=a")),
        (rule(Keep, &["__name__", "job"], "calls_total;b"), None),
        (rule(Keep, &["missing"], ""), Some("__name__=calls_total job=a")),
        (rule(Drop, &["missing"], "(.*)"), None),
        (rule(Drop, &["job"], "b|a"), None),
    ];
    for (rule, expected) in cases {
        let got = relabel(std::slice::from_ref(&rule), "__name__=calls_total job=a");
        assert_eq!(got.as_deref(), expected, "{rule:?}");
    }
}

#[test]
fn a_label_is_set_replaced_and_removed_in_its_place_by_name() {
    let cases = [
        (set(&["b"], "(.*)", "c", "$1"), "a=1 b=2 c=2 d=3"),
        (set(&["a", "b"], "(.);(.)", "aa", "${2}-$1"), "a=1 aa=2-1 b=2 d=3"),
        (set(&["a"], "(?P<digit>[0-9])", "b", "n${digit}"), "a=1 b=n1 d=3"),
        (set(&["a"], "x", "b", "gone"), "a=1 b=2 d=3"),
        (set(&[], "(.*)", "z", "eu"), "a=1 b=2 d=3 z=eu"),
        (set(&["b"], "2", "b", ""), "a=1 d=3"),
        (set(&["none"], "(.*)", "b", "$1"), "a=1 d=3"),
        (set(&["a"], "(.*)", "l_$1", "v"), "a=1 b=2 d=3 l_1=v"),
        (set(&["a"], "(.*)", "${1}l", "v"), "a=1 b=2 d=3"),
        (set(&["a"], "(.*)", "b", "$1x"), "a=1 d=3"),
        (set(&["a"], "(.*)", "b", "$$1"), "a=1 b=$1 d=3"),
    ];
    for (rule, expected) in cases {
        assert_eq!(relabel(std::slice::from_ref(&rule), "a=1 b=2 d=3").as_deref(), Some(expected), "{rule:?}");
    }
}

#[test]
fn labels_are_dropped_kept_mapped_and_compared() {
    use RelabelAction::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Uppercase};
    let target = |rule: RelabelRule, target: &str| RelabelRule { target_label: target.to_owned(), ..rule };
    let map = RelabelRule { replacement: "x_$1".to_owned(), ..rule(LabelMap, &[], "in_(.*)") };
    let hash = RelabelRule { modulus: 1_000_000, ..target(rule(HashMod, &["a"], "(.*)"), "a") };
    let cases = [
        // The MD5 of "q" ends in 8cdd9d9954bd611d.
        (hash, Some("__name__=M a=220445 in_b=q")),
        (rule(LabelDrop, &[], "in_.*"), Some("__name__=M a=q")),
        (rule(LabelKeep, &[], "__name__|a"), Some("__name__=M a=q")),
        (map, Some("__name__=M a=q in_b=q x_b=q")),
        (target(rule(Lowercase, &["__name__"], "(.*)"), "a"), Some("__name__=M a=m in_b=q")),
        (target(rule(Uppercase, &["a"], "(.*)"), "a"), Some("__name__=M a=Q in_b=q")),
        (target(rule(KeepEqual, &["a"], "(.*)"), "in_b"), Some("__name__=M a=q in_b=q")),
        (target(rule(KeepEqual, &["a"], "(.*)"), "__name__"), None),
        (target(rule(DropEqual, &["a"], "(.*)"), "in_b"), None),
        (rule(LabelKeep, &[], "nothing"), None),
    ];
    for (rule, expected) in cases {
        assert_eq!(relabel(std::slice::from_ref(&rule), "__name__=M a=q in_b=q").as_deref(), expected, "{rule:?}");
    }
}

#[test]
fn rules_apply_one_after_the_other_and_a_dot_matches_a_line_break() {
    let rules = [set(&["a"], "(.*)", "b", "$1"), rule(RelabelAction::Keep, &["b"], "x.y"), set(&[], "(.*)", "a", "")];
    assert_eq!(relabel(&rules, "a=x\ny").as_deref(), Some("b=x\ny"));
    assert_eq!(relabel(&rules, "a=xy"), None);
    assert!(Relabeler::new(&[]).expect("nothing").is_none());
    assert!(Relabeler::new(&[rule(RelabelAction::Keep, &[], "(")]).is_err());
}

fn request(names: &[(&str, &str)]) -> Request {
    let label = |n: &str, v: &str| Label { name: n.to_owned(), value: v.to_owned() };
    let series = |(i, (name, service)): (usize, &(&str, &str))| TimeSeries {
        labels: vec![label("__name__", name), label("service", service)],
        samples: vec![Sample { value: i as f64, timestamp: 7 }],
        exemplars: (0..i % 2).map(|_| Exemplar { labels: vec![], value: 1.0, timestamp: 5 }).collect(),
        histograms: vec![],
    };
    let message = WriteRequest { timeseries: names.iter().enumerate().map(series).collect() };
    let (n, exemplars) = (names.len() as u32, (names.len() / 2) as u32);
    let starts = StartTimes::of(1..=i64::from(n));
    let encoder = &mut snap::raw::Encoder::new();
    Request { starts, ..Request::compress(&message.encode_to_vec(), n, n, exemplars, encoder) }
}

fn shown(request: &Request) -> Vec<String> {
    let body = decode::body(&request.body).expect("our own body");
    body.timeseries.iter().map(|s| format!("{} {}", decode::text(&s.labels), s.samples[0].value)).collect()
}

#[test]
fn a_request_keeps_what_the_rules_keep_with_its_values_and_starts_and_counts_the_rest() {
    let whole = request(&[("calls", "a"), ("size", "a"), ("calls", "b")]);
    let relabeler = |rules: &[RelabelRule]| Relabeler::new(rules).expect("expressions").expect("rules");
    let drop_size = relabeler(&[rule(RelabelAction::Drop, &["__name__"], "size")]);
    let relabeled = drop_size.request(&whole).expect("our own request");
    let rest = relabeled.request.as_ref().expect("two series");
    assert_eq!(shown(rest), [r#"calls{service="a"} 0"#, r#"calls{service="b"} 2"#]);
    let kept = whole.separate(|labels| if drop_size.keeps(labels) { SeriesFate::Stay } else { SeriesFate::LeaveOut });
    assert_eq!(kept.and_then(|kept| kept.rest).as_ref(), Some(rest), "the same series, asked one by one");
    assert!(!drop_size.may_merge());
    assert_eq!((rest.series, rest.samples, rest.exemplars, relabeled.filtered), (2, 2, 0, 1));
    assert_eq!(rest.starts, StartTimes::of([1, 3]));
    assert_eq!(relabeled.collided, 0);

    let nothing = relabeler(&[rule(RelabelAction::Drop, &["__name__"], ".*")]).request(&whole).expect("our own");
    assert_eq!((nothing.request, nothing.filtered), (None, 3));
    let all = relabeler(&[rule(RelabelAction::Keep, &["__name__"], "calls|size")]).request(&whole).expect("our own");
    assert_eq!(all, Relabeled { request: Some(whole), ..Relabeled::default() }, "not even its bytes change");
}

#[test]
fn of_series_that_become_one_only_the_first_is_sent_and_the_others_are_counted_and_named() {
    let whole = request(&[("calls", "a"), ("size", "a"), ("calls", "b"), ("calls", "c")]);
    let rules = [rule(RelabelAction::LabelDrop, &[], "service")];
    let relabeled = Relabeler::new(&rules).expect("expressions").expect("rules").request(&whole).expect("our own");
    assert_eq!(shown(relabeled.request.as_ref().expect("two series")), ["calls 0", "size 1"]);
    assert_eq!((relabeled.collided, relabeled.collision.as_deref()), (2, Some(r#"calls{service="b"}"#)));
    assert!(Relabeler::new(&rules).expect("expressions").expect("rules").may_merge());
    assert_eq!(relabeled.request.expect("two series").starts, StartTimes::of([1, 2]));
}

#[test]
fn a_body_that_is_not_ours_is_an_error() {
    let relabeler = Relabeler::new(&[set(&[], "(.*)", "a", "b")]).expect("expressions").expect("rules");
    let odd = Request { body: (&b"\x03abc"[..]).into(), series: 1, samples: 1, exemplars: 0, starts: None };
    assert!(relabeler.request(&odd).is_err());
}
