//! Compares a spool with what a server already has.
//!
//! The server is queried for raw samples, one metric and window at a time. The comparison covers the time from the
//! first step of the spool to its last one, and every metric that the spool has; stale markers are not samples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::config::settings::RemoteWrite;
use crate::core::model::Millis;
use crate::core::model::text::Shown;
use crate::core::model::time::rfc3339;
use crate::tools::archive::compare::{ComparedSamples, Comparison, Difference, Report, Rules};
use crate::tools::archive::query::{AnswerError, Matcher, Sampled, answer, sampled, selector};
use crate::tools::spool::{Reader, SpoolError};
use crate::worker::sender::ExportError;
use crate::worker::sender::query::Inquirer;

/// The window of one query: with 15 s steps, a metric may have 400,000 series before Prometheus refuses.
const WINDOW: Millis = 1_800_000;
/// A window that is refused is halved down to this.
const LEAST: Millis = 60_000;

/// What to compare with, and how.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DiffArgs {
    /// Send no samples: compare them with those of the server at this address, such as http://localhost:9090. Uses the
    /// authentication, TLS and headers of remote_write.
    #[arg(long = "diff", value_name = "URL")]
    pub url: Option<String>,
    /// Compare only series that match this condition, such as 'service="cart"' or 'le!~"0.*"'. Repeatable.
    #[arg(long = "diff-match", value_name = "CONDITION", requires = "url", value_parser = Matcher::parse)]
    pub matchers: Vec<Matcher>,
    /// Label to ignore, such as one that separates the replay from the live series. Repeatable.
    #[arg(long, value_name = "LABEL", requires = "url")]
    pub ignore_label: Vec<String>,
    /// Relative tolerance: values are equal if they differ by at most this fraction of the larger one.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, requires = "url")]
    pub tolerance: f64,
    /// Compare increases instead of values, for runs that begin in the middle of the history and do not know the
    /// earlier totals.
    #[arg(long, requires = "url")]
    pub increases: bool,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The server cannot be asked.
    #[error(transparent)]
    Settings(#[from] ExportError),
    /// The server does not answer.
    #[error("{url}: no answer: {why}; use the base URL of /api/v1/query")]
    NoAnswer {
        /// Its address.
        url: String,
        /// Why.
        why: String,
    },
    /// The server gives another answer than expected.
    #[error("{url}: {source}; use the base URL of /api/v1/query")]
    Answer {
        /// Its address.
        url: String,
        /// The problem.
        source: AnswerError,
    },
}

/// A comparison at work.
struct Differ<'a> {
    args: &'a DiffArgs,
    url: &'a str,
    server: Inquirer,
    comparison: Comparison,
    /// From the first step to the last, and a millisecond.
    range: (Millis, Millis),
    /// The metrics that the spool has, by tenant, with the windows in which they have been compared.
    metrics: BTreeMap<(String, String), BTreeSet<Millis>>,
}

