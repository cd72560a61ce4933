//! `traces_target_info`: what is known about the resources that spans come from.

use std::str::Utf8Error;
use std::sync::Arc;

use super::Block;
use super::plan::{Plan, label_origin};
use super::spec::spec;
use crate::config::labels::target_info_label;
use crate::config::settings::Config;
use crate::deltas::{DeltaTable, SetId};
use crate::model::wire::put_bytes;
use crate::model::{Family, Layout};

/// The first byte of raw keys.
const KEY_SPACE: u8 = b't';
/// They are in `job` and `instance`.
const ORIGIN: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Makes the label set of a resource.
#[derive(Debug)]
pub(super) struct TargetInfo {
    config: Arc<Config>,
    layout: Arc<Layout>,
    key: Vec<u8>,
    text: Vec<u8>,
}

/// Why a resource has no info.
#[derive(Debug)]
pub(super) enum NoInfo {
    InvalidUtf8,
    /// Nothing is known but its name.
    Nothing,
}

// === impl TargetInfo ===

impl TargetInfo {
    pub(super) fn new(config: &Arc<Config>) -> Self {
        let layout = Layout::of(&spec(config, Family::TargetInfo, false, &[]));
        Self { config: Arc::clone(config), layout: Arc::new(layout), key: Vec::new(), text: Vec::new() }
    }

    /// The label set of a resource.
    ///
    /// # Errors
    /// When there is nothing to say, or a label is not UTF-8.
    pub(super) fn find(
        &mut self,
        block: &Block<'_>,
        [job, instance]: [&[u8]; 2],
        plan: &Plan,
        table: &mut DeltaTable,
    ) -> Result<SetId, NoInfo> {
        let Self { config, layout, key, text } = self;
        let excluded = &config.span_metrics.target_info_excluded;
        let shown = || block.spans.resource.iter().filter(|(key, _)| is_shown(key, excluded));
        key.clear();
        key.push(KEY_SPACE);
        for part in [block.tenant.as_bytes(), job, instance] {
            put_bytes(key, part);
        }
        let mut nothing = true;
        for (name, value) in shown() {
            text.clear();
            value.put_text(text);
            put_bytes(key, name);
            put_bytes(key, text);
            nothing &= text.is_empty();
        }
        if nothing || (job.is_empty() && instance.is_empty()) {
            return Err(NoInfo::Nothing);
        }
        table.find(key, |labels| {
            plan.limit(labels);
            for (name, value) in shown() {
                text.clear();
                value.put_text(text);
                labels.set_bytes(&target_info_label(config, std::str::from_utf8(name)?), text)?;
            }
            // Of attributes that become one label the last counts, and it may be empty.
            if labels.is_empty() {
                return Err(NoInfo::Nothing);
            }
            label_origin(labels, job, instance)?;
            Ok(block.define(layout))
        })
    }
}

/// Whether a resource attribute is shown. A label must not begin with a digit.
fn is_shown(key: &[u8], excluded: &[String]) -> bool {
    let hidden = ORIGIN.iter().copied().chain(excluded.iter().map(String::as_str));
    key.first().is_some_and(|first| !first.is_ascii_digit()) && !hidden.into_iter().any(|h| h.as_bytes() == key)
}

// === impl NoInfo ===

impl From<Utf8Error> for NoInfo {
    fn from(_: Utf8Error) -> Self {
        Self::InvalidUtf8
    }
}
