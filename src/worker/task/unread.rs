//! A partition that cannot be read: why, and when the fetch is retried.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::exit::Ended;
use crate::worker::kafka::KafkaError;
use crate::worker::kafka::fetch::NoRecord;
use crate::worker::telemetry::{TaskId, flood};

/// How long librdkafka may retry a failed fetch by itself before the fetch is restarted: librdkafka reports some
/// failures only once, and not when they are over.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Why a partition cannot be read.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) why: String,
    asked: Instant,
}

// === impl Unread ===

impl Unread {
    pub(crate) fn new(why: String) -> Self {
        Self { why, asked: Instant::now() }
    }

    /// Whether it is time to fetch the partition again.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.asked.elapsed() >= ASK_AGAIN_AFTER;
        if due {
            self.asked = Instant::now();
        }
        due
    }
}

/// Errors that mean that the records are gone, or were never there.
const GONE: [RDKafkaErrorCode; 2] = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::LogTruncation];

/// Judges a fetch that failed. librdkafka continues by itself, except if the records are gone: then the task is
/// restarted, which logs what is lost. Stores the reason in `unread`.
pub(crate) fn fetching(task: &TaskId, failed: NoRecord, unread: &mut Option<Unread>) -> Result<(), Ended> {
    match failed {
        NoRecord::Failed(error) if error.rdkafka_error_code().is_some_and(|code| GONE.contains(&code)) => {
            Err(KafkaError::request("fetch records that no longer exist", error).into())
        }
        NoRecord::MadeAgain => Err(Ended::Data(failed.to_string())),
        error => {
            let (topic, partition) = (&task.topic, task.partition);
            let why = format!(
                "{topic}[{partition}] cannot be read: {error}; check that this worker may read the \
                               topic"
            );
            if unread.as_ref().is_none_or(|before| before.why != why) {
                if let Some(held_back) = flood::may_say(&format!("fetch {}", flood::gist(&error.to_string()))) {
                    tracing::warn!(%task, %error, held_back, "fetch failed, retrying");
                }
                *unread = Some(Unread::new(why));
            }
            Ok(())
        }
    }
}
