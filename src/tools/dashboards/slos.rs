//! Rules and a dashboard for service level objectives: the alerts of the Google SRE workbook, on several windows and burn
//! rates.
//!
//! Objectives are judged series by series: with the label `service`, each service has the objective, and its alerts name
//! the service. Nothing is summed up, so external labels stay.

use std::fmt::Write as _;

use super::panel::{Dashboard, Panel, Query, Variable};
use super::rules::quoted;
use crate::config::Config;
use crate::core::settings::{Objective, Slo};

/// All windows of the alerts.
const WINDOWS: [&str; 7] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"];
/// The recorded share of bad events, without its window.
const ERRORS: &str = "slo:traces_slo_errors:ratio_rate";
/// The recorded share of events that may be bad.
const BUDGET: &str = "slo:traces_slo_error_budget:ratio";

/// A burn rate, and the windows over which it is too high.
struct Burn {
    /// Ten times how much faster than allowed the budget is spent.
    tenths: u32,
    long: &'static str,
    short: &'static str,
}

/// An alert with its burn rates.
struct BurnAlert {
    name: &'static str,
    severity: &'static str,
    what: &'static str,
    burns: [Burn; 2],
}

/// As in the workbook, for a budget of 30 days.
const ALERTS: [BurnAlert; 2] = [
    BurnAlert {
        name: "SloErrorBudgetBurnsFast",
        severity: "page",
        what: "at this rate the budget of 30 days is spent within 5 days or faster",
        burns: [Burn { tenths: 144, long: "1h", short: "5m" }, Burn { tenths: 60, long: "6h", short: "30m" }],
    },
    BurnAlert {
        name: "SloErrorBudgetBurnsSlowly",
        severity: "ticket",
        what: "at this rate the budget of 30 days is spent before they are over",
        burns: [Burn { tenths: 30, long: "1d", short: "2h" }, Burn { tenths: 10, long: "3d", short: "6h" }],
    },
];

/// Rules that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SloRulesError {
    /// There is no objective.
    #[error(
        "slos: is empty, so there is nothing to write rules for; add one such as `{{name: checkout, objective: 99.9}}`"
    )]
    None,
    /// Some have no target.
    #[error("{}", .0.join("\n"))]
    NoObjective(Vec<String>),
}

/// The rules for the objectives of `config`, as a file of Prometheus. With a label for tenants, they select those of
/// `tenant`, if one is given.
///
/// # Errors
/// When there are no objectives, or one has no `objective`.
pub fn slo_rules(config: &Config, tenant: Option<&str>) -> Result<String, SloRulesError> {
    let slos = &config.core.slos;
    if slos.is_empty() {
        return Err(SloRulesError::None);
    }
    let missing = slos.iter().enumerate().filter(|(_, slo)| slo.objective.is_none());
    let missing = missing.map(|(i, slo)| {
        format!("slos[{i}] ({}): has no `objective`, which rules need; write one such as `objective: 99.9`", slo.name)
    });
    let missing: Vec<String> = missing.collect();
    if !missing.is_empty() {
        return Err(SloRulesError::NoObjective(missing));
    }
    let label = &config.core.series.tenant_label;
    let of_tenant = tenant.filter(|_| !label.is_empty()).map(|tenant| (label.as_str(), tenant));
    let mut out =
        "# Rules for Prometheus, written by `spanmill rules`. Burn rates and windows are those of the SRE workbook.\n\
                   groups:\n"
            .to_owned();
    for (slo, objective) in slos.iter().filter_map(|slo| Some((slo, slo.objective?))) {
        group(&mut out, slo, objective, of_tenant);
    }
    Ok(out)
}

