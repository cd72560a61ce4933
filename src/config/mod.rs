//! The configuration: settings, the file, its check, its secrets.
//!
//! *In:* a YAML file, `SPANMILL_*` variables, `--set` flags. *Out:* [`Config`], and for every key where its value comes
//! from; or all problems, each with its place and remedy. *Owner:* the command line, once at the start. *Never:* a
//! guess. An unknown key, a bare number for a duration, a key given twice are errors. [`load`] is pure; [`load_from`]
//! is the one edge that reads the file and the environment. *Next:* a new key goes into `settings.rs`, its slot into
//! the table in `keys.rs`, how far it reaches into `reach.rs`, and its rules, if any, into `rules.rs`.

mod agreed;
mod attribute_metrics;
mod auth;
mod branch_labels;
mod collide;
mod draft;
mod effective;
mod endpoints;
mod hints;
mod items;
mod keys;
pub mod labels;
mod layers;
mod metric_names;
mod outputs;
mod overrides;
mod policies;
mod preset;
mod problem;
mod processors;
mod properties;
mod reach;
mod read;
mod reference;
mod relabeling;
mod rules;
mod schema;
mod sending;
pub mod settings;
mod slos;
mod statuses;
mod suggest;
mod syntax;
mod tasks;
mod tenants;
#[cfg(test)]
mod tests;
pub mod tokens;
mod topics;
mod value;
pub(crate) mod yaml;

use std::io;
use std::path::Path;

pub use agreed::Agreed;
pub use effective::render_effective;
pub use hints::hints;
pub use overrides::{load_overrides, set_over};
pub use policies::show_block;
pub use problem::{Problem, Problems};
pub use reach::{Reach, reach, reaches};
pub use reference::reference;
pub use relabeling::{relabel_action, relabel_modulus, show_rule};
pub use schema::{overrides_schema, schema};
pub use settings::Config;
pub use syntax::{by_trace_topic, is_own_header, journal_topic};
pub use tenants::Tenants;
pub use topics::SourceTopics;

use layers::Layers;
pub use value::duration;
pub(crate) use value::show_text;

use problem::Location;

/// Variables with spanmill's prefix that belong to the command line, not to the settings.
const NOT_SETTINGS: [&str; 1] = ["SPANMILL_CONFIG"];

/// Reads a file that the settings name: a secret or a certificate.
pub type ReadFile<'a> = dyn Fn(&Path) -> io::Result<String> + 'a;

/// What settings are made from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The name of the file, for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// Environment variables that begin with `SPANMILL_`.
    pub env: &'a [(String, String)],
    /// `path=value`, in the order of the flags.
    pub set: &'a [String],
    /// Reads the files that settings name.
    pub read_file: &'a ReadFile<'a>,
}

/// Valid settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Every key with its value and origin, in the order of the reference file.
    pub effective: Vec<Effective>,
    /// The settings of every tenant.
    pub tenants: Tenants,
    /// The values of `overrides.file` for each tenant, with paths such as `tenants.acme.limits.max_active_series`.
    pub overridden: Vec<Effective>,
}

/// The active value for one key, or for one entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The path, such as `kafka.brokers`.
    pub path: String,
    /// The value as it would stand in the file; a secret as `***`.
    pub value: String,
    /// Where it comes from.
    pub origin: ValueOrigin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// No source sets it.
    Default,
    /// A line of the file.
    File {
        /// The name of the file.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A `--set` flag.
    Flag,
}

/// Merges defaults, file, environment and flags.
///
/// # Errors
/// All problems, not only the first.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Problems> {
    add_up(sources, Vec::new())
}

fn add_up(sources: &Sources<'_>, earlier: Vec<Problem>) -> Result<Loaded, Problems> {
    let mut layers = Layers::read(sources);
    // With a part of the settings missing, rules would report false problems.
    let auth = if layers.complete && earlier.is_empty() { layers.check() } else { settings::Auth::None };
    let text = sources.file.map_or("", |(_, text)| text);
    let found = std::mem::take(&mut layers.problems);
    let found = found.into_iter().map(|problem| problem.with_excerpt(text, &layers.shown));
    if let Some(problems) = Problems::from_list(earlier.into_iter().chain(found).collect()) {
        return Err(problems);
    }
    let (config, effective) = (layers.finish(auth), layers.effective());
    let (tenants, overridden) = match (&config.overrides.file, &layers.overrides) {
        (Some(file), Some(text)) => overrides::read(&config, text, &file.to_string_lossy(), sources.read_file)?,
        _ => (Tenants::from(config.clone()), Vec::new()),
    };
    Ok(Loaded { config, effective, tenants, overridden })
}

/// Loads the file at `path`, if any, the environment and the flags.
///
/// # Errors
/// All problems, including a file that cannot be read.
pub fn load_from(path: Option<&Path>, set: &[String]) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let name = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let text = path.and_then(|path| match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            let message = format!("cannot be read: {error}; check the path and its permissions");
            problems.push(Problem::new(Location::WholeFile, &name, "", message));
            None
        }
    });
    let mut env = Vec::new();
    for (variable, value) in std::env::vars_os() {
        let Some(variable) = variable.to_str().filter(|v| v.starts_with("SPANMILL_") && !NOT_SETTINGS.contains(v))
        else {
            continue;
        };
        match value.into_string() {
            Ok(value) => env.push((variable.to_owned(), value)),
            Err(_) => {
                let place = Location::Env(variable.to_owned());
                problems.push(Problem::new(place, &name, "", "is not UTF-8; write it as such"));
            }
        }
    }
    env.sort_unstable();
    let file = text.as_deref().map(|text| (name.as_str(), text));
    add_up(&Sources { file, env: &env, set, read_file: &|path| std::fs::read_to_string(path) }, problems)
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text may hold secrets.
        f.debug_struct("Sources").field("file", &self.file.map(|(name, _)| name)).finish_non_exhaustive()
    }
}
