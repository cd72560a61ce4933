//! Requests that are cut between histograms: the series of one are one point, and must come together.

use super::histogram::Part;
use crate::core::model::labels;
use crate::core::model::wire::{Malformed, Reader};
use crate::core::remotewrite::request::{EXEMPLAR_TAG, HISTOGRAM_TAG, SAMPLE_TAG, SERIES_TAG};
use crate::core::remotewrite::separate::labels_of;
use crate::core::remotewrite::{Request, StartTimes};

/// A series of a request, where it lies there.
#[derive(Clone, Copy)]
struct Entry<'a> {
    /// With its tag and length.
    field: &'a [u8],
    series: &'a [u8],
    start: i64,
}

/// The same samples in the same order, in requests that are cut between two histograms only. Requests that are so already
/// stay as they are, byte for byte.
#[must_use]
pub fn regroup(requests: &[Request]) -> Vec<Request> {
    let raw: Option<Vec<Vec<u8>>> = requests.iter().map(decompressed).collect();
    // What cannot be read did not come from the encoder, and is sent as it is.
    let Some(raw) = raw else { return requests.to_vec() };
    let all = requests.iter().zip(&raw).map(|(request, raw)| entries(request, raw).ok());
    let Some(all) = all.collect::<Option<Vec<_>>>() else { return requests.to_vec() };
    let mut grouped: Vec<(Option<&Request>, Vec<Entry<'_>>)> = Vec::new();
    for (request, entries) in requests.iter().zip(all) {
        let moved = match grouped.last_mut() {
            None => 0,
            Some((whole, before)) => {
                let last = before.last().copied();
                let moved = entries.iter().take_while(|entry| last.is_some_and(|last| belong(last, **entry))).count();
                if moved > 0 {
                    *whole = None;
                    before.extend(&entries[..moved]);
                }
                moved
            }
        };
        // One without series stays, so that it is settled.
        if moved < entries.len() || moved == 0 {
            grouped.push(((moved == 0).then_some(request), entries[moved..].to_vec()));
        }
    }
    grouped.into_iter().map(|(whole, entries)| whole.cloned().unwrap_or_else(|| joined(&entries))).collect()
}

/// Two parts, cut between two histograms or other series as near to the middle as possible; `None` when there is only one.
#[must_use]
pub fn split(request: &Request) -> Option<(Request, Request)> {
    let raw = decompressed(request)?;
    let entries = entries(request, &raw).ok()?;
    let middle = entries.len() / 2;
    let is_cut = |at: &usize| !belong(entries[*at - 1], entries[*at]);
    let at = (1..entries.len()).filter(is_cut).min_by_key(|at| at.abs_diff(middle))?;
    Some((joined(&entries[..at]), joined(&entries[at..])))
}

fn decompressed(request: &Request) -> Option<Vec<u8>> {
    snap::raw::Decoder::new().decompress_vec(&request.body).ok()
}

fn entries<'a>(request: &Request, raw: &'a [u8]) -> Result<Vec<Entry<'a>>, Malformed> {
    let (mut r, mut out) = (Reader::new(raw), Vec::new());
    let mut starts = request.starts.iter().flat_map(StartTimes::iter);
    while !r.is_empty() {
        let before = r.rest();
        if r.u64()? != SERIES_TAG {
            return Err(Malformed("a request holds nothing but series"));
        }
        let series = r.bytes()?;
        let field = before.get(..before.len() - r.rest().len()).unwrap_or_default();
        out.push(Entry { field, series, start: starts.next().unwrap_or(0) });
    }
    Ok(out)
}

/// Whether two series, one after the other, are of one histogram.
fn belong(a: Entry<'_>, b: Entry<'_>) -> bool {
    let (a_name, a_labels) = named(a);
    let (b_name, b_labels) = named(b);
    match (Part::of(a_name, &a_labels), Part::of(b_name, &b_labels)) {
        (Some(one), Some(other)) => one.same(&a_labels, other, &b_labels),
        _ => false,
    }
}

/// The name of a series, and its other labels.
fn named<'a>(entry: Entry<'a>) -> (&'a str, Vec<(&'a str, &'a str)>) {
    let (mut name, mut rest) = ("", Vec::new());
    for (label, value) in labels::iter(labels_of(entry.series)) {
        if label == "__name__" { name = value } else { rest.push((label, value)) }
    }
    (name, rest)
}

fn joined(entries: &[Entry<'_>]) -> Request {
    let (mut raw, mut samples, mut exemplars) = (Vec::new(), 0, 0);
    for entry in entries {
        raw.extend_from_slice(entry.field);
        let own = labels_of(entry.series);
        let mut r = Reader::new(entry.series.get(own.len()..).unwrap_or_default());
        while let (Ok(tag), Ok(_)) = (r.u64(), r.bytes()) {
            samples += u32::from(matches!(tag, SAMPLE_TAG | HISTOGRAM_TAG));
            exemplars += u32::from(tag == EXEMPLAR_TAG);
        }
    }
    let starts = StartTimes::of(entries.iter().map(|entry| entry.start));
    let series = entries.len() as u32;
    Request { starts, ..Request::compress(&raw, series, samples, exemplars, &mut snap::raw::Encoder::new()) }
}
