//! The time of a record: files have no timestamps, so it follows from the spans.

use crate::core::model::Millis;
use crate::core::otlp::{Batch, Span};

/// No span is older: such a time was written in another unit. Milliseconds of today, taken for nanoseconds, are in the
/// first hour of 1970, and microseconds in its first month.
const EARLIEST: Millis = 365 * 86_400_000;

/// The time of a record by its spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// When the record may have been written: when the first of its spans ended. If none has ended, when the first began.
    /// `None` without spans.
    pub at: Option<Millis>,
    /// Spans without an end.
    pub unfinished: u64,
    /// Spans with a time in another unit, beside others that give the time of the record.
    pub odd: u64,
}

/// A record whose spans hold no plausible time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// A time in another unit.
    #[error("span {span}: {field} is {ns}, which is in 1970: times are in nanoseconds{}", looks_like(.unit))]
    Unit {
        /// The span's ID.
        span: String,
        /// Which of its times.
        field: &'static str,
        /// Its value.
        ns: u64,
        /// What that may be instead.
        unit: Option<(&'static str, &'static str)>,
    },
    /// No time at all, or only such as are still to come.
    #[error("span {0} and all others of the message have neither an end nor a start time: the message has no time")]
    None(String),
}

/// The time of a record that was decoded from `value`, by its spans. Spans that end or begin after `latest` do not
/// count, nor do those with a time in another unit; what is wrong with the first of these is returned as well.
///
/// # Errors
/// When no span gives a time.
pub fn times(batch: &Batch, value: &[u8], latest: Millis) -> Result<(Times, Option<TimeError>), TimeError> {
    let (mut times, mut begun, mut first, mut odd) = (Times::default(), None, None, None);
    for span in batch.resources(value).flat_map(|resource| resource.spans()) {
        let ended = millis(&span, "endTimeUnixNano", span.end_ns, latest);
        let started = millis(&span, "startTimeUnixNano", span.start_ns, latest);
        times.unfinished += u64::from(span.end_ns == 0);
        times.odd += u64::from(ended.is_err() || started.is_err());
        let mut told = |time: Result<Option<Millis>, TimeError>| match time {
            Ok(at) => at.filter(|&at| at <= latest),
            Err(error) => {
                odd.get_or_insert(error);
                None
            }
        };
        times.at = earlier(times.at, told(ended));
        begun = earlier(begun, told(started));
        first.get_or_insert(span);
    }
    times.at = times.at.or(begun);
    match first {
        Some(span) if times.at.is_none() => Err(odd.unwrap_or_else(|| TimeError::None(id(&span)))),
        _ => Ok((times, odd)),
    }
}

fn earlier(one: Option<Millis>, other: Option<Millis>) -> Option<Millis> {
    [one, other].into_iter().flatten().min()
}

/// A time of a span, unless it is not set.
fn millis(span: &Span<'_>, field: &'static str, ns: u64, latest: Millis) -> Result<Option<Millis>, TimeError> {
    let at = Millis::try_from(ns / 1_000_000).unwrap_or(Millis::MAX);
    if ns == 0 || at >= EARLIEST {
        return Ok(Some(at).filter(|_| ns > 0));
    }
    Err(TimeError::Unit { span: id(span), field, ns, unit: unit(ns, latest) })
}

/// The unit in which a number would be a plausible time, and how to convert it to nanoseconds.
fn unit(number: u64, latest: Millis) -> Option<(&'static str, &'static str)> {
    let known = [("microseconds", "1,000", 1_000), ("milliseconds", "1,000,000", 1), ("seconds", "1,000,000,000", 0)];
    let fits = |(_, _, per_ms): &(_, _, u64)| {
        let at = if *per_ms == 0 { number.saturating_mul(1_000) } else { number / per_ms };
        Millis::try_from(at).is_ok_and(|at| (EARLIEST..=latest).contains(&at))
    };
    known.into_iter().find(fits).map(|(unit, factor, _)| (unit, factor))
}

fn looks_like(unit: &Option<(&'static str, &'static str)>) -> String {
    let told = |(unit, factor)| {
        format!(
            ", and these look like {unit}; change their writer to multiply them by \
                                         {factor}"
        )
    };
    unit.map(told).unwrap_or_default()
}

