//! Asks a receiver, before a run, whether it would accept and keep samples of that age.
#![allow(clippy::disallowed_methods, reason = "how old samples are is a matter of the clock")]

use std::time::{SystemTime, UNIX_EPOCH};

use super::ExportError;
use super::query::{Inquirer, probe};
use crate::config::settings::RemoteWrite;
use crate::core::model::Millis;
use crate::core::model::labels::cuts;
use crate::core::remotewrite::Request;
use crate::core::remotewrite::acceptance::{
    Answers, Finding, Prometheus, Run, Victoria, judge_mimir, judge_probe, unknown,
};
use crate::core::remotewrite::encode::{Point, SeriesLabels, SeriesWriter, name_label};

/// The series of a probe.
pub const PROBE: &str = "spanmill_replay_probe";

/// What a run is going to send, and where.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The receiver.
    pub cfg: &'a RemoteWrite,
    /// Where its query API is, if that does not follow from `remote_write.url`.
    pub query_url: Option<&'a str>,
    /// Whose samples these are.
    pub tenant: &'a str,
    /// The oldest and the newest sample.
    pub range: (Millis, Millis),
    /// The collection interval.
    pub step: Millis,
    /// Whether there are native histograms.
    pub native: bool,
    /// Whether they come with classic buckets, too.
    pub both: bool,
}

/// The findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The kind of receiver that answered.
    pub target: &'static str,
    /// What it would do.
    pub findings: Vec<Finding>,
}

/// What a URL reveals about the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// Amazon Managed Service for Prometheus.
    Amazon,
    /// The path of Mimir and Cortex.
    Mimir,
    /// Any receiver.
    None,
}

/// Asks the receiver of `plan`. One that cannot be asked gets a probe: a single sample of the series [`PROBE`] at the
/// beginning of the run.
///
/// # Errors
/// Names the setting that cannot be used.
pub fn ask(plan: &Plan<'_>) -> Result<Outcome, ExportError> {
    let run = plan.run("the run starts");
    let (base, hint) = base(&plan.cfg.url);
    let server = Inquirer::new(plan.cfg, plan.query_url.unwrap_or(&base))?;
    let (target, mut findings) = asked(&server, plan.tenant, &run, hint);
    if !findings.iter().any(Finding::is_refusal) && (hint != Hint::None || target == UNKNOWN) {
        let answer = sample(run.from).map(|request| probe(plan.cfg, plan.tenant, &request));
        findings.extend(answer.map(|answer| match answer {
            Ok((status, text)) => judge_probe(&run, status, &text),
            Err(why) => Finding::Waits(format!("no answer from remote_write.url: {why}")),
        }));
    }
    Ok(Outcome { target, findings })
}

/// The same for samples that wait to be sent, once and without a probe. A receiver that does not answer, or reports
/// nothing about itself, leads to no refusal.
///
/// # Errors
/// Names the setting that cannot be used.
pub fn foresee(plan: &Plan<'_>) -> Result<Outcome, ExportError> {
    let (base, hint) = base(&plan.cfg.url);
    let server = Inquirer::new(plan.cfg, plan.query_url.unwrap_or(&base))?.once();
    let (target, findings) = asked(&server, plan.tenant, &plan.run("the oldest pending sample is"), hint);
    Ok(Outcome { target, findings })
}

/// Whether a receiver that answers as VictoriaMetrics does is one: then it discards exemplars. Call it outside of any async
/// runtime.
pub(super) fn drops_exemplars(cfg: &RemoteWrite, tenant: &str) -> bool {
    let (base, _) = base(&cfg.url);
    // The cluster version: only its own front has such paths.
    if base.contains("/insert/") && base.ends_with("/prometheus") {
        return true;
    }
    let Ok(server) = Inquirer::new(cfg, &base) else { return false };
    let metrics = server.once().get(tenant, "metrics").ok().filter(|said| said.status == 200);
    metrics.is_some_and(|said| Victoria::takes_samples(&String::from_utf8_lossy(&said.body)))
}

/// Remote-writes a request without a sample: checks the address, the credentials and the tenant.
///
/// # Errors
/// Names the setting that cannot be used, or the reason why there is no answer.
pub fn knock(cfg: &RemoteWrite, tenant: &str) -> Result<(u16, String), String> {
    probe(cfg, tenant, &Request::compress(&[], 0, 0, 0, &mut snap::raw::Encoder::new()))
}

const UNKNOWN: &str = "an unknown receiver";
const WINDOW: &str = "its out-of-order window";

