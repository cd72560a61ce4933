//! A sample of the records of source topics: whether they are what the settings take them for.

use std::collections::BTreeMap;

use super::{Diagnoses, Severity, time};
use crate::config::{Config, Tenants};
use crate::core::formats::{self, format_of};
use crate::core::model::text::Shown;
use crate::core::model::{Counter, Millis, Seed};
use crate::core::otlp::{Batch, ValueKind};
use crate::core::settings::{Encoding, TimeSource};
use crate::core::tasks::span::{Record, Refusal};
use crate::tools::survey::{Report, Survey, SurveyError};

/// What marks a span that was counted before it came here, by the application or a connector.
const SKIP: &[u8] = b"span.metrics.skip";
/// The most spans whose delay is kept.
const MOST_DELAYS: usize = 1 << 20;
/// With fewer spans, a fraction of them means nothing.
const FEW: u64 = 100;
/// Labels that are named.
const LISTED: usize = 3;
/// More values of one label of one service are many.
const MANY_VALUES: u64 = 1_000;
/// The most traces that are followed over records.
const MOST_TRACES: usize = 200_000;
/// A span whose end is this long ago has not just been written.
const LONG: Millis = 3_600_000;

/// Looks at records.
#[derive(Debug)]
pub struct Sample<'a> {
    tenants: &'a Tenants,
    survey: Survey,
    batch: Batch,
    formats: BTreeMap<&'static str, u64>,
    records: u64,
    /// How long after the end of each span its record was written; less than zero: before.
    delays: Vec<Millis>,
    newest: Option<(Millis, String)>,
    traces: BTreeMap<[u8; 16], SeenTrace>,
    spans: u64,
    skipped: u64,
}

/// Where a trace was seen.
#[derive(Debug, Clone, Copy)]
struct SeenTrace {
    /// The partition and the offset of its first record.
    first: (i32, i64),
    /// Whether it is in another record, too.
    several: bool,
    /// Whether one of its records is in another partition.
    split: bool,
}

// === impl Sample ===

impl<'a> Sample<'a> {
    /// A sample under these settings. A random `seed` hides where keys lie in memory.
    #[must_use]
    pub fn new(tenants: &'a Tenants, seed: Seed) -> Self {
        Self {
            survey: Survey::new(tenants, seed),
            tenants,
            batch: Batch::new(),
            formats: BTreeMap::new(),
            records: 0,
            delays: Vec::new(),
            newest: None,
            traces: BTreeMap::new(),
            spans: 0,
            skipped: 0,
        }
    }

    /// Looks at one record.
    ///
    /// # Errors
    /// None that is expected.
    pub fn record(&mut self, topic: &str, partition: i32, record: &Record<'_>) -> Result<(), SurveyError> {
        self.records += 1;
        *self.formats.entry(format_of(record.value)).or_default() += 1;
        if self.newest.as_ref().is_none_or(|(at, _)| record.timestamp > *at) {
            self.newest = Some((record.timestamp, format!("{topic}[{partition}] at offset {}", record.offset)));
        }
        let encoding = self.tenants.defaults().kafka.encoding;
        if self.decode(encoding, record.value) {
            self.look_at(partition, record);
        }
        self.survey.record(topic, partition, record)
    }

    fn decode(&mut self, encoding: Encoding, value: &[u8]) -> bool {
        self.batch.decode_from::<Refusal>(|out| Ok(formats::to_otlp(encoding, value, out)?)).is_ok()
    }

    fn look_at(&mut self, partition: i32, record: &Record<'_>) {
        for span in self.batch.resources(record.value).flat_map(|resource_spans| resource_spans.spans()) {
            self.spans += 1;
            follow(&mut self.traces, span.trace_id, (partition, record.offset));
            let skip = span.attributes.get(SKIP);
            self.skipped += u64::from(skip.is_some_and(|value| matches!(value.kind(), ValueKind::Bool(true))));
            if span.end_ns > 0 && self.delays.len() < MOST_DELAYS {
                self.delays.push(record.timestamp - (span.end_ns / 1_000_000) as Millis);
            }
        }
    }

    /// Judges what was seen; it is `now`.
    ///
    /// # Errors
    /// None that is expected.
    pub fn finish(mut self, now: Millis, out: &mut Diagnoses) -> Result<(), SurveyError> {
        let survey = std::mem::replace(&mut self.survey, Survey::new(self.tenants, Seed::default()));
        let report = survey.finish(LISTED)?;
        if self.records == 0 {
            out.note("there are no records yet, so formats, clocks and cardinality cannot be checked");
            return Ok(());
        }
        self.formats(&report, out);
        self.traces(out);
        self.clocks(now, out);
        edge_spans(&report, out);
        cardinality(&report, out);
        self.counted_before(out);
        Ok(())
    }

