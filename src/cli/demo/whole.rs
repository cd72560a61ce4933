//! Whole traces as the receiver knows them: what the slowest part of the load waits for, and where its errors begin.
//!
//! *In:* the receiver's series. *Out:* lines of text. *Never:* anything that did not come over remote write.

use std::collections::BTreeMap;

use super::graph::label;
use super::view::{Style, StyledLine, count};
use crate::tools::receiver::SeriesState;

/// The request whose critical path is shown: the checkout of the shop.
const REQUEST: &str = "POST /checkout";
const PATH: &str = "traces_critical_path_seconds_total{";
const ORIGIN: &str = "traces_error_origin_total{";
/// Lines of each table.
const MOST: usize = 8;

/// Where the time of a checkout goes, and where errors begin.
pub(super) fn lines(series: &BTreeMap<String, SeriesState>) -> Vec<StyledLine> {
    let path = sums(series, PATH, |labels| label(labels, "root_operation") == Some(REQUEST));
    let origins = sums(series, ORIGIN, |_| true);
    let all: f64 = path.iter().map(|(_, seconds)| seconds).sum();
    let share = |seconds: f64| format!("{:5.1} %", 100.0 * seconds / all.max(f64::MIN_POSITIVE));
    let mut lines = vec![heading(format!("critical path of {REQUEST}"))];
    lines.extend(path.iter().take(MOST).map(|(place, seconds)| row(&share(*seconds), place)));
    lines.push(heading("errors begin in".to_owned()));
    lines.extend(origins.iter().take(MOST).map(|(place, n)| row(&format!("{:>7}", count(*n as u64)), place)));
    lines
}

fn heading(text: String) -> StyledLine {
    vec![(Style::Bold, text)]
}

fn row(value: &str, place: &str) -> StyledLine {
    vec![(Style::Plain, format!("  {value}  {place}"))]
}

/// The values of a metric by service and operation, the greatest first.
fn sums(series: &BTreeMap<String, SeriesState>, metric: &str, wanted: impl Fn(&str) -> bool) -> Vec<(String, f64)> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let mine = series.range(metric.to_owned()..).map_while(|(text, state)| Some((text.strip_prefix(metric)?, state)));
    for (labels, state) in mine {
        if wanted(labels) {
            let of = |name| label(labels, name).unwrap_or_default();
            *sums.entry(format!("{} / {}", of("service"), of("operation"))).or_default() += state.last_value;
        }
    }
    let mut sums: Vec<(String, f64)> = sums.into_iter().collect();
    sums.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_part_of_the_checkout_and_the_most_frequent_origin_come_first() {
        let state = |last_value| SeriesState { last_ts: 1, last_value, stale: false, samples: 1, exemplars: 0 };
        let path = |root: &str, service: &str| {
            format!("{PATH}operation=\"get\",root_operation=\"{root}\",root_service=\"web\",service=\"{service}\"}}")
        };
        let origin = |error: &str, service: &str| {
            format!("{ORIGIN}error_type=\"{error}\",operation=\"get\",root_service=\"web\",service=\"{service}\"}}")
        };
        let series = BTreeMap::from([
            (path(REQUEST, "web"), state(1.0)),
            (path(REQUEST, "bank"), state(3.0)),
            (path("GET /", "cart"), state(9.0)),
            (origin("a", "bank"), state(2.0)),
            (origin("b", "bank"), state(2.0)),
            (origin("a", "web"), state(3.0)),
        ]);
        let shown: Vec<String> = lines(&series).into_iter().flatten().map(|(_, text)| text).collect();
        assert_eq!(
            shown,
            [
                "critical path of POST /checkout",
                "   75.0 %  bank / get",
                "   25.0 %  web / get",
                "errors begin in",
                "        4  bank / get",
                "        3  web / get",
            ]
        );
    }
}
