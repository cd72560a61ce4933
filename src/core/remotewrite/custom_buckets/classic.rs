//! One series of a request, as far as it matters whether it is a part of a classic histogram.

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader};
use crate::core::remotewrite::request::{EXEMPLAR_TAG, SAMPLE_TAG};

/// Tags of `TimeSeries.labels`, of a label its name and its value, and of a sample its value and its time.
const LABEL: u64 = 0x0a;
const LABEL_NAME: u64 = 0x0a;
const LABEL_VALUE: u64 = 0x12;
const SAMPLE_VALUE: u64 = 0x09;
const SAMPLE_TIME: u64 = 0x10;

/// A part of a classic histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Sum,
    Count,
    Bucket,
}

/// A part, and the name without its ending.
type Named<'a> = (Part, &'a [u8]);

/// A series.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// All its labels, encoded.
    pub(super) labels: &'a [u8],
    /// Which part it may be.
    pub(super) part: Option<Named<'a>>,
    /// Its bound.
    pub(super) le: Option<&'a str>,
    /// The labels without name and bound, encoded; only if it may be a part.
    pub(super) others: Vec<u8>,
    /// Its only sample, if it has one.
    pub(super) sample: Option<(f64, Millis)>,
    /// Its exemplars, encoded.
    pub(super) exemplars: Vec<&'a [u8]>,
}

// === impl Line ===

impl<'a> Line<'a> {
    pub(super) fn read(series: &'a [u8]) -> Result<Self, Malformed> {
        let labels = crate::core::remotewrite::separate::labels_of(series);
        let (part, le) = part_of(labels)?;
        let mut line = Self { labels, part, le, others: Vec::new(), sample: None, exemplars: Vec::new() };
        if part.is_none() {
            return Ok(line);
        }
        let (mut r, mut samples) = (Reader::new(series.get(labels.len()..).unwrap_or_default()), 0);
        while !r.is_empty() {
            match (r.u64()?, r.bytes()?) {
                (SAMPLE_TAG, sample) => {
                    line.sample = Some(read_sample(sample)?);
                    samples += 1;
                }
                (EXEMPLAR_TAG, exemplar) => line.exemplars.push(exemplar),
                _ => samples = 2,
            }
        }
        line.sample.take_if(|_| samples != 1);
        line.others = without(labels, &[b"__name__", b"le"])?;
        Ok(line)
    }
}

/// Which part the labels name, and their bound.
fn part_of(labels: &[u8]) -> Result<(Option<Named<'_>>, Option<&str>), Malformed> {
    let (mut name, mut le, mut r) = (&[][..], None, Reader::new(labels));
    while !r.is_empty() {
        r.u64()?;
        let (label, value) = label(r.bytes()?)?;
        match label {
            b"__name__" => name = value,
            b"le" => le = std::str::from_utf8(value).ok(),
            _ => {}
        }
    }
    let endings = [(Part::Sum, &b"_sum"[..]), (Part::Count, b"_count"), (Part::Bucket, b"_bucket")];
    let part = endings.into_iter().find_map(|(part, ending)| Some((part, name.strip_suffix(ending)?)));
    Ok((part.filter(|(part, _)| (*part == Part::Bucket) == le.is_some()), le))
}

/// The name and the value of an encoded label.
pub(super) fn label(encoded: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut r, mut name, mut value) = (Reader::new(encoded), &[][..], &[][..]);
    while !r.is_empty() {
        match r.u64()? {
            LABEL_NAME => name = r.bytes()?,
            LABEL_VALUE => value = r.bytes()?,
            _ => return Err(Malformed("a label has a name and a value")),
        }
    }
    Ok((name, value))
}

/// Encoded labels without those of some names.
fn without(labels: &[u8], names: &[&[u8]]) -> Result<Vec<u8>, Malformed> {
    let (mut out, mut r) = (Vec::with_capacity(labels.len()), Reader::new(labels));
    while !r.is_empty() {
        let begin = labels.len() - r.rest().len();
        if r.u64()? != LABEL {
            return Err(Malformed("a series begins with its labels"));
        }
        let (name, _) = label(r.bytes()?)?;
        if !names.contains(&name) {
            out.extend_from_slice(&labels[begin..labels.len() - r.rest().len()]);
        }
    }
    Ok(out)
}

fn read_sample(sample: &[u8]) -> Result<(f64, Millis), Malformed> {
    let (mut r, mut value, mut at) = (Reader::new(sample), 0.0, 0);
    while !r.is_empty() {
        match r.u64()? {
            SAMPLE_VALUE => value = f64::from_le_bytes(r.array()?),
            SAMPLE_TIME => at = r.u64()?.cast_signed(),
            _ => return Err(Malformed("a sample has a value and a time")),
        }
    }
    Ok((value, at))
}