    fn formats(&self, report: &Report, out: &mut Diagnoses) {
        let formats = self.formats.iter().map(|(name, records)| format!("{records} {name}"));
        out.ok(format!(
            "{} records with {} spans: {}",
            self.records,
            self.spans,
            formats.collect::<Vec<_>>().join(", ")
        ));
        for (kind, refused) in &report.refused {
            let (topic, partition, offset) = &refused.place;
            let text = format!(
                "{} of {} records are dropped ({kind}), first {}[{partition}] at offset {offset}: {}",
                refused.records,
                self.records,
                Shown(topic),
                refused.reason
            );
            let remedy = if *kind == "no tenant" {
                "send the key or header that tenant.source names, or change tenant.source"
            } else {
                "check kafka.encoding, and that nothing but spans is written to the topic"
            };
            let all = refused.records * 2 > self.records;
            out.bad(if all { Severity::Error } else { Severity::Warning }, text, remedy);
        }
        if self.spans == 0 && report.refused.is_empty() {
            out.bad(
                Severity::Warning,
                "no record has a span",
                "check that the topic is the one that spans are written to",
            );
        }
    }

    fn traces(&self, out: &mut Diagnoses) {
        let several = self.traces.values().filter(|trace| trace.several).count();
        let split = self.traces.values().filter(|trace| trace.split).count();
        if split > 0 && self.tenants.defaults().kafka.repartition {
            out.ok(format!(
                "{split} of {several} traces are in several partitions; they are repartitioned (kafka.repartition)"
            ));
        } else if split > 0 {
            let text = format!(
                "{split} of {several} traces that are in several records are in several partitions, and edges between these \
                 are lost"
            );
            let remedy = "partition the topic by trace ID: partition_traces_by_id: true in the Collector's Kafka exporter, or \
                 kafka.repartition: true";
            out.bad(if split * 10 > several { Severity::Error } else { Severity::Warning }, text, remedy);
        } else if several > 0 {
            out.ok(format!("all {several} traces that are in several records are in one partition each"));
        } else {
            out.note("no trace is in several records, so it is not known whether traces stay in one partition");
        }
    }

    fn clocks(&self, now: Millis, out: &mut Diagnoses) {
        let config: &Config = self.tenants.defaults();
        let time_settings = &config.core.time;
        if let Some((newest, place)) = &self.newest {
            let ahead = newest - now;
            if ahead > time_settings.max_future {
                let text = format!(
                    "the record {place} is dated {} in the future by this machine's clock; workers do not believe more than \
                     time.max_future ({})",
                    time(ahead),
                    time(time_settings.max_future)
                );
                let remedy =
                    "synchronize the clocks of producers and workers, or set message.timestamp.type=LogAppendTime";
                out.bad(Severity::Error, text, remedy);
            } else {
                out.ok(format!("the newest record is {} old by this machine's clock", time(-ahead.min(0))));
            }
        }
        let Some([least, median, most]) = self.quantiles() else { return };
        if least < -time_settings.max_future {
            let text = format!(
                "a hundredth of the spans ends {} or more after its record was written: clocks of applications are ahead",
                time(-least)
            );
            out.bad(Severity::Warning, text, "synchronize the clocks of the hosts that run the applications");
        }
        let by_end = time_settings.source == TimeSource::SpanEnd;
        if by_end && most > time_settings.lateness {
            let text = format!(
                "a hundredth of the spans is written {} or more after its end, later than time.lateness ({}), and may \
                 count in a later step",
                time(most),
                time(time_settings.lateness)
            );
            out.bad(Severity::Warning, text, "raise time.lateness");
        } else if !by_end && median > time_settings.step.ms() {
            let severity = if median > LONG { Severity::Warning } else { Severity::Note };
            let text = format!(
                "half of the spans are written {} or more after their end, and count when their record was written",
                time(median)
            );
            out.bad(severity, text, "look for a delay before Kafka, or set time.source: span_end");
        } else {
            out.ok(format!("spans are written {} after their end (median)", time(median)));
        }
    }

    /// The hundredth, the half, and all but a hundredth of the delays are not greater.
    fn quantiles(&self) -> Option<[Millis; 3]> {
        let mut sorted = self.delays.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some([last / 100, last / 2, last - last / 100].map(|at| sorted[at]))
    }

