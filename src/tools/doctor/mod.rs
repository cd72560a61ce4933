//! What is wrong, or could become wrong, where a group of workers runs: facts to findings with a remedy.
//!
//! *In:* what the brokers report of topics and groups, and a sample of records. *Out:* [`Diagnosis`]es. *Owner:* `spanmill
//! doctor`. *Never:* a request; a clock, the present is an argument.

mod group;
mod sample;
mod topic;

use std::fmt::{self, Display, Formatter};

use crate::core::model::Millis;
use crate::core::model::text::ShownAs;
use crate::core::remotewrite::acceptance::Finding;

pub use group::{GroupFacts, judge_group};
pub use sample::Sample;
pub use topic::{Role, judge_topic};

/// Words of findings of `check --connect` about what it could not look at.
const UNKNOWN: [&str; 2] = ["cannot be checked", "does not report"];

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It was looked at, and is good.
    Ok,
    /// It is good to know, or could not be looked at.
    Note,
    /// It loses something, or will when something else fails.
    Warning,
    /// Workers cannot work, or lose what they should count.
    Error,
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnosis {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: brokers, a topic, a group, a receiver.
    pub place: String,
    /// What was found, and what it means.
    pub text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The findings about one place.
#[derive(Debug, Clone)]
pub struct Diagnoses {
    place: String,
    found: Vec<Diagnosis>,
}

// === impl Severity ===

impl Display for Severity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

// === impl Diagnosis ===

impl Diagnosis {
    /// A finding of `check --connect`, whose text has the remedy behind its last semicolon.
    #[must_use]
    pub fn of(place: &str, finding: Finding) -> Self {
        let (severity, text) = match finding {
            Finding::Good(text) => (Severity::Ok, text),
            // What cannot be known is no warning.
            Finding::Warning(text) if UNKNOWN.iter().any(|words| text.contains(words)) => (Severity::Note, text),
            Finding::Warning(text) => (Severity::Warning, text),
            Finding::Waits(text) | Finding::Refusal(text) => (Severity::Error, text),
        };
        let (text, remedy) = match text.rsplit_once("; ") {
            Some((text, remedy)) if severity > Severity::Ok => (text.to_owned(), Some(remedy.to_owned())),
            _ => (text, None),
        };
        Self { severity, place: place.to_owned(), text, remedy }
    }
}

impl Display for Diagnosis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, ShownAs(&self.text))?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "\n  remedy: {}", ShownAs(remedy)))
    }
}

// === impl Diagnoses ===

impl Diagnoses {
    /// Nothing found yet.
    #[must_use]
    pub fn of(place: impl Into<String>) -> Self {
        Self { place: place.into(), found: Vec::new() }
    }

    /// Something is good.
    pub fn ok(&mut self, text: impl Into<String>) {
        self.add(Severity::Ok, text, None);
    }

    /// Something is good to know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.add(Severity::Note, text, None);
    }

    /// Something is not as it should be.
    pub fn bad(&mut self, severity: Severity, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(severity, text, Some(remedy.into()));
    }

    fn add(&mut self, severity: Severity, text: impl Into<String>, remedy: Option<String>) {
        self.found.push(Diagnosis { severity, place: self.place.clone(), text: text.into(), remedy });
    }

    /// The findings.
    #[must_use]
    pub fn into_all(self) -> Vec<Diagnosis> {
        self.found
    }
}

/// A time as people write it: `1.5 s`, `3 m`, `2 h` or `4 d`, rounded down.
fn time(ms: Millis) -> String {
    const UNITS: [(Millis, &str); 3] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m")];
    match UNITS.iter().find(|(unit, _)| ms.abs() >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", ms / unit),
        None => format!("{} s", ms as f64 / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_of_check_keeps_its_weight_and_its_remedy() {
        let of = |finding| Diagnosis::of("topic t", finding);
        let error = of(Finding::Waits("cannot read t: refused; retried; grant Read on topic t".to_owned()));
        assert_eq!(error.severity, Severity::Error);
        assert_eq!(error.to_string(), "error: cannot read t: refused; retried\n  remedy: grant Read on topic t");
        let unknown = of(Finding::Warning("this receiver does not report its limits; ask it".to_owned()));
        assert_eq!((unknown.severity, unknown.remedy.as_deref()), (Severity::Note, Some("ask it")));
        let good = of(Finding::Good("it is; so".to_owned()));
        assert_eq!((good.severity, good.to_string().as_str()), (Severity::Ok, "ok: it is; so"));
    }

    #[test]
    fn times_are_written_in_the_unit_that_fits() {
        let all = [0, 1_500, 119_999, 120_000, 7_200_000, 604_800_000].map(time);
        assert_eq!(all, ["0 s", "1.5 s", "119.999 s", "2 m", "2 h", "7 d"]);
    }
}
