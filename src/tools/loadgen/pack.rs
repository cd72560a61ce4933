//! Spans → the bytes of one `ExportTraceServiceRequest`.

use super::template::{SPAN_TAG, Span, field_len};
use super::topology::Topology;
use crate::core::model::wire::put_u64;

/// Packs spans into requests. Keeps its memory between records.
#[derive(Debug, Clone, Default)]
pub(super) struct Packer {
    /// Per service: the positions of its spans in the record. Only those named in `order` are in use.
    of_service: Vec<Vec<u32>>,
    /// The services of the record, in order of their first span.
    order: Vec<usize>,
}

// === impl Packer ===

impl Packer {
    /// The request with `spans`, one `ResourceSpans` per service, in the order of their first span.
    pub(super) fn pack(&mut self, topology: &Topology, spans: &[Span]) -> Vec<u8> {
        self.sort(topology, spans);
        let mut out = Vec::with_capacity(self.estimate(topology, spans));
        for &service in &self.order {
            let members = &mut self.of_service[service];
            let length = |&i: &u32| {
                let span = &spans[i as usize];
                topology.ops[span.op as usize].template.len(span)
            };
            topology.services[service].template.open(members.iter().map(length).map(field_len).sum(), &mut out);
            for i in members.drain(..) {
                let span = &spans[i as usize];
                let template = &topology.ops[span.op as usize].template;
                out.push(SPAN_TAG);
                put_u64(&mut out, template.len(span) as u64);
                template.encode(span, &mut out);
            }
        }
        out
    }

    fn sort(&mut self, topology: &Topology, spans: &[Span]) {
        self.of_service.resize(topology.services.len(), Vec::new());
        self.order.clear();
        for (i, span) in (0..).zip(spans) {
            let service = topology.ops[span.op as usize].service;
            if self.of_service[service].is_empty() {
                self.order.push(service);
            }
            self.of_service[service].push(i);
        }
    }

    fn estimate(&self, topology: &Topology, spans: &[Span]) -> usize {
        let around: usize = self.order.iter().map(|&s| topology.services[s].template.overhead()).sum();
        around + spans.iter().map(|s| topology.ops[s.op as usize].template.len(s) + 4).sum::<usize>()
    }
}
