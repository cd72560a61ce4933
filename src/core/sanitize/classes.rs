//! Detects data in names: each function reads the text from one place on and returns where the data ends.
//!
//! A *random token* has at least 16 ASCII letters and digits, of both, and one of these:
//! - more than a quarter of it are digits;
//! - it has four groups of digits or more;
//! - every other character or more is of another sort than the one before it, the sorts being small letters, capitals
//!   and digits; and it has three groups of digits, or two digits of which one stands before a small letter.
//!   `PutS3ObjectAclV2` is a word.
//!
//! A *short ID* has 5 to 15 ASCII letters and digits, two groups of digits or more, and changes more than once for
//! every two characters from letters to digits, back, or from a small letter to a capital. `log4j2`, `utf8mb4` and
//! `GetS3Url` are words, and so is whatever begins as a version does: `v1p1beta1`.

/// The least length of hexadecimal tokens, and of random ones.
const HEX: usize = 8;
const RANDOM: usize = 16;
const ULID: usize = 26;
const SHORT: std::ops::RangeInclusive<usize> = 5..=15;
/// The last part of a pod's name, and what it is made of.
const POD: usize = 5;
const POD_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The groups of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];
/// The longest IPv6 address as text, with an IPv4 address at its end.
const IPV6: usize = 45;

/// Whether a byte belongs to a token. All characters beyond ASCII count as letters.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

/// Where the token that starts at `at` ends.
pub(super) fn token_end(text: &[u8], at: usize) -> usize {
    run(text, at, is_word)
}

/// Whether a token is an identifier of a machine: hexadecimal, a ULID, or random.
pub(super) fn is_identifier(token: &[u8]) -> bool {
    token.len() >= HEX
        && token.iter().any(u8::is_ascii_digit)
        && token.iter().all(u8::is_ascii_alphanumeric)
        && (token.iter().all(u8::is_ascii_hexdigit) || is_ulid(token) || is_random(token))
}

