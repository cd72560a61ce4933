//! The statements of a case.

use super::record::{RecordBuilder, SpanSpec};
use super::words::{Word, duration, id, milliseconds, nanoseconds, series, words};
use super::{Case, CaseError, Owned, Step};
use crate::config::settings::TenantSource;
use crate::config::{Tenants, set_over};
use crate::core::model::{Counter, Exemplar, Millis};
use crate::core::settings::SINGLE_TENANT;
use crate::core::tasks::span::SpanSettings;

/// What the lines so far have set.
struct Parser<'b> {
    /// The settings before the first line.
    base: &'b Tenants,
    /// `path=value` so far, for all tenants and for single ones, and what that makes.
    set: Vec<String>,
    overrides: Vec<(String, String)>,
    settings: SpanSettings,
    steps: Vec<(usize, Step)>,
    tenant: Option<String>,
    /// The record whose spans are being listed: its line and timestamp.
    open: Option<(usize, Millis, RecordBuilder)>,
    /// The last record that was finished.
    last: Option<Owned>,
}

pub(super) fn parse(text: &str, base: &Tenants) -> Result<Case, CaseError> {
    let tenant = Some(match &base.defaults().tenant {
        TenantSource::Static(name) | TenantSource::Attribute { fallback: name, .. } => name.clone(),
        TenantSource::Key | TenantSource::Header(_) | TenantSource::Topic => SINGLE_TENANT.to_owned(),
    });
    let mut parser = Parser {
        base,
        set: Vec::new(),
        overrides: Vec::new(),
        settings: SpanSettings::from(base),
        steps: Vec::new(),
        tenant,
        open: None,
        last: None,
    };
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        parser.line(number, line).map_err(|message| CaseError { line: number, message })?;
    }
    parser.close();
    Ok(Case { settings: parser.settings, steps: parser.steps })
}

impl Parser<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        let (verb, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match verb {
            "from" => return self.from(&words(rest)?),
            "scope" => return self.scope(&words(rest)?),
            "event" => return self.event(&words(rest)?),
            "at" => {
                self.close();
                self.open = Some((number, milliseconds(rest.trim())?, RecordBuilder::default()));
                return Ok(());
            }
            _ => {}
        }
        if let Some(kind) = kind_of(verb) {
            return self.span(kind, &words(rest)?);
        }
        self.close();
        let step = match verb {
            "set" => return self.set(rest),
            "override" => return self.override_one(rest),
            "tenant" => {
                self.tenant = Some(rest.trim().to_owned()).filter(|name| name != "-");
                return Ok(());
            }
            "again" => {
                let last = self.last.clone().ok_or("a record must come before")?;
                Step::Record(Owned { timestamp: milliseconds(rest)?, tenant: self.tenant.clone(), ..last })
            }
            "garbage" => {
                let value = vec![0xff; 4];
                Step::Record(Owned { timestamp: milliseconds(rest)?, tenant: self.tenant.clone(), value })
            }
            "clock" => Step::Clock(milliseconds(rest)?),
            "tick" => Step::Tick(milliseconds(rest)?),
            "pending" => Step::Pending(count(rest)?),
            "tally" => {
                let (name, value) = rest.split_once(' ').ok_or("a tally needs a name and a value")?;
                let known = Counter::ALL.iter().find(|t| t.name() == name);
                Step::Counter(*known.ok_or_else(|| format!("there is no tally {name}"))?, count(value)?)
            }
            "expect" | "absent" | "exemplar" => self.check(verb, rest)?,
            _ => return Err(format!("{verb} is not a statement")),
        };
        self.steps.push((number, step));
        Ok(())
    }

    /// Ends the open record.
    fn close(&mut self) {
        if let Some((line, timestamp, record)) = self.open.take() {
            let owned = Owned { timestamp, tenant: self.tenant.clone(), value: record.finish() };
            self.last = Some(owned.clone());
            self.steps.push((line, Step::Record(owned)));
        }
    }

    fn set(&mut self, rest: &str) -> Result<(), String> {
        self.set.push(setting(rest)?);
        self.settle()
    }

    fn override_one(&mut self, rest: &str) -> Result<(), String> {
        let (tenant, rest) = rest.trim().split_once(char::is_whitespace).ok_or("override needs a tenant and a key")?;
        self.overrides.push((tenant.to_owned(), setting(rest)?));
        self.settle()
    }

    /// At once, so that the error names the line of the first wrong setting.
    fn settle(&mut self) -> Result<(), String> {
        if !self.steps.is_empty() {
            return Err("settings must come before all other statements".to_owned());
        }
        let tenants = set_over(self.base, &self.set, &self.overrides).map_err(|problems| problems.to_string())?;
        self.settings = SpanSettings::from(&tenants);
        Ok(())
    }

    fn from(&mut self, words: &[Word]) -> Result<(), String> {
        let (_, _, record) = self.open.as_mut().ok_or("`from` belongs below `at`")?;
        let (service, rest) = words.split_first().ok_or("the service is missing; `-` for none")?;
        let service = Some(service).filter(|s| s.quoted || s.text != b"-");
        let attributes: Result<Vec<_>, _> = rest.iter().map(attribute).collect();
        record.from(service, &attributes?);
        Ok(())
    }

    fn scope(&mut self, words: &[Word]) -> Result<(), String> {
        let (_, _, record) = self.open.as_mut().ok_or("`scope` belongs below `at`")?;
        match words {
            [name] => record.scope(&name.text, &[]),
            [name, version] => record.scope(&name.text, &version.text),
            _ => return Err("a scope needs a name and optionally a version".to_owned()),
        }
        Ok(())
    }

    fn event(&mut self, words: &[Word]) -> Result<(), String> {
        let span = self.open.as_mut().and_then(|(_, _, record)| record.last_span());
        let span = span.ok_or("`event` belongs below its span")?;
        let (name, attributes) = words.split_first().ok_or("the name of the event is missing")?;
        let attributes: Result<Vec<_>, _> = attributes.iter().map(attribute).collect();
        span.events.push((name.text.clone(), attributes?));
        Ok(())
    }

    fn span(&mut self, kind: i32, words: &[Word]) -> Result<(), String> {
        let (_, at, record) = self.open.as_mut().ok_or("a span belongs below `at`")?;
        let (name, fields) = words.split_first().ok_or("the name of the span is missing")?;
        let mut span = SpanSpec { kind, name: name.text.clone(), trace_id: id("1", 16)?, ..SpanSpec::default() };
        let (mut start, mut end, mut took) = (*at * 1_000_000, None, 0);
        for field in fields {
            let text = field.str();
            match field.key.as_deref().unwrap_or_default() {
                "trace" => span.trace_id = id(text?, 16)?,
                "id" => span.span_id = id(text?, 8)?,
                "parent" => span.parent = id(text?, 8)?,
                "start" => start = nanoseconds(text?)?,
                "end" => end = Some(nanoseconds(text?)?),
                "took" => took = duration(text?)?,
                "status" => span.status.get_or_insert_default().0 = status(text?)?,
                "state" => span.trace_state.clone_from(&field.text),
                "link" => span.links.push(link(text?)?),
                "message" => span.status.get_or_insert_default().1.clone_from(&field.text),
                _ => span.attributes.push(attribute(field)?),
            }
        }
        let time = |ns: i64| u64::try_from(ns).map_err(|_| "the span starts before the epoch");
        (span.start_ns, span.end_ns) = (time(start)?, time(end.unwrap_or(start + took))?);
        record.span(span);
        Ok(())
    }

    fn check(&self, verb: &str, rest: &str) -> Result<Step, String> {
        let (series, rest) = series(rest.trim())?;
        let tenant = self.tenant.clone().ok_or("a check needs a tenant")?;
        Ok(match verb {
            "expect" => {
                let (value, step) = rest.split_once(" in ").map_or((rest, None), |(value, step)| (value, Some(step)));
                let value = value.parse().map_err(|_| format!("{rest} is not a value"))?;
                let step = step.map(|at| milliseconds(at.trim())).transpose()?;
                Step::Expect { tenant, series, value, step }
            }
            "absent" if rest.is_empty() => Step::Absent { tenant, series },
            "absent" => return Err("an absent series has no value".to_owned()),
            _ => Step::Exemplar { tenant, series, exemplar: exemplar(&words(rest)?)? },
        })
    }
}

