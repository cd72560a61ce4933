use super::native::{index_of, upper};
use super::*;
use crate::core::model::wire::Reader;
use crate::core::model::{Exemplar, Weight};

const BOUNDS: [u64; 2] = [100, 200];

fn native(schema: i8, max_buckets: u16) -> Native {
    Native { schema, max_buckets }
}

/// Span metrics with one histogram.
fn spans(shape: Option<Shape>, weighted: bool) -> Layout {
    let naming = Naming::Tempo;
    Layout::of(&Spec { family: Family::SpanMetrics, naming, weighted, histograms: vec![shape] })
}

fn observed(layout: &Layout, values: &[u64]) -> Numbers {
    let mut numbers = layout.zeros();
    for &v in values {
        layout.observe(&mut numbers, 0, v, Weight::ONE);
    }
    numbers
}

/// `numbers` of layout `from`, in layout `to`.
fn moved(to: &Layout, from: &Layout, numbers: &Numbers) -> Numbers {
    let mut out = to.zeros();
    to.add_from(&mut out.cells, &mut out.natives, from, (&numbers.cells, &numbers.natives));
    to.bound(&mut out.natives);
    out
}

fn buckets(layout: &Layout, numbers: &Numbers) -> Vec<u128> {
    (0..layout.buckets(0)).map(|i| layout.bucket_of(&numbers.cells, 0, i)).collect()
}

fn native_buckets(numbers: &Numbers) -> Vec<(i32, u128)> {
    numbers.natives.get(0).expect("native").buckets().collect()
}

/// Splitmix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

// === cells ===

#[test]
fn a_value_equal_to_a_bound_falls_into_that_bucket() {
    let l = Layout::new(Family::ServiceGraph, &BOUNDS);
    assert_eq!(l.bucket(0, 100), l.histogram(0));
    assert_eq!(l.bucket(0, 101), l.histogram(0) + 1);
    assert_eq!(l.bucket(0, 201), l.histogram(0) + 2);
}

#[test]
fn the_cells_of_two_histograms_do_not_overlap() {
    let l = Layout::new(Family::ServiceGraph, &BOUNDS);
    assert_eq!(l.cells(), 3 + 3 * 5);
    assert_eq!((l.histogram(0), l.histogram(1), l.sum(1)), (3, 8, (11, 12)));
    let owners: Vec<_> = [2, 3, 5, 6, 8].map(|cell| l.owner(cell)).into();
    let histogram = |h| Some(Owner::Histogram(h));
    assert_eq!(owners, [Some(Owner::Counter(2)), histogram(0), histogram(0), None, histogram(1)]);
}

#[test]
fn every_cell_belongs_to_one_metric_in_every_kind_of_layout() {
    let shapes =
        [None, Some(Shape::classic(&BOUNDS)), Some(Shape::native(native(3, 9))), Some(Shape::both(&[7], native(0, 9)))];
    for (n, weighted) in (0..64).flat_map(|n| [(n, false), (n, true)]) {
        let histograms = [n & 3, (n >> 2) & 3, n >> 4].map(|kind: usize| shapes[kind].clone()).to_vec();
        let l = Layout::of(&Spec { family: Family::ServiceGraph, naming: Naming::Tempo, weighted, histograms });
        let mut seen = vec![0; l.cells()];
        let width = if weighted { 2 } else { 1 };
        for (c, wide) in [width, width, 1].into_iter().enumerate() {
            (l.counter(c)..l.counter(c) + wide).for_each(|cell| seen[cell] += 1);
        }
        for h in (0..3).filter(|&h| l.shape(h).is_some()) {
            (l.histogram(h)..l.bucket_cell(h, l.buckets(h))).for_each(|cell| seen[cell] += 1);
            (l.sum(h).0..=l.sum(h).1).for_each(|cell| seen[cell] += 1);
        }
        assert!(seen.iter().all(|&times| times == 1), "{l:?}: {seen:?}");
    }
}

#[test]
fn a_histogram_that_is_never_observed_takes_no_cells_and_observes_nothing() {
    let l = spans(None, false);
    assert_eq!(l.cells(), 2);
    assert_eq!(l.observe(&mut l.zeros(), 0, 7, Weight::ONE), None);
    assert_eq!(spans(Some(Shape { bounds_ns: None, native: None }), false), l);
}