/// 26 characters of Crockford's base32, the first of them not above 7, letters of one case.
fn is_ulid(token: &[u8]) -> bool {
    let crockford = |b: &u8| !matches!(b.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U');
    let one_case = !(token.iter().any(u8::is_ascii_lowercase) && token.iter().any(u8::is_ascii_uppercase));
    token.len() == ULID && matches!(token[0], b'0'..=b'7') && one_case && token.iter().all(crockford)
}

fn is_random(token: &[u8]) -> bool {
    let digits = token.iter().filter(|b| b.is_ascii_digit()).count();
    if token.len() < RANDOM || digits == token.len() {
        return false;
    }
    let sort = |b: &u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
    let changes = token.windows(2).filter(|two| sort(&two[0]) != sort(&two[1])).count();
    let groups = token.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let groups = groups.filter(|group| group[0].is_ascii_digit()).count();
    let odd = token.windows(2).any(|two| two[0].is_ascii_digit() && two[1].is_ascii_lowercase());
    digits * 4 > token.len() || groups >= 4 || ((groups >= 3 || (digits >= 2 && odd)) && changes * 2 >= token.len())
}

/// Whether a token is a short ID.
pub(super) fn is_short_id(token: &[u8]) -> bool {
    let version = matches!(token, [b'v' | b'V', next, ..] if next.is_ascii_digit());
    if version || !SHORT.contains(&token.len()) || !token.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    let changes = |two: &&[u8]| {
        two[0].is_ascii_digit() != two[1].is_ascii_digit()
            || (two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase())
    };
    let begun = |two: &&[u8]| !two[0].is_ascii_digit() && two[1].is_ascii_digit();
    let groups = token.windows(2).filter(begun).count() + usize::from(token[0].is_ascii_digit());
    groups >= 2 && token.windows(2).filter(changes).count() * 2 > token.len()
}

/// Whether a token is the random end of a pod's name.
pub(super) fn is_pod_suffix(token: &[u8]) -> bool {
    token.len() == POD && token.iter().all(|b| POD_LETTERS.contains(b))
}

/// Where the version ends that a token such as `v2` begins: up to two digits behind every dot belong to it.
pub(super) fn version_end(text: &[u8], token: usize, mut end: usize) -> usize {
    let whole = &text[token..end];
    if whole.first().is_some_and(u8::is_ascii_alphabetic) && whole.last().is_some_and(u8::is_ascii_digit) {
        while let Some(next) = literal(text, end, b'.').and_then(|at| digits(text, at).filter(|end| end - at <= 2))
            && ends(text, next).is_some()
        {
            end = next;
        }
    }
    end
}

/// A hardware address.
pub(super) fn mac_end(text: &[u8], at: usize) -> Option<usize> {
    let address = text.get(at..at + 17)?;
    let joiner = address[2];
    let fits = |(i, b): (usize, &u8)| if i % 3 == 2 { *b == joiner } else { b.is_ascii_hexdigit() };
    let is_mac = matches!(joiner, b':' | b'-') && address.iter().enumerate().all(fits);
    ends(text, at + 17).filter(|_| is_mac && address.iter().any(u8::is_ascii_digit))
}

/// A UUID. It has a digit, as every one does that a machine makes: that is the version.
pub(super) fn uuid_end(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    for (i, len) in UUID.into_iter().enumerate() {
        if i > 0 {
            end = literal(text, end, b'-')?;
        }
        let group = text.get(end..end + len)?;
        if !group.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        end += len;
    }
    ends(text, end).filter(|end| text[at..*end].iter().any(u8::is_ascii_digit))
}

/// A number: with fraction and exponent or unit if they are there, else as much of it as there is.
pub(super) fn number_end(text: &[u8], at: usize) -> Option<usize> {
    if let [b'0', b'x' | b'X', rest @ ..] = &text[at..]
        && rest.first().is_some_and(u8::is_ascii_hexdigit)
    {
        return ends(text, run(text, at + 2, |b| b.is_ascii_hexdigit()));
    }
    let whole = digits(text, at)?;
    let fraction = literal(text, whole, b'.').and_then(|at| digits(text, at));
    let mantissa = fraction.unwrap_or(whole);
    let exponent = match text.get(mantissa) {
        Some(b'e' | b'E') => digits(text, mantissa + 1 + usize::from(is_sign(text.get(mantissa + 1)))),
        _ => None,
    };
    let unit = fraction.map(|at| run(text, at, |b| b.is_ascii_alphabetic())).filter(|end| end - mantissa <= 3);
    [exponent, unit, fraction, Some(whole)].into_iter().flatten().find_map(|end| ends(text, end))
}

/// A date, a time, or both.
pub(super) fn date_end(text: &[u8], at: usize) -> Option<usize> {
    let date = pattern(text, at, b"0000-00-00");
    let time = date.map_or(Some(at), |end| literal(text, end, b'T').or_else(|| literal(text, end, b't')));
    let minute = time.and_then(|at| pattern(text, at, b"00:00"));
    let second = minute.and_then(|at| pattern(text, at, b":00"));
    let fraction = second.and_then(|at| literal(text, at, b'.')).and_then(|at| digits(text, at));
    let zoned = [fraction, second, minute].into_iter().flatten().find_map(|end| {
        let zone = [b"+00:00", b"-00:00", &b"+0000"[..], b"-0000", b"+00", b"-00", b"Z", b"z"];
        let mut zones = zone.into_iter().filter_map(|zone| pattern(text, end, zone));
        zones.find_map(|end| ends(text, end)).or_else(|| ends(text, end))
    });
    zoned.or_else(|| ends(text, date?))
}

/// An IPv6 address between signs that may surround one. It has a digit: `dead::beef` is a path in a program.
pub(super) fn ipv6_end(text: &[u8], at: usize, before: Option<u8>) -> Option<usize> {
    let opens = |b| matches!(b, b' ' | b'\t' | b'/' | b'[' | b'(' | b'=' | b',' | b';' | b'@' | b'"' | b'\'');
    if !before.is_none_or(opens) {
        return None;
    }
    let window = &text[at..text.len().min(at + IPV6 + 1)];
    let end = at + run(window, 0, |b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
    let closes = |b: &u8| matches!(b, b' ' | b'\t' | b'/' | b']' | b')' | b'%' | b',' | b';' | b'?' | b'"' | b'\'');
    if !text.get(end).is_none_or(closes) {
        return None;
    }
    let address = std::str::from_utf8(&text[at..end]).ok().filter(|s| s.bytes().any(|b| b.is_ascii_digit()))?;
    // The type alone, for its parser; nothing is opened.
    address.parse::<core::net::Ipv6Addr>().ok().map(|_| end)
}

/// Whether a segment holds percent-encoded text or an e-mail address.
pub(super) fn is_encoded_or_mail(segment: &[u8]) -> bool {
    let encoded = |w: &[u8]| w[0] == b'%' && w[1].is_ascii_hexdigit() && w[2].is_ascii_hexdigit();
    segment.windows(3).any(encoded) || (segment.contains(&b'@') && has_mail(segment))
}

/// Whether an `@` stands behind a local part and before a domain: labels with dots between, one of the later ones
/// starting with two letters or more and nothing else.
fn has_mail(segment: &[u8]) -> bool {
    let mut parts = segment.split(|b| *b == b'@');
    let mut local = parts.next().unwrap_or_default();
    parts.any(|domain| {
        let sent = local.last().is_some_and(|b| is_word(*b) || b"._+-".contains(b));
        local = domain;
        sent && is_domain(domain)
    })
}

fn is_domain(text: &[u8]) -> bool {
    let mut at = run(text, 0, is_label);
    if at == 2 && text[0].is_ascii_digit() && text[1] == b'x' {
        // `logo@2x.png`: a picture for fine screens.
        return false;
    }
    while at > 0 && text.get(at) == Some(&b'.') {
        let label = at + 1;
        let letters = run(text, label, |b| b.is_ascii_alphabetic());
        if letters >= label + 2 && ends(text, letters).is_some() {
            return true;
        }
        at = run(text, label, is_label);
        if at == label {
            return false;
        }
    }
    false
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// Where digits that start at `at` end; `None` if there are none.
fn digits(text: &[u8], at: usize) -> Option<usize> {
    Some(run(text, at, |b| b.is_ascii_digit())).filter(|end| *end > at)
}

fn run(text: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !belongs(*b)).unwrap_or(rest.len())
}

fn literal(text: &[u8], at: usize, wanted: u8) -> Option<usize> {
    (text.get(at) == Some(&wanted)).then_some(at + 1)
}

/// Where a text ends that is like `pattern`; 0 stands for any digit.
fn pattern(text: &[u8], at: usize, pattern: &[u8]) -> Option<usize> {
    let end = at + pattern.len();
    let like = |(b, p): (&u8, &u8)| if *p == b'0' { b.is_ascii_digit() } else { b == p };
    text.get(at..end)?.iter().zip(pattern).all(like).then_some(end)
}

/// `end`, unless a letter or digit follows.
fn ends(text: &[u8], end: usize) -> Option<usize> {
    (!text.get(end).is_some_and(|b| is_word(*b))).then_some(end)
}

/// Whether a byte is a sign of a number.
fn is_sign(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b'+' | b'-'))
}