/// Compares the spool `dirs` with the server at `url`. `progress` is called with how many samples of the spool are
/// done.
///
/// # Errors
/// When the spool cannot be read, or the server does not answer.
pub fn diff(
    dirs: &[PathBuf],
    url: &str,
    args: &DiffArgs,
    cfg: &RemoteWrite,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, DiffError> {
    let reader = Reader::open(dirs, WINDOW)?;
    let Some((first, last)) = reader.contents().steps else { return Ok(Report::default()) };
    let rules = Rules { ignore: args.ignore_label.clone(), tolerance: args.tolerance, increases: args.increases };
    let (server, comparison) = (Inquirer::new(cfg, url)?, Comparison::new(rules));
    let mut differ = Differ { args, url, server, comparison, range: (first, last + 1), metrics: BTreeMap::new() };
    reader.windows(|from, window| {
        let samples = window.samples();
        for series in window.series.chunk_by(|a, b| a.tenant == b.tenant && a.name() == b.name()) {
            let chosen = series.iter().filter(|one| args.matchers.iter().all(|m| m.holds(&one.labels)));
            let here: Vec<Sampled> = chosen.flat_map(sampled).collect();
            if let Some(one) = series.first() {
                differ.window(&one.tenant, one.name(), from, here)?;
            }
        }
        progress(samples);
        Ok::<(), DiffError>(())
    })?;
    differ.rest()?;
    Ok(differ.comparison.finish())
}

// === impl Differ ===

impl Differ<'_> {
    /// Compares a metric in one window.
    fn window(&mut self, tenant: &str, metric: &str, from: Millis, mut here: Vec<Sampled>) -> Result<(), DiffError> {
        self.metrics.entry((tenant.to_owned(), metric.to_owned())).or_default().insert(from);
        let (from, to) = (from.max(self.range.0), (from + WINDOW).min(self.range.1));
        if from >= to {
            return Ok(());
        }
        for one in &mut here {
            one.values.retain(|(at, _)| (from..to).contains(at));
        }
        here.retain(|one| !one.values.is_empty());
        let there = self.ask(tenant, metric, from, to)?;
        self.comparison.add(tenant, &here, &there);
        Ok(())
    }

    /// Looks for series that only the server has, where the spool has nothing of a metric that it has elsewhere.
    fn rest(&mut self) -> Result<(), DiffError> {
        let first = self.range.0.div_euclid(WINDOW) * WINDOW;
        for ((tenant, metric), done) in self.metrics.clone() {
            let mut from = first;
            while from < self.range.1 {
                if !done.contains(&from) {
                    self.window(&tenant, &metric, from, Vec::new())?;
                }
                from += WINDOW;
            }
        }
        Ok(())
    }

    fn ask(&self, tenant: &str, metric: &str, from: Millis, to: Millis) -> Result<Vec<Sampled>, DiffError> {
        let (query, time) = selector(metric, &self.args.matchers, from, to);
        let url = || self.url.to_owned();
        let said = self.server.post(tenant, "api/v1/query", &[("query", &query), ("time", &time)]);
        let said = said.map_err(|why| DiffError::NoAnswer { url: url(), why })?;
        // "query processing would load too many samples into memory"
        if said.status == 422 && to - from > LEAST {
            let middle = from + (to - from) / 2;
            let mut both = self.ask(tenant, metric, from, middle)?;
            both.extend(self.ask(tenant, metric, middle, to)?);
            return Ok(joined(both));
        }
        if said.status == 404 || said.status == 405 {
            return Err(DiffError::NoAnswer { url: url(), why: format!("status {}", said.status) });
        }
        answer(&said.body, from, to).map_err(|source| DiffError::Answer { url: url(), source })
    }
}

/// Joins the halves of series.
fn joined(halves: Vec<Sampled>) -> Vec<Sampled> {
    let mut whole: BTreeMap<Vec<(String, String)>, Vec<(Millis, f64)>> = BTreeMap::new();
    for half in halves {
        whole.entry(half.labels).or_default().extend(half.values);
    }
    whole.into_iter().map(|(labels, values)| Sampled { labels, values }).collect()
}

/// A readable report.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = vec![
        format!(
            "{} series: {} equal, {} different, {} only in the replay, {} only on the server",
            report.series, report.equal, report.different, report.only_here, report.only_there
        ),
        format!("samples: {}", counts(&report.samples)),
    ];
    if report.samples.different > 0 {
        out.push(format!("values differ by up to {} ({:.3e} of the larger)", report.max_absolute, report.max_relative));
    }
    let ambiguous = report.ambiguous.iter();
    out.extend(ambiguous.map(|series| {
        format!(
            "ignored labels make several series equal: \
                                        {series}"
        )
    }));
    for one in &report.differences {
        out.push(format!("\n{}{}", tenant(&one.tenant), one.series));
        out.push(format!("  {}", counts(&one.samples)));
        out.push(format!("  first at {}: {}", rfc3339(one.first.at), values(&one.first)));
        if one.samples.different > 0 {
            out.push(format!("  by up to {} ({:.3e} of the larger)", one.max_absolute, one.max_relative));
        }
    }
    let hidden = report.series - report.equal - report.differences.len() as u64;
    if hidden > 0 {
        out.push(format!("\nand {hidden} more series"));
    }
    out.join("\n") + "\n"
}

fn counts(samples: &ComparedSamples) -> String {
    let ComparedSamples { equal, different, only_here, only_there } = samples;
    format!("{equal} equal, {different} different, {only_here} only in the replay, {only_there} only on the server")
}

fn tenant(tenant: &str) -> String {
    if tenant == crate::core::settings::SINGLE_TENANT { String::new() } else { format!("{}: ", Shown(tenant)) }
}

fn values(first: &Difference) -> String {
    let show = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
    format!("{} in the replay, {} on the server", show(first.here), show(first.there))
}
