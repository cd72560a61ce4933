//! How samples are sent to an endpoint: what two keys must agree about.

use super::draft::Draft;
use super::layers::Layers;
use crate::core::settings::HistogramMode;

const CONVERT: &str = "remote_write.convert_classic_histograms_to_nhcb";
const MODE: &str = "histograms.mode";
const LEAST: &str = "remote_write.min_in_flight";
const MOST: &str = "remote_write.max_in_flight";

// === impl Layers ===

impl Layers<'_> {
    pub(super) fn check_sending(&mut self, draft: &Draft) {
        let remote = &draft.config.remote_write;
        let (least, most) = (remote.min_in_flight, remote.max_in_flight);
        if least > most {
            self.broken(&[LEAST, MOST], format!("{least} is more than `{MOST}` ({most}); lower it, or raise that"));
        }
        let mode = match draft.config.core.histograms.mode {
            HistogramMode::Classic => return,
            HistogramMode::Native => "native",
            HistogramMode::Both => "both",
        };
        if remote.convert_classic_histograms_to_nhcb {
            let message =
                format!("converts classic histograms, and `{MODE}` is {mode}; set that to classic, or remove this");
            self.broken(&[CONVERT, MODE], message);
        }
    }
}