#[test]
fn sums_carry_over_64_bits() {
    let l = spans(Some(Shape::classic(&[100])), false);
    let mut total = l.zeros();
    let delta = observed(&l, &[u64::MAX]);
    for _ in 0..3 {
        l.add(&mut total.cells, &mut total.natives, (&delta.cells, &delta.natives));
    }
    assert_eq!(l.sum_of(&total.cells, 0), 3 * u128::from(u64::MAX));
    assert_eq!(buckets(&l, &total), [0, 3]);
}

// === weights ===

#[test]
fn weights_keep_their_fraction_and_bytes_stay_whole() {
    let l = spans(Some(Shape::both(&BOUNDS, native(3, 100))), true);
    let mut n = l.zeros();
    for (weight, value) in [(1.5, 150), (5.0, 250)] {
        let weight = Weight::from_ratio(1.0 / weight).expect("a weight");
        l.count(&mut n, 0, weight);
        l.add_to(&mut n, 1, 100);
        l.observe(&mut n, 0, value, weight);
    }
    assert_eq!((l.counter_value(&n.cells, 0), l.counter_value(&n.cells, 1)), (Some(6.5), Some(200.0)));
    assert_eq!(l.count_value(l.count_of(&n.cells, &n.natives, 0)).to_bits(), 6.5f64.to_bits());
    assert_eq!(l.count_value(n.natives.get(0).expect("native").count()).to_bits(), 6.5f64.to_bits());
    assert_eq!(l.sum_value(&n.cells, 0).to_bits(), ((1.5 * 150.0 + 5.0 * 250.0f64) / 1e9).to_bits());
    assert_eq!(buckets(&l, &n), [0, 3 << 31, 5 << 32]);
}

#[test]
fn weights_carry_over_64_bits() {
    let l = spans(Some(Shape::native(native(0, 0))), true);
    let mut total = l.zeros();
    let mut delta = l.zeros();
    let heavy = Weight::from_ratio(2f64.powi(-31)).expect("a weight");
    l.count(&mut delta, 0, heavy);
    l.observe(&mut delta, 0, 1_000_000_000, heavy);
    for _ in 0..8 {
        l.add(&mut total.cells, &mut total.natives, (&delta.cells, &delta.natives));
    }
    assert_eq!(l.counter_value(&total.cells, 0), Some(8.0 * 2f64.powi(31)));
    assert_eq!(native_buckets(&total), [(0, 8 << 63)]);
    assert_eq!(l.sum_value(&total.cells, 0).to_bits(), (8.0 * 2f64.powi(31)).to_bits());
}

#[test]
fn a_gauge_is_one_however_often_it_was_marked() {
    let l = Layout::new(Family::TargetInfo, &[]);
    let mut n = l.zeros();
    assert_eq!(l.counter_value(&n.cells, 0), None);
    l.add_to(&mut n, 0, 1);
    l.add_to(&mut n, 0, 1);
    assert_eq!(l.counter_value(&n.cells, 0), Some(1.0));
}

// === native histograms ===

#[test]
fn a_bucket_factor_becomes_the_schema_of_prometheus() {
    let cases =
        [(1.1, 3), (2.0, 0), (1.000_1, 8), (1.5, 1), (1.4, 2), (4.0, -1), (256.0, -3), (65_536.0, -4), (1e9, -4)];
    for (factor, schema) in cases {
        assert_eq!(Native::of_factor(factor, 100), native(schema, 100), "{factor}");
    }
    assert_eq!(Native::of_factor(f64::NAN, 1).schema, 8);
}

#[test]
fn a_value_on_a_bound_belongs_to_the_bucket_below_it() {
    for (value, at) in [(1.0, 0), (2.0, 1), (2.000_000_1, 2), (4.0, 2), (0.5, -1), (0.500_000_1, 0), (1e-9, -29)] {
        assert_eq!(index_of(value, 0), at, "{value}");
    }
    // What Prometheus' own tables say of a second and a bit.
    assert_eq!([index_of(1.0, 3), index_of(1.09, 3), index_of(1.0906, 3), index_of(0.15, 3)], [0, 1, 2, -21]);
    assert_eq!([index_of(3.0, -1), index_of(17.0, -4), index_of(65_536.0, -4), index_of(65_537.0, -4)], [1, 1, 1, 2]);
}

