//! Where the samples of a replay go: to the receivers, which are asked first whether they would keep them, or to a spool.

use std::path::PathBuf;

use super::diff::DiffArgs;
use super::finish::{Finished, finish};
use super::preflight;
use super::sink::{ConvertError, Format, SinkArgs, vacant};
use crate::cli::ConfigArgs;
use crate::config::settings::{OutputType, RemoteWrite, TenantSource};
use crate::config::{self, Config, Loaded, Problems, Tenants};
use crate::core::model::Millis;
use crate::core::remotewrite::acceptance::Finding;
use crate::core::settings::{HistogramMode, SINGLE_TENANT};
use crate::tools::spool::{self, Claim, ClaimError, Identity, SpoolError};
use crate::worker::sender::{ExportError, Exporter, examine};
use crate::worker::telemetry::Telemetry;

/// Where the samples go.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TargetArgs {
    /// Label of every series, such as replay=monday; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<String>,
    /// Send and store no samples: report how many series and samples the run would produce, and which labels cause
    /// them, for example to estimate another configuration
    #[arg(long, conflicts_with_all = ["json", "spool", "convert", "url", "write_rate"])]
    pub dry_run: bool,
    /// Maximum samples per second that this process sends
    #[arg(long, value_name = "SAMPLES", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with_all = ["spool", "convert", "url"])]
    pub write_rate: Option<u64>,
    /// Do not ask the receiver beforehand whether it accepts and keeps samples of that age
    #[arg(long)]
    pub skip_preflight: bool,
    /// URL of the receiver's query API, if it cannot be derived from remote_write.url
    #[arg(long, value_name = "URL")]
    pub query_url: Option<String>,
    /// A spool instead of receivers.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// A comparison at the end.
    #[command(flatten)]
    pub diff: DiffArgs,
}

/// The destination of the samples cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Remote write cannot be set up.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The spool cannot be created.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The receiver would reject samples.
    #[error("{target} would not keep these samples; none were sent:\n{reasons}\n(--skip-preflight sends them anyway)")]
    Refused {
        /// The receiver that was asked.
        target: &'static str,
        /// Why, and what to do.
        reasons: String,
    },
    /// The format has no native histograms.
    #[error("{0:?} does not support native histograms; set histograms.mode to classic, or use another format")]
    Native(Format),
    /// The spool is another run's.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// There is something where the files would go.
    #[error(transparent)]
    Out(#[from] ConvertError),
}

// === impl TargetArgs ===

impl TargetArgs {
    /// The configuration, with the labels of the replay.
    ///
    /// # Errors
    /// All problems.
    pub fn load(&self, config: &ConfigArgs) -> Result<Loaded, Problems> {
        let labels = self.label.iter().map(|label| format!("series.external_labels.{label}"));
        let set: Vec<String> = config.set.iter().cloned().chain(labels).collect();
        config::load_from(config.config.as_deref(), &set)
    }

    /// Where the samples of run `id` are kept, if they are not sent.
    fn spool(&self, id: &str) -> Option<PathBuf> {
        self.sink.dir(&self.diff, id)
    }

    /// Takes the spool of run `id`, if its samples are kept: what it reads and the settings must be those of the run whose
    /// samples are there. A run that begins `anew` does not need them.
    ///
    /// # Errors
    /// When another run's samples are there, or there is something where the files would go.
    pub fn claim(
        &self,
        tenants: &Tenants,
        id: &str,
        inputs: Vec<String>,
        anew: bool,
    ) -> Result<Option<Claim>, TargetError> {
        if let Some(out) = &self.sink.files.out {
            vacant(out)?;
        }
        let Some(dir) = self.spool(id) else { return Ok(None) };
        let settings = tenants.agreed().text().lines().map(str::to_owned).collect();
        Ok(Some(Claim::take(&dir, Identity::new(id.to_owned(), inputs, settings), anew)?))
    }

    /// The exporter for the samples of run `id`.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn exporter(&self, config: &Config, telemetry: Telemetry, id: &str) -> Result<Exporter, TargetError> {
        let native = config.core.histograms.mode != HistogramMode::Classic;
        if let Some(format) = self.sink.files.convert.filter(|format| native && !format.carries_native_histograms()) {
            return Err(TargetError::Native(format));
        }
        let exporter = match self.spool(id) {
            Some(dir) => spool::exporter(&dir, telemetry)?,
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
        config.endpoints().try_for_each(|cfg| self.preflight_of(config, cfg, tenant, range))
    }

    fn preflight_of(
        &self,
        config: &Config,
        cfg: &RemoteWrite,
        tenant: &str,
        range: (Millis, Millis),
    ) -> Result<(), TargetError> {
        let outcome = match cfg.kind {
            OutputType::RemoteWrite => preflight::ask(&preflight::Plan {
                cfg,
                query_url: self.query_url.as_deref(),
                tenant,
                range,
                step: config.core.time.step.ms(),
                native: config.core.histograms.mode != HistogramMode::Classic,
                both: config.core.histograms.mode == HistogramMode::Both,
            })?,
            kind => preflight::Outcome { target: kind.name(), findings: examine(cfg, tenant) },
        };
        let mut reasons = Vec::new();
        for finding in outcome.findings {
            match finding {
                Finding::Good(text) => tracing::info!(target = outcome.target, finding = text, "examined a receiver"),
                Finding::Warning(text) => {
                    tracing::warn!(target = outcome.target, finding = text, "a receiver will not take everything");
                }
                Finding::Waits(text) | Finding::Refusal(text) => reasons.push(format!("- {text}")),
            }
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(TargetError::Refused { target: outcome.target, reasons: reasons.join("\n") })
        }
    }

    /// Converts or compares the complete spool of a run, or this worker's part of one that is `shared`, as the
    /// arguments ask. The result holds the failures.
    #[must_use]
    pub fn finish(&self, config: &Config, claim: Option<Claim>, shared: bool) -> Finished {
        let Some(claim) = claim else { return Finished::default() };
        let dirs = [claim.dir().to_owned()];
        let done = finish(&dirs, &self.sink.files, &self.diff, &config.remote_write, &mut |_| ());
        Finished::of(done, claim, (self.sink.spool.is_some(), shared))
    }
}

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
