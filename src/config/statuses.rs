//! `remote_write.on_status`: HTTP statuses and how to handle them.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::layers::Layers;
use super::settings::OnStatus;

const KEY: &str = "remote_write.on_status";

/// As it stands in the file.
pub(super) fn shown(typed: &BTreeMap<u16, OnStatus>) -> BTreeMap<String, String> {
    let word = |action: &OnStatus| match action {
        OnStatus::Wait => "wait",
        OnStatus::Reject => "reject",
    };
    typed.iter().map(|(status, action)| (status.to_string(), word(action).to_owned())).collect()
}

/// As values. Problems have been recorded.
pub(super) fn typed(shown: &BTreeMap<String, String>) -> BTreeMap<u16, OnStatus> {
    shown.iter().filter_map(|(status, action)| Some((status_of(status)?, action_of(action)?))).collect()
}

/// Success needs no choice.
fn status_of(text: &str) -> Option<u16> {
    let status = text.parse().ok().filter(|status| (300..600).contains(status))?;
    (text.len() == 3).then_some(status)
}

fn action_of(text: &str) -> Option<OnStatus> {
    match text {
        "wait" => Some(OnStatus::Wait),
        "reject" => Some(OnStatus::Reject),
        _ => None,
    }
}

// === impl Layers ===

impl Layers<'_> {
    pub(super) fn check_statuses(&mut self, draft: &Draft) {
        for (status, action) in &draft.on_status {
            let path = format!("{KEY}.{status}");
            if status_of(status).is_none() {
                self.broken(&[&path], "is not the status of a failed request; write one of 300 to 599");
            } else if action_of(action).is_none() {
                self.broken(&[&path], "is neither `wait` nor `reject`");
            }
        }
    }
}
