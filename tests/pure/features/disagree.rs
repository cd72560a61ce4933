//! Two workers of one group with different values of a key, for every key that there is: they own the source partitions
//! and the shards by turns, and each begins with what the other has journaled.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::catch_unwind;
use std::path::Path;

use spanmill::config::{Reach, Sources, Tenants, load, reach, reaches};
use spanmill::core::deltas::DeltaRecord;
use spanmill::core::journal::{
    Change, EmitCause, EmitMark, JournalWriter, Owner, SeriesFold, SeriesSnapshot, SeriesState, frame::claim,
};
use spanmill::core::model::Family;
use spanmill::core::remotewrite::decode;
use spanmill::core::series::{ClosedStep, SeriesSettings};
use spanmill::core::tasks::series::{SeriesTask, Terms};
use spanmill::core::tasks::span::StepCut;

use super::lines;
use crate::features::enrich::enriched;
use crate::features::owner::{Disorder, run_by_turns};
use crate::features::shards::{Source, sources};
use crate::scramble::Dice;
use crate::streams::Event;

/// A client of a token endpoint.
const OAUTH2: &str = "remote_write.auth.type=oauth2";
const TOKEN_URL: &str = "remote_write.auth.oauth2.token_url=https://login.example.com/token";
const CLIENT_ID: &str = "remote_write.auth.oauth2.client_id=spanmill";
const CLIENT_SECRET: &str = "remote_write.auth.oauth2.client_secret=hunter2";

const PARTITIONS: i32 = 2;
const SHARDS: u32 = 2;
const EVENTS: usize = 40;
/// Of all workers. Stale and forgotten sets are made within a stream, and the other values below differ from these.
const BASE: [&str; 5] = [
    "kafka.shards=2",
    "series.stale_after=45s",
    "series.forget_after=120s",
    "limits.max_active_series=400",
    "span_metrics.events.dimensions=exception.type",
];

