//! Endpoints that take OTLP metrics: receivers over HTTP and gRPC, Kafka topics and files.
//!
//! They hang on the same tracks as remote write: queue, order, retries, pauses, halving, filters and marks are the same. An
//! answer is mapped to a status of HTTP, so that one table of verdicts decides for all.

mod examine;
mod file;
mod grpc;
mod remedies;

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, TE};
use reqwest::{Response, Url};

use crate::config::settings::{FileFormat, OutputType, RemoteWrite};
use crate::core::remotewrite::otlp;
use crate::worker::kafka::SampleTopic;
use crate::worker::kafka::samples::Refused;

use super::client::{Answer, Client, Failure, MAX_TEXT};
use super::dialect::Version;
use super::recipient::Trouble;
use super::{ExportError, millis};
pub use examine::examine;
use file::OutputFile;
pub(super) use remedies::remedy;

/// What an endpoint is that is no remote write.
pub(super) struct Output {
    resource: Vec<(String, String)>,
    to: To,
}

enum To {
    Http,
    Grpc,
    Kafka(Box<SampleTopic>),
    File(Arc<OutputFile>),
}

// === impl Output ===

impl Output {
    /// The output of an endpoint; `None` if it is remote write. Nothing is connected or opened yet.
    pub(super) fn of(settings: &RemoteWrite) -> Result<Option<Self>, ExportError> {
        let refused = |error| ExportError::Kafka(Box::new(error));
        let to = match settings.kind {
            OutputType::RemoteWrite => return Ok(None),
            OutputType::OtlpHttp => To::Http,
            OutputType::OtlpGrpc => To::Grpc,
            OutputType::Kafka => {
                To::Kafka(Box::new(SampleTopic::new(&settings.kafka, millis(settings.timeout)).map_err(refused)?))
            }
            OutputType::File => To::File(Arc::new(OutputFile::new(settings.file.clone()))),
        };
        let resource = settings.otlp.resource_attributes.clone().into_iter().collect();
        Ok(Some(Self { resource, to }))
    }

    /// The attributes of the resource of all metrics.
    pub(super) fn resource(&self) -> &[(String, String)] {
        &self.resource
    }

    /// A message as it is sent or written.
    pub(super) fn framed(&self, message: &Bytes) -> Result<Bytes, Failure> {
        match &self.to {
            To::Http => Ok(gzip(message).into()),
            To::Grpc => Ok(grpc::framed(&gzip(message))),
            To::Kafka(_) => Ok(message.clone()),
            To::File(file) => match file.format() {
                FileFormat::Proto => Ok(file::framed(message)),
                FileFormat::Json => json_line(message).map_err(Failure::NoAnswer),
            },
        }
    }

    /// One attempt.
    pub(super) async fn send(
        &self,
        client: &Client,
        tenant: &str,
        body: Bytes,
        attempt: u32,
    ) -> Result<Answer, Failure> {
        match &self.to {
            To::Http => client.post(tenant, &body, attempt, Version::OtlpHttp).await,
            To::Grpc => client.post(tenant, &body, attempt, Version::OtlpGrpc).await,
            To::Kafka(topic) => match topic.send(tenant, &body).await {
                Ok(()) => Ok(Answer { status: 200, ..Answer::default() }),
                Err(Refused { too_large: true, why, .. }) => Ok(Answer { status: 413, text: why, ..Answer::default() }),
                Err(Refused { why, remedy, .. }) => {
                    Err(Failure::Output(Trouble { reason: "unreachable", why, remedy, after: None }))
                }
            },
            To::File(file) => {
                let file = Arc::clone(file);
                let written = tokio::task::spawn_blocking(move || file.append(&body)).await;
                let failed = match written {
                    Ok(Ok(())) => return Ok(Answer { status: 200, ..Answer::default() }),
                    Ok(Err(why)) => why,
                    Err(panicked) => panicked.to_string(),
                };
                let remedy = "check remote_write.file.path: its directory, its rights and the space of the disk";
                Err(Failure::Output(Trouble { reason: "unreachable", why: failed, remedy, after: None }))
            }
        }
    }
}

/// The URL of requests.
pub(super) fn with_path(mut url: Url, kind: OutputType) -> Url {
    if kind == OutputType::OtlpGrpc {
        url.set_path(otlp::GRPC_PATH);
    }
    url
}

/// Sets the headers of a request.
pub(super) fn put_headers(headers: &mut HeaderMap, version: Version) {
    if version == Version::OtlpGrpc {
        headers.remove(CONTENT_ENCODING);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(grpc::ENCODING, HeaderValue::from_static("gzip"));
        return;
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(otlp::CONTENT_TYPE));
}

/// Reads the answer to a request.
pub(super) async fn answer(version: Version, response: Response) -> Answer {
    if version == Version::OtlpGrpc { grpc::answer(response).await } else { over_http(response).await }
}

async fn over_http(mut response: Response) -> Answer {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    // The status is the answer; a text that breaks off changes nothing.
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MAX_TEXT {
            bytes.truncate(MAX_TEXT);
            break;
        }
    }
    let answer = Answer { version: Version::OtlpHttp, status, retry_after, ..Answer::default() };
    let is_message = ExportMetricsServiceResponse::decode(&*bytes).is_ok();
    if (200..300).contains(&status) && is_message {
        return in_part(answer, &bytes);
    }
    // The body of a refusal is a `google.rpc.Status`, or a text.
    let text = match grpc::Status::decode(&*bytes) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    };
    Answer { text: printable(&text), ..answer }
}

/// An answer that the request is stored, maybe but for some points.
fn in_part(answer: Answer, message: &[u8]) -> Answer {
    let partial = ExportMetricsServiceResponse::decode(message).ok().and_then(|response| response.partial_success);
    let Some(partial) = partial else { return answer };
    let rejected_points = u64::try_from(partial.rejected_data_points).unwrap_or(0);
    Answer { rejected_points, text: printable(&partial.error_message), ..answer }
}

fn printable(text: &str) -> String {
    let text: String = text.trim().chars().take(MAX_TEXT).collect();
    text.replace(|c: char| c.is_control(), " ")
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::with_capacity(message.len() / 4), Compression::fast());
    // A vector takes everything.
    if out.write_all(message).is_err() {
        return Vec::new();
    }
    out.finish().unwrap_or_default()
}

/// A message as a line of OTLP JSON.
fn json_line(message: &[u8]) -> Result<Bytes, String> {
    let request = ExportMetricsServiceRequest::decode(message).map_err(|e| e.to_string())?;
    let mut value = serde_json::to_value(&request).map_err(|e| e.to_string())?;
    without_nulls(&mut value);
    let mut line = serde_json::to_vec(&value).map_err(|e| e.to_string())?;
    line.push(b'\n');
    Ok(line.into())
}

/// Removes what is not there: the Collector reads no `null` where a number could be.
fn without_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
