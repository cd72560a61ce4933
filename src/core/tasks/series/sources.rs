//! What a shard knows of its sources: the stream time of each, and what its sender guarantees.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::deltas::{DeltaHead, Sender};
use crate::core::journal::DeltaChain;
use crate::core::model::Millis;
use crate::core::model::time::last_step;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};
use crate::core::series::VERSION_3;

/// All sources that ever sent a delta record, by topic and partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// Those that have finished one, or were forgotten.
    topics: BTreeMap<String, BTreeMap<i32, Source>>,
    /// Those whose first delta record is not complete yet. They hold memory, and do not hold steps back yet.
    begun: BTreeMap<(String, i32), Source>,
    /// What the settings of senders are, by fingerprint.
    told: BTreeMap<u64, Arc<str>>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// Its stream time.
    pub(super) at: Millis,
    /// For how long it names what it has mentioned; unknown of a sender of an earlier version.
    pub(super) respell_after: Option<Millis>,
    /// The fingerprint of its sender's settings.
    pub(super) settings: Option<u64>,
    /// No worker reads it any more.
    pub(super) gone: bool,
}

// === impl Source ===

impl Source {
    /// The source as a delta record describes it.
    fn of(head: &DeltaHead) -> Self {
        let sender = head.sender.as_ref();
        let (respell_after, settings) = (sender.map(|s| s.respell_after), sender.map(|s| s.settings));
        Self { at: head.stream_time, respell_after, settings, gone: false }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.at);
        for known in [self.respell_after.map(|after| after.max(0).unsigned_abs()), self.settings] {
            out.push(u8::from(known.is_some()));
            known.into_iter().for_each(|known| put_u64(out, known));
        }
        out.push(u8::from(self.gone));
    }

    fn decode(version: u8, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut source = Self { at: r.i64()?, respell_after: None, settings: None, gone: false };
        if version >= VERSION_3 {
            source.respell_after = if r.u8()? == 0 { None } else { Some(r.uint()?) };
            source.settings = if r.u8()? == 0 { None } else { Some(r.u64()?) };
            source.gone = r.u8()? != 0;
        }
        Ok(source)
    }

    /// The time from which on the source no longer names label sets that it mentioned last, for a shard that remembers
    /// for `memory`.
    fn names_since(&self, memory: Millis) -> Option<Millis> {
        match self.respell_after {
            // It has ended, and names no label set any more.
            _ if last_step(self.at).is_some() => Some(self.at),
            Some(after) => Some(self.at.saturating_sub((after - memory).max(0))),
            None => None,
        }
    }
}

// === impl Sources ===

