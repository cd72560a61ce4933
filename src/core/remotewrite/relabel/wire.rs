//! Rules on requests: what is copied, what is rewritten, and what is not sent.

use std::borrow::Cow;
use std::ops::Range;

use super::{Labels, Relabeler};
use crate::core::model::Millis;
use crate::core::model::labels::put_label;
use crate::core::model::wire::{Malformed, Reader, put_u64};
use crate::core::remotewrite::request::{EXEMPLAR_TAG, HISTOGRAM_TAG, SAMPLE_TAG, SERIES_TAG};
use crate::core::remotewrite::separate::{labels_of, text_of};
use crate::core::remotewrite::{Request, StartTimes};

/// Tags of `TimeSeries.labels`, and of a label its name and its value.
const LABEL: u64 = 0x0a;
const LABEL_NAME: u64 = 0x0a;
const LABEL_VALUE: u64 = 0x12;

/// A request under the rules of its endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relabeled {
    /// Exemplars that are not sent.
    pub withheld: u64,
    /// What is sent: the very request if no rule changes it; `None` if nothing is left.
    pub request: Option<Request>,
    /// Samples of series that the rules do not send.
    pub filtered: u64,
    /// Samples of series that got the labels of an earlier series of the request.
    pub collided: u64,
    /// The labels of the first of these series, as they were before.
    pub collision: Option<String>,
}

/// A series of a request that is sent.
struct Entry<'a> {
    /// Its labels as they were, encoded.
    before: &'a [u8],
    /// Where its labels are among those of all series.
    labels: Range<usize>,
    /// Its samples and exemplars, encoded.
    rest: &'a [u8],
    counts: Counts,
    start: Millis,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    samples: u32,
    exemplars: u32,
}

/// The series of a request, while the rules are applied.
#[derive(Default)]
struct Sorted<'a> {
    entries: Vec<Entry<'a>>,
    labels: Vec<u8>,
    /// Whether some series has other labels than before.
    changed: bool,
    filtered: u64,
}

// === impl Relabeler ===

impl Relabeler {
    /// Applies the rules to every series of a request.
    ///
    /// # Errors
    /// When the request was not written by this program.
    pub fn request(&self, request: &Request) -> Result<Relabeled, Malformed> {
        let raw =
            snap::raw::Decoder::new().decompress_vec(&request.body).map_err(|_| Malformed("not a snappy block"))?;
        let mut sorted = self.sort(&raw, request.starts.as_ref())?;
        let collisions = if sorted.changed { sorted.collisions() } else { Vec::new() };
        if !sorted.changed && sorted.filtered == 0 {
            return Ok(Relabeled { request: Some(request.clone()), ..Relabeled::default() });
        }
        let mut relabeled = Relabeled { filtered: sorted.filtered, ..Relabeled::default() };
        // From the last on, so that the places of the others stay.
        for at in collisions.into_iter().rev() {
            let entry = sorted.entries.remove(at);
            relabeled.collided += u64::from(entry.counts.samples);
            relabeled.collision = Some(text_of(entry.before));
        }
        relabeled.request = sorted.write(raw.len());
        Ok(relabeled)
    }

    /// Whether a series with these encoded labels is sent. What this program did not write is.
    #[must_use]
    pub fn keeps(&self, labels: &[u8]) -> bool {
        Labels::read(labels).map_or(true, |mut labels| self.apply(&mut labels, &mut String::new()))
    }

