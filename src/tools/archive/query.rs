//! Requests to the query API of Prometheus and compatible servers, and their answers.
//!
//! Raw samples are asked for with a range selector at the end of a window. Some servers count a sample at the beginning
//! of the range in, others do not; so the range begins a millisecond early, and the reader of the answer checks the
//! times.

use regex::Regex;
use serde::Deserialize;

use super::Series;
use crate::core::model::Millis;
use crate::core::remotewrite::decode::proto::Label;

/// A condition on a label, as in PromQL: `service="a"`, `!=`, `=~`, `!~`.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    op: &'static str,
    value: String,
    /// For `=~` and `!~`.
    pattern: Option<Regex>,
}

/// A series with the samples that a server has of it. Of a native histogram it is the count or the sum, see [`PART`].
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Its labels by name, `__name__` among them.
    pub labels: Vec<(String, String)>,
    /// Its values by ascending time.
    pub values: Vec<(Millis, f64)>,
}

/// The label that distinguishes the count of a native histogram from its sum, where both are looked at as series.
pub const PART: &str = "__native__";

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Not the JSON of the API.
    #[error("the answer is not from a query API: {0}")]
    Json(#[from] serde_json::Error),
    /// The server rejects the query.
    #[error("the query was rejected: {0}")]
    Refused(String),
    /// An invalid number or time.
    #[error("the answer holds {0:?} where a number is expected")]
    Number(String),
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Data,
}

#[derive(Deserialize, Default)]
struct Data {
    #[serde(default)]
    result: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    metric: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, HistogramRow)>,
}

#[derive(Deserialize)]
struct HistogramRow {
    count: String,
    sum: String,
}

// === impl Matcher ===

impl Matcher {
    /// Reads one condition.
    ///
    /// # Errors
    /// The problem.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is not a condition on a label: {why}; write it as service=\"a\"");
        let name_len = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(name_len);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(wrong("it does not begin with a name"));
        }
        let found = ["=~", "!~", "!=", "="].into_iter().find_map(|op| Some((op, rest.strip_prefix(op)?)));
        let (op, quoted) = found.ok_or_else(|| wrong("after the name, =, !=, =~ or !~ is expected"))?;
        let value: String =
            serde_json::from_str(quoted.trim()).map_err(|_| wrong("the value must be in double quotes"))?;
        let pattern = match op {
            "=~" | "!~" => Some(Regex::new(&format!("^(?s:{value})$")).map_err(|e| wrong(&e.to_string()))?),
            _ => None,
        };
        Ok(Self { name: name.to_owned(), op, value, pattern })
    }

    /// Whether a series fulfils it. A label that is missing is empty.
    #[must_use]
    pub fn holds(&self, labels: &[Label]) -> bool {
        let value = labels.iter().find(|l| l.name == self.name).map_or("", |l| l.value.as_str());
        let equal = self.pattern.as_ref().map_or_else(|| value == self.value, |pattern| pattern.is_match(value));
        equal != self.op.starts_with('!')
    }
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.name, self.op, quoted(&self.value))
    }
}

/// A selector of all samples of a metric from `from` on and before `to`, for an instant query; and its time in seconds.
#[must_use]
pub fn selector(metric: &str, matchers: &[Matcher], from: Millis, to: Millis) -> (String, String) {
    let matchers: String = matchers.iter().map(|m| format!(",{m}")).collect();
    let selector = format!("{{__name__={}{matchers}}}[{}ms]", quoted(metric), to - from);
    let at = to - 1;
    (selector, format!("{}.{:03}", at.div_euclid(1000), at.rem_euclid(1000)))
}

/// The series in the answer to a [`selector`], with their samples from `from` on and before `to`.
///
/// # Errors
/// When it is no such answer.
pub fn answer(body: &[u8], from: Millis, to: Millis) -> Result<Vec<Sampled>, AnswerError> {
    let answer: Answer = serde_json::from_slice(body)?;
    if answer.status != "success" {
        return Err(AnswerError::Refused(answer.error));
    }
    let mut out = Vec::new();
    for row in answer.data.result {
        let labels: Vec<(String, String)> = row.metric.into_iter().collect();
        let floats = row.values.iter().map(|(at, value)| (*at, value.as_str()));
        push(&mut out, &labels, floats, (from, to))?;
        if !row.histograms.is_empty() {
            let (counts, sums) = (part(&labels, "count"), part(&labels, "sum"));
            push(&mut out, &counts, row.histograms.iter().map(|(at, h)| (*at, h.count.as_str())), (from, to))?;
            push(&mut out, &sums, row.histograms.iter().map(|(at, h)| (*at, h.sum.as_str())), (from, to))?;
        }
    }
    Ok(out)
}

