//! Remote write 2.0: the body of a request, made of the same request in 1.0.
//!
//! *In:* a [`Request`]. *Out:* a snappy block that holds an `io.prometheus.write.v2.Request`. *Owner:* the sender, once
//! the receiver is known to support it. *Never:* another sample, or another order: a request that waits may be sent in
//! either form, and that may change from one attempt to the next. *Next:* the sender.
//!
//! Requests are built, kept, halved and cut into phases in the form of 1.0 only. The series of a label set stand next
//! to one another there, so most labels of a series are those of the one before it, byte for byte, and have their
//! symbols already.

use bytes::Bytes;
use hashbrown::HashTable;

use crate::core::model::Millis;
use crate::core::model::hash::Seed;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64, varint_len};

use super::metadata::{Description, Descriptions, describe};
use super::request::{EXEMPLAR_TAG, HISTOGRAM_TAG, SAMPLE_TAG, SERIES_TAG};
use super::{Request, StartTimes};

/// The `Content-Type` of a request.
pub const CONTENT_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
/// The `X-Prometheus-Remote-Write-Version` of a request.
pub const VERSION: &str = "2.0.0";

/// Tags in 1.0: `TimeSeries.labels` and `Exemplar.labels`, and of a label its name and its value.
const LABEL: u64 = 0x0a;
const LABEL_NAME: u64 = 0x0a;
const LABEL_VALUE: u64 = 0x12;
/// Tags in 2.0: of `Request`, of `TimeSeries`, and of its parts.
const SYMBOL: u8 = 0x22;
const SERIES: u8 = 0x2a;
const REFS: u8 = 0x0a;
const SAMPLE: u8 = 0x12;
const HISTOGRAM: u8 = 0x1a;
const EXEMPLAR: u8 = 0x22;
const METADATA: u8 = 0x2a;
const SAMPLE_START: u64 = 0x18;
const HISTOGRAM_START: u64 = 0x88;
const METADATA_TYPE: u8 = 0x08;
const METADATA_HELP: u8 = 0x18;
const METADATA_UNIT: u8 = 0x20;

/// The body of a request without series: it stores nothing, and shows whether a receiver supports 2.0.
#[must_use]
pub fn probe() -> Bytes {
    // The one symbol that every request has.
    let raw = [SYMBOL, 0];
    snap::raw::Encoder::new().compress_vec(&raw).expect("two bytes").into()
}

/// The same request in 2.0, compressed. `seed` is that of its string table, `own` what the metrics of users are about.
///
/// # Errors
/// When the request was not written by this program.
pub fn body(request: &Request, seed: Seed, own: &Descriptions) -> Result<Bytes, Malformed> {
    let raw = snap::raw::Decoder::new().decompress_vec(&request.body).map_err(|_| Malformed("not a snappy block"))?;
    let mut translation = Translation::new(seed, raw.len(), own);
    let (mut r, mut starts) = (Reader::new(&raw), request.starts.iter().flat_map(StartTimes::iter));
    while !r.is_empty() {
        if r.u64()? != SERIES_TAG {
            return Err(Malformed("a request holds nothing but series"));
        }
        translation.series(r.bytes()?, starts.next().unwrap_or(0))?;
    }
    let raw = translation.finish();
    let body = snap::raw::Encoder::new().compress_vec(&raw).map_err(|_| Malformed("a request of more than 4 GiB"))?;
    Ok(body.into())
}

/// The strings of a request, each once. The first one is empty.
struct Symbols<'a> {
    seed: Seed,
    places: HashTable<u32>,
    texts: Vec<&'a [u8]>,
}

/// A label with the places of its name and its value.
#[derive(Clone, Copy)]
struct Known<'a> {
    label: &'a [u8],
    refs: [u32; 2],
}

