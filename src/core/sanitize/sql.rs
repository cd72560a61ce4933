//! Names that are SQL statements.

/// First words of statements, and the word that must follow somewhere.
const STATEMENTS: [(&[u8], &[u8]); 7] = [
    (b"select", b"from"),
    (b"insert", b"into"),
    (b"replace", b"into"),
    (b"merge", b"into"),
    (b"update", b"set"),
    (b"delete", b"from"),
    (b"with", b"as"),
];

/// Whether a name looks like a statement: `Update user's profile` does not, it sets nothing.
pub(super) fn looks_like_sql(name: &[u8]) -> bool {
    let rest = behind_comments(name);
    let first = rest.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (first, rest) = rest.split_at(first);
    let Some((_, second)) = STATEMENTS.iter().find(|(word, _)| word.eq_ignore_ascii_case(first)) else { return false };
    if !rest.first().is_some_and(u8::is_ascii_whitespace) {
        return false;
    }
    let mut words = rest.split(|b| b.is_ascii_whitespace() || *b == b'(');
    words.any(|word| word.eq_ignore_ascii_case(second))
}

/// What follows leading blanks, parentheses and comments.
fn behind_comments(mut name: &[u8]) -> &[u8] {
    loop {
        match name {
            [b, rest @ ..] if b.is_ascii_whitespace() || *b == b'(' => name = rest,
            [b'/', b'*', rest @ ..] => {
                let end = rest.windows(2).position(|two| two == b"*/").map_or(rest.len(), |at| at + 2);
                name = &rest[end..];
            }
            _ => return name,
        }
    }
}

/// Where the text that starts with the quote at `at` ends. A doubled quote belongs to it, and so does all the rest of a
/// name that was cut off within it.
pub(super) fn quoted_end(name: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(b) = name.get(at) {
        match (b, name.get(at + 1)) {
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return at + 1,
            _ => at += 1,
        }
    }
    at.min(name.len())
}