#[test]
fn bounds_are_powers_to_the_last_bit_but_one_and_values_lie_between_them() {
    let mut rng = Rng(7);
    for schema in -4..=8i8 {
        for _ in 0..400 {
            let ns = rng.below(u64::MAX) >> rng.below(64);
            let value = Unit::Seconds.of_ns(ns.max(1));
            let index = index_of(value, schema);
            assert!(
                upper(index - 1, schema) < value && value <= upper(index, schema),
                "{value} in {index} of {schema}"
            );
            let exact = (f64::from(index) * 2f64.powi(-i32::from(schema))).exp2();
            assert!((upper(index, schema) / exact - 1.0).abs() < 1e-14);
        }
    }
}

#[test]
fn halving_the_resolution_is_asking_the_coarser_schema() {
    let mut rng = Rng(3);
    for _ in 0..2_000 {
        let value = Unit::Seconds.of_ns((rng.below(u64::MAX) >> rng.below(64)).max(1));
        for schema in -4..8i8 {
            assert_eq!(index_of(value, schema), (index_of(value, schema + 1) + 1) >> 1);
        }
    }
}

#[test]
fn native_buckets_are_a_function_of_the_set_of_observations() {
    let mut rng = Rng(11);
    let mut coarsened = 0;
    for round in 0..60 {
        let weighted = round % 2 == 1;
        let shape = native(8 - (round % 9) as i8, [1, 2, 10, 40, 160][rng.below(5) as usize]);
        let l = spans(Some(Shape::native(shape)), weighted);
        let spread = 1 + rng.below(40);
        let values: Vec<(u64, Weight)> = (0..1 + rng.below(300))
            .map(|_| {
                let ns = if rng.below(20) == 0 { 0 } else { (1 << 20) + (rng.below(u64::MAX) >> (64 - spread)) };
                let weight = if weighted { 1.0 / (1.0 + rng.below(1_000) as f64 / 7.0) } else { 1.0 };
                (ns, Weight::from_ratio(weight).expect("a weight"))
            })
            .collect();
        let total = |values: &[(u64, Weight)], rng: &mut Rng| {
            let mut total = l.zeros();
            let mut rest = values;
            while !rest.is_empty() {
                let (some, tail) = rest.split_at(1 + rng.below(rest.len() as u64) as usize);
                let mut delta = l.zeros();
                for &(ns, weight) in some {
                    l.observe(&mut delta, 0, ns, weight);
                }
                l.add(&mut total.cells, &mut total.natives, (&delta.cells, &delta.natives));
                l.bound(&mut total.natives);
                rest = tail;
            }
            total
        };
        let first = total(&values, &mut rng);
        // At once, at the schema that the definition gives.
        let schema = (-4..=shape.schema).rev().find(|&s| {
            let used: std::collections::BTreeSet<_> =
                values.iter().filter(|v| v.0 > 0).map(|v| index_of(Unit::Seconds.of_ns(v.0), s)).collect();
            used.len() <= shape.max_buckets.into()
        });
        assert_eq!(first.natives.get(0).expect("native").schema(), schema.unwrap_or(-4), "round {round}");
        coarsened += u32::from(schema != Some(shape.schema));
        for _ in 0..6 {
            let mut shuffled = values.clone();
            for i in (1..shuffled.len()).rev() {
                shuffled.swap(i, rng.below(i as u64 + 1) as usize);
            }
            assert_eq!(total(&shuffled, &mut rng), first, "round {round}");
        }
    }
    assert!(coarsened > 10, "only {coarsened} rounds reach the limit");
}

// === other layouts ===

#[test]
fn rebucketing_keeps_counts_sums_and_shared_bounds() {
    let old = spans(Some(Shape::classic(&[100, 200, 400])), false);
    let new = spans(Some(Shape::classic(&[150, 200])), false);
    let out = moved(&new, &old, &observed(&old, &[50, 150, 150, 300, 900]));
    assert_eq!(buckets(&new, &out), [1, 2, 2]);
    assert_eq!(new.sum_of(&out.cells, 0), 50 + 150 + 150 + 300 + 900);
}

#[test]
fn classic_buckets_become_native_ones_at_their_upper_bounds() {
    const S: u64 = 1_000_000_000;
    let old = spans(Some(Shape::classic(&[0, S, 2 * S])), false);
    let new = spans(Some(Shape::native(native(0, 100))), true);
    let numbers = observed(&old, &[0, S / 3, 2 * S, 2 * S + 1, 900 * S]);
    let out = moved(&new, &old, &numbers);
    assert_eq!(native_buckets(&out), [(0, 1 << 32), (1, 1 << 32), (2, 2 << 32)]);
    assert_eq!(out.natives.get(0).expect("native").zero(), 1 << 32);
    assert_eq!(new.sum_of(&out.cells, 0), old.sum_of(&numbers.cells, 0) << 32);
}

