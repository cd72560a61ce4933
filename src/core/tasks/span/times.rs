//! Which time a record has, and when it is accepted.

use super::clock::SpanClock;
use super::doubt::{Fate, Patience};
use super::{Moved, Offer, Read, Record, SpanTask, StepCut};
use crate::core::model::time::MAX_TIME;
use crate::core::model::{Counter, Millis};

impl SpanTask {
    /// Takes a record whose time is clear, if no cut comes first.
    pub(super) fn offer_clear(&mut self, record: &Record<'_>, read: Option<Read<'_>>, told: Option<Millis>) -> Offer {
        let stream_time = told.max(self.stream_time).unwrap_or_else(|| self.time_of_record(record.timestamp));
        if let Some(cut) = self.cut_before(record.offset, stream_time) {
            return Offer::CutFirst { cut: Box::new(cut) };
        }
        self.advance(stream_time);
        self.take(record, read, stream_time);
        Offer::Taken
    }

    /// The time that a record holds, if any; and the decoded record, if its spans were needed.
    pub(super) fn time_of<'a>(&mut self, record: &Record<'a>) -> (Option<Read<'a>>, Option<Millis>) {
        if self.clock.is_none() {
            return (None, Some(record.timestamp.clamp(0, MAX_TIME)));
        }
        let read = self.read(record);
        let spans = self.clock.as_mut().filter(|_| read.is_ok());
        (Some(read), spans.and_then(|clock| clock.time_of(&self.batch, record.timestamp)))
    }

    /// Stream time at the beginning where no span gives it: that of the record itself.
    pub(super) fn time_of_record(&self, timestamp: Millis) -> Millis {
        let behind = self.clock.as_ref().map_or(0, SpanClock::lateness);
        (timestamp - behind).clamp(0, MAX_TIME)
    }

    /// Whether later records must confirm the time of a record.
    pub(super) fn is_doubtful(&self, told: Option<Millis>) -> bool {
        match (told, self.stream_time) {
            (Some(told), Some(now)) => self.doubt.is_far(told, now),
            (told, None) => self.wary || told.is_some_and(|told| told > self.ceiling),
            (None, Some(_)) => false,
        }
    }

    /// Appends a record to the doubtful ones. Its decoded form is kept with it.
    pub(super) fn keep(&mut self, record: &Record<'_>, read: Option<Read<'_>>, told: Option<Millis>) {
        match read.unwrap_or_else(|| self.read(record)) {
            Ok(_) => self.doubt.push(record, told, Fate::Read, Some(&mut self.batch)),
            Err(refusal) => {
                self.refusal = Some(refusal);
                self.doubt.push(record, told, Fate::Refused(refusal), None);
            }
        }
    }

    /// Takes the records whose time is clear, up to the next cut.
    pub(super) fn believe(&mut self, patience: Patience) -> Option<StepCut> {
        while let Some(clear) = self.doubt.decide(self.stream_time, self.ceiling, patience) {
            let offset = self.doubt.first_offset()?;
            let stream_time = clear.unwrap_or_else(|| self.time_of_record(self.doubt.first_timestamp()));
            self.counting = Some(offset);
            if let Some(cut) = self.cut_before(offset, stream_time) {
                self.counting = None;
                return Some(cut);
            }
            self.advance(stream_time);
            let mut doubted = self.doubt.pop()?;
            let decoded = doubted.decoded.take().map(|batch| std::mem::replace(&mut self.batch, batch));
            let is_read = decoded.is_some();
            decoded.into_iter().for_each(|batch| self.doubt.reuse(batch));
            let far = doubted.told.filter(|&told| self.doubt.is_far(told, stream_time));
            // By the ends of spans, each span has its own step all the same.
            if let Some(told) = far.filter(|_| self.clock.is_none()) {
                self.note_moved(offset, told, stream_time);
            }
            let record = doubted.record();
            match doubted.fate {
                Fate::Read => self.take(&record, record.tenant.filter(|_| is_read).map(Ok), stream_time),
                Fate::Refused(refusal) => {
                    self.count_read(&record);
                    self.count_refusal(refusal);
                }
                Fate::Isolated => self.count_isolated(&record),
            }
            self.counting = None;
        }
        None
    }

    pub(super) fn note_moved(&mut self, offset: i64, told: Millis, counted_at: Millis) {
        self.processors.ledger.add(Counter::RecordsFromFuture, 1);
        self.moved.get_or_insert(Moved { offset, told, counted_at, records: 0 }).records += 1;
    }

    /// The records that were counted at another time than their own since the last call.
    pub fn take_moved(&mut self) -> Option<Moved> {
        self.moved.take()
    }

    /// Nothing is known about the time of the partition: its first record is doubtful, too, until others follow.
    pub fn doubt_first(&mut self) {
        self.wary = self.stream_time.is_none();
    }

    /// The log ends here for now: takes the records without evidence against them. Commit the cuts before anything
    /// else.
    pub fn at_end(&mut self) -> Vec<StepCut> {
        std::iter::from_fn(|| self.believe(Patience::Clear)).collect()
    }

    /// Takes all records that were offered, whether or not their time is clear: no later record will come to confirm
    /// it. Commit the cuts before anything else.
    pub fn settle(&mut self) -> Vec<StepCut> {
        std::iter::from_fn(|| self.believe(Patience::Over)).collect()
    }

    /// The same in a replay of what a live group did: `time` was its stream time when all of them had been taken.
    pub(super) fn settle_as_at(&mut self, time: Millis) -> Vec<StepCut> {
        std::iter::from_fn(|| self.believe(Patience::Decided(time))).collect()
    }

    /// The offset at and above which nothing has been offered.
    #[must_use]
    pub fn read_up_to(&self) -> Option<i64> {
        self.doubt.last_offset().map(|last| last + 1).or(self.position)
    }
}
