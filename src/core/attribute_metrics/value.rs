//! Numbers of spans as whole billionths of their unit, so that any order of adding them gives the same bits.
//!
//! A whole number is exact. The fraction of a double is rounded to the nearest billionth. A text is what a whole number or a
//! decimal of it is. What is below zero would make a counter fall, and what is no finite number or greater than
//! [`MOST`] would spoil a sum for ever: none of them is counted.

use crate::core::model::{Counter, Weight};
use crate::core::otlp::ValueKind;
use crate::core::settings::AttributeMetric;

/// Billionths.
pub(super) type Number = u128;

const ONE: Number = AttributeMetric::ONE as Number;
/// The greatest product of value and weight: a sum of 128 bits, 32 of them behind the point, holds at least 79,000 of it.
const MOST: Number = 1_000_000_000_000_000 * ONE;
/// Doubles from here on fit no `u64`.
const BEYOND: f64 = 18_446_744_073_709_551_616.0;

/// Why a value is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoValue {
    /// It is below zero.
    Negative,
    /// It is no number, or none that is finite.
    NotANumber,
    /// With its weight it is greater than [`MOST`].
    TooLarge,
}

// === impl NoValue ===

impl NoValue {
    /// What counts these.
    pub(super) fn counter(self) -> Counter {
        match self {
            Self::Negative => Counter::AttributeValuesDroppedNegative,
            Self::NotANumber => Counter::AttributeValuesDroppedNotANumber,
            Self::TooLarge => Counter::AttributeValuesDroppedTooLarge,
        }
    }
}

/// The number that an attribute is.
pub(super) fn billionths(value: ValueKind<'_>) -> Result<Number, NoValue> {
    match value {
        ValueKind::Int(whole) => of_whole(whole),
        ValueKind::Double(number) => of_double(number),
        ValueKind::Text(text) => of_text(text),
        _ => Err(NoValue::NotANumber),
    }
}

fn of_whole(whole: i64) -> Result<Number, NoValue> {
    u64::try_from(whole).map(|whole| Number::from(whole) * ONE).map_err(|_| NoValue::Negative)
}

fn of_double(number: f64) -> Result<Number, NoValue> {
    if !number.is_finite() {
        return Err(NoValue::NotANumber);
    }
    if number < 0.0 {
        return Err(NoValue::Negative);
    }
    if number >= BEYOND {
        return Err(NoValue::TooLarge);
    }
    // Apart, because the product of a large double would not be exact.
    let whole = number.trunc();
    let fraction = ((number - whole) * ONE as f64).round();
    Ok(Number::from(whole as u64) * ONE + Number::from(fraction as u64))
}

fn of_text(text: &[u8]) -> Result<Number, NoValue> {
    let text = std::str::from_utf8(text).map_err(|_| NoValue::NotANumber)?.trim();
    match text.parse::<i64>() {
        Ok(whole) => of_whole(whole),
        Err(_) => text.parse().map_err(|_| NoValue::NotANumber).and_then(of_double),
    }
}

/// The number, unless it is too large with its weight.
pub(super) fn weighed(number: Number, weight: Weight) -> Result<Number, NoValue> {
    let most = MOST << Weight::FRACTION_BITS;
    match number.checked_mul(weight.bits().into()) {
        Some(product) if product <= most => Ok(number),
        _ => Err(NoValue::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_counted_in_billionths_of_its_unit() {
        let one = |value| billionths(value);
        for (value, expected) in [
            (ValueKind::Int(0), 0),
            (ValueKind::Int(7), 7 * ONE),
            (ValueKind::Int(i64::MAX), 9_223_372_036_854_775_807 * ONE),
            (ValueKind::Double(0.1), 100_000_000),
            (ValueKind::Double(-0.0), 0),
            (ValueKind::Double(0.000_000_000_4), 0),
            (ValueKind::Double(0.000_000_000_6), 1),
            (ValueKind::Double(0.999_999_999_9), ONE),
            (ValueKind::Double(123_456_789_012_345.0), 123_456_789_012_345 * ONE),
            (ValueKind::Double(4_503_599_627_370_495.5), 4_503_599_627_370_495 * ONE + ONE / 2),
            (ValueKind::Text(b"42"), 42 * ONE),
            (ValueKind::Text(b" 9007199254740993 "), 9_007_199_254_740_993 * ONE),
            (ValueKind::Text(b"1.5e3"), 1_500 * ONE),
        ] {
            assert_eq!(one(value), Ok(expected), "{value:?}");
        }
    }

    #[test]
    fn what_would_spoil_a_sum_has_its_reason() {
        use NoValue::{Negative, NotANumber, TooLarge};
        for (value, reason) in [
            (ValueKind::Int(-1), Negative),
            (ValueKind::Double(-1e-300), Negative),
            (ValueKind::Double(f64::NAN), NotANumber),
            (ValueKind::Double(f64::INFINITY), NotANumber),
            (ValueKind::Double(f64::NEG_INFINITY), NotANumber),
            (ValueKind::Double(1e300), TooLarge),
            (ValueKind::Text(b"-3"), Negative),
            (ValueKind::Text(b"inf"), NotANumber),
            (ValueKind::Text(b"nan"), NotANumber),
            (ValueKind::Text(b"1e999"), NotANumber),
            (ValueKind::Text(b""), NotANumber),
            (ValueKind::Text(b"12 MB"), NotANumber),
            (ValueKind::Text(b"\xff"), NotANumber),
            (ValueKind::Text(b"99999999999999999999"), TooLarge),
            (ValueKind::Bool(true), NotANumber),
            (ValueKind::Bytes(b"1"), NotANumber),
            (ValueKind::Unset, NotANumber),
        ] {
            assert_eq!(billionths(value), Err(reason), "{value:?}");
        }
    }

    #[test]
    fn value_times_weight_has_a_limit_that_sums_can_hold_often() {
        let weight = |bits| Weight::from_bits(bits);
        assert_eq!(weighed(MOST, Weight::ONE), Ok(MOST));
        assert_eq!(weighed(MOST + 1, Weight::ONE), Err(NoValue::TooLarge));
        assert_eq!(weighed(MOST / 4, weight(4 << 32)), Ok(MOST / 4));
        assert_eq!(weighed(MOST / 4 + 1, weight(4 << 32)), Err(NoValue::TooLarge));
        assert_eq!(weighed(MOST * 2, weight(1 << 31)), Ok(MOST * 2));
        assert_eq!(weighed(u128::MAX / 2, weight(u64::MAX)), Err(NoValue::TooLarge));
        assert_eq!(u128::MAX / (MOST << Weight::FRACTION_BITS), 79_228);
    }
}
