//! The partitions of a group's member, as the classic group protocol writes them: version, then topics with their
//! partitions, all big-endian, each list behind its length. Damaged bytes end the list.

/// Topics and partitions of an assignment.
pub(super) fn partitions(mut bytes: &[u8]) -> Vec<(String, i32)> {
    let mut found = Vec::new();
    // The version: newer versions append their fields at the end.
    if take::<2>(&mut bytes).is_none() {
        return found;
    }
    for _ in 0..number(&mut bytes).unwrap_or(0) {
        let Some(topic) = text(&mut bytes) else { return found };
        for _ in 0..number(&mut bytes).unwrap_or(0) {
            let Some(partition) = number(&mut bytes) else { return found };
            found.push((topic.clone(), partition));
        }
    }
    found
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn number(bytes: &mut &[u8]) -> Option<i32> {
    take(bytes).map(i32::from_be_bytes)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_a_damaged_one_ends_early() {
        let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 5];
        bytes.extend(b"spans");
        bytes.extend([0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0]);
        let all = vec![("spans".to_owned(), 3), ("spans".to_owned(), 7)];
        assert_eq!(partitions(&bytes), all);
        for length in 0..bytes.len() {
            assert!(all.starts_with(&partitions(&bytes[..length])), "{length}");
        }
        assert_eq!(partitions(&[0, 0, 0x7F, 0xFF, 0xFF, 0xFF]), []);
    }
}
