use super::*;
use crate::core::remotewrite::{Request, StepBatch};

fn endpoint(name: &str, max_backlog: usize, on_backlog: OnBacklog) -> Endpoint {
    Endpoint { name: name.into(), max_backlog, on_backlog }
}

fn track(tenant: &str, name: &str) -> Track {
    (tenant.into(), Some(name.into()))
}

/// Nine bytes, for each of the endpoints.
fn deliver(d: &mut Delivering, step: Millis, tenants: &[&str], endpoints: &[Endpoint]) {
    let request = Request { body: vec![0; 9].into(), series: 1, samples: 2, exemplars: 0, starts: None };
    let batch = |tenant: &&str| StepBatch {
        tenant: (*tenant).into(),
        endpoint: None,
        step,
        resend: false,
        requests: vec![request.clone()],
    };
    let batches = d.for_endpoints(tenants.iter().map(batch).collect(), |_| endpoints.into());
    d.add(step, batches);
}

fn apart() -> Delivering {
    let mut d = Delivering::default();
    d.may_be_behind();
    d
}

fn two(max_backlog: usize, on_backlog: OnBacklog) -> [Endpoint; 2] {
    ["dead", "well"].map(|name| endpoint(name, max_backlog, on_backlog))
}

fn look(d: &mut Delivering) {
    d.look(|(_, name)| name.as_deref() == Some("dead"), |(_, name)| name.as_deref() == Some("dead"));
}

fn named(d: &Delivering, first: Millis) -> Vec<(String, Millis)> {
    d.marks(&BTreeSet::new(), first).into_iter().map(|mark| (mark.name, mark.lacks)).collect()
}

#[test]
fn an_endpoint_that_is_down_neither_sets_the_pace_nor_loses_a_step_and_snapshots_carry_what_waits_for_it() {
    let (mut d, endpoints) = (apart(), two(1_000, OnBacklog::Wait));
    for step in 1..=10 {
        assert!(!d.full(0) && d.left_out().is_empty(), "step {step}");
        deliver(&mut d, step, &["t"], &endpoints);
        d.settled(step, &track("t", "well"));
        look(&mut d);
    }
    assert!(!d.is_waiting() && !d.full(2) && d.next_acknowledged().is_none());
    assert_eq!(named(&d, 11), [("dead".to_owned(), 1), ("well".to_owned(), 11)]);
    let (single, waiting) = d.undelivered();
    let waiting = StepBatch::decode_apart(&waiting).expect("our own bytes");
    assert!(single.is_empty() && waiting.len() == 10);
    d.held(10);
    deliver(&mut d, 11, &["t"], &endpoints);
    d.settled(11, &track("t", "well"));
    assert_eq!(named(&d, 12), [("dead".to_owned(), 1), ("well".to_owned(), 12)]);
    // A new owner stands where this one stood; the endpoint is back and gets all of it.
    let mut next = apart();
    next.tracks(&"t".into(), &endpoints.into());
    next.carry(waiting);
    assert!(!next.full(0) && !next.is_waiting());
    for step in 1..=10 {
        next.settled(step, &track("t", "dead"));
        let expected = if step < 10 { vec![("dead".to_owned(), step + 1)] } else { Vec::new() };
        assert_eq!(named(&next, 11), expected);
    }
    assert!(next.undelivered().1.is_empty());
}

#[test]
fn the_fastest_endpoint_sets_the_pace_and_a_slow_one_is_waited_for_until_it_lacks_some_steps() {
    let (mut d, endpoints) = (apart(), ["slow", "well"].map(|name| endpoint(name, 1_000, OnBacklog::Wait)));
    let up = |d: &mut Delivering| d.look(|_| false, |_| false);
    for step in 1..=2 {
        deliver(&mut d, step, &["t"], &endpoints);
        d.settled(step, &track("t", "well"));
    }
    up(&mut d);
    assert!(d.is_waiting(), "a snapshot holds nothing for an endpoint that is about to have everything");
    deliver(&mut d, 3, &["t"], &endpoints);
    assert!(d.is_waiting() && !d.full(1));
    d.settled(3, &track("t", "well"));
    up(&mut d);
    assert!(!d.is_waiting() && !d.full(2), "it lacks three: now the other one sets the pace");
    // When the other one lacks three as well, both are waited for: the one that lacks least.
    for step in 4..=6 {
        assert!(!d.full(0));
        deliver(&mut d, step, &["t"], &endpoints);
    }
    assert!(d.full(0) && d.is_waiting());
    d.settled(4, &track("t", "well"));
    assert!(!d.full(0));
}

#[test]
fn in_a_replay_all_endpoints_are_waited_for() {
    let (mut d, endpoints) = (Delivering::default(), two(1_000, OnBacklog::Drop));
    for step in 1..=3 {
        deliver(&mut d, step, &["t"], &endpoints);
        d.settled(step, &track("t", "well"));
    }
    assert!(d.full(0) && d.is_waiting() && d.at_bound().is_empty());
}

