//! Answers: their headers, their tags, and how they are compressed.

use std::io::Write;

use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::assets::Asset;

/// Scripts, styles and requests of this origin, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Shorter answers are not compressed.
const COMPRESS_FROM: usize = 1024;

/// The headers of every answer.
pub(super) fn secure(mut response: Response) -> Response {
    let all = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in all {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A file of the page.
pub(super) fn asset(asset: &Asset, asked: &HeaderMap) -> Response {
    let tag = tag_of(asset.gzip);
    if knows(asked, &tag) {
        return unchanged(&tag);
    }
    if takes_gzip(asked) {
        return with((asset.kind, &tag), Some("gzip"), asset.gzip.to_vec());
    }
    match asset.plain() {
        Ok(body) => with((asset.kind, &tag), None, body),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the page is damaged: {error}")),
    }
}

/// The answer, as text of the given type.
pub(super) fn body(kind: &'static str, body: String, asked: &HeaderMap) -> Response {
    let tag = tag_of(body.as_bytes());
    if knows(asked, &tag) {
        return unchanged(&tag);
    }
    if body.len() >= COMPRESS_FROM
        && takes_gzip(asked)
        && let Ok(packed) = gzip(body.as_bytes())
    {
        return with((kind, &tag), Some("gzip"), packed);
    }
    with((kind, &tag), None, body.into_bytes())
}

/// The problem of a request.
pub(super) fn problem(status: StatusCode, what: &str) -> Response {
    let json = serde_json::json!({ "error": what }).to_string();
    (status, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], json).into_response()
}

fn with((kind, tag): (&'static str, &str), encoding: Option<&'static str>, body: Vec<u8>) -> Response {
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // A client may cache it, and revalidates it each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

fn unchanged(tag: &str) -> Response {
    let headers = [(ETAG, tag.to_owned()), (CACHE_CONTROL, "no-cache".to_owned())];
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

/// Weak: the compressed and the plain answer have the same.
fn tag_of(body: &[u8]) -> String {
    format!("W/\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(body))
}

fn knows(asked: &HeaderMap, tag: &str) -> bool {
    let known = asked.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    known.split(',').any(|known| known.trim() == tag)
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let takes = asked.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    takes.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && !parts.any(|q| q == "q=0")
    })
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
