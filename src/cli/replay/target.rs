//! Where the samples of a replay go: to the receivers, which are asked first whether they would keep them, or to a spool.

use std::path::PathBuf;

use super::diff::DiffArgs;
use super::finish::{FinishError, Finished, finish};
use super::preflight;
use super::sink::{Format, SinkArgs};
use crate::cli::ConfigArgs;
use crate::config::settings::{HistogramMode, SINGLE_TENANT, TenantSource};
use crate::config::{self, Config, Loaded, Problems};
use crate::export::{ExportError, Exporter};
use crate::model::Millis;
use crate::remotewrite::acceptance::Finding;
use crate::telemetry::Telemetry;

/// Where the samples go.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TargetArgs {
    /// A label for every series, such as replay=monday; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<String>,
    /// Send nothing, and keep nothing: say how many series and samples it would be, and which labels make them. With another
    /// configuration, that is what it would cost
    #[arg(long, conflicts_with_all = ["json", "spool", "convert", "url", "write_rate"])]
    pub dry_run: bool,
    /// Send at most this many samples per second, from this process
    #[arg(long, value_name = "SAMPLES", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with_all = ["spool", "convert", "url"])]
    pub write_rate: Option<u64>,
    /// Do not ask the receiver first whether it would take and keep samples of that age
    #[arg(long)]
    pub skip_preflight: bool,
    /// Where the receiver's query API is, if that does not follow from remote_write.url
    #[arg(long, value_name = "URL")]
    pub query_url: Option<String>,
    /// A spool instead of receivers.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// A comparison at the end.
    #[command(flatten)]
    pub diff: DiffArgs,
}

/// Samples cannot go where they should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Remote write or the spool cannot be set up.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The receiver would throw samples away.
    #[error(
        "{target} would not keep these samples; nothing has been sent:\n{reasons}\n(--skip-preflight sends them all the same)"
    )]
    Refused {
        /// Who was asked.
        target: &'static str,
        /// Why, and what to do.
        reasons: String,
    },
    /// The format has no native histograms.
    #[error("{0:?} has no native histograms; set histograms.mode to classic, or choose another format")]
    Native(Format),
    /// The spool is complete, but what should be done with it is not.
    #[error(transparent)]
    Finish(#[from] FinishError),
}

// === impl TargetArgs ===

impl TargetArgs {
    /// The configuration, with the labels of the replay.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self, config: &ConfigArgs) -> Result<Loaded, Problems> {
        let labels = self.label.iter().map(|label| format!("series.external_labels.{label}"));
        let set: Vec<String> = config.set.iter().cloned().chain(labels).collect();
        config::load_from(config.config.as_deref(), &set)
    }

    /// Where the samples of run `id` are kept, if they are not sent.
    fn spool(&self, id: &str) -> Option<PathBuf> {
        self.sink.dir(&self.diff, id)
    }

    /// The way of the samples of run `id`.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn exporter(&self, config: &Config, telemetry: Telemetry, id: &str) -> Result<Exporter, TargetError> {
        let native = config.histograms.mode != HistogramMode::Classic;
        if let Some(format) = self.sink.files.convert.filter(|format| native && !format.carries_native_histograms()) {
            return Err(TargetError::Native(format));
        }
        let exporter = match self.spool(id) {
            Some(dir) => Exporter::start_spool(&dir, telemetry)?,
            None => Exporter::start(&config.remote_write, telemetry)?,
        };
        if let Some(rate) = self.write_rate {
            exporter.limit(rate);
        }
        Ok(exporter)
    }

    /// Asks the receiver whether it would keep samples of this time, from the first to the last.
    ///
    /// # Errors
    /// When it would not.
    pub fn preflight(&self, config: &Config, range: (Millis, Millis), id: &str) -> Result<(), TargetError> {
        if self.skip_preflight || self.spool(id).is_some() {
            return Ok(());
        }
        let tenant = match &config.tenant {
            TenantSource::Static(name) => name,
            _ => SINGLE_TENANT,
        };
        let outcome = preflight::ask(&preflight::Plan {
            cfg: &config.remote_write,
            query_url: self.query_url.as_deref(),
            tenant,
            range,
            step: config.time.step.ms(),
            native: config.histograms.mode != HistogramMode::Classic,
        })?;
        let mut reasons = Vec::new();
        for finding in outcome.findings {
            match finding {
                Finding::Good(text) => tracing::info!(target = outcome.target, "{text}"),
                Finding::Warning(text) => tracing::warn!(target = outcome.target, "{text}"),
                Finding::Refusal(text) => reasons.push(format!("- {text}")),
            }
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(TargetError::Refused { target: outcome.target, reasons: reasons.join("\n") })
        }
    }

    /// Does with a complete spool what the arguments say.
    ///
    /// # Errors
    /// When files cannot be written, or the server to compare with does not answer.
    pub fn finish(&self, config: &Config, id: &str) -> Result<Finished, TargetError> {
        match self.spool(id) {
            Some(dir) => Ok(finish(&[dir], &self.sink.files, &self.diff, &config.remote_write, &mut |_| ())?),
            None => Ok(Finished::default()),
        }
    }
}

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
