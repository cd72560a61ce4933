//! What is waited out, for whom, and at which pace.

use super::*;

/// Nothing is lost at these: an operator can fix what they report.
#[test]
fn what_a_receiver_may_take_later_is_waited_for_and_nothing_is_lost() {
    for status in [301, 302, 307, 308, 401, 403, 404, 405, 407, 408, 415, 418, 421, 425, 426, 431, 451, 499] {
        let h = house();
        h.receiver.fault(&Fault::Status(status), 3);
        let d = h.send(batch(15_000, vec![request(0..4, 15_000)]));
        assert_eq!((d.acknowledged, d.rejected), (4, 0), "{status}");
        assert_eq!(h.receiver.totals().requests, 4, "{status}");
        h.assert_balanced();
    }
}

/// Five tenants behind one URL, as in Mimir's usual set-up.
const WELL: [&str; 4] = ["b", "c", "d", "e"];

/// Sends steps to the tenants that are well, as fast as they are taken, and returns for how many tenants and steps they
/// were settled while nothing of tenant `a` was.
fn steps_beside_a_bad_tenant(h: &House, steps: i64) -> usize {
    let sender = h.sender.as_ref().unwrap();
    sender.try_send(of("a", 15_000)).unwrap();
    assert!(h.receiver.wait(LONG, |t| t.refused >= 1));
    let mut settled = 0;
    for step in (1..=steps).map(|i| i * 15_000) {
        for tenant in WELL {
            sender.try_send(of(tenant, step)).unwrap();
        }
        for _ in WELL {
            let Ok(d) = h.done.recv_timeout(Duration::from_secs(5)) else { return settled };
            assert_ne!(&*d.tenant, "a");
            assert_eq!((d.step, d.acknowledged), (step, 2));
            settled += 1;
        }
    }
    settled
}

#[test]
fn one_tenants_429_stops_nobody_else_behind_the_same_url() {
    for fault in [Fault::RetryAfter(429, "600".to_owned()), Fault::Status(503), Fault::Status(401), Fault::Hang] {
        let h = house();
        h.receiver.fault_tenant("a", fault.clone());
        assert_eq!(steps_beside_a_bad_tenant(&h, 10), 40, "{fault:?}");
    }
}

#[test]
fn a_tenant_that_is_refused_as_a_whole_costs_about_one_request_a_step() {
    let h = house();
    h.receiver.fault_tenant("a", Fault::Status(400));
    for step in (1..=20).map(|i| i * 15_000) {
        let requests = vec![request(0..2_000, step)];
        let d = h.send(StepBatch { tenant: "a".into(), ..batch(step, requests) });
        assert_eq!((d.acknowledged, d.rejected), (0, 2_000));
    }
    let requests = h.receiver.totals().requests;
    assert!(requests <= 60, "{requests} requests for 20 steps");
    let waiting = h.telemetry.receivers().snapshot();
    assert!(matches!(&waiting[..], [one] if one.refused_since.is_some() && one.waiting.is_none()), "{waiting:?}");
    h.assert_balanced();
}

#[test]
fn a_tenant_that_was_refused_as_a_whole_and_then_is_taken_is_halved_again() {
    let h = house();
    h.receiver.fault_tenant("a", Fault::Status(400));
    let to_a = |step, requests| StepBatch { tenant: "a".into(), ..batch(step, requests) };
    assert_eq!(h.send(to_a(15_000, vec![request(0..100, 15_000)])).rejected, 100);
    h.receiver.mend();
    assert_eq!(h.send(to_a(30_000, vec![request(0..100, 30_000)])).acknowledged, 100);
    h.receiver.poison(|series| series.contains("\"s40\""));
    let d = h.send(to_a(45_000, vec![request(0..100, 45_000)]));
    assert_eq!((d.acknowledged, d.rejected), (99, 1));
    assert_eq!(h.telemetry.receivers().snapshot()[0].refused_since, None);
}

#[test]
fn all_shards_of_a_tenant_that_fails_ask_one_at_a_time_and_others_beside_them() {
    let h = house_with(|c| (c.min_backoff, c.max_backoff) = (20, 200));
    h.receiver.fault_tenant("a", Fault::Status(503));
    let senders: Vec<(ShardSender, mpsc::Receiver<Delivered>)> = (10..42)
        .map(|shard| {
            let (sender, done) = mpsc::channel();
            (h.exporter.open(shard, Box::new(move |d| drop(sender.send(d)))), done)
        })
        .collect();
    for (sender, _) in &senders {
        sender.try_send(of("a", 15_000)).unwrap();
    }
    assert!(h.receiver.wait(LONG, |t| t.refused >= 40));
    let before = h.receiver.totals().requests;
    let mut beside = 0;
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        beside += 1;
        assert_eq!(h.send(of("b", beside * 15_000)).acknowledged, 2);
    }
    let asked = h.receiver.totals().requests - before - beside as u64;
    // Alone, each of 32 shards would ask once in 100 ms.
    assert!(asked <= 200, "{asked} requests for the tenant that fails, {beside} for the other");
    assert!(h.telemetry.receivers().complaints(Duration::ZERO).join("").contains("1 tenant(s): server_error"));
    h.receiver.mend();
    for (_, done) in &senders {
        assert_eq!(done.recv_timeout(LONG).unwrap().acknowledged, 2);
    }
    assert_eq!(h.telemetry.receivers().complaints(Duration::ZERO), Vec::<String>::new());
}

