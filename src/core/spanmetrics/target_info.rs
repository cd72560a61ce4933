//! `traces_target_info`, or `target_info` in the profile `otel`: the attributes of the resources that spans come from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::str::Utf8Error;
use std::sync::Arc;

use super::SpanBlock;
use super::plan::{LabelPlan, label_origin};
use super::spec::spec;
use crate::core::deltas::{DeltaTable, SetId};
use crate::core::model::wire::put_bytes;
use crate::core::model::{Family, LabelBuilder, Layout};
use crate::core::otlp::AttributeValue;
use crate::core::settings::labels::{spelling, target_info_label};
use crate::core::settings::{InvalidUtf8, Profile, Settings};

/// The first byte of raw keys.
const KEY_SPACE: u8 = b't';
/// The same of those that are made of the labels, because otherwise they would be longer than this.
const LONG_KEY_SPACE: u8 = b'T';
const MAX_KEY: usize = 8 << 10;
/// They are in `job` and `instance`.
const ORIGIN: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Makes the label set of a resource.
#[derive(Debug)]
pub(super) struct TargetInfo {
    config: Arc<Settings>,
    layout: Arc<Layout>,
    key: Vec<u8>,
    text: Vec<u8>,
    labels: LabelBuilder,
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
    pub(super) fn new(config: &Arc<Settings>) -> Self {
        let layout = Layout::of(&spec(config, Family::TargetInfo, false, &[]));
        Self {
            config: Arc::clone(config),
            layout: Arc::new(layout),
            key: Vec::new(),
            text: Vec::new(),
            labels: LabelBuilder::default(),
        }
    }

    /// The label set of a resource.
    ///
    /// # Errors
    /// When there are no labels, or one is not UTF-8.
    pub(super) fn find(
        &mut self,
        block: &SpanBlock<'_>,
        [job, instance]: [&[u8]; 2],
        plan: &LabelPlan,
        table: &mut DeltaTable,
    ) -> Result<(SetId, bool), NoInfo> {
        let Self { config, layout, key, text, labels } = self;
        let spelling = spelling(config.naming.profile);
        let shown = || block.spans.resource.iter().filter(|(key, _)| is_shown(key, config));
        key.clear();
        key.push(KEY_SPACE);
        for part in [block.tenant.as_bytes(), job, instance] {
            put_bytes(key, part);
        }
        let (mut nothing, mut repaired) = (true, false);
        for (name, value) in shown() {
            text.clear();
            value.put_text_as(spelling, text);
            put_bytes(key, name);
            put_bytes(key, text);
            nothing &= text.is_empty();
            repaired |= plan.repairs && [name, text].iter().any(|part| std::str::from_utf8(part).is_err());
        }
        if nothing || (job.is_empty() && instance.is_empty()) {
            return Err(NoInfo::Nothing);
        }
        let label = |labels: &mut LabelBuilder| {
            plan.limit(labels);
            for (label, value) in merged(config, shown())? {
                labels.set_bytes(&label, &value)?;
            }
            if labels.is_empty() {
                return Err(NoInfo::Nothing);
            }
            Ok(label_origin(labels, job, instance)?)
        };
        if key.len() > MAX_KEY {
            // Labels are cut, so a key made of labels is shorter.
            labels.clear();
            label(labels)?;
            key.clear();
            key.push(LONG_KEY_SPACE);
            put_bytes(key, block.tenant.as_bytes());
            key.extend_from_slice(&labels.block());
        }
        let set = table.find(key, |labels| {
            label(labels)?;
            Ok::<_, NoInfo>(block.define(layout))
        })?;
        Ok((set, repaired))
    }
}

/// The labels that attributes become. Whatever order they come in, those that become one label meet in the order of their
/// keys: the last one counts, which may be empty, or in the profile `otel` all of them, as the Collector's exporter joins them.
fn merged<'a>(
    config: &Settings,
    shown: impl Iterator<Item = (&'a [u8], AttributeValue<'a>)>,
) -> Result<BTreeMap<String, Vec<u8>>, Utf8Error> {
    let mut attributes: Vec<_> = shown.collect();
    attributes.sort_by_key(|(key, _)| *key);
    let mut labels: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let profile = config.naming.profile;
    for (key, value) in attributes {
        let name = match config.naming.invalid_utf8 {
            InvalidUtf8::Drop => Cow::Borrowed(std::str::from_utf8(key)?),
            InvalidUtf8::Replace => String::from_utf8_lossy(key),
        };
        let value = value.text_as(spelling(profile));
        match (labels.entry(target_info_label(config, &name)), profile) {
            (Entry::Occupied(own), Profile::Otel) if own.get()[..] == *value => {}
            (Entry::Occupied(mut own), Profile::Otel) => {
                own.get_mut().push(b';');
                own.get_mut().extend_from_slice(&value);
            }
            (own, _) => {
                own.insert_entry(value.into_owned());
            }
        }
    }
    Ok(labels)
}

/// Whether a resource attribute is shown. Tempo hides those that begin with a digit.
fn is_shown(key: &[u8], config: &Settings) -> bool {
    let excluded = config.span_metrics.target_info_excluded.iter().map(String::as_str);
    let digits = config.naming.profile == Profile::Otel;
    key.first().is_some_and(|first| digits || !first.is_ascii_digit())
        && !ORIGIN.into_iter().chain(excluded).any(|hidden| hidden.as_bytes() == key)
}

// === impl NoInfo ===

impl From<Utf8Error> for NoInfo {
    fn from(_: Utf8Error) -> Self {
        Self::InvalidUtf8
    }
}
