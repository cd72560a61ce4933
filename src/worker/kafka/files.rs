//! Files that clients of Kafka read once, when they are created: certificates, keys and passwords. One that changes while the
//! worker runs is reported until clients with it replace them. The files of tokens are not among them: those are read
//! for each token.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::settings::{Kafka, Secret};
use crate::worker::identity::secret_of;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(10);
/// The properties that name a file which librdkafka reads.
const NAMING: [&str; 5] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location"];
/// The beginning of the properties of tokens, whose files are read for every token.
const TOKENS: &str = "sasl.oauthbearer.";

/// The files that clients with these settings read when they are created.
pub(crate) fn paths(kafka: &Kafka) -> Vec<PathBuf> {
    let secrets = kafka.properties.iter().filter(|(name, _)| !name.starts_with(TOKENS));
    let secrets = secrets.filter_map(|(_, value)| value.file().map(PathBuf::from));
    let named = NAMING.iter().filter_map(|name| kafka.properties.get(*name).map(|path| PathBuf::from(path.reveal())));
    secrets.chain(named).collect()
}

/// The settings with the present content of the files of properties.
///
/// # Errors
/// Names the property whose file cannot be read.
pub(crate) fn read_again(kafka: &Kafka) -> Result<Kafka, String> {
    let mut again = kafka.clone();
    for (name, value) in &mut again.properties {
        if let Some(path) = value.file().map(PathBuf::from) {
            let content = secret_of(&path).map_err(|error| format!("{name}: {}: {error}", path.display()))?;
            *value = Secret::of_file(content, path);
        }
    }
    Ok(again)
}

/// The files of the clients of one worker.
#[derive(Debug)]
pub(crate) struct Files {
    all: Vec<Watched>,
    looked: Instant,
}

#[derive(Debug)]
struct Watched {
    property: String,
    path: PathBuf,
    /// What clients have read.
    used: Content,
    changed: bool,
}

#[derive(Debug)]
enum Content {
    /// The value of a property.
    Secret(Secret),
    /// The hash of a file.
    Hash(blake3::Hash),
}

// === impl Files ===

impl Files {
    /// What the clients with these settings have read; `present` is now.
    pub(crate) fn new(kafka: &Kafka, present: Instant) -> Self {
        let secrets = kafka.properties.iter().filter_map(|(name, value)| {
            let path = value.file().filter(|_| !name.starts_with(TOKENS))?.to_owned();
            Some(Watched { property: name.clone(), path, used: Content::Secret(value.clone()), changed: false })
        });
        let named = NAMING.iter().filter_map(|name| {
            let path = PathBuf::from(kafka.properties.get(*name)?.reveal());
            // A directory, or `probe`, is not watched.
            let used = Content::Hash(blake3::hash(&std::fs::read(&path).ok()?));
            Some(Watched { property: (*name).to_owned(), path, used, changed: false })
        });
        Self { all: secrets.chain(named).collect(), looked: present }
    }

    /// Looks at the files from time to time, and logs each change once. The files that differ from what clients have read, with
    /// the remedy; `None` if none does.
    pub(crate) fn look(&mut self, present: Instant) -> Option<String> {
        if present.duration_since(self.looked) >= EVERY {
            self.looked = present;
            self.all.iter_mut().for_each(Watched::look);
        }
        let changed: Vec<String> = self.all.iter().filter(|file| file.changed).map(Watched::told).collect();
        (!changed.is_empty()).then(|| changed.join("; "))
    }
}

// === impl Watched ===

impl Watched {
    fn look(&mut self) {
        let changed = match &self.used {
            // While it is replaced it may be empty, or not there.
            Content::Secret(used) => secret_of(&self.path).is_ok_and(|value| value != used.reveal()),
            Content::Hash(used) => {
                std::fs::read(&self.path).is_ok_and(|bytes| !bytes.is_empty() && blake3::hash(&bytes) != *used)
            }
        };
        if changed && !self.changed {
            tracing::debug!(reason = self.told(), "a file of kafka.properties has changed");
        }
        self.changed = changed;
    }

    fn told(&self) -> String {
        let Self { property, path, .. } = self;
        format!(
            "the file {} of kafka.properties {property} has changed since the clients were made, and their connections to \
             brokers use the former content; if the log has an error about the new one, correct the file, otherwise \
             restart the process",
            path.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_or_certificate_that_changes_is_reported_until_it_is_back_and_one_that_is_gone_for_a_moment_is_not() {
        let dir = tempfile::TempDir::with_prefix("spanmill-test-").expect("a directory");
        let of = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(of(name), text).expect("a file");
        ["password", "ca.pem", "client-secret"].iter().for_each(|name| write(name, "hunter2\n"));
        let secret = |name: &str| Secret::of_file("hunter2", of(name));
        let properties = [
            ("sasl.password", secret("password")),
            ("sasl.oauthbearer.client.secret", secret("client-secret")),
            ("ssl.ca.location", Secret::new(of("ca.pem").display().to_string())),
            ("ssl.certificate.location", Secret::new("/nowhere")),
        ];
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let kafka = Kafka { properties, ..Kafka::default() };
        let mut present = Instant::now();
        let mut files = Files::new(&kafka, present);
        let mut look = || {
            present += EVERY;
            files.look(present)
        };
        assert_eq!(look(), None);
        write("client-secret", "new");
        assert_eq!(look(), None, "it is read for every token");
        write("password", "");
        std::fs::remove_file(of("ca.pem")).expect("it was there");
        assert_eq!(look(), None, "they are being replaced");
        write("password", "hunter3\n");
        write("ca.pem", "another");
        let told = look().expect("both have changed");
        for words in [
            "password of kafka.properties sasl.password has",
            "ca.pem of kafka.properties ssl.ca.location has",
            "restart",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(!told.contains("hunter"), "{told}");
        write("password", "hunter2");
        write("ca.pem", "hunter2\n");
        assert_eq!(look(), None);
    }
}
