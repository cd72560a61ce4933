//! Workers with one stage each, on a real Kafka.

use spanmill::worker::telemetry::TaskKind;

use crate::place::Place;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN, must_run};

#[test]
fn workers_for_spans_and_workers_for_series_share_the_stages_of_a_kafka_group_and_counts_stay_exact_through_kills() {
    let place = Place::start("stages", 4);
    let [spans, series] = ["spans", "series"].map(|stage| format!("worker.stage={stage}"));
    let produce = place.produce(&["--rate", "400", "--spans", "8000"]);
    let first = place.worker("spans 1", &[&spans]);
    let of_series = place.insider(&[&series]);
    wait_until("something is stored", PATIENCE, || match place.calls() {
        calls if calls > 500.0 => Ok(()),
        calls => Err(format!("{calls} calls\n{}", first.tail())),
    });
    let kinds: Vec<TaskKind> = of_series.telemetry.tasks().snapshot().into_iter().map(|(id, _)| id.kind).collect();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == TaskKind::Series), "{kinds:?}");
    // Dropping it is `kill -9`.
    drop(first);
    let mut second = place.worker("spans 2", &[&spans]);
    let mut other = place.worker("series 2", &[&series]);
    of_series.stop();
    let expected = place.wait_for(produce);
    wait_until("the workers work", PATIENCE, || {
        must_run(&mut second);
        must_run(&mut other);
        if place.calls() > 7_000.0 { Ok(()) } else { Err(format!("{}\n{}", second.tail(), other.tail())) }
    });
    place.is_exact(&expected, |_| true);
    for worker in [&mut second, &mut other] {
        assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    }
}

#[test]
fn a_worker_of_a_kafka_group_whose_other_stage_has_no_worker_is_not_ready_and_names_it() {
    let place = Place::start("alone", 1);
    let mut worker = place.worker("spans", &["worker.stage=spans", "admin.listen=127.0.0.1:0"]);
    let reason =
        "group alone-group-shards has no member; start workers with `worker.stage: series`, or set it to `both`";
    wait_until("the other stage is missed", PATIENCE, || {
        must_run(&mut worker);
        if worker.log().contains(reason) { Ok(()) } else { Err(worker.tail()) }
    });
    let both = place.worker("both", &[]);
    wait_until("nothing is missed", PATIENCE, || {
        let log = worker.log();
        let mut missed = log.lines().skip_while(|line| !line.contains(reason));
        if missed.any(|line| line.contains("condition=\"group\"") && line.contains("met again")) {
            Ok(())
        } else {
            Err(format!("{}\n{}", worker.tail(), both.tail()))
        }
    });
}
