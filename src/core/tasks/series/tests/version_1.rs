//! Delta records and snapshots of format version 1, as a worker of that version wrote them, and what it then sent.

use super::*;

/// Lines `share HEX`, `snapshot SHARES-BEFORE-IT HEX`, `closed STEPS-BEFORE-IT`, then per step `step END` and its series.
const SAMPLE: &str = include_str!("version_1.txt");

pub(super) struct Sample {
    pub(super) delta_records: Vec<Vec<u8>>,
    /// After how many delta records and steps it was taken.
    pub(super) snapshot: (usize, usize, Vec<u8>),
    pub(super) steps: Vec<(Millis, BTreeMap<String, String>)>,
}

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    hex.as_bytes().chunks(2).map(byte).collect()
}

pub(super) fn sample() -> Sample {
    read(SAMPLE)
}

pub(super) fn read(text: &str) -> Sample {
    let mut sample = Sample { delta_records: Vec::new(), snapshot: (0, 0, Vec::new()), steps: Vec::new() };
    for line in text.lines() {
        let (first, rest) = line.split_once(' ').expect("a word");
        match first {
            "share" => sample.delta_records.push(bytes(rest)),
            "snapshot" => {
                let (n, hex) = rest.split_once(' ').expect("a number");
                (sample.snapshot.0, sample.snapshot.2) = (n.parse().expect("a number"), bytes(hex));
            }
            "closed" => sample.snapshot.1 = rest.parse().expect("a number"),
            "step" => sample.steps.push((rest.parse().expect("a time"), BTreeMap::new())),
            _ => {
                let (key, said) = line.split_once("} ").expect("a series");
                sample.steps.last_mut().expect("a step").1.insert(format!("{key}}}"), said.to_owned());
            }
        }
    }
    sample
}

pub(super) fn texts(closed: &[ClosedStep]) -> Vec<(Millis, BTreeMap<String, String>)> {
    let text = |(samples, exemplars): &Said| format!("{samples:?} {exemplars:?}");
    closed.iter().map(|c| (c.step, said(c).iter().map(|(key, s)| (key.clone(), text(s))).collect())).collect()
}

#[test]
fn delta_records_of_the_version_before_give_the_samples_that_it_gave() {
    let sample = sample();
    assert!(sample.delta_records.iter().all(|delta_record| delta_record[1] == 1));
    assert!(sample.steps.len() > 4 && sample.steps[0].1.len() > 10);
    let closed = run(&mut SeriesTask::new(settings()), 2, &sample.delta_records);
    assert_eq!(texts(&closed), sample.steps);
}

#[test]
fn a_snapshot_of_the_version_before_goes_on_as_it_did() {
    let sample = sample();
    let (delta_records, steps, snapshot) = &sample.snapshot;
    let mut task = SeriesTask::restore(settings(), snapshot).expect("a snapshot");
    let mut again = SeriesTask::restore(settings(), &task.snapshot()).expect("a snapshot of today");
    for task in [&mut task, &mut again] {
        let closed = run(task, 2, &sample.delta_records[*delta_records..]);
        assert_eq!(texts(&closed), sample.steps[*steps..]);
    }
}
