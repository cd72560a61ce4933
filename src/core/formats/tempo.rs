//! Tempo's ingest records of codec `push-bytes`.

use super::FormatError;
use super::protobuf::fields;

/// The field of the traces: each is a `TracesData`, so all of them one after the other are one, too.
const TRACES: u64 = 2;
/// The field that excludes a record from metrics.
const NO_METRICS: u64 = 5;

/// Appends the traces, unless they are not for metrics: then it is false.
pub(super) fn push_bytes(value: &[u8], out: &mut Vec<u8>) -> Result<bool, FormatError> {
    let start = out.len();
    let (mut excluded, mut traces) = (false, false);
    fields(value, |number, wire_type, payload, varint| match (number, wire_type) {
        (TRACES, 2) => {
            traces = true;
            out.extend_from_slice(payload);
        }
        (NO_METRICS, 0) => excluded = varint != 0,
        _ => {}
    })
    .ok_or(FormatError::Proto("Tempo's push-bytes"))?;
    if excluded {
        out.truncate(start);
    } else if !traces && !value.is_empty() {
        // Tempo sends no such record: it only begins like one, and its spans would be lost silently.
        return Err(FormatError::Proto("Tempo's push-bytes"));
    }
    Ok(!excluded)
}
