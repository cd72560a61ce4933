//! Compares the produced load with the received series.

use std::collections::BTreeMap;

use crate::core::model::Ledger;
use crate::tools::loadgen::Expectation;
use crate::tools::receiver::SeriesState;

/// The differences between what was produced and the state of the receiver and the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct DemoResult {
    /// Series that were expected.
    pub(super) series: usize,
    /// Everything that differs, in words.
    pub(super) differences: Vec<String>,
}

impl DemoResult {
    /// Compares every series, bit for bit, and every counter.
    pub(super) fn new(expected: &Expectation, found: &BTreeMap<String, SeriesState>, ledger: &Ledger) -> Self {
        let mut differences = Vec::new();
        for (series, value) in expected.series() {
            match found.get(series).map(|s| s.last_value) {
                Some(other) if other.to_bits() == value.to_bits() => {}
                Some(other) => differences.push(format!("{series}: expected {value}, received {other}")),
                None => differences.push(format!("{series}: expected {value}, received nothing")),
            }
        }
        for (series, state) in found.iter().filter(|(series, _)| expected.get(series).is_none()) {
            differences.push(format!("{series}: expected nothing, received {}", state.last_value));
        }
        for ((counter, wanted), (_, counted)) in expected.ledger().iter().zip(ledger.iter()) {
            if wanted != counted {
                differences.push(format!("ledger, {}: expected {wanted}, counted {counted}", counter.name()));
            }
        }
        Self { series: expected.series().len(), differences }
    }

    /// Whether nothing differs.
    pub(super) fn holds(&self) -> bool {
        self.differences.is_empty()
    }
}
