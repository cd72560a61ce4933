//! Label sets in their canonical form, and the 128-bit names that stand for them.
//!
//! A **label block** is the label set as remote write 1.0 wants it on the wire: `Label` messages (`name = 1`,
//! `value = 2`), each behind the tag of `TimeSeries.labels` (field 1), sorted by name in byte order, names unique,
//! values non-empty. `__name__` and `le` are not part of it; [`Cuts`] holds where they go. The block is the identity of
//! a series, so it has exactly one form.

use std::borrow::Cow;
use std::str::Utf8Error;

use super::Family;
use super::hash::first_128;

/// Label names and values are cut to these many bytes by default, as in Tempo.
pub const MAX_NAME: usize = 1024;
/// See [`MAX_NAME`].
pub const MAX_VALUE: usize = 2048;
/// Whatever the limits are, a name or a value is not longer than this, and a label block not longer than four of them:
/// a label set must fit one record of an internal topic.
const CEILING: usize = 64 << 10;
const MAX_BLOCK: usize = 4 * CEILING;

/// Where metrics of a family have names of their own, a label block holds the name under this label: series of two metrics
/// differ in nothing else. It is no label of the series.
pub const METRIC_LABEL: &str = "__metric__";

/// The tag byte of `TimeSeries.labels` (field 1, length-delimited).
const LABEL_TAG: u8 = 0x0a;
/// The tag bytes of `Label.name` and `Label.value`.
const NAME_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;

/// The 128-bit name of a label set of one tenant and family: the identity of a series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(pub u128);

impl SetName {
    /// The name that a label block had in delta records up to version 2: XXH3, for which a sender can construct blocks
    /// of one name.
    #[must_use]
    pub fn old(tenant: &str, family: Family, block: &[u8]) -> Self {
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        h.update(&(tenant.len() as u64).to_le_bytes());
        h.update(tenant.as_bytes());
        h.update(&[family as u8]);
        h.update(block);
        Self(h.digest128())
    }
}

/// Names the label sets of a group: BLAKE3 with a key, so that no sender can construct two sets of one name, not even
/// one that knows the group.
#[derive(Clone, PartialEq, Eq)]
pub struct Namer {
    key: [u8; 32],
}

impl std::fmt::Debug for Namer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Namer")
    }
}

impl Default for Namer {
    /// The names of the group that a configuration has by default.
    fn default() -> Self {
        Self::of_group("spanmill")
    }
}

impl Namer {
    /// The separator in the name of a group that replays another one; see [`Namer::of_group`].
    pub const REPLAY: &str = "-replay-";

    /// The names of a group. A group that replays another one has the names of that: what limits estimate depends on names.
    #[must_use]
    pub fn of_group(group: &str) -> Self {
        let live = group.split_once(Self::REPLAY).map_or(group, |(live, _)| live);
        Self { key: blake3::derive_key("spanmill: names of label sets, version 3 of shares", live.as_bytes()) }
    }

    /// The name of a label block.
    #[must_use]
    pub fn name(&self, tenant: &str, family: Family, block: &[u8]) -> SetName {
        let mut h = blake3::Hasher::new_keyed(&self.key);
        h.update(&(tenant.len() as u64).to_le_bytes());
        h.update(tenant.as_bytes());
        h.update(&[family as u8]);
        h.update(block);
        SetName(first_128(&h))
    }
}

/// How values that are no strings are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spelling {
    /// As Tempo; see `Value::stringify` in `otlp`.
    #[default]
    Tempo,
    /// As the Collector: arrays and maps are JSON with sorted keys, bytes are Base64, and doubles have an exponent where
    /// ECMAScript gives them one.
    Collector,
}

/// Where `__name__` and `le` belong inside a label block, as byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cuts {
    /// The offset at which `__name__` is inserted.
    pub name: u32,
    /// The offset at which `le` is inserted.
    pub le: u32,
}

/// Collects labels by Tempo's rules: the last value of a name wins, an empty value removes the name. A text that is too
/// long is cut, between two characters; it is not an error.
#[derive(Debug)]
pub struct LabelBuilder {
    labels: Vec<(String, String)>,
    max_name: usize,
    max_value: usize,
    /// Whether invalid text is repaired.
    repairs: bool,
}