    fn counted_before(&self, out: &mut Diagnoses) {
        let filtered = &self.tenants.defaults().core.span_metrics.filter_policies;
        let excluded = filtered.iter().filter_map(|policy| policy.exclude.as_ref());
        let is_excluded = excluded.flat_map(|block| &block.attributes).any(|a| a.key == "span.span.metrics.skip");
        if self.skipped > 0 && !is_excluded {
            let text = format!(
                "{} of {} spans have the attribute span.metrics.skip, as they were counted before they came here",
                self.skipped, self.spans
            );
            let remedy = "exclude them with a policy of span_metrics.filter_policies: {exclude: {match_type: strict, \
                          attributes: [{key: span.span.metrics.skip, value: true}]}}";
            out.bad(Severity::Warning, text, remedy);
        }
    }
}

/// Takes note of a span of a trace in the record at this partition and offset.
fn follow(traces: &mut BTreeMap<[u8; 16], SeenTrace>, trace_id: &[u8], at: (i32, i64)) {
    let Ok(id) = <[u8; 16]>::try_from(trace_id) else { return };
    if traces.len() >= MOST_TRACES && !traces.contains_key(&id) {
        return;
    }
    let trace = traces.entry(id).or_insert(SeenTrace { first: at, several: false, split: false });
    trace.several |= trace.first != at;
    trace.split |= trace.first.0 != at.0;
}

/// Spans that can be in no edge.
fn edge_spans(report: &Report, out: &mut Diagnoses) {
    let all = report.ledger.get(Counter::EdgeSpans);
    let wrong = [
        (
            Counter::EdgeSpansWithoutService,
            "have no service.name",
            "set service.name (OTEL_SERVICE_NAME) in the applications",
        ),
        (
            Counter::EdgeSpansInvalidId,
            "have IDs that are empty, zero or of a wrong length",
            "look for what shortens IDs",
        ),
    ];
    for (counter, what, remedy) in wrong {
        let n = report.ledger.get(counter);
        if n > 0 {
            let severity = if n * 100 > all { Severity::Warning } else { Severity::Note };
            out.bad(severity, format!("{n} of {all} spans of calls {what}, and make no edge"), remedy);
        }
    }
}