fn group(out: &mut String, slo: &Slo, objective: Objective, of_tenant: Option<(&str, &str)>) {
    let labels = std::iter::once(("slo", slo.name.as_str())).chain(of_tenant);
    let labels: Vec<(&str, &str)> = labels.collect();
    let matchers: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    let select = matchers.join(",");
    let name = labels.iter().map(|(_, value)| *value).collect::<Vec<_>>().join("-");
    let mut put = |line: String| writeln!(out, "{line}").expect("a string takes everything");
    put(format!("  - name: {}", quoted(&format!("spanmill-slo-{name}"))));
    put("    rules:".to_owned());
    put(format!("      - record: {BUDGET}"));
    put(format!("        expr: \"vector({})\"", objective.budget()));
    put("        labels:".to_owned());
    labels.iter().for_each(|(name, value)| put(format!("          {name}: {}", quoted(value))));
    for window in WINDOWS {
        let rate = |metric: &str| format!("rate(traces_slo_{metric}_total{{{select}}}[{window}])");
        // Without events there is no share.
        let expr = format!("1 - {} / ({} > 0)", rate("good"), rate("events"));
        put(format!("      - record: {ERRORS}{window}"));
        put(format!("        expr: {}", quoted(&expr)));
    }
    for alert in &ALERTS {
        alert_lines(alert, objective, &select).into_iter().for_each(&mut put);
    }
}

fn alert_lines(alert: &BurnAlert, objective: Objective, select: &str) -> Vec<String> {
    let (can, cannot): (Vec<&Burn>, Vec<&Burn>) = alert.burns.iter().partition(|burn| objective.can_burn(burn.tenths));
    let mut lines = Vec::new();
    for burn in cannot {
        let rate = burn.rate();
        lines
            .push(format!("      # {rate} times the budget would be more than all events: no rule over {}", burn.long));
    }
    if can.is_empty() {
        return lines;
    }
    let part = |burn: &&Burn| {
        let most = format!("({} * {})", burn.rate(), objective.budget());
        let over = |window: &str| format!("{ERRORS}{window}{{{select}}} > {most}");
        format!("({} and {})", over(burn.long), over(burn.short))
    };
    let expr = can.iter().map(part).collect::<Vec<_>>().join(" or ");
    lines.push(format!("      - alert: {}", alert.name));
    lines.push(format!("        expr: {}", quoted(&expr)));
    lines.push(format!("        labels:\n          severity: {}", alert.severity));
    let description = format!(
        "{{{{ $value | humanizePercentage }}}} of the events are bad, and an objective of {} % allows {} %: {}.",
        objective.percent(),
        objective.budget_percent(),
        alert.what
    );
    let summary = "{{ $labels.slo }}{{ with $labels.service }} of {{ . }}{{ end }}{{ with $labels.service_name }} of \
                   {{ . }}{{ end }} spends its error budget too fast";
    lines.push("        annotations:".to_owned());
    for (name, text) in [("summary", summary), ("description", &description), ("runbook", "docs/slos.md#alerts")] {
        lines.push(format!("          {name}: {}", quoted(text)));
    }
    lines
}

// === impl Burn ===

impl Burn {
    fn rate(&self) -> String {
        let (whole, tenths) = (self.tenths / 10, self.tenths % 10);
        if tenths == 0 { whole.to_string() } else { format!("{whole}.{tenths}") }
    }
}

/// The dashboard for all objectives. Budgets come from the rules.
#[must_use]
pub fn slo_dashboard() -> Dashboard {
    let slo = Variable { name: "slo", label: "Objective", query: "label_values(traces_slo_events_total, slo)" };
    Dashboard {
        file: "spanmill-slos.json",
        uid: "spanmill-slos",
        title: "Service level objectives",
        description: "Good events, error budgets and burn rates. Load the rules of `spanmill rules`, too.",
        variables: vec![slo],
        rows: vec![("Objectives", objectives()), ("Over time", over_time())],
    }
}

fn sum(metric: &str, function: &str, range: &str) -> String {
    format!("sum by (slo) ({function}(traces_slo_{metric}_total{{slo=~\"$slo\"}}[{range}]))")
}

fn bad_share(function: &str, range: &str) -> String {
    format!("1 - {} / ({} > 0)", sum("good", function, range), sum("events", function, range))
}

fn budget() -> String {
    format!("max by (slo) ({BUDGET}{{slo=~\"$slo\"}})")
}

