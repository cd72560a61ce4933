//! Classic histograms as native histograms with custom buckets (NHCB), for an endpoint that takes them, and back.
//!
//! *In:* requests of one step and tenant, in their order. *Out:* requests in which the series of a classic histogram are one
//! series, a native histogram of schema -53 whose bounds are those of the classic buckets. *Owner:* the sender. *Never:* another
//! count: whole counts are sent as integers. A histogram is never halved: where requests are cut in the middle of one, its
//! first series wait for the next request. *Next:* the sender, which translates to 2.0.
//!
//! The series of a histogram stand next to one another, as [`crate::core::series`] writes them: the sum, the count, and the
//! buckets by ascending bound. What does not stand like that stays as it is. Single buckets do not: they are the markers of
//! bounds that are gone, and the values before new ones. The native histogram continues, so they are dropped.

mod back;
mod classic;
mod write;

use bytes::Bytes;

use super::Request;
use super::separate::{Entries, Entry, entries};
use crate::core::model::Millis;
use crate::core::model::wire::Malformed;

use classic::{Line, Part};
use write::Bucketed;

/// The schema of custom buckets.
pub const SCHEMA: i32 = -53;

/// Converts the requests of one step, one after the other.
#[derive(Debug, Default)]
pub struct CustomBuckets {
    /// The histogram whose series are being read.
    open: Option<Group>,
    converted: u64,
}

/// The series of a classic histogram, as far as they have come.
#[derive(Debug)]
struct Group {
    /// The encoded labels of the sum.
    labels: Vec<u8>,
    /// The name without `_sum`.
    base: Vec<u8>,
    /// The labels without name and bound.
    others: Vec<u8>,
    at: Millis,
    start: Millis,
    sum: f64,
    count: Option<f64>,
    buckets: Bucketed,
    /// The series themselves: they are sent if they turn out to be no histogram.
    raw: Entries,
}

// === impl CustomBuckets ===

impl CustomBuckets {
    /// Converts a request; what it ends with may come with the next one. `None` when nothing is left of it.
    ///
    /// # Errors
    /// When the request was not written by this program.
    pub fn convert(&mut self, request: &Request) -> Result<Option<Request>, Malformed> {
        let raw = decompress(&request.body)?;
        let mut out = Entries::default();
        for entry in entries(&raw, request.starts.as_ref())? {
            self.take(&entry, &mut out)?;
        }
        Ok(out.finish())
    }

    /// What is left at the end.
    #[must_use]
    pub fn finish(&mut self) -> Option<Request> {
        let mut out = Entries::default();
        self.give_up(&mut out);
        out.finish()
    }

    /// Samples that are not sent for themselves: so many more than the histograms that they have become.
    pub fn converted(&mut self) -> u64 {
        std::mem::take(&mut self.converted)
    }

    fn take(&mut self, entry: &Entry<'_>, out: &mut Entries) -> Result<(), Malformed> {
        let line = Line::read(entry.bytes)?;
        if let Some(group) = &mut self.open {
            match group.takes(&line, entry) {
                Some(false) => return Ok(()),
                Some(true) => {
                    let group = self.open.take();
                    group.into_iter().for_each(|group| self.converted += group.write(out));
                    return Ok(());
                }
                None => self.give_up(out),
            }
        }
        match line.part {
            Some((Part::Sum, base)) if line.sample.is_some() => self.open = Group::new(&line, base, entry),
            Some((Part::Bucket, _)) => self.converted += u64::from(entry.samples),
            _ => out.push(entry),
        }
        Ok(())
    }

    /// What was read is no histogram: it stays as it is.
    fn give_up(&mut self, out: &mut Entries) {
        if let Some(group) = self.open.take() {
            out.append(group.raw);
        }
    }
}

// === impl Group ===

impl Group {
    fn new(line: &Line<'_>, base: &[u8], entry: &Entry<'_>) -> Option<Self> {
        let (sum, at) = line.sample?;
        let mut raw = Entries::default();
        raw.push(entry);
        let (labels, others) = (line.labels.to_vec(), line.others.clone());
        let (base, start) = (base.to_vec(), entry.start);
        Some(Self { labels, base, others, at, start, sum, count: None, buckets: Bucketed::default(), raw })
    }

    /// Takes the next series; returns whether the histogram is complete. `None`: it does not belong to it.
    fn takes(&mut self, line: &Line<'_>, entry: &Entry<'_>) -> Option<bool> {
        let (part, base) = line.part?;
        let (value, at) = line.sample?;
        let is_marker = |value: f64| super::decode::is_stale(value);
        if base != self.base || line.others != self.others || at != self.at || is_marker(value) != is_marker(self.sum) {
            return None;
        }
        let complete = match (part, self.count) {
            (Part::Count, None) => {
                self.count = Some(value);
                false
            }
            (Part::Bucket, Some(count)) => self.buckets.push(line.le?, value, count)?,
            _ => return None,
        };
        self.buckets.exemplars(&line.exemplars);
        self.raw.push(entry);
        Some(complete)
    }

    /// Writes the histogram; returns how many samples fewer it is.
    fn write(self, out: &mut Entries) -> u64 {
        let Self { labels, base, at, start, sum, buckets, raw, .. } = self;
        let bytes = buckets.series(&labels, &base, at, sum);
        let exemplars = buckets.exemplar_count();
        out.push(&Entry { bytes: &bytes, samples: 1, exemplars, start });
        u64::from(raw.samples()).saturating_sub(1)
    }
}

/// The same request with classic histograms in place of those with custom buckets; `None` when it has none.
///
/// # Errors
/// When the request was not written by this program.
pub fn classic(request: &Request) -> Result<Option<Request>, Malformed> {
    let raw = decompress(&request.body)?;
    let (mut out, mut any) = (Entries::default(), false);
    for entry in entries(&raw, request.starts.as_ref())? {
        match back::series_of(entry.bytes)? {
            None => out.push(&entry),
            Some(all) => {
                any = true;
                for series in all {
                    let exemplars = series.exemplars.len() as u32;
                    let bytes = prost::Message::encode_to_vec(&series);
                    let samples = series.samples.len() as u32;
                    out.push(&Entry { bytes: &bytes, samples, exemplars, start: entry.start });
                }
            }
        }
    }
    Ok(if any { out.finish() } else { None })
}

fn decompress(body: &Bytes) -> Result<Vec<u8>, Malformed> {
    snap::raw::Decoder::new().decompress_vec(body).map_err(|_| Malformed("not a snappy block"))
}

#[cfg(test)]
mod tests;
