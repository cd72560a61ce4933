//! `spanmill check --expected`: whether a server has the expected result of a `spanmill produce --expect` load.
#![allow(clippy::disallowed_methods, reason = "how long to wait is a matter of the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::config::settings::TenantSource;
use crate::core::model::Millis;
use crate::core::model::text::{Shown, ShownAs};
use crate::core::settings::SINGLE_TENANT;
use crate::tools::archive::query::{Sampled, answer, selector};
use crate::tools::loadgen::Expectation;
use crate::worker::sender::query::{Inquirer, QueryAnswer};

use super::produce::{duration, wall_clock};

/// How many differences are shown.
const SHOWN: usize = 10;
/// The look-back of an instant query of Prometheus.
const LOOKS_BACK: Millis = 300_000;
/// The interval between two queries.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What to compare, and with whom.
#[derive(Debug, clap::Args)]
pub(super) struct ExpectedArgs {
    /// File written by `spanmill produce --expect`; check that the server of --diff has exactly these series.
    #[arg(long, value_name = "FILE", requires = "diff", conflicts_with_all = ["cases", "against", "connect", "only_changed"])]
    expected: Option<PathBuf>,
    /// Base URL of the server's query API (/api/v1/query). Uses the credentials and headers of `remote_write`.
    #[arg(long, value_name = "URL", requires = "expected")]
    diff: Option<String>,
    /// Maximum time to wait for the expected values; steps must close and unpaired spans must time out first.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration, requires = "expected")]
    within: Duration,
    /// Relative tolerance: values are equal if they differ by at most this fraction of the larger one. VictoriaMetrics
    /// stores decimals: use 1e-12.
    #[arg(long, value_name = "N", default_value_t = 0.0, requires = "expected")]
    tolerance: f64,
}

/// Compares until nothing differs, or the time is over; returns whether nothing does. `None` if no comparison was
/// requested.
///
/// # Errors
/// Only those of writing to `out`.
pub(super) fn compare(args: &ExpectedArgs, config: &Config, out: &mut dyn Write) -> Option<io::Result<bool>> {
    let (file, url) = args.expected.as_ref().zip(args.diff.as_deref())?;
    let name = ShownAs(file.display());
    let read =
        std::fs::read_to_string(file).map_err(|error| format!("{name}: cannot be read: {error}; check the path"));
    let parse = |text: String| Expectation::parse(&text).map_err(|error| format!("{name}: {error}"));
    let expected = match read.and_then(parse) {
        Ok(expected) => expected,
        Err(why) => return Some(writeln!(out, "{why}").map(|()| false)),
    };
    let server = match Inquirer::new(&config.remote_write, url) {
        Ok(server) => server.once(),
        Err(error) => return Some(writeln!(out, "{error}").map(|()| false)),
    };
    let begin = Instant::now();
    let differences = loop {
        let found = ask(&server, config, &expected);
        let differences = found.map(|found| differences(&expected, &found, args.tolerance));
        let equal = differences.as_ref().is_ok_and(Vec::is_empty);
        if equal || begin.elapsed() + ASK_EVERY > args.within {
            break differences;
        }
        std::thread::sleep(ASK_EVERY);
    };
    Some(say(differences, &expected, url, out))
}