impl Default for LabelBuilder {
    fn default() -> Self {
        Self { labels: Vec::new(), max_name: MAX_NAME, max_value: MAX_VALUE, repairs: false }
    }
}

impl LabelBuilder {
    /// Clears the labels, keeping the memory. Limits are the defaults again.
    pub fn clear(&mut self) {
        self.labels.clear();
        (self.max_name, self.max_value, self.repairs) = (MAX_NAME, MAX_VALUE, false);
    }

    /// Cuts names and values that are set from now on to these many bytes; 0 is no limit.
    pub fn limit(&mut self, max_name: usize, max_value: usize) {
        (self.max_name, self.max_value) = (max_name, max_value);
    }

    /// Replaces invalid UTF-8 by U+FFFD in values that are set from now on, if `repairs`.
    pub fn repair(&mut self, repairs: bool) {
        self.repairs = repairs;
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&mut self) -> bool {
        self.settle();
        self.labels.is_empty()
    }

    /// Puts what was set in order: the last value of each name, unless it is empty.
    fn settle(&mut self) {
        // Stable: of one name, the last one that was set is the last.
        self.labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.labels.dedup_by(|(later, value), (name, kept)| {
            let same = later == name;
            if same {
                std::mem::swap(value, kept);
            }
            same
        });
        self.labels.retain(|(_, value)| !value.is_empty());
    }

    /// Sets a label, or removes it when `value` is empty.
    pub fn set(&mut self, name: &str, value: &str) {
        let (name, value) = (cut(name, self.max_name), cut(value, self.max_value));
        // No processor sets such a label; a name that is cut to very few bytes could still become one.
        if matches!(name, "" | "__name__" | "le") {
            return;
        }
        // They are sorted at the end: a resource may have a hundred thousand attributes, and may have them in the
        // order in which each would move all before it.
        self.labels.push((name.to_owned(), value.to_owned()));
    }

    /// Sets a label to a value that may be no text.
    ///
    /// # Errors
    /// When it is not UTF-8, and is not to be repaired.
    pub fn set_bytes(&mut self, name: &str, value: &[u8]) -> Result<(), Utf8Error> {
        if self.repairs {
            // Cut as in raw keys: equal keys are equal labels.
            self.set(name, &String::from_utf8_lossy(cut_bytes(value, self.max_value)));
        } else {
            self.set(name, std::str::from_utf8(value)?);
        }
        Ok(())
    }

    /// The label block of what has been set. It ends before the label with which it would become too long.
    #[must_use]
    pub fn block(&mut self) -> Vec<u8> {
        self.settle();
        let mut out = Vec::new();
        let mut labels = self.labels.iter();
        for (name, value) in labels.by_ref() {
            let before = out.len();
            put_label(&mut out, name, value);
            if out.len() > MAX_BLOCK {
                out.truncate(before);
                break;
            }
        }
        // Without it, the set would be that of another metric.
        if let Some((name, value)) = labels.find(|(name, _)| name == METRIC_LABEL) {
            put_label(&mut out, name, value);
        }
        out
    }
}

/// The first `max` bytes of a text, or fewer, so that no character is cut in two; 0 is no limit.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    text.split_at_checked(text.floor_char_boundary(most(max))).map_or(text, |(head, _)| head)
}

/// How many bytes a text may have at most that is cut to `max`.
#[must_use]
#[inline]
pub fn most(max: usize) -> usize {
    if max == 0 { CEILING } else { max.min(CEILING) }
}

/// As much of some bytes as a label has of them: code that uses labels needs no more. Invalid text becomes no label,
/// wherever it is invalid, so that nothing of it is kept.
#[inline]
#[must_use]
pub fn cut_bytes(bytes: &[u8], max: usize) -> &[u8] {
    if bytes.len() <= most(max) { bytes } else { cut_long(bytes, max) }
}

#[cold]
fn cut_long(bytes: &[u8], max: usize) -> &[u8] {
    const NO_TEXT: &[u8] = b"\xff";
    std::str::from_utf8(bytes).map_or(NO_TEXT, |text| cut(text, max).as_bytes())
}

