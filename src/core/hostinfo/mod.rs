//! Host info: which hosts the traces come from.
//!
//! *In:* the resources of a record. *Out:* a gauge per host in a [`DeltaTable`]. *Owner:* one span task. *Never:* a look
//! at a span. *Next:* [`crate::core::deltas`].

use std::str::Utf8Error;
use std::sync::Arc;

use crate::core::deltas::{Define, DeltaTable};
use crate::core::model::labels::cut_bytes;
use crate::core::model::wire::{put_bytes, put_u64};
use crate::core::model::{Counter, Family, Layout, Ledger, Naming, Spec};
use crate::core::otlp::Attributes;
use crate::core::settings::{InvalidUtf8, Settings};

/// The first byte of this room's raw keys in the delta table.
const KEY_SPACE: u8 = b'h';
/// The one gauge of [`Family::HostInfo`].
const INFO: usize = 0;

/// Names the host of each resource.
#[derive(Debug)]
pub struct HostInfo {
    layout: Arc<Layout>,
    identifiers: Vec<String>,
    limits: (usize, usize),
    repairs: bool,
    /// A raw key under construction.
    key: Vec<u8>,
}

// === impl HostInfo ===

impl HostInfo {
    /// Reads the attributes that the settings of a tenant name.
    #[must_use]
    pub fn new(config: &Settings) -> Self {
        let naming = Naming::Named(config.host_info.metric_name.clone());
        let spec = Spec { family: Family::HostInfo, naming, weighted: false, histograms: Vec::new() };
        Self {
            layout: Arc::new(Layout::of(&spec)),
            identifiers: config.host_info.host_identifiers.clone(),
            limits: (config.limits.max_label_name_length, config.limits.max_label_value_length),
            repairs: config.naming.invalid_utf8 == InvalidUtf8::Replace,
            key: Vec::new(),
        }
    }

    /// Reports the host of this resource, if an attribute names it: the first identifier that has a text which
    /// is not empty.
    pub fn resource(&mut self, tenant: &str, resource: Attributes<'_>, table: &mut DeltaTable, ledger: &mut Ledger) {
        let Self { layout, identifiers, limits, repairs, key } = self;
        let text_of = |identifier: &String| {
            let values = resource.iter().filter(|(key, _)| *key == identifier.as_bytes());
            values.filter_map(|(_, value)| value.as_str()).find(|text| !text.is_empty())
        };
        let found =
            identifiers.iter().enumerate().find_map(|(i, identifier)| Some((i, identifier, text_of(identifier)?)));
        let Some((at, source, host)) = found else { return };
        key.clear();
        key.push(KEY_SPACE);
        put_bytes(key, tenant.as_bytes());
        put_u64(key, at as u64);
        put_bytes(key, cut_bytes(host, limits.1));
        let set = table.find(key, |labels| {
            labels.limit(limits.0, limits.1);
            labels.repair(*repairs);
            labels.set_bytes("grafana_host_id", host)?;
            labels.set("host_source", source);
            Ok::<Define, Utf8Error>(Define { tenant: tenant.into(), layout: Arc::clone(layout) })
        });
        match set {
            Ok(set) => {
                table.mark(set, INFO);
                let repaired = *repairs && std::str::from_utf8(host).is_err();
                ledger.add(Counter::InfoRepairedUtf8, u64::from(repaired));
            }
            Err(_) => ledger.add(Counter::InfoDroppedInvalidUtf8, 1),
        }
    }
}
