//! Service level objectives: which spans, edges or traces are events, and which of those are good.

use super::{Dimension, FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue};

/// One entry of `slos`.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    /// `name`: the value of the label `slo`.
    pub name: String,
    /// `of`, and for edges `good.side`: what the events are. Default spans.
    pub of: SloSubject,
    /// `match`: the spans that are events, as `span_metrics.filter_policies`; none: all. Of edges and traces, the keys are
    /// their labels.
    pub matching: Vec<FilterPolicy>,
    /// `good.latency` in nanoseconds: an event that takes longer is not good. Default none.
    pub latency_ns: Option<u64>,
    /// `good.failed`: a span that these policies keep is not good; none: no event fails. Default
    /// [`Slo::failed_by_status`]. Edges and traces fail by their own rules, or with none of these not at all.
    pub failed: Vec<FilterPolicy>,
    /// `labels`: attributes, and `service`; of edges and traces, some of their labels. Default
    /// [`Slo::default_labels`].
    pub labels: Vec<Dimension>,
    /// `objective`: the share of events that should be good. Default none. It decides no number of a series.
    pub objective: Option<Objective>,
}

/// What the events of an objective are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SloSubject {
    /// `spans`: spans.
    #[default]
    Spans,
    /// `edges`: edges of the service graph, with the latency of this side.
    Edges(SloSide),
    /// `traces`: closed traces.
    Traces,
}

/// `good.side`: whose latency an edge has. Where a virtual node stands in for this side, it has that of the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SloSide {
    /// `client`: as the caller sees it.
    #[default]
    Client,
    /// `server`: without the network.
    Server,
}

/// The share of events that should be good, in millionths of a percent: above 0 and below 100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objective(u32);

/// 100 % in these units.
const WHOLE: u32 = 100_000_000;

// === impl Slo ===

impl Slo {
    /// The label `service` among `labels`.
    pub const SERVICE: &str = "service";

    /// The rule for failures unless there is another one: the status of the span is an error.
    #[must_use]
    pub fn failed_by_status() -> Vec<FilterPolicy> {
        let value = PolicyValue::Text("STATUS_CODE_ERROR".to_owned());
        let attributes = vec![PolicyAttribute { key: "status".to_owned(), value }];
        let include = Some(PolicyMatch { match_type: MatchType::Strict, attributes });
        vec![FilterPolicy { include, include_any: None, exclude: None }]
    }

    /// The labels that there are unless others are named.
    #[must_use]
    pub fn default_labels(of: SloSubject) -> Vec<Dimension> {
        let names: &[&str] = match of {
            SloSubject::Spans => &[Self::SERVICE],
            SloSubject::Edges(_) => &["client", "server"],
            SloSubject::Traces => &["root_service"],
        };
        let label = |name: &&str| Dimension { name: (*name).to_owned(), or: Vec::new(), default: None };
        names.iter().map(label).collect()
    }
}

// === impl Objective ===

impl Objective {
    /// `None` unless it is above 0 and below 100 %.
    #[must_use]
    pub fn of_millionths(percent: u32) -> Option<Self> {
        (percent > 0 && percent < WHOLE).then_some(Self(percent))
    }

    /// Reads a percentage in decimal, such as `99.9`, with up to 6 digits behind the point.
    #[must_use]
    pub fn of_percent(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 3) || !digits(fraction, 6) {
            return None;
        }
        let millionths = format!("{fraction:0<6}").parse::<u32>().ok()?;
        Self::of_millionths(whole.parse::<u32>().ok()? * 1_000_000 + millionths)
    }

    /// The percentage in decimal, such as `99.9`.
    #[must_use]
    pub fn percent(self) -> String {
        decimal(self.0, 1_000_000)
    }

    /// The share of events that may be bad, in decimal, such as `0.001`.
    #[must_use]
    pub fn budget(self) -> String {
        decimal(WHOLE - self.0, WHOLE)
    }

    /// The percentage of events that may be bad, in decimal, such as `0.1`.
    #[must_use]
    pub fn budget_percent(self) -> String {
        decimal(WHOLE - self.0, 1_000_000)
    }

    /// The percentage as a number.
    #[must_use]
    pub fn as_percent(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// Whether so many bad ones of `events` keep within the budget. Exact, below 2^100 events.
    #[must_use]
    pub fn allows(self, bad: u128, events: u128) -> bool {
        bad * u128::from(WHOLE) <= events * u128::from(WHOLE - self.0)
    }

    /// The budget as a number.
    #[must_use]
    pub fn budget_share(self) -> f64 {
        f64::from(WHOLE - self.0) / f64::from(WHOLE)
    }

    /// Whether `tenths / 10` times the budget is less than all events.
    #[must_use]
    pub fn can_burn(self, tenths: u32) -> bool {
        u64::from(WHOLE - self.0) * u64::from(tenths) < u64::from(WHOLE) * 10
    }
}

/// `number / one` in decimal; `one` is a power of ten.
fn decimal(number: u32, one: u32) -> String {
    let (whole, rest, width) = (number / one, number % one, one.ilog10() as usize);
    let text = format!("{whole}.{rest:0width$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objective_is_exact_in_decimal() {
        for (text, budget) in [("99.9", "0.001"), ("99.999999", "0.00000001"), ("50", "0.5"), ("0.5", "0.995")] {
            let objective = Objective::of_percent(text).expect(text);
            assert_eq!((objective.percent().as_str(), objective.budget().as_str()), (text, budget));
        }
        for wrong in ["", "0", "100", "99.9999999", "100.1", "-1", "99,9", "99.", ".9", "1e1", "nan", "99.9%"] {
            assert_eq!(Objective::of_percent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_rate_that_is_more_than_all_events_cannot_be_reached() {
        let objective = |text| Objective::of_percent(text).expect("a percentage");
        assert!(objective("99.9").can_burn(144) && objective("93.06").can_burn(144));
        assert!(!objective("93").can_burn(144) && !objective("90").can_burn(100) && objective("90").can_burn(60));
    }
}