/// Appends one label in wire form.
pub fn put_label(out: &mut Vec<u8>, name: &str, value: &str) {
    let body = field_len(name.len()) + field_len(value.len());
    out.push(LABEL_TAG);
    super::wire::put_u64(out, body as u64);
    out.push(NAME_TAG);
    super::wire::put_bytes(out, name.as_bytes());
    out.push(VALUE_TAG);
    super::wire::put_bytes(out, value.as_bytes());
}

fn field_len(n: usize) -> usize {
    let varint = (usize::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize;
    1 + varint + n
}

/// Iterates over the `(name, value)` pairs of a label block. Stops at the first malformed byte; see [`check`].
pub fn iter(block: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = super::wire::Reader::new(block);
    std::iter::from_fn(move || next_label(&mut rest).ok().flatten())
}

/// The labels of the series of a block: without [`METRIC_LABEL`], if the family has that.
pub fn written(family: Family, block: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    iter(block).filter(move |(name, _)| !(family.is_named_by_label() && *name == METRIC_LABEL))
}

/// The block of what [`written`] has.
#[must_use]
pub fn written_block(family: Family, block: &[u8]) -> Cow<'_, [u8]> {
    if !family.is_named_by_label() {
        return Cow::Borrowed(block);
    }
    let mut out = Vec::with_capacity(block.len());
    written(family, block).for_each(|(name, value)| put_label(&mut out, name, value));
    Cow::Owned(out)
}

/// The service of a label set, which decides its owner, its limits and its shard. Empty if its labels name none.
#[must_use]
pub fn service_of(family: Family, block: &[u8]) -> &str {
    service_label(family, block).map_or("", |(_, value)| value)
}

/// The label with the service of a label set.
#[must_use]
pub fn service_label(family: Family, block: &[u8]) -> Option<(&str, &str)> {
    let names: &[&str] = match family {
        Family::ServiceGraph | Family::EdgeSeen => &["client"],
        Family::SpanMetrics
        | Family::SpanEvents
        | Family::Slo
        | Family::AttributeCounter
        | Family::AttributeSum
        | Family::AttributeHistogram
        | Family::CriticalPath
        | Family::SelfTime
        | Family::TraceErrors
        | Family::TraceCallGroups
        | Family::TraceFanOut
        | Family::TraceQuality
        | Family::SpansByRoot => &["service", "service_name"],
        Family::TraceDuration | Family::TraceShape | Family::TraceCalls => &["root_service"],
        Family::TargetInfo => &["job"],
        Family::HostInfo => &[],
    };
    iter(block).find(|(name, _)| names.contains(name))
}

/// Whether `block` is canonical: well-formed, sorted, unique, no empty name or value, neither `__name__` nor `le`.
///
/// # Errors
/// Names the first rule that is broken.
pub fn check(block: &[u8]) -> Result<(), super::wire::Malformed> {
    let mut rest = super::wire::Reader::new(block);
    let mut last = "";
    while let Some((name, value)) = next_label(&mut rest)? {
        if name <= last || value.is_empty() {
            return Err(super::wire::Malformed("labels not sorted, not unique or empty"));
        }
        if name == "__name__" || name == "le" {
            return Err(super::wire::Malformed("reserved label in a label block"));
        }
        last = name;
    }
    Ok(())
}

/// As [`cuts`], and whether all receivers take the names in `block`. What is made of attributes has such names; a block in a
/// journal may come from elsewhere.
#[must_use]
pub fn cuts_if_legal(block: &[u8]) -> (Cuts, bool) {
    let mut legal = true;
    let cuts = walk(block, |name| legal &= is_legal_name(name, false));
    (cuts, legal)
}

/// Whether a name is one of a label, letters, digits and `_` without a digit first, or of a metric, which may have colons.
#[must_use]
pub fn is_legal_name(name: &str, of_metric: bool) -> bool {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (of_metric && b == b':');
    name.bytes().all(is_legal) && !matches!(name.as_bytes().first(), None | Some(b'0'..=b'9'))
}

/// Where `__name__` and `le` belong in `block`.
#[must_use]
pub fn cuts(block: &[u8]) -> Cuts {
    walk(block, |_| ())
}

