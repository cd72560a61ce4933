//! A secret as a header. A secret from a file is read again at every attempt, so the next attempt uses a renewed one.

use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;

use crate::config::settings::Secret;

use super::ExportError;
use crate::worker::identity::secret_of;

/// Makes the text of the header of a secret.
type Text = Box<dyn Fn(&str) -> String + Send + Sync>;

/// A header that holds a secret.
pub(super) struct SecretHeader {
    secret: Secret,
    text: Text,
    current: Mutex<Current>,
}

struct Current {
    value: String,
    header: HeaderValue,
    /// What is wrong with the file, logged once.
    wrong: Option<String>,
}

// === impl SecretHeader ===

impl SecretHeader {
    /// `text` makes the header of the secret. `key` and `name` identify an illegal header in an error.
    pub(super) fn new(
        secret: &Secret,
        (key, name): (&'static str, &str),
        text: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Result<Self, ExportError> {
        let value = secret.reveal().to_owned();
        let illegal = || ExportError::Header { key, name: name.to_owned() };
        let header = header(&text(&value)).ok_or_else(illegal)?;
        let current = Mutex::new(Current { value, header, wrong: None });
        Ok(Self { secret: secret.clone(), text: Box::new(text), current })
    }

    /// The header with the current content of the file. A file that cannot be read leaves the header as it was.
    pub(super) fn value(&self) -> HeaderValue {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = self.secret.file() else { return current.header.clone() };
        match secret_of(file) {
            Ok(value) if value == current.value => current.wrong = None,
            Ok(value) => match header(&(self.text)(&value)) {
                Some(header) => {
                    tracing::info!(file = %file.display(), "reloaded a secret of remote_write");
                    *current = Current { value, header, wrong: None };
                }
                None => current.complain(file, "it is not legal in an HTTP header".to_owned()),
            },
            Err(why) => current.complain(file, why),
        }
        current.header.clone()
    }
}

// === impl Current ===

impl Current {
    fn complain(&mut self, file: &std::path::Path, why: String) {
        if self.wrong.as_ref() != Some(&why) {
            tracing::warn!(
                file = %file.display(),
                error = why,
                "cannot reload a secret of remote_write, keeping the previous one; correct the file"
            );
            self.wrong = Some(why);
        }
    }
}

fn header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
