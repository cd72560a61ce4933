//! Another number of shards on real Kafka: under load, to more and to fewer, interrupted at every stage; series continue.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use spanmill::worker::reshard::{How, ReshardError, Resharded, Stage, Unfinished, reshard};
use spanmill::worker::telemetry::Telemetry;

use super::place::{Place, all_run, says};
use crate::servers::daemon::Daemon;
use crate::servers::spanmill::spanmill;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

const PARTITIONS: usize = 3;
/// How long a member that was killed stays in its groups.
const SESSION: &str = "kafka.properties.session.timeout.ms=6000";
/// Edges wait in the time of the records, which stands still while no worker runs.
const WAIT: &str = "service_graphs.wait=5s";

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Waits until every series has a sample of this moment or a later one.
fn caught_up(place: &Place) {
    let begin = now();
    wait_until("all series go on", PATIENCE, || match place.slowest() {
        at if at >= begin => Ok(()),
        at => Err(format!("the slowest is {} ms behind", begin - at)),
    });
}

/// Divides the group, up to a stage.
fn divide(place: &Place, shards: u32, until: Option<Stage>) -> Result<Resharded, Unfinished> {
    let how = How { shards, patience: Duration::from_secs(30), stop: Arc::new(AtomicBool::new(false)) };
    reshard(place.config(&[WAIT]), Telemetry::new(), &how, &mut |stage| Some(stage) != until)
}

/// A worker with so many shards runs for a moment.
fn runs(place: &Place, shards: u32) {
    let worker = place.insider(&[&format!("kafka.shards={shards}"), WAIT]);
    all_run(&[&worker], PARTITIONS + shards as usize);
    worker.stop();
}

fn command(place: &Place, shards: &str) -> Daemon {
    let file = place.file();
    spanmill("reshard", &["reshard", "--config", file.to_str().expect("a temporary path is UTF-8"), "--shards", shards])
}

#[test]
fn a_kafka_group_under_load_is_divided_into_more_and_fewer_shards_and_no_series_is_reset_whenever_that_is_interrupted()
{
    let place = Place::start("resharded", PARTITIONS as u32);
    let Unfinished { why, .. } = divide(&place, 6, None).expect_err("no worker has run");
    assert!(matches!(*why, ReshardError::NotRun(_)), "{why}");
    let produce = place.produce(&["--rate", "600", "--seed", "5"]);
    let mut worker = place.worker("four", &[SESSION, WAIT]);
    caught_up(&place);
    let Unfinished { why, reserved } = divide(&place, 6, None).expect_err("a worker runs");
    assert!(matches!(*why, ReshardError::Members { .. }) && !reserved, "{why}");

    // It leaves closed steps that no receiver has acknowledged, delta records that no shard has counted, and its membership.
    worker.kill();
    for until in [Stage::Count, Stage::Send, Stage::Divide, Stage::Reserve] {
        let stopped = wait_until("the group is empty", PATIENCE, || match divide(&place, 6, Some(until)) {
            Err(Unfinished { why, .. }) if matches!(*why, ReshardError::Members { .. }) => Err(why.to_string()),
            outcome => Ok(outcome),
        });
        let Unfinished { why, reserved } = stopped.expect_err("it was stopped");
        assert!(matches!(*why, ReshardError::Stopped(at) if at == until) && !reserved, "{until}: {why}");
    }
    // Nothing has changed so far.
    runs(&place, 4);
    let Unfinished { reserved, .. } = divide(&place, 6, Some(Stage::Switch)).expect_err("it was stopped");
    assert!(reserved, "nothing of the old shards counts any more");
    let mut waits = place.worker("old", &[]);
    let log = says(&mut waits, "was interrupted. Run it again");
    assert!(log.contains("resharded-group-series-journal.sharding"), "{log}");
    assert_eq!(waits.terminate(STOPS_WITHIN).code(), Some(0), "{}", waits.tail());

    // A kill at any moment is no other end than one of these.
    let mut killed = command(&place, "6");
    says(&mut killed, "divide the series");
    killed.kill();
    let mut done = command(&place, "6");
    assert!(done.finish(PATIENCE).success(), "{}", done.tail());
    assert!(done.tail().contains("set kafka.shards to 6"), "{}", done.tail());
    let mut old = place.worker("old", &[]);
    assert_eq!(old.finish(PATIENCE).code(), Some(1), "{}", old.tail());
    assert!(old.tail().contains("set kafka.shards to 6 for all workers"), "{}", old.tail());

    runs(&place, 6);
    let Unfinished { why, .. } = divide(&place, 6, None).expect_err("it has as many");
    assert!(matches!(*why, ReshardError::Same(6)), "{why}");
    let fewer = divide(&place, 1, None).expect("nothing is in the way");
    assert_eq!((fewer.before.shards, fewer.after.shards), (6, 1));
    assert!(fewer.label_sets > 0 && fewer.after.number > fewer.before.number, "{fewer:?}");

    let worker = place.insider(&["kafka.shards=1", WAIT]);
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    worker.stop();
}