fn walk(block: &[u8], mut each: impl FnMut(&str)) -> Cuts {
    let mut rest = super::wire::Reader::new(block);
    let mut cuts = Cuts { name: 0, le: 0 };
    while let Ok(Some((name, _))) = next_label(&mut rest) {
        each(name);
        let end = (block.len() - rest.rest().len()) as u32;
        if name < "__name__" {
            cuts.name = end;
        }
        if name < "le" {
            cuts.le = end;
        }
    }
    cuts.le = cuts.le.max(cuts.name);
    cuts
}

fn next_label<'a>(rest: &mut super::wire::Reader<'a>) -> Result<Option<(&'a str, &'a str)>, super::wire::Malformed> {
    if rest.is_empty() {
        return Ok(None);
    }
    expect(rest, LABEL_TAG)?;
    let mut label = super::wire::Reader::new(rest.bytes()?);
    expect(&mut label, NAME_TAG)?;
    let name = label.str()?;
    expect(&mut label, VALUE_TAG)?;
    let value = label.str()?;
    if label.is_empty() { Ok(Some((name, value))) } else { Err(super::wire::Malformed("bytes after a label")) }
}

fn expect(r: &mut super::wire::Reader<'_>, tag: u8) -> Result<(), super::wire::Malformed> {
    if r.u8()? == tag { Ok(()) } else { Err(super::wire::Malformed("unexpected tag in a label block")) }
}

