//! What a receiver would do with the samples of a past range: whether it accepts them, and keeps them.
//!
//! *In:* what a server reports about itself, and the time range of the run. *Out:* findings, each refusal with its
//! remedy. *Owner:* the command that starts the run. *Never:* a guess that is not marked as one.

use serde::Deserialize;
use serde_json::Value;

use crate::core::model::Millis;
use crate::core::model::duration::milliseconds;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;
/// Without an out-of-order window, Prometheus takes new series that are at most this much older than its newest sample:
/// half a block.
const IN_ORDER: Millis = HOUR;
/// The first version of `VictoriaMetrics` that stores native histograms.
const VM_NATIVE: (u32, u32) = (1, 143);
/// A server whose newest sample is not older than this receives live samples: its newest sample advances with the wall
/// clock.
const LIVE: Millis = 10 * MINUTE;

/// The run whose samples are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The oldest sample.
    pub from: Millis,
    /// The newest sample.
    pub to: Millis,
    /// The collection interval.
    pub step: Millis,
    /// The present time.
    pub now: Millis,
    /// Whether some samples are native histograms.
    pub native: bool,
    /// Whether these histograms are sent with classic buckets, too.
    pub both: bool,
    /// The oldest sample as the subject of a sentence that continues with how long ago, such as `the run begins`.
    pub begins: &'static str,
}

/// One thing to know before a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It was checked, and is good.
    Good(String),
    /// It cannot be known, or it may become a problem.
    Warning(String),
    /// Nothing would be stored and nothing be lost: delivery would wait for the receiver. Holds the remedy.
    Waits(String),
    /// Samples would be rejected. Holds the remedy.
    Refusal(String),
}

/// What a Prometheus reports about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prometheus {
    /// Its version, such as `2.42.0`.
    pub version: String,
    /// The flag `--web.enable-remote-write-receiver`.
    pub receives: bool,
    /// `--enable-feature`.
    pub features: String,
    /// `storage.tsdb.out_of_order_time_window`.
    pub window: Millis,
    /// The newest sample, if there is one.
    pub newest: Option<Millis>,
    /// How long samples are kept; `None` without a limit of time.
    pub retention: Option<Millis>,
}

/// What a VictoriaMetrics reports about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Victoria {
    /// `-retentionPeriod`.
    pub retention: Option<Millis>,
    /// `-dedup.minScrapeInterval`.
    pub deduplication: Millis,
    /// Its version, such as 1.151, if it reports one.
    pub version: Option<(u32, u32)>,
}

/// The answers of the status endpoints of a Prometheus.
#[derive(Debug, Clone, Copy)]
pub struct Answers<'a> {
    /// `/api/v1/status/flags`
    pub flags: &'a [u8],
    /// `/api/v1/status/config`
    pub config: &'a [u8],
    /// `/api/v1/status/tsdb`
    pub tsdb: &'a [u8],
    /// `/api/v1/status/runtimeinfo`
    pub runtime: &'a [u8],
    /// `/api/v1/status/buildinfo`
    pub build: &'a [u8],
}

#[derive(Deserialize)]
struct Answer {
    data: Value,
}

// === impl Finding ===

impl Finding {
    /// Whether the run should not begin.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Waits(_) | Self::Refusal(_))
    }

    /// Why samples would be lost, if they would.
    #[must_use]
    pub fn loss(&self) -> Option<&str> {
        if let Self::Refusal(text) = self { Some(text) } else { None }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good(text) => write!(f, "ok: {text}"),
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::Waits(text) | Self::Refusal(text) => write!(f, "refused: {text}"),
        }
    }
}

// === impl Prometheus ===

