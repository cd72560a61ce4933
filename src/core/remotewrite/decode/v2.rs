//! Bodies of remote write 2.0, for the receiver of `spanmill demo` and for tests.

use prost::Message;

use super::proto::{self, Label, TimeSeries, WriteRequest};
use super::proto_v2::{Histogram, Request, Sample};
use super::{DecodeError, raw};

/// Decompresses and decodes one body.
///
/// # Errors
/// When it is not a snappy block of a `Request`, or too large.
pub fn request(bytes: &[u8]) -> Result<Request, DecodeError> {
    Ok(Request::decode(raw(bytes)?.as_slice())?)
}

/// The same in the form of 1.0, which has neither metadata nor start timestamps.
///
/// # Errors
/// Names the rule of 2.0 that the request breaks.
pub fn resolve(request: &Request) -> Result<WriteRequest, String> {
    if request.symbols.first().is_none_or(|first| !first.is_empty()) {
        return Err("the first symbol is not the empty string".to_owned());
    }
    let text = |at: u32| request.symbols.get(at as usize).ok_or_else(|| format!("there is no symbol {at}"));
    let labels = |refs: &[u32]| {
        let (pairs, rest) = refs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a label has a name and no value".to_owned());
        }
        let label = |[name, value]: &[u32; 2]| Ok(Label { name: text(*name)?.clone(), value: text(*value)?.clone() });
        pairs.iter().map(label).collect::<Result<Vec<_>, String>>()
    };
    let mut timeseries = Vec::with_capacity(request.timeseries.len());
    for series in &request.timeseries {
        if let Some(metadata) = &series.metadata {
            text(metadata.help_ref)?;
            text(metadata.unit_ref)?;
        }
        let exemplar = |e: &super::proto_v2::Exemplar| {
            Ok(proto::Exemplar { labels: labels(&e.labels_refs)?, value: e.value, timestamp: e.timestamp })
        };
        timeseries.push(TimeSeries {
            labels: labels(&series.labels_refs)?,
            samples: series.samples.iter().map(sample).collect(),
            exemplars: series.exemplars.iter().map(exemplar).collect::<Result<_, String>>()?,
            histograms: series.histograms.iter().map(histogram).collect::<Result<_, String>>()?,
        });
    }
    Ok(WriteRequest { timeseries })
}

fn sample(sample: &Sample) -> proto::Sample {
    proto::Sample { value: sample.value, timestamp: sample.timestamp }
}

/// The fields have the same numbers.
fn histogram(histogram: &Histogram) -> Result<proto::Histogram, String> {
    proto::Histogram::decode(histogram.encode_to_vec().as_slice()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::proto_v2::{self, TimeSeries};
    use super::*;

    fn refused(symbols: &[&str], series: TimeSeries) -> String {
        let symbols = symbols.iter().map(|&symbol| symbol.to_owned()).collect();
        resolve(&Request { symbols, timeseries: vec![series] }).expect_err("refused")
    }

    #[test]
    fn a_request_that_breaks_a_rule_is_refused_with_the_rule() {
        let named = |labels_refs: &[u32]| TimeSeries { labels_refs: labels_refs.to_vec(), ..TimeSeries::default() };
        assert_eq!(refused(&["a"], named(&[])), "the first symbol is not the empty string");
        assert_eq!(refused(&[], named(&[])), "the first symbol is not the empty string");
        assert_eq!(refused(&["", "a"], named(&[1, 2])), "there is no symbol 2");
        assert_eq!(refused(&["", "a"], named(&[1])), "a label has a name and no value");
        let metadata = Some(proto_v2::Metadata { help_ref: 9, ..proto_v2::Metadata::default() });
        assert_eq!(refused(&["", "a"], TimeSeries { metadata, ..named(&[]) }), "there is no symbol 9");
    }
}
