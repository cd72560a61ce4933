//! A request as requests of one span each, so that it can be asked what becomes of a span alone.

use super::DecodeError;
use super::wire::{Fields, Payload};
use crate::core::model::wire::{put_bytes, put_u64};

/// `ResourceSpans.scope_spans` and `ScopeSpans.spans`.
const CHILDREN: u32 = 2;

/// The requests of those spans whose ordinals are `wanted`, in order. Each has the bytes of its span, and of its resource and
/// its scope, as they were.
///
/// # Errors
/// When the bytes are no request.
pub fn apart(request: &[u8], wanted: impl Fn(u32) -> bool) -> Result<Vec<Vec<u8>>, DecodeError> {
    let (mut out, mut ordinal) = (Vec::new(), 0);
    let mut fields = Fields::of(request);
    while let Some(field) = fields.next()? {
        let (1, Payload::Bytes(resource_spans)) = (field.number, field.payload) else { continue };
        let (of_resource, scopes) = split(resource_spans)?;
        for scope_spans in scopes {
            let (of_scope, spans) = split(scope_spans)?;
            for span in spans {
                if wanted(ordinal) {
                    out.push(joined(&[&of_resource, &of_scope], span));
                }
                ordinal += 1;
            }
        }
    }
    Ok(out)
}

/// The fields of a message without its children, and the children.
fn split(message: &[u8]) -> Result<(Vec<u8>, Vec<&[u8]>), DecodeError> {
    let (mut own, mut children) = (Vec::new(), Vec::new());
    let mut fields = Fields::of(message);
    loop {
        let before = fields.rest();
        match fields.next()? {
            Some(field) => match (field.number, field.payload) {
                (CHILDREN, Payload::Bytes(child)) => children.push(child),
                _ => own.extend_from_slice(&before[..before.len() - fields.rest().len()]),
            },
            None => return Ok((own, children)),
        }
    }
}

/// A request of one span, below messages with these fields, the outermost first.
fn joined(around: &[&[u8]], span: &[u8]) -> Vec<u8> {
    let mut child = span.to_vec();
    for own in around.iter().rev() {
        let mut message = own.to_vec();
        put_field(&mut message, CHILDREN, &child);
        child = message;
    }
    let mut request = Vec::with_capacity(child.len() + 11);
    put_field(&mut request, 1, &child);
    request
}

fn put_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_u64(out, u64::from(number) << 3 | 2);
    put_bytes(out, bytes);
}

#[cfg(test)]
mod tests {
    use super::super::Batch;
    use super::*;

    /// Two resources; the first has two scopes, with two spans and one.
    fn request() -> Vec<u8> {
        let message = |fields: &[(u32, &[u8])]| {
            let mut out = Vec::new();
            fields.iter().for_each(|(number, bytes)| put_field(&mut out, *number, bytes));
            out
        };
        let span = |name: &str| message(&[(5, name.as_bytes())]);
        let scope = |name: &str| message(&[(1, name.as_bytes())]);
        let attribute =
            |value: &str| message(&[(1, &message(&[(1, b"service.name"), (2, &message(&[(1, value.as_bytes())]))]))]);
        let first = message(&[(1, &scope("jdbc")), (2, &span("a")), (2, &span("b"))]);
        let second = message(&[(2, &span("c")), (1, &scope("http"))]);
        let one = message(&[(2, &first), (1, &attribute("web")), (2, &second)]);
        let other = message(&[(1, &attribute("cart")), (2, &message(&[(2, &span("d"))]))]);
        message(&[(1, &one), (9, b"unknown"), (1, &other)])
    }

    /// Service, scope and name of every span.
    fn seen(request: &[u8]) -> Vec<[String; 3]> {
        let mut batch = Batch::new();
        batch.decode(request).expect("a request");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut out = Vec::new();
        for spans in batch.resources(request) {
            let service = spans.resource.get(b"service.name").map(|value| text(&value.text())).unwrap_or_default();
            out.extend(spans.spans().map(|s| [service.clone(), text(spans.scope(s.ordinal).name), text(s.name)]));
        }
        out
    }

    #[test]
    fn every_span_keeps_its_resource_and_its_scope() {
        let request = request();
        let all = apart(&request, |_| true).expect("a request");
        assert_eq!(all.iter().flat_map(|one| seen(one)).collect::<Vec<_>>(), seen(&request));
        assert!(all.iter().all(|one| seen(one).len() == 1));
        let some = apart(&request, |ordinal| ordinal % 2 == 1).expect("a request");
        assert_eq!(some, [all[1].clone(), all[3].clone()]);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(apart(&[0x0a, 5, 1], |_| true).is_err());
        assert_eq!(apart(&[], |_| true), Ok(Vec::new()));
    }
}
