use super::*;
use crate::core::deltas::{CellDelta, DeltaRecord, Pieces};
use crate::core::model::{Family, Naming, Native, Shape, Spec};

fn layout() -> Arc<Layout> {
    Arc::new(Layout::new(Family::SpanMetrics, &[100, 200]))
}

fn head(commit_number: u64, stream_time: Millis) -> DeltaHead {
    DeltaHead {
        topic: "spans".into(),
        partition: 3,
        commit_number,
        part: 0,
        parts: 0,
        step: 15_000,
        stream_time,
        sender: None,
        tenants: Vec::new(),
    }
}

fn find(t: &mut DeltaTable, service: &str) -> SetId {
    let layout = layout();
    t.find(service.as_bytes(), |b| {
        b.set("service", service);
        Ok::<_, ()>(Define { tenant: "t".into(), layout })
    })
    .expect("defines")
}

fn sets(cut: &Cut) -> Vec<(SetName, bool, Vec<CellDelta>)> {
    let mut out = Vec::new();
    for record in cut.delta_records.iter().flatten() {
        let mut delta_record = DeltaRecord::decode(record).expect("decodes");
        while let Some(s) = delta_record.next_set().expect("decodes") {
            out.push((s.name, s.spelled.is_some(), s.cells));
        }
    }
    out
}

#[test]
fn a_cut_holds_what_was_added_and_the_next_one_starts_at_zero() {
    let mut t = DeltaTable::new(1_000);
    let id = find(&mut t, "a");
    t.add(id, 0, 2);
    t.observe(id, 0, 150, Weight::ONE, Some((14_000, [7; 16])));
    let cut = t.cut(head(0, 15_000), 4);
    assert_eq!(cut.delta_records.len(), 4);
    let got = sets(&cut);
    assert_eq!(got.len(), 1);
    assert!(got[0].1, "spelled the first time");
    let cells: Vec<_> = got[0].2.iter().map(|c| (c.cell, c.value)).collect();
    assert_eq!(cells, [(0, 2), (3, 1), (5, 150)]);
    assert!(sets(&t.cut(head(1, 15_000), 4)).is_empty());
}

#[test]
fn a_set_in_use_is_named_and_an_idle_one_is_spelled_again() {
    let mut t = DeltaTable::new(1_000);
    for (commit_number, at, spelled) in [(0, 0, true), (1, 900, false), (2, 1_800, false), (3, 2_900, true)] {
        let id = find(&mut t, "a");
        t.add(id, 0, 1);
        assert_eq!(sets(&t.cut(head(commit_number, at), 2))[0].1, spelled, "delta record {commit_number}");
    }
}

#[test]
fn idle_sets_are_forgotten() {
    let mut t = DeltaTable::new(1_000);
    let id = find(&mut t, "a");
    t.add(id, 0, 1);
    t.cut(head(0, 0), 1);
    assert_eq!(t.len(), 1);
    t.cut(head(1, 1_001), 1);
    assert!(t.is_empty());
    find(&mut t, "a");
    assert_eq!(t.len(), 1);
}

#[test]
fn every_open_step_has_parts_of_its_own_and_every_shard_the_sketches_of_all() {
    let mut t = DeltaTable::new(1_000);
    t.set_limited(Limited { others: true, ..Limited::default() });
    // In no order, and twice the same label set in two steps.
    for (ahead, service) in [(30_000, "a"), (0, "b"), (30_000, "c"), (0, "a"), (15_000, "a"), (30_000, "a")] {
        t.turn_to(ahead);
        let id = find(&mut t, service);
        t.add(id, 0, 1);
    }
    t.turn_to(0);
    assert_eq!(t.len(), 5);
    let cut = t.cut(head(0, 0), 4);
    assert_eq!(cut.sets, 5);
    let mut grown = BTreeMap::new();
    for records in &cut.delta_records {
        let parts: Vec<_> = records.iter().map(|r| DeltaRecord::decode(r).expect("decodes")).collect();
        let said: Vec<_> = parts.iter().map(|s| (s.head.step, s.head.part, s.head.parts)).collect();
        assert_eq!(said, [(15_000, 0, 3), (30_000, 1, 3), (45_000, 2, 3)]);
        let known: Vec<_> = parts.iter().map(|s| s.head.tenants[0].1.estimate()).collect();
        assert_eq!(known, [2, 1, 2]);
        for mut delta_record in parts {
            while let Some(set) = delta_record.next_set().expect("decodes") {
                *grown.entry((delta_record.head.step, set.name)).or_insert(0) += set.cells[0].value;
                assert!(set.spelled.is_some());
            }
        }
    }
    let of = |step| grown.iter().filter(|((s, _), _)| *s == step).map(|(_, n)| *n).sum::<u64>();
    assert_eq!((grown.len(), [15_000, 30_000, 45_000].map(of)), (5, [2, 1, 3]));
    let again = find(&mut t, "b");
    t.add(again, 0, 1);
    let cut = t.cut(head(1, 1), 4);
    assert!(cut.delta_records.iter().all(|records| records.len() == 1), "a cut closes what was open");
    assert!(!sets(&cut)[0].1, "the oldest step knows it");
}