struct Translation<'a> {
    own: &'a Descriptions,
    symbols: Symbols<'a>,
    /// The labels of the series before, and of this one.
    before: Vec<Known<'a>>,
    labels: Vec<Known<'a>>,
    /// By the place of a metric's name and whether it is native: its metadata as a field.
    metadata: Vec<((u32, bool), Vec<u8>)>,
    out: Vec<u8>,
    /// The parts of a series.
    refs: Vec<u8>,
    values: Vec<u8>,
    exemplars: Vec<u8>,
}

// === impl Symbols ===

impl<'a> Symbols<'a> {
    fn of(&mut self, text: &'a [u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let Self { seed, places, texts } = self;
        let text_at = |at: &u32| texts.get(*at as usize).copied().unwrap_or_default();
        if let Some(at) = places.find(seed.of_bytes(text), |at| text_at(at) == text) {
            return *at;
        }
        let at = texts.len() as u32;
        places.insert_unique(seed.of_bytes(text), at, |at| seed.of_bytes(text_at(at)));
        texts.push(text);
        at
    }

    /// The places of the name and the value of a label.
    fn of_label(&mut self, label: &'a [u8]) -> Result<[u32; 2], Malformed> {
        let (mut r, mut refs) = (Reader::new(label), [0; 2]);
        while !r.is_empty() {
            match r.u64()? {
                LABEL_NAME => refs[0] = self.of(r.bytes()?),
                LABEL_VALUE => refs[1] = self.of(r.bytes()?),
                _ => return Err(Malformed("a label has a name and a value")),
            }
        }
        Ok(refs)
    }
}

// === impl Translation ===

impl<'a> Translation<'a> {
    fn new(seed: Seed, len: usize, own: &'a Descriptions) -> Self {
        let symbols = Symbols { seed, places: HashTable::new(), texts: vec![&[]] };
        let (before, labels, metadata) = (Vec::new(), Vec::new(), Vec::new());
        let (refs, values, exemplars) = (Vec::new(), Vec::new(), Vec::new());
        // A series takes a quarter of its size in 1.0.
        let out = Vec::with_capacity(len / 3);
        Self { own, symbols, before, labels, metadata, out, refs, values, exemplars }
    }

    /// Appends a series, which has counted since `start`; 0 when that is not known.
    fn series(&mut self, entry: &'a [u8], start: Millis) -> Result<(), Malformed> {
        self.labels.clear();
        self.values.clear();
        self.exemplars.clear();
        let (mut r, mut seen, mut native) = (Reader::new(entry), 0, false);
        while !r.is_empty() {
            match (r.u64()?, r.bytes()?) {
                (LABEL, label) => self.label(label, &mut seen)?,
                (SAMPLE_TAG, sample) => put_value(&mut self.values, SAMPLE, sample, (SAMPLE_START, start)),
                (HISTOGRAM_TAG, histogram) => {
                    native = true;
                    put_value(&mut self.values, HISTOGRAM, histogram, (HISTOGRAM_START, start));
                }
                (EXEMPLAR_TAG, exemplar) => self.exemplar(exemplar)?,
                _ => return Err(Malformed("unknown part of a series")),
            }
        }
        self.put_series(native);
        std::mem::swap(&mut self.before, &mut self.labels);
        Ok(())
    }

    /// Takes the next label of a series. `seen` counts the labels of the series before that are behind it.
    fn label(&mut self, label: &'a [u8], seen: &mut usize) -> Result<(), Malformed> {
        // A series has at most one label that its neighbor has not, most often: `le`.
        let ahead = self.before.iter().skip(*seen).take(2);
        let known = match ahead.enumerate().find(|(_, known)| known.label == label) {
            Some((skipped, known)) => {
                *seen += skipped + 1;
                *known
            }
            None => {
                *seen += 1;
                Known { label, refs: self.symbols.of_label(label)? }
            }
        };
        self.labels.push(known);
        Ok(())
    }

