//! The configuration: settings, the file, its check, its secrets.

pub mod settings;

pub use settings::Config;