impl Prometheus {
    /// Parses its answers; `None` if this is no Prometheus that stores samples.
    #[must_use]
    pub fn read(answers: &Answers<'_>) -> Option<Self> {
        let data = |body| serde_json::from_slice(body).map_or(Value::Null, |a: Answer| a.data);
        let flags = data(answers.flags);
        let flag = |name: &str| flags.get(name).and_then(Value::as_str).unwrap_or_default();
        flags.get("storage.tsdb.path")?;
        let newest = data(answers.tsdb)["headStats"]["maxTime"].as_i64();
        let retention = data(answers.runtime)["storageRetention"].as_str().map(str::to_owned);
        // `15d`, `15d or 10GiB`, or a size alone.
        let kept = retention.as_deref().and_then(|text| text.split(' ').next()).and_then(duration);
        Some(Self {
            version: data(answers.build)["version"].as_str().unwrap_or_default().to_owned(),
            receives: flag("web.enable-remote-write-receiver") == "true",
            features: flag("enable-feature").to_owned(),
            window: data(answers.config)["yaml"].as_str().and_then(window_in).unwrap_or(0),
            // An empty head has the minimum time.
            newest: newest.filter(|at| *at > 0),
            retention: kept.filter(|kept| *kept > 0),
        })
    }

    /// What it would do with the samples of a run.
    #[must_use]
    pub fn judge(&self, run: &Run) -> Vec<Finding> {
        let mut found = Vec::new();
        if !self.receives {
            found.push(Finding::Waits(
                "Prometheus does not accept remote write; start it with --web.enable-remote-write-receiver".to_owned(),
            ));
        }
        found.push(self.judge_order(run));
        if let Some(retention) = self.retention {
            let remedy = |need| format!("start Prometheus with --storage.tsdb.retention.time={need} or more");
            found.push(judge_retention(run, retention, &remedy));
        }
        found.extend(self.judge_native(run));
        found
    }

    fn judge_order(&self, run: &Run) -> Finding {
        judge_order(run, self.window, self.newest, "storage.tsdb.out_of_order_time_window", "reload Prometheus")
    }

    fn judge_native(&self, run: &Run) -> Option<Finding> {
        let major: u32 = self.version.split('.').next()?.parse().ok()?;
        if !run.native || major >= 3 {
            return None;
        }
        let version = &self.version;
        if !self.features.contains("native-histograms") {
            // It answers 500 to them.
            return Some(Finding::Waits(format!(
                "Prometheus {version} drops native histograms; start it with --enable-feature=native-histograms, or \
                 replay with classic histograms"
            )));
        }
        let in_order = self.newest.is_none_or(|newest| newest < run.from);
        let takes = in_order || self.features.contains("ooo-native-histograms");
        (!takes).then(|| {
            Finding::Refusal(format!(
                "Prometheus {version} rejects native histograms that are older than its newest sample, whatever its \
                 out-of-order window; use Prometheus 3, or replay with classic histograms"
            ))
        })
    }
}

// === impl Victoria ===

impl Victoria {
    /// Reads its metrics; `None` when this is no VictoriaMetrics.
    #[must_use]
    pub fn read(metrics: &str) -> Option<Self> {
        let app = metrics.lines().find(|line| line.starts_with("vm_app_version"))?;
        let flag = |name: &str| {
            let begin = format!("flag{{name=\"{name}\", value=\"");
            let rest = metrics.lines().find_map(|line| line.strip_prefix(begin.as_str()))?;
            rest.split('"').next()
        };
        // A number alone counts months, which have 31 days.
        let months = |text: &str| text.parse().ok().map(|months: i64| months.saturating_mul(31 * DAY));
        Some(Self {
            retention: flag("retentionPeriod").and_then(|text| months(text).or_else(|| duration(text))),
            deduplication: flag("dedup.minScrapeInterval").and_then(duration).unwrap_or(0),
            version: short_version(app),
        })
    }

    /// Whether these are the metrics of a server that takes samples: a proxy of the same family is none.
    #[must_use]
    pub fn takes_samples(metrics: &str) -> bool {
        let app = metrics.lines().find(|line| line.starts_with("vm_app_version"));
        app.is_some_and(|app| !app.contains("version=\"vmauth"))
    }

    /// What it would do with the samples of a run.
    #[must_use]
    pub fn judge(&self, run: &Run) -> Vec<Finding> {
        let mut found = Vec::new();
        match self.retention {
            Some(retention) => {
                let remedy = |need| format!("start VictoriaMetrics with -retentionPeriod={need} or more");
                found.push(judge_retention(run, retention, &remedy));
            }
            None => found.push(Finding::Warning(
                "VictoriaMetrics does not report how long it keeps samples; it drops older samples without an error"
                    .to_owned(),
            )),
        }
        if self.deduplication > run.step {
            let (interval, step) = (show(self.deduplication), show(run.step));
            found.push(Finding::Warning(format!(
                "-dedup.minScrapeInterval={interval} is longer than a step ({step}): VictoriaMetrics drops samples in between"
            )));
        }
        found.extend(self.judge_native(run));
        found
    }