#[test]
fn native_buckets_become_classic_ones_that_hold_their_upper_bounds() {
    const S: u64 = 1_000_000_000;
    let old = spans(Some(Shape::native(native(0, 100))), false);
    let new = spans(Some(Shape::classic(&[S / 2, S, 3 * S])), false);
    // Buckets with the upper bounds 0, 1/2, 1, 2, 4.
    let out = moved(&new, &old, &observed(&old, &[0, S / 2, S / 2 + 1, S, 2 * S, 3 * S]));
    assert_eq!(buckets(&new, &out), [2, 2, 1, 1]);
    assert_eq!(new.count_of(&out.cells, &out.natives, 0), 6);
}

#[test]
fn a_native_histogram_moves_to_another_unit_with_its_metric() {
    let otel = |unit| Naming::Otel { namespace: String::new(), unit };
    let layout = |naming| {
        let histograms = vec![Some(Shape::native(native(3, 0)))];
        Layout::of(&Spec { family: Family::SpanMetrics, naming, weighted: false, histograms })
    };
    let (seconds, ms) = (layout(Naming::Tempo), layout(otel(Unit::Milliseconds)));
    let values = [1_000_000, 7_000_000, 123_456_789];
    let out = moved(&ms, &seconds, &observed(&seconds, &values));
    for ((index, _), ns) in native_buckets(&out).into_iter().zip(values) {
        let direct = index_of(Unit::Milliseconds.of_ns(ns), 3);
        assert!((direct..=direct + 1).contains(&index), "the upper bound moves: {index}, not {direct}");
    }
}

#[test]
fn joins_are_commutative_associative_and_stable() {
    let shapes = [
        None,
        Some(Shape::classic(&BOUNDS)),
        Some(Shape::classic(&[50])),
        Some(Shape::native(native(3, 100))),
        Some(Shape::native(native(0, 100))),
        Some(Shape::both(&BOUNDS, native(2, 50))),
    ];
    let namings = [Naming::Tempo, Naming::Otel { namespace: "x".into(), unit: Unit::Seconds }];
    let mut rng = Rng(5);
    let mut layout = || {
        let naming = namings[rng.below(2) as usize].clone();
        let histograms = (0..3).map(|_| shapes[rng.below(6) as usize].clone()).collect();
        Layout::of(&Spec { family: Family::ServiceGraph, naming, weighted: rng.below(2) == 0, histograms })
    };
    for _ in 0..500 {
        let (a, b, c) = (layout(), layout(), layout());
        assert_eq!(a.join(&b), b.join(&a));
        assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
        assert_eq!(a.join(&a), a);
        assert_eq!(a.widen(&b).widen(&b), a.widen(&b));
        for h in 0..3 {
            let present = a.shape(h).is_some() || b.shape(h).is_some();
            assert_eq!((a.join(&b).shape(h).is_some(), a.widen(&b).shape(h).is_some()), (present, present));
        }
    }
}

#[test]
fn an_exemplar_moves_with_its_bucket_and_between_kinds_by_its_value() {
    let e = Exemplar { at: 1, trace_id: [1; 16], value_ns: 90 };
    let old = spans(Some(Shape::classic(&BOUNDS)), false);
    let new = spans(Some(Shape::classic(&[95, 150])), true);
    assert_eq!(new.move_example(&old, old.example_cell(0, 90), &e), Some(new.bucket_cell(0, 1) as u32));
    assert_eq!(new.move_example(&old, 0, &e), Some(0), "the calls' own");
    let native = spans(Some(Shape::native(native(5, 9))), false);
    let cell = native.example_cell(0, 90);
    assert_eq!(native.owner(cell as usize), Some(Owner::Histogram(0)));
    assert_eq!(native.move_example(&old, 2, &e), Some(cell));
    assert_eq!(old.move_example(&native, cell, &e), Some(2));
    assert!((native.example_cell(0, u64::MAX) as usize) < native.example_cells());
    assert_eq!(spans(None, false).move_example(&old, 2, &e), None);
}

// === names ===