/// Makes an attribute name a legal label name: every character outside `[A-Za-z0-9_]` becomes one `_`.
#[must_use]
pub fn sanitize_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut b = LabelBuilder::default();
        for (n, v) in pairs {
            b.set(n, v);
        }
        b.block()
    }

    #[test]
    fn a_long_value_is_cut_between_two_characters() {
        let mut builder = LabelBuilder::default();
        builder.set("a", &format!("x{}", "\u{e4}".repeat(1 << 20)));
        let block = builder.block();
        let values: Vec<_> = iter(&block).map(|(_, value)| value.to_owned()).collect();
        assert_eq!(values, [format!("x{}", "\u{e4}".repeat(1023))]);
    }

    #[test]
    fn a_block_that_is_cut_keeps_the_name_of_its_metric() {
        let mut builder = LabelBuilder::default();
        builder.limit(0, 0);
        ["A", "B", "C", "D", "E", "F"].iter().for_each(|name| builder.set(name, &"x".repeat(CEILING)));
        builder.set(METRIC_LABEL, "m");
        let block = builder.block();
        assert_eq!(iter(&block).map(|(name, _)| name).collect::<Vec<_>>(), ["A", "B", "C", METRIC_LABEL]);
        let shown = |family| iter(&written_block(family, &block)).count();
        assert_eq!((shown(Family::AttributeSum), shown(Family::SpanMetrics)), (3, 4));
    }

    #[test]
    fn the_order_of_setting_does_not_change_the_block() {
        assert_eq!(block(&[("a", "1"), ("b", "2")]), block(&[("b", "2"), ("a", "1")]));
    }

    #[test]
    fn the_last_value_wins_and_an_empty_one_removes_the_label() {
        let b = block(&[("a", "1"), ("a", "2"), ("b", "x"), ("b", "")]);
        assert_eq!(iter(&b).collect::<Vec<_>>(), vec![("a", "2")]);
    }

    #[test]
    fn a_built_block_is_canonical_and_a_foreign_one_is_checked() {
        assert_eq!(check(&block(&[("client", "a"), ("server", "b")])), Ok(()));
        let mut unsorted = Vec::new();
        put_label(&mut unsorted, "b", "1");
        put_label(&mut unsorted, "a", "1");
        assert!(check(&unsorted).is_err());
        assert!(check(&[1, 2, 3]).is_err());
        let mut reserved = Vec::new();
        put_label(&mut reserved, "le", "1");
        assert!(check(&reserved).is_err());
    }

    #[test]
    fn a_name_is_legal_if_every_receiver_takes_it() {
        for name in ["a", "_", "__name", "A1", "service_name"] {
            assert!(is_legal_name(name, false) && is_legal_name(name, true), "{name}");
        }
        for name in ["", "1a", "a.b", "a-b", "gr\u{f6}\u{df}e", "a b"] {
            assert!(!is_legal_name(name, false) && !is_legal_name(name, true), "{name}");
        }
        assert!(is_legal_name("job:x", true) && !is_legal_name("job:x", false));
        let judged = |labels| cuts_if_legal(&block(labels)).1;
        assert!(judged(&[("a", "1.5"), ("b", "\u{e4}")]) && !judged(&[("2xx", "1"), ("a", "1")]));
    }

    #[test]
    fn the_cuts_keep_the_whole_set_sorted() {
        let b = block(&[("Z", "1"), ("client", "a"), ("server", "b")]);
        let c = cuts(&b);
        let names: Vec<_> = iter(&b[..c.name as usize]).map(|(n, _)| n).collect();
        assert_eq!(names, ["Z"]);
        let names: Vec<_> = iter(&b[c.name as usize..c.le as usize]).map(|(n, _)| n).collect();
        assert_eq!(names, ["client"]);
    }

    #[test]
    fn long_values_get_long_lengths() {
        let long = "x".repeat(300);
        let b = block(&[("a", &long)]);
        assert_eq!(iter(&b).collect::<Vec<_>>(), vec![("a", long.as_str())]);
        assert_eq!(check(&b), Ok(()));
    }

    #[test]
    fn tenant_family_and_labels_all_count_for_the_name() {
        let (b, namer) = (block(&[("a", "1")]), Namer::of_group("g"));
        let name = namer.name("t", Family::SpanMetrics, &b);
        assert_eq!(name, namer.name("t", Family::SpanMetrics, &b));
        assert_ne!(name, namer.name("u", Family::SpanMetrics, &b));
        assert_ne!(name, namer.name("t", Family::ServiceGraph, &b));
    }

    #[test]
    fn every_group_has_names_of_its_own_and_a_replay_those_of_the_group_that_it_replays() {
        let name = |group| Namer::of_group(group).name("t", Family::SpanMetrics, &block(&[("a", "1")]));
        assert_ne!(name("g"), name("h"));
        assert_eq!(name("g"), name("g-replay-may"));
    }

    #[test]
    fn what_is_too_long_is_cut_between_two_characters() {
        let mut builder = LabelBuilder::default();
        builder.limit(8, 5);
        builder.set("very_lengthy_label", "very_length_value");
        builder.set("umlaut", "ab\u{e4}\u{f6}\u{fc}");
        let b = builder.block();
        assert_eq!(iter(&b).collect::<Vec<_>>(), vec![("umlaut", "ab\u{e4}"), ("very_len", "very_")]);
        assert_eq!(check(&b), Ok(()));
    }

    #[test]
    fn limits_end_with_the_label_set_and_zero_is_none() {
        let long = "x".repeat(3_000);
        let mut builder = LabelBuilder::default();
        builder.limit(0, 0);
        builder.set("a", &long);
        assert_eq!(iter(&builder.block()).next(), Some(("a", long.as_str())));
        builder.clear();
        assert!(builder.is_empty());
        builder.set("a", &long);
        assert_eq!(iter(&builder.block()).next().map(|(_, v)| v.len()), Some(MAX_VALUE));
    }

    #[test]
    fn a_name_that_is_cut_to_a_reserved_one_is_no_label() {
        let mut builder = LabelBuilder::default();
        builder.limit(2, 0);
        builder.set("level", "7");
        assert!(builder.is_empty());
    }

    #[test]
    fn a_block_fits_a_record_whatever_the_limits_say() {
        let mut builder = LabelBuilder::default();
        builder.limit(0, 0);
        let long = "x".repeat(200_000);
        for name in ["a", "b", "c", "d", "e", "f"] {
            builder.set(name, &long);
        }
        let b = builder.block();
        assert_eq!((check(&b), iter(&b).count()), (Ok(()), 3));
    }

    #[test]
    fn a_value_that_is_no_text_is_an_error() {
        let mut builder = LabelBuilder::default();
        assert!(builder.set_bytes("a", b"\xff").is_err());
        assert_eq!(builder.set_bytes("a", b"b"), Ok(()));
        assert!(!builder.is_empty());
    }

    #[test]
    fn attribute_names_become_label_names() {
        assert_eq!(sanitize_name("http.method-x y"), "http_method_x_y");
        assert_eq!(sanitize_name("größe"), "gr__e");
    }
}