    fn judge_native(&self, run: &Run) -> Option<Finding> {
        if !run.native {
            return None;
        }
        match self.version {
            Some(version) if version < VM_NATIVE => Some(Finding::Warning(format!(
                "VictoriaMetrics {}.{} drops native histograms without an error; upgrade it to 1.143 or later, or set \
                 histograms.mode: classic",
                version.0, version.1
            ))),
            Some((major, minor)) if run.both => Some(Finding::Waits(format!(
                "VictoriaMetrics {major}.{minor} stores native histograms as vmrange buckets under the names of the classic \
                 ones: with histograms.mode: both, every _count is there twice and quantiles are wrong; set histograms.mode \
                 to classic or native"
            ))),
            Some(_) => None,
            None => Some(Finding::Warning(
                "VictoriaMetrics does not report its version; before 1.143 it drops native histograms without an error, and \
                 later versions need histograms.mode: classic or native, not both"
                    .to_owned(),
            )),
        }
    }
}

/// The version in a line such as `vm_app_version{version="...", short_version="v1.151.0"} 1`.
fn short_version(line: &str) -> Option<(u32, u32)> {
    let (_, rest) = line.split_once("short_version=\"v")?;
    let mut numbers = rest.split(['.', '"', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What a Mimir would do. Its `/api/v1/user_limits` reports how long a tenant's samples are kept, not how old they may
/// be.
#[must_use]
pub fn judge_mimir(run: &Run, limits: Option<&[u8]>) -> Vec<Finding> {
    let limits: Value = limits.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    let kept = limits["compactor_blocks_retention_period"].as_str().and_then(duration).filter(|kept| *kept > 0);
    let remedy = |need| format!("set limits.compactor_blocks_retention_period of the tenant to {need} or more");
    let mut found: Vec<Finding> = kept.map(|kept| judge_retention(run, kept, &remedy)).into_iter().collect();
    found.push(unknown(run, "limits.out_of_order_time_window of the tenant"));
    found
}

/// The finding about a receiver that cannot be queried.
#[must_use]
pub fn unknown(run: &Run, key: &str) -> Finding {
    let need = show(up(run.now - run.from));
    Finding::Warning(format!(
        "this receiver does not report its limits; if it also gets live samples, {key} must be at least {need}"
    ))
}

/// The meaning of the answer to one sample at the beginning of the run: an error about the samples refuses the run, and
/// one about the credentials, the address or the protocol would be retried.
#[must_use]
pub fn judge_probe(run: &Run, status: u16, text: &str) -> Finding {
    match status {
        200..=299 => Finding::Good("a probe at the beginning of the run was accepted".to_owned()),
        400 | 409 | 413 | 422 => Finding::Refusal(format!(
            "a probe at the beginning of the run was rejected with {status}: {text}; widen the receiver's \
             out-of-order window to {} or more",
            show(up(run.now - run.from))
        )),
        408 | 425 | 429 | 500..=599 => Finding::Warning(format!(
            "the receiver answers a probe with {status}: {text}; it is unknown whether it accepts samples of that \
             age, and the run will retry until it does"
        )),
        _ => Finding::Waits(format!(
            "a probe was rejected with {status}: {text}; {}",
            super::verdict::remedy(status, text)
        )),
    }
}

fn judge_order(run: &Run, window: Millis, newest: Option<Millis>, key: &str, then: &str) -> Finding {
    let Some(newest) = newest else {
        if window >= up(run.to - run.from) - HOUR {
            return Finding::Good(format!("{key} is {}, and there is no sample yet", show(window)));
        }
        let need = show(up(run.to - run.from));
        return Finding::Warning(format!(
            "there is no sample yet, and {key} is {}: samples of shards that lag more than {} behind the first one \
             would be rejected; set it to {need} to be safe, and {then}",
            show(window),
            show(window.max(IN_ORDER))
        ));
    };
    let (live, begins) = (newest >= run.now - LIVE, run.begins);
    let newest = newest.max(run.to).max(if live { run.now } else { newest });
    let behind = newest - run.from;
    if behind <= window {
        let (window, behind) = (show(window), show(behind));
        return Finding::Good(format!("{key} is {window}, and {begins} {behind} back"));
    }
    if window == 0 && behind <= IN_ORDER {
        return Finding::Warning(format!(
            "{key} is 0s: samples of series that have newer samples already would be rejected; set it to {} to be \
             safe, and {then}",
            show(up(behind))
        ));
    }
    let (window, need, behind) = (show(window), show(up(behind)), show(behind));
    Finding::Refusal(format!(
        "{begins} {behind} before the newest sample, and {key} is {window}: older samples are dropped; set it to \
         {need} or more, and {then}"
    ))
}

fn judge_retention(run: &Run, retention: Millis, remedy: &dyn Fn(String) -> String) -> Finding {
    let age = run.now - run.from;
    let (kept, ago, begins) = (show(retention), show(age), run.begins);
    if age <= retention {
        return Finding::Good(format!("samples are kept for {kept}, and {begins} {ago} ago"));
    }
    let remedy = remedy(format!("{}d", up(age).div_euclid(DAY) + 1));
    Finding::Refusal(format!("samples are kept for {kept}, and {begins} {ago} ago: they would be deleted; {remedy}"))
}

/// The first out-of-order window that a configuration in YAML names.
fn window_in(yaml: &str) -> Option<Millis> {
    let lines = yaml.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("out_of_order_time_window:"))
        .find_map(|text| duration(text.trim().trim_matches('"')))
}

/// A length of time such as `1h30m`.
fn duration(text: &str) -> Option<Millis> {
    milliseconds(text).filter(|ms| *ms >= 0)
}

/// A duration plus an hour of margin, in whole hours: time passes during the run.
fn up(ms: Millis) -> Millis {
    (ms.max(0).div_euclid(HOUR) + 2) * HOUR
}

/// A duration that servers parse and users understand: the two greatest units.
fn show(ms: Millis) -> String {
    let parts = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (1, "ms")];
    let (mut left, mut out, mut shown) = (ms.max(0), String::new(), 0);
    for (unit, name) in parts {
        let n = left / unit;
        left %= unit;
        if n > 0 && shown < 2 {
            out.push_str(&format!("{n}{name}"));
        }
        shown += usize::from(n > 0 || shown > 0);
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_700_000_000_000;

    fn run(ago: Millis) -> Run {
        Run {
            from: NOW - ago,
            to: NOW - ago + HOUR,
            step: 15_000,
            now: NOW,
            native: false,
            both: false,
            begins: "the run begins",
        }
    }

    fn ready() -> Prometheus {
        Prometheus { version: "2.42.0".to_owned(), receives: true, ..Prometheus::default() }
    }

    fn refusals(found: &[Finding]) -> Vec<String> {
        found.iter().filter(|f| f.is_refusal()).map(ToString::to_string).collect()
    }

    #[test]
    fn prometheus_is_read_from_its_status_pages() {
        let answers = Answers {
            flags: br#"{"data":{"storage.tsdb.path":"d","web.enable-remote-write-receiver":"true","enable-feature":"x"}}"#,
            config: br#"{"data":{"yaml":"storage:\n  tsdb:\n    outofordertimewindow: 5400000\n    out_of_order_time_window: 1h30m\n"}}"#,
            tsdb: br#"{"data":{"headStats":{"maxTime":1700000000000}}}"#,
            runtime: br#"{"data":{"storageRetention":"15d or 10GiB"}}"#,
            build: br#"{"data":{"version":"2.42.0+ds"}}"#,
        };
        let read = Prometheus::read(&answers).expect("a Prometheus");
        let expected = Prometheus {
            version: "2.42.0+ds".to_owned(),
            receives: true,
            features: "x".to_owned(),
            window: 90 * MINUTE,
            newest: Some(NOW),
            retention: Some(15 * DAY),
        };
        assert_eq!(read, expected);
        let empty = Answers { tsdb: br#"{"data":{"headStats":{"maxTime":-9223372036854775808}}}"#, ..answers };
        assert_eq!(Prometheus::read(&empty).and_then(|p| p.newest), None);
        assert_eq!(Prometheus::read(&Answers { flags: br#"{"data":{"query.replica-label":""}}"#, ..answers }), None);
        assert_eq!(Prometheus::read(&Answers { flags: b"404 page not found", ..answers }), None);
    }

    #[test]
    fn a_run_that_a_prometheus_would_throw_away_is_refused_with_the_window_to_set() {
        let live = Prometheus { newest: Some(NOW - MINUTE), ..ready() };
        let found = refusals(&live.judge(&run(26 * HOUR)));
        let text = "refused: the run begins 1d2h before the newest sample, and storage.tsdb.out_of_order_time_window is 0s: \
                    older samples are dropped; set it to 1d4h or more, and reload Prometheus";
        assert_eq!(found, [text]);
        assert_eq!(refusals(&Prometheus { window: 27 * HOUR, ..live.clone() }.judge(&run(26 * HOUR))), [""; 0]);
        assert_eq!(refusals(&Prometheus { window: 25 * HOUR, ..live }.judge(&run(26 * HOUR))).len(), 1);
    }

    #[test]
    fn a_prometheus_that_gets_nothing_new_is_judged_by_its_newest_sample() {
        let old = Prometheus { newest: Some(NOW - 48 * HOUR), ..ready() };
        assert_eq!(refusals(&old.judge(&run(26 * HOUR))), [""; 0], "everything is newer");
        assert_eq!(refusals(&old.judge(&run(50 * HOUR))).len(), 1);
        let empty = ready().judge(&run(26 * HOUR));
        assert!(
            matches!(&empty[..], [Finding::Warning(text)] if text.starts_with("there is no sample yet")),
            "{empty:?}"
        );
        let wide = Prometheus { window: 9 * DAY, ..ready() }.judge(&run(26 * HOUR));
        assert!(matches!(&wide[..], [Finding::Good(_)]), "{wide:?}");
    }

    #[test]
    fn what_would_be_deleted_at_once_is_refused() {
        let p = Prometheus { window: 100 * DAY, newest: Some(NOW), retention: Some(15 * DAY), ..ready() };
        let found = refusals(&p.judge(&run(20 * DAY)));
        assert!(found[0].ends_with("start Prometheus with --storage.tsdb.retention.time=21d or more"), "{found:?}");
        assert_eq!(refusals(&p.judge(&run(14 * DAY))), [""; 0]);
        let v = Victoria { retention: Some(31 * DAY), ..Victoria::default() };
        let found = refusals(&v.judge(&run(40 * DAY)));
        assert!(found[0].ends_with("start VictoriaMetrics with -retentionPeriod=41d or more"), "{found:?}");
    }

    #[test]
    fn a_prometheus_without_the_receiver_or_native_histograms_is_refused() {
        let closed = Prometheus { receives: false, newest: None, ..ready() };
        assert!(refusals(&closed.judge(&run(HOUR)))[0].contains("--web.enable-remote-write-receiver"));
        let native = Run { native: true, ..run(HOUR) };
        assert!(refusals(&ready().judge(&native))[0].contains("--enable-feature=native-histograms"));
        let on = Prometheus { features: "native-histograms".to_owned(), newest: Some(NOW), window: DAY, ..ready() };
        assert!(refusals(&on.judge(&native))[0].contains("use Prometheus 3"));
        assert_eq!(refusals(&Prometheus { version: "3.1.0".to_owned(), ..on }.judge(&native)), [""; 0]);
    }

    #[test]
    fn victoria_is_read_from_its_metrics() {
        let metrics = |retention| {
            format!(
                "flag{{name=\"dedup.minScrapeInterval\", value=\"1m0s\", is_set=\"true\"}} 1\n\
                 flag{{name=\"retentionPeriod\", value=\"{retention}\", is_set=\"false\"}} 1\nvm_app_version{{}} 1\n"
            )
        };
        let read = |retention| Victoria::read(&metrics(retention)).expect("a VictoriaMetrics");
        assert_eq!(read("1"), Victoria { retention: Some(31 * DAY), deduplication: MINUTE, version: None });
        assert_eq!(read("100y").retention, Some(36_500 * DAY));
        assert_eq!(read("soon").retention, None);
        assert_eq!(Victoria::read("up 1\n"), None);
        assert!(
            read("1").judge(&run(DAY)).iter().any(|f| f.to_string().contains("-dedup.minScrapeInterval=1m is longer"))
        );
    }

    #[test]
    fn a_victoria_that_would_mix_native_histograms_with_classic_ones_is_refused() {
        let of = |version: &str| {
            let metrics = format!("vm_app_version{{version=\"victoria-metrics-x\", short_version=\"{version}\"}} 1\n");
            Victoria { retention: Some(31 * DAY), ..Victoria::read(&metrics).expect("a VictoriaMetrics") }
        };
        let run = |native, both| Run { native, both, ..run(HOUR) };
        assert_eq!(of("v1.151.0").version, Some((1, 151)));
        assert_eq!(of("v1.143.0-victorialogs").version, Some((1, 143)));
        assert_eq!(of("").version, None);
        let found = of("v1.151.0").judge(&run(true, true));
        assert!(refusals(&found)[0].contains("set histograms.mode to classic or native"), "{found:?}");
        assert!(found.iter().all(|f| f.loss().is_none()), "nothing is lost, so live samples do not wait");
        assert_eq!(of("v1.151.0").judge(&run(true, false)).len(), 1, "alone they are right");
        let old = of("v1.142.9").judge(&run(true, true));
        assert!(refusals(&old).is_empty() && old.iter().any(|f| f.to_string().contains("drops native")), "{old:?}");
        assert!(of("").judge(&run(true, true)).iter().any(|f| f.to_string().contains("not report its version")));
        assert_eq!(of("v1.151.0").judge(&run(false, false)).len(), 1);
    }

    #[test]
    fn a_mimir_says_how_long_samples_are_kept_and_not_how_old_they_may_be() {
        let limits = br#"{"ingestion_rate":10000,"compactor_blocks_retention_period":"1d"}"#;
        let found = judge_mimir(&run(26 * HOUR), Some(limits));
        assert!(refusals(&found)[0].contains("compactor_blocks_retention_period of the tenant to 2d"), "{found:?}");
        let unknown = judge_mimir(&run(26 * HOUR), None);
        assert!(
            matches!(&unknown[..], [Finding::Warning(text)] if text.ends_with("must be at least 1d4h")),
            "{unknown:?}"
        );
    }

    #[test]
    fn the_answer_to_a_probe_decides() {
        assert!(!judge_probe(&run(HOUR), 200, "").is_refusal());
        assert!(judge_probe(&run(HOUR), 400, "out of bounds").to_string().contains("out of bounds; widen"));
        for busy in [429, 503] {
            assert!(!judge_probe(&run(HOUR), busy, "later").is_refusal(), "{busy}");
        }
        for (status, remedy) in [
            (401, "remote_write.auth"),
            (403, "remote_write.auth"),
            (407, "remote_write.auth"),
            (404, "port and path of remote_write.url"),
            (302, "redirects to"),
            (415, "remote_write.protocol"),
            (451, "see the receiver's message"),
        ] {
            let found = judge_probe(&run(HOUR), status, "no");
            assert!(found.is_refusal() && found.loss().is_none(), "waited for: {status}");
            assert!(found.to_string().contains(remedy), "{found}");
        }
    }

    #[test]
    fn durations_are_read_and_shown() {
        for (text, ms) in [("0s", 0), ("1h30m", 90 * MINUTE), ("15d", 15 * DAY), ("1w2d", 9 * DAY), ("100ms", 100)] {
            assert_eq!(duration(text), Some(ms), "{text}");
        }
        for wrong in ["", "h", "5", "1x", "-1h"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!([show(0), show(90 * MINUTE), show(26 * HOUR), show(DAY + 5)], ["0s", "1h30m", "1d2h", "1d"]);
    }
}
