use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A span with its trace ID, a name, and a field that OTLP does not have.
fn span(trace: &[u8], name: &str) -> Vec<u8> {
    [field(1, trace), field(2, &[7; 8]), field(5, name.as_bytes()), field(99, b"unknown")].concat()
}

fn trace(n: u128) -> [u8; 16] {
    n.to_be_bytes()
}

/// Resources of scopes of spans.
type Shape = Vec<Vec<Vec<(u128, usize)>>>;

/// A request of that shape; each span has a name of its own, some fields lie behind their children.
fn request(shape: &Shape) -> Vec<u8> {
    let mut name = 0;
    let mut out = Vec::new();
    for (r, scopes) in shape.iter().enumerate() {
        let mut resource = field(1, &field(1, &field(1, format!("resource {r}").as_bytes())));
        for (s, spans) in scopes.iter().enumerate() {
            let mut scope = field(1, &field(1, format!("scope {s}").as_bytes()));
            for (id, padding) in spans {
                scope.extend(field(2, &span(&trace(*id), &format!("{name}{}", "x".repeat(*padding)))));
                name += 1;
            }
            scope.extend(field(3, b"schema of the scope"));
            resource.extend(field(2, &scope));
        }
        resource.extend(field(98, b"of the resource"));
        out.extend(field(1, &resource));
    }
    out
}

/// Every span of a request with the bytes around it: of its resource, its scope, and its own; and the fields that are of
/// neither.
fn seen(request: &[u8]) -> (Vec<[Vec<u8>; 3]>, Vec<u8>) {
    let own = |message: &[u8]| {
        let (mut own, mut children) = (Vec::new(), Vec::new());
        fields(message, |field| match field.payload_of(CHILDREN) {
            Some(child) => children.push(child.to_vec()),
            None => own.extend_from_slice(field.raw),
        });
        (own, children)
    };
    let (mut out, mut rest) = (Vec::new(), Vec::new());
    fields(request, |field| match field.payload_of(RESOURCE_SPANS) {
        Some(resource) => {
            let (resource, scopes) = own(resource);
            for scope in scopes {
                let (scope, spans) = own(&scope);
                out.extend(spans.into_iter().map(|span| [resource.clone(), scope.clone(), span]));
            }
        }
        None => rest.extend_from_slice(field.raw),
    });
    (out, rest)
}

fn trace_of(span: &[u8]) -> Vec<u8> {
    let mut id = Vec::new();
    fields(span, |field| id.extend_from_slice(field.payload_of(1).unwrap_or_default()));
    id
}

fn split(encoding: Encoding, value: &[u8], partitions: u32) -> (usize, Vec<(u32, Vec<u8>)>) {
    let mut pieces = Vec::new();
    let spans =
        Repartition::default().split(encoding, value, partitions, &mut |at, piece| pieces.push((at, piece.to_vec())));
    (spans, pieces)
}

#[test]
fn the_partition_of_a_trace_never_changes() {
    // Spans of a trace that are already in the topic have their partition.
    assert_eq!(partition_of(&trace(1), 6), Some(1));
    assert_eq!(partition_of(&trace(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c), 64), Some(50));
    for none in [&[][..], &[1; 8], &[0; 16], &[1; 17]] {
        assert_eq!(partition_of(none, 6), None);
    }
}

#[test]
fn a_record_of_one_trace_or_of_one_partition_is_passed_on_as_it_is() {
    let one = request(&vec![vec![vec![(7, 0), (7, 0)], vec![(7, 0)]], vec![vec![(7, 0)]]]);
    assert_eq!(split(Encoding::Auto, &one, 6), (4, vec![(partition_of(&trace(7), 6).expect("a trace"), one.clone())]));
    let many = request(&vec![vec![vec![(1, 0), (2, 0), (3, 0)]]]);
    assert_eq!(split(Encoding::OtlpProto, &many, 1), (3, vec![(0, many.clone())]));
}

#[test]
fn what_cannot_be_decoded_is_passed_on_as_it_is_and_once() {
    for value in [&[0x0a, 5, 1][..], b"no request", &[0x1f, 0x8b, 1, 2], &[]] {
        let (spans, pieces) = split(Encoding::Auto, value, 6);
        assert_eq!((spans, pieces), (0, vec![(place(value, 6), value.to_vec())]));
    }
    // A span that is malformed refuses the whole record, as it does in the span task.
    let bad = field(1, &field(2, &[field(2, &span(&trace(1), "a")), field(2, &[0x0a, 9])].concat()));
    assert_eq!(split(Encoding::OtlpProto, &bad, 6).1, [(place(&bad, 6), bad.clone())]);
}

