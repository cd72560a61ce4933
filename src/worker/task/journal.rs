//! The writing end of a running task's journal: appends frames, and learns from their fates which of them count.

use std::collections::VecDeque;

use super::command::{Command, Epoch, News};
use super::context::TaskContext;
use super::exit::Ended;
use crate::core::journal::{AcceptedFrame, AppendProgress, Frame, JournalWriter, Notice};
use crate::worker::kafka::KafkaError;
use crate::worker::kafka::appender::Fate;
use crate::worker::kafka::reader::Stretch;
use crate::worker::telemetry::TaskId;

/// One per running task. `M` is what the task gets back when a frame's first record has its offset.
pub(crate) struct JournalEnd<M> {
    /// Encodes the frames and judges the acknowledgements.
    pub(crate) writer: JournalWriter,
    topic: String,
    id: TaskId,
    epoch: Epoch,
    /// One entry for each record in flight, in the order of appending.
    under_way: VecDeque<Option<M>>,
    /// How many records have been appended, and of how many the fate is known.
    appended: u64,
    learned: u64,
    /// The offset after the last record that is known.
    known: i64,
}

/// What one acknowledgement has confirmed.
pub(crate) struct Told<M> {
    /// A frame begins at this offset.
    pub(crate) begins: Option<(M, i64)>,
    /// Frames that every reader will count, in the order of the journal.
    pub(crate) accepted: Vec<AcceptedFrame>,
    /// What shards have written in between.
    pub(crate) notices: Vec<Notice>,
}

impl<M> JournalEnd<M> {
    pub(crate) fn new(writer: JournalWriter, topic: String, id: TaskId, epoch: Epoch) -> Self {
        let known = writer.last() + 1;
        Self { writer, topic, id, epoch, under_way: VecDeque::new(), appended: 0, learned: 0, known }
    }

    /// The topic of the journal.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Appends the records of one frame. Each is dropped once the producer has it: together they may be large.
    pub(crate) fn append(&mut self, context: &TaskContext<'_>, records: Vec<Vec<u8>>, mut mark: Option<M>) {
        for record in records {
            self.under_way.push_back(mark.take());
            let (id, epoch, inbox) = (self.id.clone(), self.epoch, context.inbox.clone());
            let number = self.appended;
            self.appended += 1;
            let on_fate = Box::new(move |fate| inbox.send(Command::News(id, epoch, News::Journal(number, fate))));
            context.clients.appender.append(&self.topic, self.id.partition, &record, on_fate);
        }
    }

    /// Handles the fate of the oldest record in flight. The writer takes an offset for that record's: with another
    /// one's, it would accept a frame that no reader counts.
    pub(crate) fn learn(&mut self, context: &TaskContext<'_>, number: u64, fate: Fate) -> Result<Told<M>, Ended> {
        if number != self.learned {
            return Err(Ended::Unknown(format!("record {number} was acknowledged before record {}", self.learned)));
        }
        self.learned += 1;
        let offset = fate.map_err(|e| Ended::Unknown(e.to_string()))?;
        let begins = self.under_way.pop_front().flatten().zip(offset);
        let mut notices = Vec::new();
        let mut progress = self.writer.acknowledged(offset);
        while let AppendProgress::ReadGap { after, before } = progress {
            let records = self.read_gap(context, after, before)?;
            notices.extend(records.iter().filter_map(|(_, record)| notice(record)));
            let read = self.writer.gap_read(records.iter().map(|(offset, record)| (*offset, record.as_slice())));
            progress = read.map_err(|e| Ended::Data(format!("{}: {e}", self.topic)))?;
        }
        self.known = offset.map_or(self.known, |offset| offset + 1);
        match progress {
            AppendProgress::Accepted(accepted) => Ok(Told { begins, accepted, notices }),
            AppendProgress::Pending | AppendProgress::ReadGap { .. } => {
                Ok(Told { begins, accepted: Vec::new(), notices })
            }
            AppendProgress::Fenced => Err(Ended::Fenced),
            AppendProgress::Unknown => Err(Ended::Unknown("the journal does not say".to_owned())),
        }
    }

    /// What shards have written behind the last record of a task that writes nothing more.
    pub(crate) fn look(&mut self, context: &TaskContext<'_>) -> Result<Vec<Notice>, Ended> {
        let (_, end) = context.reader.bounds(&self.topic, self.id.partition)?;
        if end < self.known {
            return Err(Ended::Unknown(format!("{} has lost its end", self.topic)));
        }
        let records = self.read_gap(context, self.known - 1, end)?;
        self.known = end;
        Ok(records.iter().filter_map(|(_, record)| notice(record)).collect())
    }

    /// The records that others appended between two offsets.
    fn read_gap(&self, context: &TaskContext<'_>, after: i64, before: i64) -> Result<Vec<(i64, Vec<u8>)>, Ended> {
        let (topic, partition) = (self.topic.as_str(), self.id.partition);
        let (low, _) = context.reader.bounds(topic, partition)?;
        if low > after + 1 {
            return Err(Ended::Unknown("the journal was trimmed past a gap".to_owned()));
        }
        let mut records = Vec::new();
        let stretch = Stretch { topic, partition, from: after + 1, to: before };
        context.reader.read::<KafkaError>(stretch, context.stop, &mut |offset, record| {
            records.push((offset, record.to_vec()));
            Ok(())
        })?;
        Ok(records)
    }
}

fn notice(record: &[u8]) -> Option<Notice> {
    Notice::of(&Frame::decode(record).ok()?)
}
