//! What the partitions of a worker may fetch ahead, divided between them.

use std::time::{Duration, Instant};

use super::parts::Parts;
use crate::worker::kafka::fetch::FetchView;
use crate::worker::kafka::{Fetcher, KafkaError};
use crate::worker::task::Clients;
use crate::worker::telemetry::{TaskId, TaskKind};

/// How many partitions a worker may own at worst.
pub(super) fn partitions(parts: &Parts) -> usize {
    parts.sources.all().len() + parts.clients.config.kafka.shards as usize
}

/// A consumer whose queues delta record with those of so many partitions what may be fetched ahead.
pub(super) fn fetcher(parts: &Parts, partitions: usize) -> Result<Fetcher, KafkaError> {
    let Clients { config, names, telemetry, memory, .. } = &*parts.clients;
    let telemetry = telemetry.clone();
    let deltas = names.deltas();
    let on_seen = Box::new(move |topic: &str, partition: i32, seen: FetchView| {
        let kind = if topic == deltas { TaskKind::Series } else { TaskKind::Span };
        let id = TaskId { kind, topic: topic.to_owned(), partition };
        let present = Instant::now();
        // Nothing is asked for while there is enough to take.
        let heard = if seen.fetched > 0 { Some(Duration::ZERO) } else { seen.heard };
        telemetry.tasks().update_known(&id, |s| {
            s.end_offset = seen.end.map_or(s.end_offset, |end| s.end_offset.max(end));
            s.open_from = seen.open;
            s.heard = heard.and_then(|ago| present.checked_sub(ago)).max(s.heard);
            s.fetched = seen.fetched;
        });
    });
    let buffer = memory.fetch_ahead(config.worker.fetch_buffer_bytes, partitions);
    Fetcher::new(&config.kafka, buffer, on_seen)
}
