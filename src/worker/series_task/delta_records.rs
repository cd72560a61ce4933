//! Adding delta records to a shard, and logging those that cannot be added.

use crate::core::deltas::DeltaRecordError;
use crate::core::tasks::series::{Applied, ApplyError, SeriesTask};

/// A delta record of a version that this worker does not know yet.
#[derive(Debug, thiserror::Error)]
#[error("deltas topic, shard {shard}, offset {offset}: {source}")]
pub(crate) struct UnknownDeltaRecord {
    shard: i32,
    offset: i64,
    source: ApplyError,
}

/// Adds one delta record, and returns the result.
pub(super) fn apply(
    task: &mut SeriesTask,
    shard: i32,
    offset: i64,
    record: &[u8],
) -> Result<Option<Applied>, UnknownDeltaRecord> {
    told(task.apply(record).map(Some), shard, offset)
}

/// Logs records that cannot be added as errors. Every worker skips a record that is no delta record: it would block its
/// shard permanently. If it was a delta record, its source does not advance beyond it.
pub(crate) fn told(
    applied: Result<Option<Applied>, ApplyError>,
    shard: i32,
    offset: i64,
) -> Result<Option<Applied>, UnknownDeltaRecord> {
    match &applied {
        Err(source @ ApplyError::DeltaRecord(DeltaRecordError::Newer(_))) => {
            return Err(UnknownDeltaRecord { shard, offset, source: *source });
        }
        Err(error) => {
            tracing::error!(shard, offset, %error, "skipping a record in the deltas topic that is not a delta \
                                                    record; check which process wrote it");
        }
        Ok(Some(Applied { lost, first_lost: Some(first), .. })) => {
            tracing::error!(shard, offset, lost, %first,
                "deltas without a label set are lost; unless a worker runs an earlier version, please report this bug");
        }
        Ok(_) => {}
    }
    Ok(applied.ok().flatten())
}
