//! The writing end of a running task's journal: appends frames, and learns from their fates which of them count.

use std::collections::VecDeque;

use super::command::{Command, Life, News};
use super::thread::{Context, Ended};
use crate::journal::{AcceptedFrame, Progress, Writer};
use crate::kafka::KafkaError;
use crate::kafka::appender::Fate;
use crate::kafka::reader::Stretch;
use crate::telemetry::TaskId;

/// One per running task. `M` is what the task wants to be reminded of when a frame's first record has its offset.
pub(super) struct JournalEnd<M> {
    /// Draws up the frames and judges the acknowledgements.
    pub(super) writer: Writer,
    topic: String,
    id: TaskId,
    life: Life,
    /// One entry for each record on its way, in the order of appending.
    under_way: VecDeque<Option<M>>,
}

/// What one acknowledgement has told.
pub(super) struct Told<M> {
    /// A frame begins at this offset.
    pub(super) begins: Option<(M, i64)>,
    /// Frames that everybody will count, in the order of the journal.
    pub(super) accepted: Vec<AcceptedFrame>,
}

impl<M> JournalEnd<M> {
    pub(super) fn new(writer: Writer, topic: String, id: TaskId, life: Life) -> Self {
        Self { writer, topic, id, life, under_way: VecDeque::new() }
    }

    /// The topic of the journal.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Appends the records of one frame. Each is given up once the producer has it: together they may be large.
    pub(super) fn append(&mut self, context: &Context<'_>, records: Vec<Vec<u8>>, mut mark: Option<M>) {
        for record in records {
            self.under_way.push_back(mark.take());
            let (id, life, inbox) = (self.id.clone(), self.life, context.inbox.clone());
            let on_fate = Box::new(move |fate| inbox.send(Command::News(id, life, News::Journal(fate))));
            context.shared.appender.append(&self.topic, self.id.partition, &record, on_fate);
        }
    }

    /// Learns the fate of the oldest record that is under way.
    pub(super) fn learn(&mut self, context: &Context<'_>, fate: Fate) -> Result<Told<M>, Ended> {
        let offset = fate.map_err(|e| Ended::Unknown(e.to_string()))?;
        let begins = self.under_way.pop_front().flatten().zip(offset);
        let mut progress = self.writer.acknowledged(offset);
        while let Progress::ReadGap { after, before } = progress {
            let records = self.read_gap(context, after, before)?;
            let read = self.writer.gap_read(records.iter().map(|(offset, record)| (*offset, record.as_slice())));
            progress = read.map_err(|e| Ended::Data(format!("{}: {e}", self.topic)))?;
        }
        match progress {
            Progress::Accepted(accepted) => Ok(Told { begins, accepted }),
            Progress::Pending | Progress::ReadGap { .. } => Ok(Told { begins, accepted: Vec::new() }),
            Progress::Fenced => Err(Ended::Fenced),
            Progress::Unknown => Err(Ended::Unknown("the journal does not tell".to_owned())),
        }
    }

    /// The records that others appended between two offsets.
    fn read_gap(&self, context: &Context<'_>, after: i64, before: i64) -> Result<Vec<(i64, Vec<u8>)>, Ended> {
        let (topic, partition) = (self.topic.as_str(), self.id.partition);
        let (low, _) = context.reader.bounds(topic, partition)?;
        if low > after + 1 {
            return Err(Ended::Unknown("the journal was trimmed over a gap".to_owned()));
        }
        let mut records = Vec::new();
        let stretch = Stretch { topic, partition, from: after + 1, to: before };
        context.reader.read::<KafkaError>(stretch, &context.shared.stop, &mut |offset, record| {
            records.push((offset, record.to_vec()));
            Ok(())
        })?;
        Ok(records)
    }
}