fn id(span: &Span<'_>) -> String {
    if span.span_id.is_empty() {
        return format!("{} of the message", span.ordinal + 1);
    }
    span.span_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noon of a day in 2025.
    const NOON: u64 = 1_750_000_000_000;

    /// What spans with these starts and ends, in nanoseconds, give at two minutes after noon.
    fn told(spans: &[(u64, u64)]) -> Result<Times, TimeError> {
        asked(spans).map(|(times, _)| times)
    }

    fn asked(spans: &[(u64, u64)]) -> Result<(Times, Option<TimeError>), TimeError> {
        let bytes = |field: u8, value: &[u8]| [&[field << 3 | 2, value.len() as u8], value].concat();
        let fixed = |field: u8, value: u64| [&[field << 3 | 1], value.to_le_bytes().as_slice()].concat();
        let span = |(start, end): &(u64, u64)| bytes(2, &[bytes(2, &[9]), fixed(7, *start), fixed(8, *end)].concat());
        let value = bytes(1, &bytes(2, &spans.iter().flat_map(span).collect::<Vec<u8>>()));
        let mut batch = Batch::new();
        batch.decode(&value).expect("a request");
        times(&batch, &value, NOON as Millis + 120_000)
    }

    fn ns(seconds: u64) -> u64 {
        (NOON + seconds * 1_000) * 1_000_000 + 999_999
    }

    fn at(spans: &[(u64, u64)]) -> Option<u64> {
        told(spans).expect("a time").at.map(|at| (at as u64 - NOON) / 1_000)
    }

    #[test]
    fn the_earliest_plausible_end_is_the_time_of_a_record() {
        assert_eq!(at(&[(ns(1), ns(30)), (ns(1), ns(20)), (ns(1), ns(90))]), Some(20));
        assert_eq!(at(&[(ns(1), ns(200)), (ns(1), ns(90))]), Some(90));
        assert_eq!(at(&[(0, ns(7))]), Some(7));
        assert_eq!(told(&[]), Ok(Times::default()));
    }

    #[test]
    fn a_span_that_has_not_ended_is_where_it_began_and_is_counted() {
        assert_eq!(
            told(&[(ns(5), 0), (ns(3), 0)]).map(|t| (t.at, t.unfinished)),
            Ok((Some(NOON as Millis + 3_000), 2))
        );
        assert_eq!(at(&[(ns(1), 0), (ns(2), ns(30))]), Some(30), "ends come first");
        assert_eq!(at(&[(ns(4), u64::MAX)]), Some(4), "an end that is still to come is none");
        for none in [[(0, 0)], [(0, u64::MAX)], [(ns(500), ns(501))]] {
            assert_eq!(told(&none), Err(TimeError::None("09".to_owned())), "{none:?}");
        }
    }

    #[test]
    fn a_time_in_another_unit_is_named_with_its_span_and_the_remedy() {
        for (ns, text) in [
            (NOON, "look like milliseconds; change their writer to multiply them by 1,000,000"),
            (NOON * 1_000, "look like microseconds; change their writer to multiply them by 1,000"),
            (NOON / 1_000, "look like seconds; change their writer to multiply them by 1,000,000,000"),
            (5, "times are in nanoseconds"),
        ] {
            for (spans, field) in
                [(vec![(ns, ns + 1)], "endTimeUnixNano"), (vec![(ns, 0), (0, 0)], "startTimeUnixNano")]
            {
                let error = told(&spans).expect_err("1970").to_string();
                assert!(error.starts_with(&format!("span 09: {field} is ")) && error.ends_with(text), "{error}");
            }
        }
    }

    #[test]
    fn a_span_in_1970_among_others_says_nothing_and_is_named() {
        let good = (ns(1), ns(30));
        for (odd, field) in
            [((5, 6), "endTimeUnixNano"), ((5, ns(40)), "startTimeUnixNano"), ((ns(2), 6), "endTimeUnixNano")]
        {
            for spans in [[odd, good], [good, odd]] {
                let (times, error) = asked(&spans).expect("the other one tells");
                assert_eq!((times.at, times.odd), (Some(NOON as Millis + 30_000), 1));
                let error = error.expect("told").to_string();
                assert!(error.starts_with(&format!("span 09: {field} is ")), "{error}");
            }
        }
        let (times, _) = asked(&[(5, ns(7))]).expect("its end tells");
        assert_eq!((times.at, times.odd), (Some(NOON as Millis + 7_000), 1));
    }
}
