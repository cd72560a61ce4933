//! How far each endpoint of remote write is, in the marks of a shard whose tenants have several.

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64};

/// How far an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointMark {
    /// Its name; empty for the endpoints of all tenants that have one only.
    pub name: String,
    /// The first step that it may lack.
    pub lacks: Millis,
}

// === impl EndpointMark ===

impl EndpointMark {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        put_i64(out, self.lacks);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { name: r.str()?.to_owned(), lacks: r.i64()? })
    }

    /// The first of the closed steps that an endpoint may lack, by the last mark: `None` if that does not name it, so that
    /// it begins with the next step. Where the mark names none at all, it may lack any step.
    #[must_use]
    pub fn lacks(marks: &[Self], name: &str) -> Option<Millis> {
        if marks.is_empty() {
            return Some(Millis::MIN);
        }
        // It may have been the only one of a tenant until now.
        marks.iter().filter(|mark| mark.name.is_empty() || mark.name == name).map(|mark| mark.lacks).min()
    }
}
