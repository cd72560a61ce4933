//! What both kinds of task do with their journal: claim it, restore, write, and notice when it is no longer theirs.

use std::rc::Rc;

use super::mutation::Mutation;
use super::net::{Net, Topic};
use super::rng::Rng;
use spanmill::core::journal::frame::claim;
use spanmill::core::journal::{
    AcceptedFrame, AppendProgress, Frame, JournalWriter, MAX_PART, Notice, Owner, is_contested,
};

pub(crate) struct Session {
    pub(crate) owner: Owner,
    topic: Topic,
    pub(crate) channel: usize,
    mutation: Mutation,
    stage: Stage,
    /// What shards have written into the journal, in the order of the log.
    pub(crate) notices: Vec<Notice>,
    /// Up to where that is known.
    looked: i64,
}

enum Stage {
    Claiming,
    Restoring { claim: i64 },
    Running { writer: Box<JournalWriter>, gap: Option<(i64, i64)>, last: i64 },
}

/// What the task has to do next.
#[derive(PartialEq, Eq)]
pub(crate) enum Event {
    Nothing,
    /// Fold the journal up to this offset, and call [`Session::run`].
    Restore(i64),
    Accepted(Vec<AcceptedFrame>),
    Fenced,
    /// Claim again.
    Unknown,
}

// === impl Session ===

impl Session {
    pub(crate) fn claim(net: &mut Net, rng: &mut Rng, topic: Topic, mutation: Mutation) -> Self {
        let owner = Owner(rng.next().into());
        let mut channel = net.open(topic);
        net.send(channel, [claim(owner, "")]);
        let mut stage = Stage::Claiming;
        if mutation == Mutation::ClaimNotAwaited {
            // The claim is on its way; surely it will be the next record.
            stage = Stage::Restoring { claim: net.log(topic).end() };
            channel = net.open(topic);
        }
        Self { owner, topic, channel, mutation, stage, notices: Vec::new(), looked: 0 }
    }

    pub(crate) fn writer(&mut self) -> Option<&mut JournalWriter> {
        match &mut self.stage {
            Stage::Running { writer, .. } => Some(writer),
            _ => None,
        }
    }

    /// Whether another worker has claimed the journal after us.
    pub(crate) fn is_contested(&self, net: &Net, claim: i64) -> Result<bool, String> {
        let log = net.log(self.topic);
        let later = log.read(claim + 1, log.end()).iter().map(|(o, r)| (*o, &**r));
        is_contested(self.owner, 0, later).map_err(|e| e.to_string())
    }

    /// Looks for what shards have written behind our own last record.
    pub(crate) fn look(&mut self, net: &Net) {
        let log = net.log(self.topic);
        if let Stage::Running { last, .. } = self.stage {
            self.hear(log.read(self.looked.max(last + 1), log.end()));
        }
    }

    fn hear(&mut self, records: &[(i64, Rc<[u8]>)]) {
        let looked = self.looked;
        for (offset, record) in records.iter().filter(|(offset, _)| *offset >= looked) {
            let frame = Frame::decode(record).expect("the simulation writes only frames");
            self.notices.extend(Notice::of(&frame));
            self.looked = offset + 1;
        }
    }

    pub(crate) fn run(&mut self, rng: &mut Rng, next: Option<i64>, next_commit_number: u64) {
        if let Stage::Restoring { claim } = self.stage {
            self.looked = claim + 1;
            let writer = JournalWriter::new(self.owner, claim, next, next_commit_number);
            let writer = Box::new(writer.with_max_part([40, 90, MAX_PART][rng.below(3)]));
            self.stage = Stage::Running { writer, gap: None, last: claim };
        }
    }

    pub(crate) fn send(&self, net: &mut Net, records: Vec<Vec<u8>>) {
        net.send(self.channel, records);
    }

    /// One acknowledgement, or one gap.
    pub(crate) fn poll(&mut self, net: &mut Net, rng: &mut Rng) -> Result<Event, String> {
        let log = net.log(self.topic);
        let progress = match &mut self.stage {
            Stage::Restoring { claim } if log.start > *claim => return Ok(Event::Unknown),
            Stage::Restoring { claim } => return Ok(Event::Restore(*claim)),
            Stage::Claiming => {
                return Ok(match net.ack(self.channel) {
                    Some(Some(claim)) => {
                        self.stage = Stage::Restoring { claim };
                        Event::Nothing
                    }
                    Some(None) => Event::Unknown,
                    // It takes too long. The claim lands when it likes, behind the next one as well.
                    None if net.lossy && rng.below(200) == 0 => {
                        net.late_claims += usize::from(net.is_under_way(self.channel));
                        Event::Unknown
                    }
                    None => Event::Nothing,
                });
            }
            Stage::Running { gap: Some((after, _)), .. } if log.start > *after + 1 => return Ok(Event::Unknown),
            Stage::Running { writer, gap: gap @ Some(_), .. } => {
                let (after, before) = gap.take().expect("matched");
                let records = self.mutation.gap(log.read(after + 1, before));
                let read = writer.gap_read(records.iter().map(|(o, r)| (*o, &**r))).map_err(|e| e.to_string())?;
                self.hear(&records);
                read
            }
            Stage::Running { writer, last, .. } => {
                let Some(mut ack) = net.ack(self.channel) else { return Ok(Event::Nothing) };
                match (ack, self.mutation) {
                    (None, Mutation::UnknownTakenAsAccepted) => ack = Some(*last + 1),
                    (None, Mutation::UnknownTakenAsLost) => {
                        let claim = *last;
                        self.channel = net.open(self.topic);
                        self.stage = Stage::Restoring { claim };
                        return Ok(Event::Nothing);
                    }
                    _ => {}
                }
                *last = ack.unwrap_or(*last);
                writer.acknowledged(ack)
            }
        };
        Ok(match progress {
            AppendProgress::Pending => Event::Nothing,
            AppendProgress::Accepted(frames) => Event::Accepted(frames),
            AppendProgress::ReadGap { after, before } => {
                if let Stage::Running { gap, .. } = &mut self.stage {
                    *gap = Some((after, before));
                }
                Event::Nothing
            }
            AppendProgress::Fenced => Event::Fenced,
            AppendProgress::Unknown => Event::Unknown,
        })
    }
}