impl Sources {
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&Source> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i32, &Source)> {
        self.topics
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |(&p, source)| (topic.as_str(), p, source)))
    }

    /// See [`super::SeriesTask::senders`].
    pub(super) fn senders(&self) -> impl Iterator<Item = (&str, i32, u64, Option<&str>)> {
        let known = self.iter().filter(|(_, _, source)| !source.gone);
        let known = known.filter_map(|(topic, partition, source)| Some((topic, partition, source.settings?)));
        known.map(|(topic, partition, settings)| (topic, partition, settings, self.told.get(&settings).map(|t| &**t)))
    }

    /// Takes the settings of the sender and the stream time of the source from a part of a delta record.
    pub(super) fn learn(&mut self, head: &DeltaHead) {
        if self.get(&head.topic, head.partition).is_none() {
            let at = last_step(head.stream_time).unwrap_or(head.stream_time);
            let begun = Source { at, ..Source::of(head) };
            self.begun.insert((head.topic.clone(), head.partition), begun);
        }
        if let Some(Sender { settings, told: Some(told), .. }) = &head.sender {
            let used: Vec<u64> = self.iter().filter_map(|(_, _, source)| source.settings).collect();
            self.told.retain(|known, _| used.contains(known));
            self.told.insert(*settings, Arc::clone(told));
        }
    }

    /// A delta record is complete.
    pub(super) fn advance(&mut self, head: &DeltaHead) {
        // Not by entry: a topic's name is copied once, not with every delta record.
        if !self.topics.contains_key(&head.topic) {
            self.topics.insert(head.topic.clone(), BTreeMap::new());
        }
        if let Some(partitions) = self.topics.get_mut(&head.topic) {
            let at = partitions.get(&head.partition).map_or(head.stream_time, |known| known.at.max(head.stream_time));
            partitions.insert(head.partition, Source { at, ..Source::of(head) });
        }
        if !self.begun.is_empty() {
            self.begun.remove(&(head.topic.clone(), head.partition));
        }
    }

    /// After a restore: sources in the chain without further data are in their first delta record. A snapshot of an
    /// earlier version does not hold their stream time: it is set to about that of the others, or of the shard at
    /// `closed`.
    pub(super) fn begin(&mut self, chain: &DeltaChain, closed: Millis) {
        let respell_after = self.iter().filter_map(|(_, _, source)| source.respell_after).max();
        let times = self.iter().map(|(_, _, source)| source.at).filter(|at| last_step(*at).is_none());
        let at = times.max().map_or(closed, |at| at.max(closed));
        for (topic, partition, _) in chain.sources() {
            let source = (topic.to_owned(), partition);
            if self.get(topic, partition).is_none() && !self.begun.contains_key(&source) {
                self.begun.insert(source, Source { at, respell_after, settings: None, gone: false });
            }
        }
    }

    /// The stream time up to which no source names what it mentioned `memory` before. None while one of them is in its first
    /// delta record.
    pub(super) fn watermark(&self, memory: Millis) -> Option<Millis> {
        if !self.begun.is_empty() {
            return None;
        }
        let waited_for = self.iter().filter(|(_, _, source)| !source.gone);
        let times = waited_for.map(|(_, _, source)| source.names_since(memory));
        times.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().min())
    }

    /// The sources that are not among the `configured` ones, sorted, and whose memory is over at `step`.
    pub(super) fn gone(&self, configured: &[(String, i32)], step: Millis, memory: Millis) -> Vec<(String, i32)> {
        let is_over = |source: &Source| {
            let memory = source.respell_after.unwrap_or(0).max(memory);
            !source.gone && step.saturating_sub(source.at) > memory
        };
        let begun = self.begun.iter().map(|((topic, partition), source)| (topic.as_str(), *partition, source));
        let over = self.iter().chain(begun).filter(|(_, _, source)| is_over(source));
        let left_out =
            |(topic, partition): &(String, i32)| !configured.iter().any(|(t, p)| t == topic && p == partition);
        let mut gone: Vec<_> =
            over.map(|(topic, partition, _)| (topic.to_owned(), partition)).filter(left_out).collect();
        gone.sort_unstable();
        gone
    }

    pub(super) fn let_go(&mut self, topic: &str, partition: i32) {
        if let Some(begun) = self.begun.remove(&(topic.to_owned(), partition)) {
            // Treated as a source that has finished a delta record: the steps that it might still hold back are closed.
            self.topics.entry(topic.to_owned()).or_default().insert(partition, Source { gone: true, ..begun });
        } else if let Some(source) = self.topics.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition)) {
            source.gone = true;
        }
    }

    /// Adds what another shard knows, which has counted the same delta records. It may have forgotten other sources, or have
    /// been restored from a snapshot of an earlier version: what keeps memory for longer counts.
    pub(super) fn merge(&mut self, other: Self) {
        let and = |mine: Source, other: Source| Source {
            at: mine.at.max(other.at),
            respell_after: mine.respell_after.max(other.respell_after),
            settings: mine.settings.or(other.settings),
            gone: mine.gone && other.gone,
        };
        for (topic, partitions) in other.topics {
            let known = self.topics.entry(topic).or_default();
            for (partition, source) in partitions {
                let both = known.get(&partition).map_or(source, |mine| and(*mine, source));
                known.insert(partition, both);
            }
        }
        for (place, source) in other.begun {
            let both = self.begun.get(&place).map_or(source, |mine| and(*mine, source));
            self.begun.insert(place, both);
        }
        let topics = &self.topics;
        self.begun.retain(|(topic, partition), _| !topics.get(topic).is_some_and(|all| all.contains_key(partition)));
        self.told.extend(other.told);
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.iter().count() as u64);
        self.iter().for_each(|(topic, partition, source)| put_source(out, topic, partition, source));
        put_u64(out, self.told.len() as u64);
        for (settings, told) in &self.told {
            put_u64(out, *settings);
            put_bytes(out, told.as_bytes());
        }
        put_u64(out, self.begun.len() as u64);
        self.begun.iter().for_each(|((topic, partition), source)| put_source(out, topic, *partition, source));
    }

    /// Reads what [`Sources::encode`] writes, or a snapshot of an earlier version has in its place.
    pub(super) fn decode(version: u8, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut sources = Self::default();
        for _ in 0..r.u64()? {
            let (topic, partition) = (r.str()?.to_owned(), r.uint()?);
            sources.topics.entry(topic).or_default().insert(partition, Source::decode(version, r)?);
        }
        for _ in 0..if version >= VERSION_3 { r.u64()? } else { 0 } {
            sources.told.insert(r.u64()?, Arc::from(r.str()?));
        }
        for _ in 0..if version >= VERSION_3 { r.u64()? } else { 0 } {
            sources.begun.insert((r.str()?.to_owned(), r.uint()?), Source::decode(version, r)?);
        }
        Ok(sources)
    }
}

fn put_source(out: &mut Vec<u8>, topic: &str, partition: i32, source: &Source) {
    put_bytes(out, topic.as_bytes());
    put_u64(out, u64::from(partition.unsigned_abs()));
    source.encode(out);
}