/// What the second worker has, by key. What is not here is a switch, and is the other way round.
const OTHER: &[(&str, &[&str])] = &[
    ("kafka.brokers", &["elsewhere:9092"]),
    ("kafka.topics", &["t,removed"]),
    ("kafka.topic_settings", &["[{topic: ^.*, encoding: otlp_proto}]"]),
    ("kafka.encoding", &["otlp_proto"]),
    ("kafka.start", &["latest"]),
    ("kafka.group_protocol", &["consumer"]),
    ("kafka.replication", &["3"]),
    ("kafka.dead_letter_topic", &["letters"]),
    ("kafka.stuck_after", &["5s"]),
    ("kafka.journal_retention", &["1h"]),
    ("kafka.repartition_partitions", &["3"]),
    ("kafka.repartition_retention", &["2h"]),
    ("kafka.properties", &["{client.id: other}"]),
    ("tenant.source", &["key"]),
    ("tenant.name", &["other"]),
    ("tenant.header", &["X-Other", "tenant.source=header"]),
    ("tenant.attribute", &["tenant.id", "tenant.source=attribute"]),
    ("overrides.file", &["/overrides.yaml"]),
    ("overrides.reload_every", &["1s"]),
    ("time.step", &["20s"]),
    ("time.source", &["span_end"]),
    ("time.lateness", &["90s", "time.source=span_end"]),
    ("time.idle", &["1s"]),
    ("time.max_future", &["0s"]),
    ("time.stall_grace", &["7s"]),
    ("naming.profile", &["otel"]),
    ("naming.namespace", &["mine", "naming.profile=otel"]),
    ("naming.unit", &["s", "naming.profile=otel"]),
    ("naming.invalid_utf8", &["replace"]),
    ("span_metrics.histogram_buckets", &["0.05,0.5,5"]),
    ("span_metrics.bucket_sets", &["[{services: [shop], buckets: [0.1, 1]}]"]),
    ("span_metrics.dimensions", &["region"]),
    ("span_metrics.calls_dimensions", &["region"]),
    ("span_metrics.latency_dimensions", &["region"]),
    ("span_metrics.dimension_mappings", &["[{name: both, source_labels: [region, cluster-id], join: /}]"]),
    ("span_metrics.scopes", &["lib-a"]),
    ("span_metrics.events.dimensions", &["region", "span_metrics.events.enabled=true"]),
    ("span_metrics.target_info_excluded_dimensions", &["region", "span_metrics.enable_target_info=true"]),
    (
        "span_metrics.filter_policies",
        &["[{exclude: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}]"],
    ),
    ("span_metrics.span_multiplier_key", &["sampling.ratio"]),
    ("span_metrics.span_multiplier_of_text", &["true", "span_metrics.span_multiplier_key=sampling.ratio"]),
    ("service_graphs.histogram_buckets", &["0.05,0.5,5"]),
    ("service_graphs.wait", &["1s"]),
    ("service_graphs.max_items", &["2"]),
    ("service_graphs.peer_attributes", &["db.name"]),
    ("service_graphs.database_name_attributes", &["db.system"]),
    ("service_graphs.database_node_attributes", &["db.name"]),
    ("service_graphs.latency_sides", &["client"]),
    ("service_graphs.ancestors", &["any"]),
    ("service_graphs.dimensions", &["region"]),
    (
        "service_graphs.filter_policies",
        &["[{exclude: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}]"],
    ),
    ("service_graphs.span_multiplier_key", &["sampling.ratio"]),
    ("service_graphs.service_namespace", &["name"]),
    ("service_graphs.failed_http_status", &["400"]),
    ("service_graphs.failed_grpc_codes", &["2"]),
    ("service_graphs.preset", &["recommended"]),
    ("host_info.host_identifiers", &["host.id", "host_info.enabled=true"]),
    ("host_info.metric_name", &["hosts", "host_info.enabled=true"]),
    ("attribute_metrics", &["[{name: a_total, labels: [service, region]}]"]),
    ("attribute_metrics_presets", &["[http]"]),
    ("slos", &["[{name: a, good: {latency: 20ms}, labels: [service, region]}]"]),
    ("traces.histogram_buckets", &["0.1,1", "traces.duration=true"]),
    ("traces.idle", &["1s", "traces.errors=true"]),
    ("traces.max_age", &["1s", "traces.errors=true"]),
    ("traces.late", &["0s", "traces.errors=true"]),
    ("traces.max_spans", &["2", "traces.errors=true"]),
    ("traces.repeated_calls", &["2", "traces.calls=true"]),
    ("traces.max_traces", &["2", "traces.errors=true"]),
    ("traces.branch_labels", &["[{name: route, from: root, key: http.route}]", "traces.span_metrics=true"]),
    ("duplicates.window", &["30s"]),
    ("duplicates.max_spans", &["3", "duplicates.window=30s"]),
    ("histograms.mode", &["both"]),
    ("histograms.native_bucket_factor", &["2", "histograms.mode=native"]),
    ("histograms.native_max_buckets", &["4", "histograms.mode=native"]),
    ("histograms.max_duration", &["1ms"]),
    ("span_names.mode", &["enabled"]),
    ("span_names.query_strings", &["true", "span_names.mode=enabled"]),
    ("span_names.short_ids", &["true", "span_names.mode=enabled"]),
    ("span_names.rules", &["[{match: ^get, replace: got}]", "span_names.mode=enabled"]),
    ("limits.max_tenants", &["1"]),
    ("limits.max_active_series", &["30"]),
    ("limits.max_active_series_per_service", &["20"]),
    ("limits.max_cardinality_per_label", &["1"]),
    ("limits.max_label_name_length", &["8"]),
    ("limits.max_label_value_length", &["2"]),
    ("series.stale_after", &["15s"]),
    ("series.forget_after", &["45s"]),
    ("series.snapshot_every", &["1s"]),
    ("series.zero_offset", &["500ms"]),
    ("series.interval", &["30s"]),
    ("series.resend_unchanged", &["30s"]),
    ("series.tenant_label", &["tenant"]),
    ("series.external_labels", &["{cluster: c}"]),
    ("series.exemplars.label", &["trace"]),
    ("remote_write.url", &["http://elsewhere/"]),
    ("remote_write.timeout", &["1s"]),
    ("remote_write.headers", &["{X-A: b}"]),
    ("remote_write.name", &["mimir"]),
    ("remote_write.max_backlog", &["1MiB"]),
    ("remote_write.on_backlog", &["drop"]),
    ("remote_write.type", &["otlp_http", "remote_write.url=http://elsewhere/v1/metrics"]),
    ("remote_write.otlp.resource_attributes", &["{a: b}", "remote_write.type=kafka", "remote_write.kafka.topic=t"]),
    ("remote_write.kafka.topic", &["t", "remote_write.type=kafka"]),
    ("remote_write.kafka.bootstrap_servers", &["other:9092", "remote_write.type=kafka", "remote_write.kafka.topic=t"]),
    ("remote_write.file.path", &["/f", "remote_write.type=file"]),
    ("remote_write.file.format", &["proto", "remote_write.type=file", "remote_write.file.path=/f"]),
    ("remote_write.file.max_size", &["1MiB", "remote_write.type=file", "remote_write.file.path=/f"]),
    ("remote_write.file.rotation_interval", &["1h", "remote_write.type=file", "remote_write.file.path=/f"]),
    ("remote_write.tenant_header", &["X-Other"]),
    ("remote_write.auth.type", &["bearer", "remote_write.auth.token=x"]),
    ("remote_write.auth.username", &["u", "remote_write.auth.type=basic", "remote_write.auth.password=p"]),
    ("remote_write.auth.password", &["p", "remote_write.auth.type=basic", "remote_write.auth.username=u"]),
    ("remote_write.auth.password_file", &["/p", "remote_write.auth.type=basic", "remote_write.auth.username=u"]),
    ("remote_write.auth.token", &["x", "remote_write.auth.type=bearer"]),
    ("remote_write.auth.token_file", &["/x", "remote_write.auth.type=bearer"]),
    ("remote_write.auth.oauth2.client_id", &["c", OAUTH2, TOKEN_URL, CLIENT_SECRET]),
    ("remote_write.auth.oauth2.client_secret", &["s", OAUTH2, TOKEN_URL, CLIENT_ID]),
    ("remote_write.auth.oauth2.client_secret_file", &["/s", OAUTH2, TOKEN_URL, CLIENT_ID]),
    ("remote_write.auth.oauth2.token_url", &["http://login/", OAUTH2, CLIENT_ID, CLIENT_SECRET]),
    ("remote_write.auth.oauth2.scopes", &["a,b", OAUTH2, TOKEN_URL, CLIENT_ID, CLIENT_SECRET]),
    ("remote_write.auth.oauth2.endpoint_params", &["{audience: a}", OAUTH2, TOKEN_URL, CLIENT_ID, CLIENT_SECRET]),
    ("remote_write.auth.oauth2.tls.ca_file", &["/ca.pem", OAUTH2, TOKEN_URL, CLIENT_ID, CLIENT_SECRET]),
    (
        "remote_write.auth.oauth2.tls.cert_file",
        &["/c.pem", OAUTH2, TOKEN_URL, CLIENT_ID, CLIENT_SECRET, "remote_write.auth.oauth2.tls.key_file=/k.pem"],
    ),
    (
        "remote_write.auth.oauth2.tls.key_file",
        &["/k.pem", OAUTH2, TOKEN_URL, CLIENT_ID, CLIENT_SECRET, "remote_write.auth.oauth2.tls.cert_file=/c.pem"],
    ),
    ("remote_write.auth.oauth2.tls.insecure_skip_verify", &["true", OAUTH2, TOKEN_URL, CLIENT_ID, CLIENT_SECRET]),
    ("remote_write.auth.region", &["eu-west-1", "remote_write.auth.type=sigv4"]),
    ("remote_write.auth.service", &["es", "remote_write.auth.type=sigv4", "remote_write.auth.region=eu-west-1"]),
    ("remote_write.auth.profile", &["p", "remote_write.auth.type=sigv4", "remote_write.auth.region=eu-west-1"]),
    (
        "remote_write.auth.role_arn",
        &["arn:aws:iam::1:role/r", "remote_write.auth.type=sigv4", "remote_write.auth.region=eu-west-1"],
    ),
    ("remote_write.tls.ca_file", &["/ca.pem", "remote_write.url=https://h/"]),
    ("remote_write.tls.cert_file", &["/c.pem", "remote_write.tls.key_file=/k.pem", "remote_write.url=https://h/"]),
    ("remote_write.tls.key_file", &["/k.pem", "remote_write.tls.cert_file=/c.pem", "remote_write.url=https://h/"]),
    ("remote_write.tls.insecure_skip_verify", &["true", "remote_write.url=https://h/"]),
    ("remote_write.max_samples", &["3"]),
    ("remote_write.min_in_flight", &["2"]),
    ("remote_write.max_in_flight", &["4"]),
    ("remote_write.on_status", &["{404: reject}"]),
    ("remote_write.protocol", &["1.0"]),
    ("remote_write.convert_classic_histograms_to_nhcb", &["true"]),
    ("remote_write.exemplars", &["off"]),
    ("remote_write.max_sample_age", &["1h"]),
    ("remote_write.metadata_interval", &["5m"]),
    ("remote_write.quarantine", &["10m"]),
    ("remote_write.preflight", &["false"]),
    ("remote_write.write_relabel_configs", &["[{source_labels: [__name__], regex: calls, action: drop}]"]),
    ("remote_write.max_bytes", &["1KiB"]),
    ("remote_write.min_backoff", &["1ms"]),
    ("remote_write.max_backoff", &["1h"]),
    ("worker.stage", &["spans"]),
    ("worker.threads", &["3"]),
    ("worker.max_commit_bytes", &["1KiB"]),
    ("worker.fetch_buffer_bytes", &["1MiB"]),
    ("worker.memory_limit", &["1GiB"]),
    ("worker.shutdown_timeout", &["1s"]),
    ("admin.listen", &["127.0.0.1:9999"]),
    ("admin.ready_max_lag", &["1s"]),
    ("admin.token", &["secret"]),
    ("admin.token_file", &["/token"]),
    ("admin.metrics_without_token", &["true", "admin.token=secret"]),
    ("admin.tls.cert_file", &["/c.pem", "admin.tls.key_file=/k.pem"]),
    ("admin.tls.key_file", &["/k.pem", "admin.tls.cert_file=/c.pem"]),
    ("telemetry.traces.endpoint", &["http://127.0.0.1:9/v1/traces"]),
    ("telemetry.traces.sampling", &["0.5"]),
    ("telemetry.traces.headers", &["{X-A: b}"]),
    ("log.level", &["debug"]),
    ("log.format", &["json"]),
];

