//! The information in file names.

use super::Framing;

/// The time in the name of a rotated file, such as `-2022-09-14T05-02-14.173`: a 0 stands for any digit.
const STAMP: &[u8] = b"-0000-00-00T00-00-00.000";
/// Endings that do not show the format inside.
const COMPRESSED: [&str; 3] = [".zst", ".zstd", ".gz"];

/// Where a file belongs among those that a Collector has written one after the other. They are in the order of this type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rotation {
    /// The name without the time and without the compression suffix: the same for all of them.
    pub of: String,
    /// The one that is still being written, which comes last.
    pub current: bool,
    /// The name without what comes before the time.
    pub stamp: String,
}

/// Reads the name of a file, with or without its directory.
///
/// A rotated file carries the time of its rotation before the extension: `traces-2022-09-14T05-02-14.173.json`, also with the
/// reason behind it.
#[must_use]
pub fn rotation(path: &str) -> Rotation {
    let name = plain(path);
    let stamped = name.char_indices().filter(|(_, c)| *c == '-').find_map(|(at, _)| {
        let (before, rest) = name.split_at(at);
        is_stamp(rest.as_bytes()).then_some((before, rest))
    });
    let Some((before, rest)) = stamped else {
        return Rotation { of: name.to_owned(), current: true, stamp: String::new() };
    };
    let after = rest.get(STAMP.len()..).unwrap_or_default();
    let extension = after.find('.').and_then(|at| after.get(at..)).unwrap_or_default();
    Rotation { of: format!("{before}{extension}"), current: false, stamp: rest.to_owned() }
}

/// The framing by the extension.
#[must_use]
pub fn hint(path: &str) -> Option<Framing> {
    let extension = plain(path).rsplit_once('.')?.1.to_ascii_lowercase();
    match extension.as_str() {
        "json" | "jsonl" | "ndjson" => Some(Framing::Lines),
        "pb" | "proto" | "binpb" => Some(Framing::Sized),
        _ => None,
    }
}

fn plain(path: &str) -> &str {
    COMPRESSED.iter().find_map(|ending| path.strip_suffix(ending)).unwrap_or(path)
}

fn is_stamp(text: &[u8]) -> bool {
    let fits = |(byte, like): (&u8, &u8)| if *like == b'0' { byte.is_ascii_digit() } else { byte == like };
    text.len() >= STAMP.len() && text.iter().zip(STAMP).all(fits)
}