#[test]
fn a_step_without_limits_reaches_only_the_shards_that_have_something() {
    let mut t = DeltaTable::new(1_000);
    t.turn_to(60_000);
    let id = find(&mut t, "a");
    t.add(id, 0, 1);
    let cut = t.cut(head(7, 77), 3);
    let mut steps = Vec::new();
    for records in &cut.delta_records {
        assert_eq!(records.len(), 1);
        let delta_record = DeltaRecord::decode(&records[0]).expect("decodes");
        assert_eq!((delta_record.head.commit_number, delta_record.head.stream_time), (7, 77));
        steps.push(delta_record.head.step);
    }
    steps.sort_unstable();
    assert_eq!(steps, [15_000, 15_000, 75_000]);
}

#[test]
fn an_empty_delta_record_still_carries_the_stream_time() {
    let mut t = DeltaTable::new(1_000);
    let cut = t.cut(head(5, 77), 3);
    for records in &cut.delta_records {
        let delta_record = DeltaRecord::decode(&records[0]).expect("decodes");
        assert_eq!(
            (delta_record.head.commit_number, delta_record.head.stream_time, delta_record.head.parts),
            (5, 77, 1)
        );
    }
}

#[test]
fn a_large_delta_record_is_cut_into_parts_below_the_limit() {
    let mut t = DeltaTable::new(1_000);
    for i in 0..20_000 {
        let id = find(&mut t, &format!("service-with-a-rather-long-name-{i}"));
        t.observe(id, 0, i, Weight::ONE, Some((0, [1; 16])));
    }
    let cut = t.cut(head(0, 0), 1);
    let records = &cut.delta_records[0];
    assert!(records.len() > 1);
    for (i, r) in records.iter().enumerate() {
        assert!(r.len() < 900_000);
        let delta_record = DeltaRecord::decode(r).expect("decodes");
        assert_eq!((delta_record.head.part as usize, delta_record.head.parts as usize), (i, records.len()));
    }
    assert_eq!(sets(&cut).len(), 20_000);
}

