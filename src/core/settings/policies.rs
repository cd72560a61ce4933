//! Which spans count.

/// One entry of `filter_policies`. At least one of the three is there.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterPolicy {
    /// `include`: all include blocks of all policies must match.
    pub include: Option<PolicyMatch>,
    /// `include_any`: one match keeps the span.
    pub include_any: Option<PolicyMatch>,
    /// `exclude`: one match drops the span.
    pub exclude: Option<PolicyMatch>,
}

/// One block of a filter policy: everything in it must match.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyMatch {
    /// `match_type`
    pub match_type: MatchType,
    /// `attributes`: `{key, value}`.
    pub attributes: Vec<PolicyAttribute>,
}

/// `match_type:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchType {
    /// `strict`: equal, type included.
    Strict,
    /// `regex`: an unanchored regular expression on text.
    Regex,
}

/// One `{key, value}` of a policy block.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyAttribute {
    /// `key`: `span.NAME`, `resource.NAME`, or one of `kind`, `name`, `status` (also with `span:` before it).
    pub key: String,
    /// `value`
    pub value: PolicyValue,
}

/// A value in a filter policy, with the type that it has in YAML.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyValue {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
}
