//! `spanmill check --against TOPIC`: the result of a configuration for the records that a topic holds now.

use std::io::{self, Write};

use rdkafka::message::Message;

use crate::config::{Config, Tenants};
use crate::core::model::text::{Shown, ShownAs};
use crate::core::model::{Counter, Seed};
use crate::core::sanitize::{Merge, SanitizeError, Sanitizer};
use crate::core::settings::SanitizeMode;
use crate::core::tasks::span::Record;
use crate::tools::slos::table;
use crate::tools::survey::{Refused, Report, SampledTraces, Survey, SurveyError};
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::scan::Scanner;
use crate::worker::kafka::topics::Topics;
use crate::worker::kafka::{KafkaError, tenant};

/// How many labels and merges are listed.
const LISTED: usize = 20;

/// A survey that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum AgainstError {
    /// A request to Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The topic is not there.
    #[error("topic {0} does not exist, or this client may not describe it; use one of the source topics")]
    NoTopic(String),
    /// The survey itself failed.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// A rule for span names is wrong.
    #[error(transparent)]
    Sanitize(#[from] SanitizeError),
    /// The report could not be written.
    #[error("cannot write the report: {0}")]
    Write(#[from] io::Error),
}

/// Reads the last `records` records of `topic`, spread evenly over its partitions, and writes their expected result.
///
/// # Errors
/// When Kafka does not answer, the topic does not exist, or the report cannot be written.
pub(super) fn against(tenants: &Tenants, topic: &str, records: u64, out: &mut dyn Write) -> Result<(), AgainstError> {
    let config = tenants.defaults();
    let partitions =
        Topics::new(&config.kafka)?.partitions(topic)?.ok_or_else(|| AgainstError::NoTopic(topic.into()))?;
    let scanner = Scanner::new(&config.kafka)?;
    let each = i64::try_from(records / u64::from(partitions.unsigned_abs()).max(1)).unwrap_or(i64::MAX).max(1);
    let mut stretches = Vec::new();
    for partition in 0..partitions {
        let (low, to) = scanner.bounds(topic, partition)?;
        stretches.push(Stretch { topic, partition, from: low.max(to.saturating_sub(each)), to });
    }
    let mut survey = Survey::new(tenants, Seed::new(rand::random()));
    stretches.into_iter().try_for_each(|stretch| look_at(&scanner, &mut survey, tenants, stretch))?;
    write_report(config, topic, &survey.finish(LISTED)?, out)
}

/// Passes the records of a stretch to `survey`.
///
/// # Errors
/// When Kafka does not answer.
pub(super) fn look_at(
    scanner: &Scanner,
    survey: &mut Survey,
    tenants: &Tenants,
    stretch: Stretch<'_>,
) -> Result<(), AgainstError> {
    let source = &tenants.defaults().tenant_of(stretch.topic);
    scanner.read(stretch, &mut |m| {
        let record = Record {
            offset: m.offset(),
            timestamp: m.timestamp().to_millis().unwrap_or_default(),
            tenant: tenant::of(m, source),
            value: m.payload().unwrap_or_default(),
        };
        survey.record(stretch.topic, stretch.partition, &record).map_err(AgainstError::from)
    })
}

/// Ends a survey of the records that a replay would read, and writes their expected result; `what` names them.
///
/// # Errors
/// When the report cannot be written.
pub(super) fn conclude(survey: Survey, tenants: &Tenants, what: &str, out: &mut dyn Write) -> Result<(), AgainstError> {
    let (config, report) = (tenants.defaults(), survey.finish(LISTED)?);
    let step = config.core.time.step;
    let steps = report.times.map_or(0, |(first, last)| (step.end_of(last) - step.passed(first)) / step.ms());
    let series: u64 = report.tenants.values().map(|cost| cost.series).sum();
    write_report(config, what, &report, out)?;
    let samples = series.saturating_mul(steps.max(0).unsigned_abs());
    Ok(writeln!(out, "\na replay writes at most {samples} samples: {series} series in each of {steps} steps")?)
}

fn write_report(config: &Config, what: &str, report: &Report, out: &mut dyn Write) -> Result<(), AgainstError> {
    let counter = |t| report.ledger.get(t);
    let seconds = report.times.map_or(0.0, |(first, last)| (last - first) as f64 / 1e3);
    writeln!(
        out,
        "{}: {} records, {} spans over {seconds:.1} s of record time",
        Shown(what),
        counter(Counter::RecordsRead),
        counter(Counter::SpansRead)
    )?;
    write_refused(report, out)?;
    write_traces(report, out)?;
    for (tenant, cost) in &report.tenants {
        let per_second = cost.series as f64 * 1e3 / config.core.time.step.ms() as f64;
        writeln!(
            out,
            "tenant {}: {} label sets, up to {} series, {per_second:.1} samples/s",
            Shown(tenant),
            cost.label_sets,
            cost.series
        )?;
    }
    writeln!(out, "a partition touches {:.1} label sets in a step: `spanmill plan --touched`", report.touched.each())?;
    if !report.slos.is_empty() {
        write!(out, "\n{}", table(&report.slos))?;
    }
    write_ledger(report, out)?;
    writeln!(out, "\nlabels with the most values:")?;
    for o in &report.top_labels {
        let samples = Shown(&o.samples.join(" | ")).to_string();
        writeln!(
            out,
            "  {:>8} values  {} / {} / {}: {samples}",
            o.values,
            Shown(&o.tenant),
            Shown(&o.service),
            Shown(&o.label)
        )?;
    }
    if config.core.span_names.mode != SanitizeMode::Enabled {
        let names = report.span_names.iter().map(|(name, n)| (name.as_bytes(), *n));
        write_merges(&Sanitizer::new(&config.core.span_names)?.merges(names), out)?;
    }
    Ok(())
}

fn write_refused(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let all = report.ledger.get(Counter::RecordsRead);
    for (kind, Refused { records, place: (topic, partition, offset), reason }) in &report.refused {
        writeln!(
            out,
            "WARNING: {records} of {all} records are dropped ({kind}), first {}[{partition}] at offset {offset}: {}",
            Shown(topic),
            ShownAs(reason)
        )?;
    }
    Ok(())
}

fn write_traces(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let SampledTraces { all, split } = report.traces;
    if split > 0 {
        writeln!(
            out,
            "WARNING: {split} of {all} sampled traces have spans in several partitions, so the service graph would lack edges; \
             partition the topic by trace ID, or set kafka.repartition"
        )?;
    }
    Ok(())
}

fn write_ledger(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nledger:")?;
    for (counter, n) in report.ledger.iter().filter(|(_, n)| *n > 0) {
        writeln!(out, "  {:>12}  {}", n, counter.name())?;
    }
    Ok(())
}

fn write_merges(merges: &[Merge], out: &mut dyn Write) -> io::Result<()> {
    if merges.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nspan names that `span_names: {{mode: enabled}}` would merge:")?;
    for merge in merges.iter().take(LISTED) {
        writeln!(out, "  {:>8} names -> {}", merge.names.len(), Shown(&merge.pattern))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::model::Ledger;
    use crate::core::model::text::shows_itself;
    use crate::core::series::TopLabel;
    use crate::tools::survey::{Cost, PerCommit};

    #[test]
    fn names_of_others_forge_no_line_of_the_report() {
        const EVIL: &str = "GET /1\ntenant acme: 0 label sets\u{1b}[2J";
        let evil = || EVIL.to_owned();
        let top_label = TopLabel {
            tenant: evil(),
            service: evil(),
            label: evil(),
            values: 2,
            label_sets: 2,
            samples: vec![evil(), evil()],
        };
        let report = Report {
            touched: PerCommit::default(),
            ledger: Ledger::default(),
            times: None,
            tenants: BTreeMap::from([(evil(), Cost::default())]),
            top_labels: vec![top_label],
            refused: BTreeMap::from([("kind", Refused { records: 1, place: (evil(), 0, 0), reason: evil() })]),
            traces: SampledTraces::default(),
            slos: Vec::new(),
            span_names: BTreeMap::from([(evil(), 1), (EVIL.replace('1', "2"), 1)]),
        };
        let mut out = Vec::new();
        write_report(&Config::default(), EVIL, &report, &mut out).expect("memory takes everything");
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(!text.lines().any(|line| line.starts_with("tenant acme")), "{text}");
        assert!(text.chars().all(|c| c == '\n' || shows_itself(c)), "{text:?}");
        assert_eq!(text.matches("forge").count() + text.matches("names -> ").count(), 1, "{text}");
    }
}
