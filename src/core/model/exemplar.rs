//! Exemplars, and the order that decides between them.

use super::Millis;

/// One example observation of a histogram bucket.
///
/// Of several candidates for one bucket and step the **greatest** wins, by the derived order: latest span end, then
/// trace ID, then value. Taking a maximum does not depend on the order of arrival, so every worker and every replay
/// picks the same exemplar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exemplar {
    /// The span's own end, in milliseconds since the epoch.
    pub at: Millis,
    /// The trace ID, 16 bytes.
    pub trace_id: [u8; 16],
    /// The observed duration in nanoseconds.
    pub value_ns: u64,
}

/// Offers a candidate for `cell` to a sparse list of exemplars, kept sorted by cell. The greater one stays. Returns
/// whether it is the first of its cell.
pub fn offer(list: &mut Vec<(u32, Exemplar)>, cell: u32, candidate: Exemplar) -> bool {
    match list.binary_search_by_key(&cell, |(c, _)| *c) {
        Ok(i) => {
            let greatest = &mut list[i].1;
            if candidate > *greatest {
                *greatest = candidate;
            }
            false
        }
        Err(i) => {
            list.insert(i, (cell, candidate));
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winner_does_not_depend_on_the_order_of_arrival() {
        let a = Exemplar { at: 5, trace_id: [1; 16], value_ns: 9 };
        let b = Exemplar { at: 5, trace_id: [2; 16], value_ns: 1 };
        let (mut ab, mut ba) = (Vec::new(), Vec::new());
        for x in [a, b] {
            offer(&mut ab, 3, x);
        }
        for x in [b, a] {
            offer(&mut ba, 3, x);
        }
        assert_eq!(ab, ba);
        assert_eq!(ab, vec![(3, b)]);
    }

    #[test]
    fn the_list_stays_sorted_by_cell() {
        let e = Exemplar { at: 1, trace_id: [0; 16], value_ns: 1 };
        let mut list = Vec::new();
        for cell in [7, 2, 5] {
            offer(&mut list, cell, e);
        }
        assert_eq!(list.iter().map(|(c, _)| *c).collect::<Vec<_>>(), vec![2, 5, 7]);
    }
}
