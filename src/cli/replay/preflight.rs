//! Asks a receiver, before a run, whether it would take and keep samples of that age.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::settings::RemoteWrite;
use crate::export::ExportError;
use crate::export::query::{Inquirer, probe};
use crate::model::Millis;
use crate::model::labels::cuts;
use crate::remotewrite::acceptance::{Answers, Finding, Prometheus, Run, Victoria, judge_mimir, judge_probe, unknown};
use crate::remotewrite::encode::{Point, SeriesLabels, SeriesWriter, name_label};

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
}

/// What has been found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What answered.
    pub target: &'static str,
    /// What it would do.
    pub findings: Vec<Finding>,
}

/// What an URL says about who listens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// Amazon Managed Service for Prometheus.
    Amazon,
    /// The path of Mimir and Cortex.
    Mimir,
    /// Anybody.
    None,
}

/// Asks the receiver of `plan`. One that cannot be asked gets a probe: a single sample of the series [`PROBE`] at the
/// beginning of the run.
///
/// # Errors
/// Names the setting that cannot be used.
pub fn ask(plan: &Plan<'_>) -> Result<Outcome, ExportError> {
    let (from, to) = plan.range;
    let run = Run { from, to, step: plan.step, now: now(), native: plan.native };
    let (base, hint) = base(&plan.cfg.url);
    let server = Inquirer::new(plan.cfg, plan.query_url.unwrap_or(&base))?;
    let (target, mut findings) = match hint {
        Hint::Amazon => {
            let key = "the out-of-order window of the workspace (1m unless its configuration says more)";
            ("Amazon Managed Service for Prometheus", vec![unknown(&run, key)])
        }
        Hint::Mimir => ("Mimir or Cortex", judge_mimir(&run, limits(&server, plan.tenant).as_deref())),
        Hint::None => asked(&server, plan.tenant, &run),
    };
    if !findings.iter().any(Finding::is_refusal) && (hint != Hint::None || target == UNKNOWN) {
        findings.push(match probe(plan.cfg, plan.tenant, &sample(from)) {
            Ok((status, text)) => judge_probe(&run, status, &text),
            Err(why) => Finding::Refusal(format!("no answer from remote_write.url: {why}; check it and the network")),
        });
    }
    Ok(Outcome { target, findings })
}

const UNKNOWN: &str = "an unknown receiver";

/// Finds out who it is, and what it would do.
fn asked(server: &Inquirer, tenant: &str, run: &Run) -> (&'static str, Vec<Finding>) {
    let get = |path: &str| server.get(tenant, path).ok().filter(|said| said.status == 200).map(|said| said.body);
    if let Some(flags) = get("api/v1/status/flags") {
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
        None => (UNKNOWN, vec![unknown(run, "its out-of-order window")]),
    }
}

/// What Mimir says about a tenant.
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
fn sample(at: Millis) -> bytes::Bytes {
    let mut writer = SeriesWriter::new(1, 1 << 20, "trace_id");
    let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &name_label(PROBE), le: &[] };
    writer.push(&labels, Point { zero_at: None, at: at.max(1), value: 0.0 }, None);
    writer.finish().into_iter().next().map(|request| request.body).unwrap_or_default()
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

// === impl Outcome ===

impl Outcome {
    /// Whether the run must not begin.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.findings.iter().any(Finding::is_refusal)
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
        let body = crate::remotewrite::decode::body(&sample(5)).expect("a request");
        let one = &body.timeseries[0];
        assert_eq!((one.labels[0].value.as_str(), one.samples[0].timestamp), (PROBE, 5));
    }
}