fn say(
    differences: Result<Vec<String>, String>,
    expected: &Expectation,
    url: &str,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let (url, all) = (Shown(url), expected.series().len());
    match differences {
        Ok(differences) if differences.is_empty() => writeln!(out, "all {all} series are at {url}, and equal")?,
        Ok(differences) => {
            writeln!(out, "{} of {all} series differ at {url}:", differences.len())?;
            differences.iter().take(SHOWN).try_for_each(|one| writeln!(out, "  {}", Shown(one)))?;
            writeln!(
                out,
                "check that all samples have been sent, that names and labels are the defaults, and that no other \
                 producer writes to the topic"
            )?;
            return Ok(false);
        }
        Err(why) => {
            writeln!(out, "{url}: {}; use the base URL of /api/v1/query", Shown(&why))?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// The last values of all series that have the name of an expected one, by their text.
fn ask(server: &Inquirer, config: &Config, expected: &Expectation) -> Result<BTreeMap<String, f64>, String> {
    let metric = |series: &str| series.split('{').next().unwrap_or_default().to_owned();
    let metrics: BTreeSet<String> = expected.series().map(|(series, _)| metric(series)).collect();
    let tenant = match &config.tenant {
        TenantSource::Static(name) | TenantSource::Attribute { fallback: name, .. } => name,
        TenantSource::Key | TenantSource::Header(_) | TenantSource::Topic => SINGLE_TENANT,
    };
    // What an instant query shows, as far back as it looks.
    let to = wall_clock() + 1;
    let mut found = BTreeMap::new();
    for metric in metrics {
        let (query, time) = selector(&metric, &[], to - LOOKS_BACK, to);
        let said = server.post(tenant, "api/v1/query", &[("query", &query), ("time", &time)])?;
        found.extend(values(&said, config)?);
    }
    Ok(found)
}

/// The last values of the series of an answer. Labels that the worker adds are not part of a load.
fn values(said: &QueryAnswer, config: &Config) -> Result<Vec<(String, f64)>, String> {
    if said.status != 200 {
        return Err(format!("status {}", said.status));
    }
    let series = answer(&said.body, Millis::MIN, Millis::MAX).map_err(|error| error.to_string())?;
    let own = |label: &str| label != "__name__" && !config.core.series.external_labels.contains_key(label);
    let last = series.iter().filter_map(|Sampled { labels, values }| {
        let name = labels.iter().find(|(label, _)| label == "__name__").map_or("", |(_, name)| name.as_str());
        let labels = labels.iter().filter(|(label, _)| own(label));
        let labels: Vec<(&str, &str)> = labels.map(|(label, value)| (label.as_str(), value.as_str())).collect();
        Some((Expectation::text_of(name, &labels), values.last()?.1))
    });
    Ok(last.collect())
}

/// What is missing or has another value.
fn differences(expected: &Expectation, found: &BTreeMap<String, f64>, tolerance: f64) -> Vec<String> {
    let differs = |wanted: f64, value: f64| {
        wanted.to_bits() != value.to_bits() && (wanted - value).abs() > tolerance * wanted.abs().max(value.abs())
    };
    let all = expected.series().filter_map(|(series, wanted)| match found.get(series) {
        None => Some(format!("{series} is missing; expected {wanted}")),
        Some(value) if differs(wanted, *value) => Some(format!("{series} is {value}; expected {wanted}")),
        Some(_) => None,
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &str = "calls_total{service=\"a \\\"b\\\"\"} 3\ntook_sum{service=\"a \\\"b\\\"\"} 0.3\n";

    fn found(body: &str) -> BTreeMap<String, f64> {
        let mut config = Config::default();
        config.core.series.external_labels.insert("cluster".to_owned(), "eu".to_owned());
        let said = QueryAnswer { status: 200, body: body.as_bytes().to_vec() };
        values(&said, &config).expect("an answer").into_iter().collect()
    }

    #[test]
    fn a_server_that_has_every_series_to_the_bit_has_no_differences() {
        let expected = Expectation::parse(EXPECTED).expect("an expectation");
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"calls_total","cluster":"eu","service":"a \"b\""},"values":[[0.5,"2"],[1.5,"3"]]},
            {"metric":{"__name__":"took_sum","service":"a \"b\""},"values":[[1.5,"0.3"]]},
            {"metric":{"__name__":"calls_total","service":"somebody else"},"values":[[1.5,"7"]]}]}}"#;
        assert_eq!(differences(&expected, &found(body), 0.0), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_and_what_has_another_value_is_named() {
        let expected = Expectation::parse(EXPECTED).expect("an expectation");
        let body = r#"{"status":"success","data":{"result":[{"metric":{"__name__":"took_sum","service":"a \"b\""},"values":[[1,"0.30000000001"]]}]}}"#;
        let named = differences(&expected, &found(body), 0.0);
        assert_eq!(named.len(), 2, "{named:?}");
        assert!(named[0].contains("is missing; expected 3") && named[1].contains("is 0.30000000001; expected 0.3"));
        assert_eq!(differences(&expected, &found(body), 1e-9).len(), 1);
    }

    #[test]
    fn what_is_no_answer_is_said() {
        for (status, body) in [(404, "{}"), (200, "<html>"), (200, r#"{"status":"error","error":"no"}"#)] {
            assert!(values(&QueryAnswer { status, body: body.as_bytes().to_vec() }, &Config::default()).is_err());
        }
    }
}