    fn exemplar(&mut self, exemplar: &'a [u8]) -> Result<(), Malformed> {
        let mut r = Reader::new(exemplar);
        self.refs.clear();
        while let Some(&tag) = r.rest().first()
            && u64::from(tag) == LABEL
        {
            r.u64()?;
            self.symbols.of_label(r.bytes()?)?.into_iter().for_each(|at| put_u64(&mut self.refs, at.into()));
        }
        let out = &mut self.exemplars;
        out.push(EXEMPLAR);
        put_u64(out, (refs_len(&self.refs) + r.rest().len()) as u64);
        put_refs(out, &self.refs);
        // The value and the time have the same numbers in both.
        out.extend_from_slice(r.rest());
        Ok(())
    }

    fn put_series(&mut self, native: bool) {
        self.refs.clear();
        self.labels.iter().flat_map(|known| known.refs).for_each(|at| put_u64(&mut self.refs, at.into()));
        let metadata = self.metadata(native);
        let metadata = self.metadata.get(metadata).map_or(&[][..], |(_, field)| field);
        let parts = [&self.values[..], &self.exemplars, metadata];
        let out = &mut self.out;
        out.push(SERIES);
        put_u64(out, (refs_len(&self.refs) + parts.iter().map(|part| part.len()).sum::<usize>()) as u64);
        put_refs(out, &self.refs);
        parts.iter().for_each(|part| out.extend_from_slice(part));
    }

    /// Where the metadata of the series is.
    fn metadata(&mut self, native: bool) -> usize {
        let name = self.labels.iter().find(|known| is_name(known.label)).map_or(0, |known| known.refs[1]);
        let key = (name, native);
        if let Some(at) = self.metadata.iter().position(|(of, _)| *of == key) {
            return at;
        }
        let text = self.symbols.texts.get(name as usize).copied().unwrap_or_default();
        let Description { kind, help, unit } =
            describe(std::str::from_utf8(text).unwrap_or_default(), native, self.own);
        let mut body = vec![METADATA_TYPE, kind as u8];
        for (tag, text) in [(METADATA_HELP, help), (METADATA_UNIT, unit)] {
            let at = self.symbols.of(text.as_bytes());
            if at > 0 {
                body.push(tag);
                put_u64(&mut body, at.into());
            }
        }
        let mut field = vec![METADATA];
        put_bytes(&mut field, &body);
        self.metadata.push((key, field));
        self.metadata.len() - 1
    }

    /// The symbols, and behind them the series.
    fn finish(self) -> Vec<u8> {
        let texts = self.symbols.texts.iter().map(|text| text.len() + 6).sum::<usize>();
        let mut out = Vec::with_capacity(texts + self.out.len());
        for text in &self.symbols.texts {
            out.push(SYMBOL);
            put_bytes(&mut out, text);
        }
        out.extend_from_slice(&self.out);
        out
    }
}

/// The bytes of the field that [`put_refs`] appends.
fn refs_len(refs: &[u8]) -> usize {
    if refs.is_empty() { 0 } else { 1 + varint_len(refs.len() as u64) + refs.len() }
}

/// Appends the places of labels, unless there are none.
fn put_refs(out: &mut Vec<u8>, refs: &[u8]) {
    if !refs.is_empty() {
        out.push(REFS);
        put_bytes(out, refs);
    }
}

/// Whether a label is the name of the metric.
fn is_name(label: &[u8]) -> bool {
    label.starts_with(b"\x0a\x08__name__\x12")
}

/// Appends a sample or a histogram, which have the same numbers in both, with when counting began, if that is known.
fn put_value(out: &mut Vec<u8>, tag: u8, value: &[u8], (start_tag, start): (u64, Millis)) {
    out.push(tag);
    if start == 0 {
        return put_bytes(out, value);
    }
    let start = start.cast_unsigned();
    // `HISTOGRAM_START` is the first byte of two: field 17.
    let tag_len = if start_tag == HISTOGRAM_START { 2 } else { 1 };
    put_u64(out, (value.len() + tag_len + varint_len(start)) as u64);
    out.extend_from_slice(value);
    out.push(start_tag as u8);
    if tag_len == 2 {
        out.push(1);
    }
    put_u64(out, start);
}

#[cfg(test)]
mod tests;