/// Keys that decide a number and leave every series its name, its zero and its values: how much it grows by is what was
/// counted, whichever worker counted.
const GROWS_ALIKE: [&str; 14] = [
    "kafka.topic_settings",
    "kafka.encoding",
    "kafka.topics",
    "kafka.start",
    "time.step",
    "time.source",
    "time.lateness",
    "time.idle",
    "time.max_future",
    "time.stall_grace",
    "series.stale_after",
    "series.forget_after",
    "series.zero_offset",
    "series.exemplars.on_counters",
];

/// What the receiver has: by shard and step, every series with its samples.
type Said = BTreeMap<(u32, i64), BTreeSet<String>>;

pub(crate) fn assert_every_key() {
    let base = tenants(&[]);
    let alone = together("", [&base, &base]);
    let fails = |key: &str| catch_unwind(|| assert_key(key, &base, &alone)).is_err();
    let failed: Vec<&str> = reaches().map(|(key, _)| key).filter(|key| fails(key)).collect();
    assert!(failed.is_empty(), "two workers do not go together with different values of {failed:?}");
    let unknown: Vec<_> = OTHER.iter().map(|(key, _)| key).filter(|key| reach(key).is_none()).collect();
    assert!(unknown.is_empty(), "no keys: {unknown:?}");
}