#[test]
fn spans_without_a_trace_id_stay_together_and_a_resource_without_spans_is_kept_once() {
    let empty = field(1, &field(1, &field(1, &field(1, b"no spans"))));
    let scope: Vec<u8> = [&[0; 16][..], &[1; 4], &[], &trace(1), &trace(2), &trace(3)]
        .iter()
        .flat_map(|id| field(2, &span(id, "a")))
        .collect();
    let value = [field(1, &field(2, &scope)), empty.clone(), field(77, b"new")].concat();
    let (spans, pieces) = split(Encoding::Auto, &value, 64);
    assert_eq!(spans, 6);
    let home = place(&value, 64);
    let at_home: Vec<_> = pieces.iter().filter(|(at, _)| *at == home).collect();
    assert_eq!((at_home.len(), seen(&at_home[0].1).0.len()), (1, 3));
    let holds = |piece: &[u8]| piece.windows(empty.len()).filter(|part| *part == empty).count();
    assert_eq!(pieces.iter().map(|(_, piece)| holds(piece)).sum::<usize>(), 1);
    assert!(pieces.iter().all(|(_, piece)| seen(piece).1 == field(77, b"new")), "the request's own fields");
}

#[test]
fn another_format_is_rewritten_and_then_split() {
    let id = |n: u8| format!("{n:032x}");
    let zipkin = format!(
        r#"[{{"traceId":"{}","id":"0000000000000001","name":"a"}},{{"traceId":"{}","id":"0000000000000002","name":"b"}}]"#,
        id(1),
        id(2)
    );
    let (spans, pieces) = split(Encoding::Auto, zipkin.as_bytes(), 64);
    assert_eq!((spans, pieces.len()), (2, 2));
    for (at, piece) in pieces {
        assert!(formats::is_otlp_proto(Encoding::Auto, &piece));
        assert_eq!(partition_of(&trace_of(&seen(&piece).0[0][2]), 64), Some(at));
    }
    assert_eq!(split(Encoding::JaegerProto, zipkin.as_bytes(), 64).1, [(place(zipkin.as_bytes(), 64), zipkin.into())]);
}

#[test]
fn a_long_record_becomes_pieces_that_a_broker_takes() {
    let shape = vec![vec![(0..40).map(|n| (n % 2, 100 << 10)).collect()]];
    let value = request(&shape);
    for partitions in [1, 64] {
        let (spans, pieces) = split(Encoding::OtlpProto, &value, partitions);
        assert_eq!(spans, 40);
        assert!(pieces.len() >= 6 && pieces.iter().all(|(_, piece)| piece.len() < LONGEST + (101 << 10)));
        assert_eq!(pieces.iter().map(|(_, piece)| seen(piece).0.len()).sum::<usize>(), 40);
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let padding = prop_oneof![20 => Just(0_usize), 1 => 1_000..300_000_usize];
    let spans = prop::collection::vec((0..12_u128, padding), 0..6);
    prop::collection::vec(prop::collection::vec(spans, 0..4), 0..4)
}

proptest! {
    #[test]
    fn no_span_is_lost_or_doubled_and_each_keeps_its_bytes_its_place_and_its_order(
        shape in shapes(),
        partitions in 1..9_u32,
        rest in prop_oneof![Just(Vec::new()), Just(field(50, b"new"))],
    ) {
        let value = [request(&shape), rest].concat();
        let (spans, pieces) = split(Encoding::OtlpProto, &value, partitions);
        let (all, _) = seen(&value);
        prop_assert_eq!(spans, all.len());
        let by_trace = |spans: Vec<[Vec<u8>; 3]>| {
            let mut traces: BTreeMap<Vec<u8>, Vec<[Vec<u8>; 3]>> = BTreeMap::new();
            spans.into_iter().for_each(|span| traces.entry(trace_of(&span[2])).or_default().push(span));
            traces
        };
        let mut found = Vec::new();
        let mut batch = Batch::new();
        for (at, piece) in &pieces {
            prop_assert!(*at < partitions);
            prop_assert!(batch.decode(piece).is_ok());
            prop_assert_eq!(formats::is_otlp_proto(Encoding::Auto, piece), formats::is_otlp_proto(Encoding::Auto, &value));
            for span in seen(piece).0 {
                prop_assert_eq!(partition_of(&trace_of(&span[2]), partitions).unwrap_or(place(&value, partitions)), *at);
                found.push(span);
            }
        }
        prop_assert_eq!(by_trace(found), by_trace(all));
    }

    #[test]
    fn any_bytes_become_pieces_with_as_many_spans(value in prop::collection::vec(any::<u8>(), 0..200), partitions in 1..5_u32) {
        let mut batch = Batch::new();
        let decoded = batch.decode(&value).is_ok();
        let (spans, pieces) = split(Encoding::OtlpProto, &value, partitions);
        if decoded && !value.first().is_some_and(|first| [0, 0x1f, 0x28].contains(first)) {
            prop_assert_eq!(spans, batch.len());
        } else {
            prop_assert!(!pieces.is_empty());
        }
    }
}
