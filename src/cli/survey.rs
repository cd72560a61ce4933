//! `spanmill check --against TOPIC`: what a configuration would make of the records that a topic holds now.

use std::io::{self, Write};

use rdkafka::message::Message;

use crate::config::settings::SanitiseMode;
use crate::config::{Config, Tenants};
use crate::kafka::reader::Stretch;
use crate::kafka::scan::Scanner;
use crate::kafka::topics::Topics;
use crate::kafka::{KafkaError, tenant};
use crate::model::Tally;
use crate::sanitise::{Merge, SanitiseError, Sanitiser};
use crate::tasks::span::Record;
use crate::tasks::survey::{Report, Survey, SurveyError};

/// How many labels and merges are listed.
const LISTED: usize = 20;

/// A survey that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum AgainstError {
    /// Kafka did not do what was asked.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The topic is not there.
    #[error("topic {0} does not exist; name one of the source topics")]
    NoTopic(String),
    /// The survey itself failed.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// A rule for span names is wrong.
    #[error(transparent)]
    Sanitise(#[from] SanitiseError),
    /// The report could not be written.
    #[error("cannot write the report: {0}")]
    Write(#[from] io::Error),
}

/// Reads the last `records` records of `topic`, spread evenly over its partitions, and writes what they would become.
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
    let mut survey = Survey::new(tenants);
    stretches.into_iter().try_for_each(|stretch| look_at(&scanner, &mut survey, tenants, stretch))?;
    write_report(config, topic, &survey.finish(LISTED)?, out)
}

/// Shows `survey` the records of a stretch.
///
/// # Errors
/// When Kafka does not answer.
pub(super) fn look_at(
    scanner: &Scanner,
    survey: &mut Survey,
    tenants: &Tenants,
    stretch: Stretch<'_>,
) -> Result<(), AgainstError> {
    let source = &tenants.defaults().tenant;
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

/// Ends a survey of what a replay would read, and writes what it would become; `what` names it.
///
/// # Errors
/// When the report cannot be written.
pub(super) fn conclude(survey: Survey, tenants: &Tenants, what: &str, out: &mut dyn Write) -> Result<(), AgainstError> {
    let (config, report) = (tenants.defaults(), survey.finish(LISTED)?);
    let step = config.time.step;
    let steps = report.times.map_or(0, |(first, last)| (step.end_of(last) - step.passed(first)) / step.ms());
    let series: u64 = report.tenants.values().map(|cost| cost.series).sum();
    write_report(config, what, &report, out)?;
    let samples = series.saturating_mul(steps.max(0).unsigned_abs());
    Ok(writeln!(out, "\na replay writes at most {samples} samples: {series} series in each of {steps} steps")?)
}

fn write_report(config: &Config, what: &str, report: &Report, out: &mut dyn Write) -> Result<(), AgainstError> {
    let tally = |t| report.ledger.get(t);
    let seconds = report.times.map_or(0.0, |(first, last)| (last - first) as f64 / 1e3);
    writeln!(
        out,
        "{what}: {} records, {} spans over {seconds:.1} s of record time",
        tally(Tally::RecordsRead),
        tally(Tally::SpansRead)
    )?;
    for (tenant, cost) in &report.tenants {
        let per_second = cost.series as f64 * 1e3 / config.time.step.ms() as f64;
        writeln!(
            out,
            "tenant {tenant}: {} label sets, up to {} series, {per_second:.1} samples/s",
            cost.label_sets, cost.series
        )?;
    }
    write_ledger(report, out)?;
    writeln!(out, "\nlabels with the most values:")?;
    for o in &report.offenders {
        let samples = o.samples.join(" | ");
        writeln!(out, "  {:>8} values  {} / {} / {}: {samples}", o.values, o.tenant, o.service, o.label)?;
    }
    if config.span_names.mode != SanitiseMode::Enabled {
        let names = report.span_names.iter().map(|(name, n)| (name.as_bytes(), *n));
        write_merges(&Sanitiser::new(&config.span_names)?.merges(names), out)?;
    }
    Ok(())
}

fn write_ledger(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nwhat became of them:")?;
    for (tally, n) in report.ledger.iter().filter(|(_, n)| *n > 0) {
        writeln!(out, "  {:>12}  {}", n, tally.name())?;
    }
    Ok(())
}

fn write_merges(merges: &[Merge], out: &mut dyn Write) -> io::Result<()> {
    if merges.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nspan names that `span_names: {{mode: enabled}}` would merge:")?;
    for merge in merges.iter().take(LISTED) {
        writeln!(out, "  {:>8} names -> {}", merge.names.len(), merge.pattern)?;
    }
    Ok(())
}