/// `alone` is what workers say that do not differ.
fn assert_key(key: &str, base: &Tenants, alone: &Said) {
    let reach = reach(key).unwrap_or_else(|| panic!("{key} has no row in src/config/reach.rs"));
    if reach == Reach::Group {
        // These never work together.
        assert!(
            ["kafka.group", "kafka.shards", "kafka.repartition"].contains(&key),
            "{key}: why would the other worker be refused?"
        );
        return;
    }
    let other = tenants(&other(key));
    let told = base.agreed().differences(other.agreed().text());
    let named = told.iter().any(|line| line.starts_with(&format!("{key} = ")));
    assert_eq!((told.is_empty(), named), (!reach.counts(), reach.counts()), "{key}: {told:?}");
    if reach == Reach::Worker {
        let said = together("", [base, &other]);
        let differ = said.iter().find(|(step, series)| alone.get(*step) != Some(*series)).map(|(step, _)| step);
        assert_eq!((said.len(), differ), (alone.len(), None), "{key} is each worker's own and makes a difference");
    } else {
        together(key, [base, &other]);
    }
}

fn tenants(set: &[String]) -> Tenants {
    let set: Vec<String> = BASE.iter().map(|set| (*set).to_owned()).chain(set.iter().cloned()).collect();
    let read_file = |path: &Path| match path.to_str() {
        Some("/overrides.yaml") => Ok("tenants: {}\n".to_owned()),
        Some(_) => Ok("secret".to_owned()),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let loaded = load(&Sources { file: None, env: &[], set: &set, read_file: &read_file });
    loaded.unwrap_or_else(|problems| panic!("{set:?}: {problems}")).tenants
}

/// The settings of the worker that has another value of `key`.
fn other(key: &str) -> Vec<String> {
    let Some((_, values)) = OTHER.iter().find(|(known, _)| *known == key) else {
        let set: Vec<String> = BASE.iter().map(|set| (*set).to_owned()).collect();
        let loaded = load(&Sources { file: None, env: &[], set: &set, read_file: &|_| Ok(String::new()) });
        let effective = loaded.expect("the base is legal").effective;
        let value = effective.into_iter().find(|e| e.path == key).map(|e| e.value);
        return match value.as_deref() {
            Some("true") => vec![format!("{key}=false")],
            Some("false") => vec![format!("{key}=true")],
            value => panic!("{key} is {value:?}: give it another value in OTHER"),
        };
    };
    let (first, more) = values.split_first().expect("a value");
    std::iter::once(format!("{key}={first}")).chain(more.iter().map(|set| (*set).to_owned())).collect()
}

/// Lets two workers count a topic together; the topic depends on the name of the key.
fn together(key: &str, workers: [&Tenants; 2]) -> Said {
    let seed = key.bytes().fold(5, |hash: u64, b| (hash * 31 + u64::from(b)) % 0xffff_fffb);
    let mut dice = Dice(seed);
    let partitions: Vec<Vec<Event>> = (0..PARTITIONS).map(|p| enriched(&mut dice, p as u8, EVENTS)).collect();
    let settings = workers.map(|tenants| tenants.span_settings_of("t"));
    let mut cuts = Vec::new();
    for (p, events) in (0..).zip(&partitions) {
        let disorder = Disorder { dice: &mut dice, calm: 10 };
        // Each partition begins with another worker. `run_by_turns` holds the ledgers against the spans.
        let mut by_turns = settings.clone();
        by_turns.rotate_left(p as usize % 2);
        cuts.push(run_by_turns(&by_turns, p, events, Some(disorder)));
    }
    let (mut said, mut grown) = (Said::new(), 0);
    for shard in 0..SHARDS {
        let mut group = Group::new(key, &mut dice, workers, &cuts, shard);
        group.live();
        grown += growth(group.closed.iter());
        said.append(&mut group.said);
    }
    if GROWS_ALIKE.contains(&key) {
        assert_eq!(grown, calls(&cuts), "{key}: what the series grow by, and what was counted");
    }
    said
}

/// A shard that two workers own by turns.
struct Group<'a> {
    key: &'a str,
    dice: &'a mut Dice,
    settings: [SeriesSettings; 2],
    /// The sources that each knows of.
    sources: [Vec<Source>; 2],
    shard: u32,
    deltas: Vec<Vec<u8>>,
    journal: Vec<Vec<u8>>,
    owners: u64,
    said: Said,
    closed: Vec<ClosedStep>,
}

