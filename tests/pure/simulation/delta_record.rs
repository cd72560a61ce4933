//! The bytes of the deltas topic.

use super::source::Deltas;
use spanmill::core::journal::DeltaRecords;
use spanmill::core::model::wire::{Malformed, Reader, put_i64, put_u64};

/// One record of the deltas topic: a part of a delta record.
pub(crate) struct DeltaRecord {
    pub(crate) partition: usize,
    pub(crate) commit_number: u64,
    pub(crate) part: u32,
    pub(crate) parts: u32,
    pub(crate) step: i64,
    pub(crate) stream_time: i64,
    pub(crate) deltas: Vec<(u64, u64)>,
}

/// Cuts the deltas of a commit into delta records, each in parts of two.
pub(crate) fn cut(
    partition: usize,
    commit_number: u64,
    step: i64,
    stream_time: i64,
    deltas: &Deltas,
    shards: usize,
) -> DeltaRecords {
    (0..shards as u64)
        .map(|shard| {
            let mine: Vec<_> = deltas.iter().filter(|(series, _)| *series % shards as u64 == shard).collect();
            let chunks: Vec<&[_]> = if mine.is_empty() { vec![&[]] } else { mine.chunks(2).collect() };
            chunks
                .iter()
                .enumerate()
                .map(|(part, chunk)| {
                    let mut out = Vec::new();
                    for n in [partition as u64, commit_number, part as u64, chunks.len() as u64] {
                        put_u64(&mut out, n);
                    }
                    put_i64(&mut out, step);
                    put_i64(&mut out, stream_time);
                    for (series, amount) in *chunk {
                        put_u64(&mut out, **series);
                        put_u64(&mut out, **amount);
                    }
                    out
                })
                .collect()
        })
        .collect()
}

impl DeltaRecord {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let (partition, commit_number, part, parts) = (r.uint()?, r.u64()?, r.uint()?, r.uint()?);
        let (step, stream_time) = (r.i64()?, r.i64()?);
        let mut deltas = Vec::new();
        while !r.is_empty() {
            deltas.push((r.u64()?, r.u64()?));
        }
        Ok(Self { partition, commit_number, part, parts, step, stream_time, deltas })
    }
}