fn exemplar(fields: &[Word]) -> Result<Exemplar, String> {
    let mut out = Exemplar { at: 0, trace_id: [0; 16], value_ns: 0 };
    for field in fields {
        let text = field.str()?;
        match field.key.as_deref() {
            Some("trace") => out.trace_id = id(text, 16)?.try_into().map_err(|_| "an exemplar's trace has 16 bytes")?,
            Some("end") => out.at = milliseconds(text)?,
            Some("took") => out.value_ns = duration(text)?.unsigned_abs(),
            _ => return Err("an exemplar has only trace, end and took".to_owned()),
        }
    }
    Ok(out)
}

fn attribute(word: &Word) -> Result<(String, Word), String> {
    let key = word.key.as_deref().and_then(|key| key.strip_prefix('@'));
    let key = key.ok_or_else(|| format!("{} is not a field of a span, nor @attribute=value", shown(word)))?;
    Ok((key.to_owned(), word.clone()))
}

fn shown(word: &Word) -> String {
    word.key.clone().unwrap_or_else(|| String::from_utf8_lossy(&word.text).into_owned())
}

/// The trace and the span that a span links to.
fn link(text: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (trace_id, span_id) = text.split_once(':').ok_or_else(|| format!("{text} is not TRACE:SPAN"))?;
    Ok((id(trace_id, 16)?, id(span_id, 8)?))
}

fn kind_of(word: &str) -> Option<i32> {
    let names = ["unspecified", "internal", "server", "client", "producer", "consumer"];
    let named = names.iter().position(|name| *name == word).map(|i| i as i32);
    named.or_else(|| word.strip_prefix("kind:")?.parse().ok())
}

fn status(text: &str) -> Result<i32, String> {
    let named = ["unset", "ok", "error"].iter().position(|name| *name == text).map(|i| i as i32);
    named.or_else(|| text.parse().ok()).ok_or_else(|| format!("{text} is not a status"))
}

/// A key and a value as `path=value`. The value is the rest of the line, in quotes or not.
fn setting(text: &str) -> Result<String, String> {
    let (key, value) = text.trim().split_once(char::is_whitespace).ok_or("a setting needs a key and a value")?;
    let value = value.trim();
    if !value.starts_with('"') {
        return Ok(format!("{key}={value}"));
    }
    let words = words(value)?;
    let [value] = words.as_slice() else { return Err("exactly one value follows the key".to_owned()) };
    Ok(format!("{key}={}", value.str()?))
}

fn count(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{text} is not an integer"))
}