/// The owner of the shard.
struct Task {
    task: SeriesTask,
    terms: Terms,
    writer: JournalWriter,
    /// Where it is in the deltas, and where its last mark ended.
    position: usize,
    marked: i64,
}

// === impl Group ===

impl<'a> Group<'a> {
    fn new(key: &'a str, dice: &'a mut Dice, workers: [&Tenants; 2], cuts: &[Vec<StepCut>], shard: u32) -> Self {
        let mut queues: Vec<_> =
            cuts.iter().map(|cuts| cuts.iter().flat_map(|cut| &cut.delta_records[shard as usize]).peekable()).collect();
        let mut deltas = Vec::new();
        while queues.iter_mut().any(|queue| queue.peek().is_some()) {
            let queue = &mut queues[dice.below(cuts.len() as u64) as usize];
            deltas.extend(queue.take(1 + dice.below(6) as usize).cloned());
        }
        let more = |tenants: &Tenants| {
            let added = tenants.defaults().kafka.topics.iter().any(|topic| topic == "removed");
            let more = added.then(|| ("removed".to_owned(), 0));
            more.into_iter().chain(sources(cuts)).collect()
        };
        let (settings, sources) = (workers.map(SeriesSettings::from), workers.map(more));
        let (journal, closed, said) = (Vec::new(), Vec::new(), Said::new());
        Self { key, dice, settings, sources, shard, deltas, journal, owners: 0, said, closed }
    }

