//! Who the worker is to other services: what the sender and the clients of Kafka both need to prove it. The admin server reads
//! its own token in the same way.
//!
//! *In:* settings, files, the AWS configuration of the machine. *Out:* credentials and tokens, renewed in time. *Owner:*
//! the room that asks. *Never:* a secret in a message. *Next:* [`oauth`] asks token endpoints, [`aws`] has the usual
//! chain of AWS credentials, [`renewing`] renews both.

pub(crate) mod aws;
mod changes;
pub(crate) mod jwt;
pub(crate) mod msk;
pub(crate) mod oauth;
pub(crate) mod profiles;
pub(crate) mod renewing;

use std::path::Path;

pub(crate) use self::changes::Changes;
use crate::config::settings::Secret;

/// No secret is longer.
const MAX_BYTES: u64 = 1 << 20;

/// The secret in a file, as it is now.
///
/// # Errors
/// Why there is none: the file cannot be read, is too large, or is empty.
pub(crate) fn secret_of(file: &Path) -> Result<String, String> {
    let size = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("it has {size} bytes"));
    }
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let value = Secret::in_text(&text);
    // A program that replaces it without a rename empties it first.
    if value.is_empty() { Err("it is empty".to_owned()) } else { Ok(value.to_owned()) }
}

/// An error with its causes: the outermost alone is not specific.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