fn cardinality(report: &Report, out: &mut Diagnoses) {
    let counted = report.ledger.get(Counter::SpansCounted);
    let sets: u64 = report.tenants.values().map(|cost| cost.label_sets).sum();
    let series: u64 = report.tenants.values().map(|cost| cost.series).sum();
    let each = sets as f64 / counted.max(1) as f64;
    let text = format!("{counted} counted spans make {sets} label sets ({each:.2} each) and up to {series} series");
    let worst = report.top_labels.iter().map(|top| {
        let example = top.samples.first().map_or(String::new(), |sample| format!(", such as {}", Shown(sample)));
        format!("{} of {} has {} values{example}", Shown(&top.label), Shown(&top.service), top.values)
    });
    let worst: Vec<_> = worst.collect();
    let many = report.top_labels.first().is_some_and(|top| top.values >= MANY_VALUES);
    if counted >= FEW && each > 0.5 || many {
        let text = format!("{text}; {}", worst.join("; "));
        let remedy = "remove the dimension, or set span_names.mode: enabled for span names, or set limits; \
                      `spanmill check --against` lists more";
        out.bad(Severity::Warning, text, remedy);
    } else {
        out.ok(text);
        if !worst.is_empty() {
            out.note(format!("labels with the most values: {}", worst.join("; ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Diagnosis;
    use super::*;

    const NOW: Millis = 1_750_000_000_000;

    /// A record of one span that ended `ago` before it was written, now.
    fn span(n: u64, ago: Millis, attributes: &str) -> String {
        let end = (NOW - ago) * 1_000_000;
        let resource = r#"{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]}"#;
        let span = format!(
            r#"{{"traceId":"{:032x}","spanId":"{:016x}","name":"GET /{n}","kind":2,"startTimeUnixNano":"{}",
                "endTimeUnixNano":"{end}","attributes":[{attributes}]}}"#,
            n + 1,
            n + 1,
            end - 1_000
        );
        format!(r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#)
    }

    fn judged(change: impl FnOnce(&mut Config), records: &[String], written: Millis) -> Vec<Diagnosis> {
        judged_in(1, change, records, written)
    }

    /// The same with records that go round over so many partitions.
    fn judged_in(
        partitions: i64,
        change: impl FnOnce(&mut Config),
        records: &[String],
        written: Millis,
    ) -> Vec<Diagnosis> {
        let mut config = Config::default();
        change(&mut config);
        let tenants = Tenants::from(config);
        let mut sample = Sample::new(&tenants, Seed::new(7));
        for (offset, value) in (0..).zip(records) {
            let record = Record { offset, timestamp: written, tenant: Some("t"), value: value.as_bytes() };
            let partition = (offset % partitions) as i32;
            sample.record("spans", partition, &record).expect("nothing is damaged");
        }
        let mut out = Diagnoses::of("topic spans");
        sample.finish(NOW, &mut out).expect("nothing is damaged");
        out.into_all()
    }

    fn has(found: &[Diagnosis], severity: Severity, text: &str) {
        let is = |one: &Diagnosis| one.severity == severity && one.text.contains(text);
        assert!(found.iter().any(is), "no {severity} with {text:?} in {found:#?}");
    }

    fn spans(n: u64, ago: Millis, attributes: &str) -> Vec<String> {
        (0..n).map(|n| span(n % 3, ago, attributes)).collect()
    }

    #[test]
    fn a_sample_in_which_all_is_well_has_no_warning() {
        let found = judged(|_| {}, &spans(200, 1_500, ""), NOW);
        assert!(found.iter().all(|one| one.severity <= Severity::Note), "{found:#?}");
        has(&found, Severity::Ok, "200 records with 200 spans: 200 otlp_json");
        has(&found, Severity::Ok, "spans are written 1.5 s after their end (median)");
        has(&found, Severity::Note, "span_name of shop has 3 values, such as GET /");
    }

    #[test]
    fn traces_that_are_split_are_found() {
        // The same three traces, over and over.
        let records = spans(30, 0, "");
        has(&judged(|_| {}, &records, NOW), Severity::Ok, "all 3 traces that are in several records are in one");
        has(&judged_in(2, |_| {}, &records, NOW), Severity::Error, "3 of 3 traces");
        has(&judged_in(3, |_| {}, &records, NOW), Severity::Ok, "all 3 traces");
        has(&judged_in(2, |_| {}, &records[..3], NOW), Severity::Note, "no trace is in several records");
    }

    #[test]
    fn clocks_that_are_wrong_are_found() {
        has(&judged(|_| {}, &spans(9, 0, ""), NOW + 60_000), Severity::Error, "dated 60 s in the future");
        has(&judged(|_| {}, &spans(9, -60_000, ""), NOW), Severity::Warning, "clocks of applications are ahead");
        has(&judged(|_| {}, &spans(9, 60_000, ""), NOW), Severity::Note, "written 60 s or more after their end");
        let by_end = |config: &mut Config| config.core.time.source = TimeSource::SpanEnd;
        has(&judged(by_end, &spans(9, 60_000, ""), NOW), Severity::Warning, "later than time.lateness (30 s)");
    }

    #[test]
    fn spans_that_were_counted_before_are_found_unless_they_are_excluded() {
        let marked = r#"{"key":"span.metrics.skip","value":{"boolValue":true}}"#;
        let found = judged(|_| {}, &spans(4, 0, marked), NOW);
        has(&found, Severity::Warning, "4 of 4 spans have the attribute span.metrics.skip");
        let set = "span_metrics.filter_policies=[{exclude: {match_type: strict, attributes: [{key: \
                   span.span.metrics.skip, value: true}]}}]";
        let sources =
            crate::config::Sources { file: None, env: &[], set: &[set.to_owned()], read_file: &|_| Ok(String::new()) };
        let loaded = crate::config::load(&sources).expect("the remedy is legal");
        let found = judged(|config| *config = loaded.config, &spans(4, 0, marked), NOW);
        assert!(!found.iter().any(|one| one.text.contains("span.metrics.skip")), "{found:#?}");
    }

    #[test]
    fn a_name_for_every_span_and_records_of_something_else_are_found() {
        let names: Vec<String> = (0..200).map(|n| span(n, 0, "")).collect();
        has(&judged(|_| {}, &names, NOW), Severity::Warning, "span_name of shop has 200 values");
        let mut records = spans(9, 0, "");
        records.push("what is this?".to_owned());
        has(
            &judged(|_| {}, &records, NOW),
            Severity::Warning,
            "1 of 10 records are dropped (undecodable), first spans[0] at",
        );
        has(&judged(|_| {}, &[], NOW), Severity::Note, "there are no records yet");
    }
}