    fn live(&mut self) {
        let mut owner = self.take_over();
        while owner.position < self.deltas.len() {
            self.apply(&mut owner);
            self.close_ready(&mut owner);
            if self.dice.below(25) == 0 {
                self.snapshot(&mut owner);
            }
            if self.dice.below(20) == 0 {
                owner = self.take_over();
            }
        }
    }

    fn of<'t, T>(&self, two: &'t [T; 2]) -> &'t T {
        &two[self.owners as usize % 2]
    }

    fn apply(&self, owner: &mut Task) {
        let applied = owner.task.apply(&self.deltas[owner.position]).expect("a delta record");
        assert_eq!(applied.lost, 0, "{}: {:?}", self.key, applied.first_lost);
        owner.position += 1;
    }

    fn close_ready(&mut self, owner: &mut Task) {
        let sources = self.of(&self.sources).clone();
        while let (Some(step), behind) = owner.task.held_back_by(&sources) {
            // No worker advances a source that only one of the workers knows of.
            if behind.iter().any(|(topic, _)| topic == "t") {
                return;
            }
            let (settings, gone) = (Vec::new(), owner.task.gone(&sources, step));
            owner.task.let_go(&gone);
            let closed = owner.task.close(step);
            let mut change = Change { settings, gone, endpoints: Vec::new() };
            (change.settings, _) = owner.terms.change(&mut owner.task);
            let (cause, behind) = (EmitCause::Forced, owner.task.places(behind));
            let mark = EmitMark { step, cause, acknowledged: None, left_out: Vec::new(), behind, basis: None, change };
            let to = owner.position as i64;
            self.journal.extend(owner.writer.commit(owner.marked, to, &mark.encode()));
            owner.marked = to;
            self.said.insert((self.shard, step), lines(&closed));
            self.closed.push(closed);
        }
    }

    fn snapshot(&mut self, owner: &mut Task) {
        let Some(step) = owner.task.closed() else { return };
        let (body, deltas_offset) = (owner.task.snapshot(), owner.position as i64);
        let settings = owner.task.settings().encode();
        let snapshot = SeriesSnapshot { body, deltas_offset, step, settings, ..SeriesSnapshot::default() };
        self.journal.extend(owner.writer.snapshot(&snapshot.encode()));
    }

    /// The other worker takes the shard over, and closes again what was closed since the last snapshot.
    fn take_over(&mut self) -> Task {
        self.owners += 1;
        let me = Owner(u128::from(self.owners));
        let claimed = self.journal.len() as i64;
        self.journal.push(claim(me, ""));
        let mut fold = SeriesFold::new();
        for (offset, record) in (0..).zip(&self.journal) {
            fold.apply(offset, record).expect("a frame");
        }
        let state = fold.into_state().expect("a whole journal");
        let own = self.of(&self.settings).clone();
        let known = state.settings().map(|bytes| SeriesSettings::decode(bytes, &own).expect("settings"));
        let mut terms = Terms::new(known.is_some());
        let settings = known.unwrap_or_else(|| own.clone());
        let writer = JournalWriter::new(me, claimed, state.next, state.next_commit_number);
        let (mut task, position) = self.refold(&state, settings);
        terms.want(&mut task, own);
        // A snapshot may have read on.
        Task { task, terms, marked: state.next.unwrap_or(position as i64), writer, position }
    }

    fn refold(&self, state: &SeriesState, settings: SeriesSettings) -> (SeriesTask, usize) {
        let (mut task, mut at) = match &state.snapshot {
            Some(snapshot) => {
                let task = SeriesTask::restore(settings, &snapshot.body).expect("our own snapshot");
                (task, snapshot.deltas_offset as usize)
            }
            None => (SeriesTask::new(settings), 0),
        };
        for (to, mark) in &state.marks {
            for record in &self.deltas[at..(*to as usize).max(at)] {
                assert_eq!(task.apply(record).expect("a delta record").lost, 0, "{}", self.key);
            }
            at = at.max(*to as usize);
            let again = lines(&task.close_again(mark).expect("readable settings"));
            let before = &self.said[&(self.shard, mark.step)];
            let contradicted: Vec<_> = again.symmetric_difference(before).take(4).collect();
            assert!(contradicted.is_empty(), "{}: step {} is said twice: {contradicted:#?}", self.key, mark.step);
        }
        (task, at)
    }
}