    fn sort<'a>(&self, raw: &'a [u8], starts: Option<&StartTimes>) -> Result<Sorted<'a>, Malformed> {
        let (mut r, mut starts, mut source) =
            (Reader::new(raw), starts.into_iter().flat_map(StartTimes::iter), String::new());
        let may_change = self.may_merge();
        let mut sorted = Sorted { labels: Vec::with_capacity(raw.len()), ..Sorted::default() };
        while !r.is_empty() {
            if r.u64()? != SERIES_TAG {
                return Err(Malformed("a request holds nothing but series"));
            }
            let series = r.bytes()?;
            let start = starts.next().unwrap_or(0);
            let before = labels_of(series);
            let rest = series.get(before.len()..).unwrap_or_default();
            let counts = count(rest)?;
            let mut labels = Labels::read(before)?;
            if !self.apply(&mut labels, &mut source) {
                sorted.filtered += u64::from(counts.samples);
                continue;
            }
            let begin = sorted.labels.len();
            if may_change {
                labels.0.iter().for_each(|(name, value)| put_label(&mut sorted.labels, name, value));
                sorted.changed |= sorted.labels.get(begin..) != Some(before);
            } else {
                sorted.labels.extend_from_slice(before);
            }
            sorted.entries.push(Entry { before, labels: begin..sorted.labels.len(), rest, counts, start });
        }
        Ok(sorted)
    }
}

fn count(rest: &[u8]) -> Result<Counts, Malformed> {
    let (mut r, mut counts) = (Reader::new(rest), Counts::default());
    while !r.is_empty() {
        match r.u64()? {
            SAMPLE_TAG | HISTOGRAM_TAG => counts.samples += 1,
            EXEMPLAR_TAG => counts.exemplars += 1,
            _ => return Err(Malformed("unknown part of a series")),
        }
        r.bytes()?;
    }
    Ok(counts)
}

// === impl Sorted ===

impl Sorted<'_> {
    fn labels(&self, at: usize) -> &[u8] {
        self.entries.get(at).and_then(|entry| self.labels.get(entry.labels.clone())).unwrap_or_default()
    }

    /// The series whose labels an earlier one has, in order.
    fn collisions(&self) -> Vec<usize> {
        let mut by_labels: Vec<usize> = (0..self.entries.len()).collect();
        // Stable: among equal ones, the first of the request stays the first.
        by_labels.sort_by(|a, b| self.labels(*a).cmp(self.labels(*b)));
        let same = |pair: &&[usize]| self.labels(pair[0]) == self.labels(pair[1]);
        let mut found: Vec<usize> = by_labels.windows(2).filter(same).map(|pair| pair[1]).collect();
        found.sort_unstable();
        found
    }

    fn write(self, size: usize) -> Option<Request> {
        let (mut out, mut all) = (Vec::with_capacity(size), Counts::default());
        for entry in &self.entries {
            let labels = self.labels.get(entry.labels.clone()).unwrap_or_default();
            put_u64(&mut out, SERIES_TAG);
            put_u64(&mut out, (labels.len() + entry.rest.len()) as u64);
            out.extend_from_slice(labels);
            out.extend_from_slice(entry.rest);
            all.samples += entry.counts.samples;
            all.exemplars += entry.counts.exemplars;
        }
        let starts = StartTimes::of(self.entries.iter().map(|entry| entry.start));
        let series = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let request = Request::compress(&out, series, all.samples, all.exemplars, &mut snap::raw::Encoder::new());
        (series > 0).then_some(Request { starts, ..request })
    }
}

// === impl Labels ===

impl<'a> Labels<'a> {
    /// The labels of an encoded series, which stand there by name.
    fn read(encoded: &'a [u8]) -> Result<Self, Malformed> {
        let (mut r, mut labels) = (Reader::new(encoded), Vec::with_capacity(16));
        while !r.is_empty() {
            if r.u64()? != LABEL {
                return Err(Malformed("a series begins with its labels"));
            }
            let (mut label, mut name, mut value) = (Reader::new(r.bytes()?), "", "");
            while !label.is_empty() {
                match label.u64()? {
                    LABEL_NAME => name = label.str()?,
                    LABEL_VALUE => value = label.str()?,
                    _ => return Err(Malformed("unknown part of a label")),
                }
            }
            labels.push((Cow::Borrowed(name), Cow::Borrowed(value)));
        }
        Ok(Self(labels))
    }
}
