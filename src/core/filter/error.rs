//! What can be wrong with policies.

/// An invalid filter policy: place, problem and remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {policy}{}: {problem}", self.place())]
pub struct FilterError {
    /// The number of the policy, from 1.
    pub policy: usize,
    /// `include`, `include_any` or `exclude`; `None` if the policy as a whole is wrong.
    pub block: Option<&'static str>,
    /// The key of the condition; `None` if the block as a whole is wrong.
    pub key: Option<String>,
    /// The problem, and the remedy.
    pub problem: String,
}

impl FilterError {
    fn place(&self) -> String {
        let block = self.block.map_or_else(String::new, |block| format!(", {block}"));
        let key = self.key.as_ref().map_or_else(String::new, |key| format!(", key `{key}`"));
        block + &key
    }
}