/// The calls that all delta records count.
fn calls(cuts: &[Vec<StepCut>]) -> u64 {
    let mut calls = 0;
    for record in cuts.iter().flatten().flat_map(|cut| &cut.delta_records).flatten() {
        let mut delta_record = DeltaRecord::decode(record).expect("a delta record");
        while let Some(set) = delta_record.next_set().expect("a set") {
            let is_span = delta_record.layouts[set.layout].family() == Family::SpanMetrics;
            let of_set = set.cells.iter().filter(|cell| is_span && cell.cell == 0).map(|cell| cell.value);
            calls += of_set.sum::<u64>();
        }
    }
    calls
}

/// By how much the counters of calls grow, over all their resets. Steps come in order.
fn growth<'a>(steps: impl Iterator<Item = &'a ClosedStep>) -> u64 {
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut growth = 0.0;
    let requests = steps.flat_map(|step| &step.batches).flat_map(|b| b.requests.iter().map(|r| (&b.tenant, r)));
    for (tenant, request) in requests {
        for series in decode::body(&request.body).expect("our own body").timeseries {
            let name = format!("{tenant} {}", decode::text(&series.labels));
            if !name.contains("traces_spanmetrics_calls_total") {
                continue;
            }
            let known = last.entry(name.clone()).or_default();
            for value in series.samples.iter().map(|s| s.value).filter(|value| !decode::is_stale(*value)) {
                assert!(value == 0.0 || value >= *known, "{name} goes down from {known} to {value} without a zero");
                growth += if value == 0.0 { 0.0 } else { value - *known };
                *known = value;
            }
        }
    }
    growth as u64
}