#[test]
fn names_are_those_of_the_profile() {
    let layout = |family, namespace: &str, unit| {
        let naming = Naming::Otel { namespace: namespace.to_owned(), unit };
        let histograms = vec![Some(Shape::classic(&[2_000_000, 1_500_000_000])); family_len(family)];
        Layout::of(&Spec { family, naming, weighted: false, histograms })
    };
    let l = layout(Family::SpanMetrics, "traces.span.metrics", Unit::Milliseconds);
    let names = [l.counter_name(0), l.counter_name(1), l.histogram_name(0)];
    assert_eq!(
        names,
        ["calls_total", "size_total", "duration_milliseconds"].map(|n| format!("traces_span_metrics_{n}"))
    );
    assert_eq!(l.les(0).collect::<Vec<_>>(), ["2", "1500", "+Inf"]);
    let l = layout(Family::SpanMetrics, "", Unit::Seconds);
    assert_eq!([l.counter_name(0), l.histogram_name(0)], ["calls_total", "duration_seconds"]);
    assert_eq!(l.les(0).collect::<Vec<_>>(), ["0.002", "1.5", "+Inf"]);
    assert_eq!(layout(Family::SpanEvents, "7.a--b_", Unit::Seconds).counter_name(0), "_7_a_b_events_total");
    let graph = layout(Family::ServiceGraph, "x", Unit::Milliseconds);
    assert_eq!(graph.histogram_name(0), "traces_service_graph_request_server_seconds");
    assert_eq!(graph.les(2).next().as_deref(), Some("0.002"));
    let naming = Naming::Named("host".into());
    let host = Layout::of(&Spec { family: Family::HostInfo, naming, weighted: false, histograms: Vec::new() });
    assert_eq!(host.counter_name(0), "host");
}

#[test]
fn good_events_exist_at_zero_as_soon_as_there_are_events() {
    for weighted in [false, true] {
        let l = Layout::of(&Spec { family: Family::Slo, naming: Naming::Tempo, weighted, histograms: Vec::new() });
        let mut numbers = l.zeros();
        assert_eq!([0, 1].map(|c| l.counter_value(&numbers.cells, c)), [None, None]);
        l.count(&mut numbers, 0, Weight::ONE);
        assert_eq!([0, 1].map(|c| l.counter_value(&numbers.cells, c)), [Some(1.0), Some(0.0)]);
        let mut out = Vec::new();
        l.encode(&mut out);
        assert_eq!(Layout::decode(&mut Reader::new(&out)), Ok(l));
    }
    // Failures have no zero, as in Tempo.
    let graph = Layout::new(Family::ServiceGraph, &BOUNDS);
    let mut numbers = graph.zeros();
    graph.count(&mut numbers, 0, Weight::ONE);
    assert_eq!(graph.counter_value(&numbers.cells, 1), None);
}

/// A sum, or a histogram with [`BOUNDS`].
fn of_attributes(family: Family, weighted: bool, shape: Option<Shape>) -> Layout {
    let naming = Naming::Named("x".into());
    Layout::of(&Spec { family, naming, weighted, histograms: vec![shape] })
}

fn of_one(layout: &Layout, value: u128) -> Option<f64> {
    let mut numbers = layout.zeros();
    layout.add_value(&mut numbers, 0, value, Weight::ONE);
    layout.counter_value(&numbers.cells, 0)
}

#[test]
fn a_sum_is_in_two_cells_and_exists_at_zero() {
    for weighted in [false, true] {
        let l = of_attributes(Family::AttributeSum, weighted, None);
        assert_eq!((l.cells(), l.series(), l.counter_name(0)), (2, 1, "x".to_owned()));
        assert!(l.carries()[0]);
        let mut numbers = l.zeros();
        assert_eq!(l.counter_value(&numbers.cells, 0), Some(0.0));
        // Twice 10^15 with a fraction does not fit one cell of billionths.
        let value = 1_000_000_000_000_000_250_000_000;
        assert_eq!(of_one(&l, 10_000_000_002_000_000_000), Some(10_000_000_002.0));
        l.add_value(&mut numbers, 0, value, Weight::ONE);
        l.add_value(&mut numbers, 0, value, Weight::ONE);
        assert_eq!(l.counter_value(&numbers.cells, 0), Some(2_000_000_000_000_000.5));
        let mut all = l.zeros();
        l.add(&mut all.cells, &mut all.natives, (&numbers.cells, &numbers.natives));
        l.add(&mut all.cells, &mut all.natives, (&numbers.cells, &numbers.natives));
        assert_eq!(l.counter_value(&all.cells, 0), Some(4_000_000_000_000_001.0));
    }
}

