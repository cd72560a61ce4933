//! What the operator can do about an answer of an OTLP receiver.

use crate::core::remotewrite::verdict;
use crate::worker::sender::dialect::Version;

const PATHS: &str = "check port and path of remote_write.url (/v1/metrics at port 4318 for the Collector, /api/v1/otlp/v1/metrics \
                     for Prometheus with --web.enable-otlp-receiver, /otlp/v1/metrics for Mimir, /opentelemetry/v1/metrics for \
                     VictoriaMetrics)";
const SERVICE: &str = "check host and port of remote_write.url: it must be the gRPC port of an OTLP receiver (4317 for the \
                       Collector) that belongs to a pipeline of metrics";
const NO_GRPC: &str = "the server does not speak gRPC at this port: check host and port of remote_write.url (4317 for the \
                       Collector), or set the type otlp_http for a receiver over HTTP";
const ENCODING: &str = "the receiver does not accept OTLP as protobuf with gzip: check that remote_write.url is the address of an \
                        OTLP receiver";

/// The remedy for a status in view of what was sent.
pub(in crate::worker::sender) fn remedy(version: Version, status: u16, text: &str) -> &'static str {
    let is_grpc = text.starts_with("gRPC status");
    match (version, status) {
        (Version::OtlpGrpc, 300..=400 | 404 | 405 | 415 | 502) if !is_grpc => NO_GRPC,
        (Version::OtlpGrpc, 404) => SERVICE,
        (Version::OtlpHttp, 404 | 405) => PATHS,
        (Version::OtlpHttp, 415) => ENCODING,
        _ => verdict::remedy(status, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_of_an_otlp_receiver_is_not_taken_for_one_of_remote_write() {
        assert!(remedy(Version::OtlpHttp, 404, "404 page not found").contains("/v1/metrics"));
        assert!(remedy(Version::OtlpHttp, 405, "").contains("enable-otlp-receiver"));
        assert!(remedy(Version::OtlpHttp, 415, "").contains("gzip"));
        assert!(remedy(Version::OtlpGrpc, 404, "gRPC status 12: unknown service").contains("4317"));
        assert!(remedy(Version::OtlpGrpc, 502, "the answer has no grpc-status").contains("otlp_http"));
        for version in [Version::OtlpHttp, Version::OtlpGrpc] {
            assert!(remedy(version, 401, "").contains("remote_write.auth"));
        }
        assert!(remedy(Version::First, 404, "").contains("/api/v1/write"));
    }
}
