//! The HTTP API that Prometheus and VictoriaMetrics share, as a blocking client.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::runtime::Runtime;

use super::series::Series;

/// A client of one server.
pub struct Api {
    base: String,
    client: reqwest::Client,
    runtime: Runtime,
}

/// One row of an instant query.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its series; the name is empty after an aggregation.
    pub series: Series,
    /// Its value.
    pub value: f64,
}

/// One series of a range query.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds since the epoch, value.
    pub points: Vec<(i64, f64)>,
}

impl Api {
    /// A client of the server at `host:port`.
    pub fn new(address: &str) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .expect("a client can be built");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
        Self { base: format!("http://{address}"), client, runtime }
    }

    /// Where remote write goes.
    pub fn write_url(&self) -> String {
        format!("{}/api/v1/write", self.base)
    }

    /// The status of a GET without a body that matters.
    pub fn status(&self, path: &str) -> Result<u16, String> {
        let url = format!("{}{path}", self.base);
        let answer = self.send(self.client.get(url));
        answer.map(|a| a.status().as_u16()).map_err(|e| e.to_string())
    }

    /// The text of a GET.
    pub fn text(&self, path: &str) -> Result<String, String> {
        let answer = self.send(self.client.get(format!("{}{path}", self.base))).map_err(|e| e.to_string())?;
        self.runtime.block_on(answer.text()).map_err(|e| e.to_string())
    }

    /// Where everything is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The status of a POST of `body`.
    pub fn post(&self, path: &str, body: Vec<u8>) -> u16 {
        let request = self.client.post(format!("{}{path}", self.base)).body(body);
        self.send(request).expect("the server answers").status().as_u16()
    }

    /// Sends one remote-write 1.0 request; `body` is not compressed yet.
    pub fn remote_write(&self, body: &[u8]) -> u16 {
        let compressed = snap::raw::Encoder::new().compress_vec(body).expect("a small body can be compressed");
        let request = self
            .client
            .post(self.write_url())
            .header("Content-Encoding", "snappy")
            .header("Content-Type", "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(compressed);
        self.send(request).expect("the server answers").status().as_u16()
    }

    /// An instant query, evaluated now.
    pub fn instant(&self, query: &str) -> Result<Vec<Row>, String> {
        let data = self.call("query", &[("query", query.to_owned()), ("time", now().to_string())])?;
        let rows = data["result"].as_array().ok_or_else(|| format!("{query}: no vector: {data}"))?;
        rows.iter().map(row).collect()
    }

    /// A query at every `step` from `start` to `end`, in seconds since the epoch. Its result is one series at most.
    pub fn range(&self, query: &str, start: i64, end: i64, step: i64) -> Result<Vec<(i64, f64)>, String> {
        let mut lines = self.ranges(query, start, end, step)?;
        match lines.len() {
            0 | 1 => Ok(lines.pop().map(|line| line.points).unwrap_or_default()),
            n => Err(format!("{query}: {n} series")),
        }
    }

    /// The same with any number of series.
    pub fn ranges(&self, query: &str, start: i64, end: i64, step: i64) -> Result<Vec<Line>, String> {
        let times = [("start", start), ("end", end), ("step", step)].map(|(name, value)| (name, value.to_string()));
        let form = [vec![("query", query.to_owned())], times.into()].concat();
        let data = self.call("query_range", &form)?;
        let lines = data["result"].as_array().ok_or_else(|| format!("{query}: no matrix: {data}"))?;
        let one = |v: &Value| -> Option<(i64, f64)> { Some((v[0].as_f64()? as i64, v[1].as_str()?.parse().ok()?)) };
        let points = |line: &Value| -> Result<Vec<(i64, f64)>, String> {
            let values = line["values"].as_array().into_iter().flatten();
            values.map(|value| one(value).ok_or_else(|| format!("{query}: no value: {value}"))).collect()
        };
        lines.iter().map(|line| Ok(Line { labels: labels(&line["metric"]), points: points(line)? })).collect()
    }

    /// The label sets of all exemplars of the last two hours.
    pub fn exemplars(&self, query: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
        let (start, end) = ((now() - 7200.0).to_string(), (now() + 60.0).to_string());
        let data = self.call("query_exemplars", &[("query", query.to_owned()), ("start", start), ("end", end)])?;
        let series = data.as_array().ok_or_else(|| format!("{query}: no list: {data}"))?;
        let exemplars = series.iter().flat_map(|s| s["exemplars"].as_array().into_iter().flatten());
        Ok(exemplars.map(|e| labels(&e["labels"])).collect())
    }

    /// The timeout of a request is made inside the runtime, so the request is sent from there.
    fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<reqwest::Response> {
        self.runtime.block_on(async { request.send().await })
    }

    fn call(&self, endpoint: &str, form: &[(&str, String)]) -> Result<Value, String> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/{endpoint}", self.base)).expect("the base is a URL");
        url.query_pairs_mut().extend_pairs(form);
        let answer = self.send(self.client.get(url)).map_err(|e| e.to_string())?;
        let text = self.runtime.block_on(answer.text()).map_err(|e| e.to_string())?;
        let mut json: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        match json["status"].as_str() {
            Some("success") => Ok(json["data"].take()),
            _ => Err(format!("{endpoint} {form:?}: {text}")),
        }
    }
}

fn row(json: &Value) -> Result<Row, String> {
    let value = json["value"][1].as_str().and_then(|v| v.parse().ok()).ok_or_else(|| format!("no value: {json}"))?;
    let mut labels = labels(&json["metric"]);
    let name = labels.remove("__name__").unwrap_or_default();
    Ok(Row { series: Series { name, labels }, value })
}

fn labels(json: &Value) -> BTreeMap<String, String> {
    let pairs = json.as_object().into_iter().flatten();
    pairs.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
}

/// Seconds since the epoch.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64()
}