#[test]
fn a_token_that_expires_and_is_renewed_in_its_file_costs_nothing() {
    let dir = tempfile::TempDir::with_prefix("spanmill-test-").unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let h = house_with(|c| c.auth = Auth::Bearer(Secret::of_file("old", &file)));
    assert_eq!(h.send(batch(15_000, vec![request(0..4, 15_000)])).acknowledged, 4);
    h.receiver.expect_header("authorization", "Bearer new");
    h.sender.as_ref().unwrap().try_send(batch(30_000, vec![request(0..4, 30_000)])).unwrap();
    assert!(h.receiver.wait(LONG, |t| t.refused >= 3));
    assert!(
        h.telemetry.receivers().complaints(Duration::ZERO).join("").contains("unauthorized; check remote_write.auth")
    );
    std::fs::write(&file, "new\n").unwrap();
    let d = h.done.recv_timeout(LONG).unwrap();
    assert_eq!((d.acknowledged, d.rejected), (4, 0));
}

#[test]
fn a_password_and_a_header_that_are_renewed_in_their_files_cost_nothing() {
    let dir = tempfile::TempDir::with_prefix("spanmill-test-").unwrap();
    let file = dir.path().join("secret");
    let basic =
        |file: &std::path::Path| Auth::Basic { username: "me".to_owned(), password: Secret::of_file("old", file) };
    let in_password: fn(&mut RemoteWrite, Auth, Secret) = |c, auth, _| c.auth = auth;
    let in_header: fn(&mut RemoteWrite, Auth, Secret) =
        |c, _, secret| drop(c.headers.insert("X-Key".to_owned(), secret));
    for (place, name, value) in [(in_password, "authorization", "Basic bWU6bmV3"), (in_header, "x-key", "new")] {
        std::fs::write(&file, "old\n").unwrap();
        let h = house_with(|c| place(c, basic(&file), Secret::of_file("old", &file)));
        h.receiver.expect_header(name, value);
        h.sender.as_ref().unwrap().try_send(batch(15_000, vec![request(0..4, 15_000)])).unwrap();
        assert!(h.receiver.wait(LONG, |t| t.refused >= 3));
        std::fs::write(&file, "new\n").unwrap();
        let d = h.done.recv_timeout(LONG).unwrap();
        assert_eq!((d.acknowledged, d.rejected), (4, 0), "{name}");
    }
}

#[test]
fn tenants_that_hang_leave_room_for_the_others_and_for_their_own_return() {
    let h = house_with(|c| c.timeout = 5_000);
    let names: Vec<String> = (0..40).map(|i| format!("hangs-{i}")).collect();
    for name in &names {
        h.receiver.fault_tenant(name, Fault::Hang);
        h.sender.as_ref().unwrap().try_send(of(name, 15_000)).unwrap();
    }
    assert!(h.receiver.wait(LONG, |t| t.requests >= 40), "they are under way all at once");
    for step in (1..=10).map(|i| i * 15_000) {
        assert_eq!(h.send(of("b", step)).acknowledged, 2);
    }
    h.receiver.mend();
    for _ in &names {
        assert_eq!(h.done.recv_timeout(LONG).unwrap().acknowledged, 2);
    }
    h.assert_balanced();
}

#[test]
fn a_tenant_that_waits_for_long_goes_where_it_goes_now_without_waiting_to_the_end() {
    let (h, new) = (house(), Receiver::start("127.0.0.1:0").unwrap());
    h.receiver.fault_tenant("a", Fault::RetryAfter(429, "600".to_owned()));
    h.sender.as_ref().unwrap().try_send(of("a", 15_000)).unwrap();
    assert!(h.receiver.wait(LONG, |t| t.refused >= 1));
    h.exporter.reroute(&tenants(&h.receiver, &[("a", &new)])).unwrap();
    assert_eq!(h.done.recv_timeout(LONG).unwrap().acknowledged, 2);
    assert_eq!(h.telemetry.receivers().complaints(Duration::ZERO), Vec::<String>::new());
}
