//! A unary call of gRPC over HTTP/2: framing, trailers, and statuses.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body as _;
use prost::Message;
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderName};

use super::{Answer, MAX_TEXT, Version, in_part, printable};

pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const DETAILS: &str = "grpc-status-details-bin";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Delay {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// A compressed message behind its length.
pub(super) fn framed(gzipped: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(5 + gzipped.len());
    out.push(1);
    out.extend_from_slice(&(gzipped.len() as u32).to_be_bytes());
    out.extend_from_slice(gzipped);
    out.into()
}

/// Reads the message and the trailers of an answer.
pub(super) async fn answer(response: Response) -> Answer {
    let http_status = response.status().as_u16();
    let response = hyper::Response::<reqwest::Body>::from(response);
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut trailers, mut why) = (Vec::new(), HeaderMap::new(), String::new());
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) if bytes.len() < MAX_TEXT => bytes.extend_from_slice(&data),
            Ok(Ok(_)) => {}
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            Err(error) => {
                why = error.to_string();
                break;
            }
        }
    }
    // An answer without a message has its status in the headers.
    let said = if trailers.contains_key(STATUS) { &trailers } else { &parts.headers };
    read(http_status, said, &bytes, &why)
}

fn read(http_status: u16, said: &HeaderMap, body: &[u8], why: &str) -> Answer {
    let text = |name: &str| said.get(name).and_then(|value| value.to_str().ok());
    let answer = Answer { version: Version::OtlpGrpc, ..Answer::default() };
    let Some(code) = text(STATUS).and_then(|code| code.trim().parse::<i32>().ok()) else {
        // No server of gRPC, or an answer that broke off.
        let status = if (200..300).contains(&http_status) { 502 } else { http_status };
        let text = if why.is_empty() { "the answer has no grpc-status" } else { why };
        return Answer { status, text: printable(text), ..answer };
    };
    if code == 0 {
        return in_part(Answer { status: 200, ..answer }, body.get(5..).unwrap_or_default());
    }
    let message = decoded(text(MESSAGE).unwrap_or_default());
    let after = text(DETAILS).and_then(retry_delay);
    // The header of HTTP is in whole seconds.
    let retry_after = after.map(|after| after.as_millis().div_ceil(1_000).to_string());
    let status = status_of(code, &message);
    Answer { status, retry_after, text: printable(&format!("gRPC status {code}: {message}")), ..answer }
}

/// The status of HTTP that has the same verdict.
fn status_of(code: i32, message: &str) -> u16 {
    match code {
        // INVALID_ARGUMENT: the content is refused.
        3 => 400,
        // NOT_FOUND and UNIMPLEMENTED: the address is wrong, or the server is not set up.
        5 | 12 => 404,
        7 => 403,
        16 => 401,
        // RESOURCE_EXHAUSTED, which servers also answer to a message that is too large.
        8 if message.contains("larger than max") => 413,
        8 => 429,
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS: the next attempt may succeed.
        1 | 4 | 10 | 11 | 14 | 15 => 503,
        // INTERNAL, UNKNOWN, and the rest.
        _ => 500,
    }
}

fn retry_delay(details: &str) -> Option<Duration> {
    use base64::Engine as _;
    let details = details.trim().trim_end_matches('=');
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details).ok()?;
    let status = Status::decode(&*bytes).ok()?;
    let info = status.details.iter().find(|any| any.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

/// A percent-encoded text.
fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|d| char::from(*d).to_digit(16));
        rest = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                tail.get(2..).unwrap_or_default()
            }
            _ => {
                out.push(byte);
                tail
            }
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("legal"))).collect()
    }

    #[test]
    fn every_code_has_the_status_of_its_verdict() {
        for (code, status) in [
            (1, 503),
            (2, 500),
            (3, 400),
            (4, 503),
            (5, 404),
            (6, 500),
            (7, 403),
            (8, 429),
            (9, 500),
            (10, 503),
            (11, 503),
            (12, 404),
            (13, 500),
            (14, 503),
            (15, 503),
            (16, 401),
            (99, 500),
        ] {
            let answer = read(200, &said(&[(STATUS, &code.to_string())]), &[], "");
            assert_eq!(answer.status, status, "{code}");
        }
        let large = said(&[(STATUS, "8"), (MESSAGE, "grpc: received message larger than max (5 vs. 4)")]);
        assert_eq!(read(200, &large, &[], "").status, 413);
        assert_eq!(read(200, &said(&[]), &[], "").status, 502, "no server of gRPC");
        assert_eq!(read(404, &said(&[]), &[], "").status, 404);
        assert_eq!(read(200, &said(&[(STATUS, "0")]), &[], "").status, 200);
    }

    #[test]
    fn a_server_says_when_to_come_again_and_why() {
        use base64::Engine as _;
        let delay = Some(Delay { seconds: 1, nanos: 500_000_000 });
        let any = Any { type_url: RETRY_INFO.to_owned(), value: RetryInfo { retry_delay: delay }.encode_to_vec() };
        let status = Status { code: 14, message: String::new(), details: vec![any] };
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.encode_to_vec());
        let answer = read(200, &said(&[(STATUS, "14"), (MESSAGE, "a%20b%0Ac%"), (DETAILS, &details)]), &[], "");
        assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("2")));
        assert_eq!(answer.text, "gRPC status 14: a b c%");
    }
}