#[test]
fn beyond_its_bound_an_endpoint_holds_the_others_back_until_it_has_got_enough() {
    let (mut d, endpoints) = (apart(), two(4 * 9, OnBacklog::Wait));
    for step in 1..=5 {
        assert!(!d.full(0) && d.at_bound().is_empty(), "step {step}");
        deliver(&mut d, step, &["t"], &endpoints);
        d.settled(step, &track("t", "well"));
        look(&mut d);
    }
    assert!(d.full(0));
    assert_eq!(d.at_bound(), [("dead".into(), OnBacklog::Wait)].into());
    assert!(d.drop_oldest(|_, _| panic!("nothing is to be dropped")).is_empty());
    let status = &d.status(Some(5))["dead"];
    assert_eq!((status.backlog, status.behind, status.at_bound), (5 * 9, 4, true));
    assert_eq!(d.status(Some(5))["well"], EndpointStatus::default());
    assert!(!d.is_waiting(), "a snapshot may be written");
    d.held(5);
    look(&mut d);
    assert!(d.full(0), "what a snapshot carries waits as well");
    d.settled(1, &track("t", "dead"));
    assert!(!d.full(0) && !d.at_bound().is_empty(), "it is reported until there is room");
    d.settled(2, &track("t", "dead"));
    assert!(!d.at_bound().is_empty());
    d.settled(3, &track("t", "dead"));
    assert!(d.at_bound().is_empty());
    // Without any backlog, an endpoint holds the others back as the only receiver would.
    let (mut d, endpoints) = (apart(), two(0, OnBacklog::Wait));
    for step in 1..=3 {
        assert!(!d.full(0));
        deliver(&mut d, step, &["t"], &endpoints);
        d.settled(step, &track("t", "well"));
        look(&mut d);
    }
    assert!(d.full(0));
}

#[test]
fn an_endpoint_that_is_to_drop_loses_its_oldest_steps_that_are_not_being_sent() {
    let (mut d, endpoints) = (apart(), two(4 * 9, OnBacklog::Drop));
    for step in 1..=6 {
        deliver(&mut d, step, &["t"], &endpoints);
        d.settled(step, &track("t", "well"));
        look(&mut d);
        assert!(!d.full(0));
    }
    d.held(2);
    let asked = std::cell::RefCell::new(Vec::new());
    // The first two are on their way already.
    let dropped = d.drop_oldest(|_, step| {
        asked.borrow_mut().push(step);
        step > 2
    });
    assert_eq!(asked.into_inner(), [1, 2, 3, 4]);
    let at = |step| Dropped { track: track("t", "dead"), step, samples: 2 };
    assert_eq!(dropped, [at(3), at(4)]);
    assert!(!d.at_bound().is_empty() && d.drop_oldest(|_, _| true).is_empty(), "it is full of what is left");
    assert_eq!([d.next_acknowledged(), d.next_acknowledged(), d.next_acknowledged()], [Some(3), Some(4), None]);
}

#[test]
fn a_tenant_is_left_out_only_when_all_of_its_endpoints_are_down_and_others_answer() {
    let mut d = apart();
    let endpoints = two(1_000, OnBacklog::Wait);
    for step in 1..=3 {
        deliver(&mut d, step, &["a", "b"], &endpoints);
        for name in ["dead", "well"] {
            d.settled(step, &track("b", name));
        }
        d.look(|(tenant, name)| &**tenant == "a" && name.as_deref() == Some("dead"), |_| false);
        assert!(d.left_out().is_empty());
    }
    d.look(|(tenant, _)| &**tenant == "a", |_| false);
    assert_eq!((d.left_out(), d.full(2)), (vec!["a".to_owned()], false));
    d.look(|_| false, |_| false);
    assert!(d.left_out().is_empty());
}

#[test]
fn tenants_with_one_endpoint_and_with_several_share_a_shard() {
    let mut d = apart();
    deliver(&mut d, 1, &["one"], &[endpoint("x", 0, OnBacklog::Wait)]);
    assert!(named(&d, 2).is_empty(), "without several, marks name none");
    deliver(&mut d, 2, &["two"], &two(1_000, OnBacklog::Wait));
    assert_eq!(named(&d, 3), [(String::new(), 1), ("dead".to_owned(), 2), ("well".to_owned(), 2)]);
    let (single, waiting) = d.undelivered();
    let tenants = |batches: Vec<StepBatch>| batches.iter().map(|b| b.tenant.to_string()).collect::<Vec<_>>();
    assert_eq!(tenants(StepBatch::decode_all(&single).expect("ours")), ["one"]);
    assert_eq!(tenants(StepBatch::decode_apart(&waiting).expect("ours")), ["two", "two"]);
    let next = BTreeSet::from([Some("new".into())]);
    assert!(d.marks(&next, 3).iter().any(|mark| (mark.name.as_str(), mark.lacks) == ("new", 3)));
}

#[test]
fn an_only_endpoint_becomes_one_of_several_when_nothing_is_under_way_to_it() {
    let mut d = apart();
    let only = [endpoint("dead", 0, OnBacklog::Wait)];
    let several = two(1_000, OnBacklog::Wait);
    deliver(&mut d, 1, &["t"], &only);
    deliver(&mut d, 2, &["t"], &several);
    assert!(d.marks(&BTreeSet::new(), 3).is_empty(), "a step must not overtake the one before it");
    d.settled(1, &("t".into(), None));
    d.settled(2, &("t".into(), None));
    deliver(&mut d, 3, &["t"], &several);
    assert_eq!(named(&d, 4).len(), 3);
    deliver(&mut d, 4, &["t"], &only);
    assert_eq!(named(&d, 5).iter().filter(|(_, lacks)| *lacks == 3).count(), 2, "and back");
    for step in 3..=4 {
        ["dead", "well"].iter().for_each(|name| d.settled(step, &track("t", name)));
    }
    deliver(&mut d, 5, &["t"], &only);
    assert_eq!(d.undelivered().0.len(), StepBatch::encode_all(d.unsettled().map(|(_, batch)| batch)).len());
}