fn push<'a>(
    out: &mut Vec<Sampled>,
    labels: &[(String, String)],
    samples: impl Iterator<Item = (f64, &'a str)>,
    (from, to): (Millis, Millis),
) -> Result<(), AnswerError> {
    let mut values: Vec<(Millis, f64)> = Vec::new();
    for (seconds, text) in samples {
        let at = (seconds * 1000.0).round() as Millis;
        let value = text.parse().map_err(|_| AnswerError::Number(text.to_owned()))?;
        if (from..to).contains(&at) {
            values.push((at, value));
        }
    }
    // A server may have the same sample twice.
    values.sort_by_key(|(at, _)| *at);
    values.dedup_by(|a, b| a.0 == b.0 && a.1.to_bits() == b.1.to_bits());
    if !values.is_empty() {
        out.push(Sampled { labels: labels.to_vec(), values });
    }
    Ok(())
}

/// The expected answer of a server about a series: without stale markers, which no query shows.
#[must_use]
pub fn sampled(series: &Series) -> Vec<Sampled> {
    let mut labels: Vec<(String, String)> = series.labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect();
    labels.sort();
    let stale = |value: f64| crate::core::remotewrite::decode::is_stale(value);
    let mut out = Vec::new();
    let values: Vec<(Millis, f64)> = series.floats.iter().copied().filter(|(_, value)| !stale(*value)).collect();
    if !values.is_empty() {
        out.push(Sampled { labels: labels.clone(), values });
    }
    let live = || series.histograms.iter().filter(|(_, h)| !stale(h.sum));
    if live().next().is_some() {
        let counts = live().map(|(at, h)| (*at, super::count(h))).collect();
        out.push(Sampled { labels: part(&labels, "count"), values: counts });
        out.push(Sampled { labels: part(&labels, "sum"), values: live().map(|(at, h)| (*at, h.sum)).collect() });
    }
    out
}

fn part(labels: &[(String, String)], part: &str) -> Vec<(String, String)> {
    let mut labels = labels.to_vec();
    labels.push((PART.to_owned(), part.to_owned()));
    labels.sort();
    labels
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::labels;
    use super::*;

    #[test]
    fn a_condition_is_read_written_and_applied_as_in_promql() {
        let all = labels(&[("__name__", "x"), ("service", "cart\n")]);
        for (text, holds) in [
            (r#"service="cart\n""#, true),
            (r#"service!="cart""#, true),
            (r#"service=~"c.*""#, true),
            (r#"service=~"c""#, false),
            (r#"service!~"c.*|d""#, false),
            (r#"other="""#, true),
            (r#"other!="""#, false),
        ] {
            let matcher = Matcher::parse(text).expect(text);
            assert_eq!(matcher.to_string(), text);
            assert_eq!(matcher.holds(&all), holds, "{text}");
        }
        for wrong in ["", "=\"a\"", "a", "a=b", "1=\"a\"", "a=~\"(\"", "a==\"b\""] {
            assert!(Matcher::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_selector_ends_before_its_window_does() {
        let matchers = [Matcher::parse(r#"a="b""#).expect("a condition")];
        let (selector, at) = selector("calls_total", &matchers, 1_000, 61_000);
        assert_eq!(selector, r#"{__name__="calls_total",a="b"}[60000ms]"#);
        assert_eq!(at, "60.999");
    }

    #[test]
    fn an_answer_gives_the_samples_of_the_window() {
        let body = br#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"x","a":"b"},"values":[[0.999,"1"],[1,"2"],[1.001,"+Inf"],[1.001,"+Inf"],[2,"9"]]},
            {"metric":{"__name__":"h"},"histograms":[[1.5,{"count":"4","sum":"2.5","buckets":[[0,"1","2","4"]]}]]}]}}"#;
        let read = answer(body, 1_000, 2_000).expect("an answer");
        let with = |part: &str| vec![("__name__".to_owned(), "h".to_owned()), (PART.to_owned(), part.to_owned())];
        assert_eq!(read[0].values, [(1_000, 2.0), (1_001, f64::INFINITY)]);
        assert_eq!((&read[1].labels, &read[1].values), (&with("count"), &vec![(1_500, 4.0)]));
        assert_eq!((&read[2].labels, &read[2].values), (&with("sum"), &vec![(1_500, 2.5)]));
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let refused = answer(br#"{"status":"error","errorType":"bad_data","error":"too many samples"}"#, 0, 1);
        assert_eq!(refused.expect_err("refused").to_string(), "the query was rejected: too many samples");
        assert!(matches!(answer(b"<html>", 0, 1), Err(AnswerError::Json(_))));
        let odd = answer(br#"{"status":"success","data":{"result":[{"metric":{},"values":[[0,"x"]]}]}}"#, 0, 1);
        assert!(matches!(odd, Err(AnswerError::Number(_))));
    }
}