fn objectives() -> Vec<Panel> {
    const RANGE: &str = "$__range";
    let left = format!("1 - ({}) / {}", bad_share("increase", RANGE), budget());
    let columns = vec![
        Query::column("Events", "short", sum("events", "increase", RANGE)),
        Query::column("Good", "percentunit", format!("1 - ({})", bad_share("increase", RANGE))),
        Query::column("Objective", "percentunit", format!("1 - {}", budget())),
        Query::column("Budget left", "percentunit", left),
    ];
    vec![Panel::table("Objectives", "The chosen time range as a whole. Below 0 the budget is overspent.", columns)]
}

fn over_time() -> Vec<Panel> {
    const RANGE: &str = "$__rate_interval";
    let burn = format!("({}) / on (slo) group_left () {}", format_args!("{ERRORS}1h{{slo=~\"$slo\"}}"), budget());
    vec![
        Panel::lines(
            "Bad events",
            "Share of events that are not good.",
            "percentunit",
            [("{{slo}}", bad_share("rate", RANGE))],
        ),
        Panel::lines(
            "Burn rate over an hour",
            "How much faster than allowed the budget is spent; above 14.4 an alert pages.",
            "short",
            [("{{slo}} {{service}}", burn)],
        ),
        Panel::lines("Events", "Events per second.", "ops", [("{{slo}}", sum("events", "rate", RANGE))]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::SloSubject;

    fn config(objectives: &[Option<&str>]) -> Config {
        let mut config = Config::default();
        let slo = |(i, objective): (usize, &Option<&str>)| Slo {
            name: format!("o{i}"),
            of: SloSubject::Spans,
            matching: Vec::new(),
            latency_ns: None,
            failed: Slo::failed_by_status(),
            labels: Slo::default_labels(SloSubject::Spans),
            objective: objective.and_then(Objective::of_percent),
        };
        config.core.slos = objectives.iter().enumerate().map(slo).collect();
        config
    }

    #[test]
    fn an_objective_needs_its_target_and_the_message_names_each_that_has_none() {
        assert_eq!(slo_rules(&config(&[]), None), Err(SloRulesError::None));
        let error = slo_rules(&config(&[None, Some("99"), None]), None).expect_err("two have no target");
        let text = error.to_string();
        assert_eq!(
            text.lines().map(|line| line.split(':').next().unwrap_or_default()).collect::<Vec<_>>(),
            ["slos[0] (o0)", "slos[2] (o2)"]
        );
    }

    #[test]
    fn burn_rates_are_those_of_the_workbook_in_exact_decimals() {
        let text = slo_rules(&config(&[Some("99.9")]), None).expect("a target");
        for (rate, long, short) in [("14.4", "1h", "5m"), ("6", "6h", "30m"), ("3", "1d", "2h"), ("1", "3d", "6h")] {
            let over = |window| format!(r#"ratio_rate{window}{{slo=\"o0\"}} > ({rate} * 0.001)"#);
            assert!(
                text.contains(&format!(
                    "{} and {ERRORS_OF}{}",
                    over(long),
                    over(short),
                    ERRORS_OF = "slo:traces_slo_errors:"
                )),
                "{rate}: {text}"
            );
        }
    }

    #[test]
    fn a_burn_rate_that_no_failure_can_reach_is_named_instead_of_a_dead_rule() {
        let text = slo_rules(&config(&[Some("90")]), None).expect("a target");
        assert!(text.contains("# 14.4 times the budget") && !text.contains("14.4 *"), "{text}");
        let low = slo_rules(&config(&[Some("50")]), None).expect("a target");
        assert!(!low.contains("SloErrorBudgetBurnsFast") && low.contains("SloErrorBudgetBurnsSlowly"), "{low}");
    }

    #[test]
    fn a_label_for_tenants_selects_the_tenant() {
        let mut config = config(&[Some("99")]);
        assert!(!slo_rules(&config, Some("acme")).expect("a target").contains("acme"));
        config.core.series.tenant_label = "tenant".to_owned();
        assert!(slo_rules(&config, Some("acme")).expect("a target").contains(r#"{slo=\"o0\",tenant=\"acme\"}"#));
    }
}
