use std::time::Duration;

use proptest::prelude::*;

use super::{builtin, on_request, pattern};

/// Pieces that classes look for, whole and broken, and what may stand between them.
const PIECES: [&str; 74] = [
    "?",
    "/a?b",
    "k3x9Qa",
    "a1b2x",
    "x2x4z",
    "-x2x4z",
    "2.5s",
    "00:1B:44:11:3A:B7",
    "@2x.png",
    ".0",
    "5",
    "12",
    "-",
    "_",
    ".",
    ":",
    "/",
    " ",
    ",",
    "+",
    "@",
    "%",
    "'",
    "\"",
    "$",
    "(",
    ")",
    "<",
    ">",
    "<_>",
    "[",
    "]",
    "=",
    "a",
    "f",
    "Z",
    "T",
    "é",
    "%20",
    "%2",
    "a1b2c3d4",
    "deadbeef",
    "123e4567-e89b-12d3-a456-426614174000",
    "123e4567-e89b",
    "2024-01-31",
    "2024-01",
    "T10:00:00",
    "10:00",
    "Z",
    "::",
    "::1",
    "fe80",
    "a::b",
    "2001:db8::1",
    "10.0.0.1",
    "1e5",
    "e-3",
    "0x1f",
    "me@",
    "@x.com",
    ".com",
    "me@example.com",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "dQw4w9WgXcQaZ3kLm9PqR7",
    "v1",
    "SELECT ",
    " FROM ",
    "INSERT ",
    " INTO ",
    "), (",
    "''",
    "/* ",
    " */",
    "\u{a0}",
];

fn a_name() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..12).prop_map(|pieces| pieces.concat());
    let sql = pieces.clone().prop_map(|tail| format!("SELECT * FROM {tail}"));
    prop_oneof![6 => pieces, 2 => sql, 1 => "[0-9a-fA-F:.<_>%@ '/-]{0,40}", 1 => ".*"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn twice_is_once(name in a_name()) {
        for sanitizer in [builtin(), on_request()] {
            let once = pattern(&sanitizer, &name);
            prop_assert_eq!(pattern(&sanitizer, &once), once);
        }
    }

    #[test]
    fn letters_alone_never_change(name in "[a-zA-Z /._:-]{0,60}") {
        prop_assert_eq!(pattern(&builtin(), &name), name);
    }

    #[test]
    fn what_stays_was_there_in_this_order(name in a_name()) {
        let once = pattern(&builtin(), &name);
        let mut rest = name.as_str();
        for kept in once.split("<_>") {
            let at = rest.find(kept);
            prop_assert!(at.is_some(), "{} is not in {}", kept, rest);
            rest = rest.get(at.unwrap_or_default() + kept.len()..).unwrap_or_default();
        }
    }
}

/// How long one name takes: the best of some runs.
fn time_of(name: &str) -> Duration {
    let sanitizer = on_request();
    let mut out = Vec::new();
    let mut once = || {
        #[expect(clippy::disallowed_methods, reason = "a test of speed has to look at the clock")]
        let start = std::time::Instant::now();
        std::hint::black_box(sanitizer.apply(name.as_bytes(), &mut out));
        start.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}

#[test]
fn a_long_hostile_name_takes_no_longer_per_byte_than_a_short_one() {
    let hostile =
        ["1.", "a.a@", "1-a", "1, ", "2024-01-31T10:00:00.1", "(1), ", "::a", "1e", "a1", "SELECT FROM '", "-1"];
    for piece in PIECES.into_iter().chain(hostile) {
        let name = |bytes: usize| piece.repeat(bytes / piece.len());
        let (short, long) = (name(1 << 11), name(1 << 17));
        // 64 times the bytes; anything quadratic takes 4,096 times as long. A busy machine may disturb some tries.
        let fast = (0..8).any(|_| time_of(&long) < time_of(&short) * 64 * 12);
        assert!(fast, "{piece}: {:?} for 2 KiB, {:?} for 128 KiB", time_of(&short), time_of(&long));
    }
}

#[test]
fn a_name_of_a_megabyte_is_no_trouble() {
    for piece in ["1.", "a.a@", "a1b2c3d4-", "1, "] {
        let name = piece.repeat((1 << 20) / piece.len());
        let once = pattern(&builtin(), &name);
        assert!(once.len() <= 2 * name.len());
    }
}
