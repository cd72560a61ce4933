//! A request without its exemplars, for a receiver that stores none: they are up to a third of its bytes.

use super::Request;
use super::request::{EXEMPLAR_TAG, SERIES_TAG};
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64};

// === impl Request ===

impl Request {
    /// The same samples without exemplars. `None` when there are none, or the request is not one of ours.
    #[must_use]
    pub fn without_exemplars(&self) -> Option<Self> {
        if self.exemplars == 0 {
            return None;
        }
        let raw = snap::raw::Decoder::new().decompress_vec(&self.body).ok()?;
        let out = stripped(&raw).ok()?;
        let rest = Self::compress(&out, self.series, self.samples, 0, &mut snap::raw::Encoder::new());
        Some(Self { starts: self.starts.clone(), ..rest })
    }
}

fn stripped(raw: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (mut out, mut series, mut r) = (Vec::with_capacity(raw.len()), Vec::new(), Reader::new(raw));
    while !r.is_empty() {
        if r.u64()? != SERIES_TAG {
            return Err(Malformed("a request holds nothing but series"));
        }
        series.clear();
        let mut parts = Reader::new(r.bytes()?);
        while !parts.is_empty() {
            let (tag, bytes) = (parts.u64()?, parts.bytes()?);
            if tag != EXEMPLAR_TAG {
                put_u64(&mut series, tag);
                put_bytes(&mut series, bytes);
            }
        }
        put_u64(&mut out, SERIES_TAG);
        put_bytes(&mut out, &series);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Exemplar;
    use crate::core::model::labels::cuts;
    use crate::core::remotewrite::StartTimes;
    use crate::core::remotewrite::encode::{Point, SeriesLabels, SeriesWriter, name_label};

    fn written(exemplar: Option<&Exemplar>) -> Request {
        let mut writer = SeriesWriter::new(100, 1 << 20, "trace_id");
        for name in ["a", "b", "c"] {
            let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &name_label(name), le: &[] };
            let exemplar = exemplar.filter(|_| name != "b");
            writer.push(&labels, Point { start: Some((14_000, 0.0)), at: 15_000, value: 1.0 }, exemplar);
        }
        writer.finish().remove(0)
    }

    #[test]
    fn a_request_without_exemplars_is_the_one_that_never_had_any() {
        let exemplar = Exemplar { at: 14_500, trace_id: [7; 16], value_ns: 5 };
        let with = written(Some(&exemplar));
        assert_eq!(with.exemplars, 2);
        let with = Request { starts: StartTimes::of([1, 2, 3]), ..with };
        let without = with.without_exemplars().expect("two exemplars");
        assert_eq!(without, Request { starts: with.starts.clone(), ..written(None) });
        assert!(without.body.len() < with.body.len());
        assert_eq!(without.without_exemplars(), None);
        let odd = Request { body: bytes::Bytes::from_static(b"\x03abc"), ..with };
        assert_eq!(odd.without_exemplars(), None, "it is sent as it is");
    }
}
