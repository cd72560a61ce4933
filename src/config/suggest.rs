//! Suggestions for mistyped names: the nearest of a few names.

/// The candidate with the smallest edit distance from `name`, if that is small enough for a typing error.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A mistyped key is short; a long text is something else.
    const LONGEST: usize = 100;
    let typed: Vec<char> = name.chars().take(LONGEST + 1).collect();
    if typed.len() > LONGEST {
        return None;
    }
    let candidates: Vec<&str> = candidates.collect();
    // `ca` for `ca_file`.
    let whole_word = |long: &str| long.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    if let [only] = candidates.iter().filter(|long| whole_word(long)).collect::<Vec<_>>().as_slice() {
        return Some(only);
    }
    let slips = |candidate: &'a str| (distance(&typed, &candidate.chars().collect::<Vec<_>>()), candidate);
    let (slips, candidate) = candidates.into_iter().map(slips).min()?;
    (slips <= (candidate.chars().count() / 3).clamp(1, 3)).then_some(candidate)
}

/// Insertions, deletions, replacements and swaps of neighbors between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(x != y);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_slip_finds_its_key_and_a_different_word_does_not() {
        let names = ["brokers", "topics", "group", "wait"];
        assert_eq!(nearest("broker", names.into_iter()), Some("brokers"));
        assert_eq!(nearest("gruop", names.into_iter()), Some("group"));
        assert_eq!(nearest("toppics", names.into_iter()), Some("topics"));
        assert_eq!(nearest("ca", ["ca_file", "key_file"].into_iter()), Some("ca_file"));
        assert_eq!(nearest("max", ["max_bytes", "max_samples"].into_iter()), None);
        assert_eq!(nearest("bootstrap", names.into_iter()), None);
        assert_eq!(nearest("x", names.into_iter()), None);
        assert_eq!(nearest("", [].into_iter()), None);
    }
}