/// Detects the kind of receiver, and what it would do.
fn asked(server: &Inquirer, tenant: &str, run: &Run, hint: Hint) -> (&'static str, Vec<Finding>) {
    match hint {
        Hint::Amazon => {
            let key = "the out-of-order window of the workspace (1m by default)";
            return ("Amazon Managed Service for Prometheus", vec![unknown(run, key)]);
        }
        Hint::Mimir => return ("Mimir or Cortex", judge_mimir(run, limits(server, tenant).as_deref())),
        Hint::None => {}
    }
    let get = |path: &str| server.get(tenant, path).map(|said| (said.status == 200).then_some(said.body));
    let Ok(flags) = get("api/v1/status/flags") else { return (UNKNOWN, vec![unknown(run, WINDOW)]) };
    let get = |path: &str| get(path).ok().flatten();
    if let Some(flags) = flags {
        let [config, tsdb, runtime, build] = ["config", "tsdb", "runtimeinfo", "buildinfo"]
            .map(|page| get(&format!("api/v1/status/{page}")).unwrap_or_default());
        let answers = Answers { flags: &flags, config: &config, tsdb: &tsdb, runtime: &runtime, build: &build };
        if let Some(prometheus) = Prometheus::read(&answers) {
            return ("Prometheus", prometheus.judge(run));
        }
    }
    let metrics = get("metrics").map(|body| String::from_utf8_lossy(&body).into_owned());
    match metrics.and_then(|text| Victoria::read(&text)) {
        Some(victoria) => ("VictoriaMetrics", victoria.judge(run)),
        None => (UNKNOWN, vec![unknown(run, WINDOW)]),
    }
}

/// Mimir's limits of a tenant.
fn limits(server: &Inquirer, tenant: &str) -> Option<Vec<u8>> {
    let said = server.get(tenant, "api/v1/user_limits").ok()?;
    (said.status == 200).then_some(said.body)
}

/// The address of the query API that belongs to an address of remote write.
fn base(url: &str) -> (String, Hint) {
    let url = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    if url.contains("://aps-workspaces") {
        return (url.strip_suffix("/api/v1/remote_write").unwrap_or(url).to_owned(), Hint::Amazon);
    }
    if let Some(root) = url.strip_suffix("/api/v1/push") {
        return (root.to_owned(), Hint::Mimir);
    }
    let ends = ["/api/v1/write", "/api/v1/remote_write", "/api/v1/receive"];
    (ends.into_iter().find_map(|end| url.strip_suffix(end)).unwrap_or(url).to_owned(), Hint::None)
}

/// A request with one sample.
fn sample(at: Millis) -> Option<Request> {
    let mut writer = SeriesWriter::new(1, 1 << 20, "trace_id");
    let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &name_label(PROBE), le: &[] };
    writer.push(&labels, Point { start: None, at: at.max(1), value: 0.0 }, None);
    writer.finish().into_iter().next()
}

pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

// === impl Plan ===

impl Plan<'_> {
    fn run(&self, begins: &'static str) -> Run {
        let (from, to) = self.range;
        Run { from, to, step: self.step, now: now(), native: self.native, both: self.both, begins }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether the run must not begin.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.findings.iter().any(Finding::is_refusal)
    }

    /// Why samples would be lost, if they would.
    #[must_use]
    pub fn loss(&self) -> Option<String> {
        let losses: Vec<&str> = self.findings.iter().filter_map(Finding::loss).collect();
        (!losses.is_empty()).then(|| losses.join("; "))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "preflight: {}", self.target)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_api_follows_from_the_address_of_remote_write() {
        for (url, expected, hint) in [
            ("http://p:9090/api/v1/write", "http://p:9090", Hint::None),
            ("http://p/prom/api/v1/write?x=y", "http://p/prom", Hint::None),
            ("http://m/api/v1/push", "http://m", Hint::Mimir),
            ("http://t/api/v1/receive", "http://t", Hint::None),
            ("http://other/", "http://other", Hint::None),
            (
                "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write",
                "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1",
                Hint::Amazon,
            ),
        ] {
            assert_eq!(base(url), (expected.to_owned(), hint), "{url}");
        }
    }

    #[test]
    fn a_probe_is_one_sample() {
        let body = crate::core::remotewrite::decode::body(&sample(5).expect("a request").body).expect("our own body");
        let one = &body.timeseries[0];
        assert_eq!((one.labels[0].value.as_str(), one.samples[0].timestamp), (PROBE, 5));
    }
}
