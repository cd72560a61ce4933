//! Tenants with settings of their own.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind::Internal;

use super::scene::{Scene, record, resource, span, stop};
use crate::servers::api::Api;
use crate::servers::daemon::Daemon;
use crate::servers::metrics::{RealPrometheus, RealVictoria};
use crate::servers::wait_until;
use crate::{PATIENCE, must_run, rows};

/// The first has VictoriaMetrics for itself, the second is in Prometheus.
const TENANTS: [&str; 2] = ["acme", "globex"];
/// Of one tenant in one round, by each way of telling tenants.
const SPANS: u64 = 50;

/// Two groups of workers: one takes tenants from an attribute, one from the topic.
struct Both {
    scene: Scene,
    prometheus: RealPrometheus,
    victoria: RealVictoria,
    workers: [Daemon; 2],
}

#[test]
fn tenants_of_kafka_topics_and_attributes_are_exact_in_prometheus_and_victoriametrics_also_when_settings_change() {
    let mut both = Both::start();
    both.send(1);
    both.wait_for(["region=\"\", team=\"a\"", "region=\"\", team=\"\""]);

    both.says("span_metrics: {dimensions: [region]}", "span_metrics: {calls_dimensions: [region]}");
    both.send(2);
    both.wait_for(["region=\"eu\", team=\"a\"", "region=\"eu\", team=\"\""]);

    let Both { prometheus, victoria, workers, .. } = both;
    for (api, tenant, other) in [(&victoria.api, "acme", "globex"), (&prometheus.api, "globex", "acme")] {
        let labels = |names: &str| rows(api, &format!("count({{__name__=~\"traces_.+\", {names}}})"));
        assert!(labels(&format!("service={other:?}")).is_empty(), "{other} is where it does not belong");
        assert!(!labels(&format!("service={tenant:?}")).is_empty());
        let old_and_new = calls(api, &format!("service={tenant:?}")).expect("a query");
        assert_eq!(old_and_new.to_bits(), (4.0 * SPANS as f64).to_bits());
        let latency = rows(api, "count(traces_spanmetrics_latency_count{region=\"eu\"})");
        assert_eq!(latency.is_empty(), tenant == "globex", "its new label is on calls only: {latency:?}");
    }
    workers.into_iter().for_each(stop);
}

// === impl Both ===

impl Both {
    fn start() -> Self {
        let (prometheus, victoria) = (RealPrometheus::start(), RealVictoria::start());
        let scene = Scene::start(prometheus.api.write_url());
        ["mixed", "acme", "globex"].iter().for_each(|topic| scene.create(topic, 1));
        let file = format!("overrides.file={}", scene.overrides().display());
        let common = [file.as_str(), "overrides.reload_every=1s", "service_graphs.enabled=false"];
        let start = |group, settings: &[&str]| scene.worker(group, group, &[&common[..], settings].concat());
        let attribute = ["tenant.source=attribute", "tenant.attribute=org", "tenant.name=globex"];
        let topic = ["kafka.topics=acme,globex", "tenant.source=topic", "series.external_labels.by=topic"];
        scene.says(&overrides(&victoria, "", ""));
        let by_attribute = start("mixed", &[&attribute[..], &["series.external_labels.by=attribute"]].concat());
        let by_topic = start("single", &topic);
        Self { scene, prometheus, victoria, workers: [by_attribute, by_topic] }
    }

    /// Gives both tenants settings more, and waits until they are in force.
    fn says(&mut self, acme: &str, globex: &str) {
        self.scene.says(&overrides(&self.victoria, acme, globex));
        for worker in &mut self.workers {
            wait_until("the new settings are in force", PATIENCE, || {
                must_run(worker);
                let log = worker.tail();
                if log.contains("overrides reloaded") { Ok(()) } else { Err(log) }
            });
        }
    }

    /// Sends the same spans to both groups.
    fn send(&self, round: u64) {
        let made = [made(round, "acme", &[("org", "acme")]), made(round, "globex", &[])];
        self.scene.send("mixed", [(0, record(made.to_vec()))]);
        for (topic, made) in TENANTS.into_iter().zip(made) {
            self.scene.send(topic, [(0, record(vec![made]))]);
        }
    }

    /// Waits until each receiver has a round of its tenant by each way, in series with these labels.
    fn wait_for(&mut self, labels: [&str; 2]) {
        wait_until("both receivers have their tenant", PATIENCE, || {
            self.workers.iter_mut().for_each(must_run);
            self.victoria.flush();
            let receivers = [&self.victoria.api, &self.prometheus.api];
            for ((api, tenant), labels) in receivers.into_iter().zip(TENANTS).zip(labels) {
                for by in ["attribute", "topic"] {
                    let found = calls(api, &format!("by={by:?}, service={tenant:?}, {labels}"))?;
                    if found.to_bits() != (SPANS as f64).to_bits() {
                        return Err(format!(
                            "{tenant}, {by}: {found}\n{}\n{}",
                            self.workers[0].tail(),
                            self.workers[1].tail()
                        ));
                    }
                }
            }
            Ok(())
        });
    }
}

fn overrides(victoria: &RealVictoria, acme: &str, globex: &str) -> String {
    let url = victoria.api.write_url();
    format!(
        "tenants:
  acme: {{remote_write: {{url: {url:?}}}, series: {{external_labels: {{team: a}}}}, {acme}}}
  globex: {{{globex}}}
"
    )
}

fn made(round: u64, tenant: &str, attributes: &[(&str, &str)]) -> ResourceSpans {
    let first = round * 2 * SPANS + if tenant == "acme" { 0 } else { SPANS };
    let spans = (first..first + SPANS).map(|id| span(id, "work", Internal, Duration::from_millis(id)));
    let attributes = [&[("service.name", tenant), ("region", "eu")][..], attributes].concat();
    resource(&attributes, spans.collect())
}

/// The sum of all calls with these labels; 0 without any.
fn calls(api: &Api, labels: &str) -> Result<f64, String> {
    let sum = api.instant(&format!("sum(traces_spanmetrics_calls_total{{{labels}}})"))?;
    Ok(sum.first().map_or(0.0, |row| row.value))
}