#[test]
fn label_sets_of_one_route_share_a_shard_and_shares_count_tenants_with_a_limit() {
    let mut t = DeltaTable::new(1_000);
    t.set_limited(Limited { others: true, named: [("u".to_owned(), false)].into() });
    for (tenant, service, span) in [("t", "a", "x"), ("t", "a", "y"), ("t", "b", "x"), ("u", "a", "x"), ("t", "a", "x")]
    {
        // The last one has other raw bytes and equal labels.
        let key = format!("{tenant}{service}{span}{}", t.len());
        let define = |b: &mut LabelBuilder| {
            b.set("service", service);
            b.set("span_name", span);
            Ok::<_, ()>(Define { tenant: tenant.into(), layout: layout() })
        };
        let id = t.find(key.as_bytes(), define).expect("defines");
        t.add(id, 0, 1);
    }
    let cut = t.cut(head(0, 0), 4);
    let delta_records: Vec<_> =
        cut.delta_records.iter().map(|records| DeltaRecord::decode(&records[0]).expect("decodes")).collect();
    let home = |tenant: &str, service: &str| {
        let mut labels = LabelBuilder::default();
        labels.set("service", service);
        shard_of(tenant, Family::SpanMetrics, &labels.block(), 4) as usize
    };
    // The last set is there twice: two raw keys.
    let mut expected = [0; 4];
    for (tenant, service, sets) in [("t", "a", 3), ("t", "b", 1), ("u", "a", 1)] {
        expected[home(tenant, service)] += sets;
    }
    let counted = |s: &DeltaRecord<'_>| s.head.tenants.iter().map(|(t, sets)| (t.clone(), sets.estimate())).collect();
    let tenants: Vec<Vec<_>> = delta_records.iter().map(counted).collect();
    assert_eq!(tenants, vec![vec![("t".to_owned(), 3)]; 4], "all shards know, whatever else is in the commit");
    let count =
        |mut delta_record: DeltaRecord<'_>| std::iter::from_fn(|| delta_record.next_set().expect("decodes")).count();
    assert_eq!(delta_records.into_iter().map(count).collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_no_label_does_not_part_equal_labels() {
    let mut t = DeltaTable::new(1_000);
    for service in ["a", "b", "c", "d", "e", "f"] {
        let id = t.find(service.as_bytes(), |b| {
            b.set("span_name", "x");
            Ok::<_, ()>(Define { tenant: "t".into(), layout: layout() })
        });
        t.add(id.expect("defines"), 0, 1);
    }
    let cut = t.cut(head(0, 0), 8);
    let filled = cut
        .delta_records
        .iter()
        .filter(|records| DeltaRecord::decode(&records[0]).expect("decodes").next_set().expect("decodes").is_some());
    assert_eq!(filled.count(), 1);
}

#[test]
fn later_parts_do_not_count_the_tenants_again() {
    let mut t = DeltaTable::new(1_000);
    t.set_limited(Limited { others: true, ..Limited::default() });
    for i in 0..20_000 {
        let id = find(&mut t, &format!("service-with-a-rather-long-name-{i}"));
        t.add(id, 0, 1);
    }
    let cut = t.cut(head(0, 0), 1);
    let tenants =
        cut.delta_records[0].iter().map(|r| DeltaRecord::decode(r).expect("decodes").head.tenants).collect::<Vec<_>>();
    assert!(tenants[0][0].1.estimate().abs_diff(20_000) < 2_000);
    assert!(tenants.len() > 1 && tenants[1..].iter().all(Vec::is_empty));
}

/// A table with one set, whose layout has weights and a native histogram.
fn weighing() -> (DeltaTable, SetId, Layout) {
    let native = Native { schema: 3, max_buckets: 2 };
    let histograms = vec![Some(Shape::native(native))];
    let (family, naming) = (Family::SpanMetrics, Naming::Tempo);
    let layout = Layout::of(&Spec { family, naming, weighted: true, histograms });
    let mut t = DeltaTable::new(1_000);
    let define = |_: &mut LabelBuilder| Ok::<_, ()>(Define { tenant: "t".into(), layout: Arc::new(layout.clone()) });
    let id = t.find(b"key", define).expect("defines");
    (t, id, layout)
}

#[test]
fn weights_native_buckets_and_examples_of_counters_reach_the_delta_record() {
    let (mut t, id, layout) = weighing();
    let weight = Weight::from_ratio(0.4).expect("a weight");
    for seconds in [1, 2, 4, 8] {
        t.count(id, 0, weight);
        t.observe(id, 0, seconds * 1_000_000_000, weight, None);
    }
    t.exemplify(id, 0, 7, None);
    t.exemplify(id, 0, 7, Some((9, [1; 16])));
    let cut = t.cut(head(0, 0), 1);
    let mut delta_record = DeltaRecord::decode(&cut.delta_records[0][0]).expect("decodes");
    let set = delta_record.next_set().expect("decodes").expect("a set");
    let native: Vec<_> = set.natives.get(0).expect("native").buckets().collect();
    let bits = u128::from(weight.bits());
    assert_eq!(native, [(0, bits), (8, bits), (16, bits), (24, bits)], "deltas have the finest resolution");
    let mut cells = vec![0; layout.cells()];
    set.cells.iter().for_each(|c| cells[c.cell as usize] = c.value);
    assert_eq!(layout.counter_value(&cells, 0), Some(10.0));
    assert_eq!(layout.sum_value(&cells, 0).to_bits(), 37.5f64.to_bits());
    let e = Exemplar { at: 9, trace_id: [1; 16], value_ns: 7 };
    assert_eq!(set.exemplars, [(layout.counter(0) as u32, e)]);
}

#[test]
fn the_estimate_counts_all_that_an_open_stretch_holds() {
    let (mut t, id, _) = weighing();
    assert_eq!(t.estimate(), 0, "an interned set that nothing touched costs no cut");
    t.observe(id, 0, 1, Weight::ONE, None);
    let one = t.estimate();
    assert!(one > size_of::<Set>() + b"key".len());
    t.observe(id, 0, 1, Weight::ONE, None);
    assert_eq!(t.estimate(), one);
    for i in 1..=30 {
        t.observe(id, 0, 1 << i, Weight::ONE, Some((0, [1; 16])));
    }
    assert_eq!(t.estimate(), one + 30 * (NATIVE_BUCKET + EXEMPLAR));
    t.cut(head(0, 0), 1);
    assert_eq!(t.estimate(), 0);
}

#[test]
fn damaged_delta_records_are_errors() {
    let mut t = DeltaTable::new(1_000);
    let id = find(&mut t, "a");
    t.observe(id, 0, 1, Weight::ONE, Some((0, [1; 16])));
    let record = t.cut(head(0, 0), 1).delta_records.remove(0).remove(0);
    for i in 0..record.len() {
        let mut bad = record.clone();
        bad[i] ^= 0x10;
        assert!(DeltaRecord::decode(&bad).is_err());
        assert!(DeltaRecord::decode(&record[..i]).is_err());
    }
}

#[test]
fn what_is_announced_and_fetched_is_found_as_if_it_had_not_been() {
    struct Name(&'static str);
    impl RawKey for Name {
        fn visit(&self, pieces: &mut impl Pieces) {
            pieces.text(Some(self.0.as_bytes()));
        }
    }
    let delta_records = |announced: &[&'static str]| {
        let (mut t, prefix) = (DeltaTable::new(1_000), Prefix::default());
        for name in ["a", "b", "a", "c"] {
            announced.iter().for_each(|name| t.announce(&prefix, &Name(name)));
            t.fetch();
            let define = |b: &mut LabelBuilder| {
                b.set("service", name);
                Ok::<_, ()>(Define { tenant: "t".into(), layout: layout() })
            };
            let id = t.find_pieces(&prefix, &Name(name), define).expect("defines");
            t.add(id, 0, 1);
        }
        assert_eq!((t.len(), t.is_scattered()), (3, false));
        t.cut(head(0, 0), 2).delta_records
    };
    assert_eq!(delta_records(&[]), delta_records(&["a", "nobody", "a", "c"]));
}
