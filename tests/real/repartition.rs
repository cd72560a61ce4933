//! Source topics that are not partitioned by trace ID, and the stage that repartitions them.

use std::time::SystemTime;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::core::model::Counter;
use spanmill::core::otlp::apart;
use spanmill::tools::loadgen::{Expectation, Generator, Group, Options, Record, Topology};

use super::place::{Place, says};
use crate::PATIENCE;
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;

const PARTITIONS: i32 = 6;
/// A worker that is killed is gone for its groups after six seconds.
const SETTINGS: [&str; 4] = [
    "kafka.repartition=true",
    "kafka.properties.session.timeout.ms=6000",
    "kafka.properties.heartbeat.interval.ms=1000",
    "kafka.properties.topic.metadata.refresh.interval.ms=1000",
];

/// Seconds of a load that begins now, with what it counts to. The spans of every trace are in all partitions: each record
/// is made of single spans that are dealt out by turns.
fn scattered(seconds: i64) -> (Vec<(i32, Record)>, Expectation) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let rate = 1_000;
    let group = Group::Partition(1);
    let options = Options {
        start: now,
        rate,
        spans: Some(rate * seconds.unsigned_abs()),
        spans_per_record: 60,
        group,
        ..Options::default()
    };
    let mut generator = Generator::new(Topology::shop(1), 7, options);
    let mut out = Vec::new();
    for record in generator.by_ref() {
        let spans = apart(&record.value, |_| true).expect("a request");
        for partition in 0..PARTITIONS {
            let own = spans.iter().skip(partition as usize).step_by(PARTITIONS as usize);
            // Requests one behind the other are a request.
            let value: Vec<u8> = own.flatten().copied().collect();
            out.push((partition, Record { value, ..record.clone() }));
        }
    }
    (out, generator.expectation())
}

/// Sends the records whose time has come, until all of them are sent.
fn send_in_time(place: &Place, records: &[(i32, Record)], mut meanwhile: impl FnMut(usize)) {
    let mut sent = 0;
    wait_until("the load is sent", PATIENCE, || {
        let now = (crate::servers::api::now() * 1e3) as i64;
        let due = records[sent..].iter().take_while(|(_, record)| record.timestamp <= now).count();
        place.send(records[sent..sent + due].iter().map(|(partition, record)| (*partition, record)));
        sent += due;
        meanwhile(sent);
        if sent == records.len() { Ok(()) } else { Err(format!("{sent} of {}", records.len())) }
    });
}

#[test]
fn a_kafka_topic_with_traces_in_all_partitions_is_repartitioned_exactly_through_the_death_of_a_worker() {
    // What a dead worker leaves open is looked for more often than by default.
    let kafka = RealKafka::start_with("transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n");
    let place = Place::start_on(kafka, "mixed", PARTITIONS.unsigned_abs());
    let mut dies = place.worker("dies", &SETTINGS);
    let stays = place.insider(&SETTINGS);
    says(&mut dies, "partitions assigned");
    wait_until("both repartition", PATIENCE, || match stays.metric("spanmill_repartition_transactions_total") {
        0 => Err(stays.telemetry.render()),
        _ => Ok(()),
    });
    let (records, expected) = scattered(6);
    let mut killed = false;
    send_in_time(&place, &records, |sent| {
        if !killed && sent > records.len() / 3 {
            dies.kill();
            killed = true;
        }
    });
    place.is_exact(&expected, |_| true);
    assert_eq!(stays.metric("spanmill_sampled_traces_split_total"), 0, "each trace is in one partition");
    assert!(stays.metric("spanmill_repartition_spans_total") > 0);
    assert_eq!(stays.metric("spanmill_repartition_records_lost_total"), 0);
    wait_until("nothing is unread", PATIENCE, || match stays.metric("spanmill_repartition_lag_records") {
        0 => Ok(()),
        unread => Err(unread.to_string()),
    });
    assert!(stays.telemetry.conditions().ready(), "{:?}", stays.telemetry.conditions().reports());
    stays.stop();
}

/// The calls of a tenant.
fn calls(place: &Place, tenant: &str) -> f64 {
    let of = format!("{tenant}/traces_spanmetrics_calls_total");
    let series = place.receiver.snapshot().into_iter().filter(|(series, _)| series.starts_with(&of));
    series.map(|(_, state)| state.last_value).sum()
}

#[test]
fn kafka_records_keep_their_tenant_and_what_cannot_be_read_is_copied_once_and_a_group_does_not_change_its_mind() {
    let place = Place::start("kept", 2);
    let own = ["tenant.source=key", "kafka.dead_letter_topic=letters", "kafka.repartition_retention=1h"];
    // Not a sample of every series for each second of what is old.
    let few = ["time.step=10s", "service_graphs.enabled=false"];
    let settings = [&SETTINGS[..], &own, &few].concat();
    let worker = place.insider(&settings);
    let (records, expected) = scattered(1);
    let spans = 2.0 * expected.ledger().get(Counter::SpansRead) as f64;
    let producer: BaseProducer = place.client().create().expect("a producer");
    let send = |partition: i32, tenant: &str, value: &[u8], time: i64| {
        let record =
            BaseRecord::<str, [u8]>::to("kept").partition(partition).key(tenant).payload(value).timestamp(time);
        producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
    };
    // Old enough to be deleted, and too young for its series to be forgotten; and now.
    for ago in [4_200_000, 0] {
        for (at, (partition, record)) in records.iter().enumerate() {
            send(partition % 2, if at % 2 == 0 { "acme" } else { "globex" }, &record.value, record.timestamp - ago);
        }
    }
    send(1, "acme", b"neither a request nor anything else", records[0].1.timestamp);
    producer.flush(PATIENCE).expect("everything is delivered");
    wait_until("both tenants have their spans", PATIENCE, || {
        let found = [calls(&place, "acme"), calls(&place, "globex")];
        let all = found[0] + found[1];
        if all.to_bits() == spans.to_bits() && found.iter().all(|calls| *calls > 0.0) {
            Ok(())
        } else {
            Err(format!("{found:?} of {spans}"))
        }
    });
    wait_until("the copy is there", PATIENCE, || match place.kafka.end("letters", 0) {
        1 => Ok(()),
        end => Err(end.to_string()),
    });
    wait_until("what is old and read is deleted, and nothing else", PATIENCE, || {
        let bounds = [0, 1].map(|partition| place.bounds("kept-group-kept-by-trace", partition));
        if bounds.iter().all(|(low, end)| *low > 0 && low < end) { Ok(()) } else { Err(format!("{bounds:?}")) }
    });
    worker.stop();
    assert_eq!(place.log("letters", 0), [b"neither a request nor anything else".to_vec()]);

    let mut plain = place.worker("plain", &["kafka.repartition=false"]);
    wait_until("it refuses", PATIENCE, || plain.exited().ok_or_else(|| plain.tail()));
    assert!(plain.tail().contains("set kafka.repartition to true"), "{}", plain.tail());
}
