//! JSON lines for `/api/v1/import` of VictoriaMetrics: one series per line, with all its values.
//!
//! Native histograms are refused. Markers of ended series, for which the format has no value, are skipped and counted, as
//! are exemplars, which VictoriaMetrics does not store.

use std::io::Write;

use serde_json::{Map, Value};

use super::{FormatError, Series, Written, floats};

/// Writes the series of one tenant and one window.
///
/// # Errors
/// When `out` fails, or a series is a native histogram.
pub fn write(series: &[Series], out: &mut dyn Write) -> Result<Written, FormatError> {
    let mut written = Written::default();
    for one in series {
        let (mut values, mut times): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        for (at, value) in floats(one)? {
            values.push(number(value));
            times.push(at.into());
        }
        written.markers_left += (one.floats.len() - values.len()) as u64;
        written.exemplars_left += one.exemplars.len() as u64;
        if values.is_empty() {
            continue;
        }
        written.series += 1;
        written.samples += values.len() as u64;
        let labels: Map<String, Value> =
            one.labels.iter().map(|l| (l.name.clone(), Value::from(l.value.as_str()))).collect();
        let metric = Value::Object(labels);
        let line = serde_json::json!({ "metric": metric, "values": values, "timestamps": times });
        writeln!(out, "{line}")?;
    }
    Ok(written)
}

/// A value as the importer reads it. Whole numbers stand without a point.
fn number(value: f64) -> Value {
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    // 2^53: up to there every whole number is a float.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return (value as i64).into();
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::window::tests::labels;
    use super::*;
    use crate::core::remotewrite::decode::STALE_MARKER;
    use crate::core::remotewrite::decode::proto::Histogram;

    fn series(floats: &[(i64, f64)]) -> Series {
        let labels = labels(&[("__name__", "x"), ("a", "q\"uote")]);
        Series {
            tenant: Arc::from("t"),
            labels,
            floats: floats.to_vec(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
        }
    }

    #[test]
    fn a_line_holds_a_series() {
        let stale = f64::from_bits(STALE_MARKER);
        let (mut out, values) = (Vec::new(), [(1, 0.0), (2, 1.5), (3, f64::INFINITY), (4, stale)]);
        let written = write(&[series(&values), series(&[(5, stale)])], &mut out).expect("no native histogram");
        let line = r#"{"metric":{"__name__":"x","a":"q\"uote"},"timestamps":[1,2,3],"values":[0,1.5,"Infinity"]}"#;
        assert_eq!(String::from_utf8(out).expect("text"), format!("{line}\n"));
        assert_eq!(written, Written { series: 1, samples: 3, markers_left: 2, ..Written::default() });
    }

    #[test]
    fn a_native_histogram_is_refused() {
        let mut native = series(&[]);
        native.histograms.push((5, Histogram::default()));
        assert!(matches!(write(&[native], &mut Vec::new()), Err(FormatError::Native(_))));
    }
}
