//! A sample of the traces that a partition holds, so that its owner can find those whose spans lie in several partitions.

/// The maximum number of traces that are kept until they are taken.
const MOST: usize = 64;

/// One in so many traces; the owners of all partitions choose the same ones.
const ONE_IN: u16 = 1_024;

/// Trace IDs of the sample that were read since the last take. Their memory is allocated at the start.
#[derive(Debug)]
pub(super) struct TraceSample(Vec<[u8; 16]>);

// === impl TraceSample ===

impl Default for TraceSample {
    fn default() -> Self {
        Self(Vec::with_capacity(MOST))
    }
}

impl TraceSample {
    /// Keeps a trace, if it belongs to the sample. Its last bytes decide: those are random even if the first ones are a
    /// time.
    #[inline]
    pub(super) fn see(&mut self, trace_id: &[u8]) {
        let Some([.., high, low]) = trace_id.first_chunk::<16>() else { return };
        if u16::from_be_bytes([*high, *low]).is_multiple_of(ONE_IN) {
            self.keep(trace_id);
        }
    }

    #[cold]
    fn keep(&mut self, trace_id: &[u8]) {
        let Ok(trace_id) = <[u8; 16]>::try_from(trace_id) else { return };
        if trace_id != [0; 16] && self.0.len() < MOST && self.0.last() != Some(&trace_id) {
            self.0.push(trace_id);
        }
    }

    /// The traces that were seen since the last call.
    pub(super) fn take(&mut self) -> Vec<[u8; 16]> {
        let traces = self.0.clone();
        self.0.clear();
        traces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> [u8; 16] {
        n.to_be_bytes()
    }

    #[test]
    fn one_in_1024_traces_is_kept_once_and_never_more_than_64() {
        let mut sample = TraceSample::default();
        for n in 0..10 * 1_024 {
            sample.see(&id(n));
            sample.see(&id(n));
        }
        assert_eq!(sample.take(), (1..10).map(|n| id(n * 1_024)).collect::<Vec<_>>(), "0 is no trace");
        assert_eq!(sample.take(), Vec::<[u8; 16]>::new());
        (0..1_000 * 1_024).for_each(|n| sample.see(&id(n)));
        assert_eq!(sample.take().len(), MOST);
    }

    #[test]
    fn what_is_no_trace_id_is_none_of_the_sample() {
        let mut sample = TraceSample::default();
        [&[][..], &[0; 8], &[0; 15], &[0; 17], &[0; 16]].into_iter().for_each(|id| sample.see(id));
        assert_eq!(sample.take(), Vec::<[u8; 16]>::new());
    }
}
