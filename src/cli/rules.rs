//! `spanmill rules`: rules for Prometheus, or a dashboard, for the service level objectives of a configuration.

use std::io::{self, Write};

use super::{ConfigArgs, USAGE, console};
use crate::config::load_from;
use crate::core::model::text::ShownAs;
use crate::tools::dashboards::{slo_dashboard, slo_rules};

/// Which objectives, and in what form.
#[derive(Debug, clap::Args)]
pub struct RulesArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Tenant whose objectives to write; without it, those of all tenants without overrides
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Print a dashboard for Grafana instead of the rules
    #[arg(long)]
    dashboard: bool,
}

/// Prints the rules or the dashboard; returns the exit code.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(args: &RulesArgs, out: &mut dyn Write) -> io::Result<u8> {
    let loaded = match load_from(args.config.config.as_deref(), &args.config.set) {
        Ok(loaded) => loaded,
        Err(problems) => {
            console::say(&problems);
            return Ok(USAGE);
        }
    };
    let config = args.tenant.as_deref().map_or(loaded.tenants.defaults(), |tenant| loaded.tenants.of(tenant));
    match slo_rules(config, args.tenant.as_deref()) {
        Ok(_) if args.dashboard => out.write_all(slo_dashboard().json().as_bytes())?,
        Ok(rules) => out.write_all(rules.as_bytes())?,
        Err(error) => {
            console::say(&format_args!("spanmill: {}", ShownAs(error)));
            return Ok(USAGE);
        }
    }
    Ok(0)
}
