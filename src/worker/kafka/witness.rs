//! What a record is recognized by, when its topic may have been re-created.

use rdkafka::message::{BorrowedMessage, Message};

use crate::core::journal::Witness;

/// The witness that a record makes.
#[must_use]
pub fn of(record: &BorrowedMessage<'_>) -> Witness {
    Witness::of(record.offset(), record.timestamp().to_millis(), record.payload().unwrap_or_default())
}
