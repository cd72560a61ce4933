//! How many spans one kept span stands for.
//!
//! *In:* a span and its resource. *Out:* a [`Weight`]. *Owner:* the room that counts; a [`Sampling`] never changes.
//! *Never:* an allocation, a float that is added up. *Next:* [`crate::core::spanmetrics`] and
//! [`crate::core::servicegraph`].
//!
//! # Where the weight is found
//!
//! 1. If `tracestate` is read: the first member `ot=` of the span's trace state holds a threshold `th:`, up to 14
//!    hexadecimal digits. They are the first digits of a fraction: spans whose randomness is below it were dropped.
//! 2. If a key is given: the first attribute with it that is a double above zero, on the span and then on the resource,
//!    is the fraction that was kept. Integers and texts are ignored, as in Tempo, unless they are asked for.
//! 3. Otherwise a span stands for itself.
//!
//! # Where this differs from Tempo
//!
//! - Where the trace state also carries the randomness `rv:`, Tempo rounds the weight up or down by it, to a whole
//!   number. That biases sums, since the same randomness has decided already that the span was kept: by up to 20 %.
//!   Here a weight of 1.333 counts as 1.333.
//! - A weight that does not fit [`Weight`] (2^32 and more, or next to nothing) counts as unknown.

use crate::core::model::Weight;
use crate::core::otlp::{Attributes, Span, ValueKind};

/// Hexadecimal digits of a threshold.
const DIGITS: usize = 14;

/// Where the weights of spans are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampling {
    /// The attribute with the kept fraction; empty if there is none.
    key: Box<[u8]>,
    /// The fraction may also be text or a whole number.
    of_text: bool,
    tracestate: bool,
}

impl Sampling {
    /// Weights by the attribute `multiplier_key`, unless it is empty, and by the trace state, if `tracestate` is set.
    #[must_use]
    pub fn new(multiplier_key: &str, tracestate: bool) -> Self {
        Self { key: multiplier_key.as_bytes().into(), of_text: false, tracestate }
    }

    /// The same, and the attribute may also be text or a whole number, if `of_text`.
    #[must_use]
    pub fn of_text(self, of_text: bool) -> Self {
        Self { of_text, ..self }
    }

    /// Whether every span stands for itself.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.key.is_empty() && !self.tracestate
    }

    /// How many spans a span of a resource stands for.
    #[inline]
    #[must_use]
    pub fn weight(&self, span: &Span<'_>, resource: Attributes<'_>) -> Weight {
        if self.is_off() { Weight::ONE } else { self.find(span, resource).unwrap_or_default() }
    }

    fn find(&self, span: &Span<'_>, resource: Attributes<'_>) -> Option<Weight> {
        let from_state = if self.tracestate { of_tracestate(span.trace_state) } else { None };
        from_state.or_else(|| {
            if self.key.is_empty() {
                return None;
            }
            let named = span.attributes.iter().chain(resource.iter()).filter(|(key, _)| **key == *self.key);
            named.into_iter().find_map(|(_, value)| match value.kind() {
                ValueKind::Double(ratio) => Weight::from_ratio(ratio),
                kind if self.of_text => written(kind).and_then(Weight::from_ratio),
                _ => None,
            })
        })
    }
}

/// A fraction that is not a double.
fn written(kind: ValueKind<'_>) -> Option<f64> {
    match kind {
        ValueKind::Int(delta_record) => Some(delta_record as f64),
        ValueKind::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}

/// The weight in a W3C trace state, if it has one.
fn of_tracestate(state: &[u8]) -> Option<Weight> {
    let mut members = state.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let ours = members.find_map(|member| member.strip_prefix(b"ot="))?;
    let threshold = ours.split(|b| *b == b';').find_map(|field| field.strip_prefix(b"th:"))?;
    if threshold.is_empty() || threshold.len() > DIGITS {
        return None;
    }
    let digits = threshold.iter().try_fold(0, |n: u64, &b| Some(n << 4 | u64::from(char::from(b).to_digit(16)?)))?;
    Weight::from_threshold(digits << (4 * (DIGITS - threshold.len())))
}

#[cfg(test)]
mod tests;