#[test]
fn a_sum_keeps_its_value_when_weights_begin_and_end() {
    let [plain, weighted] = [false, true].map(|weighted| of_attributes(Family::AttributeSum, weighted, None));
    let mut numbers = plain.zeros();
    plain.add_value(&mut numbers, 0, 1_500_000_000, Weight::ONE);
    let joined = plain.join(&weighted);
    assert!(joined.is_weighted());
    let mut all = joined.zeros();
    joined.add_from(&mut all.cells, &mut all.natives, &plain, (&numbers.cells, &numbers.natives));
    weighted.add_value(&mut all, 0, 1_000_000_000, Weight::from_bits(1 << 31));
    assert_eq!(joined.counter_value(&all.cells, 0), Some(2.0));
}

#[test]
fn a_value_beyond_every_bound_is_in_the_last_bucket_and_in_the_sum() {
    for weighted in [false, true] {
        let shape = Shape::both(&BOUNDS, native(3, 160));
        let l = of_attributes(Family::AttributeHistogram, weighted, Some(shape));
        assert_eq!(l.histogram_name(0), "x");
        let mut numbers = l.zeros();
        let (small, large) = (150, 1_000_000_000_000_000_000_000_000);
        for value in [small, large, large] {
            l.observe_value(&mut numbers, 0, value, Weight::ONE);
        }
        let buckets: Vec<_> = (0..3).map(|i| l.count_value(l.bucket_of(&numbers.cells, 0, i))).collect();
        assert_eq!(buckets, [0.0, 1.0, 2.0]);
        assert_eq!(l.sum_value(&numbers.cells, 0).to_bits(), 2e15f64.to_bits());
        let total = numbers.natives.get(0).expect("a native histogram");
        assert_eq!((total.len(), l.count_value(total.count())), (2, 3.0));
        let (last, _) = total.buckets().last().expect("a bucket");
        assert!(upper(last, 3) >= 1e15 && upper(last - 1, 3) < 1e15);
        let mut out = Vec::new();
        numbers.natives.encode(&l, &mut out);
        assert_eq!(Natives::decode(&l, &mut Reader::new(&out)).as_ref(), Ok(&numbers.natives));
        let mut out = Vec::new();
        l.encode(&mut out);
        assert_eq!(Layout::decode(&mut Reader::new(&out)), Ok(l));
    }
}

fn family_len(family: Family) -> usize {
    family.histograms().len()
}

// === bytes ===

#[test]
fn a_layout_survives_the_round_trip_and_bad_bytes_are_errors() {
    let shapes = [None, Some(Shape::classic(&[0, 100, 200])), Some(Shape::both(&[], native(-4, 160)))];
    let namings =
        [Naming::Tempo, Naming::Named("x".into()), Naming::Otel { namespace: "a.b".into(), unit: Unit::Milliseconds }];
    for (naming, weighted) in namings.into_iter().zip([true, false, true]) {
        let histograms = shapes.to_vec();
        let l = Layout::of(&Spec { family: Family::ServiceGraph, naming, weighted, histograms });
        let mut out = Vec::new();
        l.encode(&mut out);
        assert_eq!(Layout::decode(&mut Reader::new(&out)), Ok(l));
        for cut in 0..out.len() {
            assert!(Layout::decode(&mut Reader::new(&out[..cut])).is_err());
        }
    }
    assert!(Layout::decode(&mut Reader::new(&[9, 0])).is_err());
}

#[test]
fn native_buckets_survive_the_round_trip_and_bad_bytes_are_errors() {
    let l = spans(Some(Shape::native(native(8, 0))), true);
    let mut rng = Rng(9);
    let values: Vec<_> = (0..200).map(|_| rng.below(u64::MAX) >> rng.below(65).min(63)).chain([0]).collect();
    let numbers = observed(&l, &values);
    let mut out = Vec::new();
    numbers.natives.encode(&l, &mut out);
    assert_eq!(Natives::decode(&l, &mut Reader::new(&out)), Ok(numbers.natives.clone()));
    for cut in 0..out.len() {
        assert!(Natives::decode(&l, &mut Reader::new(&out[..cut])).is_err());
    }
    let mut coarse = numbers.natives;
    spans(Some(Shape::native(native(8, 20))), true).bound(&mut coarse);
    let mut out = Vec::new();
    coarse.encode_totals(&l, &mut out);
    assert_eq!(Natives::decode_totals(&l, &mut Reader::new(&out)), Ok(coarse));
}
