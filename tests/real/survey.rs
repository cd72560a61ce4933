//! What a topic would cost, asked before anything is deployed.

use std::process::Command;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::PATIENCE;
use crate::servers::kafka::RealKafka;

#[test]
fn a_survey_of_a_kafka_topic_names_its_cost_and_who_makes_it() {
    let kafka = RealKafka::start();
    // These records are far older than any retention.
    kafka.tool("TopicCommand", &["--create", "--topic", "spans", "--config", "retention.ms=-1"]);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().expect("a producer");
    for i in 0..40 {
        let value = request("cart", &format!("GET /cart/{}", 1_000 + i)).encode_to_vec();
        let record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to("spans").payload(value.as_slice()).timestamp(1_000_000 + i);
        producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");

    let brokers = format!("kafka.brokers={}", kafka.brokers);
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["check", "--set", &brokers, "--against", "spans"])
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "spans: 40 records, 40 spans",
        "tenant single-tenant: 40 label sets",
        "a partition touches 40.0 label sets in a step",
        "40 values  single-tenant / cart / span_name: GET /cart/",
        "40 names -> GET /cart/<_>",
    ] {
        assert!(said.contains(line), "{line:?} is missing in:\n{said}");
    }

    kafka.tool("TopicCommand", &["--create", "--topic", "foreign"]);
    for _ in 0..5 {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to("foreign").payload(b"{\"resourceSpans\":\n[]}");
        producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    let foreign = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["check", "--set", &brokers, "--set", "kafka.encoding=otlp_proto", "--against", "foreign"])
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&foreign.stdout);
    assert!(
        said.contains("WARNING: 5 of 5 records are dropped (undecodable), first foreign[0] at offset 0: "),
        "{said}"
    );
    assert!(said.contains("it looks like JSON") && said.contains(r#"{\"resourceSpans\":\n[]}"#), "{said}");

    let nothing = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["check", "--set", &brokers, "--set", "log.level=error", "--against", "no-such-topic"])
        .output()
        .expect("the program runs");
    assert_eq!(nothing.status.code(), Some(1));
}

fn request(service: &str, name: &str) -> ExportTraceServiceRequest {
    let value = Some(AnyValue { value: Some(Value::StringValue(service.to_owned())) });
    let attribute = KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() };
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: name.to_owned(),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: vec![attribute], ..Resource::default() });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}
