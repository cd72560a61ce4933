//! Reading a journal as a whole, from what is left of its beginning.

use std::sync::atomic::AtomicBool;

use super::client::KafkaError;
use super::reader::{LogReader, Stretch};
use crate::core::journal::{Identity, JournalError, Owner, SeriesFold, SeriesState, SpanFold, SpanState};

/// A journal to be read.
#[derive(Debug, Clone, Copy)]
pub struct JournalLog<'a> {
    /// Reads it.
    pub reader: &'a LogReader,
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset after the last record that is wanted; `None` for all that are there.
    pub to: Option<i64>,
    /// Ends the reading early.
    pub stop: &'a AtomicBool,
}

/// A fold that computes one state from the records of a journal.
pub trait JournalFold: Default {
    /// The state.
    type State;

    /// The beginning of the journal has been deleted.
    #[must_use]
    fn after_cut() -> Self;

    /// Adds the next record.
    ///
    /// # Errors
    /// When it cannot be part of a journal.
    fn add(&mut self, offset: i64, record: &[u8]) -> Result<(), JournalError>;

    /// The state after all records.
    ///
    /// # Errors
    /// When the state is unknown, because some records are missing.
    fn state(self) -> Result<Self::State, JournalError>;

    /// The owner that claimed the journal last, and the identity that it claimed it as.
    fn owner(state: &Self::State) -> (Option<Owner>, Option<&Identity>);

    /// The number of the sharding in which the journal was claimed last.
    fn sharding(state: &Self::State) -> u32;
}

// === impl JournalLog ===

impl JournalLog<'_> {
    /// Passes every record to `each`, in order, with whether the beginning of the journal has been deleted.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn read<E: From<KafkaError>>(&self, each: &mut dyn FnMut(bool, i64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let (topic, partition) = (self.topic, self.partition);
        let (low, high) = self.reader.bounds(topic, partition)?;
        let stretch = Stretch { topic, partition, from: low, to: self.to.unwrap_or(high) };
        self.reader.read(stretch, self.stop, &mut |offset, record| each(low > 0, offset, record))
    }

    /// Reads the journal into a fold. `damaged` makes an error of a record that cannot be part of it.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn fold<F: JournalFold, E: From<KafkaError>>(&self, damaged: impl Fn(JournalError) -> E) -> Result<F, E> {
        let mut fold = None;
        self.read(&mut |cut, offset, record| {
            let fold = fold.get_or_insert_with(|| if cut { F::after_cut() } else { F::default() });
            fold.add(offset, record).map_err(&damaged)
        })?;
        Ok(fold.unwrap_or_default())
    }
}

// === impl JournalFold ===

impl JournalFold for SpanFold {
    type State = SpanState;

    fn after_cut() -> Self {
        Self::after_cut()
    }

    fn add(&mut self, offset: i64, record: &[u8]) -> Result<(), JournalError> {
        self.apply(offset, record).map(drop)
    }

    fn state(self) -> Result<SpanState, JournalError> {
        self.into_state()
    }

    fn owner(state: &SpanState) -> (Option<Owner>, Option<&Identity>) {
        (state.owner, state.identity.as_ref())
    }

    fn sharding(state: &SpanState) -> u32 {
        state.sharding
    }
}

impl JournalFold for SeriesFold {
    type State = SeriesState;

    fn after_cut() -> Self {
        Self::after_cut()
    }

    fn add(&mut self, offset: i64, record: &[u8]) -> Result<(), JournalError> {
        self.apply(offset, record).map(drop)
    }

    fn state(self) -> Result<SeriesState, JournalError> {
        self.into_state()
    }

    fn owner(state: &SeriesState) -> (Option<Owner>, Option<&Identity>) {
        (state.owner, state.identity.as_ref())
    }

    fn sharding(state: &SeriesState) -> u32 {
        state.sharding
    }
}
