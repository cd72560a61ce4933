//! Lines of JSON: one per run, one with the medians of each subject.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::Shape;

/// Numbers by name; the unit is part of the name.
pub type Numbers = BTreeMap<String, f64>;

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct Line<'a> {
    /// The experiment.
    pub experiment: &'a str,
    /// The case.
    pub case: &'a str,
    /// Where the case stands on the axis of a plot.
    pub x: u64,
    /// Who reads.
    pub subject: &'a str,
    /// Which run, from 1; absent for medians.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<usize>,
    /// How many runs these are the medians of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_of: Option<usize>,
    /// What of the load decides its cost.
    pub shape: &'a Shape,
    /// What was measured.
    #[serde(flatten)]
    pub numbers: &'a Numbers,
}

impl Line<'_> {
    /// Prints it.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("JSON"));
    }
}

/// The median of each number that every run has.
pub fn medians(runs: &[Numbers]) -> Numbers {
    let Some(first) = runs.first() else { return Numbers::new() };
    let names = first.keys().filter(|name| runs.iter().all(|run| run.contains_key(*name)));
    names.map(|name| (name.clone(), median(runs.iter().map(|run| run[name]).collect()))).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let of_two = (values[middle] + values[values.len().saturating_sub(1) / 2]) / 2.0;
    if values.len().is_multiple_of(2) { of_two } else { values[middle] }
}

/// Rounds to six digits: more were not measured.
pub fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
